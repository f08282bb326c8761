//! A slot's image, and the parts that a checkpoint keeps of one.
//!
//! Promised: an error, or a slot whose invariants hold; its own image is canonical and reads back as the same bytes.
//!
//! ```text
//! input:  | length (u16 LE) | a whole image or a part ... |   again and again; the last may be cut short
//! ```

use tp_core::ids::{SlotIndex, SlotSeed};
use tp_core::restore::SlotBuilder;
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_fuzz::{Bound, Seed};

use crate::golden::bytes;

const SEED: SlotSeed = SlotSeed([7; 16]);
/// A capture like the one before it has one byte, and takes what any takes: 112 were seen for a byte.
const BOUND: Bound = Bound { bytes: 128 << 10, per_byte: 160, turnover: 8 };

fn piece(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short seed");
    [&length.to_le_bytes(), bytes].concat()
}

/// The golden image whole, as a checkpoint's parts of few records each, and as many records as bytes can tell of.
fn seeds() -> Vec<Seed> {
    let mut seeds = slots();
    let (_, parts) = seeds.iter().find(|(name, _)| name == "parts-3").expect("a seed");
    let dense = dense(pieces(parts)[0]);
    seeds.push(("dense-3".to_owned(), dense));
    seeds
}

/// Those that a slot comes of.
fn slots() -> Vec<Seed> {
    let whole = bytes("slot-image");
    let mut slot = Slot::from_image(&whole, SEED, Windows::default()).expect("the golden image");
    let mut parts = Vec::new();
    slot.begin_copy();
    let mut room = tp_core::copying::SlotPart::default();
    while let Some(part) = slot.copy_part(3, room) {
        let mut bytes = tp_core::copying::PartBytes::new();
        part.encode(&mut bytes);
        parts.extend(piece(&bytes));
        room = part;
    }
    slot.end_copy();
    let parts_2 = bytes("slot-parts-2");
    [("whole", piece(&whole)), ("parts-2", parts_2), ("parts-3", parts)]
        .map(|(name, bytes)| (name.to_owned(), bytes))
        .to_vec()
}

/// A first part, and one with as many authorizations, captures and keys as its bytes can tell of; no slot comes of it.
fn dense(first: &[u8]) -> Vec<u8> {
    const COUNT: usize = 1_000;
    let count = u32::try_from(COUNT).expect("small").to_le_bytes();
    let (version, slot) = (&first[..4], &first[8..10]);
    let header = [version, &1_u32.to_le_bytes(), slot, &1_u16.to_le_bytes(), &0_u32.to_le_bytes()].concat();
    let accounts = 0_u32.to_le_bytes().to_vec();
    // Fifty with as many captures each, the rest with none; each as the one before but for its time or counter.
    let captures = [0_u8; 50];
    let fullest = [&[1, 0x40, 2, 100][..], &captures].concat();
    let next = [&[1, 0, 2][..], &captures].concat().repeat(49);
    let bare = [vec![1_u8, 0x40, 2, 99], [0, 0].repeat(COUNT - 51)].concat();
    let authorizations = [fullest, next, bare].concat();
    // Each of the next account.
    let keys = [0b100, 0, 2].repeat(COUNT);
    [piece(first), piece(&[header, accounts, count.to_vec(), authorizations, count.to_vec(), keys].concat())].concat()
}

fn pieces(mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}

/// Puts the slot together that the golden image is of.
fn build(pieces: &[&[u8]], index: SlotIndex) -> Option<Slot> {
    let mut builder = SlotBuilder::new(index, SEED, Windows::default());
    pieces.iter().try_for_each(|piece| builder.add(piece)).ok()?;
    builder.finish().ok()
}

fn check(input: &[u8]) {
    let pieces = pieces(input);
    let whole = pieces
        .first()
        .and_then(|first| BOUND.hold(first.len(), || Slot::from_image(first, SEED, Windows::default()).ok()));
    let index = golden_index();
    let built = BOUND.hold(input.len(), || build(&pieces, index));
    for slot in whole.iter().chain(&built) {
        slot.validate().expect("what was taken in is valid");
        _ = slot.accounts();
        let image = slot.image(Time(0));
        let again = Slot::from_image(&image, SEED, Windows::default()).expect("an image of its own reads back");
        assert!(again.image(Time(0)) == image, "an image is canonical");
    }
}

fn golden_index() -> SlotIndex {
    static INDEX: std::sync::OnceLock<SlotIndex> = std::sync::OnceLock::new();
    *INDEX.get_or_init(|| {
        Slot::from_image(&bytes("slot-image"), SEED, Windows::default()).expect("the golden image").index()
    })
}

#[test]
fn an_image_of_any_bytes_is_an_error_or_a_valid_slot() {
    tp_fuzz::target!("image", seeds, check);
}

#[test]
fn the_seeds_are_taken_in_whole_and_in_parts() {
    for (name, bytes) in slots() {
        let slot = build(&pieces(&bytes), golden_index());
        assert!(slot.is_some_and(|slot| !slot.accounts().is_empty()), "{name}");
    }
}

#[test]
fn the_dense_seed_is_read_to_its_end() {
    let (_, dense) = seeds().pop().expect("the last seed");
    let mut builder = SlotBuilder::new(golden_index(), SEED, Windows::default());
    assert_eq!(pieces(&dense).iter().try_for_each(|piece| builder.add(piece)), Ok(()));
}
