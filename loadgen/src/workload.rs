//! The commands: drawn from one seed, and what their answers mean for the ones to come.
//!
//! Owns which command is next, the holds and captures that later commands can name, and the books; refuses to know time and
//! rates. The seed fixes every draw. Which authorization a capture names depends on the answers that have come by then.
//!
//! ```text
//!  next() ── Authorize ──► answered: hold joins `open` ── Capture takes it out ──► answered: joins `captured` ── Refund
//!                                                      ── Void, Reverse ─────────► gone
//! ```

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use tpcore::{
    AccountId, Amount, AuthorizationId, Authorize, Capture, Command, Increment, Key, Lookup, Note, Outcome, Placement,
    Read, ReadTarget, Refund, RefundTarget, Reply, Reverse, Seq, Time, Transfer, TransferId, Void,
};

use crate::books::{AccountBooks, Books};
use crate::mix::Kind;
use crate::payees::Payees;
use crate::plan::{WorkloadPlan, account, ledger};
use crate::recorder::is_decided;
use crate::skew::Draw;

/// The most holds and captures kept for later commands; beyond it new ones are left alone.
const POOL_MAX: usize = 1 << 20;
/// Answered commands kept for lookups and duplicates.
const RECENT_MAX: usize = 4096;

/// An open hold.
#[derive(Clone, Copy, Debug)]
struct Hold {
    id: AuthorizationId,
    account: AccountId,
    key: Key,
    /// Still held.
    amount: u128,
    is_touched: bool,
}

/// Money that was captured.
#[derive(Clone, Copy, Debug)]
struct Captured {
    transfer: TransferId,
    /// The payer: keys of refunds belong to it.
    account: AccountId,
    payee: AccountId,
    amount: u128,
    /// When the capture was sent.
    at: Time,
}

/// An answered command, for lookups and duplicates.
#[derive(Clone, Debug)]
struct Answered {
    command: Command,
    owner: AccountId,
    key: Key,
    outcome: Outcome,
    amount: Amount,
}

/// A command under way, and what is to be remembered until its answer.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Which kind.
    pub kind: Kind,
    /// The account that owns the decision, and the key; reads have none.
    pub key: Option<(AccountId, Key)>,
    amount: Amount,
    /// Who is paid.
    payee: AccountId,
    hold: Option<Hold>,
    captured: Option<Captured>,
    is_final: bool,
    /// What is known of it already: a duplicate's first answer.
    first: Option<(Outcome, Amount)>,
    /// Kept for a later lookup or duplicate.
    copy: Option<Box<Command>>,
}

/// Makes commands.
#[derive(Debug)]
pub struct Workload {
    plan: WorkloadPlan,
    random: Pcg64Mcg,
    draw: Draw,
    payees: Payees,
    keys: u128,
    open: Vec<Hold>,
    captured: Vec<Captured>,
    recent: Vec<Answered>,
    recent_at: usize,
    /// How long the target remembers keys.
    key_window_ms: u64,
    books: Books,
}

