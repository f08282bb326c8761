//! A slot as bytes: for checkpoints and for the state digest. Canonical: equal states give equal bytes.
//!
//! ```text
//! 0        4                        16
//! | version | zeros                 | rkyv archive of SlotImage ...
//! ```
//! Everything is sorted by id; positions in memory, and what is past its window, are absent. An image is read only through
//! validated access and then checked for what the rest of the slot takes for granted.
//!
//! Made in two steps, since a partition stands still for the first only: [`Slot::copy_to`] copies records into memory that is
//! used again for the next slot, [`Imager`] sorts and encodes them wherever there is time.

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::account::Account;
use crate::amount::{Amount, Ledger};
use crate::authorization::{Authorization, Capture, NOWHERE};
use crate::command::Settings;
use crate::exchange::{Exchange, GivenAnswer, OpenExchanges};
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed, TransferId, Version};
use crate::keys::KeyRecord;
use crate::reply::AuthorizationState;
use crate::rules::Windows;
use crate::slot::Slot;
use crate::time::{Bucket, Time};

/// The version written.
pub const IMAGE_VERSION: u32 = 1;
const HEADER_BYTES: usize = 16;

/// Why bytes are not a slot's image.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Written by a later release.
    #[error("slot image of version {0}, which this release does not know: use a newer one")]
    Unknown(u32),
    /// Not an image, or one that contradicts itself.
    #[error("not a valid slot image: {0}")]
    Invalid(&'static str),
}

#[derive(Archive, Serialize, Deserialize, Default)]
struct SlotImage {
    id_counter: u64,
    exchange_next: u64,
    opaque_since: Option<Time>,
    index: u16,
    accounts: Vec<AccountImage>,
    authorizations: Vec<AuthorizationImage>,
    keys: Vec<KeyRecord>,
    exchanges: Vec<(u64, Exchange)>,
    answers: Vec<(SlotIndex, GivenAnswer)>,
    in_transit: Vec<(Ledger, i128)>,
}

#[derive(Archive, Serialize, Deserialize)]
struct AccountImage {
    id: AccountId,
    debits: u128,
    credits: u128,
    held: u128,
    day_amount: u128,
    month_amount: u128,
    settings: Settings,
    seq: Seq,
    version: Version,
    day_count: u32,
    month_count: u32,
    bucket: Bucket,
    holds_open: u32,
    exchanges_open: u32,
}

#[derive(Archive, Serialize, Deserialize)]
struct AuthorizationImage {
    id: AuthorizationId,
    payer: AccountId,
    account: AccountId,
    payee: u128,
    authorized: u128,
    released: u128,
    hold: u128,
    captured: u128,
    expires: Time,
    named_at: Time,
    exchange: u64,
    bucket: Bucket,
    tolerance_bp: u16,
    state: AuthorizationState,
    captures: Vec<CaptureImage>,
}

#[derive(Archive, Serialize, Deserialize)]
struct CaptureImage {
    id: TransferId,
    payee: AccountId,
    amount: u128,
    from_hold: u128,
    refunded: u128,
    at: Time,
    is_final: bool,
    is_on_suspense: bool,
}

/// All of one slot that its image shows, unsorted. Keeps its memory from slot to slot.
#[derive(Default)]
pub struct SlotCopy {
    id_counter: u64,
    exchange_next: u64,
    opaque_since: Option<Time>,
    index: u16,
    accounts: Vec<Account>,
    authorizations: Vec<Authorization>,
    /// Of the authorizations, in their order.
    captures: Vec<Capture>,
    keys: Vec<KeyRecord>,
    exchanges: Vec<(u64, Exchange)>,
    answers: Vec<(SlotIndex, GivenAnswer)>,
    in_transit: Vec<(Ledger, i128)>,
}

/// Makes images of copies. Keeps its memory from one to the next.
#[derive(Default)]
pub struct Imager {
    image: SlotImage,
    /// Positions in the copy, in the order of the image, with where an authorization's captures begin.
    order: Vec<(u32, u32)>,
    bytes: AlignedVec,
}

