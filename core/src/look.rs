//! Looking ahead: what commands and events will touch, looked up before any of them is worked on.
//!
//! Accounts, authorizations and keys lie anywhere in memory, and each first look at one is a wait of a hundred nanoseconds and
//! more. Looked up for many together, the waits overlap, if the steps are short ones: a processor waits for no more than a few hundred
//! instructions at once. So all take one step, then all the next.
//!
//! ```text
//! command --aim--> tags --approach--> tables --look--> positions --warm--> records, and the ends where new ones are added
//! ```
//!
//! Owns guesses only: nothing here is part of a decision, and a wrong guess costs a wait.

use crate::command::{Command, RefundTarget};
use crate::event::{Body, Event};
use crate::ids::{AccountId, AuthorizationId};
use crate::index::Aim;
use crate::key::Key;
use crate::slot::Slot;
use crate::turn::{AnswerMessage, OpenMessage};

/// The ways to the things of a command or leg. Private to the slot that gave it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aims {
    pub(crate) account: Option<Aim>,
    pub(crate) authorization: Option<Aim>,
    pub(crate) key: Option<Aim>,
}

/// Where the things of a command or leg probably are. Private to the slot that gave it, until its next change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looked {
    account: Option<u32>,
    pub(crate) authorization: Option<u32>,
    pub(crate) key: Option<u32>,
    /// A key that the authorization's hold keeps.
    pub(crate) kept: Option<u32>,
}

impl Looked {
    /// This, and what the other has beside it.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            account: self.account.or(other.account),
            authorization: self.authorization.or(other.authorization),
            key: self.key.or(other.key),
            kept: self.kept.or(other.kept),
        }
    }
}

/// The authorization that a later verb names, and the verb's key.
const fn named_by(command: &Command) -> Option<(AuthorizationId, Key)> {
    match command {
        Command::Increment(c) => Some((c.authorization, c.key)),
        Command::Capture(c) => Some((c.authorization, c.key)),
        Command::Void(c) => Some((c.authorization, c.key)),
        Command::Refund(c) => match c.target {
            RefundTarget::Authorization(id) => Some((id, c.key)),
            RefundTarget::Capture(_) => None,
        },
        _ => None,
    }
}

impl Slot {
    /// What a leg will touch. Looks at nothing yet.
    pub fn aim(&self, event: &Event, account: Option<AccountId>) -> Aims {
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
        self.aim_at(account, made, head.map(|head| (head.account, head.full_key())))
    }

    /// What a command of this slot names. Looks at nothing yet.
    pub(crate) fn aim_for(&self, command: &Command) -> Option<Aims> {
        let owned = |account, key| Some(self.aim_at(Some(account), 0, Some((account, key))));
        let made = |id: AuthorizationId| Some(self.aim_at(None, id.0, None));
        match command {
            Command::Authorize(c) => owned(c.account, c.key),
            Command::Transfer(c) => owned(c.account, c.key),
            Command::Advise(c) => owned(c.account, c.key),
            Command::Reverse(c) => owned(c.account, c.key),
            Command::Lookup(c) => owned(c.account, c.key),
            _ => made(named_by(command)?.0),
        }
    }

    /// What stands behind the authorization that a command names: the payer, and the key that is scoped to him.
    pub(crate) fn aim_behind(&self, looked: Looked, command: &Command) -> Option<Aims> {
        let (_, key) = named_by(command)?;
        let payer = self.authorization_ref(looked.authorization?)?.payer();
        Some(self.aim_at(Some(payer), 0, Some((payer, key))))
    }

    /// What the expiry of a hold will touch, as far as its id says it. Looks at nothing yet.
    pub(crate) fn aim_for_expiry(&self, hold: AuthorizationId) -> Aims {
        self.aim_at(None, hold.0, None)
    }

    /// The account that the hold found stands on.
    pub(crate) fn aim_behind_hold(&self, looked: Looked) -> Option<Aims> {
        let account = self.authorization_ref(looked.authorization?)?.account();
        Some(self.aim_at(Some(account), 0, None))
    }

    /// What the answer to an exchange will touch.
    pub(crate) fn aim_for_open(&self, m: &OpenMessage) -> Aims {
        self.aim_at(Some(m.account), 0, None)
    }

    /// What the end of an exchange will touch. Looks at the exchange.
    pub(crate) fn aim_for_end(&self, m: &AnswerMessage) -> Option<Aims> {
        let exchange = self.exchanges.get(m.number)?;
        let key = (exchange.account, exchange.key);
        Some(self.aim_at(Some(exchange.owner), exchange.movement.authorization, Some(key)))
    }

