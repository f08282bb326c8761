//! A key's record at rest: 64 bytes, one cache line.
//!
//! Most keys are of authorizations, and memory that is touched for the first time costs more than all else that is done for a key. So
//! the line has what cannot be worked out: not the account's id and ledger but where the account is, not the id of an authorization
//! that the key made but its counter, times as distances. Owns the form, and which records fit into it. Refuses to know what the
//! fields mean, and where what does not fit is kept.

use crate::amount::{Amount, Ledger};
use crate::command::Verb;
use crate::gapless::{Short, Wide};
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, Version};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::outcome::Outcome;
use crate::reply::Flags;
use crate::time::{Bucket, Date, Time};

use super::{KeyRecord, Standing};

/// The part of a [`KeyRecord`] that lies in its own line.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(align(64))]
pub(super) struct Packed {
    key: Wide,
    fingerprint: Fingerprint,
    /// Where its account is; below it how long after the receipt it expires, ms, or 0: it does not.
    account_and_expires: u64,
    /// The bits above these lie with the sequence number.
    version_low: u32,
    /// By its form: the counter of the authorization that it made, the place of its [`Moved`], or that of the whole record.
    link: u32,
    received: Short,
    amount: Short,
    /// The sequence number, below [`SEQ_END`] and with a mark while it is provisional; above it the bucket (see [`bucket_bits`]), and
    /// above that the rest of the version.
    seq_bucket_version: u64,
    verb: Verb,
    outcome: Outcome,
    flags: Flags,
    /// See the constants below.
    traits: u8,
}

/// 8.7 years. The other 26 bits are the account's: 67 million in a slot.
const EXPIRES_BITS: u32 = 38;
const EXPIRES_END: u64 = 1 << EXPIRES_BITS;
const ACCOUNTS_MAX: u32 = 1 << (u64::BITS - EXPIRES_BITS);

/// Sequence numbers have 49 bits, 17 years of a million a second; one bit more says that the number is provisional.
const SEQ_END: u64 = 1 << 49;
const BUCKET_AT: u32 = 50;
const VERSION_AT: u32 = 58;
const SEQ_MASK: u64 = (1 << BUCKET_AT) - 1;
const BUCKET_MASK: u64 = 0xFF;
const VERSION_END: u64 = 1 << (32 + u64::BITS - VERSION_AT);

// Bits of `traits`: form (2), standing (2), and one each.
const STANDING: u32 = 2;
const OPAQUE: u8 = 1 << 4;
const REVERSED: u8 = 1 << 5;
const COUNTED: u8 = 1 << 6;
/// The ledger is the account's; otherwise there is none.
const LEDGER: u8 = 1 << 7;

/// What a record has beside its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// Nothing: it names no authorization.
    Bare,
    /// Nothing: it made the authorization with this counter.
    Made(u32),
    /// A [`Moved`], at this place.
    Moved(u32),
    /// All of it, at this place: a field is beyond what the line holds.
    Odd(u32),
}

impl Form {
    const fn bits(self) -> (u8, u32) {
        match self {
            Self::Bare => (0, 0),
            Self::Made(counter) => (1, counter),
            Self::Moved(place) => (2, place),
            Self::Odd(place) => (3, place),
        }
    }
}

/// What only movements of money have, and commands that name an authorization.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Moved {
    pub(super) authorization: Wide,
    pub(super) transfer: Wide,
    pub(super) other: Wide,
    pub(super) exchange: u64,
}

/// What a record's account adds to it: where it is in its slot, its id and ledger, and the slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) position: u32,
    pub(super) id: AccountId,
    pub(super) ledger: Ledger,
    pub(super) slot: SlotIndex,
}

fn seq_bits(seq: Seq) -> Option<u64> {
    let (number, mark) = if seq.is_provisional() { (seq.0 - Seq::provisional(0).0, SEQ_END) } else { (seq.0, 0) };
    (number < SEQ_END).then_some(number | mark)
}

