//! What a verdict does to the world.

use tp_core::amount::Ledger;
use tp_core::command::Command;
use tp_core::event::{Answered, Body, Purpose};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::time::{Bucket, Time};

use super::judge::{Move, Verdict};
use super::{
    Account, AccountId, Capture, End, Exchange, Head, Hold, Known, Movement, Oracle, Told, Wrong, ensure, money,
};

impl Oracle {
    fn account(&mut self, id: AccountId) -> &mut Account {
        self.accounts.get_mut(&id).expect("its leg was tested")
    }

    pub(super) fn release(&mut self, id: u128, amount: i128) {
        let hold = self.holds.get_mut(&id).expect("judged");
        hold.held -= amount;
        hold.released += amount;
        let place = hold.place;
        self.account(place).held -= amount;
    }

    pub(super) fn close(&mut self, at: Time, id: u128, state: AuthorizationState) {
        let hold = self.holds.get_mut(&id).expect("judged");
        (hold.state, hold.named) = (state, hold.named.max(at));
    }

    /// A command of this key named the authorization: its window runs on.
    fn name(&mut self, at: Time, key: Key, id: u128) {
        if let Some(hold) = self.holds.get_mut(&id) {
            hold.named = hold.named.max(at).max(key.own_time().unwrap_or(at));
        }
    }

    pub(super) fn book(
        &mut self,
        at: Time,
        verdict: &Verdict,
        body: &Body,
        head: &Head,
        command: Command,
    ) -> Result<(), Wrong> {
        let mut told = Told {
            account: head.account,
            key: head.full_key(),
            fingerprint: Some(head.fingerprint),
            outcome: head.outcome,
            flags: head.flags,
            amount: 0,
            authorization: 0,
            transfer: 0,
            expires: Time(0),
            seq: self.seq,
            version: head.version.0,
            balances: None,
        };
        let (mut bucket, mut counted, mut capture, mut is_open) = (Bucket::default(), false, 0, false);
        let mut ledger = Ledger::from_bits(0);
        match *verdict {
            Verdict::Note(_) => {
                let Body::Noted(e) = body else { return Err("compared".into()) };
                let is_later = matches!(
                    command,
                    Command::Increment(_) | Command::Capture(_) | Command::Void(_) | Command::Refund(_)
                );
                told.authorization = if is_later && self.visible_hold(e.target, at).is_some() { e.target } else { 0 };
            }
            Verdict::Settle(settings) => self.account(head.account).settings = settings,
            Verdict::Tombstone(original) => {
                self.bar(at, head.account, original, Outcome::ReversedBefore, command.clone());
            }
            Verdict::Hold { place, amount, payee, expires, tolerance, bucket: b, .. } => {
                let Body::Authorized(e) = body else { return Err("compared".into()) };
                let id = e.authorization.0;
                ensure(!self.holds.contains_key(&id), || format!("an id is given twice: {id:x}"))?;
                let account = self.account(place);
                account.held += amount;
                account.count(b, 1, amount);
                ledger = account.settings.ledger;
                (told.amount, told.authorization, told.expires, bucket, counted) = (amount, id, expires, b, true);
                self.holds.insert(
                    id,
                    Hold {
                        payer: head.account,
                        place,
                        payee,
                        tolerance: i128::from(tolerance),
                        authorized: amount,
                        released: 0,
                        held: amount,
                        captured: 0,
                        expires,
                        state: AuthorizationState::Open,
                        named: at,
                        exchange: false,
                        captures: Vec::new(),
                    },
                );
            }
            Verdict::Raise { hold: id, amount, expires, bucket: b } => {
                let hold = self.holds.get_mut(&id).ok_or("no such hold")?;
                (hold.authorized, hold.held, hold.expires) = (hold.authorized + amount, hold.held + amount, expires);
                let place = hold.place;
                let account = self.account(place);
                account.held += amount;
                counted = amount > 0;
                account.count(b, i128::from(counted), amount);
                ledger = account.settings.ledger;
                (told.amount, told.authorization, told.expires, bucket) = (amount, id, expires, b);
            }
            Verdict::Release { hold: id, amount, state, undo } => {
                let (place, expires) = self.holds.get(&id).map(|h| (h.place, h.expires)).ok_or("no such hold")?;
                self.release(id, amount);
                if state != AuthorizationState::Open {
                    self.close(at, id, state);
                }
                if let Some((original, from, uncounted)) = undo {
                    self.reversed(head.account, original)?;
                    self.account(place).count(from, -i128::from(uncounted), -amount);
                }
                (told.amount, told.authorization, told.expires) = (amount, id, expires);
            }
            Verdict::Move(m) => {
                let movement = match body {
                    Body::Moved(e) => e.movement,
                    Body::Opened(e) => e.movement,
                    _ => return Err("compared".into()),
                };
                (told.amount, told.authorization, told.transfer) = (m.amount, m.hold, movement.transfer.0);
                told.expires = self.holds.get(&m.hold).map_or(Time(0), |hold| hold.expires);
                (ledger, capture, counted) = (m.ledger, m.capture, m.counted && !m.purpose.is_undo());
                bucket = if m.counted { m.bucket } else { Bucket::default() };
                self.open_side(at, head.account, &m, movement.transfer.0)?;
                if let Body::Opened(e) = body {
                    is_open = true;
                    self.account(m.place).exchanges += 1;
                    let (account, key, outcome, flags) = (head.account, head.full_key(), m.outcome, m.flags);
                    let exchange = Exchange { movement, account, key, place: m.place, outcome, flags, answer: None };
                    let old = self.exchanges.insert((head.slot, e.number), exchange);
                    ensure(old.is_none(), || format!("EXC-1: number {} is used twice", e.number))?;
                } else {
                    self.answer_side(m.paid.ok_or("no other side")?, &movement);
                    self.end_side(at, m.place, &movement, true, m.flags)?;
                }
            }
        }
        told.balances = self.balances(head.account);
        self.name(at, told.key, told.authorization);
        if !is_open {
            self.told.entry(self.seq).or_default().push(told.clone());
        }
        let (kind, received) = (head.key_kind, at);
        let (is_barred, reversed) = (false, false);
        self.remember(Known {
            kind,
            received,
            is_barred,
            is_open,
            reversed,
            command,
            ledger,
            bucket,
            counted,
            capture,
            told,
        });
        Ok(())
    }

