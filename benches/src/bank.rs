//! A bank in memory: partitions in one thread, without journal, clock or queues.
//!
//! Owns the driving of `tp-core`'s turns and what they made; refuses to know storage and actors. The caller decides what is
//! timed: preparing commands and reading answers lies outside [`Bank::turn`].
//!
//! ```text
//! Vec<Submission> --turn (decide, evolve), stamp--> Output { events, answers, messages }
//! ```

use std::sync::Arc;

use tp_core::command::Command;
use tp_core::ids::{AccountId, Seq, SlotIndex, SlotSeed};
use tp_core::key::Key;
use tp_core::partition::Partition;
use tp_core::reply::Reply;
use tp_core::rules::Rules;
use tp_core::scope::Carried;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_core::turn::{Admission, Message, Output, Submission, Turn};

use crate::make;

/// The seed of the hash from account to slot.
pub const SEED: SlotSeed = SlotSeed([7; 16]);
/// Commands of one turn unless said otherwise: what a loaded engine's turns hold.
pub const BATCH: usize = 128;
/// So many commands are decided in each millisecond of engine time.
pub const COMMANDS_PER_MS: u64 = 512;
/// Far beyond any deadline.
const NEVER_MS: u64 = u64::MAX >> 1;

/// Partitions and what their last turn made.
pub struct Bank {
    partitions: Vec<Partition>,
    /// What the last turn made. Empty it with the next one.
    pub out: Output,
    accounts: Vec<AccountId>,
    last_seq: u64,
    commands: u64,
    keys: u64,
    random: make::Random,
}

impl Bank {
    /// So many partitions and open accounts without limits, numbered from 0.
    pub fn new(partitions: usize, accounts: u64) -> Self {
        Self::with_accounts(partitions, (0..accounts).map(make::account).collect())
    }

    /// So many partitions and these accounts, open and without limits. The slots are dealt out in turn, as the engine deals
    /// them.
    pub fn with_accounts(partitions: usize, accounts: Vec<AccountId>) -> Self {
        Self::with_rules(partitions, accounts, Rules::default())
    }

    /// The same under rules that are not the default.
    pub fn with_rules(partitions: usize, accounts: Vec<AccountId>, rules: Rules) -> Self {
        let rules = Arc::new(rules);
        let mut shares: Vec<Vec<Slot>> = (0..partitions).map(|_| Vec::new()).collect();
        for index in SlotIndex::all() {
            shares[index.index() % partitions].push(Slot::new(index, SEED, rules.windows));
        }
        let partitions = shares.into_iter().map(|share| Partition::new(SEED, Arc::clone(&rules), share)).collect();
        let (out, random) = (Output::default(), make::Random(1));
        let mut bank = Self { partitions, out, accounts: Vec::new(), last_seq: 0, commands: 0, keys: 0, random };
        let opened = bank.run(accounts.iter().copied(), |_, key, account| make::open(key, account));
        bank.adopt(accounts);
        assert!(opened.iter().all(|(_, reply)| reply.outcome.is_approval()), "every account is opened");
        bank
    }

    /// Takes over accounts that its own commands opened.
    pub fn adopt(&mut self, accounts: Vec<AccountId>) {
        self.accounts = accounts;
    }
    /// Engine time: it advances with the commands.
    pub const fn now(&self) -> Time {
        make::START.plus_ms(self.commands / COMMANDS_PER_MS)
    }
    /// The last sequence number given out.
    pub const fn last_seq(&self) -> Seq {
        Seq(self.last_seq)
    }
    /// A new key.
    pub const fn key(&mut self) -> Key {
        self.keys += 1;
        make::key(self.now(), self.keys)
    }
    /// Some account.
    pub fn account(&mut self) -> AccountId {
        let n = self.random.below(self.accounts.len() as u64);
        self.accounts[usize::try_from(n).expect("below a usize")]
    }
    /// Some other account.
    pub fn other(&mut self, than: AccountId) -> AccountId {
        loop {
            let account = self.account();
            if account != than {
                return account;
            }
        }
    }
    /// Some account whose slot this partition owns.
    pub fn account_of(&mut self, partition: usize) -> AccountId {
        loop {
            let account = self.account();
            if self.home(SEED.slot_of(account)) == partition {
                return account;
            }
        }
    }
    /// Commands decided so far.
    pub const fn commands(&self) -> u64 {
        self.commands
    }
    /// An amount from 1 to 10,000 minor units.
    pub const fn minor(&mut self) -> u64 {
        1 + self.random.below(10_000)
    }
    /// The partition that owns a slot.
    pub fn home(&self, slot: SlotIndex) -> usize {
        slot.index() % self.partitions.len()
    }
    /// A partition.
    pub fn partition(&self, index: usize) -> &Partition {
        &self.partitions[index]
    }

