//! Commands: what is asked. Plain data; [`Command::is_well_formed`] is the flat list of what makes one malformed.

use crate::amount::{Amount, CreditLimit, Ledger};
use crate::ids::{AccountId, AuthorizationId, SlotIndex, SlotSeed, TransferId};
use crate::key::{Fingerprint, FingerprintBuilder, Key};
use crate::metadata::Metadata;
use crate::time::Date;
use rkyv::{Archive, Deserialize, Serialize};

/// What a caller may attach to a command; kept in its event, no part of the fingerprint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Note {
    /// The business day that the command belongs to. Limits, expiry and windows use recorded time only.
    pub value_date: Option<Date>,
    /// A reference and key-values.
    pub metadata: Metadata,
}

/// The status that an account is opened with or updated to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum Status {
    /// Takes debits and credits.
    #[default]
    Open = 0,
    /// Refuses new debits.
    DebitFrozen = 1,
    /// Refuses new debits and credits; captures and voids of holds already open go on.
    Frozen = 2,
    /// Closed for good: by `close_account` only.
    Closed = 3,
}

/// How much and how often within a day or month of the ledger's calendar; `None`: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct PeriodLimit {
    /// Approved commands.
    pub count: Option<u32>,
    /// Sum of approved amounts.
    pub amount: Option<Amount>,
}

/// What bounds an account's debits beside its funds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Limits {
    /// The largest single command; `None`: no limit.
    pub command_amount: Option<Amount>,
    /// Per day of the ledger's calendar.
    pub day: PeriodLimit,
    /// Per month of the ledger's calendar.
    pub month: PeriodLimit,
}

/// What an account is: everything but its id, money and history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Settings {
    /// The ledger that its amounts are in. Fixed at opening.
    pub ledger: Ledger,
    /// The caller's own classification. Fixed at opening.
    pub kind: u16,
    /// Whose it is, in a platform of many. Fixed at opening.
    pub tenant: u32,
    /// What it refuses.
    pub status: Status,
    /// How far below zero it may go.
    pub credit_limit: CreditLimit,
    /// Other bounds of its debits.
    pub limits: Limits,
}

impl Settings {
    /// Whether all amounts are single amounts: tested for whatever is read from a file.
    pub(crate) fn is_in_range(&self) -> bool {
        let is_amount = |amount: Option<Amount>| amount.is_none_or(|amount| amount <= Amount::MAX);
        let credit_limit = match self.credit_limit {
            CreditLimit::Amount(amount) => Some(amount),
            CreditLimit::Unlimited => None,
        };
        let limits = &self.limits;
        [credit_limit, limits.command_amount, limits.day.amount, limits.month.amount].into_iter().all(is_amount)
    }
    /// An open account of that ledger: kind 0, tenant 0, no credit, no limits.
    pub fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            kind: 0,
            tenant: 0,
            status: Status::Open,
            credit_limit: CreditLimit::default(),
            limits: Limits::default(),
        }
    }
}

/// Opens an account. The key belongs to the account itself. Again with the same settings: approved, without effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenAccount {
    /// Idempotency key.
    pub key: Key,
    /// The new account, the client's choice.
    pub account: AccountId,
    /// What it is.
    pub settings: Settings,
    /// Attached.
    pub note: Note,
}

/// Changes an account's settings from the next command on; `None`: as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateAccount {
    /// Idempotency key.
    pub key: Key,
    /// The account.
    pub account: AccountId,
    /// Status; `Closed` is malformed here.
    pub status: Option<Status>,
    /// Credit limit.
    pub credit_limit: Option<CreditLimit>,
    /// All limits at once.
    pub limits: Option<Limits>,
    /// Attached.
    pub note: Note,
}

/// Closes an account on which nothing stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseAccount {
    /// Idempotency key.
    pub key: Key,
    /// The account.
    pub account: AccountId,
    /// Attached.
    pub note: Note,
}