    fn reversed(&mut self, account: AccountId, original: Key) -> Result<(), Wrong> {
        let known = self.keys.get_mut(&(account, original.bits)).ok_or("an unknown original")?;
        ensure(!known.reversed, || format!("reversed twice: {original:?}"))?;
        known.reversed = true;
        Ok(())
    }

    fn taken(&mut self, hold: u128, capture: u128) -> Result<&mut Capture, Wrong> {
        let hold = self.holds.get_mut(&hold).ok_or("no such hold")?;
        hold.captures.iter_mut().find(|c| c.id == capture).ok_or_else(|| "no such capture".into())
    }

    /// The owner's side when it opens.
    fn open_side(&mut self, at: Time, key_account: AccountId, m: &Move, transfer: u128) -> Result<(), Wrong> {
        if m.purpose.is_push() {
            let account = self.account(m.place);
            account.debits += m.amount;
            account.held -= m.from_hold;
            if m.counted && !m.purpose.is_undo() {
                account.count(m.bucket, 1, m.amount);
            }
        }
        if let Some(original) = m.original {
            self.reversed(key_account, original)?;
        }
        let Some(hold) = self.holds.get_mut(&m.hold) else { return Ok(()) };
        ensure(!hold.exchange, || "EXC-1: an exchange of this authorization is open".into())?;
        hold.exchange = true;
        match m.purpose {
            Purpose::Capture | Purpose::Advice => {
                hold.held -= m.from_hold;
                hold.captured += m.amount;
                hold.captures.push(Capture {
                    id: transfer,
                    payee: m.counter,
                    on_suspense: false,
                    amount: m.amount,
                    refunded: 0,
                    from_hold: m.from_hold,
                    at,
                    is_final: m.is_final,
                });
                self.capture_holds.insert(transfer, m.hold);
            }
            Purpose::Refund | Purpose::UndoCapture => self.taken(m.hold, m.capture)?.refunded += m.amount,
            Purpose::Transfer | Purpose::UndoTransfer | Purpose::UndoRefund => {}
        }
        Ok(())
    }

    fn answer_side(&mut self, paid: AccountId, m: &Movement) {
        let account = self.account(paid);
        let side = if m.purpose.is_push() { &mut account.credits } else { &mut account.debits };
        *side += money(m.amount);
    }

