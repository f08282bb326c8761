//! A slot as bytes: the archived types, and the canonical image for digests: equal states give equal bytes.
//!
//! ```text
//! 0        4        8          12       16
//! | version| part   | is last  | zeros  | rkyv archive of SlotImage ...
//! ```
//! A whole image has version 1 and zeros behind it. Everything in it is sorted by id; positions in memory, and what is past its
//! window, are absent. A checkpoint takes a slot in parts instead (version 3, see [`crate::part`]; before that version
//! 2: this archive with some of the records, in no order). All three are read by [`crate::restore`].

use rkyv::rancor::Failure;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};

use crate::account::Account;
use crate::amount::Ledger;
use crate::authorization::{Authorization, Capture};
use crate::command::Settings;
use crate::exchange::{Exchange, GivenAnswer};
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, TransferId, Version};
use crate::keys::KeyRecord;
use crate::reply::AuthorizationState;
use crate::slot::Slot;
use crate::time::{Bucket, Time};

/// The version of a whole image.
pub const IMAGE_VERSION: u32 = 1;
/// The version of a part that is an archive: read, and not written any more.
pub(crate) const PART_ARCHIVE_VERSION: u32 = 2;
/// Bytes before the archive.
pub(crate) const HEADER_BYTES: usize = 16;

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

#[derive(Clone, Debug, Archive, Serialize, Deserialize, Default)]
pub(crate) struct SlotImage {
    pub(crate) id_counter: u64,
    pub(crate) exchange_next: u64,
    pub(crate) opaque_since: Option<Time>,
    pub(crate) index: u16,
    pub(crate) accounts: Vec<AccountImage>,
    pub(crate) authorizations: Vec<AuthorizationImage>,
    pub(crate) keys: Vec<KeyRecord>,
    pub(crate) exchanges: Vec<(u64, Exchange)>,
    pub(crate) answers: Vec<(SlotIndex, GivenAnswer)>,
    pub(crate) in_transit: Vec<(Ledger, i128)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct AccountImage {
    pub(crate) id: AccountId,
    pub(crate) debits: u128,
    pub(crate) credits: u128,
    pub(crate) held: u128,
    pub(crate) day_amount: u128,
    pub(crate) month_amount: u128,
    pub(crate) settings: Settings,
    pub(crate) seq: Seq,
    pub(crate) version: Version,
    pub(crate) day_count: u32,
    pub(crate) month_count: u32,
    pub(crate) bucket: Bucket,
    pub(crate) holds_open: u32,
    pub(crate) exchanges_open: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct AuthorizationImage {
    pub(crate) id: AuthorizationId,
    pub(crate) payer: AccountId,
    pub(crate) account: AccountId,
    pub(crate) payee: u128,
    pub(crate) authorized: u128,
    pub(crate) released: u128,
    pub(crate) hold: u128,
    pub(crate) captured: u128,
    pub(crate) expires: Time,
    pub(crate) named_at: Time,
    pub(crate) exchange: u64,
    pub(crate) bucket: Bucket,
    pub(crate) tolerance_bp: u16,
    pub(crate) state: AuthorizationState,
    pub(crate) captures: Vec<CaptureImage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct CaptureImage {
    pub(crate) id: TransferId,
    pub(crate) payee: AccountId,
    pub(crate) amount: u128,
    pub(crate) from_hold: u128,
    pub(crate) refunded: u128,
    pub(crate) at: Time,
    pub(crate) is_final: bool,
    pub(crate) is_on_suspense: bool,
}

impl Slot {
    /// The slot as bytes, with what is in memory at that moment and not past its window at `at`, the largest event time up to it.
    pub fn image(&self, at: Time) -> Vec<u8> {
        let mut bytes = AlignedVec::new();
        bytes.resize(HEADER_BYTES, 0);
        bytes[..4].copy_from_slice(&IMAGE_VERSION.to_le_bytes());
        archive(&self.snapshot(at), &mut bytes);
        bytes.to_vec()
    }

    /// BLAKE3 of the image: equal states give equal digests, whatever was evicted already.
    pub fn digest(&self, at: Time) -> [u8; 32] {
        *blake3::hash(&self.image(at)).as_bytes()
    }

    fn snapshot(&self, at: Time) -> SlotImage {
        let mut accounts: Vec<_> = self.iter_accounts().map(account_image).collect();
        accounts.sort_unstable_by_key(|a| a.id);
        let visible = self.iter_authorizations().filter(|a| self.is_authorization_visible(a, at));
        // References and positions are sorted, not the records.
        let mut authorizations: Vec<_> = visible.collect();
        authorizations.sort_unstable_by_key(|a| a.id());
        let visible = self.iter_keys().filter(|(_, r)| self.is_key_visible(r, at));
        let mut keys: Vec<_> = visible.map(|(position, r)| (r.account, r.key, position)).collect();
        keys.sort_unstable();
        SlotImage {
            accounts,
            authorizations: authorizations.into_iter().map(|a| self.authorization_image(a)).collect(),
            keys: keys.into_iter().filter_map(|(_, _, position)| self.key_at(position)).collect(),
            ..self.image_without_records()
        }
    }

    /// What a slot has beside its records.
    pub(crate) fn image_without_records(&self) -> SlotImage {
        SlotImage {
            id_counter: self.id_counter,
            exchange_next: self.exchanges.next(),
            opaque_since: self.opaque_since,
            index: self.index.get(),
            exchanges: self.exchanges.iter().map(|(number, exchange)| (number, exchange.clone())).collect(),
            answers: self.answers.iter().collect(),
            in_transit: self.in_transit.clone(),
            ..SlotImage::default()
        }
    }

    pub(crate) fn authorization_image(&self, a: &Authorization) -> AuthorizationImage {
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
            id: a.id(),
            payer: a.payer(),
            account: a.account(),
            payee: a.payee(),
            authorized: a.authorized.get(),
            released: a.released(),
            hold: a.hold.get(),
            captured: a.course().captured,
            expires: a.expires,
            named_at: a.named_at,
            exchange: a.exchange(),
            bucket: a.bucket,
            tolerance_bp: a.tolerance_bp,
            state: a.state,
            captures: self.captures_of(a).map(capture).collect(),
        }
    }
}

pub(crate) fn account_image(a: &Account) -> AccountImage {
    AccountImage {
        id: a.id(),
        debits: a.debits.get(),
        credits: a.credits.get(),
        held: a.held.get(),
        day_amount: a.day_amount.get(),
        month_amount: a.month_amount.get(),
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

/// Appends the archive of an image.
pub(crate) fn archive(image: &SlotImage, bytes: &mut AlignedVec) {
    *bytes = rkyv::api::high::to_bytes_in::<_, Failure>(image, core::mem::take(bytes))
        .expect("a growing writer and a growing arena: no type of the image shares pointers");
}
