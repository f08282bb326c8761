//! The scrubber's thread: the crank of [`tp_storage::Scrubber`], at the policy's pace.
//!
//! Owns the waiting, and the counting of what was found; refuses to know what a segment is.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tp_storage::{Scrubbed, Scrubber};

use crate::config::ScrubPolicy;
use crate::shared::Shared;

/// Bytes of each copy in one step.
const STEP_BYTES: u64 = 64 << 10;
/// From the start of the engine to the first pass, if the interval is not shorter: an engine that is started often is scrubbed too.
const FIRST: Duration = Duration::from_mins(1);
/// Least time between two passes.
const REST: Duration = Duration::from_millis(10);

/// The running scrubber. It ends when `stop` is dropped.
pub(crate) struct ScrubberHandle {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) stop: Sender<()>,
}

/// Starts the scrubber.
pub(crate) fn start(shared: Arc<Shared>, scrubber: Scrubber, policy: ScrubPolicy) -> std::io::Result<ScrubberHandle> {
    let (stop, stopped) = bounded(1);
    let thread = std::thread::Builder::new().name("tp-scrub".into()).spawn(move || {
        run(&shared, scrubber, policy, &stopped);
    })?;
    Ok(ScrubberHandle { thread, stop })
}

fn run(shared: &Shared, mut scrubber: Scrubber, policy: ScrubPolicy, stopped: &Receiver<()>) {
    let mut pass_began = None;
    let mut wait = policy.interval.min(FIRST);
    while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
        let began = *pass_began.get_or_insert_with(Instant::now);
        let scrubbed = scrubber.step(STEP_BYTES);
        shared.scrub_status.lock().add(&scrubbed);
        wait = match scrubbed {
            Scrubbed::Read(bytes) => pause(bytes, policy.bytes_per_second),
            Scrubbed::PassEnded => {
                pass_began = None;
                policy.interval.saturating_sub(began.elapsed()).max(REST)
            }
            _ => pause(STEP_BYTES, policy.bytes_per_second),
        };
    }
}

/// How long so many bytes shall take.
fn pause(bytes: u64, bytes_per_second: u64) -> Duration {
    let us = u128::from(bytes) * 1_000_000 / u128::from(bytes_per_second);
    Duration::from_micros(u64::try_from(us).unwrap_or(u64::MAX))
}