    /// The owner's side when it ends.
    fn end_side(&mut self, at: Time, place: AccountId, m: &Movement, done: bool, flags: Flags) -> Result<(), Wrong> {
        let (amount, from_hold) = (money(m.amount), money(m.hold));
        let account = self.account(place);
        match (m.purpose.is_push(), done) {
            (true, false) => {
                account.debits -= amount;
                account.held += from_hold;
                account.count(m.bucket, -i128::from(m.is_counted), if m.is_counted { -amount } else { 0 });
            }
            (false, true) => {
                account.credits += amount;
                let counted = m.is_counted;
                account.count(m.bucket, -i128::from(counted && m.is_final), if counted { -amount } else { 0 });
            }
            (true, true) | (false, false) => {}
        }
        let Some(hold) = self.holds.get_mut(&m.authorization) else { return Ok(()) };
        hold.exchange = false;
        match (m.purpose, done) {
            (Purpose::Capture | Purpose::Advice, true) => {
                let rest = hold.held;
                let closes = m.is_final && hold.state == AuthorizationState::Open;
                let on_suspense = m.purpose == Purpose::Advice && flags.has(Flags::COUNTER_SUSPENSE);
                self.taken(m.authorization, m.transfer.0)?.on_suspense = on_suspense;
                if closes {
                    self.release(m.authorization, rest);
                    self.close(at, m.authorization, AuthorizationState::Captured);
                }
            }
            (Purpose::Capture, false) => {
                hold.held += from_hold;
                hold.captured -= amount;
                hold.captures.pop();
            }
            (Purpose::Refund, false) | (Purpose::UndoRefund, true) => {
                self.taken(m.authorization, m.capture)?.refunded -= amount;
            }
            (Purpose::UndoCapture, true) => {
                let taken = self.taken(m.authorization, m.capture)?;
                let back = taken.from_hold.min(amount);
                taken.refunded -= amount;
                taken.amount -= amount;
                taken.from_hold -= back;
                let hold = self.holds.get_mut(&m.authorization).ok_or("no such hold")?;
                hold.captured -= amount;
                hold.released += back - from_hold;
                hold.held += from_hold;
                let place = hold.place;
                self.account(place).held += from_hold;
            }
            _ => {}
        }
        Ok(())
    }

    /// The other side of an exchange.
    pub(super) fn answer(&mut self, e: &Answered) -> Result<(), Wrong> {
        let exchange = self.exchanges.get(&(e.opener, e.number)).ok_or("EXC-1: an answer to nothing")?;
        let m = exchange.movement;
        ensure(exchange.answer.is_none(), || format!("EXC-1: answered twice: {e:?}"))?;
        ensure((e.amount, e.transfer, e.ledger) == (m.amount, m.transfer, m.ledger), || format!("another: {e:?}"))?;
        let (paid, outcome, flags) = match self.counter_side(m.purpose, m.counter, m.ledger, money(m.amount)) {
            Ok((paid, flags)) => (paid, Outcome::Approved, flags),
            Err(refusal) => (m.counter, refusal, Flags::NONE),
        };
        let said = (e.account, e.outcome, e.flags);
        ensure(said == (paid, outcome, flags), || format!("the oracle answers {paid:?} {outcome} {flags:?} to {e:?}"))?;
        if outcome.is_approval() {
            self.answer_side(paid, &m);
        }
        let exchange = self.exchanges.get_mut(&(e.opener, e.number)).ok_or("looked up before")?;
        exchange.answer = Some((outcome, flags));
        Ok(())
    }

    pub(super) fn end(&mut self, at: Time, e: &End) -> Result<(), Wrong> {
        let exchange = self.exchanges.remove(&(e.slot, e.number)).ok_or("EXC-1: the end of nothing")?;
        let (answer, answer_flags) = exchange.answer.ok_or("EXC-1: an end without an answer")?;
        let done = answer.is_approval();
        let outcome = if done { exchange.outcome } else { answer };
        let flags = if done { exchange.flags.with(answer_flags) } else { Flags::NONE };
        ensure((e.outcome, e.flags, e.account) == (outcome, flags, exchange.place), || format!("another end: {e:?}"))?;
        self.account(exchange.place).exchanges -= 1;
        self.end_side(at, exchange.place, &exchange.movement, done, flags)?;
        let (balances, seq, version) = (self.balances(exchange.account), self.seq, e.version.0);
        let known = self.keys.get_mut(&(exchange.account, exchange.key.bits)).ok_or("an end of no key")?;
        (known.is_open, known.received) = (false, at);
        known.told = Told { outcome, flags, seq, version, balances, ..known.told.clone() };
        if !done {
            known.counted = false;
            (known.told.amount, known.told.transfer, known.told.expires) = (0, 0, Time(0));
        }
        let told = known.told.clone();
        self.name(at, exchange.key, exchange.movement.authorization);
        self.told.entry(self.seq).or_default().push(told);
        Ok(())
    }
}
