//! The words of a scenario's line, turned into commands. Owns the grammar; refuses to know what is answered.

use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Limits, Lookup, Note, OpenAccount, Read,
    ReadTarget, Record, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount, Void,
};
use tp_core::ids::{AccountId, AuthorizationId, SlotIndex, TransferId};
use tp_core::key::Key;
use tp_core::rules::Rules;
use tp_core::time::Time;

use super::Names;

/// The words of a line, front to back.
pub(crate) struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text.split_whitespace().rev().collect())
    }
    pub(crate) fn maybe(&mut self) -> Option<&'a str> {
        self.0.pop()
    }
    pub(crate) fn next(&mut self) -> Result<&'a str, String> {
        self.maybe().ok_or_else(|| "a word is missing".to_owned())
    }
    pub(crate) fn number(&mut self) -> Result<i128, String> {
        let word = self.next()?;
        word.parse().map_err(|_| format!("{word:?} is not a number"))
    }
    pub(crate) fn peek_is_number(&self) -> bool {
        self.0.last().is_some_and(|word| word.parse::<i128>().is_ok())
    }
    /// Takes the next word if it is this one.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        let is_next = self.0.last() == Some(&word);
        if is_next {
            self.0.pop();
        }
        is_next
    }
    pub(crate) fn end(&mut self) -> Result<(), String> {
        self.maybe().map_or(Ok(()), |word| Err(format!("{word:?} is not understood")))
    }
    fn amount(&mut self) -> Result<Amount, String> {
        amount(self.number()?)
    }
    fn small<T: TryFrom<i128>>(&mut self) -> Result<T, String> {
        self.number()?.try_into().map_err(|_| "a number is out of range".to_owned())
    }
}

fn amount(number: i128) -> Result<Amount, String> {
    u128::try_from(number).ok().and_then(Amount::new).ok_or_else(|| format!("{number} is not an amount"))
}

/// `+5m`, `-3d`: milliseconds.
pub(crate) fn duration(word: &str) -> Result<i64, String> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &word[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{word:?} has no unit of time")),
    };
    digits.parse::<i64>().map(|n| n * unit).map_err(|_| format!("{word:?} is not a duration"))
}

pub(crate) fn ledger(word: &str) -> Result<Ledger, String> {
    word.parse().map_err(|e| format!("{e}"))
}

pub(crate) fn status(word: &str) -> Result<Status, String> {
    match word {
        "open" => Ok(Status::Open),
        "debit-frozen" => Ok(Status::DebitFrozen),
        "frozen" => Ok(Status::Frozen),
        "closed" => Ok(Status::Closed),
        _ => Err(format!("{word:?} is not a status")),
    }
}

pub(crate) fn policy(words: &mut Words, rules: &mut Rules) -> Result<(), String> {
    while let Some(word) = words.maybe() {
        let policy = &mut rules.policy_default;
        let ms = |words: &mut Words| duration(words.next()?).map(i64::unsigned_abs);
        match word {
            "lifetime" => policy.hold_lifetime_ms_default = ms(words)?,
            "lifetime-max" => policy.hold_lifetime_ms_max = ms(words)?,
            "tolerance-max" => policy.tolerance_bp_max = words.small()?,
            "offset" => policy.utc_offset_minutes = words.small()?,
            "refund-window" => rules.windows.refund_ms = ms(words)?,
            _ => return Err(format!("{word:?} is not a policy")),
        }
    }
    Ok(())
}

/// An account is its name: the name's bytes as a number. `number:N` is that number.
pub(crate) fn account(names: &mut Names, word: &str) -> AccountId {
    if let Some(id) = word.strip_prefix("number:").and_then(|digits| digits.parse().ok()) {
        return AccountId(id);
    }
    let id = word.bytes().take(11).fold(0u128, |id, b| id << 8 | u128::from(b));
    *names.accounts.entry(word.to_owned()).or_insert(AccountId(id))
}

fn authorization(names: &Names, word: &str) -> AuthorizationId {
    let nobodys = AuthorizationId::new(super::START, SlotIndex::new(3).expect("below 1,024"), 1 << 40);
    names.authorizations.get(word).copied().unwrap_or(nobodys)
}

