//! A slot from its bytes: a whole image, or the parts that a checkpoint took of it, in order.
//!
//! Owns what may be taken for granted of a slot that was read: archives are read only through validated access, and everything that
//! the rest of the slot relies on is checked, record by record and at the end. No bytes panic.

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use tp_planted::{Bug, has};

use crate::account::Account;
use crate::amount::{Amount, Ledger};
use crate::authorization::{Authorization, Capture, Made, NOWHERE};
use crate::exchange::{Exchange, GivenAnswer, OpenExchanges};
use crate::gapless::{Single, Wide};
use crate::ids::{SlotIndex, SlotSeed};
use crate::image::{
    AccountImage, ArchivedSlotImage, AuthorizationImage, HEADER_BYTES, IMAGE_VERSION, ImageError, PART_ARCHIVE_VERSION,
    SlotImage,
};
use crate::keys::KeyRecord;
use crate::part::{self, PART_VERSION, PartHead};
use crate::rules::Windows;
use crate::slot::{ID_COUNTER_END, Slot};

/// Puts a slot together.
#[derive(Debug)]
pub struct SlotBuilder {
    slot: Slot,
    parts: u32,
    is_complete: bool,
}

impl SlotBuilder {
    /// A slot of which nothing is known yet.
    pub fn new(index: SlotIndex, seed: SlotSeed, windows: Windows) -> Self {
        Self { slot: Slot::new(index, seed, windows), parts: 0, is_complete: false }
    }

    /// Which slot it will be.
    pub const fn index(&self) -> SlotIndex {
        self.slot.index()
    }

    /// Adds a whole image, or the next part.
    ///
    /// # Errors
    /// When the bytes are neither, of a later version, not the next part of this slot, or contradict themselves.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        if version(bytes)? == PART_VERSION { self.add_part(bytes) } else { self.add_archive(read_archive(bytes)?) }
    }

    /// Takes a part in with `records`, if it is the next one. One that fails leaves the builder without its parts for good.
    fn follow(
        &mut self,
        head: PartHead,
        records: impl FnOnce(&mut Slot) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        if self.is_complete || head.number != self.parts {
            return Err(ImageError::Invalid("not the next part"));
        }
        if head.slot != self.slot.index().get() {
            return Err(ImageError::Invalid("another slot's"));
        }
        records(&mut self.slot)?;
        (self.parts, self.is_complete) = (self.parts + 1, head.is_last);
        Ok(())
    }

    /// A part's records go into the slot as they are read.
    fn add_part(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let (head, rest, mut records) = part::read(bytes)?;
        self.follow(head, |slot| {
            if head.number == 0 {
                let rest = read(rest)?;
                let is_bare = rest.accounts.is_empty() && rest.authorizations.is_empty() && rest.keys.is_empty();
                if !is_bare || rest.index != head.slot {
                    return Err(ImageError::Invalid("not what stands before records"));
                }
                restore_rest(slot, rest)?;
            }
            let count = records.count::<AccountImage>()?;
            slot.reserve(count as usize, 0, 0);
            records.each(count, |account: &AccountImage| restore_account(slot, account))?;
            let count = records.count::<AuthorizationImage>()?;
            slot.reserve(0, count as usize, 0);
            records.each(count, |authorization: &AuthorizationImage| restore_authorization(slot, authorization))?;
            let count = records.count::<KeyRecord>()?;
            slot.reserve(0, 0, count as usize);
            records.each(count, |record: &KeyRecord| restore_key(slot, record))?;
            records.end()
        })
    }

    fn add_archive(&mut self, (head, image): (PartHead, SlotImage)) -> Result<(), ImageError> {
        self.follow(head, |slot| {
            slot.reserve(image.accounts.len(), image.authorizations.len(), image.keys.len());
            image.accounts.iter().try_for_each(|a| restore_account(slot, a))?;
            image.authorizations.iter().try_for_each(|a| restore_authorization(slot, a))?;
            image.keys.iter().try_for_each(|record| restore_key(slot, record))?;
            if head.number == 0 {
                return restore_rest(slot, image);
            }
            let is_bare = image.exchanges.is_empty() && image.answers.is_empty() && image.in_transit.is_empty();
            let has_no_counters = (image.exchange_next, image.id_counter, image.opaque_since) == (0, 0, None);
            if is_bare && has_no_counters { Ok(()) } else { Err(ImageError::Invalid("a second first part")) }
        })
    }

    /// The slot, once all its parts are there.
    ///
    /// # Errors
    /// When parts are missing, or an invariant does not hold.
    pub fn finish(mut self) -> Result<Slot, ImageError> {
        if !self.is_complete {
            return Err(ImageError::Invalid("parts are missing"));
        }
        self.slot.order_by_age();
        self.slot.validate().map_err(|_| ImageError::Invalid("an invariant does not hold"))?;
        Ok(self.slot)
    }
}

