//! An index from a 128-bit id to a position in a slab.
//!
//! It grows by a table at a time (extendible hashing): a full table is divided in two, by one more bit of the hash, and the
//! others stay as they are. One doubling table would place all its entries again at once: with two million that stops a
//! partition for 70 ms. Here an insertion places at most [`TABLE_MAX`] entries again, whatever is there already.
//!
//! Owns the growth and the hash. Refuses to know the values. Nothing iterates over an index, so its order shows nowhere.

use core::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

/// Entries of a table before it is divided: what 4,096 places of the hash table take, 36 KiB.
const TABLE_MAX: usize = 3584;

/// A table whose hashes share so many bits is divided no further and doubles instead: ids that collide on purpose must not
/// make the directory grow without end. Well spread ids come to 200 million entries before that.
const DEPTH_MAX: u32 = 16;

/// From an id to a position in a slab.
///
/// Each entry keeps 32 bits of its id's hash beside the position, so that neither a miss nor the growth of a table looks at
/// a value: values lie anywhere in memory, and each look at one is a wait.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// By the first `depth` bits of the tag: the place of the table in `tables`. Empty while there is one table, or none.
    directory: Vec<u32>,
    depth: u32,
    tables: Vec<Table>,
    /// Empty tables of full size that were set aside.
    spare: Vec<HashTable<Entry>>,
    state: FixedState,
    order: Order,
}

/// An id's way into its index: its tag there, for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim(u32);

impl Aim {
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
    pub(crate) const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// Where an id's entry lies among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    /// Anywhere: clients choose the ids.
    Hashed,
    /// Beside those of the ids before and after it. For ids that the engine counts up.
    Counted,
}

/// So many consecutive ids lie side by side: a cache line of entries. Longer runs would push each other far away, and leave more places
/// that are not free after a removal.
const RUN: u32 = 8;

#[derive(Clone, Debug)]
struct Table {
    entries: HashTable<Entry>,
    /// So many first bits of the tag are the same in all its entries.
    depth: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    position: u32,
}

const MIX: u64 = 0x9E37_79B9_7F4A_7C15; // odd, so the low bits stay as well spread as the tag's

impl Order {
    /// What a table places an entry by: all of it follows from the tag. Its low bits choose the place, its top bits tell entries apart.
    const fn spread(self, tag: u32) -> u64 {
        let mixed = (tag as u64).wrapping_mul(MIX);
        match self {
            Self::Hashed => mixed,
            Self::Counted => mixed << 32 | tag as u64,
        }
    }
}

/// The first bits of a tag, at least one. High ones, since a table places its entries by the low ones.
const fn first_bits(tag: u32, depth: u32) -> usize {
    (tag >> (u32::BITS - depth)) as usize
}

