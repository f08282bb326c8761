//! The running vault: cards in, durable before they count; numbers out, by role and recorded.
//!
//! Owns the order of a change (reserve, record, apply), building the state at start, the file of records and the rotation of keys.
//! Changes of different cards run beside each other; a card has one at a time. Refuses to know who may do what.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use crossbeam::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};
use parking_lot::Mutex;
use tokio::sync::OwnedRwLockReadGuard;
use tp_actors::tp_core::command::Record;
use tp_actors::tp_core::ids::{AccountId, Seq};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{CallOptions, Engine};

use super::cache::Cache;
use super::keys::{CardKeyError, CardKeyId, CardKeys, Lookup, lookup};
use super::pan::Pan;
use super::record::{CardChange, CardRecord, CardStatus, Expiry, Sealed, Token};
use super::state::{Card, CardCounts, CardState};
use super::{CARD_STREAM, LocalCardKeys};
use crate::control::{Fold, now};
use crate::tenancy::TenantId;

/// Why a change of a card was not made, or its number not shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// There is no such card, or it is closed.
    #[error("there is no such card")]
    NoCard,
    /// The number is a card of another account.
    #[error("the number is the card of another account")]
    OtherAccount,
    /// The same card is being changed, or it is not known whether a change of it is durable.
    #[error("the card is being changed: try again")]
    UnderWay,
    /// The record was not made durable: nothing changed.
    #[error("the engine answered `{0}`: nothing was changed, try again")]
    NotRecorded(Outcome),
    /// It is not known whether the record is durable: the next start will know.
    #[error("it is not known whether the change is durable: the card is not changed again before the next start")]
    InDoubt,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
    /// The keys.
    #[error(transparent)]
    Keys(#[from] CardKeyError),
}

/// A card that is to be added.
#[derive(Clone, Debug)]
pub struct NewCard {
    /// Whose.
    pub tenant: TenantId,
    /// Its number.
    pub pan: Pan,
    /// The account that it pays from.
    pub account: AccountId,
    /// When it expires.
    pub expiry: Option<Expiry>,
}

/// What a number is and was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// The card that it is now; a closed one when it has not come again.
    pub card: Card,
    /// The accounts of the closed cards that it was before, where they are others.
    pub accounts_before: Vec<AccountId>,
}

/// What must not be changed twice at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Reserved {
    Lookup(Lookup),
    Card(Token),
}

/// All cards of a running engine.
pub struct Vault {
    engine: Arc<Engine>,
    /// Every message looks at these two: its reader touches what its own core has.
    keys: ShardedLock<Arc<dyn CardKeys>>,
    state: ShardedLock<CardState>,
    reserved: Mutex<HashSet<Reserved>>,
    /// Records that are applied and not in the file yet.
    fresh: Mutex<Vec<(Seq, Vec<u8>)>>,
    /// Shared by changes from their record to their effect; the file is written while there are none.
    changes: Arc<tokio::sync::RwLock<()>>,
    cache: Option<Cache>,
    cache_as_of: Mutex<Seq>,
    /// It is not known whether a record is durable: what the file says would be wrong.
    is_in_doubt: AtomicBool,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").finish_non_exhaustive()
    }
}

/// The state while a start folds the records.
pub(crate) struct VaultFold {
    cache: Option<Cache>,
    as_of: Seq,
    cache_as_of: Seq,
    state: CardState,
    fresh: Vec<(Seq, Vec<u8>)>,
}

impl VaultFold {
    /// What the file has, when it fits.
    pub(crate) fn open(engine: &Engine, folder: Option<PathBuf>) -> Self {
        let cache = folder.map(|folder| Cache::new(&folder, engine.seed()));
        let mut fold =
            Self { cache, as_of: Seq::ZERO, cache_as_of: Seq::ZERO, state: CardState::default(), fresh: Vec::new() };
        let Some(cache) = &fold.cache else { return fold };
        let cached = cache.read(engine.durable_seq()).filter(|cached| {
            let last = cached.records.last();
            last.is_none_or(|(seq, bytes)| crate::control::is_recorded(engine, *seq, CARD_STREAM, bytes))
        });
        let Some(cached) = cached.filter(|cached| cache.keep(cached).is_ok()) else {
            cache.remove();
            return fold;
        };
        let mut state = CardState::default();
        let is_sound = cached
            .records
            .iter()
            .all(|(_, bytes)| CardRecord::from_bytes(bytes).is_ok_and(|record| state.apply(record).is_ok()));
        if is_sound {
            (fold.state, fold.as_of, fold.cache_as_of) = (state, cached.as_of, cached.as_of);
        } else {
            cache.remove();
        }
        fold
    }