impl Packed {
    /// The line of a record, and what lies beside it; the form has no place yet. `None`: it does not fit.
    #[allow(clippy::cast_possible_truncation, reason = "the version's lower half")]
    pub(super) fn new(r: &KeyRecord, owner: &Owner) -> Option<(Self, Option<Moved>)> {
        let expires_ms = match r.expires {
            Time(0) => 0,
            Time(at) => at.checked_sub(r.received.0).filter(|ms| (1..EXPIRES_END).contains(ms))?,
        };
        let has_ledger = r.ledger != Ledger::from_bits(0);
        let is_owners = r.account == owner.id && (!has_ledger || r.ledger == owner.ledger);
        let fits = owner.position < ACCOUNTS_MAX && r.version.0 < VERSION_END;
        if r.is_orphan || !is_owners || !fits {
            return None;
        }
        let moved = Moved {
            authorization: Wide::new(r.authorization),
            transfer: Wide::new(r.transfer),
            other: Wide::new(r.other),
            exchange: r.exchange,
        };
        let form = match made(r, owner.slot) {
            Some(counter) => Form::Made(counter),
            None if moved == Moved::default() => Form::Bare,
            None => Form::Moved(0),
        };
        let (kind, link) = form.bits();
        let traits = kind
            | (r.standing as u8) << STANDING
            | if r.key.kind == KeyKind::Opaque { OPAQUE } else { 0 }
            | if r.is_reversed { REVERSED } else { 0 }
            | if r.is_counted { COUNTED } else { 0 }
            | if has_ledger { LEDGER } else { 0 };
        let packed = Self {
            key: Wide::new(r.key.bits),
            fingerprint: r.fingerprint,
            account_and_expires: u64::from(owner.position) << EXPIRES_BITS | expires_ms,
            version_low: r.version.0 as u32,
            link,
            received: Short::of_time(r.received),
            amount: Short::new(u64::try_from(r.amount.get()).ok()?)?,
            seq_bucket_version: seq_bits(r.seq)?
                | bucket_bits(r.bucket, r.received)? << BUCKET_AT
                | r.version.0 >> 32 << VERSION_AT,
            verb: r.verb,
            outcome: r.outcome,
            flags: r.flags,
            traits,
        };
        Some((packed, matches!(form, Form::Moved(_)).then_some(moved)))
    }

    /// The line of a record that lies elsewhere as a whole: what the index and the order of the forgetting ask for.
    pub(super) fn odd(r: &KeyRecord, place: u32) -> Self {
        let (kind, link) = Form::Odd(place).bits();
        Self {
            key: Wide::new(r.key.bits),
            fingerprint: r.fingerprint,
            account_and_expires: 0,
            version_low: 0,
            link,
            received: Short::of_time(r.received),
            amount: Short::default(),
            seq_bucket_version: 0,
            verb: r.verb,
            outcome: r.outcome,
            flags: r.flags,
            traits: kind | if r.key.kind == KeyKind::Opaque { OPAQUE } else { 0 },
        }
    }

    /// The record, unless it is an odd one; `moved` is what lies beside the line.
    pub(super) fn record(&self, owner: &Owner, moved: Option<&Moved>) -> KeyRecord {
        let has = |bit| self.traits & bit != 0;
        let received = self.received();
        let none = Moved::default();
        let moved = moved.unwrap_or(&none);
        let authorization = match self.form() {
            Form::Made(counter) => self.made(counter, owner.slot),
            _ => moved.authorization.get(),
        };
        KeyRecord {
            account: owner.id,
            key: self.key(),
            amount: Amount::from(self.amount.get()),
            authorization,
            transfer: moved.transfer.get(),
            other: moved.other.get(),
            fingerprint: self.fingerprint,
            ledger: if has(LEDGER) { owner.ledger } else { Ledger::from_bits(0) },
            expires: match self.account_and_expires & (EXPIRES_END - 1) {
                0 => Time(0),
                ms => Time(received.0 + ms),
            },
            seq: self.seq(),
            version: Version(self.seq_bucket_version >> VERSION_AT << 32 | u64::from(self.version_low)),
            received,
            exchange: moved.exchange,
            bucket: bucket_of(self.seq_bucket_version >> BUCKET_AT & BUCKET_MASK, received),
            verb: self.verb,
            outcome: self.outcome,
            flags: self.flags,
            standing: match self.traits >> STANDING & 0b11 {
                0 => Standing::Decided,
                1 => Standing::Fence,
                _ => Standing::Tombstone,
            },
            is_reversed: has(REVERSED),
            is_counted: has(COUNTED),
            is_orphan: false,
        }
    }