impl Index {
    /// `seed` keeps clients who choose their ids from choosing collisions. Allocates nothing.
    pub(crate) const fn new(seed: u64) -> Self {
        Self::with_order(seed, Order::Hashed)
    }
    /// Of ids whose low 64 bits the engine counts up: what was made last lies together and is in the nearest caches, where the next is
    /// added.
    pub(crate) const fn of_counted(seed: u64) -> Self {
        Self::with_order(seed, Order::Counted)
    }
    const fn with_order(seed: u64, order: Order) -> Self {
        Self {
            directory: Vec::new(),
            depth: 0,
            tables: Vec::new(),
            spare: Vec::new(),
            state: FixedState::with_seed(seed),
            order,
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "of a counted id the low bits say all")]
    fn tag(&self, id: u128, salt: u128) -> u32 {
        let mut hasher = self.state.build_hasher();
        match self.order {
            Order::Hashed => hasher.write_u128(id),
            Order::Counted => hasher.write_u64(id as u64 / u64::from(RUN)),
        }
        if salt != 0 {
            hasher.write_u128(salt);
        }
        let hashed = (hasher.finish() >> 32) as u32;
        match self.order {
            Order::Hashed => hashed,
            Order::Counted => hashed & !(RUN - 1) | id as u32 & (RUN - 1),
        }
    }
    fn place(&self, tag: u32) -> usize {
        if self.depth == 0 { 0 } else { self.directory[first_bits(tag, self.depth)] as usize }
    }
    /// The position whose value is the one sought.
    pub(crate) fn find(&self, id: u128, salt: u128, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.find_tag(self.tag(id, salt), is_it)
    }
    fn find_tag(&self, tag: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let table = &self.tables.get(self.place(tag))?.entries;
        table
            .find(self.order.spread(tag), |entry| entry.tag == tag && is_it(entry.position))
            .map(|entry| entry.position)
    }
    /// Where [`Index::find`] would begin. Looks at nothing.
    pub(crate) fn aim(&self, id: u128, salt: u128) -> Aim {
        Aim(self.tag(id, salt))
    }
    /// Looks at what leads to the table, and gives something that depends on it.
    pub(crate) fn approach(&self, aim: Aim) -> usize {
        self.tables.get(self.place(aim.0)).map_or(0, |table| table.entries.len())
    }
    /// A guess at [`Index::find`] that looks at no value; nearly always right.
    pub(crate) fn guess(&self, aim: Aim) -> Option<u32> {
        self.find_tag(aim.0, |_| true)
    }
    /// Takes out a position that was added under this id, or under one with the same tag.
    pub(crate) fn take(&mut self, id: u128, salt: u128) -> Option<u32> {
        if self.tables.is_empty() {
            return None;
        }
        let (tag, order) = (self.tag(id, salt), self.order);
        let place = self.place(tag);
        let table = &mut self.tables.get_mut(place)?.entries;
        let entry = table.find_entry(order.spread(tag), |entry| entry.tag == tag).ok()?;
        Some(entry.remove().0.position)
    }
    /// Puts another position in place of the one that [`Index::guess`] gives.
    pub(crate) fn replace_at(&mut self, aim: Aim, position: u32) {
        let (tag, order) = (aim.0, self.order);
        let place = self.place(tag);
        let table = self.tables.get_mut(place).map(|table| &mut table.entries);
        if let Some(entry) = table.and_then(|table| table.find_mut(order.spread(tag), |entry| entry.tag == tag)) {
            entry.position = position;
        }
    }
    /// Adds a position whose id is not there.
    pub(crate) fn insert(&mut self, id: u128, salt: u128, position: u32) {
        self.insert_at(self.aim(id, salt), position);
    }
    /// The same, where the way is known.
    pub(crate) fn insert_at(&mut self, aim: Aim, position: u32) {
        let (tag, order) = (aim.0, self.order);
        self.make_first();
        let mut place = self.place(tag);
        while self.tables[place].entries.len() >= TABLE_MAX && self.tables[place].depth < DEPTH_MAX {
            self.divide(place, tag);
            place = self.place(tag);
        }
        self.tables[place]
            .entries
            .insert_unique(order.spread(tag), Entry { tag, position }, |entry| order.spread(entry.tag));
    }
    fn empty_table(&mut self) -> HashTable<Entry> {
        self.spare.pop().unwrap_or_else(|| HashTable::with_capacity(TABLE_MAX))
    }
    /// Takes memory for so many entries in all and touches it, so that adding them waits for no page.
    pub(crate) fn set_aside(&mut self, entries: usize) {
        // Hashes are spread evenly, so all tables of a generation divide at about the same time.
        let (tables, order) = (entries.div_ceil(TABLE_MAX).next_power_of_two(), self.order);
        if entries == 0 {
            return;
        }
        // A first table that is still small is not counted: it is left for a spare one.
        let there = self.tables.iter().filter(|table| table.entries.capacity() >= TABLE_MAX).count();
        while there + self.spare.len() < tables {
            let mut table = HashTable::with_capacity(TABLE_MAX);
            for tag in (0..).take(TABLE_MAX) {
                table.insert_unique(order.spread(tag), Entry { tag, position: 0 }, |entry| order.spread(entry.tag));
            }
            table.clear();
            self.spare.push(table);
        }
    }
    fn make_first(&mut self) {
        match &mut self.tables[..] {
            // What was set aside is set aside for this too.
            [] => {
                let entries = self.spare.pop().unwrap_or_default();
                self.tables.push(Table { entries, depth: 0 });
            }
            [only] if only.entries.len() == only.entries.capacity() && only.entries.len() < TABLE_MAX => {
                let (order, Some(mut spare)) = (self.order, self.spare.pop()) else { return };
                for entry in only.entries.drain() {
                    spare.insert_unique(order.spread(entry.tag), entry, |entry| order.spread(entry.tag));
                }
                only.entries = spare;
            }
            _ => {}
        }
    }
    /// Divides the table of a tag by one more bit.
    fn divide(&mut self, place: usize, tag: u32) {
        // Both halves are new ones: places that entries were taken from are not free before a hash table is rehashed.
        let (mut lower, mut upper, order) = (self.empty_table(), self.empty_table(), self.order);
        let table = &mut self.tables[place];
        let depth = table.depth + 1;
        table.depth = depth;
        for entry in table.entries.drain() {
            let half = if first_bits(entry.tag, depth) & 1 == 1 { &mut upper } else { &mut lower };
            half.insert_unique(order.spread(entry.tag), entry, |entry| order.spread(entry.tag));
        }
        let emptied = std::mem::replace(&mut table.entries, lower);
        // It is as good as one that was set aside. Where none was, it goes back to whoever needs memory.
        if !self.spare.is_empty() && emptied.capacity() == TABLE_MAX {
            self.spare.push(emptied);
        }
        let new = u32::try_from(self.tables.len()).expect("fewer tables than 2^DEPTH_MAX");
        self.tables.push(Table { entries: upper, depth });
        if depth > self.depth {
            let doubled = self.directory.iter().flat_map(|&place| [place, place]).collect();
            self.directory = if self.depth == 0 { vec![0, 0] } else { doubled };
            self.depth = depth;
        }
        let width = self.depth - depth;
        let first = (first_bits(tag, depth) | 1) << width;
        self.directory[first..first + (1 << width)].fill(new);
    }
    /// Makes room for so many more, as long as there is one table.
    pub(crate) fn reserve(&mut self, more: usize) {
        let order = self.order;
        self.make_first();
        if let [only] = &mut self.tables[..] {
            let room = TABLE_MAX.saturating_sub(only.entries.len());
            only.entries.reserve(more.min(room), |entry| order.spread(entry.tag));
        }
    }
    pub(crate) fn remove(&mut self, id: u128, salt: u128, position: u32) {
        let _ = self.remove_at(self.aim(id, salt), position);
    }
    /// The same, where the way is known; whether the position was there. A position is in an index once, so the tag need not be compared.
    pub(crate) fn remove_at(&mut self, aim: Aim, position: u32) -> bool {
        let (tag, order) = (aim.0, self.order);
        let place = self.place(tag);
        let Some(table) = self.tables.get_mut(place) else { return false };
        let entry = table.entries.find_entry(order.spread(tag), |entry| entry.position == position);
        entry.map(OccupiedEntry::remove).is_ok()
    }
    /// How many positions there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.iter().map(|table| table.entries.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry lies where its tag leads, and no table has doubled but those that may not be divided. (One that entries were
    /// removed from has places that are not usable again before it is rehashed, for which it may double once.)
    fn check(index: &Index) {
        assert_eq!(index.directory.len(), if index.depth == 0 { 0 } else { 1 << index.depth });
        for (place, table) in index.tables.iter().enumerate() {
            assert!(table.depth <= index.depth);
            assert!(table.entries.iter().all(|entry| index.place(entry.tag) == place));
            assert!(
                table.entries.capacity() <= 2 * TABLE_MAX || table.depth == DEPTH_MAX,
                "{}",
                table.entries.capacity()
            );
            if index.depth == 0 {
                continue;
            }
            let leads_here = index.directory.iter().filter(|&&p| p as usize == place).count();
            assert_eq!(leads_here, 1 << (index.depth - table.depth));
        }
    }