fn refund_target(names: &Names, word: &str) -> RefundTarget {
    if let Some(id) = word.strip_prefix("hold:") {
        return RefundTarget::Authorization(authorization(names, id));
    }
    let nobodys = TransferId::new(super::START, SlotIndex::new(3).expect("below 1,024"), 1 << 40);
    RefundTarget::Capture(names.transfers.get(word).copied().unwrap_or(nobodys))
}

/// A name's key: the same name, the same key. `NAME@-5m`: a `uuid_v7` made five minutes before now.
fn key(word: &str, now: Time) -> Result<Key, String> {
    let bits = |name: &str| {
        name.bytes().fold(0xcbf2_9ce4_8422_2325u128, |h, b| (h ^ u128::from(b)).wrapping_mul(0x0100_0000_01b3))
    };
    let Some((name, age)) = word.split_once('@') else { return Ok(Key::opaque(bits(word))) };
    let own = Time(now.0.saturating_add_signed(duration(age)?));
    Ok(Key::uuid_v7_from_parts(own, bits(name)))
}

/// A command and the name for what it makes.
pub(crate) struct Line {
    pub(crate) command: Command,
    pub(crate) name: Option<String>,
}

/// What may stand behind a command, in any order.
#[derive(Default)]
struct Options {
    name: Option<String>,
    key: Option<Key>,
    ledger: Option<Ledger>,
    credit: Option<CreditLimit>,
    status: Option<Status>,
    limits: Option<Limits>,
    kind: u16,
    partial: bool,
    is_final: bool,
    fence: bool,
    payee: Option<AccountId>,
    tolerance: u16,
    life: Option<u64>,
    total: Option<Amount>,
    matching: Option<AuthorizationId>,
}

fn options(words: &mut Words, names: &mut Names, now: Time) -> Result<Options, String> {
    let mut o = Options::default();
    while let Some(word) = words.maybe() {
        match word {
            "as" => o.name = Some(words.next()?.to_owned()),
            "key" => o.key = Some(key(words.next()?, now)?),
            "in" => o.ledger = Some(ledger(words.next()?)?),
            "credit" if words.take("unlimited") => o.credit = Some(CreditLimit::Unlimited),
            "credit" => o.credit = Some(CreditLimit::Amount(words.amount()?)),
            "status" => o.status = Some(status(words.next()?)?),
            "limits" => o.limits = Some(limits(words)?),
            "kind" => o.kind = words.small()?,
            "partial" => o.partial = true,
            "final" => o.is_final = true,
            "fence" => o.fence = true,
            "payee" => o.payee = Some(account(names, words.next()?)),
            "tolerance" => o.tolerance = words.small()?,
            "life" => o.life = Some(duration(words.next()?)?.unsigned_abs()),
            "total" => o.total = Some(words.amount()?),
            "match" => o.matching = Some(authorization(names, words.next()?)),
            _ => return Err(format!("{word:?} is not understood")),
        }
    }
    Ok(o)
}

/// `each N`, `day COUNT AMOUNT`, `month COUNT AMOUNT`, `-` for no limit; up to the end of the line or `key`.
fn limits(words: &mut Words) -> Result<Limits, String> {
    let mut limits = Limits::default();
    loop {
        if words.take("each") {
            limits.command_amount = Some(words.amount()?);
        } else if words.take("day") {
            limits.day = period(words)?;
        } else if words.take("month") {
            limits.month = period(words)?;
        } else {
            return Ok(limits);
        }
    }
}

fn period(words: &mut Words) -> Result<tp_core::command::PeriodLimit, String> {
    let count = if words.take("-") { None } else { Some(words.small()?) };
    let amount = if words.take("-") { None } else { Some(words.amount()?) };
    Ok(tp_core::command::PeriodLimit { count, amount })
}