/// Asks for a hold. Amount 0 checks the account and makes none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authorize {
    /// Idempotency key.
    pub key: Key,
    /// The payer.
    pub account: AccountId,
    /// Must be the account's.
    pub ledger: Ledger,
    /// What to reserve.
    pub amount: Amount,
    /// How long the hold shall live, milliseconds; bounded by the ledger's policy; `None`: its default.
    pub lifetime_ms: Option<u64>,
    /// Take less when there is not enough.
    pub allow_partial: bool,
    /// Only this account may be paid.
    pub payee: Option<AccountId>,
    /// How far captures may exceed what was authorized, in 1/10,000; capped by the ledger's policy.
    pub tolerance_bp: u16,
    /// Attached.
    pub note: Note,
}

impl Authorize {
    /// An authorization with the ledger's default lifetime, all or nothing, any payee, no tolerance.
    pub fn new(key: Key, account: AccountId, ledger: Ledger, amount: Amount) -> Self {
        let (lifetime_ms, payee, note) = (None, None, Note::default());
        Self { key, account, ledger, amount, lifetime_ms, allow_partial: false, payee, tolerance_bp: 0, note }
    }
}

/// Raises an open hold, extends its expiry, or both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Increment {
    /// Idempotency key.
    pub key: Key,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// By how much; 0 only with `lifetime_ms`.
    pub amount: Amount,
    /// New lifetime from now, milliseconds, bounded by the ledger's policy; never shortens. `None`: as it is.
    pub lifetime_ms: Option<u64>,
    /// Attached.
    pub note: Note,
}

/// Turns (part of) a hold into a posted transfer to the payee.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capture {
    /// Idempotency key.
    pub key: Key,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// Who is paid.
    pub payee: AccountId,
    /// How much, above 0.
    pub amount: Amount,
    /// Whether the rest of the hold is released.
    pub is_final: bool,
    /// Attached.
    pub note: Note,
}

/// Releases part or all of what is not yet captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Void {
    /// Idempotency key.
    pub key: Key,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// How much, above 0; `None`: all, which closes the hold.
    pub amount: Option<Amount>,
    /// Attached.
    pub note: Note,
}

/// What is refunded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefundTarget {
    /// This capture.
    Capture(TransferId),
    /// The only capture of this authorization.
    Authorization(AuthorizationId),
}

/// Moves captured money back from payee to payer for business reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refund {
    /// Idempotency key.
    pub key: Key,
    /// Which capture.
    pub target: RefundTarget,
    /// How much, above 0.
    pub amount: Amount,
    /// Attached.
    pub note: Note,
}

/// Undoes an earlier command of the account for technical reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reverse {
    /// Idempotency key of the reversal itself.
    pub key: Key,
    /// The account that owns the original.
    pub account: AccountId,
    /// The original's key.
    pub original: Key,
    /// What the original shall come to instead of nothing.
    pub new_total: Option<Amount>,
    /// Attached.
    pub note: Note,
}

/// What someone else decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Advice {
    /// A stand-in authorization (0120): a forced hold.
    Hold {
        /// As in [`Authorize`].
        lifetime_ms: Option<u64>,
        /// As in [`Authorize`].
        payee: Option<AccountId>,
    },
    /// A completion (0220): a forced posting.
    Post {
        /// Who is paid.
        payee: AccountId,
        /// The authorization whose hold it matches and releases.
        authorization: Option<AuthorizationId>,
    },
    /// Declined by the other side: recorded only.
    Declined,
}

/// Reports someone else's decision. Never refused for business reasons.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advise {
    /// Idempotency key.
    pub key: Key,
    /// The payer.
    pub account: AccountId,
    /// The amount's ledger.
    pub ledger: Ledger,
    /// How much; above 0 unless declined.
    pub amount: Amount,
    /// What was decided.
    pub advice: Advice,
    /// Attached.
    pub note: Note,
}

/// Debits one account and credits another of the same ledger at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// Idempotency key.
    pub key: Key,
    /// The payer.
    pub account: AccountId,
    /// The payee.
    pub payee: AccountId,
    /// Must be both accounts'.
    pub ledger: Ledger,
    /// How much, above 0.
    pub amount: Amount,
    /// Attached.
    pub note: Note,
}