    #[test]
    fn an_index_finds_what_was_put_in_and_forgets_what_was_removed() {
        let mut index = Index::new(5);
        assert_eq!(index.guess(index.aim(0, 0)), None);
        index.remove(0, 0, 0);
        for n in 0..100_000u32 {
            index.insert(u128::from(n) * 3, 0, n);
            if n % 997 == 0 {
                check(&index);
            }
        }
        check(&index);
        assert!(index.tables.iter().all(|table| table.entries.num_buckets() == 4096));
        assert!((0..100_000).all(|n| index.find(u128::from(n) * 3, 0, |p| p == n) == Some(n)));
        assert!((0..100_000).all(|n| index.find(u128::from(n) * 3 + 1, 0, |p| p == n).is_none()));
        for n in (0..100_000).step_by(2) {
            index.remove(u128::from(n) * 3, 0, n);
        }
        check(&index);
        assert!((0..100_000).all(|n| index.find(u128::from(n) * 3, 0, |p| p == n).is_some() == (n % 2 == 1)));
    }

    #[test]
    fn counted_ids_lie_in_runs_and_are_found_whatever_else_their_bits_say() {
        let mut index = Index::of_counted(9);
        let id = |n: u32| u128::from(n / 7) << 80 | u128::from(n);
        for n in 0..100_000u32 {
            index.insert(id(n), 0, n);
        }
        check(&index);
        assert!(index.tables.iter().all(|table| table.entries.num_buckets() == 4096));
        assert!((0..100_000).all(|n| index.find(id(n), 0, |p| p == n) == Some(n)));
        assert!((100_000..200_000).all(|n| index.find(id(n), 0, |p| p == n).is_none()));
        let places = |from: u32| (from..from + RUN).map(|n| index.order.spread(index.tag(id(n), 0)) & 4095);
        assert!((0..100).all(|run| places(run * RUN).zip(places(run * RUN).skip(1)).all(|(a, b)| a + 1 == b)));
        (0..100_000).for_each(|n| index.remove(id(n), 0, n));
        assert!((0..100_000).all(|n| index.guess(index.aim(id(n), 0)).is_none()));
    }

