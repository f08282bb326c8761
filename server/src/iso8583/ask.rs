//! From a message to what it asks for.
//!
//! Owns the meaning of message types, processing codes and elements. A message becomes a command of the engine, a question, or network
//! management, or it is refused with a code and a reason for the log. Nothing of a card goes into a command but the account behind it.
//! Refuses to wait for anything: what needs the engine's answer first says so ([`Planned::owners`], [`Planned::completes`],
//! [`Ask::IfKnown`]).
//!
//! ```text
//!   type        processing code 00-19 (debit)              20-29 (credit)                        30-39 (inquiry)
//!   0100 0101   authorize; amount 0: account check         account check                         balances
//!   0120 0121   advise a hold; declined: recorded          recorded
//!   0200 0201   transfer: card's account to settlement     transfer: settlement to card's account   balances
//!   0220 0221   advise a posting, completes its original   advise a posting
//!   04xx        reverse the original of element 90; element 95: down to that amount
//!   05xx        the day's totals        08xx  element 70: 001 sign on, 002 sign off, 201 cut-over, 301 echo
//! ```

use tp_actors::tp_core::amount::{Amount, Ledger};
use tp_actors::tp_core::command::{Advice, Advise, Authorize, Command, Note, Reverse, Transfer};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::metadata::Metadata;
use tp_actors::tp_core::time::Time;
use tp_iso8583::{Message, currency_of};

use super::codes::Code;
use super::key::{Kind, Matching, Original, late};
use super::listeners::Listener;
use super::totals::Class;
use crate::cards::{Card, CardStatus, Expiry, Pan, Vault, is_over, names_card};

/// What a message asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// A decision of the engine.
    Command(Box<Planned>),
    /// Refused with that code, unless it was decided before on one of these accounts: then the first answer.
    IfKnown(Vec<AccountId>, Key, Code),
    /// What stands on the account.
    Balances(AccountId),
    /// Links: element 70.
    SignOn,
    SignOff,
    CutOver,
    Echo,
    /// The day's totals.
    Totals,
    /// Refused, and why: for the log.
    Refused(Refused),
}

/// A command, and what undoes it when its answer is late.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) command: Command,
    pub(super) ledger: Option<Ledger>,
    /// There for requests: an advice reports what was decided elsewhere, however late it is answered.
    pub(super) undo: Option<Undo>,
    /// What tells whether it, or what it reverses, was decided before.
    pub(super) key: Key,
    /// Other accounts that it may have been decided on before: the card was another one then, or not known.
    pub(super) owners: Vec<AccountId>,
    /// The key of the authorization that a posting completes.
    pub(super) completes: Option<Key>,
    /// Other accounts that it may have been paid to before, for the same reasons.
    pub(super) payees: Vec<AccountId>,
}

impl Planned {
    /// The account that owns the decision.
    pub(super) fn owner(&self) -> Option<AccountId> {
        match &self.command {
            Command::Authorize(c) => Some(c.account),
            Command::Transfer(c) => Some(c.account),
            Command::Advise(c) => Some(c.account),
            Command::Reverse(c) => Some(c.account),
            _ => None,
        }
    }

    /// Decided on another account: one of `owners`.
    pub(super) fn owned_by(mut self, account: AccountId) -> Self {
        match &mut self.command {
            Command::Authorize(c) => c.account = account,
            Command::Transfer(c) => c.account = account,
            Command::Advise(c) => c.account = account,
            Command::Reverse(c) => c.account = account,
            _ => {}
        }
        self
    }

    /// What undoes it, should its answer be late.
    pub(super) fn reverse(&self) -> Option<Reverse> {
        let Undo(class) = self.undo?;
        let note = self.command.note().map(|note| reclassified(note, class)).unwrap_or_default();
        Some(Reverse { key: late(self.key), account: self.owner()?, original: self.key, new_total: None, note })
    }

    /// Whether nothing has to be asked before it is decided.
    pub(super) const fn is_plain(&self) -> bool {
        self.owners.is_empty() && self.completes.is_none() && self.payees.is_empty()
    }

    /// The command, paid to another account: one of `payees`.
    pub(super) fn paid_to(&self, account: AccountId) -> Command {
        let mut command = self.command.clone();
        match &mut command {
            Command::Transfer(c) => c.payee = account,
            Command::Advise(c) => {
                if let Advice::Post { payee, .. } = &mut c.advice {
                    *payee = account;
                }
            }
            _ => {}
        }
        command
    }
}

/// How it counts when an approval is undone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Undo(Class);

