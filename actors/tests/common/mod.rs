//! What the engine's tests share: commands by short names, a seeded generator, ways to run a workload.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

pub mod tap;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tp_actors::tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_actors::tp_core::command::{
    Authorize, Capture, Command, Lookup, Note, OpenAccount, Refund, RefundTarget, Reverse, Settings, Transfer, Void,
};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::time::Time;
use tp_actors::{CheckpointPolicy, Clock, Config, Engine, GivenClock};

/// 2024-01-01.
pub const START: Time = Time(1_704_067_200_000);

pub fn ledger() -> Ledger {
    Ledger::new("EUR", 2).expect("valid")
}

pub fn amount(minor: u64) -> Amount {
    Amount::from(minor)
}

/// On that directory, with that many partitions, a clock of our own and no checkpoints unless asked for.
pub fn config_at(path: &Path, partitions: usize) -> Config {
    Config {
        partitions,
        segment_bytes: 4 << 20,
        clock: Clock::given(GivenClock::new(START)),
        checkpoint: CheckpointPolicy::off(),
        ..Config::at(path)
    }
}

pub fn in_memory(partitions: usize) -> Config {
    Config { partitions, clock: Clock::given(GivenClock::new(START)), ..Config::in_memory() }
}

pub fn open_account(key: u128, account: u128, credit: Option<u64>) -> Command {
    let mut settings = Settings::new(ledger());
    settings.credit_limit = credit.map_or(CreditLimit::Unlimited, |minor| CreditLimit::Amount(amount(minor)));
    OpenAccount { key: Key::opaque(key), account: AccountId(account), settings, note: Note::default() }.into()
}

pub fn authorize(key: u128, account: u128, minor: u64) -> Command {
    Authorize::new(Key::opaque(key), AccountId(account), ledger(), amount(minor)).into()
}

pub fn capture(key: u128, authorization: AuthorizationId, payee: u128, minor: u64, is_final: bool) -> Command {
    let (key, payee, amount) = (Key::opaque(key), AccountId(payee), amount(minor));
    Capture { key, authorization, payee, amount, is_final, note: Note::default() }.into()
}

pub fn void(key: u128, authorization: AuthorizationId) -> Command {
    Void { key: Key::opaque(key), authorization, amount: None, note: Note::default() }.into()
}

pub fn refund(key: u128, capture: TransferId, minor: u64) -> Command {
    let target = RefundTarget::Capture(capture);
    Refund { key: Key::opaque(key), target, amount: amount(minor), note: Note::default() }.into()
}

pub fn reverse(key: u128, account: u128, original: u128) -> Command {
    let (key, account, original) = (Key::opaque(key), AccountId(account), Key::opaque(original));
    Reverse { key, account, original, new_total: None, note: Note::default() }.into()
}

pub fn transfer(key: u128, payer: u128, payee: u128, minor: u64) -> Command {
    let (account, payee) = (AccountId(payer), AccountId(payee));
    Transfer { key: Key::opaque(key), account, payee, ledger: ledger(), amount: amount(minor), note: Note::default() }
        .into()
}

/// A small seeded generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

pub const ACCOUNTS: u128 = 40;

/// Opens the accounts 1 to [`ACCOUNTS`] with a credit of 1,000.00.
pub fn open_accounts(engine: &Engine) {
    for account in 1..=ACCOUNTS {
        let reply = engine.call_blocking(open_account(account, account, Some(100_000)));
        assert_eq!(reply.outcome, Outcome::Approved, "account {account}");
    }
}

/// Makes commands over the whole life cycle, from the replies so far.
#[derive(Clone, Debug)]
pub struct Workload {
    random: Random,
    next_key: u128,
    authorizations: Vec<(u128, AuthorizationId)>,
    captures: Vec<TransferId>,
    sent: BTreeMap<u64, Command>,
    keys: Vec<(u128, u128)>,
    /// The account that each command's key is scoped to.
    pub owners: BTreeMap<u64, u128>,
    payers: BTreeMap<AuthorizationId, u128>,
}