/// Asks what became of a command. Known: its first outcome, marked repeated. Unknown: `original_not_found`; with the fence,
/// `fenced`, and the command can no longer execute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lookup {
    /// The account that owns the decision.
    pub account: AccountId,
    /// The command's key.
    pub key: Key,
    /// Whether an unknown command shall be forbidden from now on.
    pub fence: bool,
}

/// What a read names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadTarget {
    /// An account.
    Account(AccountId),
    /// An authorization.
    Authorization(AuthorizationId),
    /// The authorization that this capture was taken from.
    Capture(TransferId),
}

/// Reads an account's or authorization's state; like every reply it waits until what it shows is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// Of what.
    pub target: ReadTarget,
}

/// Puts opaque bytes of a layer above into the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The layer's stream number.
    pub stream: u32,
    /// Up to 64 KiB.
    pub bytes: Box<[u8]>,
}

/// At most so many bytes in one [`Record`].
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

macro_rules! commands {
    ($($name:ident $place:ident = $number:literal, $text:literal;)*) => {
        /// One command. What sets an account up is large and seldom, and kept out of line: commands are moved from queue to queue.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(missing_docs)]
        pub enum Command { $($name(commands!(@type $place $name)),)* }

        /// The kind of a command. The discriminant is its number in journals and never changes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Verb { $($name = $number,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The stable name.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text),* } }
        }
        impl Command {
            /// Its kind.
            pub const fn verb(&self) -> Verb { match self { $(Self::$name(_) => Verb::$name),* } }
        }
        $(impl From<$name> for Command {
            fn from(command: $name) -> Self { Self::$name(commands!(@made $place command)) }
        })*
    };
    (@type inline $name:ident) => { $name };
    (@type boxed $name:ident) => { Box<$name> };
    (@made inline $command:ident) => { $command };
    (@made boxed $command:ident) => { Box::new($command) };
}

commands! {
    OpenAccount boxed = 1, "open_account";
    UpdateAccount boxed = 2, "update_account";
    CloseAccount inline = 3, "close_account";
    Authorize inline = 4, "authorize";
    Increment inline = 5, "increment";
    Capture inline = 6, "capture";
    Void inline = 7, "void";
    Refund inline = 8, "refund";
    Reverse inline = 9, "reverse";
    Advise inline = 10, "advise";
    Transfer inline = 11, "transfer";
    Lookup inline = 12, "lookup";
    Read inline = 13, "read";
    Record inline = 14, "record";
}

impl Command {
    /// The slot that decides it: the payer's, or the one that the authorization's or capture's id names. A record has none.
    pub fn slot(&self, seed: &SlotSeed) -> Option<SlotIndex> {
        Some(match self {
            Self::OpenAccount(c) => seed.slot_of(c.account),
            Self::UpdateAccount(c) => seed.slot_of(c.account),
            Self::CloseAccount(c) => seed.slot_of(c.account),
            Self::Authorize(c) => seed.slot_of(c.account),
            Self::Increment(c) => c.authorization.slot(),
            Self::Capture(c) => c.authorization.slot(),
            Self::Void(c) => c.authorization.slot(),
            Self::Refund(c) => match c.target {
                RefundTarget::Capture(id) => id.slot(),
                RefundTarget::Authorization(id) => id.slot(),
            },
            Self::Reverse(c) => seed.slot_of(c.account),
            Self::Advise(c) => seed.slot_of(c.account),
            Self::Transfer(c) => seed.slot_of(c.account),
            Self::Lookup(c) => seed.slot_of(c.account),
            Self::Read(c) => match c.target {
                ReadTarget::Account(id) => seed.slot_of(id),
                ReadTarget::Authorization(id) => id.slot(),
                ReadTarget::Capture(id) => id.slot(),
            },
            Self::Record(_) => return None,
        })
    }