/// A note of another class.
fn reclassified(note: &Note, class: Class) -> Note {
    let entries = note.metadata.entries();
    let entries = entries.map(|(name, value)| (name, if name == TOTAL { class.name() } else { value }));
    Note { value_date: note.value_date, metadata: metadata(entries) }
}

/// Those of the entries that have something to say.
fn metadata<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Metadata {
    // At most 180 bytes of the 256.
    Metadata::of(entries.filter(|(_, value)| !value.is_empty())).unwrap_or_default()
}

/// The entry that the day's totals are counted by.
const TOTAL: &str = "card.total";

/// Refused by the edge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) code: Code,
    pub(super) reason: Reason,
}

/// Why: for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// An element is missing or says nothing that belongs there.
    Element(usize),
    /// In words.
    Text(&'static str),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Element(element) => write!(f, "element {element} is missing or says nothing that belongs there"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

const fn refused(code: Code, reason: &'static str) -> Refused {
    Refused { code, reason: Reason::Text(reason) }
}

const fn missing(element: usize) -> Refused {
    Refused { code: Code::FORMAT, reason: Reason::Element(element) }
}

/// What a processing code's first two digits are about (ISO 8583:1987, element 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Debit,
    Credit,
    Inquiry,
}

/// What messages are read with.
pub(super) struct Reader<'a> {
    pub(super) listener: &'a Listener,
    pub(super) vault: &'a Vault,
    pub(super) now: Time,
    /// How long the engine may remember what was decided: keys longer than their window while their authorization lives.
    pub(super) remembered_ms: u64,
}

/// A message's parts that all transactions have.
struct Transaction<'a> {
    message: &'a Message,
    kind: Kind,
    direction: Direction,
    fields: Matching<'a>,
    /// The card's account, or what stands for a card that is not known.
    account: AccountId,
    card: Option<Card>,
    /// Other accounts that stood for the number, as far as the engine remembers keys.
    others: Vec<AccountId>,
}

