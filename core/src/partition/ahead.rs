//! Taking commands, messages, expiries and what is to be forgotten a few at a time: what they will touch is looked up before the first
//! of them is worked on.
//!
//! Owns how many are looked at together, and in which steps; refuses to decide anything.

use crate::command::Command;
use crate::evolve::EvolveError;
use crate::ids::{AuthorizationId, SlotIndex};
use crate::look::{Aims, Looked};
use crate::slot::{Old, Slot};
use crate::turn::{AnswerMessage, OpenMessage, Output, Submission, Turn};

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
            for (slot, looked, submission) in &ahead {
                if let Some(slot) = *slot {
                    self.hint(slot, *looked);
                }
                self.command(turn, *slot, submission, out)?;
            }
            ahead.clear();
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
        for (found, (_, looked, _)) in look_up(&ways).into_iter().zip(submissions) {
            *looked = looked.or(found);
        }
    }

    /// Where the things of exchanges are that are to be answered: as many as there are messages.
    pub(super) fn look_at_opens(&self, messages: &[OpenMessage]) -> [Looked; LOOK_AHEAD] {
        let mut ways = [None; LOOK_AHEAD];
        let mut seen = 0;
        for (way, m) in ways.iter_mut().zip(messages) {
            *way = self.slot(m.to).map(|slot| {
                seen ^= slot.answers.touch(m.from);
                (slot, slot.aim_for_open(m))
            });
        }
        core::hint::black_box(seen);
        look_up(&ways)
    }

    /// Where the things of exchanges are that end.
    pub(super) fn look_at_answers(&self, messages: &[AnswerMessage]) -> [Looked; LOOK_AHEAD] {
        let mut ways = [None; LOOK_AHEAD];
        for (way, m) in ways.iter_mut().zip(messages) {
            *way = self.slot(m.to).and_then(|slot| Some((slot, slot.aim_for_end(m)?)));
        }
        look_up(&ways)
    }

    /// Where the holds are that expire, and the accounts that they stand on.
    pub(super) fn look_at_due(&self, due: &[AuthorizationId]) -> [Looked; LOOK_AHEAD] {
        let mut ways = [None; LOOK_AHEAD];
        for (way, id) in ways.iter_mut().zip(due) {
            *way = self.slot(id.slot()).map(|slot| (slot, slot.aim_for_expiry(*id)));
        }
        let mut found = look_up(&ways);
        for (way, looked) in ways.iter_mut().zip(&found) {
            *way = way.and_then(|(slot, _)| Some((slot, slot.aim_behind_hold(*looked)?)));
        }
        for (looked, behind) in found.iter_mut().zip(look_up(&ways)) {
            *looked = looked.or(behind);
        }
        found
    }

    /// Looks at what is to be forgotten, and at all that leads to it.
    pub(super) fn look_at_old(&self, old: &[(usize, Old)]) {
        let slots = || old.iter().filter_map(|(index, old)| Some((self.slots[*index].as_deref()?, *old)));
        core::hint::black_box(slots().fold(0, |seen, (slot, old)| seen ^ slot.touch_old(old)));
        let mut ways = [None; LOOK_AHEAD];
        for (way, (slot, old)) in ways.iter_mut().zip(slots()) {
            *way = slot.aim_at_old(old).map(|aims| (slot, aims));
        }
        look_up(&ways);
    }

    /// What these things are of is next.
    pub(super) fn hint(&mut self, slot: SlotIndex, looked: Looked) {
        if let Some(slot) = self.slots.get_mut(slot.index()).and_then(Option::as_deref_mut) {
            slot.hint(looked);
        }
    }
}

/// What lies at the end of each way, one step for all of them, then the next.
fn look_up(ways: &[Option<(&Slot, Aims)>; LOOK_AHEAD]) -> [Looked; LOOK_AHEAD] {
    let approached = ways.iter().flatten().fold(0, |seen, (slot, aims)| seen ^ slot.approach(*aims));
    core::hint::black_box(approached);
    let found = ways.map(|way| way.map_or(Looked::default(), |(slot, aims)| slot.look(aims)));
    let places = ways.iter().zip(&found).filter_map(|(way, looked)| Some((way.as_ref()?.0, looked)));
    let seen = places.fold(0, |seen, (slot, looked)| seen ^ slot.warm(*looked));
    core::hint::black_box(seen);
    found
}
