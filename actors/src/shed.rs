//! Which waiting commands are not worth deciding any more, so that a partition under more load than its journal takes goes on
//! answering as many as the journal takes.
//!
//! Owns two rules and what they are measured by; refuses to know queues and clocks. A command that is shed was not decided and never
//! will be. Time is passed in, ms.
//!
//! - **Too late.** While events of this partition wait for the disk, a command whose deadline comes sooner than its events would be
//!   durable is `deadline_exceeded` now (an exchange counts twice: its events come in several turns; a read has none). Deciding it
//!   would cost the journal what a later command needs, for an `in_progress`: under overload, nearly all that is decided would
//!   be told nobody in time.
//! - **Waited too long.** Once turns have left some in a queue for [`STANDS_MS`] since it was more than half full (or held more than
//!   [`MANY`]), it is no burst that passes and no client that waits for replies before it sends more, but a load that stays:
//!   what waited longer than `Config::queue_wait_ms_max`, or twice what the disk takes where that is more, is `busy`. So the
//!   queue is short when the load ends. (Controlled delay, as in Nichols and Jacobson, `CoDel`, 2012, in the form for servers of
//!   Maurer, "Fail at Scale", 2015.)
//!
//! ```text
//!  queue --> shed? --> turn --> events --> disk --> durable
//!              ^-- how long the last ones took ------+
//! ```

use std::collections::VecDeque;

/// A queue of which turns left some for so long stands, ms.
pub(crate) const STANDS_MS: u64 = 1_000;

/// So many waiting commands are many, however many may wait.
const MANY: usize = 4_096;

/// What is to become of a waiting command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worth {
    /// It is decided.
    Taken,
    /// `deadline_exceeded`.
    TooLate,
    /// `busy`.
    WaitedTooLong,
}

/// What a command leaves in the journal, and how often it waits for the disk until all of it is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Events {
    /// Nothing: it only reads.
    None = 0,
    /// The event of one turn.
    OneTurn = 1,
    /// An exchange's: with the other partition's in between.
    Exchange = 2,
}

/// What one turn goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Measure {
    now_ms: u64,
    /// How long events take to be durable.
    takes_ms: u64,
    /// What came before this one waited too long.
    since_ms_min: u64,
}

impl Measure {
    /// Of a command that waits since then, until then.
    pub(crate) const fn of(self, since_ms: u64, deadline_ms: u64, events: Events) -> Worth {
        if deadline_ms <= self.now_ms.saturating_add(self.takes_ms.saturating_mul(events as u64)) {
            Worth::TooLate
        } else if since_ms < self.since_ms_min {
            Worth::WaitedTooLong
        } else {
            Worth::Taken
        }
    }
}

/// What a partition knows of its own queue and of the disk.
#[derive(Default)]
pub(crate) struct Shed {
    /// Since when the queue stands, and when some were left in it the last time.
    stands_ms: Option<(u64, u64)>,
    turned_ms: u64,
    /// Turns whose events are not durable: last number, when. As many as the ring and a group hold.
    under_way: VecDeque<(u64, u64)>,
    /// How long the events of the last turns took, and of those that became durable before them.
    took_ms: [u64; 2],
}

impl Shed {
    /// A turn begins; a command may wait so long where the queue stands.
    pub(crate) fn begin(&mut self, now_ms: u64, wait_ms_max: u64) -> Measure {
        // While no turn could start the disk stood still: what waits did not wait for others, or not for longer than this.
        let stood_ms = (now_ms - self.turned_ms.min(now_ms)).saturating_sub(wait_ms_max);
        // Where all was taken for so long the load is over. (One partition of several takes all at times, whatever the load.)
        let is_over = |left_ms: u64| now_ms > left_ms.saturating_add(wait_ms_max);
        let shifted = self.stands_ms.map(|(since_ms, left_ms)| (since_ms + stood_ms, left_ms + stood_ms));
        self.stands_ms = shifted.filter(|(_, left_ms)| !is_over(*left_ms));
        self.turned_ms = now_ms;
        let stands = self.stands_ms.is_some_and(|(since_ms, _)| now_ms >= since_ms + STANDS_MS);
        let took_ms = self.took_ms[0].max(self.took_ms[1]);
        let takes_ms = if self.under_way.is_empty() { 0 } else { took_ms };
        let wait_ms = wait_ms_max.max(2 * took_ms);
        Measure { now_ms, takes_ms, since_ms_min: if stands { now_ms.saturating_sub(wait_ms) } else { 0 } }
    }

    /// The turn has taken what it may, and left so many of those that may wait.
    pub(crate) fn took(&mut self, left: usize, most: usize, now_ms: u64) {
        self.stands_ms = match self.stands_ms {
            Some((since_ms, _)) if left > 0 => Some((since_ms, now_ms)),
            None if left > MANY.min(most / 2) => Some((now_ms, now_ms)),
            as_it_is => as_it_is,
        };
    }

    /// Its events, up to that number, are on their way to the disk.
    pub(crate) fn decided(&mut self, last_seq: u64, now_ms: u64) {
        self.under_way.push_back((last_seq, now_ms));
    }

