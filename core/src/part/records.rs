//! What each record's fields are expected to be.
//!
//! Owns the order of the fields, which is part of the format, and what is guessed of each; a bad guess costs bytes and nothing else.
//! Refuses to know how differences become bytes, and which values make sense beyond what a type can hold.

use super::difference::{Recorded, Way};
use crate::amount::{Amount, CreditLimit, Ledger};
use crate::command::{Limits, PeriodLimit, Settings, Status, Verb};
use crate::ids::{AccountId, AuthorizationId, Seq, TransferId, Version};
use crate::image::{AccountImage, AuthorizationImage, CaptureImage};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::keys::{KeyRecord, Standing};
use crate::outcome::Outcome;
use crate::reply::{AuthorizationState, Flags};
use crate::time::{Bucket, Date, Time};

impl Recorded for AccountImage {
    const FIELDS: u32 = 21;

    fn none() -> Self {
        Self {
            id: AccountId(0),
            debits: 0,
            credits: 0,
            held: 0,
            day_amount: 0,
            month_amount: 0,
            settings: Settings::new(Ledger::from_bits(0)),
            seq: Seq::ZERO,
            version: Version(0),
            day_count: 0,
            month_count: 0,
            bucket: Bucket::default(),
            holds_open: 0,
            exchanges_open: 0,
        }
    }

    fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error> {
        self.id = AccountId(way.wide(self.id.0, before.id.0)?);
        self.debits = way.wide(self.debits, before.debits)?;
        self.credits = way.wide(self.credits, before.credits)?;
        self.held = way.wide(self.held, before.held)?;
        self.day_amount = way.wide(self.day_amount, self.held)?;
        self.month_amount = way.wide(self.month_amount, self.day_amount)?;
        pass_settings(&mut self.settings, &before.settings, way)?;
        self.seq = Seq(way.word(self.seq.0, before.seq.0)?);
        self.version = Version(way.word(self.version.0, before.version.0)?);
        self.holds_open = way.small(self.holds_open, before.holds_open)?;
        self.day_count = way.small(self.day_count, self.holds_open)?;
        self.month_count = way.small(self.month_count, self.day_count)?;
        self.bucket = pass_bucket(self.bucket, before.bucket, way)?;
        self.exchanges_open = way.small(self.exchanges_open, 0)?;
        Ok(())
    }
}

fn pass_settings<W: Way>(settings: &mut Settings, before: &Settings, way: &mut W) -> Result<(), W::Error> {
    settings.ledger = Ledger::from_bits(way.word(settings.ledger.bits(), before.ledger.bits())?);
    let traits = |s: &Settings| u64::from(s.kind) | u64::from(s.tenant) << 16 | (s.status as u64) << 48;
    let told = way.word(traits(settings), traits(before))?;
    settings.kind = low_16(told);
    settings.tenant = low_32(told >> 16);
    settings.status = way.sense(settings.status, || match told >> 48 {
        0 => Some(Status::Open),
        1 => Some(Status::DebitFrozen),
        2 => Some(Status::Frozen),
        3 => Some(Status::Closed),
        _ => None,
    })?;
    let bounded = |limit: CreditLimit| match limit {
        CreditLimit::Amount(amount) => Some(amount),
        CreditLimit::Unlimited => None,
    };
    let credit = pass_bound(bounded(settings.credit_limit), bounded(before.credit_limit), way)?;
    settings.credit_limit = credit.map_or(CreditLimit::Unlimited, CreditLimit::Amount);
    let Limits { command_amount, day, month } = &mut settings.limits;
    *command_amount = pass_bound(*command_amount, before.limits.command_amount, way)?;
    pass_period(day, &before.limits.day, way)?;
    pass_period(month, &before.limits.month, way)
}