impl Imager {
    /// The image of a copied slot.
    pub fn image(&mut self, copy: &SlotCopy) -> &[u8] {
        self.arrange(copy);
        let mut bytes = core::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.extend_from_slice(&IMAGE_VERSION.to_le_bytes());
        bytes.resize(HEADER_BYTES, 0);
        self.bytes = rkyv::api::high::to_bytes_in::<_, Failure>(&self.image, bytes)
            .expect("a growing writer and a growing arena: no type of the image shares pointers");
        &self.bytes
    }

    fn arrange(&mut self, copy: &SlotCopy) {
        let Self { image, order, .. } = self;
        (image.id_counter, image.exchange_next) = (copy.id_counter, copy.exchange_next);
        (image.opaque_since, image.index) = (copy.opaque_since, copy.index);
        sort_positions(order, copy.accounts.iter().map(|_| 0), |at| copy.accounts[at].id);
        refill(&mut image.accounts, order.iter().map(|&(at, _)| account_image(&copy.accounts[at as usize])));
        sort_positions(order, copy.authorizations.iter().map(|a| a.captures), |at| copy.authorizations[at].id);
        let authorizations = order.iter().map(|&(at, captures_from)| {
            let a = &copy.authorizations[at as usize];
            let captures = &copy.captures[captures_from as usize..][..a.captures as usize];
            authorization_image(a, captures)
        });
        refill(&mut image.authorizations, authorizations);
        sort_positions(order, copy.keys.iter().map(|_| 0), |at| (copy.keys[at].account, copy.keys[at].key));
        refill(&mut image.keys, order.iter().map(|&(at, _)| copy.keys[at as usize].clone()));
        refill(&mut image.exchanges, copy.exchanges.iter().cloned());
        refill(&mut image.answers, copy.answers.iter().copied());
        refill(&mut image.in_transit, copy.in_transit.iter().copied());
    }
}

/// Positions, sorted by a key: they are moved, not the records, which are 200 bytes each. With each goes the sum of what those
/// before it in the copy say.
fn sort_positions<K: Ord>(order: &mut Vec<(u32, u32)>, parts: impl Iterator<Item = u32>, key: impl Fn(usize) -> K) {
    let running = parts.scan(0, |sum, part| Some(core::mem::replace(sum, *sum + part)));
    refill(order, (0..).zip(running));
    order.sort_unstable_by_key(|&(at, _)| key(at as usize));
}

fn refill<T>(to: &mut Vec<T>, from: impl Iterator<Item = T>) {
    to.clear();
    to.extend(from);
}

impl Slot {
    /// Copies what an image shows: all that is in memory at that moment and not past its window at `at`, the largest event time
    /// up to it.
    pub fn copy_to(&self, at: Time, copy: &mut SlotCopy) {
        (copy.id_counter, copy.exchange_next) = (self.id_counter, self.exchanges.next());
        (copy.opaque_since, copy.index) = (self.opaque_since, self.index.get());
        refill(&mut copy.accounts, self.iter_accounts().cloned());
        let visible = self.iter_authorizations().filter(|a| self.is_authorization_visible(a, at));
        refill(&mut copy.authorizations, visible.cloned());
        refill(&mut copy.captures, copy.authorizations.iter().flat_map(|a| self.captures_of(a)).cloned());
        refill(&mut copy.keys, self.keys.iter().filter(|r| self.is_key_visible(r, at)).cloned());
        refill(&mut copy.exchanges, self.exchanges.iter().map(|(number, exchange)| (number, exchange.clone())));
        refill(&mut copy.answers, self.answers.iter().map(|(opener, answer)| (opener, *answer)));
        refill(&mut copy.in_transit, self.in_transit.iter().copied());
    }

