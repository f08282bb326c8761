//! The state as a fold over events: all slots, each with the number that it already holds events up to.
//!
//! Owns the bare state without partitions and threads, from nothing or from a checkpoint; refuses to know where events
//! come from. RPL-1: a leg of slot s applies when its number is above `as_of(s)`, in the order of numbers.

use tp_core::EvolveError;
use tp_core::digest::StateDigest;
use tp_core::event::Event;
use tp_core::ids::{AccountId, AuthorizationId, SLOTS, Seq, SlotIndex};
use tp_core::reply::{AccountView, AuthorizationView};
use tp_core::restore::SlotBuilder;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_storage::{Checkpoint, CheckpointError, CheckpointStore, Page, Problem};

use crate::parameters::Parameters;
use crate::status::LedgerTotals;

/// What the engine adds to a checkpoint: the durable prefix when it began.
///
/// ```text
/// 0             8           16
/// | durable seq | time max  |   little-endian; time max is the largest event time up to durable seq
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CheckpointExtra {
    pub(crate) durable_seq: u64,
    pub(crate) time_max: u64,
}

impl CheckpointExtra {
    pub(crate) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.durable_seq.to_le_bytes());
        bytes[8..].copy_from_slice(&self.time_max.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (seq, time) = bytes.split_at_checked(8)?;
        let word = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
        Some(Self { durable_seq: word(seq)?, time_max: word(time)? })
    }
}

/// Slots that partitions and replays take over as they are.
#[allow(clippy::vec_box, reason = "a slot is more than a kilobyte, and all of them change hands at every start")]
pub(crate) type Slots = Vec<Box<Slot>>;

/// All slots, in order.
pub(crate) struct State {
    pub(crate) parameters: Parameters,
    pub(crate) slots: Slots,
    /// Each slot holds all its events up to this number, and none above.
    pub(crate) as_of: Vec<u64>,
    /// The largest event time so far.
    pub(crate) time_max: u64,
    /// Replay starts behind this number.
    pub(crate) replayed_to: u64,
}

impl State {
    /// Of an empty journal.
    pub(crate) fn empty(parameters: Parameters) -> Self {
        let slot = |index| Box::new(Slot::new(index, parameters.seed, parameters.windows));
        let slots = SlotIndex::all().map(slot).collect();
        Self { parameters, slots, as_of: vec![0; usize::from(SLOTS)], time_max: 0, replayed_to: 0 }
    }

    /// Of a checkpoint's slots, each with where it belongs and its `as_of`. `Err`: what is wrong with it.
    fn from_slots(
        parameters: Parameters,
        checkpoint: &Checkpoint,
        slots: impl Iterator<Item = (usize, Box<Slot>, u64)>,
    ) -> Result<Self, String> {
        let extra = CheckpointExtra::decode(&checkpoint.extra).ok_or("its extra part is not ours")?;
        if extra.durable_seq > checkpoint.as_of_min {
            return Err("it begins above one of its slots".to_owned());
        }
        let mut state = Self::empty(parameters);
        let mut missing: std::collections::BTreeSet<_> = (0..state.slots.len()).collect();
        for (index, slot, as_of) in slots {
            if slot.index().index() != index || !missing.remove(&index) {
                return Err(format!("slot {index} is not where it belongs"));
            }
            (state.slots[index], state.as_of[index]) = (slot, as_of);
        }
        if let Some(index) = missing.first() {
            return Err(format!("slot {index} is missing"));
        }
        (state.replayed_to, state.time_max) = (extra.durable_seq, extra.time_max);
        Ok(state)
    }

    /// Applies an event's legs.
    ///
    /// # Errors
    /// [`EvolveError`]: it does not follow from the state.
    pub(crate) fn apply(&mut self, event: &Event, seq: u64) -> Result<(), EvolveError> {
        let Self { slots, as_of, .. } = self;
        let mut applied = Ok(());
        event.body.each_leg(|leg| {
            let index = leg.slot.index();
            if applied.is_ok() && seq > as_of[index] {
                applied = slots[index].evolve(event, Seq(seq), leg.role);
            }
        });
        self.time_max = self.time_max.max(event.time.0);
        self.replayed_to = seq;
        applied
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().map(Box::as_ref)
    }

