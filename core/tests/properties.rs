//! Properties of the core over random traffic, against the naive model and the clients' own books.
//!
//! (a) one after another: every reply and balance is the model's, on any number of partitions; (b) concurrent: caps hold under any
//! interleaving, one effect per key, no exchange lost or ended twice, money conserved, everyone answered, replay equals live;
//! (c) the same with crashes at random points. The driver and the audit in `harness` check the invariants at each step.

mod harness;
mod model;
mod traffic;

use std::collections::BTreeMap;

use harness::{Draw, World};
use model::{Expected, Made, Model};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tp_core::amount::Balances;
use tp_core::command::{Command, Status};
use tp_core::ids::{AccountId, SlotIndex};
use tp_core::outcome::Outcome;
use tp_core::reply::{AccountView, Reply};
use tp_core::rules::{Rules, Windows};
use tp_core::time::{DAY_MS, Time};
use traffic::{Action, Books, Clients, actions};

const START: Time = Time(19_737 * DAY_MS);

/// Keys are remembered for ever, so that time can pass without making repeats new commands; closed authorizations for longer
/// than any session lasts.
fn rules() -> Rules {
    let windows = Windows { key_uuid_v7_ms: None, key_opaque_ms: None, refund_ms: 400 * DAY_MS };
    Rules { windows, ..Rules::default() }
}

/// So many cases, or as many as `PROPTEST_CASES` says.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    ProptestConfig { failure_persistence, max_shrink_iters: 4_000, ..ProptestConfig::with_cases(cases) }
}

/// What of a reply the model must say the same of.
fn check_reply(command: &Command, reply: &Reply, expected: &Expected) {
    let amount = i128::try_from(reply.amount.get()).expect("below 2^96");
    let seen = (reply.outcome, amount, reply.flags, reply.repeated, reply.reversed);
    let said = (expected.outcome, expected.amount, expected.flags, expected.repeated, expected.reversed);
    assert_eq!(
        seen, said,
        "outcome, amount, flags, repeated, reversed; left: core, right: model\n{command:?}\n{reply:?}"
    );
    if expected.is_event {
        assert_eq!(reply.balances, expected.balances, "balances; left: core, right: model\n{command:?}\n{reply:?}");
    }
    let ids = (expected.authorization, expected.transfer, expected.expires);
    let seen = (
        expected.authorization.and(reply.authorization),
        expected.transfer.and(reply.transfer),
        expected.expires.and(reply.expires),
    );
    assert_eq!(seen, ids, "authorization, transfer, expires; left: core, right: model\n{command:?}\n{reply:?}");
}

type Standing = BTreeMap<AccountId, (Balances, Status)>;

/// Accounts as they stand; suspense accounts on which nothing stands are as good as absent.
fn standing(accounts: impl IntoIterator<Item = (AccountId, Balances, Status)>) -> Standing {
    let is_there = |id: AccountId, b: Balances| id.suspense().is_none() || b.posted != 0 || b.held != 0;
    accounts.into_iter().filter(|(id, b, _)| is_there(*id, *b)).map(|(id, b, status)| (id, (b, status))).collect()
}
fn stands(world: &World) -> Standing {
    standing(world.accounts().iter().map(|a: &AccountView| (a.account, a.balances, a.settings.status)))
}
fn stands_in(model: &Model) -> Standing {
    standing(model.accounts.iter().map(|(id, a)| (*id, a.balances(), a.settings.status)))
}

fn check_holds(world: &World, model: &Model) {
    let signed = |n: u128| i128::try_from(n).expect("a balance");
    for hold in &model.holds {
        let view = world.authorization(hold.id).unwrap_or_else(|| panic!("{} is in memory", hold.id));
        let seen = (view.account, view.state, view.expires, signed(view.authorized), signed(view.held));
        assert_eq!(seen, (hold.account, hold.state, hold.expires, hold.authorized, hold.held), "{}", hold.id);
        let seen: Vec<_> =
            view.captures.iter().map(|c| (c.transfer, c.payee, signed(c.amount), signed(c.refunded))).collect();
        let said: Vec<_> = hold.captures.iter().map(|c| (c.id, c.payee, c.amount, c.refunded)).collect();
        assert_eq!(seen, said, "captures of {}; left: core, right: model", hold.id);
    }
}