    /// The key; reads, lookups and records have none of their own.
    pub const fn key(&self) -> Option<Key> {
        Some(match self {
            Self::OpenAccount(c) => c.key,
            Self::UpdateAccount(c) => c.key,
            Self::CloseAccount(c) => c.key,
            Self::Authorize(c) => c.key,
            Self::Increment(c) => c.key,
            Self::Capture(c) => c.key,
            Self::Void(c) => c.key,
            Self::Refund(c) => c.key,
            Self::Reverse(c) => c.key,
            Self::Advise(c) => c.key,
            Self::Transfer(c) => c.key,
            Self::Lookup(_) | Self::Read(_) | Self::Record(_) => return None,
        })
    }

    /// What is attached.
    pub const fn note(&self) -> Option<&Note> {
        Some(match self {
            Self::OpenAccount(c) => &c.note,
            Self::UpdateAccount(c) => &c.note,
            Self::CloseAccount(c) => &c.note,
            Self::Authorize(c) => &c.note,
            Self::Increment(c) => &c.note,
            Self::Capture(c) => &c.note,
            Self::Void(c) => &c.note,
            Self::Refund(c) => &c.note,
            Self::Reverse(c) => &c.note,
            Self::Advise(c) => &c.note,
            Self::Transfer(c) => &c.note,
            Self::Lookup(_) | Self::Read(_) | Self::Record(_) => return None,
        })
    }

    /// Whether it may draw on the reserve of the memory budgets: what releases or explains money must not be starved by new
    /// authorizations.
    pub const fn draws_on_reserve(&self) -> bool {
        matches!(self, Self::Void(_) | Self::Refund(_) | Self::Reverse(_) | Self::Advise(_) | Self::Lookup(_))
    }

    /// Whether the command is well formed: what can be said without any state.
    pub fn is_well_formed(&self) -> bool {
        if self.key().is_some_and(|key| !key.is_well_formed()) {
            return false;
        }
        let lifetime_is_positive = |lifetime: Option<u64>| lifetime != Some(0);
        match self {
            Self::OpenAccount(c) => {
                c.account.is_clients() && c.settings.ledger.is_valid() && c.settings.status != Status::Closed
            }
            Self::UpdateAccount(c) => {
                c.account.is_clients()
                    && c.status != Some(Status::Closed)
                    && (c.status.is_some() || c.credit_limit.is_some() || c.limits.is_some())
            }
            Self::CloseAccount(c) => c.account.is_clients(),
            Self::Authorize(c) => {
                c.account.is_clients()
                    && c.ledger.is_valid()
                    && c.payee.is_none_or(|payee| payee.is_clients() && payee != c.account)
                    && c.tolerance_bp <= 10_000
                    && lifetime_is_positive(c.lifetime_ms)
            }
            Self::Increment(c) => {
                (!c.amount.is_zero() || c.lifetime_ms.is_some()) && lifetime_is_positive(c.lifetime_ms)
            }
            Self::Capture(c) => c.payee.is_clients() && !c.amount.is_zero(),
            Self::Void(c) => c.amount.is_none_or(|amount| !amount.is_zero()),
            Self::Refund(c) => !c.amount.is_zero(),
            Self::Reverse(c) => c.account.is_clients() && c.original.is_well_formed() && c.original.bits != c.key.bits,
            Self::Advise(c) => {
                c.account.is_clients()
                    && c.ledger.is_valid()
                    && match c.advice {
                        Advice::Hold { lifetime_ms, payee } => {
                            !c.amount.is_zero()
                                && lifetime_is_positive(lifetime_ms)
                                && payee.is_none_or(|payee| payee.is_clients() && payee != c.account)
                        }
                        Advice::Post { payee, .. } => !c.amount.is_zero() && payee.is_clients() && payee != c.account,
                        Advice::Declined => true,
                    }
            }
            Self::Transfer(c) => {
                c.account.is_clients()
                    && c.payee.is_clients()
                    && c.payee != c.account
                    && c.ledger.is_valid()
                    && !c.amount.is_zero()
            }
            Self::Lookup(c) => c.account.is_clients() && c.key.is_well_formed(),
            Self::Read(_) => true,
            Self::Record(c) => c.bytes.len() <= RECORD_BYTES_MAX,
        }
    }