    pub(crate) fn aim_at(
        &self,
        account: Option<AccountId>,
        authorization: u128,
        key: Option<(AccountId, Key)>,
    ) -> Aims {
        Aims {
            account: account.map(|id| self.aim_at_account(id)),
            authorization: (authorization != 0).then(|| self.aim_at_authorization(authorization)),
            key: key.map(|(account, key)| self.keys.aim(account, key)),
        }
    }

    /// Looks at what leads to the tables, and gives something that depends on it.
    pub fn approach(&self, aims: Aims) -> usize {
        let account = aims.account.map_or(0, |aim| self.approach_account(aim));
        let authorization = aims.authorization.map_or(0, |aim| self.approach_authorization(aim));
        account ^ authorization ^ aims.key.map_or(0, |aim| self.keys.approach(aim))
    }

    /// Looks everything up, in the indexes and the lists of kept keys only.
    pub fn look(&self, aims: Aims) -> Looked {
        Looked {
            account: aims.account.and_then(|aim| self.guess_account(aim)),
            authorization: aims.authorization.and_then(|aim| self.guess_authorization(aim)),
            key: aims.key.and_then(|aim| self.keys.guess(aim)),
            kept: aims.authorization.and_then(|aim| self.guess_kept(aim)),
        }
    }

    /// The command or leg whose things these are is next. Wrong ones cost a look.
    pub fn hint(&mut self, looked: Looked) {
        if let Some(position) = looked.account {
            self.hint_account(position);
        }
        self.hint_authorization(looked.authorization);
    }

    /// Looks at what was found, and gives something that depends on it.
    pub fn warm(&self, looked: Looked) -> u128 {
        let account = looked.account.map_or(0, |position| self.touch_account(position));
        let authorization = looked.authorization.map_or(0, |position| self.touch_authorization(position));
        let key = looked.key.map_or(0, |position| self.keys.touch(position));
        let kept = looked.kept.map_or(0, |position| self.keys.touch(position));
        account ^ authorization ^ key ^ kept ^ self.touch_ends()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::amount::{Amount, Ledger};
    use crate::authorization::{Authorization, Made};
    use crate::command::Settings;
    use crate::ids::{SlotIndex, SlotSeed};
    use crate::rules::Windows;
    use crate::time::{Bucket, Time};

    #[test]
    fn a_hint_at_another_authorization_costs_a_look_and_no_more() {
        let index = SlotIndex::all().next().expect("there are 1,024");
        let mut slot = Slot::new(index, SlotSeed([7; 16]), Windows::default());
        let ids = [1, 2, 3].map(|n| AuthorizationId::new(Time(1), index, n));
        let made = |id| Made {
            id,
            payer: AccountId(1),
            account: AccountId(1),
            payee: 0,
            amount: Amount::from(1),
            expires: Time(9),
            named_at: Time(1),
            bucket: Bucket::default(),
            tolerance_bp: 0,
        };
        let places = ids.map(|id| slot.insert_authorization(Authorization::new(made(id))));
        let unknown = AuthorizationId::new(Time(1), index, 4);
        for place in places.into_iter().chain([999]).map(Some).chain([None]) {
            slot.hint(Looked { authorization: place, ..Looked::default() });
            assert_eq!(ids.map(|id| slot.authorization_position(id.0)), places.map(Some));
            assert_eq!((slot.authorization_position(unknown.0), slot.authorization_position(0)), (None, None));
            assert!(ids.iter().all(|id| slot.has_authorization(id.0)) && !slot.has_authorization(unknown.0));
        }
    }

    #[test]
    fn a_hint_at_another_account_costs_a_look_and_no_more() {
        let index = SlotIndex::all().next().expect("there are 1,024");
        let mut slot = Slot::new(index, SlotSeed([7; 16]), Windows::default());
        let settings = Settings::new(Ledger::new("EUR", 2).expect("valid"));
        let ids = [AccountId(1), AccountId(2), AccountId(3)];
        let places = ids.map(|id| slot.insert_account(Account::new(id, &settings)));
        for place in places.into_iter().chain([999]) {
            slot.hint(Looked { account: Some(place), ..Looked::default() });
            assert_eq!(ids.map(|id| slot.account_position(id)), places.map(Some));
            assert_eq!(slot.account_position(AccountId(4)), None);
        }
    }
}
