//! Aligned memory: the 4 KiB block, and byte buffers made of blocks.
//!
//! Owns alignment; refuses to know what is inside. Everything that is written to or read from a file passes through
//! these buffers, so that payloads start on 16 bytes in memory (archived types hold 128-bit integers) and a device may
//! use direct I/O.

use std::fmt;
use std::ops::Deref;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in one block: the unit of frames, checksums and copies on disk.
pub const BLOCK_BYTES: usize = 4096;

/// [`BLOCK_BYTES`] as a file offset.
pub(crate) const BLOCK: u64 = BLOCK_BYTES as u64;

/// One 4 KiB block, aligned to its size.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub(crate) struct Block(pub(crate) [u8; BLOCK_BYTES]);

impl Block {
    pub(crate) const ZERO: Self = Self([0; BLOCK_BYTES]);

    pub(crate) fn is_zero(&self) -> bool {
        is_zero(&self.0)
    }
}

/// Whether every byte is zero. (Compares in wide chunks: the scan passes whole segments through here.)
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(64);
    chunks.all(|chunk| chunk.iter().fold(0_u8, |all, byte| all | byte) == 0)
        && chunks.remainder().iter().all(|byte| *byte == 0)
}

/// The bytes of a run of blocks.
pub(crate) fn bytes_of(blocks: &[Block]) -> &[u8] {
    blocks.as_bytes()
}

/// The bytes of a run of blocks, to write.
pub(crate) fn bytes_of_mut(blocks: &mut [Block]) -> &mut [u8] {
    blocks.as_mut_bytes()
}

/// Owned bytes that start on a 16-byte boundary in memory.
#[derive(Clone)]
pub struct AlignedBytes {
    blocks: Vec<Block>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// A zeroed buffer of `len` bytes, starting on 4 KiB.
    pub fn zeroed(len: usize) -> Self {
        Self { blocks: vec![Block::ZERO; len.div_ceil(BLOCK_BYTES)], start: 0, len }
    }

    /// A copy of `bytes`, starting on 4 KiB.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.as_mut_slice().copy_from_slice(bytes);
        copy
    }

    /// The part `start..start + len` of `blocks`; `start` is a multiple of 16.
    pub(crate) fn from_blocks(blocks: Vec<Block>, start: usize, len: usize) -> Self {
        assert!(start.is_multiple_of(16) && start + len <= blocks.len() * BLOCK_BYTES, "the part lies in the blocks");
        Self { blocks, start, len }
    }

    /// Its memory.
    pub(crate) fn into_blocks(self) -> Vec<Block> {
        self.blocks
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytes_of_mut(&mut self.blocks)[self.start..self.start + self.len]
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytes_of(&self.blocks)[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}
