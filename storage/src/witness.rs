//! The witness: a small file that remembers how far the journal was durable.
//!
//! Owns the file `witness`: two 4 KiB copies, written in turn, so that a torn write always leaves the other one. Refuses
//! to know frames. It exists from the creation of the directory on; a journal that ends below it has lost its tail.

use std::sync::Arc;

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{BLOCK, BLOCK_BYTES, Block};
use crate::device::{Device, DeviceFile, OpenMode};
use crate::directory::DataDirectory;
use crate::frame::{FORMAT, NUMBER_MAX, Position};
use crate::problem::{Problem, RESTORE};
use crate::syncs::Syncs;

pub(crate) const WITNESS_PATH: &str = "witness";
const MAGIC: [u8; 8] = *b"TPCWITNS";
const COPIES: u64 = 2;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawWitness {
    magic: [u8; 8],
    format: U16,
    reserved_a: [u8; 6],
    engine_id: U128,
    writes: U64,
    epoch: U64,
    durable_seq: U64,
    time: U64,
    segment_first: U64,
    segment: U64,
    offset: U64,
    reserved_b: U32,
    checksum: U32,
}

const RAW_BYTES: usize = size_of::<RawWitness>();
const _: () = assert!(RAW_BYTES == 96);

/// What the witness says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) engine_id: u128,
    /// How many times it was written: the copy is `writes % 2`.
    pub(crate) writes: u64,
    pub(crate) epoch: u64,
    pub(crate) durable_seq: u64,
    pub(crate) time: u64,
    /// Number of the journal's first segment; 0: none yet.
    pub(crate) segment_first: u64,
    /// End of the durable frames.
    pub(crate) end: Position,
}

impl Witness {
    pub(crate) fn encode(&self) -> Block {
        let mut raw = RawWitness {
            magic: MAGIC,
            format: U16::new(FORMAT),
            reserved_a: [0; 6],
            engine_id: U128::new(self.engine_id),
            writes: U64::new(self.writes),
            epoch: U64::new(self.epoch),
            durable_seq: U64::new(self.durable_seq),
            time: U64::new(self.time),
            segment_first: U64::new(self.segment_first),
            segment: U64::new(self.end.segment),
            offset: U64::new(self.end.offset),
            reserved_b: U32::new(0),
            checksum: U32::new(0),
        };
        raw.checksum = U32::new(crc32c::crc32c(&raw.as_bytes()[..RAW_BYTES - 4]));
        let mut block = Block::ZERO;
        block.0[..RAW_BYTES].copy_from_slice(raw.as_bytes());
        block
    }
}

/// One copy, read.
pub(crate) enum WitnessCopy {
    Good(Witness),
    Newer(u16),
    Bad,
}

pub(crate) fn decode(block: &Block) -> WitnessCopy {
    let Ok((raw, _)) = RawWitness::read_from_prefix(&block.0) else { return WitnessCopy::Bad };
    if raw.magic != MAGIC || crc32c::crc32c(&block.0[..RAW_BYTES - 4]) != raw.checksum.get() {
        return WitnessCopy::Bad;
    }
    if raw.format.get() > FORMAT {
        return WitnessCopy::Newer(raw.format.get());
    }
    let witness = Witness {
        engine_id: raw.engine_id.get(),
        writes: raw.writes.get(),
        epoch: raw.epoch.get(),
        durable_seq: raw.durable_seq.get(),
        time: raw.time.get(),
        segment_first: raw.segment_first.get(),
        end: Position { segment: raw.segment.get(), offset: raw.offset.get() },
    };
    let Witness { writes, epoch, durable_seq, segment_first, end, .. } = witness;
    let counters = [writes, epoch, durable_seq, segment_first, end.segment, end.offset];
    let is_in_range = counters.iter().all(|number| *number <= NUMBER_MAX);
    // A copy has one form: what is reserved, and the rest of the block, are zeros.
    if is_in_range && witness.encode().0 == block.0 { WitnessCopy::Good(witness) } else { WitnessCopy::Bad }
}

/// Both copies, judged together.
pub(crate) struct WitnessRead {
    /// The newer good copy.
    pub(crate) witness: Witness,
    /// A copy that is not good: a write that was cut off, or damage.
    pub(crate) problem: Option<Problem>,
}

/// Why there is no witness to go by.
pub(crate) enum WitnessFailure {
    Io(std::io::Error),
    Newer(u16),
    NotOurs,
    Damaged(Problem),
}