impl Workload {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            next_key: 1_000_000,
            authorizations: Vec::new(),
            captures: Vec::new(),
            sent: BTreeMap::new(),
            keys: Vec::new(),
            owners: BTreeMap::new(),
            payers: BTreeMap::new(),
        }
    }

    fn account(&mut self) -> u128 {
        1 + u128::from(self.random.below(ACCOUNTS as u64))
    }

    pub fn next(&mut self) -> (u64, Command) {
        self.next_key += 1;
        let key = self.next_key;
        let (account, minor) = (self.account(), 1 + self.random.below(3_000));
        let choice = self.random.below(100);
        let picked = self.random.next() as usize;
        let authorization =
            (!self.authorizations.is_empty()).then(|| self.authorizations[picked % self.authorizations.len()]);
        let command = match (choice, authorization) {
            (0..35, _) | (35..70, None) => authorize(key, account, minor),
            (35..60, Some((_, id))) => {
                let payee = self.account();
                capture(key, id, payee, 1 + minor / 4, picked.is_multiple_of(3))
            }
            (60..70, Some((_, id))) => void(key, id),
            (70..80, _) if !self.captures.is_empty() => {
                refund(key, self.captures[picked % self.captures.len()], 1 + minor / 8)
            }
            (80..85, _) if !self.keys.is_empty() => {
                let (account, original) = self.keys[picked % self.keys.len()];
                reverse(key, account, original)
            }
            _ => {
                let payee = 1 + (account + u128::from(self.random.below(ACCOUNTS as u64 - 1))) % ACCOUNTS;
                transfer(key, account, if payee == account { payee % ACCOUNTS + 1 } else { payee }, minor)
            }
        };
        let owner = match &command {
            Command::Authorize(c) => Some(c.account.0),
            Command::Transfer(c) => Some(c.account.0),
            Command::Reverse(c) => Some(c.account.0),
            Command::Capture(c) => self.payers.get(&c.authorization).copied(),
            Command::Void(c) => self.payers.get(&c.authorization).copied(),
            _ => None,
        };
        self.owners.extend(owner.map(|owner| (key as u64, owner)));
        self.sent.insert(key as u64, command.clone());
        (key as u64, command)
    }

    pub fn learn(&mut self, tag: u64, reply: &Reply) {
        let Some(command) = self.sent.remove(&tag) else { return };
        if !reply.outcome.is_approval() {
            return;
        }
        match (&command, reply.authorization, reply.transfer) {
            (Command::Authorize(c), Some(id), _) => {
                self.authorizations.push((c.account.0, id));
                self.payers.insert(id, c.account.0);
                self.keys.push((c.account.0, tag.into()));
            }
            (Command::Capture(_), _, Some(id)) => self.captures.push(id),
            (Command::Transfer(c), ..) => self.keys.push((c.account.0, tag.into())),
            _ => {}
        }
    }
}

/// Sends `commands` with up to `in_flight` at once; returns the replies by tag.
pub fn run(engine: &Engine, workload: &mut Workload, commands: usize, in_flight: usize) -> BTreeMap<u64, Reply> {
    let mut client = engine.client(in_flight);
    let mut replies = BTreeMap::new();
    let mut left = commands;
    while left > 0 || client.in_flight() > 0 {
        while left > 0 && client.in_flight() < in_flight {
            let (tag, command) = workload.next();
            while client.submit(tag, &command).is_err() {
                client.wait(Duration::from_millis(10));
                collect(&mut client, workload, &mut replies);
            }
            left -= 1;
        }
        client.wait(Duration::from_millis(100));
        collect(&mut client, workload, &mut replies);
    }
    replies
}

fn collect(client: &mut tp_actors::Client, workload: &mut Workload, replies: &mut BTreeMap<u64, Reply>) {
    client.poll(|tag, reply| {
        workload.learn(tag, &reply);
        replies.insert(tag, reply);
    });
}

pub fn lookup(engine: &Engine, account: u128, key: u64) -> Reply {
    let lookup = Lookup { account: AccountId(account), key: Key::opaque(key.into()), fence: false };
    engine.call_blocking(lookup)
}

pub fn assert_balanced(engine: &Engine) {
    for totals in engine.trial_balance().expect("running") {
        assert!(totals.is_balanced(), "{totals:?}");
    }
}