fn made(reply: &Reply) -> Made {
    Made { authorization: reply.authorization, transfer: reply.transfer }
}

/// The core beside the model.
struct Pair {
    world: World,
    model: Model,
    clients: Clients,
}

impl Pair {
    fn new(partitions: usize) -> Self {
        let world = World::new(partitions, rules(), START);
        let mut pair = Self { world, model: Model::new(harness::SEED, rules()), clients: Clients::new() };
        for command in pair.clients.opening() {
            pair.together(&[command]);
        }
        pair
    }

    /// Submits commands at once, then compares the replies in their order: on one partition they are decided in it.
    fn together(&mut self, commands: &[Command]) {
        let tickets: Vec<u64> = commands.iter().map(|command| self.world.submit(command.clone())).collect();
        self.world.settle();
        for (command, ticket) in commands.iter().zip(tickets) {
            let reply = self.world.replies[&ticket].clone();
            let expected = self.model.apply(self.world.now, command, made(&reply));
            check_reply(command, &reply, &expected);
            self.clients.learn(command, &reply);
        }
        assert_eq!(stands(&self.world), stands_in(&self.model), "left: core, right: model, after {commands:?}");
        check_holds(&self.world, &self.model);
    }

    fn wait(&mut self, minutes: u16) {
        self.world.now = self.world.now.plus_ms(u64::from(minutes) * 60_000);
        self.world.settle();
        self.model.expire(self.world.now);
        assert_eq!(stands(&self.world), stands_in(&self.model), "left: core, right: model, after waiting");
    }

    fn run(&mut self, actions: &[Action], batch: usize) {
        for actions in actions.chunks(batch) {
            let mut commands = Vec::new();
            for action in actions {
                match action {
                    Action::Wait { minutes } => self.wait(*minutes),
                    action => commands.extend(self.clients.command(action)),
                }
            }
            self.together(&commands);
        }
        self.world.idle();
        self.world.check_replay(&[1, 3]);
    }
}

/// Many clients at once.
struct Crowd {
    world: World,
    clients: Clients,
    books: Books,
    /// Commands under way, by ticket.
    asked: BTreeMap<u64, Command>,
    draw: Draw,
}

impl Crowd {
    fn new(partitions: usize, seed: u64) -> Self {
        let world = World::new(partitions, rules(), START);
        let (clients, books) = (Clients::new(), Books::default());
        let mut crowd = Self { world, clients, books, asked: BTreeMap::new(), draw: Draw(seed) };
        for command in crowd.clients.opening() {
            crowd.ask(command);
        }
        crowd.rest();
        crowd
    }

    fn ask(&mut self, command: Command) {
        let ticket = self.world.submit(command.clone());
        self.asked.insert(ticket, command);
    }