    /// Whether every key that numbers are kept under is there.
    pub(crate) fn check_keys(&self, keys: &LocalCardKeys) -> Result<(), CardKeyError> {
        has_all_keys(&self.state, keys)
    }

    /// Whether numbers are kept: the keys must be there then.
    pub(crate) fn has_cards(&self) -> bool {
        !self.state.is_empty()
    }
}

impl Fold for VaultFold {
    fn stream(&self) -> u32 {
        CARD_STREAM
    }

    fn as_of(&self) -> Seq {
        self.as_of
    }

    fn take(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), String> {
        let record = CardRecord::from_bytes(bytes)?;
        self.state.apply(record)?;
        self.fresh.push((seq, bytes.to_vec()));
        Ok(())
    }

    fn pass(&mut self, seq: Seq) {
        self.as_of = seq;
    }
}

/// As good as no deadline: a week.
const RECORD_MS_MAX: u64 = 7 * 86_400_000;

/// The file is written when so many events lie behind its last mark.
const CACHE_EVENTS: u64 = 1_000_000;

/// Cards sealed again at a time, so that a rotation does not crowd out what else is recorded.
const ROTATED_AT_ONCE: usize = 64;

impl Vault {
    pub(crate) fn new(engine: Arc<Engine>, fold: VaultFold, keys: LocalCardKeys) -> Self {
        Self {
            engine,
            keys: ShardedLock::new(Arc::new(keys)),
            state: ShardedLock::new(fold.state),
            reserved: Mutex::default(),
            fresh: Mutex::new(fold.fresh),
            changes: Arc::default(),
            cache: fold.cache,
            cache_as_of: Mutex::new(fold.cache_as_of),
            is_in_doubt: AtomicBool::new(false),
        }
    }

    fn keys(&self) -> Arc<dyn CardKeys> {
        Arc::clone(&read(&self.keys))
    }

    /// The card that a number is now (closed ones too), and the accounts of the cards that it was before. It is looked for under every
    /// key: while cards are sealed again, they are under different ones.
    ///
    /// # Errors
    /// [`CardKeyError`].
    pub fn find(&self, tenant: TenantId, pan: &Pan) -> Result<Option<Found>, CardKeyError> {
        // Until all is found, no rotation begins.
        let keys = read(&self.keys);
        let lookups = keys.ids().into_iter().map(|key| lookup(&**keys, key, tenant, pan));
        let lookups: Vec<Lookup> = lookups.collect::<Result<_, _>>()?;
        // One look at all: a card that is sealed again meanwhile is under one of them.
        let state = read(&self.state);
        let cards: Vec<Card> = lookups.iter().filter_map(|lookup| state.found(lookup)).copied().collect();
        let mut accounts: Vec<AccountId> = lookups.iter().flat_map(|lookup| state.accounts_before(lookup)).collect();
        drop((state, keys));
        let now = cards.iter().max_by_key(|card| (card.status != CardStatus::Closed, card.added, card.token)).copied();
        Ok(now.map(|card| {
            accounts.extend(cards.iter().map(|other| other.account));
            accounts.retain(|account| *account != card.account);
            Found { card, accounts_before: accounts }
        }))
    }

    /// A card of a tenant.
    pub fn card(&self, tenant: TenantId, token: Token) -> Option<Card> {
        read(&self.state).card(token).filter(|card| card.tenant == tenant).copied()
    }

    /// A tenant's cards, ascending by token, from behind `after` on.
    pub fn page(&self, tenant: TenantId, after: Option<Token>, limit: usize) -> Vec<Card> {
        read(&self.state).page(tenant, after, limit)
    }

    /// How many cards are kept under each key, and the keys, the current one first.
    pub fn counts(&self) -> (Vec<CardKeyId>, CardCounts) {
        (self.keys().ids(), read(&self.state).counts())
    }

