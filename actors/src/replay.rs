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

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::Looked;
use tp_core::codec::Events;
use tp_core::event::Event;
use tp_core::ids::{Seq, SlotIndex};
use tp_core::slot::Slot;
use tp_storage::{Frame, FrameReader};

use crate::error::ReplayError;
use crate::fold::State;

/// Frames on their way to a worker.
const FRAMES: usize = 16;

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

pub(crate) fn miscounted(frame: &Frame, held: u32) -> ReplayError {
    let (segment, offset) = (frame.location.segment, frame.location.offset);
    ReplayError::Count { segment, offset, said: frame.count, held }
}

/// Where the frames of a replay go.
pub(crate) struct Sink<'a> {
    workers: &'a [Sender<Frame>],
    /// The state holds all events up to here already.
    from: u64,
    time_max: u64,
    reached: u64,
}

impl Sink<'_> {
    /// Hands a frame to all workers. `Break`: one has stopped with an error of its own, which the replay reports.
    pub(crate) fn take(&mut self, frame: &Frame) -> ControlFlow<()> {
        if frame.last_seq() <= self.from {
            return ControlFlow::Continue(());
        }
        self.time_max = self.time_max.max(frame.time_max);
        self.reached = frame.last_seq();
        if self.workers.iter().all(|worker| worker.send(frame.clone()).is_ok()) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }
}

/// Applies the frames that `read` puts into the sink, on all cores. What `read` fails with goes first: damaged bytes are then
/// the reason for whatever a worker found.
///
/// # Errors
/// [`ReplayError`], or `read`'s own; the state is then of no use.
pub(crate) fn replay<T, E: From<ReplayError>>(
    state: &mut State,
    read: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let shares = share_out(state, workers);
    let (done, sunk, shares) = std::thread::scope(|scope| {
        let (senders, handles): (Vec<_>, Vec<_>) = shares
            .into_iter()
            .enumerate()
            .map(|(index, share)| {
                let (sender, receiver) = bounded(FRAMES);
                (sender, scope.spawn(move || run_worker(share, index, workers, &receiver)))
            })
            .unzip();
        let mut sink = Sink { workers: &senders, from: state.replayed_to, time_max: 0, reached: 0 };
        let done = read(&mut sink);
        let sunk = (sink.time_max, sink.reached);
        drop(senders);
        let stopped = |_| Err(ReplayError::Panicked);
        let shares: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap_or_else(stopped)).collect();
        (done, sunk, shares)
    });
    let done = done?;
    gather(state, first_error(shares)?);
    state.time_max = state.time_max.max(sunk.0);
    state.replayed_to = state.replayed_to.max(sunk.1);
    Ok(done)
}

/// As [`replay`], from a reader up to `last_seq`. Returns how many events were read.
///
/// # Errors
/// [`ReplayError`]; the state is then of no use, but after [`ReplayError::Short`].
pub(crate) fn replay_from(state: &mut State, reader: &mut dyn FrameReader, last_seq: u64) -> Result<u64, ReplayError> {
    let from = state.replayed_to;
    if from >= last_seq {
        return Ok(0);
    }
    replay(state, |sink| {
        while let Some(frame) = reader.next(last_seq)? {
            if sink.take(&frame).is_break() || frame.last_seq() >= last_seq {
                break;
            }
        }
        Ok::<_, ReplayError>(())
    })?;
    reached(state, last_seq)?;
    Ok(last_seq - from)
}

/// Whether the replay came to where the journal ends.
///
/// # Errors
/// [`ReplayError::Short`].
pub(crate) const fn reached(state: &State, last_seq: u64) -> Result<(), ReplayError> {
    if state.replayed_to < last_seq {
        return Err(ReplayError::Short { reached: state.replayed_to, last_seq });
    }
    Ok(())
}

/// A worker's slots: those whose number leaves its index when divided by the number of workers.
type Share = Vec<(Box<Slot>, u64)>;

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

/// Events looked at together before they are applied.
const BATCH: usize = 32;

/// One thread's part: its slots, and what it works with.
struct Worker {
    share: Share,
    index: usize,
    workers: usize,
    batch: Vec<(u64, Event)>,
    looked: Vec<(usize, Looked)>,
}

fn run_worker(share: Share, index: usize, workers: usize, frames: &Receiver<Frame>) -> Result<Share, ReplayError> {
    let (batch, looked) = (Vec::with_capacity(BATCH), Vec::with_capacity(2 * BATCH));
    let mut worker = Worker { share, index, workers, batch, looked };
    for frame in frames {
        let applied = catch_unwind(AssertUnwindSafe(|| worker.frame(&frame)));
        applied.map_err(|_| ReplayError::Panicked)??;
    }
    Ok(worker.share)
}

impl Worker {
    fn frame(&mut self, frame: &Frame) -> Result<(), ReplayError> {
        each_event(frame, |seq, event| {
            self.batch.push((seq, event));
            if self.batch.len() < BATCH { Ok(()) } else { self.apply_batch() }
        })?;
        self.apply_batch()
    }

    /// Where the worker keeps the slot; `None`: it is another one's.
    const fn place(&self, slot: SlotIndex) -> Option<usize> {
        let slot = slot.index();
        if slot % self.workers == self.index { Some(slot / self.workers) } else { None }
    }

    /// Applies the batch in order, after a look at all that it will touch: accounts lie anywhere in memory, and the waits
    /// overlap.
    fn apply_batch(&mut self) -> Result<(), ReplayError> {
        let (batch, mut looked) = (std::mem::take(&mut self.batch), std::mem::take(&mut self.looked));
        for (_, event) in &batch {
            event.body.each_leg(|leg| {
                if let Some(place) = self.place(leg.slot) {
                    let slot = &self.share[place].0;
                    looked.push((place, slot.look(slot.aim(event, leg.account))));
                }
            });
        }
        let seen = looked.iter().fold(0, |seen, (place, looked)| seen ^ self.share[*place].0.warm(*looked));
        std::hint::black_box(seen);
        let mut legs = looked.iter();
        let applied = batch.iter().try_for_each(|(seq, event)| self.apply(*seq, event, &mut legs));
        (self.batch, self.looked) = (batch, looked);
        self.batch.clear();
        self.looked.clear();
        applied
    }

    /// `legs` has what was looked up for each leg of the worker's slots, in order.
    fn apply<'a>(
        &mut self,
        seq: u64,
        event: &Event,
        legs: &mut impl Iterator<Item = &'a (usize, Looked)>,
    ) -> Result<(), ReplayError> {
        let mut applied = Ok(());
        event.body.each_leg(|leg| {
            let Some(place) = self.place(leg.slot) else { return };
            let (slot, as_of) = &mut self.share[place];
            let looked = legs.next().filter(|(looked_at, _)| *looked_at == place);
            debug_assert!(looked.is_some(), "each leg of these slots was looked up");
            slot.hint(looked.map(|(_, looked)| *looked).unwrap_or_default());
            if applied.is_ok() && seq > *as_of {
                applied = slot.evolve(event, Seq(seq), leg.role);
            }
        });
        Ok(applied?)
    }
}