/// One command.
pub(crate) fn command(words: &mut Words, names: &mut Names, now: Time, n: usize) -> Result<Line, String> {
    let verb = words.next()?;
    let verb = if verb == "advise" { words.next()? } else { verb };
    let fresh = Key::opaque(1 << 100 | n as u128);
    let note = Note::default();
    let czk = ledger("CZK/2")?;
    let command: Command;
    let o;
    match verb {
        "open" | "update" | "close" => {
            let account = account(names, words.next()?);
            o = options(words, names, now)?;
            let key = o.key.unwrap_or(fresh);
            command = match verb {
                "open" => OpenAccount { key, account, settings: settings(&o, czk), note }.into(),
                "update" => {
                    UpdateAccount { key, account, status: o.status, credit_limit: o.credit, limits: o.limits, note }
                        .into()
                }
                _ => CloseAccount { key, account, note }.into(),
            };
        }
        "authorize" => {
            let (account, amount) = (account(names, words.next()?), words.amount()?);
            o = options(words, names, now)?;
            let plain = Authorize::new(o.key.unwrap_or(fresh), account, o.ledger.unwrap_or(czk), amount);
            let (allow_partial, tolerance_bp) = (o.partial, o.tolerance);
            command = Authorize { allow_partial, tolerance_bp, payee: o.payee, lifetime_ms: o.life, ..plain }.into();
        }
        "increment" => {
            let (authorization, amount) = (authorization(names, words.next()?), words.amount()?);
            o = options(words, names, now)?;
            command =
                Increment { key: o.key.unwrap_or(fresh), authorization, amount, lifetime_ms: o.life, note }.into();
        }
        "capture" => {
            let authorization = authorization(names, words.next()?);
            let (payee, amount) = (account(names, words.next()?), words.amount()?);
            o = options(words, names, now)?;
            let key = o.key.unwrap_or(fresh);
            command = Capture { key, authorization, payee, amount, is_final: o.is_final, note }.into();
        }
        "void" => {
            let authorization = authorization(names, words.next()?);
            let amount = if words.peek_is_number() { Some(words.amount()?) } else { None };
            o = options(words, names, now)?;
            command = Void { key: o.key.unwrap_or(fresh), authorization, amount, note }.into();
        }
        "refund" => {
            let (target, amount) = (refund_target(names, words.next()?), words.amount()?);
            o = options(words, names, now)?;
            command = Refund { key: o.key.unwrap_or(fresh), target, amount, note }.into();
        }
        "reverse" => {
            let (account, original) = (account(names, words.next()?), key(words.next()?, now)?);
            o = options(words, names, now)?;
            command = Reverse { key: o.key.unwrap_or(fresh), account, original, new_total: o.total, note }.into();
        }
        "hold" | "declined" => {
            let (account, amount) = (account(names, words.next()?), words.amount()?);
            o = options(words, names, now)?;
            let hold = Advice::Hold { lifetime_ms: o.life, payee: o.payee };
            let advice = if verb == "hold" { hold } else { Advice::Declined };
            let (key, ledger) = (o.key.unwrap_or(fresh), o.ledger.unwrap_or(czk));
            command = Advise { key, account, ledger, amount, advice, note }.into();
        }
        "post" => {
            let (account, payee) = (account(names, words.next()?), account(names, words.next()?));
            let amount = words.amount()?;
            o = options(words, names, now)?;
            let advice = Advice::Post { payee, authorization: o.matching };
            let (key, ledger) = (o.key.unwrap_or(fresh), o.ledger.unwrap_or(czk));
            command = Advise { key, account, ledger, amount, advice, note }.into();
        }
        "transfer" => {
            let (account, payee) = (account(names, words.next()?), account(names, words.next()?));
            let amount = words.amount()?;
            o = options(words, names, now)?;
            let (key, ledger) = (o.key.unwrap_or(fresh), o.ledger.unwrap_or(czk));
            command = Transfer { key, account, payee, ledger, amount, note }.into();
        }
        "lookup" => {
            let (account, key) = (account(names, words.next()?), key(words.next()?, now)?);
            o = options(words, names, now)?;
            command = Lookup { account, key, fence: o.fence }.into();
        }
        "read" => {
            let target = ReadTarget::Account(account(names, words.next()?));
            (command, o) = (Read { target }.into(), Options::default());
        }
        "read-hold" => {
            let target = ReadTarget::Authorization(authorization(names, words.next()?));
            (command, o) = (Read { target }.into(), Options::default());
        }
        "record" => {
            let bytes = vec![7; words.small()?].into();
            (command, o) = (Record { stream: 1, bytes }.into(), Options::default());
        }
        _ => return Err(format!("{verb:?} is not a verb")),
    }
    Ok(Line { command, name: o.name })
}

fn settings(o: &Options, czk: Ledger) -> Settings {
    let plain = Settings::new(o.ledger.unwrap_or(czk));
    Settings {
        kind: o.kind,
        status: o.status.unwrap_or_default(),
        credit_limit: o.credit.unwrap_or_default(),
        limits: o.limits.unwrap_or_default(),
        ..plain
    }
}