    /// The slot as bytes, with what is not past its window at `at`.
    pub fn image(&self, at: Time) -> Vec<u8> {
        let mut copy = SlotCopy::default();
        self.copy_to(at, &mut copy);
        Imager::default().image(&copy).to_vec()
    }

    /// BLAKE3 of the image: equal states give equal digests, whatever was evicted already.
    pub fn digest(&self, at: Time) -> [u8; 32] {
        *blake3::hash(&self.image(at)).as_bytes()
    }

    /// The slot that an image shows.
    ///
    /// # Errors
    /// When the bytes are no image, of a later version, or contradict themselves.
    pub fn from_image(bytes: &[u8], seed: SlotSeed, windows: Windows) -> Result<Self, ImageError> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(ImageError::Invalid("cut short"))?;
        let version = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if version != IMAGE_VERSION {
            return Err(ImageError::Unknown(version));
        }
        let mut copy = AlignedVec::<HEADER_BYTES>::new();
        let aligned = if body.as_ptr().align_offset(HEADER_BYTES) == 0 {
            body
        } else {
            copy.extend_from_slice(body);
            &copy
        };
        let archived =
            rkyv::access::<ArchivedSlotImage, Failure>(aligned).map_err(|_| ImageError::Invalid("not an archive"))?;
        let image: SlotImage =
            rkyv::deserialize::<_, Failure>(archived).map_err(|_| ImageError::Invalid("not an archive"))?;
        restore(image, seed, windows)
    }
}

fn authorization_image(a: &Authorization, captures: &[Capture]) -> AuthorizationImage {
    let capture = |c: &Capture| CaptureImage {
        id: c.id,
        payee: c.payee,
        amount: c.amount,
        from_hold: c.from_hold,
        refunded: c.refunded,
        at: c.at,
        is_final: c.is_final,
        is_on_suspense: c.is_on_suspense,
    };
    AuthorizationImage {
        id: a.id,
        payer: a.payer,
        account: a.account,
        payee: a.payee,
        authorized: a.authorized,
        released: a.released,
        hold: a.hold,
        captured: a.captured,
        expires: a.expires,
        named_at: a.named_at,
        exchange: a.exchange,
        bucket: a.bucket,
        tolerance_bp: a.tolerance_bp,
        state: a.state,
        captures: captures.iter().map(capture).collect(),
    }
}

fn account_image(a: &Account) -> AccountImage {
    AccountImage {
        id: a.id,
        debits: a.debits,
        credits: a.credits,
        held: a.held,
        day_amount: a.day_amount,
        month_amount: a.month_amount,
        settings: a.settings(),
        seq: a.seq,
        version: a.version,
        day_count: a.day_count,
        month_count: a.month_count,
        bucket: a.bucket,
        holds_open: a.holds_open,
        exchanges_open: a.exchanges_open,
    }
}

