//! The checkpointer's thread: the crank of [`CheckpointStep`], at the policy's pace.
//!
//! Owns the waiting; refuses to know what a checkpoint is made of.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tp_storage::CheckpointStore;

use crate::checkpointer::{Advance, CheckpointResult, CheckpointStep, Waits};
use crate::config::CheckpointPolicy;
use crate::shared::{Shared, Stage};
use crate::writer_thread::WriterOrder;

/// Between two looks at whether one is due.
const POLL: Duration = Duration::from_millis(100);
/// Between two looks at whether the engine still runs.
const WAIT: Duration = Duration::from_millis(50);

/// Orders to the checkpointer.
pub(crate) enum CheckpointOrder {
    Take(Sender<CheckpointResult>),
    Stop,
}

/// The running checkpointer.
pub(crate) struct CheckpointerHandle {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) orders: Sender<CheckpointOrder>,
}

/// Starts the checkpointer.
pub(crate) fn start(
    shared: Arc<Shared>,
    store: CheckpointStore,
    policy: CheckpointPolicy,
    epoch: u64,
    writer: Sender<WriterOrder>,
) -> std::io::Result<CheckpointerHandle> {
    let (orders, inbox) = bounded(16);
    let mut step = CheckpointStep::new(Arc::clone(&shared), store, policy, epoch, writer);
    let thread = std::thread::Builder::new().name("tp-checkpoint".into()).spawn(move || {
        run(&shared, &mut step, &inbox);
    })?;
    Ok(CheckpointerHandle { thread, orders })
}

fn run(shared: &Shared, step: &mut CheckpointStep, inbox: &Receiver<CheckpointOrder>) {
    loop {
        match inbox.recv_timeout(POLL) {
            Ok(CheckpointOrder::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(CheckpointOrder::Take(reply)) => {
                let _ = reply.send(take(shared, step)); // the caller may have given up
            }
            Err(RecvTimeoutError::Timeout) if step.is_due() => {
                let _ = take(shared, step); // counted; tried again when it is due again
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn take(shared: &Shared, step: &mut CheckpointStep) -> CheckpointResult {
    step.begin()?;
    let mut pace = pace(step.policy());
    // Once the engine is drained nothing else writes, and whoever closes waits for it.
    let mut pace = |bytes| {
        let ahead = pace(bytes);
        if matches!(shared.stage(), Stage::Serving | Stage::Stopping) {
            std::thread::sleep(ahead);
        }
    };
    loop {
        match step.advance(&mut pace) {
            Advance::Made => {}
            Advance::Waits(Waits::Part) => step.wait_for_part(WAIT),
            Advance::Waits(Waits::Durable(seq)) => {
                shared.durable.wait(seq, Instant::now().checked_add(WAIT), || shared.poison.is_set());
            }
            Advance::Waits(Waits::Witness) => std::thread::sleep(Duration::from_millis(1)),
            Advance::Ended(taken) => return taken,
        }
    }
}

/// How long to wait so that no more bytes have passed than the policy's rate allows, writing or reading back: the journal's disk is the
/// same one. At most a second at a time: a close does not wait for it. A number of bytes that falls begins anew.
fn pace(policy: &CheckpointPolicy) -> impl FnMut(u64) -> Duration + use<> {
    let (mut start, mut last, per_second) = (Instant::now(), 0, u128::from(policy.bytes_per_second));
    move |bytes| {
        if bytes < last {
            start = Instant::now();
        }
        last = bytes;
        let due_us = u128::from(bytes) * 1_000_000 / per_second;
        let ahead_us = due_us.saturating_sub(start.elapsed().as_micros());
        let ahead_us = if ahead_us > 1_000 { ahead_us.min(1_000_000) } else { 0 };
        Duration::from_micros(u64::try_from(ahead_us).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ahead_of_the_rate_waits_a_second_at_most_and_what_begins_anew_does_not() {
        let mut pace = pace(&CheckpointPolicy { bytes_per_second: 1 << 20, ..CheckpointPolicy::off() });
        assert_eq!(pace(0), Duration::ZERO);
        assert_eq!(pace(600 << 20), Duration::from_secs(1), "ten minutes ahead");
        assert_eq!(pace(1 << 10), Duration::ZERO, "a file is read back from its start");
    }
}