fn pass_period<W: Way>(limit: &mut PeriodLimit, before: &PeriodLimit, way: &mut W) -> Result<(), W::Error> {
    let number = |count: Option<u32>| count.map_or(0, |count| u64::from(count) + 1);
    let told = way.word(number(limit.count), number(before.count))?;
    limit.count = way.sense(limit.count, || match told.checked_sub(1) {
        Some(count) => u32::try_from(count).ok().map(Some),
        None => Some(None),
    })?;
    limit.amount = pass_bound(limit.amount, before.amount, way)?;
    Ok(())
}

/// 0: there is none.
fn pass_bound<W: Way>(bound: Option<Amount>, before: Option<Amount>, way: &mut W) -> Result<Option<Amount>, W::Error> {
    let number = |bound: Option<Amount>| bound.map_or(0, |amount| amount.get() + 1);
    let told = way.wide(number(bound), number(before))?;
    way.sense(bound, || match told.checked_sub(1) {
        Some(amount) => Amount::new(amount).map(Some),
        None => Some(None),
    })
}

fn pass_bucket<W: Way>(bucket: Bucket, before: Bucket, way: &mut W) -> Result<Bucket, W::Error> {
    let number = |bucket: Bucket| u32::from(bucket.day.0) | u32::from(bucket.month) << 16;
    let told = u64::from(way.small(number(bucket), number(before))?);
    Ok(Bucket { day: Date(low_16(told)), month: low_16(told >> 16) })
}

#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
const fn low_16(word: u64) -> u16 {
    word as u16
}
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are meant")]
const fn low_32(word: u64) -> u32 {
    word as u32
}

impl Recorded for AuthorizationImage {
    const FIELDS: u32 = 15;

    fn none() -> Self {
        Self {
            id: AuthorizationId(0),
            payer: AccountId(0),
            account: AccountId(0),
            payee: 0,
            authorized: 0,
            released: 0,
            hold: 0,
            captured: 0,
            expires: Time(0),
            named_at: Time(0),
            exchange: 0,
            bucket: Bucket::default(),
            tolerance_bp: 0,
            state: AuthorizationState::Open,
            captures: Vec::new(),
        }
    }

    fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error> {
        // The id's time is told by itself: what is then left of the id is how far its counter is from the next one.
        let made = Time(way.word(self.id.time().0, before.id.time().0)?);
        let after = |time: Time| Time(made.0.wrapping_add(time.0.wrapping_sub(before.id.time().0)));
        let next = AuthorizationId::new(made, before.id.slot(), before.id.counter() + 1);
        self.id = AuthorizationId(way.wide(self.id.0, next.0)?);
        way.sense((), || (self.id.time() == made).then_some(()))?;
        self.payer = AccountId(way.wide(self.payer.0, before.payer.0)?);
        self.account = AccountId(way.wide(self.account.0, self.payer.0)?);
        self.payee = way.wide(self.payee, before.payee)?;
        self.authorized = way.wide(self.authorized, before.authorized)?;
        let authorized = self.authorized;
        let as_whole = |is_whole: bool| if is_whole { authorized } else { 0 };
        self.released = way.wide(self.released, as_whole(before.released == before.authorized))?;
        self.captured = way.wide(self.captured, as_whole(before.captured == before.authorized))?;
        let left = self.authorized.saturating_sub(self.released).saturating_sub(self.captured);
        self.hold = way.wide(self.hold, left)?;
        self.expires = Time(way.word(self.expires.0, after(before.expires).0)?);
        self.named_at = Time(way.word(self.named_at.0, after(before.named_at).0)?);
        self.exchange = way.word(self.exchange, 0)?;
        self.bucket = pass_bucket(self.bucket, before.bucket, way)?;
        let traits = |a: &Self| u64::from(a.tolerance_bp) | (a.state as u64) << 16;
        let told = way.word(traits(self), traits(before))?;
        self.tolerance_bp = low_16(told);
        self.state = way.sense(self.state, || match told >> 16 {
            0 => Some(AuthorizationState::Open),
            1 => Some(AuthorizationState::Captured),
            2 => Some(AuthorizationState::Voided),
            3 => Some(AuthorizationState::Reversed),
            4 => Some(AuthorizationState::Expired),
            _ => None,
        })?;
        self.pass_captures(before.captures.len(), way)
    }
}

