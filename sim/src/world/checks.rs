//! What must hold whenever nothing is under way.

use std::collections::BTreeSet;

use tp_core::codec::Events;
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::slot::Slot;

use super::{World, Wrong, chain};

impl World {
    /// The journal holds what it held.
    pub(super) fn check_log(&mut self) -> Result<(), Wrong> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let mut reader = engine.source().read_from(1).map_err(|error| error.to_string())?;
        let (mut digest, mut seq) = (None, 0);
        while seq < self.log.len() as u64 {
            let frame = reader.next(engine.last_seq().0).map_err(|error| error.to_string())?;
            let frame = frame.ok_or_else(|| format!("event {} is gone", seq + 1))?;
            for event in Events::new(frame.payload()).take(frame.count as usize) {
                let event = event.map_err(|error| error.to_string())?;
                digest = Some(chain(digest.as_ref(), &event));
                seq += 1;
                let before = usize::try_from(seq).ok().and_then(|n| self.log.get(n - 1));
                if before.is_some_and(|before| digest.as_ref() != Some(before)) {
                    return Err(format!("event {seq} is another one than before: {event:?}"));
                }
            }
        }
        Ok(())
    }

    /// At rest: the engine's state is the oracle's.
    pub(super) fn check_state(&mut self) -> Result<(), Wrong> {
        let (Some(engine), Some(oracle)) = (&mut self.engine, &self.oracle) else { return Ok(()) };
        if oracle.seq != engine.last_seq().0 {
            return Err(format!("the oracle is at {}, the engine at {}", oracle.seq, engine.last_seq()));
        }
        let mut result = Ok(());
        let mut seen: BTreeSet<AccountId> = BTreeSet::new();
        let mut differs = |what: String| result = Err(what);
        let states = engine.look(|partition| {
            let slots = || partition.slots();
            let broken = slots().find_map(|slot| slot.validate().err().map(|error| format!("{error:?}")));
            let accounts: Vec<_> = slots().flat_map(Slot::accounts).collect();
            let holds: Vec<_> = oracle
                .holds
                .keys()
                .filter_map(|id| AuthorizationId::from_bits(*id))
                .filter_map(|id| partition.slot(id.slot())?.authorization(id))
                .collect();
            (broken, accounts, holds)
        });
        let mut known: BTreeSet<u128> = BTreeSet::new();
        for (broken, accounts, holds) in states {
            if let Some(broken) = broken {
                differs(broken);
            }
            for view in accounts {
                seen.insert(view.account);
                let is_same = oracle.accounts.get(&view.account).is_some_and(|a| {
                    (a.settings, a.balances(), a.version, a.seq)
                        == (view.settings, view.balances, view.version.0, view.seq.0)
                });
                if !is_same {
                    differs(format!("{view:?} is not {:?}", oracle.accounts.get(&view.account)));
                }
            }
            for view in holds {
                known.insert(view.authorization.0);
                let hold = &oracle.holds[&view.authorization.0];
                let sums = [hold.authorized, hold.held, hold.captured].map(i128::unsigned_abs);
                let is_same = (sums, hold.state, hold.expires)
                    == ([view.authorized, view.held, view.captured], view.state, view.expires)
                    && hold.captures.len() == view.captures.len()
                    && hold.captures.iter().zip(&view.captures).all(|(c, seen)| {
                        let sums = [c.amount, c.refunded].map(i128::unsigned_abs);
                        (c.id, sums) == (seen.transfer.0, [seen.amount, seen.refunded])
                    });
                if !is_same {
                    differs(format!("{view:?} is not {hold:?}"));
                }
            }
        }
        result?;
        if seen.len() != oracle.accounts.len() {
            return Err("accounts are missing".into());
        }
        let at = oracle.time_max;
        let is_missing = |id: &&u128| oracle.visible_hold(**id, at).is_some() && !known.contains(id);
        if let Some(id) = oracle.holds.keys().find(is_missing) {
            return Err(format!("an authorization is not remembered: {:?}", oracle.holds[id]));
        }
        Ok(())
    }
}
