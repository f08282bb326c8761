//! lookup and read: what became of a command, what stands.

use super::is_too_far_ahead;
use super::{Decision, Scene, Verdict, leave, repeat};
use crate::account::Account;
use crate::command::{Lookup, Read, ReadTarget};
use crate::event::{Body, Fenced};
use crate::keys::Standing;
use crate::outcome::Outcome;
use crate::reply::{Detail, Reply};
use crate::slot::{ORPHAN_KEYS_MAX, Slot};
use crate::time::Time;

pub(super) fn lookup(scene: Scene<'_>, slot: &Slot, c: &Lookup) -> Verdict {
    let balances = slot.find_account(c.account).map(Account::balances);
    let answer = |outcome| Err(leave(Reply { balances, ..Reply::bare(outcome) }));
    if let Some(record) = slot.visible_key(c.account, c.key, scene.now) {
        return match record.standing {
            _ if record.key.kind != c.key.kind => answer(Outcome::IdempotencyConflict),
            Standing::Decided if record.exchange != 0 => Err(Decision::Wait(slot.index(), record.exchange)),
            Standing::Decided => Err(leave(repeat(slot, record))),
            Standing::Fence | Standing::Tombstone => Err(leave(Reply { balances, ..repeat(slot, record) })),
        };
    }
    let is_past = c.key.own_time().is_some_and(|own| scene.now >= slot.windows.key_end(c.key.kind, own, Some(own)));
    if is_past {
        // It can no longer execute; whether it did is not in memory.
        return answer(Outcome::KeyExpired);
    }
    if !c.fence {
        return answer(Outcome::OriginalNotFound);
    }
    if is_too_far_ahead(c.key, scene.now) {
        return answer(Outcome::KeyExpired);
    }
    // These leave at once, so they show nothing of the state (J2).
    if let Some(outcome) = scene.room.closed {
        return Err(leave(Reply::bare(outcome)));
    }
    if !scene.room.keys || balances.is_none() && slot.orphan_keys >= ORPHAN_KEYS_MAX {
        return Err(leave(Reply::bare(Outcome::Busy)));
    }
    Ok(Body::Fenced(Fenced { account: c.account, key: c.key.bits, slot: slot.index(), key_kind: c.key.kind }))
}

pub(super) fn read(slot: &Slot, now: Time, c: &Read) -> Reply {
    match c.target {
        ReadTarget::Account(id) => slot.account(id).map_or(Reply::bare(Outcome::AccountNotFound), |view| Reply {
            balances: Some(view.balances),
            seq: view.seq,
            version: view.version,
            detail: Some(Box::new(Detail::Account(view))),
            ..Reply::bare(Outcome::Approved)
        }),
        ReadTarget::Authorization(id) => {
            let visible = slot.visible_authorization(id.0, now).and_then(|a| slot.authorization(a.id));
            visible.map_or(Reply::bare(Outcome::OriginalNotFound), |view| Reply {
                balances: slot.find_account(view.account).map(Account::balances),
                authorization: Some(view.authorization),
                expires: Some(view.expires),
                detail: Some(Box::new(Detail::Authorization(view))),
                ..Reply::bare(Outcome::Approved)
            })
        }
    }
}
