//! The state that card records fold into.
//!
//! Owns what is known of each card and the index by lookup. Applying is total: what does not fit is said, and changes nothing. Refuses to
//! know keys: a lookup is 32 bytes to it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use tp_actors::tp_core::ids::AccountId;

use super::keys::{CardKeyId, Lookup};
use super::pan::masked;
use super::record::{CardChange, CardRecord, CardStatus, Expiry, Sealed, Token};
use crate::tenancy::TenantId;

/// A card, without its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Card {
    /// What stands for it.
    pub token: Token,
    /// Whose.
    pub tenant: TenantId,
    /// The account that it pays from.
    pub account: AccountId,
    /// When it expires, if that is known.
    pub expiry: Option<Expiry>,
    /// What it may be used for.
    pub status: CardStatus,
    /// When it came, Unix milliseconds.
    pub added: u64,
    issuer: u32,
    last_four: u16,
    digits: u8,
}

impl Card {
    /// Its number with only the first six and the last four digits.
    pub fn masked(&self) -> String {
        masked(self.issuer, self.last_four, self.digits)
    }
}

/// A card with its number as it is kept.
struct Kept {
    card: Card,
    sealed: Sealed,
}

/// Lookups and tokens are spread evenly already: they are MACs, and random.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        // The length that goes before an array's bytes is no part of it.
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    fn write_usize(&mut self, _length: usize) {}
}

/// Cards by the key that they are kept under.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CardCounts(pub Vec<(CardKeyId, usize)>);

/// Every card.
#[derive(Default)]
pub(crate) struct CardState {
    cards: HashMap<Token, Kept, BuildHasherDefault<FirstBytes>>,
    /// The card that a number is now: closed ones too, until the number comes again.
    by_lookup: HashMap<Lookup, Token, BuildHasherDefault<FirstBytes>>,
    /// The closed cards that it was before. Few numbers come again.
    earlier: HashMap<Lookup, Vec<Token>, BuildHasherDefault<FirstBytes>>,
}

impl CardState {
    /// A card.
    pub(crate) fn card(&self, token: Token) -> Option<&Card> {
        self.cards.get(&token).map(|kept| &kept.card)
    }

    /// The card that a number is now; a closed one when it has not come again.
    pub(crate) fn found(&self, lookup: &Lookup) -> Option<&Card> {
        self.by_lookup.get(lookup).and_then(|token| self.card(*token))
    }

    /// The accounts of the cards that it was before.
    pub(crate) fn accounts_before(&self, lookup: &Lookup) -> impl Iterator<Item = AccountId> {
        self.earlier.get(lookup).into_iter().flatten().filter_map(|token| self.card(*token)).map(|card| card.account)
    }

    /// Puts a card under a lookup. Of two the one in use comes first, else the younger.
    fn place(&mut self, lookup: Lookup, token: Token) {
        let rank =
            |token: &Token| self.card(*token).map(|card| (card.status != CardStatus::Closed, card.added, *token));
        match self.by_lookup.get(&lookup).copied() {
            Some(other) if rank(&other) > rank(&token) => self.earlier.entry(lookup).or_default().push(token),
            Some(other) => {
                self.by_lookup.insert(lookup, token);
                self.earlier.entry(lookup).or_default().push(other);
            }
            None => _ = self.by_lookup.insert(lookup, token),
        }
    }

    /// Takes a card from under a lookup.
    fn displace(&mut self, lookup: &Lookup, token: Token) {
        let mut others = self.earlier.remove(lookup).unwrap_or_default();
        if self.by_lookup.get(lookup) == Some(&token) {
            self.by_lookup.remove(lookup);
        } else {
            others.retain(|other| *other != token);
        }
        for other in others {
            self.place(*lookup, other);
        }
    }

    /// A card's number as it is kept.
    pub(crate) fn sealed(&self, token: Token) -> Option<&Sealed> {
        self.cards.get(&token).map(|kept| &kept.sealed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// A tenant's cards, ascending by token, from behind `after` on.
    pub(crate) fn page(&self, tenant: TenantId, after: Option<Token>, limit: usize) -> Vec<Card> {
        let is_wanted = |card: &&Card| card.tenant == tenant && after.is_none_or(|after| card.token > after);
        let mut cards: Vec<Card> = self.cards.values().map(|kept| &kept.card).filter(is_wanted).copied().collect();
        if cards.len() > limit {
            cards.select_nth_unstable_by_key(limit, |card| card.token);
            cards.truncate(limit);
        }
        cards.sort_unstable_by_key(|card| card.token);
        cards
    }

    /// How many cards are kept under each key.
    pub(crate) fn counts(&self) -> CardCounts {
        let mut counts: Vec<(CardKeyId, usize)> = Vec::new();
        for kept in self.cards.values() {
            match counts.iter_mut().find(|(key, _)| *key == kept.sealed.key) {
                Some((_, count)) => *count += 1,
                None => counts.push((kept.sealed.key, 1)),
            }
        }
        CardCounts(counts)
    }

    /// Cards that are not kept under that key, at most so many.
    pub(crate) fn under_other_keys(&self, current: CardKeyId, limit: usize) -> Vec<Token> {
        let others = self.cards.values().filter(|kept| kept.sealed.key != current);
        others.map(|kept| kept.card.token).take(limit).collect()
    }

    /// Takes a record in.
    pub(crate) fn apply(&mut self, record: CardRecord) -> Result<(), &'static str> {
        const MISSING: &str = "it names a card that does not exist";
        let CardRecord { token, at, change } = record;
        match change {
            CardChange::Added { tenant, account, sealed, issuer, last_four, digits, expiry, .. } => {
                let tenant = TenantId::new(tenant).ok_or("it names no tenant")?;
                let is_in_use = self.found(&sealed.lookup).is_some_and(|card| card.status != CardStatus::Closed);
                if self.cards.contains_key(&token) || is_in_use {
                    return Err("it adds a card that exists");
                }
                let (account, status) = (AccountId(account), CardStatus::Active);
                let card = Card { token, tenant, account, expiry, status, added: at, issuer, last_four, digits };
                let lookup = sealed.lookup;
                self.cards.insert(token, Kept { card, sealed });
                self.place(lookup, token);
            }
            CardChange::Sealed(sealed) => {
                let kept = self.cards.get_mut(&token).ok_or(MISSING)?;
                let (before, after) = (kept.sealed.lookup, sealed.lookup);
                kept.sealed = sealed;
                self.displace(&before, token);
                self.place(after, token);
            }
            CardChange::Status { status, .. } => {
                let kept = self.cards.get_mut(&token).ok_or(MISSING)?;
                if kept.card.status == CardStatus::Closed {
                    return Err("it changes a card that is closed");
                }
                kept.card.status = status;
            }
            CardChange::Revealed { .. } => {}
        }
        Ok(())
    }
}