    pub(crate) fn slot_of(&self, account: AccountId) -> &Slot {
        &self.slots[self.parameters.seed.slot_of(account).index()]
    }

    pub(crate) fn account(&self, account: AccountId) -> Option<AccountView> {
        self.slot_of(account).account(account)
    }

    pub(crate) fn authorization(&self, authorization: AuthorizationId) -> Option<AuthorizationView> {
        self.slots[authorization.slot().index()].authorization(authorization)
    }

    pub(crate) fn accounts(&self) -> Vec<AccountView> {
        let mut all: Vec<_> = self.slots().flat_map(Slot::accounts).collect();
        all.sort_unstable_by_key(|view| view.account);
        all
    }

    pub(crate) fn trial_balance(&self) -> Vec<LedgerTotals> {
        LedgerTotals::of(self.slots().flat_map(Slot::totals))
    }

    pub(crate) fn digest(&self) -> StateDigest {
        let at = Time(self.time_max);
        StateDigest::of_slots(self.slots.iter().map(|slot| slot.digest(at)))
    }
}

/// The newest checkpoint that can be used, and what was said on the way to it.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Which generation; `None`: none, the whole journal serves.
    pub(crate) generation: Option<u64>,
    /// The highest number that the footer of a checkpoint shows to be durable, whether its pages serve or not.
    pub(crate) as_of_max: u64,
    /// The latest engine time that one of the files shows.
    pub(crate) time: u64,
    pub(crate) notes: Vec<String>,
}

/// Loads the newest good checkpoint that holds nothing above `up_to` and is not `refused`; falls back to the one before, then
/// to none, and says so.
///
/// # Errors
/// When the directory cannot be listed, or a file is of a newer format or another engine.
pub(crate) fn load_newest(
    store: &CheckpointStore,
    parameters: Parameters,
    up_to: u64,
    refused: &[u64],
) -> Result<Loaded, CheckpointError> {
    let mut loaded =
        Loaded { state: State::empty(parameters), generation: None, as_of_max: 0, time: 0, notes: Vec::new() };
    let mut generations = store.generations()?;
    while let Some(generation) = generations.pop() {
        let summary = match store.summary(generation) {
            Ok(summary) => summary,
            Err(CheckpointError::Corrupt(problem)) => {
                loaded.notes.push(fallen_back(generation, &problem));
                continue;
            }
            Err(CheckpointError::Missing { .. }) => continue, // deleted by a running engine: a newer one is there
            Err(error) => return Err(error),
        };
        loaded.as_of_max = loaded.as_of_max.max(summary.as_of_max);
        loaded.time = loaded.time.max(summary.time);
        if summary.as_of_max > up_to || refused.contains(&generation) {
            continue;
        }
        match load_state(store, parameters, generation) {
            Ok(state) => {
                (loaded.state, loaded.generation) = (state, Some(generation));
                return Ok(loaded);
            }
            Err(NoState::Corrupt(problem)) => loaded.notes.push(fallen_back(generation, &problem)),
            Err(NoState::Unfit(what)) => loaded.notes.push(fallen_back(generation, &what)),
            Err(NoState::Store(CheckpointError::Missing { .. })) => {}
            Err(NoState::Store(error)) => return Err(error),
        }
    }
    Ok(loaded)
}

/// An error that may come from a checkpoint that does not fit the journal.
pub(crate) trait Misfit {
    /// The event that does not follow from the state, if that is what it is.
    fn misfit(&self) -> Option<&EvolveError>;
}

/// Loads a state and goes on from it. Where the journal does not follow from a checkpoint, though it is whole, the one before
/// it serves, then none; notes say so.
///
/// # Errors
/// What loading or `go_on` failed with.
pub(crate) fn load_and<T, E: From<CheckpointError> + Misfit>(
    store: &CheckpointStore,
    parameters: Parameters,
    up_to: u64,
    mut go_on: impl FnMut(&mut Loaded) -> Result<T, E>,
) -> Result<(Loaded, T), E> {
    let (mut refused, mut notes) = (Vec::new(), Vec::new());
    loop {
        let mut loaded = load_newest(store, parameters, up_to, &refused)?;
        let error = match go_on(&mut loaded) {
            Ok(done) => {
                loaded.notes.append(&mut notes);
                return Ok((loaded, done));
            }
            Err(error) => error,
        };
        let (Some(misfit), Some(generation)) = (error.misfit(), loaded.generation) else { return Err(error) };
        notes.push(fallen_back(generation, &format_args!("the journal does not follow from it ({misfit})")));
        refused.push(generation);
    }
}

