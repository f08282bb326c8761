//! Taking commands a few at a time: what they will touch is looked up before the first of them is decided.
//!
//! Owns how many are looked at together, and in which steps; refuses to decide anything.

use crate::command::Command;
use crate::evolve::EvolveError;
use crate::ids::SlotIndex;
use crate::look::{Aims, Looked};
use crate::slot::Slot;
use crate::turn::{Output, Submission, Turn};

use super::Partition;

/// So many commands are looked up together. More would push each other out of the nearest cache.
pub(super) const LOOK_AHEAD: usize = 32;

/// A command that was taken: its slot, and where its things are.
pub(super) type Ahead = (Option<SlotIndex>, Looked, Submission);

impl Partition {
    /// In order, a few at a time: what they will touch is looked up before the first of them is decided.
    pub(super) fn commands(
        &mut self,
        turn: Turn,
        commands: &mut dyn Iterator<Item = Submission>,
        out: &mut Output,
    ) -> Result<(), EvolveError> {
        let mut ahead = core::mem::take(&mut self.ahead);
        loop {
            let seed = self.seed;
            let with_slot = |submission: Submission| (submission.command.slot(&seed), Looked::default(), submission);
            ahead.extend((&mut *commands).take(LOOK_AHEAD).map(with_slot));
            if ahead.is_empty() {
                self.ahead = ahead;
                return Ok(());
            }
            self.look_at(&mut ahead);
            for (slot, looked, submission) in ahead.drain(..) {
                if let Some(slot) = slot.and_then(|index| self.slots.get_mut(index.index())?.as_deref_mut()) {
                    slot.hint(looked);
                }
                self.command(turn, slot, submission, out)?;
            }
        }
    }

    fn look_at(&self, submissions: &mut [Ahead]) {
        self.take_steps(submissions, |slot, _, command| slot.aim_for(command));
        self.take_steps(submissions, Slot::aim_behind);
    }

    /// One step for all of them, then the next.
    fn take_steps(&self, submissions: &mut [Ahead], aim: impl Fn(&Slot, Looked, &Command) -> Option<Aims>) {
        let mut ways = [None; LOOK_AHEAD];
        for (way, (slot, looked, submission)) in ways.iter_mut().zip(&*submissions) {
            let slot = slot.and_then(|index| self.slot(index));
            *way = slot.and_then(|slot| Some((slot, aim(slot, *looked, &submission.command)?)));
        }
        let approached = ways.iter().flatten().fold(0, |seen, (slot, aims)| seen ^ slot.approach(*aims));
        core::hint::black_box(approached);
        for (way, (_, looked, _)) in ways.iter().zip(&mut *submissions) {
            if let Some((slot, aims)) = way {
                *looked = looked.or(slot.look(*aims));
            }
        }
        let found = ways.iter().zip(&*submissions).filter_map(|(way, (_, looked, _))| Some((way.as_ref()?.0, looked)));
        let seen = found.fold(0, |seen, (slot, looked)| seen ^ slot.warm(*looked));
        core::hint::black_box(seen);
    }
}
