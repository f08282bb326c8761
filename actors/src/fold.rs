//! The state as a fold over events: all slots, each with the number that it already holds events up to.
//!
//! Owns the bare state without partitions and threads, from nothing or from a checkpoint; refuses to know where events
//! come from. RPL-1: a leg of slot s applies when its number is above `as_of(s)`, in the order of numbers.

use tp_core::EvolveError;
use tp_core::digest::StateDigest;
use tp_core::event::Event;
use tp_core::ids::{AccountId, AuthorizationId, SLOTS, Seq, SlotIndex};
use tp_core::reply::{AccountView, AuthorizationView};
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

/// All slots, in order.
pub(crate) struct State {
    pub(crate) parameters: Parameters,
    pub(crate) slots: Vec<Slot>,
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
        let slots = SlotIndex::all().map(|index| Slot::new(index, parameters.seed, parameters.windows)).collect();
        Self { parameters, slots, as_of: vec![0; usize::from(SLOTS)], time_max: 0, replayed_to: 0 }
    }

    /// Of a checkpoint. `Err`: what is wrong with it.
    pub(crate) fn from_checkpoint(parameters: Parameters, checkpoint: &Checkpoint) -> Result<Self, String> {
        let extra = CheckpointExtra::decode(&checkpoint.extra).ok_or("its extra part is not ours")?;
        let mut state = Self::empty(parameters);
        if checkpoint.pages.len() != state.slots.len() || extra.durable_seq > checkpoint.as_of_min {
            return Err("it does not hold every slot".to_owned());
        }
        let mut seen = vec![false; state.slots.len()];
        for (page, slot) in checkpoint.pages.iter().zip(read_images(parameters, &checkpoint.pages)?) {
            let index = usize::from(page.slot);
            if slot.index().index() != index || std::mem::replace(&mut seen[index], true) {
                return Err(format!("slot {} is not where it belongs", page.slot));
            }
            (state.slots[index], state.as_of[index]) = (slot, page.as_of);
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
        let mut all: Vec<_> = self.slots.iter().flat_map(Slot::accounts).collect();
        all.sort_unstable_by_key(|view| view.account);
        all
    }

    pub(crate) fn trial_balance(&self) -> Vec<LedgerTotals> {
        LedgerTotals::of(self.slots.iter().flat_map(Slot::totals))
    }

    pub(crate) fn digest(&self) -> StateDigest {
        let at = Time(self.time_max);
        StateDigest::of_slots(self.slots.iter().map(|slot| slot.digest(at)))
    }
}

/// The slots of pages, in their order, read on all cores. `Err`: which page is wrong, and how.
fn read_images(parameters: Parameters, pages: &[Page]) -> Result<Vec<Slot>, String> {
    let read = |page: &Page| {
        let slot = Slot::from_image(&page.bytes, parameters.seed, parameters.windows);
        slot.map_err(|error| format!("slot {}: {error}", page.slot))
    };
    let share = |pages: &[Page]| pages.iter().map(read).collect::<Result<Vec<_>, _>>();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let chunks = pages.chunks(pages.len().div_ceil(cores).max(1));
        let readers: Vec<_> = chunks.map(|pages| scope.spawn(move || share(pages))).collect();
        let mut slots = Vec::with_capacity(pages.len());
        for reader in readers {
            slots.extend(reader.join().map_err(|_| "a bug: reading a slot panicked".to_owned())??);
        }
        Ok(slots)
    })
}

/// The newest checkpoint that can be used, and what was said on the way to it.
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// Which generation; `None`: none, the whole journal serves.
    pub(crate) generation: Option<u64>,
    /// The highest number that a whole checkpoint file shows to be durable.
    pub(crate) as_of_max: u64,
    pub(crate) notes: Vec<String>,
}

/// Loads the newest good checkpoint that holds nothing above `up_to`; falls back to the one before, then to none, and
/// says so.
///
/// # Errors
/// When the directory cannot be listed, or a file is of a newer format or another engine.
pub(crate) fn load_newest(
    store: &CheckpointStore,
    parameters: Parameters,
    up_to: u64,
) -> Result<Loaded, CheckpointError> {
    let mut loaded = Loaded { state: State::empty(parameters), generation: None, as_of_max: 0, notes: Vec::new() };
    let mut generations = store.generations()?;
    while let Some(generation) = generations.pop() {
        let checkpoint = match store.load(generation) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Corrupt(problem)) => {
                loaded.notes.push(fallen_back(generation, &problem));
                continue;
            }
            Err(CheckpointError::Missing { .. }) => continue, // deleted by a running engine: a newer one is there
            Err(error) => return Err(error),
        };
        loaded.as_of_max = loaded.as_of_max.max(checkpoint.as_of_max);
        if checkpoint.as_of_max > up_to {
            continue;
        }
        match State::from_checkpoint(parameters, &checkpoint) {
            Ok(state) => {
                (loaded.state, loaded.generation) = (state, Some(generation));
                return Ok(loaded);
            }
            Err(what) => loaded.notes.push(format!("checkpoint {generation} is not used: {what}")),
        }
    }
    Ok(loaded)
}

fn fallen_back(generation: u64, problem: &Problem) -> String {
    format!("checkpoint {generation} is not used: {problem}")
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