fn fallen_back(generation: u64, what: &dyn std::fmt::Display) -> String {
    format!("checkpoint {generation} is not used: {what}")
}

/// Why there is no state in a checkpoint.
enum NoState {
    /// Its bytes are damaged.
    Corrupt(Box<Problem>),
    /// Its bytes are whole, but do not show a state.
    Unfit(String),
    /// It could not be read.
    Store(CheckpointError),
}

impl From<CheckpointError> for NoState {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Corrupt(problem) => Self::Corrupt(problem),
            error => Self::Store(error),
        }
    }
}

/// Slots' pages on their way to the threads that read them.
const SLOTS_AHEAD: usize = 8;

/// Reads a checkpoint and turns its pages into slots on all cores, while the next ones are being read.
fn load_state(store: &CheckpointStore, parameters: Parameters, generation: u64) -> Result<State, NoState> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = crossbeam::channel::bounded::<Vec<Page>>(SLOTS_AHEAD);
    std::thread::scope(|scope| {
        let read = |slots: crossbeam::channel::Receiver<Vec<Page>>| {
            let slots = slots.into_iter().map(|pages| read_slot(parameters, &pages));
            slots.collect::<Result<Vec<_>, _>>()
        };
        let readers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn({
                    let pages = receiver.clone();
                    move || read(pages)
                })
            })
            .collect();
        drop(receiver);
        // A reader that stopped has an error of its own.
        let mut pages: Vec<Page> = Vec::new();
        let checkpoint = store.load_pages(generation, |page| {
            if pages.first().is_some_and(|first| first.slot != page.slot) {
                drop(sender.send(std::mem::take(&mut pages)));
            }
            pages.push(page);
        });
        if !pages.is_empty() {
            drop(sender.send(pages));
        }
        drop(sender);
        let mut slots = Vec::new();
        for reader in readers {
            let read = reader.join().map_err(|_| "a bug: reading a slot panicked".to_owned());
            slots.push(read.and_then(|slots| slots));
        }
        let checkpoint = checkpoint?; // damaged bytes are the reason for whatever a reader found
        let slots = slots.into_iter().collect::<Result<Vec<_>, _>>().map_err(NoState::Unfit)?;
        State::from_slots(parameters, &checkpoint, slots.into_iter().flatten()).map_err(NoState::Unfit)
    })
}

/// A slot from its pages, which stand together in a checkpoint: where it belongs, and its `as_of`. `Err`: what is wrong.
pub(crate) fn read_slot(parameters: Parameters, pages: &[Page]) -> Result<(usize, Box<Slot>, u64), String> {
    let [first, ..] = pages else { return Err("a slot without pages".to_owned()) };
    if pages.iter().any(|page| (page.slot, page.as_of) != (first.slot, first.as_of)) {
        return Err(format!("slot {}: its pages show different moments", first.slot));
    }
    let index = SlotIndex::new(first.slot).ok_or_else(|| format!("there is no slot {}", first.slot))?;
    let mut builder = SlotBuilder::new(index, parameters.seed, parameters.windows);
    let slot = pages.iter().try_for_each(|page| builder.add(&page.bytes)).and_then(|()| builder.finish());
    let slot = slot.map_err(|error| format!("slot {}: {error}", first.slot))?;
    Ok((index.index(), Box::new(slot), first.as_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extra_part_keeps_its_golden_bytes() {
        let extra = CheckpointExtra { durable_seq: 0x0102, time_max: 3 };
        let golden = [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(extra.encode(), golden);
        assert_eq!(CheckpointExtra::decode(&golden), Some(extra));
        for length in [0, 7, 8, 15, 17] {
            assert_eq!(CheckpointExtra::decode(&vec![0; length]), None);
        }
    }
}