    /// Takes the replies that left.
    fn listen(&mut self) {
        for (ticket, reply) in core::mem::take(&mut self.world.replies) {
            let command = self.asked.remove(&ticket).expect("EXC-1: one reply for each submission");
            assert!(reply.outcome != Outcome::SystemError, "{command:?}: {reply:?}");
            self.clients.learn(&command, &reply);
            self.books.take(&self.clients, &command, &reply);
        }
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Wait { minutes } => self.world.now = self.world.now.plus_ms(u64::from(*minutes) * 60_000),
            action => {
                if let Some(command) = self.clients.command(action) {
                    self.ask(command);
                }
            }
        }
        for _ in 0..self.draw.below(12) {
            self.world.step(&mut self.draw);
        }
        self.world.check_books();
        self.listen();
    }

    fn rest(&mut self) {
        self.world.settle();
        self.listen();
        assert!(self.asked.is_empty(), "everyone is answered: {:?}", self.asked);
    }

    /// Power fails; who got no answer asks again.
    fn crash(&mut self) {
        let partitions = 1 + self.draw.below(4);
        for ticket in self.world.crash(partitions) {
            let command = self.asked.remove(&ticket).expect("who is owed has asked");
            self.ask(command);
        }
    }

    /// At rest: the books of accounts, holds and clients agree, and replay gives the same.
    fn check(&mut self) {
        self.rest();
        let is_said = |(id, (balances, _)): (AccountId, (Balances, Status))| {
            (balances.posted != 0).then_some((id, balances.posted))
        };
        let live: BTreeMap<AccountId, i128> = stands(&self.world).into_iter().filter_map(is_said).collect();
        assert_eq!(live, self.books.posted(&self.clients), "left: core, right: what replies add up to");
        self.check_held();
        self.repeat_all();
        self.world.idle();
        self.world.check_replay(&[1, 2, 4, 8]);
    }

    /// HLD-1: what an account holds is the sum of its authorizations' holds.
    fn check_held(&self) {
        let mut held: BTreeMap<SlotIndex, u128> = BTreeMap::new();
        for (id, _) in &self.clients.authorizations {
            let view = self.world.authorization(*id).expect("in memory");
            assert!(!view.exchange_open, "EXC-1: {view:?} at rest");
            *held.entry(id.slot()).or_default() += view.held;
        }
        for slot in self.world.slots() {
            let sum: u128 = slot.accounts().iter().map(|a| a.balances.held).sum();
            assert_eq!(sum, held.get(&slot.index()).copied().unwrap_or_default(), "HLD-1: slot {:?}", slot.index());
        }
    }

    /// IDM-1: every decided command, asked again, gets its first reply.
    fn repeat_all(&mut self) {
        let decided: Vec<_> = self.books.decided.values().cloned().collect();
        let before = stands(&self.world);
        let events = self.world.journal.len();
        for (command, first) in decided {
            let reply = self.world.call(command.clone());
            assert!(reply.repeated, "{command:?}: {reply:?}");
            traffic::check_repeat(&command, &first, &reply);
        }
        self.world.replies.clear();
        assert_eq!((stands(&self.world), self.world.journal.len()), (before, events), "repeats change nothing");
    }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn one_after_another_every_reply_is_the_models(actions in actions(50), partitions in 1usize..=4) {
        Pair::new(partitions).run(&actions, 1);
    }

    #[test]
    fn many_commands_in_one_turn_are_decided_in_their_order(actions in actions(60), batch in 2usize..8) {
        Pair::new(1).run(&actions, batch);
    }

    #[test]
    fn caps_hold_and_nothing_is_lost_under_any_interleaving(
        actions in actions(60), partitions in 1usize..=4, seed in any::<u64>(),
    ) {
        let mut crowd = Crowd::new(partitions, seed);
        for action in &actions {
            crowd.act(action);
        }
        crowd.check();
    }

    #[test]
    fn crashes_at_random_points_lose_nothing_that_was_said(
        actions in actions(50), partitions in 1usize..=4, seed in any::<u64>(), crash_every in 2usize..15,
    ) {
        let mut crowd = Crowd::new(partitions, seed);
        for (n, action) in actions.iter().enumerate() {
            crowd.act(action);
            if n % crash_every == crash_every - 1 {
                crowd.crash();
            }
        }
        crowd.check();
    }
}

proptest! {
    // Four worlds a case.
    #![proptest_config(config(20))]

    #[test]
    fn the_same_commands_end_in_the_same_balances_on_any_number_of_partitions(actions in actions(40)) {
        let run = |partitions| {
            let mut pair = Pair::new(partitions);
            pair.run(&actions, 1);
            stands(&pair.world)
        };
        let one = run(1);
        for partitions in [2, 4, 8] {
            prop_assert_eq!(&run(partitions), &one);
        }
    }
}