impl AuthorizationImage {
    /// How many there are, and each behind the one before it; before the first, one that the authorization suggests. Advices may make
    /// any number of them.
    fn pass_captures<W: Way>(&mut self, expected: usize, way: &mut W) -> Result<(), W::Error> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let count = way.small(number(self.captures.len()), number(expected))?;
        self.captures.truncate(count as usize);
        let mut before = CaptureImage {
            id: TransferId::new(self.named_at, self.id.slot(), self.id.counter()),
            payee: if self.payee == 0 { self.payer } else { AccountId(self.payee) },
            amount: self.captured,
            at: self.named_at,
            ..CaptureImage::none()
        };
        for at in 0..count as usize {
            // One more for each that is learned: no count is believed.
            if self.captures.len() == at {
                self.captures.push(CaptureImage::none());
            }
            way.inner(&mut self.captures[at], &before)?;
            before = self.captures[at];
        }
        Ok(())
    }
}

impl Recorded for CaptureImage {
    const FIELDS: u32 = 7;

    fn none() -> Self {
        Self {
            id: TransferId(0),
            payee: AccountId(0),
            amount: 0,
            from_hold: 0,
            refunded: 0,
            at: Time(0),
            is_final: false,
            is_on_suspense: false,
        }
    }

    fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error> {
        self.at = Time(way.word(self.at.0, before.at.0)?);
        let next = TransferId::new(self.at, before.id.slot(), before.id.counter() + 1);
        self.id = TransferId(way.wide(self.id.0, next.0)?);
        self.payee = AccountId(way.wide(self.payee.0, before.payee.0)?);
        self.amount = way.wide(self.amount, before.amount)?;
        self.from_hold = way.wide(self.from_hold, self.amount)?;
        self.refunded = way.wide(self.refunded, 0)?;
        let traits = |c: &Self| u64::from(c.is_final) | u64::from(c.is_on_suspense) << 1;
        let told = way.word(traits(self), traits(before))?;
        (self.is_final, self.is_on_suspense) = (told & 1 != 0, told & 2 != 0);
        way.sense((), || (told < 4).then_some(()))
    }
}

impl Recorded for KeyRecord {
    const FIELDS: u32 = 15;

    fn none() -> Self {
        let nothing = Self::bare(AccountId(0), Key::uuid_v7(0), Standing::Decided, Seq::ZERO, Time(0));
        Self { verb: Verb::Authorize, outcome: Outcome::Approved, ..nothing }
    }

    fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error> {
        self.received = Time(way.word(self.received.0, before.received.0)?);
        let passed_ms = self.received.0.wrapping_sub(before.received.0);
        let after = |time: Time| if time.0 == 0 { 0 } else { time.0.wrapping_add(passed_ms) };
        let own = traits(self);
        let told = way.word(own, traits(before))?;
        if told != own {
            way.sense((), || set_traits(self, told))?;
        }
        self.account = AccountId(way.wide(self.account.0, before.account.0)?);
        // A UUIDv7 begins with its time.
        let later = if self.key.kind == KeyKind::UuidV7 { u128::from(passed_ms) << 80 } else { 0 };
        self.key.bits = way.wide(self.key.bits, before.key.bits.wrapping_add(later))?;
        self.fingerprint = Fingerprint(way.word(self.fingerprint.0, 0)?);
        let amount = way.wide(self.amount.get(), before.amount.get())?;
        self.amount = way.sense(self.amount, || Amount::new(amount))?;
        // What the command made has its time, and the next number of its slot.
        let made = |id: u128| {
            let (slot, counter) = (AuthorizationId(id).slot(), AuthorizationId(id).counter() + 1);
            if id == 0 { 0 } else { AuthorizationId::new(self.received, slot, counter).0 }
        };
        let (authorization, transfer) = (made(before.authorization), made(before.transfer));
        self.authorization = way.wide(self.authorization, authorization)?;
        self.transfer = way.wide(self.transfer, transfer)?;
        self.other = way.wide(self.other, before.other)?;
        self.ledger = Ledger::from_bits(way.word(self.ledger.bits(), before.ledger.bits())?);
        self.expires = Time(way.word(self.expires.0, after(before.expires))?);
        self.seq = Seq(way.word(self.seq.0, before.seq.0)?);
        self.version = Version(way.word(self.version.0, before.version.0)?);
        self.exchange = way.word(self.exchange, 0)?;
        self.bucket = pass_bucket(self.bucket, before.bucket, way)?;
        Ok(())
    }
}

