//! Replay: events of the journal into the state, on all cores.
//!
//! Owns the threads of a replay: one reads frames, each worker decodes them and applies the legs of its own slots, in the
//! order of numbers. Refuses to decide. J4: the result does not depend on the number of workers, since a leg touches
//! only its own slot.
//!
//! ```text
//!  reader --frames--> worker 0: slots 0, n, 2n, ..
//!        +--frames--> worker 1: slots 1, n+1, ..
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::codec::Events;
use tp_core::event::Event;
use tp_core::ids::Seq;
use tp_core::slot::Slot;
use tp_storage::{Frame, FrameReader};

use crate::error::ReplayError;
use crate::fold::State;

/// Frames on their way to a worker.
const FRAMES: usize = 64;

/// The events of a frame with their numbers.
///
/// # Errors
/// [`ReplayError`]: bytes that are no event, another number of events than the header says, or `each`'s own.
pub(crate) fn each_event(
    frame: &Frame,
    mut each: impl FnMut(u64, Event) -> Result<(), ReplayError>,
) -> Result<(), ReplayError> {
    let mut held = 0;
    for decoded in Events::new(frame.payload()) {
        let seq = frame.first_seq + u64::from(held);
        let event = decoded.map_err(|source| ReplayError::Decode {
            seq,
            segment: frame.location.segment,
            offset: frame.location.offset,
            source,
        })?;
        held += 1;
        if held > frame.count {
            break;
        }
        each(seq, event)?;
    }
    if held == frame.count { Ok(()) } else { Err(miscounted(frame, held)) }
}

fn miscounted(frame: &Frame, held: u32) -> ReplayError {
    let (segment, offset) = (frame.location.segment, frame.location.offset);
    ReplayError::Count { segment, offset, said: frame.count, held }
}

/// Applies all frames up to `last_seq` with that many workers. Returns how many events were read.
///
/// # Errors
/// [`ReplayError`]; the state is then of no use.
pub(crate) fn replay(
    state: &mut State,
    reader: &mut dyn FrameReader,
    last_seq: u64,
    workers: usize,
) -> Result<u64, ReplayError> {
    if state.replayed_to >= last_seq {
        return Ok(0);
    }
    let workers = workers.max(1);
    let from = state.replayed_to;
    let shares = share_out(state, workers);
    let result: Result<_, ReplayError> = std::thread::scope(|scope| {
        let (senders, handles): (Vec<_>, Vec<_>) = shares
            .into_iter()
            .enumerate()
            .map(|(index, share)| {
                let (sender, receiver) = bounded(FRAMES);
                (sender, scope.spawn(move || run_worker(share, index, workers, &receiver)))
            })
            .unzip();
        let read = feed(reader, last_seq, &senders);
        drop(senders);
        let mut shares = Vec::with_capacity(workers);
        for handle in handles {
            shares.push(handle.join().map_err(|_| ReplayError::Panicked).and_then(|share| share));
        }
        // A worker that stopped makes the reader stop early: its error is the one to report, the lowest number first.
        let shares = first_error(shares)?;
        Ok((read?, shares))
    });
    let ((time_max, reached), shares) = result?;
    gather(state, shares);
    state.time_max = state.time_max.max(time_max);
    state.replayed_to = state.replayed_to.max(reached);
    if reached < last_seq {
        return Err(ReplayError::Short { reached, last_seq });
    }
    Ok(last_seq - from)
}

/// A worker's slots: those whose number leaves its index when divided by the number of workers.
type Share = Vec<(Slot, u64)>;

fn share_out(state: &mut State, workers: usize) -> Vec<Share> {
    let mut shares: Vec<Share> = (0..workers).map(|_| Vec::new()).collect();
    for (index, pair) in state.slots.drain(..).zip(state.as_of.iter().copied()).enumerate() {
        shares[index % workers].push(pair);
    }
    shares
}

fn gather(state: &mut State, shares: Vec<Share>) {
    let workers = shares.len();
    let mut iterators: Vec<_> = shares.into_iter().map(Vec::into_iter).collect();
    for index in 0..state.as_of.len() {
        if let Some((slot, _)) = iterators[index % workers].next() {
            state.slots.push(slot);
        }
    }
    assert_eq!(state.slots.len(), state.as_of.len(), "every slot comes back from its worker");
}

fn first_error(shares: Vec<Result<Share, ReplayError>>) -> Result<Vec<Share>, ReplayError> {
    let seq_of = |error: &ReplayError| match error {
        ReplayError::Evolve(evolve) => evolve.seq,
        ReplayError::Decode { seq, .. } => *seq,
        _ => 0,
    };
    let mut good = Vec::with_capacity(shares.len());
    let mut worst: Option<ReplayError> = None;
    for share in shares {
        match share {
            Ok(share) => good.push(share),
            Err(error) => {
                if worst.as_ref().is_none_or(|known| seq_of(&error) < seq_of(known)) {
                    worst = Some(error);
                }
            }
        }
    }
    worst.map_or(Ok(good), Err)
}

/// Reads frames and hands each to all workers. Returns the largest event time and the last number reached.
fn feed(reader: &mut dyn FrameReader, last_seq: u64, workers: &[Sender<Frame>]) -> Result<(u64, u64), ReplayError> {
    let (mut time_max, mut reached) = (0, 0);
    while let Some(frame) = reader.next(last_seq)? {
        time_max = time_max.max(frame.time_max);
        reached = frame.last_seq();
        for worker in workers {
            if worker.send(frame.clone()).is_err() {
                return Ok((time_max, reached)); // it has stopped with an error of its own
            }
        }
        if reached >= last_seq {
            break;
        }
    }
    Ok((time_max, reached))
}

/// Events looked at together before they are applied.
const BATCH: usize = 32;

fn run_worker(mut share: Share, index: usize, workers: usize, frames: &Receiver<Frame>) -> Result<Share, ReplayError> {
    let mut batch: Vec<(u64, Event)> = Vec::with_capacity(BATCH);
    for frame in frames {
        let applied = catch_unwind(AssertUnwindSafe(|| {
            each_event(&frame, |seq, event| {
                batch.push((seq, event));
                if batch.len() < BATCH { Ok(()) } else { apply_all(&mut share, index, workers, &mut batch) }
            })?;
            apply_all(&mut share, index, workers, &mut batch)
        }));
        applied.map_err(|_| ReplayError::Panicked)??;
    }
    Ok(share)
}

/// Applies a batch in order, after a look at all that it will touch: accounts lie anywhere in memory, and the waits overlap.
fn apply_all(
    share: &mut Share,
    index: usize,
    workers: usize,
    batch: &mut Vec<(u64, Event)>,
) -> Result<(), ReplayError> {
    let mut seen = 0;
    for (_, event) in &*batch {
        event.body.each_leg(|leg| {
            let slot = leg.slot.index();
            if slot % workers == index {
                seen ^= share[slot / workers].0.warm(event, leg.account);
            }
        });
    }
    std::hint::black_box(seen);
    batch.drain(..).try_for_each(|(seq, event)| apply(share, index, workers, seq, &event))
}

fn apply(share: &mut Share, index: usize, workers: usize, seq: u64, event: &Event) -> Result<(), ReplayError> {
    let mut applied = Ok(());
    event.body.each_leg(|leg| {
        let slot = leg.slot.index();
        if applied.is_err() || slot % workers != index {
            return;
        }
        let (slot, as_of) = &mut share[slot / workers];
        if seq > *as_of {
            applied = slot.evolve(event, Seq(seq), leg.role);
        }
    });
    Ok(applied?)
}
