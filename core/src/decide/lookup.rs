//! lookup and read: what became of a command, what stands.

use super::{Adds, Decision, Scene, Verdict, capture, is_too_far_ahead, is_too_old, leave, repeat};
use crate::authorization::Authorization;
use crate::command::{Lookup, Read, ReadTarget};
use crate::event::{Body, Fenced};
use crate::keys::Standing;
use crate::outcome::Outcome;
use crate::reply::{Detail, Reply};
use crate::slot::Slot;
use crate::time::Time;

pub(super) fn lookup(scene: &Scene<'_>, slot: &Slot, c: &Lookup) -> Verdict {
    let account = slot.find_account(c.account);
    let answer = |outcome| Err(leave(Reply::bare(outcome).standing_on(account)));
    if let Some(record) = slot.visible_key(c.account, c.key, scene.now) {
        return match record.standing {
            _ if record.key.kind != c.key.kind => answer(Outcome::IdempotencyConflict),
            Standing::Decided if record.exchange != 0 => Err(Decision::Wait(slot.index(), record.exchange)),
            Standing::Decided | Standing::Fence | Standing::Tombstone => Err(leave(repeat(slot, &record))),
        };
    }
    match unfenced(scene, slot, c, if account.is_some() { Adds::Key } else { Adds::OrphanKey }) {
        None => {
            Ok(Body::Fenced(Fenced { account: c.account, key: c.key.bits, slot: slot.index(), key_kind: c.key.kind }))
        }
        // These leave at once, so they show nothing of the state (J2).
        Some(outcome) if outcome.leaves_at_once() => Err(leave(Reply::bare(outcome))),
        Some(outcome) => answer(outcome),
    }
}

/// Why an unknown key is not fenced; `None`: it is to be.
pub(super) fn unfenced(scene: &Scene<'_>, slot: &Slot, c: &Lookup, adds: Adds) -> Option<Outcome> {
    if is_too_old(slot, c.key, scene.now) {
        // It can no longer execute; whether it did is not in memory.
        return Some(Outcome::KeyExpired);
    }
    if !c.fence {
        return Some(Outcome::OriginalNotFound);
    }
    if is_too_far_ahead(c.key, scene.now) {
        return Some(Outcome::KeyExpired);
    }
    scene.room_refusal(slot, adds)
}

pub(super) fn read(slot: &Slot, now: Time, c: &Read) -> Reply {
    match c.target {
        ReadTarget::Account(id) => slot.find_account(id).map_or(Reply::bare(Outcome::AccountNotFound), |account| {
            let detail = Some(Box::new(Detail::Account(account.view())));
            Reply { seq: account.seq, version: account.version, detail, ..Reply::bare(Outcome::Approved) }
                .standing_on(Some(account))
        }),
        ReadTarget::Authorization(id) => read_authorization(slot, slot.visible_authorization(id.0, now)),
        ReadTarget::Capture(id) => read_authorization(slot, capture::visible_authorization_of(slot, id, now)),
    }
}

fn read_authorization(slot: &Slot, visible: Option<&Authorization>) -> Reply {
    let Some(view) = visible.and_then(|a| slot.authorization(a.id())) else {
        return Reply::bare(Outcome::OriginalNotFound);
    };
    let account = slot.find_account(view.account);
    let (authorization, expires) = (Some(view.authorization), Some(view.expires));
    let detail = Some(Box::new(Detail::Authorization(view)));
    Reply { authorization, expires, detail, ..Reply::bare(Outcome::Approved) }.standing_on(account)
}