/// Reads both copies, past the cache when `fresh`.
pub(crate) fn read(device: &dyn Device, engine_id: u128, fresh: bool) -> Result<WitnessRead, WitnessFailure> {
    let shown = device.display(WITNESS_PATH);
    let file = match device.open(WITNESS_PATH, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(WitnessFailure::Damaged(Problem::new(shown, 0, "the witness is missing", RESTORE)));
        }
        Err(error) => return Err(WitnessFailure::Io(error)),
    };
    if fresh {
        file.forget_cache().map_err(WitnessFailure::Io)?;
    }
    let mut best: Option<Witness> = None;
    let mut problem = None;
    for copy in 0..COPIES {
        let mut block = Block::ZERO;
        let read = file.read_at(&mut block.0, copy * BLOCK).map_err(WitnessFailure::Io)?;
        match decode(&block) {
            WitnessCopy::Newer(format) => return Err(WitnessFailure::Newer(format)),
            WitnessCopy::Good(witness) if read == BLOCK_BYTES && witness.writes % COPIES == copy => {
                if witness.engine_id != engine_id {
                    return Err(WitnessFailure::NotOurs);
                }
                if best.is_none_or(|best| best.writes < witness.writes) {
                    best = Some(witness);
                }
            }
            WitnessCopy::Good(_) | WitnessCopy::Bad => {
                problem = Some(Problem::new(
                    shown.clone(),
                    copy * BLOCK,
                    "this copy of the witness is not readable: a write was cut off, or the disk is damaged",
                    "nothing to do: the other copy is used, and this one is rewritten when the engine runs",
                ));
            }
        }
    }
    if file.size().map_err(WitnessFailure::Io)? > COPIES * BLOCK {
        let what = "bytes after the second copy of the witness";
        problem.get_or_insert(Problem::new(shown.clone(), COPIES * BLOCK, what, RESTORE));
    }
    match best {
        Some(witness) => Ok(WitnessRead { witness, problem }),
        None => Err(WitnessFailure::Damaged(Problem::new(shown, 0, "no copy of the witness is readable", RESTORE))),
    }
}

/// Creates the witness of a new directory, which says the same twice; synced. The caller syncs the directory.
pub(crate) fn create(device: &dyn Device, first: &Witness) -> std::io::Result<()> {
    let file = device.open(WITNESS_PATH, OpenMode::CreateNew)?;
    file.allocate(COPIES * BLOCK)?;
    for copy in 0..COPIES {
        let newest = first.writes.max(1);
        let witness = Witness { writes: newest - u64::from(copy != newest % COPIES), ..*first };
        file.write_all_at(&witness.encode().0, copy * BLOCK)?;
    }
    file.sync_all()
}

/// Writes the copies in turn: in the file of the directory, and in that of its mirror.
pub(crate) struct WitnessWriter {
    files: Vec<Arc<dyn DeviceFile>>,
    writes: u64,
}

impl WitnessWriter {
    /// `last`: the newest that was read. A file that is missing beside one that is there is made again.
    ///
    /// # Errors
    /// The path as its device shows it, and what the system reports.
    pub(crate) fn open(dir: &DataDirectory, last: &Witness) -> Result<Self, (String, std::io::Error)> {
        let open = |device: &Arc<dyn Device>| match device.open(WITNESS_PATH, OpenMode::ReadWrite) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.is_mirrored() => {
                create(&**device, last)?;
                device.sync_dir("")?;
                device.open(WITNESS_PATH, OpenMode::ReadWrite)
            }
            other => other,
        };
        let files =
            dir.devices().iter().map(|device| open(device).map_err(|error| (device.display(WITNESS_PATH), error)));
        Ok(Self { files: files.collect::<Result<_, _>>()?, writes: last.writes })
    }

    /// Writes and syncs the next copy, everywhere. `witness.writes` is filled in here.
    ///
    /// # Errors
    /// Which file, and what the system reports.
    pub(crate) fn write(&mut self, mut witness: Witness, syncs: &mut Syncs) -> Result<(), (usize, std::io::Error)> {
        self.writes += 1;
        witness.writes = self.writes;
        let (block, at) = (witness.encode(), (self.writes % COPIES) * BLOCK);
        for (copy, file) in self.files.iter().enumerate() {
            file.write_all_at(&block.0, at).map_err(|error| (copy, error))?;
        }
        syncs.sync(self.files.iter())
    }
}