impl Workload {
    /// Of a plan, for a target with this placement of accounts.
    ///
    /// # Errors
    /// When the skew does not fit the number of accounts, or the locality the payees and the target.
    pub fn new(plan: WorkloadPlan, key_window_ms: u64, placement: Option<Placement>) -> Result<Self, String> {
        let mut random = Pcg64Mcg::seed_from_u64(plan.seed);
        let keys = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
        let draw = Draw::new(plan.skew, plan.accounts)?;
        let payees = Payees::new(plan.locality, plan.payees, placement)?;
        let (open, captured, recent) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self {
            plan,
            random,
            draw,
            payees,
            keys,
            open,
            captured,
            recent,
            recent_at: 0,
            key_window_ms,
            books: Books::default(),
        })
    }

    /// What the answers so far come to.
    pub const fn books(&self) -> &Books {
        &self.books
    }

    /// What it was made of.
    pub const fn plan(&self) -> &WorkloadPlan {
        &self.plan
    }

    /// Keeps books of every account from now on.
    pub fn keep_accounts(&mut self) {
        self.books.accounts = Some(AccountBooks::new(&self.plan));
    }

    /// Some of the commands that were answered, with their answers: those whose keys are surely still remembered.
    pub fn remembered(&self, now: Time) -> Vec<(Lookup, Outcome, Amount)> {
        let young = self.recent.iter().filter(|answered| self.is_young(answered, now));
        let lookup = |answered: &Answered| Lookup { account: answered.owner, key: answered.key, fence: false };
        young.map(|answered| (lookup(answered), answered.outcome, answered.amount)).collect()
    }

    fn is_young(&self, answered: &Answered, now: Time) -> bool {
        answered.key.own_time().is_some_and(|own| now.0.saturating_sub(own.0) < self.key_window_ms / 2)
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// A number below `bound`, evenly drawn.
    fn below(&mut self, bound: u64) -> u64 {
        below(&mut self.random, bound)
    }

    fn payee(&mut self, payer: AccountId) -> AccountId {
        self.payees.draw(payer, |bound| below(&mut self.random, bound))
    }

    fn key(&mut self, now: Time) -> Key {
        // Multiplying by an odd number scatters a counter over the 74 bits without ever repeating.
        self.keys = self.keys.wrapping_add(1);
        Key::uuid_v7_from_parts(now, self.keys.wrapping_mul(0x2545_F491_4F6C_DD1D_0000_0000_0000_0001))
    }

    fn amount(&mut self) -> Amount {
        Amount::from(1 + self.below(self.plan.amount_max))
    }

    fn take_hold(&mut self) -> Option<Hold> {
        let at = self.below(self.open.len() as u64);
        (!self.open.is_empty()).then(|| self.open.swap_remove(usize::try_from(at).unwrap_or(0)))
    }

    /// The next command. What the mix draws and cannot be done yet becomes an authorization, or a read where there are none.
    pub fn next(&mut self, now: Time) -> (Command, Sent) {
        if self.chance(self.plan.duplicates_per_mille)
            && let Some(again) = self.duplicate(now)
        {
            return again;
        }
        let kind = if self.chance(self.plan.late_reversals_per_mille) {
            Kind::Reverse
        } else {
            self.plan.mix.draw(&mut self.random)
        };
        let made = match kind {
            Kind::Authorize => None,
            Kind::Increment => self.increment(now),
            Kind::Capture => self.capture(now),
            Kind::Void => self.void(now),
            Kind::Refund => self.refund(now),
            Kind::Reverse => self.reverse(now),
            Kind::Transfer => Some(self.transfer(now)),
            Kind::Lookup => self.lookup(now),
            Kind::Read => Some(self.read()),
        };
        let (command, mut sent) = match made {
            Some(made) => made,
            None if self.plan.mix.weight(Kind::Authorize) > 0 => self.authorize(now),
            None => self.read(),
        };
        // One in so many is kept; more when duplicates are wanted.
        if sent.key.is_some()
            && self.random.next_u32().is_multiple_of(if self.plan.duplicates_per_mille > 0 { 4 } else { 32 })
        {
            sent.copy = Some(Box::new(command.clone()));
        }
        (command, sent)
    }

    fn authorize(&mut self, now: Time) -> (Command, Sent) {
        let account = account(self.draw.draw(&mut self.random));
        let (key, is_partial) = (self.key(now), self.chance(self.plan.partials_per_mille));
        let amount =
            if is_partial { Amount::from(self.plan.opening_balance.saturating_mul(2).max(1)) } else { self.amount() };
        let mut command = Authorize::new(key, account, ledger(), amount);
        command.allow_partial = is_partial;
        command.lifetime_ms = self.plan.hold_lifetime.map(|life| u64::try_from(life.as_millis()).unwrap_or(u64::MAX));
        (command.into(), Sent::new(Kind::Authorize, account, key, amount))
    }

    fn increment(&mut self, now: Time) -> Option<(Command, Sent)> {
        let hold = self.take_hold()?;
        let (key, amount) = (self.key(now), self.amount());
        let command = Increment { key, authorization: hold.id, amount, lifetime_ms: None, note: Note::default() };
        Some((command.into(), Sent { hold: Some(hold), ..Sent::new(Kind::Increment, hold.account, key, amount) }))
    }

    fn capture(&mut self, now: Time) -> Option<(Command, Sent)> {
        let hold = self.take_hold()?;
        let (key, payee) = (self.key(now), self.payee(hold.account));
        // One in four takes a part, and one in eight leaves the rest of the hold open.
        let is_part = hold.amount > 1 && self.random.next_u32().is_multiple_of(4);
        let is_final = !is_part || self.random.next_u32().is_multiple_of(2);
        let amount = Amount::new(if is_part { hold.amount / 2 } else { hold.amount })?;
        let command = Capture { key, authorization: hold.id, payee, amount, is_final, note: Note::default() };
        let sent = Sent::new(Kind::Capture, hold.account, key, amount);
        Some((command.into(), Sent { hold: Some(hold), payee, is_final, ..sent }))
    }

    fn void(&mut self, now: Time) -> Option<(Command, Sent)> {
        let hold = self.take_hold()?;
        let key = self.key(now);
        let command = Void { key, authorization: hold.id, amount: None, note: Note::default() };
        let amount = Amount::new(hold.amount)?;
        Some((command.into(), Sent { hold: Some(hold), ..Sent::new(Kind::Void, hold.account, key, amount) }))
    }

    fn reverse(&mut self, now: Time) -> Option<(Command, Sent)> {
        let hold = self.take_hold()?;
        if hold.is_touched {
            self.open.push(hold); // an increment or a capture stands in the way
            return None;
        }
        let key = self.key(now);
        let command =
            Reverse { key, account: hold.account, original: hold.key, new_total: None, note: Note::default() };
        let amount = Amount::new(hold.amount)?;
        Some((command.into(), Sent { hold: Some(hold), ..Sent::new(Kind::Reverse, hold.account, key, amount) }))
    }

    fn refund(&mut self, now: Time) -> Option<(Command, Sent)> {
        let captured = self.take_captured(now)?;
        let (key, amount) = (self.key(now), Amount::new(captured.amount)?);
        let target = RefundTarget::Capture(captured.transfer);
        let command = Refund { key, target, amount, note: Note::default() };
        let sent = Sent::new(Kind::Refund, captured.account, key, amount);
        Some((command.into(), Sent { captured: Some(captured), ..sent }))
    }

    /// A capture that can surely still be refunded; old ones that are met on the way are dropped.
    fn take_captured(&mut self, now: Time) -> Option<Captured> {
        while !self.captured.is_empty() {
            let at = usize::try_from(self.below(self.captured.len() as u64)).unwrap_or(0);
            let captured = self.captured.swap_remove(at);
            if now.0.saturating_sub(captured.at.0) < self.key_window_ms / 2 {
                return Some(captured);
            }
        }
        None
    }

    fn transfer(&mut self, now: Time) -> (Command, Sent) {
        let account = account(self.draw.draw(&mut self.random));
        let (key, payee, amount) = (self.key(now), self.payee(account), self.amount());
        let command = Transfer { key, account, payee, ledger: ledger(), amount, note: Note::default() };
        (command.into(), Sent { payee, ..Sent::new(Kind::Transfer, account, key, amount) })
    }

    fn lookup(&mut self, now: Time) -> Option<(Command, Sent)> {
        let Answered { owner, key, outcome, amount, .. } = self.any_recent(now)?.clone();
        let command = Lookup { account: owner, key, fence: false };
        let sent = Sent { key: None, first: Some((outcome, amount)), ..Sent::new(Kind::Lookup, owner, key, amount) };
        Some((command.into(), sent))
    }

    fn read(&mut self) -> (Command, Sent) {
        let account = account(self.draw.draw(&mut self.random));
        let sent = Sent { key: None, ..Sent::new(Kind::Read, account, Key::opaque(0), Amount::ZERO) };
        (Read { target: ReadTarget::Account(account) }.into(), sent)
    }

    fn duplicate(&mut self, now: Time) -> Option<(Command, Sent)> {
        let Answered { command, owner, key, outcome, amount } = self.any_recent(now)?.clone();
        let kind = kind_of(&command)?;
        Some((command, Sent { first: Some((outcome, amount)), key: None, ..Sent::new(kind, owner, key, amount) }))
    }

    /// An answered command whose key is surely still remembered.
    fn any_recent(&mut self, now: Time) -> Option<&Answered> {
        let at = usize::try_from(self.below(self.recent.len() as u64)).unwrap_or(0);
        self.recent.get(at).filter(|answered| self.is_young(answered, now))
    }

    /// Takes in an answer; of a command whose outcome is not known yet, nothing.
    pub fn answered(&mut self, sent: Sent, reply: &Reply) {
        if let Some(first) = sent.first {
            let is_same = (reply.outcome, reply.amount) == first && reply.repeated;
            if is_decided(reply.outcome) && !is_same {
                let (first, kind) = (first.0, sent.kind.name());
                self.books.contradict(|| format!("first {first}, then to a {kind}: {reply:?}"));
            }
            return;
        }
        if !is_decided(reply.outcome) {
            return self.refused(&sent);
        }
        if reply.outcome.is_approval() && sent.kind != Kind::Read {
            self.books.approvals += 1;
            self.approved(&sent, reply);
        } else {
            self.put_back(&sent, reply.outcome);
        }
        self.keep(sent, reply);
    }

    fn approved(&mut self, sent: &Sent, reply: &Reply) {
        let amount = reply.amount.get();
        let asked = sent.amount.get();
        let is_as_asked = match sent.kind {
            Kind::Authorize => amount <= asked && (amount == asked) != (reply.outcome == Outcome::ApprovedPartially),
            Kind::Lookup | Kind::Read => true,
            // Time may have taken the hold before the reversal came: nothing is left to give back.
            Kind::Reverse if self.plan.hold_lifetime.is_some() => amount == asked || amount == 0,
            _ => amount == asked,
        };
        if !is_as_asked {
            let kind = sent.kind.name();
            self.books.contradict(|| format!("a {kind} of {asked} was answered {reply:?}"));
        }
        match (sent.kind, sent.hold) {
            (Kind::Authorize, _) => {
                if let Some((account, _)) = sent.key {
                    self.books.hold(account, amount);
                }
                if let (Some(id), Some((account, key))) = (reply.authorization, sent.key)
                    && amount > 0
                {
                    self.keep_open(Hold { id, account, key, amount, is_touched: false });
                }
            }
            (Kind::Increment, Some(hold)) => {
                self.books.hold(hold.account, amount);
                self.keep_open(Hold { amount: hold.amount + amount, is_touched: true, ..hold });
            }
            (Kind::Capture, Some(hold)) => {
                self.books.transfer(hold.account, sent.payee, amount);
                self.books.release(hold.account, if sent.is_final { hold.amount } else { amount });
                if !sent.is_final {
                    self.keep_open(Hold { amount: hold.amount.saturating_sub(amount), is_touched: true, ..hold });
                }
                if let Some(transfer) = reply.transfer
                    && self.captured.len() < POOL_MAX
                    && self.plan.mix.weight(Kind::Refund) > 0
                {
                    let at = sent.key.and_then(|(_, key)| key.own_time()).unwrap_or_default();
                    self.captured.push(Captured { transfer, account: hold.account, payee: sent.payee, amount, at });
                }
            }
            (Kind::Void | Kind::Reverse, Some(hold)) => self.books.release(hold.account, amount),
            (Kind::Refund, _) => {
                if let Some(captured) = sent.captured {
                    self.books.transfer(captured.payee, captured.account, amount);
                }
            }
            (Kind::Transfer, _) => {
                if let Some((account, _)) = sent.key {
                    self.books.transfer(account, sent.payee, amount);
                }
            }
            _ => {}
        }
    }

    fn keep_open(&mut self, hold: Hold) {
        let eats = [Kind::Increment, Kind::Capture, Kind::Void, Kind::Reverse];
        let is_wanted =
            eats.into_iter().any(|kind| self.plan.mix.weight(kind) > 0) || self.plan.late_reversals_per_mille > 0;
        if is_wanted && self.open.len() < POOL_MAX {
            self.open.push(hold);
        }
    }

    /// A refusal leaves the hold as it was, unless it is no longer there.
    fn put_back(&mut self, sent: &Sent, outcome: Outcome) {
        let is_gone = matches!(outcome, Outcome::HoldExpired | Outcome::HoldNotOpen | Outcome::OriginalNotFound);
        if let Some(hold) = sent.hold.filter(|_| !is_gone) {
            self.keep_open(hold);
        }
    }

    /// The target had no room for the command, or did not decide it: nothing was done.
    pub fn refused(&mut self, sent: &Sent) {
        if let Some(hold) = sent.hold {
            self.keep_open(hold);
        }
        if let Some(captured) = sent.captured {
            self.captured.push(captured);
        }
    }

    fn keep(&mut self, sent: Sent, reply: &Reply) {
        let (Some(command), Some((owner, key))) = (sent.copy, sent.key) else { return };
        if reply.seq == Seq::ZERO {
            return; // what is no event is not remembered
        }
        let answered = Answered { command: *command, owner, key, outcome: reply.outcome, amount: reply.amount };
        if self.recent.len() < RECENT_MAX {
            self.recent.push(answered);
        } else {
            self.recent[self.recent_at] = answered;
            self.recent_at = (self.recent_at + 1) % RECENT_MAX;
        }
    }
}

impl Sent {
    const fn new(kind: Kind, owner: AccountId, key: Key, amount: Amount) -> Self {
        let (hold, captured, first, copy) = (None, None, None, None);
        Self { kind, key: Some((owner, key)), amount, payee: owner, hold, captured, is_final: false, first, copy }
    }
}

fn below(random: &mut Pcg64Mcg, bound: u64) -> u64 {
    u64::try_from((u128::from(random.next_u64()) * u128::from(bound)) >> 64).unwrap_or(0)
}

const fn kind_of(command: &Command) -> Option<Kind> {
    Some(match command {
        Command::Authorize(_) => Kind::Authorize,
        Command::Increment(_) => Kind::Increment,
        Command::Capture(_) => Kind::Capture,
        Command::Void(_) => Kind::Void,
        Command::Refund(_) => Kind::Refund,
        Command::Reverse(_) => Kind::Reverse,
        Command::Transfer(_) => Kind::Transfer,
        _ => return None,
    })
}