    /// The authorization with this counter that it made.
    pub(super) fn made(&self, counter: u32, slot: SlotIndex) -> u128 {
        AuthorizationId::new(self.received(), slot, u64::from(counter)).0
    }
    pub(super) const fn form(&self) -> Form {
        match self.traits & 0b11 {
            0 => Form::Bare,
            1 => Form::Made(self.link),
            2 => Form::Moved(self.link),
            _ => Form::Odd(self.link),
        }
    }
    /// Where what lies beside it is.
    pub(super) const fn set_place(&mut self, place: u32) {
        self.link = place;
    }
    #[allow(clippy::cast_possible_truncation, reason = "it has 26 bits")]
    pub(super) const fn account(&self) -> u32 {
        (self.account_and_expires >> EXPIRES_BITS) as u32
    }
    pub(super) const fn key(&self) -> Key {
        let kind = if self.traits & OPAQUE == 0 { KeyKind::UuidV7 } else { KeyKind::Opaque };
        Key { bits: self.key.get(), kind }
    }
    pub(super) const fn received(&self) -> Time {
        Time(self.received.get())
    }
    const fn seq(&self) -> Seq {
        let number = self.seq_bucket_version & SEQ_MASK;
        if number < SEQ_END { Seq(number) } else { Seq::provisional(number - SEQ_END) }
    }
    /// Turns a provisional number into a real one; `false`: the line does not hold it.
    pub(super) fn stamp(&mut self, first: Seq) -> bool {
        let stamped = seq_bits(self.seq().stamped(first));
        if let Some(bits) = stamped {
            self.seq_bucket_version = self.seq_bucket_version & !SEQ_MASK | bits;
        }
        stamped.is_some()
    }
}

/// The counter of the authorization that the record made, as far as its id follows from it.
fn made(r: &KeyRecord, slot: SlotIndex) -> Option<u32> {
    let is_all = r.authorization != 0 && (r.transfer, r.other, r.exchange) == (0, 0, 0);
    let counter = AuthorizationId(r.authorization).counter();
    let follows = is_all && AuthorizationId::new(r.received, slot, counter).0 == r.authorization;
    u32::try_from(counter).ok().filter(|_| follows)
}

/// The bucket in eight bits: how far its day is from that of the receipt, -31 to 31, and its month from what that day comes to; 0: no
/// bucket. `None`: it is further away.
fn bucket_bits(bucket: Bucket, received: Time) -> Option<u64> {
    if bucket == Bucket::default() {
        return Some(0);
    }
    let day = i64::from(bucket.day.0) - i64::from(received.date().0) + 32;
    let month = i64::from(bucket.month) - month_near(bucket.day) + 1;
    let fits = (1..64).contains(&day) && (0..4).contains(&month);
    u64::try_from(day << 2 | month).ok().filter(|_| fits)
}

fn bucket_of(bits: u64, received: Time) -> Bucket {
    let part = |bits: u64| i64::try_from(bits).unwrap_or(0);
    if bits == 0 {
        return Bucket::default();
    }
    let near = |value: i64| u16::try_from(value).unwrap_or(0);
    let day = Date(near(i64::from(received.date().0) + part(bits >> 2) - 32));
    Bucket { day, month: near(month_near(day) + part(bits & 3) - 1) }
}

