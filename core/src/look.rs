//! Looking ahead: what commands and events will touch, looked up before any of them is worked on.
//!
//! Accounts, authorizations and keys lie anywhere in memory, and each first look at one is a wait of a hundred nanoseconds and
//! more. Looked up for many together, the waits overlap: first all indexes, then what they name. Owns guesses only: nothing
//! here is part of a decision, and a wrong guess costs a wait.

use crate::command::{Command, RefundTarget};
use crate::event::{Body, Event};
use crate::ids::AccountId;
use crate::key::Key;
use crate::slot::Slot;

/// Where the things of a command or leg probably are. Private to the slot that gave it, until its next change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    account: Option<u32>,
    authorization: Option<u32>,
    key: Option<u32>,
}

impl Slot {
    /// Looks up what a leg will touch, in the indexes only. Changes nothing.
    pub fn look(&self, event: &Event, account: Option<AccountId>) -> Looked {
        let head = event.body.head();
        let made = match &event.body {
            Body::Authorized(e) => e.authorization.0,
            Body::Incremented(e) => e.authorization.0,
            Body::Released(e) => e.authorization.0,
            Body::Moved(e) => e.movement.authorization,
            Body::Opened(e) => e.movement.authorization,
            Body::Expired(e) => e.authorization.0,
            _ => 0,
        };
        self.look_up(account, made, head.map(|head| (head.account, head.full_key())))
    }

    /// Looks up what a command of this slot will touch, in the indexes only.
    pub(crate) fn look_for(&self, command: &Command) -> Looked {
        let owned = |account, key| self.look_up(Some(account), 0, Some((account, key)));
        match command {
            Command::Authorize(c) => owned(c.account, c.key),
            Command::Transfer(c) => owned(c.account, c.key),
            Command::Advise(c) => owned(c.account, c.key),
            Command::Reverse(c) => owned(c.account, c.key),
            Command::Lookup(c) => self.look_up(Some(c.account), 0, None),
            Command::Increment(c) => self.look_up(None, c.authorization.0, None),
            Command::Capture(c) => self.look_up(None, c.authorization.0, None),
            Command::Void(c) => self.look_up(None, c.authorization.0, None),
            Command::Refund(c) => match c.target {
                RefundTarget::Authorization(id) => self.look_up(None, id.0, None),
                RefundTarget::Capture(_) => Looked::default(),
            },
            _ => Looked::default(),
        }
    }

    fn look_up(&self, account: Option<AccountId>, authorization: u128, key: Option<(AccountId, Key)>) -> Looked {
        Looked {
            account: account.and_then(|id| self.guess_account(id)),
            authorization: if authorization == 0 { None } else { self.guess_authorization(authorization) },
            key: key.and_then(|(account, key)| self.keys.guess(account, key)),
        }
    }

    /// Looks at what was found, and gives something that depends on it.
    pub fn warm(&self, looked: Looked) -> u128 {
        let account = looked.account.map_or(0, |position| self.touch_account(position));
        let authorization = looked.authorization.map_or(0, |position| self.touch_authorization(position));
        account ^ authorization ^ u128::from(looked.key.unwrap_or(0)) ^ self.touch_ends()
    }
}