    /// All up to that number is durable.
    pub(crate) fn durable(&mut self, seq: u64, now_ms: u64) {
        let mut took_ms = None;
        while let Some((_, decided_ms)) = self.under_way.pop_front_if(|(last_seq, _)| *last_seq <= seq) {
            took_ms = took_ms.max(Some(now_ms.saturating_sub(decided_ms)));
        }
        if let Some(took_ms) = took_ms {
            self.took_ms = [took_ms, self.took_ms[0]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Events::{Exchange, None as Nothing, OneTurn};

    #[test]
    fn what_cannot_be_durable_in_time_is_too_late_while_something_is_under_way() {
        let mut shed = Shed::default();
        assert_eq!(shed.begin(1_000, 150).of(1_000, 1_001, OneTurn), Worth::Taken, "nothing is known of the disk");
        shed.decided(10, 1_000);
        shed.durable(9, 1_030);
        assert_eq!(shed.begin(1_030, 150).of(1_030, 1_031, OneTurn), Worth::Taken, "nothing was durable yet");
        shed.durable(10, 1_040);
        assert_eq!(
            shed.begin(1_040, 150).of(1_040, 1_041, OneTurn),
            Worth::Taken,
            "the disk is idle: nothing is taken away by trying"
        );
        shed.decided(20, 1_040);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_081, OneTurn), Worth::TooLate);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_082, OneTurn), Worth::Taken);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_121, Exchange), Worth::TooLate);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_122, Exchange), Worth::Taken);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_042, Nothing), Worth::Taken);
        assert_eq!(shed.begin(1_041, 150).of(1_041, 1_041, Nothing), Worth::TooLate, "it has passed");
    }

    #[test]
    fn a_stall_is_forgotten_after_two_turns_that_were_faster() {
        let mut shed = Shed::default();
        shed.decided(1, 0);
        shed.durable(1, 30_000);
        for seq in [2, 3] {
            shed.decided(seq, 30_000);
            assert_eq!(shed.begin(30_000, 150).of(30_000, 40_000, OneTurn), Worth::TooLate);
            shed.durable(seq, 30_002);
        }
        shed.decided(4, 30_002);
        assert_eq!(shed.begin(30_002, 150).of(30_002, 30_005, OneTurn), Worth::Taken);
    }

    #[test]
    fn only_a_queue_that_stands_sheds_what_waited_too_long() {
        let mut shed = Shed::default();
        for now_ms in (0..=1_000).step_by(100) {
            assert_eq!(
                shed.begin(now_ms, 150).of(0, 60_000, OneTurn),
                if now_ms < 1_000 { Worth::Taken } else { Worth::WaitedTooLong }
            );
            assert_eq!(shed.begin(now_ms, 150).of(now_ms.saturating_sub(150), 60_000, OneTurn), Worth::Taken);
            shed.took(if now_ms == 0 { 6 } else { 1 }, 10, now_ms);
        }
        for now_ms in [1_050, 1_150] {
            assert_eq!(shed.begin(now_ms, 150).of(0, 60_000, OneTurn), Worth::WaitedTooLong, "it was empty once");
            shed.took(0, 10, now_ms);
        }
        assert_eq!(shed.begin(1_151, 150).of(0, 60_000, OneTurn), Worth::Taken, "it was empty since");
    }

    #[test]
    fn a_queue_that_is_never_more_than_half_full_sheds_nothing() {
        let mut shed = Shed::default();
        for now_ms in (0..=5_000).step_by(100) {
            assert_eq!(shed.begin(now_ms, 150).of(0, 60_000, OneTurn), Worth::Taken);
            shed.took(5, 10, now_ms);
        }
        shed.took(MANY, 1 << 20, 5_000);
        assert_eq!(shed.stands_ms, None);
        shed.took(MANY + 1, 1 << 20, 5_000);
        assert_eq!(shed.stands_ms, Some((5_000, 5_000)), "a long queue needs not be half full");
    }

    /// A disk whose syncs took longer than commands may wait was taken for one that stood still, each time anew: under a load of
    /// twice what it took, the queue was as long as its bound allowed.
    #[test]
    fn a_disk_that_is_slow_all_the_time_is_no_excuse_and_its_pace_is_allowed_for() {
        let mut shed = Shed::default();
        for turn in 0..=10 {
            let now_ms = turn * 400;
            shed.durable(turn, now_ms);
            let worth = shed.begin(now_ms, 100).of(now_ms.saturating_sub(801), 60_000, Nothing);
            assert_eq!(worth, if turn < 10 { Worth::Taken } else { Worth::WaitedTooLong }, "{turn}");
            assert_eq!(shed.begin(now_ms, 100).of(now_ms.saturating_sub(800), 60_000, Nothing), Worth::Taken, "{turn}");
            shed.decided(turn + 1, now_ms);
            shed.took(6, 10, now_ms);
        }
    }

    #[test]
    fn what_waited_for_a_disk_that_stood_still_is_decided() {
        let mut shed = Shed::default();
        for now_ms in (0..900).step_by(100) {
            shed.begin(now_ms, 150);
            shed.took(10, 10, now_ms);
        }
        assert_eq!(shed.begin(2_000, 150).of(0, 60_000, OneTurn), Worth::Taken);
    }
}
