//! The witness: two copies in one file.
//!
//! Promised: a copy that is taken in is exactly what the writer writes for it; of two good copies the newer one counts; and the next
//! write follows, whatever the copies say.

use tp_fuzz::{Bound, Seed};

use super::{ENGINE, directory, mend, trimmed};
use crate::MemoryDevice;
use crate::block::{BLOCK_BYTES, Block};
use crate::directory::DataDirectory;
use crate::frame::{NUMBER_MAX, Position};
use crate::syncs::{MirrorSync, Syncs};
use crate::witness::{self, Witness, WitnessCopy, WitnessFailure, WitnessWriter};

const BOUND: Bound = Bound { bytes: 8 << 10, per_byte: 1, turnover: 2 };

/// Bytes of the input for each copy; the rest of a block must be zero, which one byte more shows.
const COPY_BYTES: usize = 100;

/// Of a new directory, and of one that ran.
fn seeds() -> Vec<Seed> {
    let ran = |writes| Witness {
        engine_id: ENGINE,
        writes,
        epoch: 3,
        durable_seq: 1_000 + writes,
        time: 1_700_000_000_000 + writes,
        segment_first: 2,
        end: Position { segment: 5, offset: 8192 },
    };
    let new = |writes| Witness { engine_id: ENGINE, writes, ..Witness::default() };
    let file = |copies: [Witness; 2]| {
        let copies = copies.map(|copy| copy.encode().0[..COPY_BYTES].to_vec()).concat();
        trimmed(&copies)
    };
    vec![("new".to_owned(), file([new(0), new(1)])), ("ran".to_owned(), file([ran(8), ran(7)]))]
}

/// The file that the input stands for.
fn copies(input: &[u8]) -> [Block; 2] {
    let copy = |from: usize| {
        let mut block = Block::ZERO;
        let part = input.get(from..).unwrap_or_default();
        let length = part.len().min(COPY_BYTES);
        block.0[..length].copy_from_slice(&part[..length]);
        block
    };
    [copy(0), copy(COPY_BYTES)]
}

fn check(input: &[u8]) {
    let mut copies = copies(input);
    copies.iter().for_each(check_copy);
    for copy in &mut copies {
        mend::witness(&mut copy.0);
    }
    copies.iter().for_each(check_copy);
    check_file(&copies);
}

fn check_copy(block: &Block) {
    if let WitnessCopy::Good(witness) = witness::decode(block) {
        assert!(witness.encode().0 == block.0, "a copy has one form: {witness:?}");
    }
}

fn check_file(copies: &[Block; 2]) {
    let device = MemoryDevice::new();
    let dir = directory(&device);
    device.plant("witness", &[copies[0].0, copies[1].0].concat());
    match BOUND.hold(2 * BLOCK_BYTES, || witness::read(&device, ENGINE, true)) {
        Ok(read) => {
            let good = copies.iter().zip(0..).filter_map(|(copy, index)| match witness::decode(copy) {
                WitnessCopy::Good(witness) if witness.writes % 2 == index => Some(witness.writes),
                _ => None,
            });
            assert_eq!(Some(read.witness.writes), good.max(), "the newer copy counts");
            check_next_write(&dir, &read.witness);
        }
        Err(WitnessFailure::Io(error)) => panic!("a memory device reads: {error}"),
        Err(WitnessFailure::Newer(_) | WitnessFailure::NotOurs | WitnessFailure::Damaged(_)) => {}
    }
}

fn check_next_write(dir: &DataDirectory, last: &Witness) {
    let mut writer = WitnessWriter::open(dir, last).expect("the file is there");
    let mut syncs = Syncs::new(1, MirrorSync::InTurn).expect("no thread is needed");
    writer.write(*last, &mut syncs).expect("a memory device writes");
    if last.writes == NUMBER_MAX {
        return; // only forged bytes come to the end of a counter, and what is beyond is refused
    }
    let Ok(read) = witness::read(&**dir.device(), ENGINE, true) else { panic!("a witness was just written") };
    assert_eq!(read.witness, Witness { writes: last.writes + 1, ..*last });
}

#[test]
fn a_witness_of_any_bytes_is_refused_or_read_as_written() {
    tp_fuzz::target!("witness", seeds, check);
}

#[test]
fn the_seeds_are_read_and_mending_leaves_them_alone() {
    for (name, bytes) in seeds() {
        for copy in copies(&bytes) {
            assert!(matches!(witness::decode(&copy), WitnessCopy::Good(_)), "{name}");
            let mut mended = copy;
            mend::witness(&mut mended.0);
            assert!(mended.0 == copy.0, "{name}");
        }
    }
}

#[test]
fn a_copy_of_another_form_is_refused() {
    // A copy of format 0, which was never written, was taken in; so was one with something in its reserved bytes.
    for at in [8, 12, 88, 200] {
        let mut block = Witness { engine_id: ENGINE, writes: 1, ..Witness::default() }.encode();
        block.0[at] ^= 1;
        mend::witness(&mut block.0);
        assert!(matches!(witness::decode(&block), WitnessCopy::Bad), "byte {at}");
    }
}

#[test]
fn a_witness_near_the_end_of_its_counters_is_refused() {
    // With checksums that hold, `writes` or `epoch` of 2^64 - 1 made the next start add beyond 64 bits.
    for (at, number) in [(32, u64::MAX), (40, u64::MAX), (48, u64::MAX - 1), (72, u64::MAX)] {
        let mut block = Witness { engine_id: ENGINE, writes: 1, ..Witness::default() }.encode();
        block.0[at..at + 8].copy_from_slice(&number.to_le_bytes());
        mend::witness(&mut block.0);
        assert!(matches!(witness::decode(&block), WitnessCopy::Bad), "byte {at}");
    }
}
