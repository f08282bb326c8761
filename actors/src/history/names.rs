//! What names an authorization.
//!
//! Owns telling the events of one authorization from all others: an event names it by its id, by a capture or refund of it, by
//! the key of a command on it, or by the number of an exchange of it. Refuses to know where the events come from.

use std::collections::HashSet;

use tp_core::event::{Body, Event, Head, Movement};
use tp_core::ids::{AuthorizationId, SlotIndex};

/// What names an authorization, as far as events were read. It must see them oldest first, from the one that made it on.
#[derive(Debug)]
pub struct Names {
    id: AuthorizationId,
    /// Transfers of it.
    transfers: HashSet<u128>,
    /// Keys of commands on it, with their owner's slot.
    keys: HashSet<(SlotIndex, u128)>,
    /// Open exchanges of it: opener slot, number.
    exchanges: HashSet<(SlotIndex, u64)>,
}

impl Names {
    /// Of this authorization; nothing was read yet.
    pub fn new(id: AuthorizationId) -> Self {
        Self { id, transfers: HashSet::new(), keys: HashSet::new(), exchanges: HashSet::new() }
    }

    /// Whether the event names it. What the event adds to the names is remembered.
    pub fn take(&mut self, event: &Event) -> bool {
        let is_named = self.is_named_by(event);
        if !is_named {
            return false;
        }
        if let Some(head) = event.body.head() {
            self.keys.insert((head.slot, head.key));
        }
        match &event.body {
            Body::Moved(e) => _ = self.transfers.insert(e.movement.transfer.0),
            Body::Opened(e) => {
                self.transfers.insert(e.movement.transfer.0);
                self.exchanges.insert((e.head.slot, e.number));
            }
            Body::Ended(e) => e.ends.iter().for_each(|end| _ = self.exchanges.remove(&(end.slot, end.number))),
            _ => {}
        }
        true
    }

    fn is_named_by(&self, event: &Event) -> bool {
        match &event.body {
            Body::Authorized(e) => e.authorization == self.id,
            Body::Incremented(e) => e.authorization == self.id,
            Body::Released(e) => e.authorization == self.id,
            Body::Expired(e) => e.authorization == self.id,
            Body::Moved(e) => self.is_moved(&e.movement),
            Body::Opened(e) => self.is_moved(&e.movement),
            Body::Answered(e) => self.exchanges.contains(&(e.opener, e.number)),
            Body::Ended(e) => e.ends.iter().any(|end| self.exchanges.contains(&(end.slot, end.number))),
            Body::Noted(e) => self.is_target(&e.head, e.target),
            Body::Tombstoned(e) => self.keys.contains(&(e.head.slot, e.original)),
            Body::Settled(_) | Body::Fenced(_) | Body::Forgotten(_) | Body::Recorded(_) => false,
        }
    }

    fn is_moved(&self, movement: &Movement) -> bool {
        movement.authorization == self.id.0 || (movement.capture != 0 && self.transfers.contains(&movement.capture))
    }

    fn is_target(&self, head: &Head, target: u128) -> bool {
        target != 0
            && (target == self.id.0 || self.transfers.contains(&target) || self.keys.contains(&(head.slot, target)))
    }
}
