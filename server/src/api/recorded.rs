//! What is kept of a command that a second person decides, read back for the doors that do not speak JSON.
//!
//! Owns the way from the body of HTTP's answer to a reply of the engine. Refuses to decide what a door makes of it.

use serde::Deserialize;
use tp_actors::tp_core::amount::{Amount, Balances, Ledger};
use tp_actors::tp_core::ids::{Seq, Version};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::{Flags, Reply};

use super::reads::parse_time;
use crate::tenancy::parse_decimal;

/// What is kept of a command that a second person decides: its approval, or what came of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Recorded {
    pub(crate) approval: String,
    pub(crate) outcome: String,
    pub(crate) detail: String,
    repeated: bool,
    reversed: bool,
    flags: Vec<String>,
    amount: Option<String>,
    asset: Option<String>,
    scale: Option<u8>,
    balances: Option<RecordedBalances>,
    authorization: Option<String>,
    transfer: Option<String>,
    expires: Option<String>,
    seq: u64,
    version: u64,
}

#[derive(Deserialize)]
struct RecordedBalances {
    posted: String,
    held: String,
    available: Option<String>,
}

impl RecordedBalances {
    fn read(&self) -> Option<Balances> {
        let available = self.available.as_deref().map(|text| text.parse().ok());
        let available = if let Some(read) = available { Some(read?) } else { None };
        Some(Balances { posted: self.posted.parse().ok()?, held: self.held.parse().ok()?, available })
    }
}

impl Recorded {
    /// From the body that HTTP is answered with.
    pub(crate) fn read(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// As the engine had said it; `None`: it was no decision of the engine's.
    pub(crate) fn reply(&self) -> Option<Reply> {
        let outcome = Outcome::ALL.iter().copied().find(|outcome| outcome.name() == self.outcome)?;
        let amount = self.amount.as_deref().and_then(parse_decimal).and_then(Amount::new);
        let named = |flag: &Flags| flag.names().all(|name| self.flags.iter().any(|known| known == name));
        let flags = (0..8).map(|bit| Flags(1 << bit)).filter(|flag| flag.names().next().is_some() && named(flag));
        Some(Reply {
            repeated: self.repeated,
            reversed: self.reversed,
            flags: flags.fold(Flags::NONE, Flags::with),
            amount: amount.unwrap_or_default(),
            balances: self.balances.as_ref().and_then(RecordedBalances::read),
            ledger: self.asset.as_deref().zip(self.scale).and_then(|(asset, scale)| Ledger::new(asset, scale)),
            authorization: self.authorization.as_deref().and_then(|text| text.parse().ok()),
            transfer: self.transfer.as_deref().and_then(|text| text.parse().ok()),
            expires: self.expires.as_deref().and_then(parse_time),
            seq: Seq(self.seq),
            version: Version(self.version),
            ..Reply::bare(outcome)
        })
    }
}
