//! Commands by short names: one ledger, accounts numbered from 1, keys `uuid_v7`.
//!
//! Owns the spelling of commands; refuses to know who decides them.

use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, Command, Increment, Lookup, Note, OpenAccount, Refund, RefundTarget, Reverse,
    Settings, Transfer, Void,
};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::key::Key;
use tp_core::time::Time;

/// When all workloads begin: 2024-01-01.
pub const START: Time = Time(1_704_067_200_000);

/// The ledger of all accounts: euro, cents.
pub fn ledger() -> Ledger {
    Ledger::new("EUR", 2).expect("three letters and a scale of two are a ledger")
}

/// The `n`th key made at that time.
pub const fn key(at: Time, n: u64) -> Key {
    Key::uuid_v7_from_parts(at, n as u128)
}

/// The `n`th account, from 0 on.
pub const fn account(n: u64) -> AccountId {
    AccountId(n as u128 + 1)
}

/// Opens an account without limits.
pub fn open(key: Key, account: AccountId) -> Command {
    let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger()) };
    OpenAccount { key, account, settings, note: Note::default() }.into()
}

/// A hold.
pub fn authorize(key: Key, account: AccountId, minor: u64) -> Command {
    Authorize::new(key, account, ledger(), Amount::from(minor)).into()
}

/// Raises a hold.
pub fn increment(key: Key, authorization: AuthorizationId, minor: u64) -> Command {
    let amount = Amount::from(minor);
    Increment { key, authorization, amount, lifetime_ms: None, note: Note::default() }.into()
}

/// A final capture.
pub fn capture(key: Key, authorization: AuthorizationId, payee: AccountId, minor: u64) -> Command {
    let amount = Amount::from(minor);
    Capture { key, authorization, payee, amount, is_final: true, note: Note::default() }.into()
}

/// Releases all of a hold.
pub fn void(key: Key, authorization: AuthorizationId) -> Command {
    Void { key, authorization, amount: None, note: Note::default() }.into()
}

/// Gives back part of a capture.
pub fn refund(key: Key, capture: TransferId, minor: u64) -> Command {
    let (target, amount) = (RefundTarget::Capture(capture), Amount::from(minor));
    Refund { key, target, amount, note: Note::default() }.into()
}

/// Undoes a command.
pub fn reverse(key: Key, account: AccountId, original: Key) -> Command {
    Reverse { key, account, original, new_total: None, note: Note::default() }.into()
}

/// A forced posting, without a hold.
pub fn advise(key: Key, account: AccountId, payee: AccountId, minor: u64) -> Command {
    let (advice, amount) = (Advice::Post { payee, authorization: None }, Amount::from(minor));
    Advise { key, account, ledger: ledger(), amount, advice, note: Note::default() }.into()
}

/// Moves money.
pub fn transfer(key: Key, account: AccountId, payee: AccountId, minor: u64) -> Command {
    Transfer { key, account, payee, ledger: ledger(), amount: Amount::from(minor), note: Note::default() }.into()
}

/// Asks what became of a command.
pub fn lookup(account: AccountId, key: Key) -> Command {
    Lookup { account, key, fence: false }.into()
}

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// A number below `bound`, which is above 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
}