// Bits of a key's traits, above verb, outcome and flags with eight each, and the standing with two.
const OPAQUE: u64 = 1 << 26;
const REVERSED: u64 = 1 << 27;
const COUNTED: u64 = 1 << 28;
const ORPHAN: u64 = 1 << 29;

fn traits(r: &KeyRecord) -> u64 {
    let bit = |bit: u64, is_set: bool| if is_set { bit } else { 0 };
    r.verb as u64
        | (r.outcome as u64) << 8
        | u64::from(r.flags.0) << 16
        | (r.standing as u64) << 24
        | bit(OPAQUE, r.key.kind == KeyKind::Opaque)
        | bit(REVERSED, r.is_reversed)
        | bit(COUNTED, r.is_counted)
        | bit(ORPHAN, r.is_orphan)
}

/// `None`: they are none.
fn set_traits(r: &mut KeyRecord, traits: u64) -> Option<()> {
    let [verb, outcome, flags, rest, 0, 0, 0, 0] = traits.to_le_bytes() else { return None };
    let has = |bit: u64| traits & bit != 0;
    r.verb = Verb::ALL.iter().copied().find(|v| *v as u8 == verb)?;
    r.outcome = Outcome::from_number(outcome)?;
    r.flags = Flags(flags);
    r.standing = match rest & 0b11 {
        0 => Standing::Decided,
        1 => Standing::Fence,
        2 => Standing::Tombstone,
        _ => return None,
    };
    r.key.kind = if has(OPAQUE) { KeyKind::Opaque } else { KeyKind::UuidV7 };
    (r.is_reversed, r.is_counted, r.is_orphan) = (has(REVERSED), has(COUNTED), has(ORPHAN));
    (traits < ORPHAN << 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::difference::{Differences, Learns};
    use super::*;
    use crate::ids::SlotIndex;
    use crate::keys::any_record as key;
    use core::fmt::Debug;
    use proptest::prelude::*;
    use rkyv::util::AlignedVec;

    fn bytes_of<R: Recorded>(records: impl IntoIterator<Item = R>) -> AlignedVec {
        let (mut differences, mut bytes) = (Differences::default(), AlignedVec::new());
        differences.extend(records);
        differences.append_to(&mut bytes);
        bytes
    }

    fn come_back<R: Recorded + Clone + PartialEq + Debug>(records: &[R]) {
        let bytes = bytes_of(records.iter().cloned());
        let (mut learns, mut back) = (Learns::new(&bytes), Vec::new());
        let count = learns.count::<R>().expect("there are enough bytes");
        let read = learns.each(count, |record: &R| {
            back.push(record.clone());
            Ok(())
        });
        assert_eq!((read, learns.end()), (Ok(()), Ok(())));
        assert_eq!(back, records);
    }

    /// What is read of bytes, if they are records.
    fn learned<R: Recorded + Clone>(bytes: &[u8]) -> Option<Vec<R>> {
        let (mut learns, mut records) = (Learns::new(bytes), Vec::new());
        let count = learns.count::<R>().ok()?;
        let read = learns.each(count, |record: &R| {
            records.push(record.clone());
            Ok(())
        });
        read.and_then(|()| learns.end()).ok().map(|()| records)
    }

    /// Bytes that are records are those that are written for them, whatever became of them: each byte of some records is changed, one by
    /// one, by each of its bits and to some values.
    fn have_one_form<R: Recorded + Clone>(records: Vec<R>) -> usize {
        let (bytes, mut still) = (bytes_of(records), 0);
        for at in 4..bytes.len() {
            for change in [1, 2, 4, 8, 16, 32, 64, 128, 3, 0xFF] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                if let Some(read) = learned::<R>(&changed) {
                    assert_eq!(bytes_of(read)[..], changed[..], "byte {at} changed by {change}");
                    still += 1;
                }
            }
        }
        still
    }

    const START: Time = Time(1_700_000_000_000);
    const SLOT: SlotIndex = SlotIndex::new(3).expect("below 1,024");

    /// What a checkpoint takes under a load of authorizations: a slot's records of 100,000 a second among 1,000,000 accounts.
    #[test]
    fn an_authorization_and_its_key_take_46_bytes() {
        const COUNT: u64 = 4_096;
        // Random, but the same again: splitmix64.
        let mut state = 0_u64;
        let mut random = move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
        };
        let (mut authorizations, mut keys) = (Vec::new(), Vec::new());
        for n in 0..COUNT {
            let now = Time(START.0 + 10 * n);
            let id = AuthorizationId::new(now, SLOT, n);
            let payer = AccountId(1 << 96 | u128::from(random() % 1_000_000));
            let (amount, bucket) = (u128::from(random() % 10_000), Bucket::of(now, 0));
            let key = u128::from(now.0 - random() % 3) << 80 | 7 << 76 | u128::from(random() << 12) << 12;
            let expires = Time(now.0 + 7 * 86_400_000);
            authorizations.push(AuthorizationImage {
                id,
                payer,
                account: payer,
                authorized: amount,
                hold: amount,
                expires,
                named_at: now,
                bucket,
                ..AuthorizationImage::none()
            });
            let decided = KeyRecord::bare(payer, Key::uuid_v7(key), Standing::Decided, Seq(1_000 * n), now);
            keys.push(KeyRecord {
                amount: Amount::from(u64::try_from(amount).expect("small")),
                authorization: id.0,
                fingerprint: Fingerprint(random()),
                ledger: Ledger::new("EUR", 2).expect("a ledger"),
                expires,
                version: Version(random() % 10),
                bucket,
                verb: Verb::Authorize,
                outcome: Outcome::Approved,
                is_counted: true,
                ..decided
            });
        }
        come_back(&authorizations);
        come_back(&keys);
        let each = |bytes: &AlignedVec| bytes.len() / usize::try_from(COUNT).expect("small");
        let (authorization, key) = (each(&bytes_of(authorizations)), each(&bytes_of(keys)));
        assert!(authorization <= 10 && key <= 36, "{authorization}, {key}");
    }

    fn wide() -> impl Strategy<Value = u128> {
        prop_oneof![3 => Just(0), 3 => 0..1_u128 << 20, 2 => any::<u128>()]
    }
    fn time() -> impl Strategy<Value = Time> {
        prop_oneof![3 => (0..1_u64 << 16).prop_map(|ms| Time(START.0 + ms)), 1 => any::<u64>().prop_map(Time)]
    }
    fn bucket() -> impl Strategy<Value = Bucket> {
        (any::<u16>(), any::<u16>()).prop_map(|(day, month)| Bucket { day: Date(day), month })
    }
    fn amount() -> impl Strategy<Value = Amount> {
        prop_oneof![(0..2_u128), Just(Amount::MAX.get())].prop_map(|n| Amount::new(n).expect("in range"))
    }
    fn period() -> impl Strategy<Value = PeriodLimit> {
        (any::<Option<u32>>(), prop::option::of(amount())).prop_map(|(count, amount)| PeriodLimit { count, amount })
    }
    fn settings() -> impl Strategy<Value = Settings> {
        let credit = prop_oneof![Just(CreditLimit::Unlimited), amount().prop_map(CreditLimit::Amount)];
        let status = prop::sample::select(vec![Status::Open, Status::DebitFrozen, Status::Frozen, Status::Closed]);
        let limits = (prop::option::of(amount()), period(), period()).prop_map(|(command_amount, day, month)| Limits {
            command_amount,
            day,
            month,
        });
        (any::<u64>(), any::<u16>(), any::<u32>(), status, credit, limits).prop_map(
            |(ledger, kind, tenant, status, credit_limit, limits)| Settings {
                ledger: Ledger::from_bits(ledger),
                kind,
                tenant,
                status,
                credit_limit,
                limits,
            },
        )
    }

    fn account() -> impl Strategy<Value = AccountImage> {
        let sums = (wide(), wide(), wide(), wide(), wide(), wide());
        let counts = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
        (sums, settings(), any::<u64>(), any::<u64>(), counts, bucket()).prop_map(
            |(sums, settings, seq, version, counts, bucket)| AccountImage {
                id: AccountId(sums.0),
                debits: sums.1,
                credits: sums.2,
                held: sums.3,
                day_amount: sums.4,
                month_amount: sums.5,
                settings,
                seq: Seq(seq),
                version: Version(version),
                day_count: counts.0,
                month_count: counts.1,
                bucket,
                holds_open: counts.2,
                exchanges_open: counts.3,
            },
        )
    }

    fn capture() -> impl Strategy<Value = CaptureImage> {
        let made = (time(), 0..9_u64).prop_map(|(time, counter)| TransferId::new(time, SLOT, counter));
        (made, wide(), (wide(), wide(), wide()), time(), any::<bool>(), any::<bool>()).prop_map(
            |(id, payee, sums, at, is_final, is_on_suspense)| CaptureImage {
                id,
                payee: AccountId(payee),
                amount: sums.0,
                from_hold: sums.1,
                refunded: sums.2,
                at,
                is_final,
                is_on_suspense,
            },
        )
    }

    fn authorization() -> impl Strategy<Value = AuthorizationImage> {
        let made = (time(), 0..9_u64).prop_map(|(time, counter)| AuthorizationId::new(time, SLOT, counter).0);
        let id = prop_oneof![4 => made, 1 => any::<u128>()];
        let ids = (id, wide(), wide(), wide());
        let states = vec![
            AuthorizationState::Open,
            AuthorizationState::Captured,
            AuthorizationState::Voided,
            AuthorizationState::Reversed,
            AuthorizationState::Expired,
        ];
        let rest = (any::<u64>(), bucket(), any::<u16>(), prop::sample::select(states));
        let captures = prop::collection::vec(capture(), 0..4);
        (ids, (wide(), wide(), wide(), wide()), (time(), time()), rest, captures).prop_map(
            |(ids, sums, times, rest, captures)| AuthorizationImage {
                id: AuthorizationId(ids.0),
                payer: AccountId(ids.1),
                account: AccountId(ids.2),
                payee: ids.3,
                authorized: sums.0,
                released: sums.1,
                hold: sums.2,
                captured: sums.3,
                expires: times.0,
                named_at: times.1,
                exchange: rest.0,
                bucket: rest.1,
                tolerance_bp: rest.2,
                state: rest.3,
                captures,
            },
        )
    }

    proptest! {
        #[test]
        fn any_accounts_come_back(records in prop::collection::vec(account(), 1..6)) {
            come_back(&records);
        }
        #[test]
        fn any_authorizations_come_back(records in prop::collection::vec(authorization(), 1..6)) {
            come_back(&records);
        }
        #[test]
        fn changed_accounts_have_one_form(records in prop::collection::vec(account(), 1..3)) {
            prop_assert!(have_one_form(records) > 0);
        }
        #[test]
        fn changed_authorizations_have_one_form(records in prop::collection::vec(authorization(), 1..3)) {
            prop_assert!(have_one_form(records) > 0);
        }
        #[test]
        fn changed_keys_have_one_form(records in prop::collection::vec(key(), 1..3)) {
            prop_assert!(have_one_form(records) > 0);
        }
        #[test]
        fn any_keys_come_back(records in prop::collection::vec(key(), 1..6)) {
            come_back(&records);
        }
    }
}