    /// Adds a card. The same number for the same account again: the card that is there. Gives back whether it is new.
    ///
    /// # Errors
    /// [`CardError`].
    pub async fn add(self: &Arc<Self>, new: NewCard, by: &str) -> Result<(Card, bool), CardError> {
        let under_way = self.under_way().await;
        let keys = self.keys();
        let ids = keys.ids();
        let current = ids.first().copied().ok_or(CardError::NoCard)?;
        let lookup_of = |key: &CardKeyId| lookup(&*keys, *key, new.tenant, &new.pan);
        let lookups: Vec<Lookup> = ids.iter().map(lookup_of).collect::<Result<_, _>>()?;
        // Nobody else adds the same number from here on, under whichever key.
        let hold = self.reserve(lookups.iter().map(|lookup| Reserved::Lookup(*lookup)).collect())?;
        let found = self.find(new.tenant, &new.pan)?.map(|found| found.card);
        if let Some(card) = found.filter(|card| card.status != CardStatus::Closed) {
            return if card.account == new.account { Ok((card, false)) } else { Err(CardError::OtherAccount) };
        }
        let token = random_token()?;
        let envelope = keys.seal(current, token, new.pan.digits())?.into();
        let change = CardChange::Added {
            tenant: new.tenant.get(),
            account: new.account.0,
            sealed: Sealed { key: current, lookup: lookups[0], envelope },
            issuer: new.pan.issuer(),
            last_four: new.pan.last_four(),
            digits: new.pan.length(),
            expiry: new.expiry,
            by: by.to_owned(),
        };
        self.write(token, change, (hold, under_way)).await?;
        self.card(new.tenant, token).map(|card| (card, true)).ok_or(CardError::NoCard)
    }

    /// Blocks, unblocks or closes a card. A closed one stays closed.
    ///
    /// # Errors
    /// [`CardError`].
    pub async fn set_status(
        self: &Arc<Self>,
        tenant: TenantId,
        token: Token,
        status: CardStatus,
        by: &str,
    ) -> Result<Card, CardError> {
        let (under_way, hold) = (self.under_way().await, self.reserve(vec![Reserved::Card(token)])?);
        let card = self.card(tenant, token).ok_or(CardError::NoCard)?;
        if card.status == status {
            return Ok(card);
        }
        if card.status == CardStatus::Closed {
            return Err(CardError::NoCard);
        }
        self.write(token, CardChange::Status { status, by: by.to_owned() }, (hold, under_way)).await?;
        self.card(tenant, token).ok_or(CardError::NoCard)
    }

    /// The number of a card, once it is recorded who saw it.
    ///
    /// # Errors
    /// [`CardError`].
    pub async fn reveal(self: &Arc<Self>, tenant: TenantId, token: Token, by: &str) -> Result<Pan, CardError> {
        let under_way = self.under_way().await;
        self.card(tenant, token).ok_or(CardError::NoCard)?;
        let hold = self.reserve(vec![Reserved::Card(token)])?;
        let pan = self.open(token)?;
        self.write(token, CardChange::Revealed { by: by.to_owned() }, (hold, under_way)).await?;
        Ok(pan)
    }

    fn open(&self, token: Token) -> Result<Pan, CardError> {
        let (key, envelope) = {
            let state = read(&self.state);
            let sealed = state.sealed(token).ok_or(CardError::NoCard)?;
            (sealed.key, sealed.envelope.clone())
        };
        let digits = self.keys().open(key, token, &envelope)?;
        Ok(Pan::parse(&digits).map_err(CardKeyError::from)?)
    }

    /// Takes other keys from now on; [`Vault::rotate`] follows.
    ///
    /// # Errors
    /// [`CardKeyError::Unknown`]: cards are kept under a key that is not among them; the old ones stay.
    pub async fn set_keys(&self, keys: LocalCardKeys) -> Result<(), CardKeyError> {
        let _nothing_under_way = self.changes.write().await;
        has_all_keys(&read(&self.state), &keys)?;
        *write(&self.keys) = Arc::new(keys);
        Ok(())
    }

