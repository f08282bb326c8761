//! Replies that wait until what they reveal is durable (J2, DUR-1), in the order of their decisions.
//!
//! Owns the first-in-first-out queue of one partition and its deadlines; refuses to know who asked. An answer behind one
//! that waits for a higher number waits with it: later than needed, never earlier.

use std::collections::VecDeque;

use tp_core::ids::Seq;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::turn::Answer;

/// The answers of one partition that wait.
#[derive(Default)]
pub(crate) struct Held {
    queue: VecDeque<Answer>,
    /// No deadline of a waiting answer is earlier.
    deadline_ms_min: u64,
}

impl Held {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn hold(&mut self, answer: Answer) {
        debug_assert!(!answer.after.is_provisional());
        let only = self.queue.is_empty();
        self.deadline_ms_min = if only { answer.deadline_ms } else { self.deadline_ms_min.min(answer.deadline_ms) };
        self.queue.push_back(answer);
    }

    /// Hands over what no longer waits.
    pub(crate) fn release(&mut self, durable: Seq, mut deliver: impl FnMut(u64, Reply)) {
        while self.queue.front().is_some_and(|answer| answer.after <= durable) {
            if let Some(answer) = self.queue.pop_front() {
                deliver(answer.ticket, answer.reply);
            }
        }
    }

    /// Whose deadline has passed is told that its outcome is not known yet.
    pub(crate) fn sweep(&mut self, monotonic_ms: u64, mut deliver: impl FnMut(u64, Reply)) {
        if self.queue.is_empty() || monotonic_ms < self.deadline_ms_min {
            return;
        }
        let mut earliest = u64::MAX;
        self.queue.retain(|answer| {
            let stays = answer.deadline_ms > monotonic_ms;
            if stays {
                earliest = earliest.min(answer.deadline_ms);
            } else {
                deliver(answer.ticket, Reply::bare(Outcome::InProgress));
            }
            stays
        });
        self.deadline_ms_min = earliest;
    }

    /// Nothing more will become durable.
    pub(crate) fn abandon(&mut self, mut deliver: impl FnMut(u64, Reply)) {
        for answer in self.queue.drain(..) {
            deliver(answer.ticket, Reply::bare(Outcome::InProgress));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(ticket: u64, after: u64, deadline_ms: u64) -> Answer {
        Answer { ticket, deadline_ms, after: Seq(after), reply: Reply::bare(Outcome::Approved) }
    }

    fn released(held: &mut Held, durable: u64) -> Vec<u64> {
        let mut tickets = Vec::new();
        held.release(Seq(durable), |ticket, _| tickets.push(ticket));
        tickets
    }

    #[test]
    fn no_reply_leaves_before_its_number_is_durable_and_none_overtakes() {
        let mut held = Held::default();
        for (ticket, after) in [(1, 5), (2, 7), (3, 6), (4, 9)] {
            held.hold(answer(ticket, after, 1000));
        }
        assert!(released(&mut held, 4).is_empty());
        assert_eq!(released(&mut held, 6), [1]);
        assert_eq!(released(&mut held, 8), [2, 3]);
        assert_eq!((released(&mut held, 9), held.len()), (vec![4], 0));
    }

    #[test]
    fn a_passed_deadline_says_in_progress_once() {
        let mut held = Held::default();
        held.hold(answer(1, 5, 100));
        held.hold(answer(2, 6, 50));
        held.hold(answer(3, 7, 200));
        let mut swept = Vec::new();
        held.sweep(49, |ticket, reply| swept.push((ticket, reply.outcome)));
        assert!(swept.is_empty());
        held.sweep(100, |ticket, reply| swept.push((ticket, reply.outcome)));
        assert_eq!(swept, [(1, Outcome::InProgress), (2, Outcome::InProgress)]);
        assert_eq!(released(&mut held, 9), [3]);
        held.hold(answer(4, 10, 500));
        let mut abandoned = Vec::new();
        held.abandon(|ticket, reply| abandoned.push((ticket, reply.outcome)));
        assert_eq!((abandoned, held.len()), (vec![(4, Outcome::InProgress)], 0));
    }
}
