//! The invariants of the domain, by name, and `validate`: the order relations of a slot's state.
//!
//! | name | says | where asserted |
//! |---|---|---|
//! | LED-1 | per ledger, debits equal credits plus what is in transit; every event balances by itself | evolve, [`Totals`] |
//! | HLD-1 | an authorization's hold, releases and captures from the hold are what was authorized; an account's held sum is the sum of its open holds | evolve, [`Slot::validate`] |
//! | CAP-1 | refunds of a capture never exceed it | [`Slot::validate`] |
//! | IDM-1 | one outcome per key | evolve, decide |
//! | SEQ-1 | an account's version is gapless, each leg names the event before it (J3) | evolve |
//! | EXC-1 | an exchange is answered once and ends once | evolve |
//! | FGT-1 | a remembered key leaves once nothing keeps it: it is in the order of the forgetting, or its hold or exchange brings it back | [`Slot::validate_order`], in tests and the simulation |
//! | DUR-1 | no reply before what it reveals is durable (J2) | the engine's reply release |
//! | RPL-1 | a replay gives the live state, digest for digest (J4) | recovery tests, verify |

use std::collections::BTreeMap;

use crate::account::Account;
use crate::amount::Ledger;
use crate::ids::AccountId;
use crate::slot::Slot;

/// A state contradicts an invariant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{invariant} violated in slot {slot}: {what}")]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// Where.
    pub slot: u16,
    /// What was found.
    pub what: String,
}

/// Sums over the accounts of a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Of all debits.
    pub debits: u128,
    /// Of all credits.
    pub credits: u128,
    /// Of all holds.
    pub held: u128,
    /// On its way between slots, signed.
    pub in_transit: i128,
}

impl Totals {
    /// LED-1 over all slots: debits equal credits plus what is in transit.
    pub fn is_balanced(&self) -> bool {
        self.debits.cast_signed().checked_sub(self.credits.cast_signed()) == Some(self.in_transit)
    }
    /// Adds another slot's sums; saturating, since sums of 2^127 balance in no world.
    pub fn add(&mut self, other: &Self) {
        self.debits = self.debits.saturating_add(other.debits);
        self.credits = self.credits.saturating_add(other.credits);
        self.held = self.held.saturating_add(other.held);
        self.in_transit = self.in_transit.saturating_add(other.in_transit);
    }
}

impl Slot {
    /// The sums of this slot, by ledger.
    pub fn totals(&self) -> BTreeMap<Ledger, Totals> {
        let mut all: BTreeMap<Ledger, Totals> = BTreeMap::new();
        for a in self.iter_accounts() {
            let one = Totals { debits: a.debits.get(), credits: a.credits.get(), held: a.held.get(), in_transit: 0 };
            all.entry(a.ledger).or_default().add(&one);
        }
        for (ledger, sum) in self.in_transit() {
            all.entry(*ledger).or_default().in_transit += sum;
        }
        all
    }

    /// HLD-1, CAP-1, EXC-1 over the whole slot.
    ///
    /// # Errors
    /// The first violation found.
    pub fn validate(&self) -> Result<(), Violation> {
        let mut holds: BTreeMap<AccountId, (u128, u32)> = BTreeMap::new();
        for a in self.iter_authorizations() {
            let from_hold: u128 = self.captures_of(a).map(|c| c.from_hold).sum();
            let captured: u128 = self.captures_of(a).map(|c| c.amount).sum();
            let open = a.is_open();
            // What was released is what no longer stands: that it was released by an event is the tests' models' to know.
            self.require("HLD-1", from_hold == a.course().from_hold && a.stands() <= a.authorized.get(), || {
                let (kept, hold, authorized) = (a.course().from_hold, a.hold.get(), a.authorized.get());
                format!("{}: hold {hold} and captured from it {from_hold} ({kept}) of {authorized}", a.id())
            })?;
            self.require("HLD-1", open || a.hold.get() == 0, || {
                format!("{}: closed with {} held", a.id(), a.hold.get())
            })?;
            self.require("CAP-1", captured == a.course().captured, || {
                format!("{}: captures sum to {captured}, not {}", a.id(), a.course().captured)
            })?;
            for c in self.captures_of(a) {
                self.require("CAP-1", c.refunded <= c.amount && c.from_hold <= c.amount, || {
                    format!("{}: refunded {}, from the hold {} of {}", c.id, c.refunded, c.from_hold, c.amount)
                })?;
            }
            if a.exchange() != 0 {
                let works_on = self.exchanges.get(a.exchange()).map(|e| e.movement.authorization);
                self.require("EXC-1", works_on == Some(a.id().0), || {
                    format!("{}: exchange {} is not its own", a.id(), a.exchange())
                })?;
            }
            if open {
                let sum = holds.entry(a.account()).or_default();
                *sum = (sum.0 + a.hold.get(), sum.1 + 1);
            }
        }
        let mut exchanges: BTreeMap<AccountId, u32> = BTreeMap::new();
        for (_, exchange) in self.exchanges.iter() {
            *exchanges.entry(exchange.owner).or_default() += 1;
        }
        self.iter_accounts().try_for_each(|a| self.validate_account(a, &holds, &exchanges))
    }

    fn validate_account(
        &self,
        a: &Account,
        holds: &BTreeMap<AccountId, (u128, u32)>,
        exchanges: &BTreeMap<AccountId, u32>,
    ) -> Result<(), Violation> {
        let (held, open) = holds.get(&a.id()).copied().unwrap_or_default();
        self.require("HLD-1", (held, open) == (a.held.get(), a.holds_open), || {
            format!(
                "account {}: {} held in {} holds, but the holds are {held} in {open}",
                a.id(),
                a.held.get(),
                a.holds_open
            )
        })?;
        let open = exchanges.get(&a.id()).copied().unwrap_or_default();
        self.require("EXC-1", open == a.exchanges_open, || {
            format!("account {}: {} exchanges open, but {open} are there", a.id(), a.exchanges_open)
        })
    }

    fn require(&self, invariant: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(Violation { invariant, slot: self.index().get(), what: what() }) }
    }
}