impl Reader<'_> {
    /// What a message asks for.
    pub(super) fn ask(&self, message: &Message) -> Ask {
        let asked = match message.mti().class() {
            1 | 2 | 4 => self.transaction(message),
            5 => Ok(Ask::Totals),
            8 => match message.number(70) {
                Some(1) => Ok(Ask::SignOn),
                Some(2) => Ok(Ask::SignOff),
                Some(201) => Ok(Ask::CutOver),
                Some(301) => Ok(Ask::Echo),
                Some(_) => Err(refused(Code::INVALID, "element 70: no such network management")),
                None => Err(missing(70)),
            },
            _ => Err(refused(Code::INVALID, "no such message type here")),
        };
        asked.unwrap_or_else(Ask::Refused)
    }

    fn transaction(&self, message: &Message) -> Result<Ask, Refused> {
        let kind = Kind::of(message.mti()).ok_or(refused(Code::INVALID, "no such message type here"))?;
        let direction = direction(message)?;
        let fields = Matching::of(message).map_err(missing)?;
        if !self.listener.acquirers.is_empty() && !self.listener.acquirers.iter().any(|one| one == fields.acquirer) {
            return Err(refused(Code::NO_ACQUIRER, "element 32: not an acquirer of this listener"));
        }
        let pan = pan_of(message)?;
        let found = self.vault.find(self.listener.tenant, &pan).map_err(|error| {
            tracing::error!(%error, "a card could not be looked up");
            refused(Code::MALFUNCTION, "the keys of card numbers do not work")
        })?;
        drop(pan);
        let unknown = self.listener.unknown_cards;
        let card = found.as_ref().map(|found| found.card);
        let account = card.map_or(unknown, |card| card.account);
        let mut others = found.map(|found| found.accounts_before).unwrap_or_default();
        // What came before the card was known was booked on what stands for unknown ones.
        others.extend(card.filter(|card| self.is_young(card)).map(|_| unknown));
        let transaction = Transaction { message, kind, direction, fields, account, card, others };
        match kind {
            Kind::Reversal => self.reversal(&transaction),
            Kind::AuthorizationAdvice | Kind::FinancialAdvice => self.advice(&transaction),
            Kind::Authorization | Kind::Financial => self.request(&transaction),
        }
    }

    fn request(&self, t: &Transaction<'_>) -> Result<Ask, Refused> {
        let card = t.card.ok_or(refused(Code::NO_CARD, "the card is not known"))?;
        if t.direction == Direction::Inquiry {
            return Ok(match self.flaw_of(t, &card) {
                Some(code) => Ask::Refused(refused(code, "the card may not be used")),
                None => Ask::Balances(card.account),
            });
        }
        let (ledger, amount) = money(t.message)?;
        let key = t.fields.key(t.kind);
        let is_check = amount == Amount::ZERO || (t.direction == Direction::Credit && t.kind == Kind::Authorization);
        let command: Command = if is_check || t.kind == Kind::Authorization {
            Authorize {
                lifetime_ms: self.listener.hold_lifetime_ms.filter(|_| !is_check),
                allow_partial: !is_check && self.takes_part(t.message),
                note: self.note(t, Class::Authorization),
                ..Authorize::new(key, card.account, ledger, if is_check { Amount::ZERO } else { amount })
            }
            .into()
        } else {
            let settlement = self.settlement(ledger)?;
            let (account, payee, class) = match t.direction {
                Direction::Credit => (settlement, card.account, Class::Credit),
                _ => (card.account, settlement, Class::Debit),
            };
            Transfer { key, account, payee, ledger, amount, note: self.note(t, class) }.into()
        };
        let owner = if let Command::Transfer(transfer) = &command { transfer.account } else { card.account };
        let is_cards = owner == card.account;
        // A request is never decided on what stands for unknown cards.
        let owners: Vec<AccountId> =
            t.others.iter().copied().filter(|other| is_cards && *other != self.listener.unknown_cards).collect();
        if let Some(code) = self.flaw_of(t, &card) {
            // A repeat of what was approved before the card was blocked has the first answer.
            return Ok(Ask::IfKnown([vec![owner], owners].concat(), key, code));
        }
        let undo_class = if t.direction == Direction::Credit { Class::CreditReversal } else { Class::DebitReversal };
        let class = if t.kind == Kind::Financial { undo_class } else { Class::AuthorizationReversal };
        let (ledger, undo) = (Some(ledger), Some(Undo(class)));
        let payees = if is_cards { Vec::new() } else { t.others.clone() };
        Ok(Ask::Command(Box::new(Planned { command, ledger, undo, key, owners, completes: None, payees })))
    }

    fn advice(&self, t: &Transaction<'_>) -> Result<Ask, Refused> {
        if t.direction == Direction::Inquiry {
            return Err(refused(Code::INVALID, "an inquiry is no advice"));
        }
        let (ledger, amount) = money(t.message)?;
        let key = t.fields.key(t.kind);
        let is_recorded_only = !Code::is_approval(t.message.text(39))
            || amount == Amount::ZERO
            || (t.direction == Direction::Credit && t.kind == Kind::AuthorizationAdvice);
        let is_hold = |original: &Original<'_>| {
            matches!(Kind::of(original.mti), Some(Kind::Authorization | Kind::AuthorizationAdvice))
        };
        let original = Original::of(t.message).filter(is_hold);
        let (account, advice, class) = match (t.kind, t.direction) {
            _ if is_recorded_only => (t.account, Advice::Declined, Class::Authorization),
            (Kind::AuthorizationAdvice, _) => {
                let advice = Advice::Hold { lifetime_ms: self.listener.hold_lifetime_ms, payee: None };
                (t.account, advice, Class::Authorization)
            }
            (_, Direction::Credit) => {
                let advice = Advice::Post { payee: t.account, authorization: None };
                (self.settlement(ledger)?, advice, Class::Credit)
            }
            _ => {
                let advice = Advice::Post { payee: self.settlement(ledger)?, authorization: None };
                (t.account, advice, Class::Debit)
            }
        };
        let advise = Advise { key, account, ledger, amount, advice, note: self.note(t, class) };
        let completes = original.and_then(|original| original.key());
        let completes = completes.filter(|_| !is_recorded_only && class == Class::Debit);
        let owners = if account == t.account { t.others.clone() } else { Vec::new() };
        let (command, ledger) = (advise.into(), Some(ledger));
        let payees = if class == Class::Credit { t.others.clone() } else { Vec::new() };
        Ok(Ask::Command(Box::new(Planned { command, ledger, undo: None, key, owners, completes, payees })))
    }

    fn reversal(&self, t: &Transaction<'_>) -> Result<Ask, Refused> {
        let original = Original::of(t.message).ok_or(missing(90))?;
        let original_key =
            original.key().ok_or(refused(Code::INVALID, "element 90: messages of that type are not reversed"))?;
        let is_financial = matches!(Kind::of(original.mti), Some(Kind::Financial | Kind::FinancialAdvice));
        let is_credit = t.direction == Direction::Credit && is_financial;
        let (account, class) = match (is_credit, is_financial) {
            (true, _) => (self.settlement(money(t.message)?.0)?, Class::CreditReversal),
            (false, true) => (t.account, Class::DebitReversal),
            (false, false) => (t.account, Class::AuthorizationReversal),
        };
        let replacement = t.message.text(95).and_then(|text| text.get(..12)).map(str::parse);
        let replacement: u128 = replacement.transpose().map_err(|_| missing(95))?.unwrap_or(0);
        let new_total = Amount::new(replacement).filter(|amount| *amount > Amount::ZERO);
        // Down to an amount: of that currency.
        let ledger = new_total.map(|_| money(t.message).map(|(ledger, _)| ledger)).transpose()?;
        let (key, original) = (t.fields.key(Kind::Reversal), original_key);
        let command = Reverse { key, account, original, new_total, note: self.note(t, class) }.into();
        let owners = if account == t.account { t.others.clone() } else { Vec::new() };
        let planned =
            Planned { command, ledger, undo: None, key: original, owners, completes: None, payees: Vec::new() };
        Ok(Ask::Command(Box::new(planned)))
    }

    /// Whether the engine may remember what came before the card was known.
    fn is_young(&self, card: &Card) -> bool {
        self.now.0.saturating_sub(card.added) < self.remembered_ms
    }

    /// Why a card may not be used now.
    fn flaw_of(&self, t: &Transaction<'_>, card: &Card) -> Option<Code> {
        let said = t.message.get(14).or_else(|| track(t.message).and_then(|(_, rest)| rest.get(..4)));
        let said = said.and_then(Expiry::parse);
        match card.status {
            CardStatus::Blocked => Some(Code::RESTRICTED),
            CardStatus::Closed => Some(Code::NO_CARD),
            CardStatus::Active if card.expiry.or(said).is_some_and(|expiry| is_over(expiry, self.now)) => {
                Some(Code::EXPIRED)
            }
            CardStatus::Active => None,
        }
    }

    fn takes_part(&self, message: &Message) -> bool {
        self.listener.partial.as_ref().is_some_and(|signal| {
            let value = message.get(signal.element).and_then(|value| value.get(signal.at..));
            value.is_some_and(|value| value.starts_with(signal.value.as_bytes()))
        })
    }

    fn settlement(&self, ledger: Ledger) -> Result<AccountId, Refused> {
        let account = self.listener.settlement.get(&ledger.asset()).copied();
        account.ok_or(refused(Code::INVALID, "element 49: the listener has no settlement account of that currency"))
    }

    /// What the event keeps of the message: what names it, and nothing of the card.
    fn note(&self, t: &Transaction<'_>, class: Class) -> Note {
        let own = |element| t.message.text(element).unwrap_or_default().trim_end();
        let (merchant, mti) = (own(42), t.message.mti());
        let entries = [
            ("card.listener", self.listener.name.as_str()),
            (TOTAL, class.name()),
            ("card.mti", mti.text()),
            ("card.stan", own(11)),
            ("card.rrn", own(37)),
            ("card.terminal", own(41)),
            ("card.merchant", if names_card(merchant) { "" } else { merchant }),
            ("card.acquirer", t.fields.acquirer),
        ];
        Note { value_date: None, metadata: metadata(entries.into_iter()) }
    }
}

