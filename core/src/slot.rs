//! One slot: 1/1024 of the accounts with everything that belongs to them. State only: `evolve` changes it, `decide` reads it.
//!
//! Owns: accounts, authorizations and their captures, remembered keys, open exchanges, answers given, in-transit sums, the
//! counter of ids. Refuses to know: time (but for what events carry), policies, messages, other slots.

mod forgetting;
mod views;

use tp_planted::{Bug, has};

use crate::account::Account;
use crate::amount::{Amount, Ledger};
use crate::authorization::{Authorization, COURSE_BYTES, Capture, NOWHERE};
use crate::chunks::Fifo;
use crate::command::Status;
use crate::copying::Copying;
use crate::exchange::{Answers, OpenExchanges};
use crate::ids::{AccountId, Seq, SlotIndex, SlotSeed};
use crate::index::{Aim, Index};
use crate::key::{Key, KeyKind};
use crate::keys::{Home, KeyMemory, KeyRecord};
use crate::rules::Windows;
use crate::slab::Slab;
use crate::time::Time;
pub(crate) use forgetting::{FORGET_STEPS, Old};

/// At most so many keys of accounts that do not exist are remembered in a slot: fences, tombstones, advices.
pub const ORPHAN_KEYS_MAX: usize = 1024;

/// A slot's counter of ids stays below this, the largest that an id can hold (62 bits): a next one must exist.
pub(crate) const ID_COUNTER_END: u64 = u64::MAX >> 2;

/// Approximate memory of an authorization with its place in the index, and of a capture with that and its authorization's course.
pub(crate) const AUTHORIZATION_BYTES: u64 = size_of::<Option<Authorization>>() as u64 + 16;
const CAPTURE_BYTES: u64 = (size_of::<Option<Capture>>() + 16 + COURSE_BYTES) as u64;

/// One slot's state.
#[derive(Clone, Debug)]
pub struct Slot {
    pub(crate) index: SlotIndex,
    pub(crate) windows: Windows,
    accounts: Slab<Account>,
    account_index: Index,
    /// Where the account that is worked with probably is: each step of a decision asks for it again.
    account_hint: u32,
    authorizations: Slab<Authorization>,
    authorization_index: Index,
    /// Where the authorization that is worked with probably is, likewise.
    authorization_hint: u32,
    captures: Slab<Capture>,
    capture_index: Index,
    pub(crate) keys: KeyMemory,
    pub(crate) exchanges: OpenExchanges,
    pub(crate) answers: Answers,
    pub(crate) in_transit: Vec<(Ledger, i128)>,
    /// The counter of the last id made.
    pub(crate) id_counter: u64,
    /// When an opaque key was first received: no window of one can have passed before this and the window.
    pub(crate) opaque_since: Option<Time>,
    /// Keys of accounts that do not exist.
    pub(crate) orphan_keys: usize,
    /// How many holds are open.
    pub(crate) holds_open: usize,
    /// Closed authorizations in the order of closing.
    closed: Fifo<(Time, u32), 64>,
    /// A copy that is being taken: whatever changes is saved for it first.
    pub(crate) copying: Option<Box<Copying>>,
    /// Touched by events whose numbers are not drawn yet.
    pub(crate) unstamped_accounts: Vec<u32>,
    pub(crate) unstamped_keys: Vec<u32>,
}

impl Slot {
    /// An empty slot of a data directory.
    pub fn new(index: SlotIndex, seed: SlotSeed, windows: Windows) -> Self {
        let seed = u64::from_le_bytes([
            seed.0[0], seed.0[1], seed.0[2], seed.0[3], seed.0[4], seed.0[5], seed.0[6], seed.0[7],
        ]);
        // What finds an authorization finds the keys that its hold keeps.
        let holds_seed = seed ^ 1;
        Self {
            index,
            windows,
            accounts: Slab::default(),
            account_index: Index::new(seed),
            account_hint: 0,
            authorizations: Slab::default(),
            authorization_index: Index::of_counted(holds_seed),
            authorization_hint: 0,
            captures: Slab::default(),
            capture_index: Index::of_counted(seed ^ 2),
            keys: KeyMemory::new(seed ^ 3, holds_seed),
            exchanges: OpenExchanges::new(),
            answers: Answers::default(),
            in_transit: Vec::new(),
            id_counter: 0,
            opaque_since: None,
            orphan_keys: 0,
            holds_open: 0,
            closed: Fifo::default(),
            copying: None,
            unstamped_accounts: Vec::new(),
            unstamped_keys: Vec::new(),
        }
    }