    #[test]
    fn what_was_set_aside_takes_all_entries_it_was_meant_for() {
        for before in [0, 5, 20_000_u32] {
            let mut index = Index::new(10);
            (0..before).for_each(|n| index.insert(u128::from(n), 0, n));
            index.set_aside(50_000);
            let tables = index.tables.len() + index.spare.len();
            assert!(tables >= 50_000 / TABLE_MAX && index.spare.iter().all(HashTable::is_empty));
            (before..50_000).for_each(|n| index.insert(u128::from(n), 0, n));
            check(&index);
            // A first table that was still small is given back.
            assert!(index.tables.len() + index.spare.len() <= tables, "nothing was allocated beyond it");
            assert!((0..50_000).all(|n| index.find(u128::from(n), 0, |p| p == n) == Some(n)));
        }
        let mut none = Index::new(11);
        none.set_aside(0);
        assert!(none.spare.is_empty());
    }

    #[test]
    fn an_insertion_makes_at_most_one_table_whatever_is_there_already() {
        let mut index = Index::new(6);
        for n in 0..50_000u32 {
            let before = index.tables.len();
            index.insert(u128::from(n), u128::from(n), n);
            assert!(index.tables.len() <= before + 1);
        }
        assert!(index.tables.len() > 50_000 / TABLE_MAX);
    }

    #[test]
    fn ids_that_all_collide_cost_a_bounded_directory() {
        let (mut index, many) = (Index::new(7), 12_000); // more than three tables of one tag
        for n in 0..many {
            index.insert(1, 1, n);
        }
        check(&index);
        assert_eq!((index.directory.len(), index.tables.len()), (1 << DEPTH_MAX, 1 + DEPTH_MAX as usize));
        assert!((0..many).all(|n| index.find(1, 1, |p| p == n) == Some(n)));
        for n in 0..many {
            index.remove(1, 1, n);
        }
        assert_eq!(index.guess(index.aim(1, 1)), None);
    }

    #[test]
    fn what_is_replaced_and_taken_out_was_added_under_that_id() {
        let mut index = Index::of_counted(12);
        assert_eq!(index.take(1, 0), None);
        (0..30_000).for_each(|n| index.insert(u128::from(n), 0, n));
        for n in (0..30_000).step_by(3) {
            index.replace_at(index.aim(u128::from(n), 0), n + 40_000);
        }
        assert_eq!(index.len(), 30_000);
        for n in 0..30_000 {
            let position = if n % 3 == 0 { n + 40_000 } else { n };
            assert_eq!((index.take(u128::from(n), 0), index.take(u128::from(n), 0)), (Some(position), None));
        }
        assert_eq!(index.len(), 0);
    }

    #[test]
    fn what_is_removed_was_there() {
        let mut index = Index::new(13);
        index.insert(5, 6, 7);
        let aim = index.aim(5, 6);
        assert_eq!((index.remove_at(aim, 8), index.remove_at(aim, 7), index.remove_at(aim, 7)), (false, true, false));
    }

    #[test]
    fn room_is_made_for_a_small_index_only() {
        let mut index = Index::new(8);
        index.reserve(100);
        assert!(index.tables[0].entries.capacity() >= 100);
        index.reserve(1_000_000);
        check(&index);
    }
}