    /// The fingerprint of the body: verb, key kind, ids, ledger, amounts and flags.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut print = FingerprintBuilder::new(self.verb() as u8);
        let start = print.narrow(self.key().map_or(0, |key| key.kind as u64));
        let lifetime = |lifetime: Option<u64>| lifetime.map(u128::from);
        let account = |account: Option<AccountId>| account.map(|account| account.0);
        let print = match self {
            Self::OpenAccount(c) => settings(start.wide(c.account.0), &c.settings),
            Self::UpdateAccount(c) => {
                let start = start.wide(c.account.0).optional(c.status.map(|status| status as u128));
                let start = start.optional(c.credit_limit.map(credit_limit_bits));
                match &c.limits {
                    Some(l) => limits(start.narrow(1), l),
                    None => start.narrow(0),
                }
            }
            Self::CloseAccount(c) => start.wide(c.account.0),
            Self::Authorize(c) => start
                .wide(c.account.0)
                .narrow(c.ledger.bits())
                .wide(c.amount.get())
                .optional(lifetime(c.lifetime_ms))
                .narrow(u64::from(c.allow_partial) | u64::from(c.tolerance_bp) << 1)
                .optional(account(c.payee)),
            Self::Increment(c) => start.wide(c.authorization.0).wide(c.amount.get()).optional(lifetime(c.lifetime_ms)),
            Self::Capture(c) => {
                start.wide(c.authorization.0).wide(c.payee.0).wide(c.amount.get()).narrow(u64::from(c.is_final))
            }
            Self::Void(c) => start.wide(c.authorization.0).optional(c.amount.map(Amount::get)),
            Self::Refund(c) => match c.target {
                RefundTarget::Capture(id) => start.narrow(0).wide(id.0),
                RefundTarget::Authorization(id) => start.narrow(1).wide(id.0),
            }
            .wide(c.amount.get()),
            Self::Reverse(c) => start
                .wide(c.account.0)
                .wide(c.original.bits)
                .narrow(c.original.kind as u64)
                .optional(c.new_total.map(Amount::get)),
            Self::Advise(c) => {
                let start = start.wide(c.account.0).narrow(c.ledger.bits()).wide(c.amount.get());
                match c.advice {
                    Advice::Hold { lifetime_ms, payee } => {
                        start.narrow(0).optional(lifetime(lifetime_ms)).optional(account(payee))
                    }
                    Advice::Post { payee, authorization } => {
                        start.narrow(1).wide(payee.0).optional(authorization.map(|id| id.0))
                    }
                    Advice::Declined => start.narrow(2),
                }
            }
            Self::Transfer(c) => start.wide(c.account.0).wide(c.payee.0).narrow(c.ledger.bits()).wide(c.amount.get()),
            Self::Lookup(c) => start.wide(c.account.0).wide(c.key.bits).narrow(u64::from(c.fence)),
            Self::Read(_) | Self::Record(_) => start,
        };
        print.finish()
    }
}

/// Commands are moved from queue to queue.
const _: () = assert!(core::mem::size_of::<Command>() <= 176);

fn credit_limit_bits(limit: CreditLimit) -> u128 {
    match limit {
        CreditLimit::Amount(amount) => amount.get(),
        CreditLimit::Unlimited => u128::MAX,
    }
}

fn settings<'a>(builder: &'a mut FingerprintBuilder, s: &Settings) -> &'a mut FingerprintBuilder {
    let builder = builder.narrow(s.ledger.bits()).narrow(u64::from(s.kind) | u64::from(s.tenant) << 16);
    limits(builder.narrow(s.status as u64).wide(credit_limit_bits(s.credit_limit)), &s.limits)
}

fn limits<'a>(builder: &'a mut FingerprintBuilder, l: &Limits) -> &'a mut FingerprintBuilder {
    [l.day, l.month].into_iter().fold(builder.optional(l.command_amount.map(Amount::get)), |builder, period| {
        builder.optional(period.count.map(u128::from)).optional(period.amount.map(Amount::get))
    })
}