fn restore(image: SlotImage, seed: SlotSeed, windows: Windows) -> Result<Slot, ImageError> {
    let invalid = ImageError::Invalid;
    let index = SlotIndex::new(image.index).ok_or(invalid("no such slot"))?;
    let mut slot = Slot::new(index, seed, windows);
    slot.id_counter = image.id_counter;
    slot.opaque_since = image.opaque_since;
    slot.reserve(image.accounts.len(), image.authorizations.len(), image.keys.len());
    for a in image.accounts {
        if !is_account_in_range(&a) {
            return Err(invalid("an account out of range"));
        }
        if slot.account_position(a.id).is_some() {
            return Err(invalid("an account twice"));
        }
        let mut account = Account::new(a.id, &a.settings);
        (account.debits, account.credits, account.held) = (a.debits, a.credits, a.held);
        (account.day_amount, account.month_amount) = (a.day_amount, a.month_amount);
        (account.day_count, account.month_count, account.bucket) = (a.day_count, a.month_count, a.bucket);
        (account.seq, account.version) = (a.seq, a.version);
        (account.holds_open, account.exchanges_open) = (a.holds_open, a.exchanges_open);
        slot.insert_account(account);
    }
    // Closed ones in the order of closing, as the queue of the forgetting expects them.
    let mut authorizations = image.authorizations;
    authorizations.sort_by_key(|a| a.named_at);
    for a in authorizations {
        restore_authorization(&mut slot, a)?;
    }
    if image.id_counter >= u64::MAX >> 2 || image.exchange_next == 0 || image.exchange_next >= u64::MAX >> 1 {
        return Err(invalid("a counter out of range"));
    }
    if image.keys.iter().any(|r| r.amount > Amount::MAX || r.received > Time::MAX) {
        return Err(invalid("a key out of range"));
    }
    let mut keys = image.keys;
    keys.sort_by_key(|r| r.received);
    for record in keys {
        if slot.keys.position(record.account, record.key).is_some() {
            return Err(invalid("a key twice"));
        }
        slot.restore_key(record);
    }
    if image.exchanges.iter().any(|(_, e)| !e.movement.is_in_range()) {
        return Err(invalid("an exchange with no slot"));
    }
    slot.exchanges =
        OpenExchanges::from_parts(image.exchange_next, image.exchanges).ok_or(invalid("exchanges out of order"))?;
    for (opener, answer) in image.answers {
        if SlotIndex::new(opener.get()).is_none() || !slot.answers.insert(opener, answer) {
            return Err(invalid("an answer twice"));
        }
    }
    let is_sum = |sum: i128| sum.unsigned_abs() < 1 << 126;
    if !image.in_transit.is_sorted_by(|a, b| a.0 < b.0) || !image.in_transit.iter().all(|(_, sum)| is_sum(*sum)) {
        return Err(invalid("in-transit out of order or range"));
    }
    slot.in_transit = image.in_transit;
    slot.validate().map_err(|_| invalid("an invariant does not hold"))?;
    Ok(slot)
}

/// Whether every sum lies in the range that arithmetic relies on.
fn is_account_in_range(a: &AccountImage) -> bool {
    let sums = [a.debits, a.credits, a.held, a.day_amount, a.month_amount];
    sums.iter().all(|sum| *sum < 1 << 127) && a.settings.is_in_range() && a.version.0 < 1 << 63
}

fn is_authorization_in_range(a: &AuthorizationImage) -> bool {
    let is_amount = |sum: u128| sum <= Amount::MAX.get();
    let captures = a.captures.iter().all(|c| is_amount(c.amount) && is_amount(c.from_hold) && c.refunded <= c.amount);
    captures && is_amount(a.authorized) && is_amount(a.hold) && a.released <= a.authorized && a.captured < 1 << 127
}

fn restore_authorization(slot: &mut Slot, a: AuthorizationImage) -> Result<(), ImageError> {
    if !is_authorization_in_range(&a) {
        return Err(ImageError::Invalid("an authorization out of range"));
    }
    if slot.authorization_position(a.id.0).is_some() {
        return Err(ImageError::Invalid("an authorization twice"));
    }
    let position = slot.insert_authorization(Authorization {
        id: a.id,
        payer: a.payer,
        account: a.account,
        payee: a.payee,
        authorized: a.authorized,
        released: a.released,
        hold: a.hold,
        captured: a.captured,
        expires: a.expires,
        named_at: a.named_at,
        exchange: a.exchange,
        bucket: a.bucket,
        capture_first: NOWHERE,
        capture_last: NOWHERE,
        captures: 0,
        tolerance_bp: a.tolerance_bp,
        state: a.state,
    });
    for c in a.captures {
        if slot.capture_position(c.id.0).is_some() {
            return Err(ImageError::Invalid("a capture twice"));
        }
        slot.insert_capture(Capture {
            id: c.id,
            payee: c.payee,
            amount: c.amount,
            from_hold: c.from_hold,
            refunded: c.refunded,
            at: c.at,
            authorization: position,
            next: NOWHERE,
            is_final: c.is_final,
            is_on_suspense: c.is_on_suspense,
        });
    }
    Ok(())
}
