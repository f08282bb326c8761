//! What must hold whenever nothing is under way.

use std::collections::BTreeSet;

use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::slot::Slot;

use super::{World, Wrong};
use crate::machine::log_of;

impl World {
    /// The journal holds what it held.
    pub(super) fn check_log(&self) -> Result<(), Wrong> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let now = log_of(engine)?;
        let differs = self.log.iter().enumerate().find(|(n, digest)| now.get(*n) != Some(*digest));
        differs.map_or(Ok(()), |(n, _)| Err(format!("event {} is gone, or another one than before", n + 1)))
    }

    /// Every key can leave memory (FGT-1). A start queues all of them anew, so this is for the end of a life.
    pub(super) fn check_order(&mut self) -> Result<(), Wrong> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let stranded = engine.look(|partition| partition.slots().find_map(|slot| slot.validate_order().err()));
        stranded.into_iter().flatten().next().map_or(Ok(()), |violation| Err(format!("{violation:?}")))
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
            let broken = slots().find_map(|slot| {
                let error = slot.validate().and_then(|()| slot.validate_order()).err()?;
                Some(format!("{error:?}"))
            });
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