    /// A command as a partition takes it.
    pub fn submission(ticket: u64, command: Command) -> Submission {
        Submission { ticket, deadline_ms: NEVER_MS, scope: Carried::default(), command }
    }

    /// One turn of a partition over messages and the front of `commands`, and its numbers: what [`Bank::out`] holds before
    /// it is lost.
    pub fn turn(
        &mut self,
        partition: usize,
        messages: &mut dyn Iterator<Item = Message>,
        commands: &mut dyn Iterator<Item = Submission>,
    ) {
        let turn = Turn { now: self.now(), monotonic_ms: 0, expiries_max: BATCH, admission: Admission::Open };
        self.out.clear();
        let partition = &mut self.partitions[partition];
        partition.turn(turn, messages, commands, &mut self.out).expect("RPL-1: evolve follows decide");
        partition.stamp(Seq(self.last_seq + 1), &mut self.out);
        self.last_seq += self.out.events.len() as u64;
        self.commands += self.out.answers.len() as u64;
    }

    /// Decides a command for each of `items` in turns of [`BATCH`], exchanges to their end; the replies by item, in the order
    /// of the answers.
    pub fn run<T: Copy>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut make: impl FnMut(&mut Self, Key, T) -> Command,
    ) -> Vec<(T, Reply)> {
        let items: Vec<T> = items.into_iter().collect();
        let mut replies = Vec::with_capacity(items.len());
        for (n, chunk) in items.chunks(BATCH).enumerate() {
            let mut homes: Vec<Vec<Submission>> = self.partitions.iter().map(|_| Vec::new()).collect();
            for (k, item) in chunk.iter().enumerate() {
                let key = self.key();
                let command = make(self, key, *item);
                let home = command.slot(&SEED).map_or(0, |slot| self.home(slot));
                homes[home].push(Self::submission((n * BATCH + k) as u64, command));
            }
            for (home, submissions) in homes.into_iter().enumerate() {
                self.settle(home, submissions, |ticket, reply| {
                    let item = usize::try_from(ticket).expect("an index of `items`");
                    replies.push((items[item], reply));
                });
            }
        }
        assert_eq!(replies.len(), items.len(), "EXC-1: every command is answered");
        replies
    }

    /// A turn over these commands, and then as many over the messages that follow as it takes.
    pub fn settle(&mut self, home: usize, submissions: Vec<Submission>, mut each: impl FnMut(u64, Reply)) {
        self.turn(home, &mut std::iter::empty(), &mut submissions.into_iter());
        let mut waiting: Vec<Message> = Vec::new();
        loop {
            for answer in self.out.answers.drain(..) {
                each(answer.ticket, answer.reply);
            }
            waiting.append(&mut self.out.messages);
            let Some(to) = waiting.first().map(|message| self.home(message.to())) else { return };
            let (taken, left) = waiting.into_iter().partition::<Vec<_>, _>(|message| self.home(message.to()) == to);
            waiting = left;
            self.turn(to, &mut taken.into_iter(), &mut std::iter::empty());
        }
    }

    /// Asserts what must hold between turns.
    ///
    /// # Panics
    /// When a slot contradicts itself, or money was made or lost (LED-1).
    pub fn check(&self) {
        let mut sum = 0;
        for slot in self.partitions.iter().flat_map(Partition::slots) {
            slot.validate().expect("a slot is valid after every turn");
            slot.validate_order().expect("every key can leave");
            sum += slot.accounts().iter().map(|account| account.balances.posted).sum::<i128>();
            sum += slot.in_transit().iter().map(|(_, transit)| transit).sum::<i128>();
        }
        assert_eq!(sum, 0, "LED-1: what is debited is credited");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_core::outcome::Outcome;

    #[test]
    fn transfers_between_partitions_come_to_their_end_and_the_books_balance() {
        let mut bank = Bank::new(3, 60);
        let replies = bank.run(0..500, |bank, key, n: u64| {
            let payer = bank.account_of(0);
            let payee = bank.account_of(usize::from(!n.is_multiple_of(2)) + 1);
            let minor = bank.minor();
            make::transfer(key, payer, payee, minor)
        });
        assert!(replies.iter().all(|(_, reply)| reply.outcome == Outcome::Approved));
        assert!(bank.last_seq().0 > 60 + 2 * 500, "an open and an answer for each, and ends");
        bank.check();
    }
}
