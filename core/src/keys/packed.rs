//! A key's record at rest: 128 bytes, two cache lines.
//!
//! Most keys are of authorizations, and memory that is touched for the first time costs more than all else that is done for a key. So
//! integers lie without the gaps that 128-bit ones make, and what only movements have lies out of line. Owns the form; refuses to know
//! what the fields mean.

use crate::amount::Ledger;
use crate::command::Verb;
use crate::gapless::{Single, Wide};
use crate::ids::{AccountId, Seq, Version};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::outcome::Outcome;
use crate::reply::Flags;
use crate::time::{Bucket, Time};

use super::{KeyRecord, Standing};

/// A [`KeyRecord`] at rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Packed {
    account: Wide,
    key: Wide,
    authorization: Wide,
    amount: Single,
    bucket: Bucket,
    fingerprint: Fingerprint,
    ledger: Ledger,
    expires: Time,
    seq: Seq,
    version: Version,
    received: Time,
    movement: Option<Box<Moving>>,
    key_kind: KeyKind,
    verb: Verb,
    outcome: Outcome,
    flags: Flags,
    standing: Standing,
    is_reversed: bool,
    is_counted: bool,
    is_orphan: bool,
}

/// What only movements of money have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Moving {
    transfer: Wide,
    other: Wide,
    exchange: u64,
}

/// What an allocation for it takes.
pub(super) const MOVING_BYTES: usize = 48;
const _: () = assert!(core::mem::size_of::<Moving>() <= MOVING_BYTES);

impl Packed {
    pub(super) fn new(r: &KeyRecord) -> Self {
        let movement = Moving { transfer: Wide::new(r.transfer), other: Wide::new(r.other), exchange: r.exchange };
        Self {
            account: Wide::new(r.account.0),
            key: Wide::new(r.key.bits),
            authorization: Wide::new(r.authorization),
            amount: Single::new(r.amount),
            bucket: r.bucket,
            fingerprint: r.fingerprint,
            ledger: r.ledger,
            expires: r.expires,
            seq: r.seq,
            version: r.version,
            received: r.received,
            movement: (movement != Moving::default()).then(|| Box::new(movement)),
            key_kind: r.key.kind,
            verb: r.verb,
            outcome: r.outcome,
            flags: r.flags,
            standing: r.standing,
            is_reversed: r.is_reversed,
            is_counted: r.is_counted,
            is_orphan: r.is_orphan,
        }
    }

    pub(super) fn record(&self) -> KeyRecord {
        let (transfer, other, exchange) = self.movement.as_deref().map_or((0, 0, 0), |movement| {
            let Moving { transfer, other, exchange } = *movement;
            (transfer.get(), other.get(), exchange)
        });
        KeyRecord {
            account: AccountId(self.account.get()),
            key: self.key(),
            amount: self.amount.amount(),
            authorization: self.authorization.get(),
            transfer,
            other,
            fingerprint: self.fingerprint,
            ledger: self.ledger,
            expires: self.expires,
            seq: self.seq,
            version: self.version,
            received: self.received,
            exchange,
            bucket: self.bucket,
            verb: self.verb,
            outcome: self.outcome,
            flags: self.flags,
            standing: self.standing,
            is_reversed: self.is_reversed,
            is_counted: self.is_counted,
            is_orphan: self.is_orphan,
        }
    }

    pub(super) const fn account(&self) -> AccountId {
        AccountId(self.account.get())
    }
    pub(super) const fn key(&self) -> Key {
        Key { bits: self.key.get(), kind: self.key_kind }
    }
    /// Looks at both halves of it.
    pub(super) const fn touch(&self) -> u128 {
        const {
            assert!(core::mem::offset_of!(Self, account) < 64 && core::mem::offset_of!(Self, key_kind) >= 64);
        }
        self.account.get() ^ self.key_kind as u128
    }
    pub(super) const fn received(&self) -> Time {
        self.received
    }
    pub(super) fn receive(&mut self, received: Time) {
        self.received = received;
    }
    pub(super) fn stamp(&mut self, first: Seq) {
        self.seq = self.seq.stamped(first);
    }
    /// Whether it has parts out of line.
    pub(super) const fn is_moving(&self) -> bool {
        self.movement.is_some()
    }
    pub(super) const fn is_orphan(&self) -> bool {
        self.is_orphan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use proptest::prelude::*;

    #[test]
    fn a_record_at_rest_takes_two_cache_lines() {
        assert_eq!(core::mem::size_of::<Option<Packed>>(), 128);
    }

    fn record() -> impl Strategy<Value = KeyRecord> {
        let wide = || prop_oneof![Just(0), any::<u128>()];
        let ids = (any::<u128>(), any::<u128>(), wide(), wide(), wide());
        let times = (0..=Time::MAX.0, 0..=Time::MAX.0, any::<u64>(), any::<u64>(), any::<u64>());
        let rest = (0..=Amount::MAX.get(), any::<u64>(), prop_oneof![Just(0), any::<u64>()], any::<[bool; 4]>());
        let small = (any::<u16>(), any::<u16>(), 0..Outcome::ALL.len(), 0..Verb::ALL.len(), any::<u8>());
        (ids, times, rest, small).prop_map(|(ids, times, rest, small)| KeyRecord {
            account: AccountId(ids.0),
            key: Key { bits: ids.1, kind: if rest.3[0] { KeyKind::UuidV7 } else { KeyKind::Opaque } },
            amount: Amount::new(rest.0).expect("in range"),
            authorization: ids.2,
            transfer: ids.3,
            other: ids.4,
            fingerprint: Fingerprint(rest.1),
            ledger: Ledger::from_bits(times.4),
            expires: Time(times.0),
            seq: Seq(times.2),
            version: Version(times.3),
            received: Time(times.1),
            exchange: rest.2,
            bucket: Bucket { day: crate::time::Date(small.0), month: small.1 },
            verb: Verb::ALL[small.3],
            outcome: Outcome::ALL[small.2],
            flags: Flags(small.4),
            standing: if rest.3[1] { Standing::Fence } else { Standing::Tombstone },
            is_reversed: rest.3[1],
            is_counted: rest.3[2],
            is_orphan: rest.3[3],
        })
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(record in record()) {
            let packed = Packed::new(&record);
            prop_assert_eq!(packed.record(), record.clone());
            prop_assert_eq!((packed.account(), packed.key(), packed.received()), (record.account, record.key, record.received));
        }
    }
}
