//! Cards: a number stands for a token, a token for an account; the number itself is nowhere in the clear.
//!
//! Owns card numbers from the edge inwards: their type, their lookup by a keyed hash, their recovery by role, the keys for both and their
//! rotation, and the records of one stream in the engine's journal ([`CARD_STREAM`]) that all of it is folded from. Refuses to know
//! protocols and money.
//!
//! ```text
//!   number --(HMAC-SHA256 of tenant and number, keyed)--> lookup --> token --> account
//!      |                                                               |
//!      +--(AES-256-GCM, for the token)------------------------------> sealed --(role card_data, recorded)--> number
//!
//!   change: reserve (no second change of the same card) --> engine.record (durable) --> apply --> answer
//!   start:  file of records (a cache) --> records after it from the journal --> state
//! ```
//!
//! Invariants: PAN-1 (a number is never stored, logged or shown in the clear but to the role `card_data`, and that is recorded), PAN-2 (a
//! number of a tenant has one token), PAN-3 (the state is the fold of the records; the file is only a cache).

mod cache;
mod keys;
mod pan;
mod record;
mod state;
mod vault;

pub use keys::{CardKeyError, CardKeyId, CardKeys, LocalCardKeys};
pub(crate) use keys::{KEYS_VARIABLE, KeySource};
pub use pan::{Pan, PanError, names_card};
pub use record::{CardStatus, Expiry, Token};
pub use state::{Card, CardCounts};
pub(crate) use vault::VaultFold;
pub use vault::{CardError, Found, NewCard, Vault};

/// Whether a card's last month is over on that day (UTC).
pub(crate) fn is_over(expiry: Expiry, at: tp_actors::tp_core::time::Time) -> bool {
    let (year, month, _) = at.date().civil();
    let since_2000 = u16::try_from(year.saturating_sub(2000)).unwrap_or(u16::MAX);
    expiry.is_before(since_2000, u8::try_from(month).unwrap_or(1))
}

/// The stream of the engine's records that cards are folded from.
pub const CARD_STREAM: u32 = 2;