    /// Which slot it is.
    pub const fn index(&self) -> SlotIndex {
        self.index
    }

    /// How long it remembers.
    pub const fn windows(&self) -> Windows {
        self.windows
    }

    /// Makes room in the indexes for so many more accounts, authorizations and keys.
    pub(crate) fn reserve(&mut self, accounts: usize, authorizations: usize, keys: usize) {
        self.account_index.reserve(accounts);
        self.authorization_index.reserve(authorizations);
        self.keys.reserve(keys);
    }

    /// Takes memory for so many authorizations and keys in all now, and touches it: a page that is touched for the first time makes a
    /// turn wait.
    pub(crate) fn set_aside(&mut self, authorizations: usize, keys: usize) {
        let more = authorizations.saturating_sub(self.authorizations.len());
        self.authorizations.set_aside(more);
        self.authorization_index.set_aside(self.authorizations.len() + more);
        self.keys.set_aside(keys);
    }

    // --- accounts ---

    pub(crate) fn account_position(&self, id: AccountId) -> Option<u32> {
        let is_it = |position| self.accounts.get(position).is_some_and(|account| account.id() == id);
        if is_it(self.account_hint) { Some(self.account_hint) } else { self.account_index.find(id.0, 0, is_it) }
    }
    /// What is found there is asked for next. A wrong position costs a look into the index.
    pub(crate) const fn hint_account(&mut self, position: u32) {
        self.account_hint = position;
    }
    /// The account's way into its index, and what lies on it: see [`Index::aim`], [`Index::approach`], [`Index::guess`].
    pub(crate) fn aim_at_account(&self, id: AccountId) -> Aim {
        self.account_index.aim(id.0, 0)
    }
    pub(crate) fn approach_account(&self, aim: Aim) -> usize {
        self.account_index.approach(aim)
    }
    pub(crate) fn guess_account(&self, aim: Aim) -> Option<u32> {
        self.account_index.guess(aim)
    }
    /// The authorization's, likewise.
    pub(crate) fn aim_at_authorization(&self, id: u128) -> Aim {
        self.authorization_index.aim(id, 0)
    }
    pub(crate) fn approach_authorization(&self, aim: Aim) -> usize {
        self.authorization_index.approach(aim) ^ self.keys.approach_kept(aim)
    }
    pub(crate) fn guess_authorization(&self, aim: Aim) -> Option<u32> {
        self.authorization_index.guess(aim)
    }
    /// A key that its hold keeps, likewise.
    pub(crate) fn guess_kept(&self, aim: Aim) -> Option<u32> {
        self.keys.guess_kept(aim)
    }
    /// Looks at every cache line of the account.
    pub(crate) fn touch_account(&self, position: u32) -> u128 {
        self.accounts
            .get(position)
            .map_or(0, |a| a.id().0 ^ a.held.get() ^ u128::from(a.version.0) ^ u128::from(a.status as u8))
    }
    /// Looks at every cache line of the authorization.
    pub(crate) fn touch_authorization(&self, position: u32) -> u128 {
        self.authorizations.get(position).map_or(0, |a| a.id().0 ^ a.hold.get() ^ u128::from(a.tolerance_bp))
    }
    /// Looks at the places behind which authorizations and keys are added.
    pub(crate) fn touch_ends(&self) -> u128 {
        u128::from(self.authorizations.look_at_end()) ^ u128::from(self.keys.look_at_end())
    }
    pub(crate) fn find_account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(self.account_position(id)?)
    }
    pub(crate) fn account_ref(&self, position: u32) -> Option<&Account> {
        self.accounts.get(position)
    }
    pub(crate) fn account_at(&mut self, position: u32) -> Option<&mut Account> {
        if let Some(copying) = &mut self.copying {
            copying.save_account(position, self.accounts.get(position));
        }
        self.accounts.get_mut(position)
    }
    pub(crate) fn insert_account(&mut self, account: Account) -> u32 {
        let id = account.id();
        let position = self.accounts.insert(account);
        self.account_index.insert(id.0, 0, position);
        position
    }
    pub(crate) fn iter_accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.iter()
    }
    /// Whether the account exists and may be booked on: forced movements go to the suspense account otherwise.
    pub(crate) fn takes_forced(&self, id: AccountId, ledger: Ledger) -> bool {
        self.find_account(id)
            .is_some_and(|a| (a.status != Status::Closed || has(Bug::ClosedTakes)) && a.ledger == ledger)
    }

    // --- authorizations and captures ---

    /// Zero names none, and is not looked for.
    pub(crate) fn authorization_position(&self, id: u128) -> Option<u32> {
        if id == 0 {
            return None;
        }
        let hint = self.authorization_hint;
        let is_at_hand = self.authorizations.get(hint).is_some_and(|a| a.id().0 == id);
        if is_at_hand { Some(hint) } else { search(&self.authorizations, &self.authorization_index, id) }
    }
    /// Whether an id is taken. It probably is not, so nobody looks at the hint: that would be a wait for another authorization.
    pub(crate) fn has_authorization(&self, id: u128) -> bool {
        search(&self.authorizations, &self.authorization_index, id).is_some()
    }
    /// What is found there is asked for next. A wrong position costs a look into the index; `None` costs no look at another one before.
    pub(crate) fn hint_authorization(&mut self, position: Option<u32>) {
        self.authorization_hint = position.unwrap_or(NOWHERE);
    }
    pub(crate) fn find_authorization(&self, id: u128) -> Option<&Authorization> {
        self.authorizations.get(self.authorization_position(id)?)
    }
    pub(crate) fn authorization_ref(&self, position: u32) -> Option<&Authorization> {
        self.authorizations.get(position)
    }
    pub(crate) fn authorization_at(&mut self, position: u32) -> Option<&mut Authorization> {
        self.save_authorization(position);
        self.authorization_hint = position;
        self.authorizations.get_mut(position)
    }
    /// Before it or one of its captures changes.
    fn save_authorization(&mut self, position: u32) {
        if let Some(mut copying) = self.copying.take() {
            copying.save_authorization(position, self, self.authorizations.get(position));
            self.copying = Some(copying);
        }
    }
    pub(crate) fn insert_authorization(&mut self, authorization: Authorization) -> u32 {
        let (id, is_open, named_at) = (authorization.id().0, authorization.is_open(), authorization.named_at);
        let position = self.authorizations.insert(authorization);
        if let Some(copying) = &mut self.copying {
            copying.skip_authorization(position);
        }
        self.authorization_index.insert(id, 0, position);
        if is_open {
            self.holds_open += 1;
        } else {
            self.closed.push_back((named_at, position));
        }
        position
    }
    pub(crate) fn iter_authorizations(&self) -> impl Iterator<Item = &Authorization> {
        self.authorizations.iter()
    }
    pub(crate) fn capture_position(&self, id: u128) -> Option<u32> {
        self.capture_index.find(id, 0, |p| self.captures.get(p).is_some_and(|c| c.id.0 == id))
    }
    pub(crate) fn find_capture(&self, id: u128) -> Option<&Capture> {
        self.captures.get(self.capture_position(id)?)
    }
    pub(crate) fn capture_at(&mut self, position: u32) -> Option<&mut Capture> {
        self.save_authorization(self.captures.get(position)?.authorization);
        self.captures.get_mut(position)
    }
    /// The authorization that a capture belongs to.
    pub(crate) fn authorization_of(&self, capture: &Capture) -> Option<&Authorization> {
        self.authorizations.get(capture.authorization)
    }
    /// Adds a capture at the end of its authorization's list.
    pub(crate) fn insert_capture(&mut self, capture: Capture) {
        let (id, owner) = (capture.id.0, capture.authorization);
        self.save_authorization(owner);
        let position = self.captures.insert(capture);
        self.capture_index.insert(id, 0, position);
        let Some(authorization) = self.authorizations.get_mut(owner) else { return };
        let course = authorization.course_mut();
        let last = core::mem::replace(&mut course.capture_last, position);
        course.captures += 1;
        if last == NOWHERE {
            course.capture_first = position;
        } else if let Some(last) = self.captures.get_mut(last) {
            last.next = position;
        }
    }
    /// Takes back the last capture of an authorization, whose exchange was refused.
    pub(crate) fn remove_last_capture(&mut self, owner: u32) {
        let Some(course) = self.authorizations.get(owner).map(Authorization::course) else { return };
        let (last, first) = (course.capture_last, course.capture_first);
        self.save_authorization(owner);
        let (mut before, mut at) = (NOWHERE, first);
        while at != last {
            let Some(capture) = self.captures.get(at) else { return };
            (before, at) = (at, capture.next);
        }
        self.drop_capture(last);
        if let Some(capture) = self.captures.get_mut(before) {
            capture.next = NOWHERE;
        }
        if let Some(authorization) = self.authorizations.get_mut(owner) {
            let course = authorization.course_mut();
            course.captures -= 1;
            course.capture_last = before;
            if before == NOWHERE {
                course.capture_first = NOWHERE;
            }
        }
    }
    fn drop_capture(&mut self, position: u32) {
        if let Some(capture) = self.captures.remove(position) {
            self.capture_index.remove(capture.id.0, 0, position);
        }
    }
    /// The captures of an authorization, in order.
    pub(crate) fn captures_of(&self, authorization: &Authorization) -> impl Iterator<Item = &Capture> {
        let mut at = authorization.course().capture_first;
        core::iter::from_fn(move || {
            let capture = self.captures.get(at)?;
            at = capture.next;
            Some(capture)
        })
    }

    // --- keys ---

    const fn home(&self) -> Home<'_> {
        Home { slot: self.index, accounts: &self.accounts }
    }
    /// The keys, to be changed, and what their records lean on.
    const fn keys_and_home(&mut self) -> (&mut KeyMemory, Home<'_>) {
        (&mut self.keys, Home { slot: self.index, accounts: &self.accounts })
    }
    pub(crate) fn key_position(&self, account: AccountId, key: Key) -> Option<u32> {
        self.keys.position(account, key, self.home())
    }
    pub(crate) fn key_at(&self, position: u32) -> Option<KeyRecord> {
        self.keys.get(position, self.home())
    }
    /// The record of a key, past its window or not.
    pub(crate) fn find_key(&self, account: AccountId, key: Key) -> Option<KeyRecord> {
        self.key_at(self.key_position(account, key)?)
    }
    /// All records of keys, with their positions.
    pub(crate) fn iter_keys(&self) -> impl Iterator<Item = (u32, KeyRecord)> {
        self.keys.entries(self.home())
    }
    /// The record of a key that this turn's last event noted, or of any other.
    pub(crate) fn noted_key(&self, account: AccountId, key: Key) -> Option<KeyRecord> {
        let is_it = |record: &KeyRecord| record.account == account && record.key == key;
        let noted = self.unstamped_keys.last().and_then(|position| self.key_at(*position)).filter(is_it);
        noted.or_else(|| self.find_key(account, key))
    }
    /// Remembers a key's record in place of what was there.
    pub(crate) fn remember(&mut self, mut record: KeyRecord) -> u32 {
        let position = self.key_position(record.account, record.key);
        self.remember_at(position, &mut record)
    }
    /// As [`Slot::remember`], where it is known whether and where the key is. Notes in the record whether its account is missing.
    pub(crate) fn remember_at(&mut self, position: Option<u32>, record: &mut KeyRecord) -> u32 {
        if record.key.kind == KeyKind::Opaque && self.opaque_since.is_none() {
            self.opaque_since = Some(record.received);
        }
        let account = self.account_position(record.account);
        record.is_orphan = account.is_none();
        self.orphan_keys += usize::from(record.is_orphan);
        let Some(position) = position else {
            let (keys, home) = self.keys_and_home();
            let position = keys.insert(record, account, home);
            if let Some(copying) = &mut self.copying {
                copying.skip_key(position);
            }
            return position;
        };
        self.save_key(position);
        let was_orphan = self.keys.is_orphan(position);
        self.orphan_keys -= usize::from(was_orphan);
        let (keys, home) = self.keys_and_home();
        keys.replace(position, record, account, home);
        position
    }
    fn save_key(&mut self, position: u32) {
        if let Some(copying) = &mut self.copying {
            let home = Home { slot: self.index, accounts: &self.accounts };
            copying.save_key(position, || self.keys.get(position, home));
        }
    }
    /// Changes a remembered key's record.
    pub(crate) fn change_key(&mut self, position: u32, change: impl FnOnce(&mut KeyRecord)) {
        self.save_key(position);
        let (keys, home) = self.keys_and_home();
        keys.change(position, home, change);
    }
    /// The key's window runs on from `received`.
    pub(crate) fn renew_key(&mut self, position: u32, received: Time) {
        self.save_key(position);
        let (keys, home) = self.keys_and_home();
        keys.renew(position, received, home);
    }
    /// Positions there are of accounts, authorizations and keys, with and without records.
    pub(crate) fn positions(&self) -> [u32; 3] {
        [self.accounts.positions(), self.authorizations.positions(), self.keys.positions()]
    }
    /// Puts a record of an image back.
    pub(crate) fn restore_key(&mut self, record: &KeyRecord) {
        self.orphan_keys += usize::from(record.is_orphan);
        let account = self.account_position(record.account);
        let (keys, home) = self.keys_and_home();
        keys.insert(record, account, home);
    }

    // --- numbers ---

    /// Turns the provisional numbers of a turn into real ones.
    pub(crate) fn stamp(&mut self, first: Seq) {
        for position in self.unstamped_accounts.drain(..) {
            if let Some(account) = self.accounts.get_mut(position) {
                account.seq = account.seq.stamped(first);
            }
        }
        let home = Home { slot: self.index, accounts: &self.accounts };
        for position in self.unstamped_keys.drain(..) {
            self.keys.stamp(position, first, home);
        }
    }
    /// The next id's counter.
    pub(crate) const fn next_id(&self) -> u64 {
        self.id_counter + 1
    }
    /// Bytes of remembered keys.
    pub fn key_bytes(&self) -> u64 {
        self.keys.bytes()
    }
    /// Bytes of authorizations and captures; with a capture, most authorizations have their course out of line.
    pub fn authorization_bytes(&self) -> u64 {
        self.authorizations.len() as u64 * AUTHORIZATION_BYTES + self.captures.len() as u64 * CAPTURE_BYTES
    }
    /// How many accounts, open holds, authorizations in memory, remembered keys.
    pub const fn counts(&self) -> [usize; 4] {
        [self.accounts.len(), self.holds_open, self.authorizations.len(), self.keys.len()]
    }
}

/// Where an authorization is, by the index.
fn search(authorizations: &Slab<Authorization>, index: &Index, id: u128) -> Option<u32> {
    index.find(id, 0, |position| authorizations.get(position).is_some_and(|a| a.id().0 == id))
}

/// A sum that is known to be a single amount: an authorization never comes to more than one (decide refuses the increment).
pub(crate) fn amount_of(sum: u128) -> Amount {
    assert!(sum <= Amount::MAX.get(), "a sum of {sum} is not a single amount");
    Amount::new(sum).unwrap_or(Amount::MAX)
}
