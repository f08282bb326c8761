//! Cold-path questions to a partition, answered between two turns.
//!
//! Owns the form of a question; refuses to know who asks. What is answered may not be durable yet: the asker waits for
//! `as_of` before it tells anybody.

use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::ids::Seq;
use tp_core::partition::Partition;

use crate::shared::Shared;

/// A question: it looks at the partition. Everything the partition holds has a number up to the given one, and everything
/// up to that number that belongs to it is in it. (Only a copy changes something: what the partition keeps for it.)
pub(crate) type Ask = Box<dyn FnOnce(&mut Partition, Seq) + Send>;

/// Asks one partition; the receiver gets the answer, or is disconnected when the partition ends first.
pub(crate) fn ask<T: Send + 'static>(
    shared: &Shared,
    partition: usize,
    look: impl FnOnce(&mut Partition, Seq) -> T + Send + 'static,
) -> Receiver<(Seq, T)> {
    let (sender, receiver): (Sender<(Seq, T)>, _) = bounded(1);
    let question = Box::new(move |partition: &mut Partition, as_of: Seq| {
        let _ = sender.send((as_of, look(partition, as_of))); // the asker may have gone
    });
    let lane = &shared.lanes[partition];
    lane.asks.push(question);
    lane.waker.wake();
    receiver
}

/// Waits for an answer; `None`: the partition ended or the engine was poisoned.
pub(crate) fn answer<T>(shared: &Shared, partition: usize, receiver: &Receiver<(Seq, T)>) -> Option<(Seq, T)> {
    loop {
        match receiver.recv_timeout(Duration::from_millis(50)) {
            // A poisoned partition's state may be ahead of the journal for ever.
            Ok(answer) => return (!shared.poison.is_set()).then_some(answer),
            Err(crossbeam::channel::RecvTimeoutError::Disconnected) => return None,
            Err(crossbeam::channel::RecvTimeoutError::Timeout) => {
                if shared.poison.is_set() {
                    return None;
                }
                if shared.lanes[partition].is_closed() {
                    return receiver.try_recv().ok();
                }
            }
        }
    }
}

/// Asks all partitions the same and waits for all answers. The number is the highest `as_of`.
pub(crate) fn ask_all<T: Send + 'static>(
    shared: &Shared,
    look: impl Fn(&Partition) -> T + Clone + Send + 'static,
) -> Option<(Seq, Vec<T>)> {
    let receivers: Vec<_> = (0..shared.lanes.len())
        .map(|index| {
            let look = look.clone();
            ask(shared, index, move |partition, _| look(partition))
        })
        .collect();
    let mut highest = Seq::ZERO;
    let mut answers = Vec::with_capacity(receivers.len());
    for (index, receiver) in receivers.iter().enumerate() {
        let (as_of, given) = answer(shared, index, receiver)?;
        highest = highest.max(as_of);
        answers.push(given);
    }
    Some((highest, answers))
}