fn direction(message: &Message) -> Result<Direction, Refused> {
    // Six digits, the first two of which say what is meant: tens are enough.
    match message.get(3).and_then(|code| code.first()).ok_or(missing(3))? {
        b'0' | b'1' => Ok(Direction::Debit),
        b'2' => Ok(Direction::Credit),
        b'3' => Ok(Direction::Inquiry),
        _ => Err(refused(Code::INVALID, "element 3: a processing code that is not served")),
    }
}

/// The number of the card: element 2, else the track's.
fn pan_of(message: &Message) -> Result<Pan, Refused> {
    let digits = message.get(2).or_else(|| track(message).map(|(number, _)| number)).ok_or(missing(2))?;
    Pan::parse(digits).map_err(|_| refused(Code::NO_CARD, "element 2 is no card number"))
}

/// Track 2: the number, and what stands behind the separator (the expiry first).
fn track(message: &Message) -> Option<(&[u8], &[u8])> {
    let track = message.get(35)?;
    let at = track.iter().position(|byte| matches!(byte, b'=' | b'D'))?;
    Some((&track[..at], &track[at + 1..]))
}

/// Currency and amount: elements 49 and 4.
fn money(message: &Message) -> Result<(Ledger, Amount), Refused> {
    let currency = message.get(49).ok_or(missing(49))?;
    let currency = currency_of(currency).ok_or(refused(Code::INVALID, "element 49: no currency with a minor unit"))?;
    let ledger = Ledger::new(currency.code, currency.scale).ok_or(missing(49))?;
    let amount = message.number(4).and_then(|amount| Amount::new(u128::from(amount))).ok_or(missing(4))?;
    Ok((ledger, amount))
}