/// Months since January 1970, or one less or more: a month has 30.44 days.
fn month_near(day: Date) -> i64 {
    i64::from(day.0) * 100 / 3_044
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::keys) const OWNER: Owner = Owner { position: 7, id: AccountId(1 << 90), ledger: EUR, slot: SLOT };
    const EUR: Ledger = Ledger::new("EUR", 2).expect("valid");
    const SLOT: SlotIndex = SlotIndex::new(1000).expect("one of them");
    const NOW: Time = Time(1_700_000_000_000);

    #[test]
    fn a_record_at_rest_takes_one_cache_line_and_what_lies_beside_it_another() {
        assert_eq!((size_of::<Option<Packed>>(), align_of::<Packed>()), (64, 64));
        assert_eq!(size_of::<Option<Moved>>(), 64);
    }

    fn authorized() -> KeyRecord {
        KeyRecord {
            amount: Amount::from(1_000),
            authorization: AuthorizationId::new(NOW, SLOT, 9).0,
            ledger: EUR,
            expires: NOW.plus_ms(7 * crate::time::DAY_MS),
            version: Version(3),
            bucket: Bucket::of(NOW, 120),
            is_counted: true,
            verb: Verb::Authorize,
            outcome: Outcome::Approved,
            ..KeyRecord::bare(OWNER.id, Key { bits: 5, kind: KeyKind::UuidV7 }, Standing::Decided, Seq(8), NOW)
        }
    }

    /// What each field holds and what it does not, at the border.
    #[test]
    fn an_authorization_s_record_fits_and_what_is_beyond_a_field_does_not() {
        let form = |r: &KeyRecord| Packed::new(r, &OWNER).map(|(packed, _)| packed.form());
        let record = authorized();
        assert_eq!(form(&record), Some(Form::Made(9)));
        let counter = u64::from(u32::MAX);
        let of = |counter| AuthorizationId::new(NOW, SLOT, counter).0;
        let bare = KeyRecord::bare(OWNER.id, record.key, Standing::Fence, Seq(8), NOW);
        let far = |days: i32| Bucket::of(Time(NOW.0.strict_add_signed(i64::from(days) * 86_400_000)), 0);
        let fitting = [
            (Form::Bare, bare),
            (Form::Made(u32::MAX), KeyRecord { authorization: of(counter), ..record.clone() }),
            (Form::Moved(0), KeyRecord { authorization: of(counter + 1), ..record.clone() }),
            (
                Form::Moved(0),
                KeyRecord { authorization: AuthorizationId::new(Time(NOW.0 - 1), SLOT, 9).0, ..record.clone() },
            ),
            (Form::Moved(0), KeyRecord { exchange: 1, ..record.clone() }),
            (Form::Made(9), KeyRecord { amount: Amount::from((1 << 48) - 1), ..record.clone() }),
            (Form::Made(9), KeyRecord { version: Version(VERSION_END - 1), ..record.clone() }),
            (Form::Made(9), KeyRecord { expires: Time(NOW.0 + EXPIRES_END - 1), ..record.clone() }),
            (Form::Made(9), KeyRecord { seq: Seq(SEQ_END - 1), ..record.clone() }),
            (Form::Made(9), KeyRecord { seq: Seq::provisional(0), ..record.clone() }),
            (Form::Made(9), KeyRecord { bucket: far(31), ..record.clone() }),
            (Form::Made(9), KeyRecord { bucket: far(-31), ..record.clone() }),
        ];
        for (expected, record) in fitting {
            assert_eq!(form(&record), Some(expected), "{record:?}");
        }
        let odd = [
            KeyRecord { amount: Amount::from(1 << 48), ..record.clone() },
            KeyRecord { version: Version(VERSION_END), ..record.clone() },
            KeyRecord { expires: Time(NOW.0 + EXPIRES_END), ..record.clone() },
            KeyRecord { expires: NOW, ..record.clone() },
            KeyRecord { seq: Seq(SEQ_END), ..record.clone() },
            KeyRecord { bucket: far(32), ..record.clone() },
            KeyRecord { bucket: far(-32), ..record.clone() },
            KeyRecord { bucket: Bucket { month: 1, ..far(0) }, ..record.clone() },
            KeyRecord { ledger: Ledger::from_bits(1), ..record.clone() },
            KeyRecord { account: AccountId(1), ..record.clone() },
            KeyRecord { is_orphan: true, ..record },
        ];
        for record in odd {
            assert_eq!(form(&record), None, "{record:?}");
        }
    }

    #[test]
    fn the_bucket_of_every_day_fits_beside_a_receipt_of_that_day() {
        for day in (1..u16::MAX).map(Date) {
            for offset in [-31_i16, -1, 0, 1, 31] {
                let bucket = Bucket::of_day(Date(day.0.saturating_add_signed(offset)));
                let bits = bucket_bits(bucket, day.start());
                assert_eq!(bits.map(|bits| bucket_of(bits, day.start())), Some(bucket), "{bucket:?}, {day}");
            }
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_not_stamped() {
        let (mut packed, _) =
            Packed::new(&KeyRecord { seq: Seq::provisional(2), ..authorized() }, &OWNER).expect("fits");
        assert!(!packed.stamp(Seq(SEQ_END - 2)));
        assert!(packed.stamp(Seq(SEQ_END - 3)));
        assert_eq!(packed.seq(), Seq(SEQ_END - 1));
    }

    /// Any record; most fit, of [`OWNER`].
    pub(crate) fn record() -> impl Strategy<Value = KeyRecord> {
        let id = prop_oneof![9 => Just(OWNER.id), 1 => any::<u128>().prop_map(AccountId)];
        let wide = || prop_oneof![4 => Just(0), 1 => any::<u128>()];
        let made =
            prop_oneof![9 => 0..1_u64 << 32, 1 => any::<u64>()].prop_map(|n| AuthorizationId::new(NOW, SLOT, n).0);
        let ids = (id, any::<u128>(), prop_oneof![Just(0), any::<u128>(), made], wide(), wide());
        let received = prop_oneof![9 => Just(NOW.0), 1 => 0..=Time::MAX.0];
        let expires = prop_oneof![4 => Just(0), 4 => NOW.0..NOW.0 + (1 << 37), 1 => 0..=Time::MAX.0];
        let number = || prop_oneof![9 => 0..1_u64 << 36, 1 => any::<u64>()];
        let any_ledger = any::<u64>().prop_map(Ledger::from_bits);
        let ledger = prop_oneof![5 => Just(EUR), 4 => Just(Ledger::from_bits(0)), 1 => any_ledger];
        let times = (expires, received, number(), number(), ledger);
        let amount = prop_oneof![9 => 0..1_u128 << 48, 1 => 0..=Amount::MAX.get()];
        let exchange = prop_oneof![4 => Just(0), 1 => any::<u64>()];
        let rest = (amount, any::<u64>(), exchange, any::<[bool; 3]>(), prop::bool::weighted(0.1));
        let near = (-40..40_i64).prop_map(|days| Bucket::of(Time(NOW.0.strict_add_signed(days * 86_400_000)), 0));
        let any_bucket = any::<(u16, u16)>().prop_map(|(day, month)| Bucket { day: Date(day), month });
        let bucket = prop_oneof![4 => Just(Bucket::default()), 5 => near, 1 => any_bucket];
        let small = (bucket, 0..Outcome::ALL.len(), 0..Verb::ALL.len(), any::<u8>(), 0..3_usize);
        (ids, times, rest, small).prop_map(|(ids, times, rest, small)| KeyRecord {
            account: ids.0,
            key: Key { bits: ids.1, kind: if rest.3[0] { KeyKind::UuidV7 } else { KeyKind::Opaque } },
            amount: Amount::new(rest.0).expect("in range"),
            authorization: ids.2,
            transfer: ids.3,
            other: ids.4,
            fingerprint: Fingerprint(rest.1),
            ledger: times.4,
            expires: Time(times.0),
            seq: Seq(times.2),
            version: Version(times.3),
            received: Time(times.1),
            exchange: rest.2,
            bucket: small.0,
            verb: Verb::ALL[small.2],
            outcome: Outcome::ALL[small.1],
            flags: Flags(small.3),
            standing: [Standing::Decided, Standing::Fence, Standing::Tombstone][small.4],
            is_reversed: rest.3[1],
            is_counted: rest.3[2],
            is_orphan: rest.4,
        })
    }

    proptest! {
        #[test]
        fn a_record_that_fits_comes_back_as_it_was(record in record()) {
            if let Some((packed, moved)) = Packed::new(&record, &OWNER) {
                prop_assert_eq!(matches!(packed.form(), Form::Moved(_)), moved.is_some());
                prop_assert_eq!(packed.record(&OWNER, moved.as_ref()), record.clone());
                prop_assert_eq!((packed.account(), packed.key(), packed.received()), (OWNER.position, record.key, record.received));
            }
            let odd = Packed::odd(&record, 3);
            prop_assert_eq!((odd.form(), odd.key(), odd.received()), (Form::Odd(3), record.key, record.received));
        }
    }
}