    /// Seals what is not kept under the current key again, under it, while everything goes on. Gives back how many cards it was.
    ///
    /// # Errors
    /// [`CardError`]: what was not sealed again is tried the next time.
    pub async fn rotate(self: &Arc<Self>) -> Result<usize, CardError> {
        let mut count = 0;
        loop {
            let Some(current) = self.keys().ids().first().copied() else { return Ok(count) };
            let tokens = read(&self.state).under_other_keys(current, ROTATED_AT_ONCE);
            if tokens.is_empty() {
                return Ok(count);
            }
            let mut sealed = Vec::new();
            for token in tokens {
                let vault = Arc::clone(self);
                sealed.push(tokio::spawn(async move { vault.seal_again(token).await }));
            }
            let mut is_held_up = false;
            for task in sealed {
                match task.await.unwrap_or(Err(CardError::InDoubt)) {
                    Ok(()) => count += 1,
                    // Somebody else changes it just now.
                    Err(CardError::UnderWay) => is_held_up = true,
                    Err(error) => return Err(error),
                }
            }
            if is_held_up {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn seal_again(self: &Arc<Self>, token: Token) -> Result<(), CardError> {
        let (under_way, hold) = (self.under_way().await, self.reserve(vec![Reserved::Card(token)])?);
        let keys = self.keys();
        let current = keys.ids().first().copied().ok_or(CardError::NoCard)?;
        let tenant = read(&self.state).card(token).map(|card| card.tenant).ok_or(CardError::NoCard)?;
        let pan = self.open(token)?;
        let lookup = lookup(&*keys, current, tenant, &pan)?;
        let envelope = keys.seal(current, token, pan.digits())?.into();
        let change = CardChange::Sealed(Sealed { key: current, lookup, envelope });
        self.write(token, change, (hold, under_way)).await
    }

    /// Until it is dropped the keys stay, and the file of records is not written.
    async fn under_way(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.changes).read_owned().await
    }

    /// All of these, or none.
    fn reserve(self: &Arc<Self>, what: Vec<Reserved>) -> Result<Hold, CardError> {
        let mut reserved = self.reserved.lock();
        if what.iter().any(|one| reserved.contains(one)) {
            return Err(CardError::UnderWay);
        }
        reserved.extend(&what);
        Ok(Hold { vault: Arc::clone(self), what })
    }

    /// Writes a record and applies it. On a task of its own: whoever asked may go meanwhile, what was begun is ended.
    async fn write(self: &Arc<Self>, token: Token, change: CardChange, until_done: UntilDone) -> Result<(), CardError> {
        let vault = Arc::clone(self);
        let written = tokio::spawn(async move {
            let (hold, _under_way) = until_done;
            let record = CardRecord { token, at: now().0, change };
            let bytes = record.to_bytes();
            // However long the disk takes: a record that is given up at a deadline would leave it open whether it counts.
            let options = CallOptions { deadline_ms: Some(RECORD_MS_MAX), ..CallOptions::default() };
            let asked = Record { stream: CARD_STREAM, bytes: bytes.clone().into_boxed_slice() };
            let reply = vault.engine.call_with(asked, options).await;
            match reply.outcome {
                outcome if outcome.is_approval() => {
                    let applied = write(&vault.state).apply(record);
                    debug_assert_eq!(applied, Ok(()), "it was tested under its reservation");
                    vault.fresh.lock().push((reply.seq, bytes));
                    Ok(())
                }
                Outcome::InProgress | Outcome::SystemError => {
                    vault.is_in_doubt.store(true, Ordering::Release);
                    std::mem::forget(hold); // until the next start has read the journal
                    Err(CardError::InDoubt)
                }
                outcome => Err(CardError::NotRecorded(outcome)),
            }
        });
        written.await.unwrap_or(Err(CardError::InDoubt))
    }

    /// Adds what is new to the file of records when there is enough behind it, or at once. Blocks. A file that cannot be written costs
    /// time at the next start, and nothing else.
    ///
    /// # Errors
    /// The file's.
    pub fn write_cache(&self, at_once: bool) -> std::io::Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        // No change under way: what is durable now was applied.
        let Ok(_no_change) = self.changes.try_write() else { return Ok(()) };
        let (as_of, mut before) = (self.engine.durable_seq(), self.cache_as_of.lock());
        let behind = as_of.0.saturating_sub(before.0);
        if self.is_in_doubt.load(Ordering::Acquire) || behind < if at_once { 1 } else { CACHE_EVENTS } {
            return Ok(());
        }
        let mut fresh = self.fresh.lock();
        fresh.sort_unstable_by_key(|(seq, _)| *seq);
        cache.append(&fresh, as_of)?;
        fresh.clear();
        *before = as_of;
        Ok(())
    }
}

fn has_all_keys(state: &CardState, keys: &LocalCardKeys) -> Result<(), CardKeyError> {
    let (ids, CardCounts(counts)) = (keys.ids(), state.counts());
    match counts.iter().find(|(key, _)| !ids.contains(key)) {
        Some((missing, _)) => Err(CardKeyError::Unknown(*missing)),
        None => Ok(()),
    }
}

/// What a change holds until it is applied.
type UntilDone = (Hold, OwnedRwLockReadGuard<()>);

/// A reservation. Dropped, it is over.
struct Hold {
    vault: Arc<Vault>,
    what: Vec<Reserved>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut reserved = self.vault.reserved.lock();
        self.what.iter().for_each(|one| {
            reserved.remove(one);
        });
    }
}

fn read<T>(lock: &ShardedLock<T>) -> ShardedLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &ShardedLock<T>) -> ShardedLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn random_token() -> Result<Token, CardError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| CardError::NoRandomness)?;
    Ok(Token(u128::from_le_bytes(bytes)))
}