impl Slot {
    /// The slot that a whole image shows.
    ///
    /// # Errors
    /// When the bytes are no image, of a later version, or contradict themselves.
    pub fn from_image(bytes: &[u8], seed: SlotSeed, windows: Windows) -> Result<Self, ImageError> {
        let (head, image) = read_archive(bytes)?;
        // The builder is made for the slot that the image says it is of.
        let index = SlotIndex::new(head.slot).ok_or(ImageError::Invalid("no such slot"))?;
        let mut builder = SlotBuilder::new(index, seed, windows);
        builder.add_archive((head, image))?;
        builder.finish()
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, ImageError> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(ImageError::Invalid("cut short"))?;
    Ok(u32::from_le_bytes(*word))
}

fn version(bytes: &[u8]) -> Result<u32, ImageError> {
    word(bytes, 0)
}

/// What an archive shows, and as which part: a whole image is a first part and the last.
fn read_archive(bytes: &[u8]) -> Result<(PartHead, SlotImage), ImageError> {
    let (number, is_last) = match version(bytes)? {
        IMAGE_VERSION => (0, true),
        PART_ARCHIVE_VERSION => (word(bytes, 4)?, word(bytes, 8)? == 1),
        PART_VERSION => return Err(ImageError::Invalid("a part, and not a whole image")),
        version => return Err(ImageError::Unknown(version)),
    };
    let image = read(bytes.get(HEADER_BYTES..).ok_or(ImageError::Invalid("cut short"))?)?;
    Ok((PartHead { number, slot: image.index, is_last }, image))
}

fn read(body: &[u8]) -> Result<SlotImage, ImageError> {
    let mut copy = AlignedVec::<HEADER_BYTES>::new();
    let aligned = if body.as_ptr().align_offset(HEADER_BYTES) == 0 {
        body
    } else {
        copy.extend_from_slice(body);
        &copy
    };
    let archived =
        rkyv::access::<ArchivedSlotImage, Failure>(aligned).map_err(|_| ImageError::Invalid("not an archive"))?;
    rkyv::deserialize::<_, Failure>(archived).map_err(|_| ImageError::Invalid("not an archive"))
}

fn restore_account(slot: &mut Slot, a: &AccountImage) -> Result<(), ImageError> {
    if !is_account_in_range(a) {
        return Err(ImageError::Invalid("an account out of range"));
    }
    if slot.account_position(a.id).is_some() {
        return Err(ImageError::Invalid("an account twice"));
    }
    let mut account = Account::new(a.id, &a.settings);
    (account.debits, account.credits) = (Wide::new(a.debits), Wide::new(a.credits));
    account.held = Wide::new(a.held);
    (account.day_amount, account.month_amount) = (Wide::new(a.day_amount), Wide::new(a.month_amount));
    (account.day_count, account.month_count, account.bucket) = (a.day_count, a.month_count, a.bucket);
    (account.seq, account.version) = (a.seq, a.version);
    (account.holds_open, account.exchanges_open) = (a.holds_open, a.exchanges_open);
    slot.insert_account(account);
    Ok(())
}

fn restore_key(slot: &mut Slot, record: &KeyRecord) -> Result<(), ImageError> {
    if record.amount > Amount::MAX || record.received > crate::time::Time::MAX {
        return Err(ImageError::Invalid("a key out of range"));
    }
    if slot.key_position(record.account, record.key).is_some() {
        return Err(ImageError::Invalid("a key twice"));
    }
    slot.restore_key(record);
    Ok(())
}

/// What is no record.
fn restore_rest(slot: &mut Slot, rest: SlotImage) -> Result<(), ImageError> {
    if rest.id_counter >= ID_COUNTER_END || rest.exchange_next == 0 || rest.exchange_next >= u64::MAX >> 1 {
        return Err(ImageError::Invalid("a counter out of range"));
    }
    let opaque_since = if has(Bug::OpaqueSinceLost) { None } else { rest.opaque_since };
    (slot.id_counter, slot.opaque_since) = (rest.id_counter, opaque_since);
    restore_exchanges(slot, rest.exchange_next, rest.exchanges, rest.answers)?;
    restore_in_transit(slot, rest.in_transit)
}

fn restore_exchanges(
    slot: &mut Slot,
    next: u64,
    exchanges: Vec<(u64, Exchange)>,
    answers: Vec<(SlotIndex, GivenAnswer)>,
) -> Result<(), ImageError> {
    if exchanges.iter().any(|(_, e)| !e.movement.is_in_range()) {
        return Err(ImageError::Invalid("an exchange with no slot"));
    }
    slot.exchanges = OpenExchanges::from_parts(next, exchanges).ok_or(ImageError::Invalid("exchanges out of order"))?;
    for (opener, answer) in answers {
        if SlotIndex::new(opener.get()).is_none() || !slot.answers.insert(opener, answer) {
            return Err(ImageError::Invalid("an answer twice"));
        }
    }
    Ok(())
}

fn restore_in_transit(slot: &mut Slot, in_transit: Vec<(Ledger, i128)>) -> Result<(), ImageError> {
    let is_sum = |sum: i128| sum.unsigned_abs() < 1 << 126;
    if !in_transit.is_sorted_by(|a, b| a.0 < b.0) || !in_transit.iter().all(|(_, sum)| is_sum(*sum)) {
        return Err(ImageError::Invalid("in-transit out of order or range"));
    }
    slot.in_transit = in_transit;
    Ok(())
}

/// Whether every sum lies in the range that arithmetic relies on.
fn is_account_in_range(a: &AccountImage) -> bool {
    let sums = [a.debits, a.credits, a.held, a.day_amount, a.month_amount];
    sums.iter().all(|sum| *sum < 1 << 127) && a.settings.is_in_range() && a.version.0 < 1 << 63
}

fn is_authorization_in_range(a: &AuthorizationImage) -> bool {
    let is_amount = |sum: u128| sum <= Amount::MAX.get();
    let captures = a.captures.iter().all(|c| is_amount(c.amount) && is_amount(c.from_hold) && c.refunded <= c.amount);
    captures && a.released <= a.authorized && a.captured < 1 << 127
}

fn restore_authorization(slot: &mut Slot, a: &AuthorizationImage) -> Result<(), ImageError> {
    let sums = Amount::new(a.authorized).zip(Amount::new(a.hold)).filter(|_| is_authorization_in_range(a));
    let (authorized, hold) = sums.ok_or(ImageError::Invalid("an authorization out of range"))?;
    if slot.authorization_position(a.id.0).is_some() {
        return Err(ImageError::Invalid("an authorization twice"));
    }
    let mut authorization = Authorization::new(Made {
        id: a.id,
        payer: a.payer,
        account: a.account,
        payee: a.payee,
        amount: authorized,
        expires: a.expires,
        named_at: a.named_at,
        bucket: a.bucket,
        tolerance_bp: a.tolerance_bp,
    });
    (authorization.hold, authorization.state) = (Single::new(hold), a.state);
    let from_hold = a.authorized.checked_sub(a.hold).and_then(|rest| rest.checked_sub(a.released));
    let from_hold =
        from_hold.ok_or(ImageError::Invalid("an authorization of which more is held or released than was made"))?;
    if (a.captured, from_hold, a.exchange) != (0, 0, 0) {
        let course = authorization.course_mut();
        (course.captured, course.from_hold, course.exchange) = (a.captured, from_hold, a.exchange);
    }
    let position = slot.insert_authorization(authorization);
    for c in &a.captures {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_version_is_named_whatever_lies_behind_it() {
        let mut bytes = vec![0xA5; 64];
        bytes[..4].copy_from_slice(&4_u32.to_le_bytes());
        let (seed, windows) = (SlotSeed([1; 16]), Windows::default());
        assert_eq!(Slot::from_image(&bytes, seed, windows).err(), Some(ImageError::Unknown(4)));
    }
}
