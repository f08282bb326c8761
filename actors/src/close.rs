//! Closing: drained, checkpointed, sealed, every thread joined; or stopped at once.
//!
//! Owns the order of the end; refuses to acknowledge anything that is not durable. Orderly: partitions answer `stopping`
//! and finish their exchanges; when nothing is owed any more, a checkpoint; then actors, writer, catalogue end in this
//! order, each after whatever feeds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::bounded;
use tp_core::ids::Seq;

use crate::ask::ask_all;
use crate::catalogue::CatalogueOrder;
use crate::checkpointer::CheckpointResult;
use crate::checkpointer_thread::CheckpointOrder;
use crate::error::{CheckpointFailed, CloseError};
use crate::open::Threads;
use crate::shared::{Shared, Stage};
use crate::sync::ArrayQueue;
use crate::writer_thread::WriterOrder;

/// How long an orderly close waits for exchanges and replies.
const DRAIN: Duration = Duration::from_secs(30);
/// How long the catalogue may take to end; it is rebuildable.
const CATALOGUE_WAIT: Duration = Duration::from_secs(5);

/// An engine that was closed in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// The last sequence number; it is durable.
    pub last_seq: Seq,
    /// The checkpoint taken at the close, if one was.
    pub checkpoint: Option<u64>,
}

/// Drains, checkpoints, syncs, joins every thread.
pub(crate) fn close(shared: &Arc<Shared>, threads: Threads, takes_checkpoint: bool) -> Result<Closed, CloseError> {
    shared.enter(Stage::Stopping);
    let drained = drain(shared).inspect(|()| shared.enter(Stage::Drained));
    let checkpoint = match (&drained, takes_checkpoint) {
        (Ok(()), true) if !shared.poison.is_set() => take_checkpoint(&threads),
        _ => Err(CheckpointFailed::NotKept),
    };
    let journal = stop(shared, threads);
    if let Some(cause) = shared.poison.cause() {
        return Err(cause.into());
    }
    journal.map_or(Ok(()), |result| result.map_err(CloseError::Journal))?;
    drained?;
    let last_seq = shared.last_seq();
    match checkpoint {
        Ok(done) => Ok(Closed { last_seq, checkpoint: Some(done.generation) }),
        Err(CheckpointFailed::NotKept) => Ok(Closed { last_seq, checkpoint: None }),
        Err(error) => Err(CloseError::Checkpoint(error)),
    }
}

/// Waits until no partition owes a reply or has an open exchange, and everything is durable.
fn drain(shared: &Shared) -> Result<(), CloseError> {
    let start = Instant::now();
    loop {
        let open = if shared.poison.is_set() { 0 } else { open_work(shared).unwrap_or(0) };
        if open == 0 {
            return Ok(()); // or poisoned, at which the caller looks
        }
        if start.elapsed() > DRAIN {
            let waited_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
            return Err(CloseError::NotDrained { open, waited_ms });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What is still open. Queues are looked at after the partitions: what a partition took out of one shows as its own.
fn open_work(shared: &Shared) -> Option<u64> {
    let before = shared.last_seq();
    let (_, stats) = ask_all(shared, tp_core::partition::Partition::stats)?;
    let inside: u64 = stats.iter().map(|stats| stats.exchanges_open + stats.waiting).sum();
    let queued: usize =
        shared.lanes.iter().map(|lane| lane.inbox.len() + lane.peers.iter().map(ArrayQueue::len).sum::<usize>()).sum();
    let owed: u64 = shared.lanes.iter().map(|lane| lane.counters.owed.load(std::sync::atomic::Ordering::Acquire)).sum();
    let undurable = u64::from(shared.durable.seq() < shared.last_seq() || before != shared.last_seq());
    Some(inside + queued as u64 + owed + undurable)
}

fn take_checkpoint(threads: &Threads) -> CheckpointResult {
    let Some(checkpointer) = &threads.checkpointer else { return Err(CheckpointFailed::NotKept) };
    let (reply, wait) = bounded(1);
    checkpointer.orders.send(CheckpointOrder::Take(reply)).map_err(|_| CheckpointFailed::Stopped)?;
    wait.recv().unwrap_or(Err(CheckpointFailed::Stopped))
}

/// Ends every thread. What is in the rings is still written. Returns the journal's report, if its writer ran.
pub(crate) fn stop(shared: &Shared, threads: Threads) -> Option<Result<(), tp_storage::JournalError>> {
    let Threads { checkpointer, mut system, writer, catalogue, scrubber, directory } = threads;
    shared.enter(Stage::Ended);
    if let Some(scrubber) = scrubber {
        drop(scrubber.stop);
        let _ = scrubber.thread.join(); // it only reads and rebuilds
    }
    if let Some(checkpointer) = checkpointer {
        let _ = checkpointer.orders.try_send(CheckpointOrder::Stop); // dropping the sender ends it too
        drop(checkpointer.orders);
        let _ = checkpointer.thread.join();
    }
    wait_for_partitions(shared);
    system.system.stop();
    if let Some(thread) = system.thread.take() {
        let _ = thread.join(); // a panic has poisoned the engine
    }
    for lane in &shared.lanes {
        shared.answer_leftovers(lane);
    }
    let journal = writer.map(|writer| {
        let _ = writer.orders.send(WriterOrder::Close); // a poisoned writer has gone
        shared.writer.wake();
        drop(writer.orders);
        writer.thread.join().unwrap_or(Ok(()))
    });
    shared.durable.nudge();
    if let Some(catalogue) = catalogue {
        let _ = catalogue.orders.try_send(CatalogueOrder::Stop);
        drop(catalogue.orders);
        let until = Instant::now() + CATALOGUE_WAIT;
        while !catalogue.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        if catalogue.thread.is_finished() {
            let _ = catalogue.thread.join();
        }
    }
    drop(directory);
    journal
}

/// Every actor sets `closed` as the last thing it does. One that hangs in a bug does not hold up the end for ever.
fn wait_for_partitions(shared: &Shared) {
    let until = Instant::now() + DRAIN;
    while shared.lanes.iter().any(|lane| !lane.is_closed()) && Instant::now() < until {
        for lane in &shared.lanes {
            lane.waker.wake();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
