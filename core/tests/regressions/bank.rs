//! The accounts and commands that the stories speak of, and a world to tell them in.
//!
//! Owns: short constructors of commands, fresh keys. Refuses to know: what is right; each story says that itself.

use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, Command, Increment, Lookup, Note, OpenAccount, Refund, RefundTarget, Reverse,
    Settings, Transfer, Void,
};
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::rules::Rules;
use tp_core::time::{DAY_MS, Time};

use crate::harness::{SEED, World};

pub(crate) const START: Time = Time(19_737 * DAY_MS);
pub(crate) const MINUTE_MS: u64 = 60_000;

pub(crate) fn eur() -> Ledger {
    Ledger::new("EUR", 2).expect("valid")
}
/// The n-th account whose slot has that parity: with two partitions that is the account's partition.
pub(crate) fn account(parity: usize, n: usize) -> AccountId {
    let has_parity = |id: &AccountId| SEED.slot_of(*id).index() % 2 == parity;
    (1..).map(AccountId).filter(has_parity).nth(n).expect("half of all accounts")
}
/// An account with credit without bound.
pub(crate) fn settings() -> Settings {
    Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(eur()) }
}

pub(crate) fn open_account(key: Key, account: AccountId, settings: Settings) -> Command {
    OpenAccount { key, account, settings, note: Note::default() }.into()
}
pub(crate) fn authorize(key: Key, account: AccountId, amount: u64) -> Command {
    Authorize::new(key, account, eur(), Amount::from(amount)).into()
}
/// An account status inquiry: remembered like any decision, moves nothing.
pub(crate) fn inquire(key: Key, account: AccountId) -> Command {
    authorize(key, account, 0)
}
pub(crate) fn increment(key: Key, authorization: AuthorizationId, amount: u64) -> Command {
    Increment { key, authorization, amount: Amount::from(amount), lifetime_ms: None, note: Note::default() }.into()
}
pub(crate) fn capture(key: Key, authorization: AuthorizationId, payee: AccountId, amount: u64) -> Command {
    let amount = Amount::from(amount);
    Capture { key, authorization, payee, amount, is_final: false, note: Note::default() }.into()
}
pub(crate) fn capture_all(key: Key, authorization: AuthorizationId, payee: AccountId, amount: u64) -> Command {
    let amount = Amount::from(amount);
    Capture { key, authorization, payee, amount, is_final: true, note: Note::default() }.into()
}
pub(crate) fn void(key: Key, authorization: AuthorizationId) -> Command {
    Void { key, authorization, amount: None, note: Note::default() }.into()
}
pub(crate) fn refund(key: Key, authorization: AuthorizationId, amount: u64) -> Command {
    let target = RefundTarget::Authorization(authorization);
    Refund { key, target, amount: Amount::from(amount), note: Note::default() }.into()
}
pub(crate) fn reverse(key: Key, account: AccountId, original: Key) -> Command {
    Reverse { key, account, original, new_total: None, note: Note::default() }.into()
}
pub(crate) fn advise_post(
    key: Key,
    account: AccountId,
    payee: AccountId,
    authorization: Option<AuthorizationId>,
    amount: u64,
) -> Command {
    let advice = Advice::Post { payee, authorization };
    Advise { key, account, ledger: eur(), amount: Amount::from(amount), advice, note: Note::default() }.into()
}
pub(crate) fn transfer(key: Key, account: AccountId, payee: AccountId, amount: u64) -> Command {
    Transfer { key, account, payee, ledger: eur(), amount: Amount::from(amount), note: Note::default() }.into()
}
pub(crate) fn lookup(account: AccountId, key: Key) -> Command {
    Lookup { account, key, fence: false }.into()
}
pub(crate) fn fence(account: AccountId, key: Key) -> Command {
    Lookup { account, key, fence: true }.into()
}

/// A world that hands out fresh keys.
pub(crate) struct Bank {
    pub(crate) world: World,
    keys: u128,
}

impl Bank {
    pub(crate) fn new(partitions: usize, rules: Rules) -> Self {
        Self { world: World::new(partitions, rules, START), keys: 0 }
    }
    /// A `uuid_v7` key made now.
    pub(crate) fn key(&mut self) -> Key {
        self.keys += 1;
        Key::uuid_v7_from_parts(self.world.now, self.keys)
    }
    pub(crate) fn at(&mut self, time: Time) {
        self.world.now = time;
    }
    pub(crate) fn open(&mut self, account: AccountId) {
        let command = open_account(self.key(), account, settings());
        self.approved(command);
    }
    /// Runs the command to rest.
    pub(crate) fn call(&mut self, command: Command) -> Reply {
        self.world.call(command)
    }
    pub(crate) fn outcome(&mut self, command: Command) -> Outcome {
        self.call(command).outcome
    }
    pub(crate) fn approved(&mut self, command: Command) -> Reply {
        let reply = self.call(command);
        assert!(reply.outcome.is_approval(), "{reply:?}");
        reply
    }
    /// A hold, by a key of the story.
    pub(crate) fn hold(&mut self, key: Key, account: AccountId, amount: u64) -> AuthorizationId {
        self.approved(authorize(key, account, amount)).authorization.expect("an approved hold has an id")
    }
    /// One turn of the deciding partition: its events are journaled, neither durable nor heard of by a peer.
    pub(crate) fn start(&mut self, command: Command) -> u64 {
        let home = self.world.home(command.slot(&SEED).expect("a command of an account"));
        let ticket = self.world.submit(command);
        self.world.decide(home, usize::MAX, usize::MAX, usize::MAX);
        self.world.ticket(home);
        ticket
    }
    /// The reply, if it has left.
    pub(crate) fn reply(&self, ticket: u64) -> Option<&Reply> {
        self.world.replies.get(&ticket)
    }
    pub(crate) fn posted(&self, account: AccountId) -> i128 {
        self.world.account(account).map_or(0, |view| view.balances.posted)
    }
}
