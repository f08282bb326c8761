//! What is fixed for a data directory: the seed of the slots' hash, the windows, the kind of journal.
//!
//! Owns the bytes that the identity file keeps; refuses to know that file. Little-endian, fixed length:
//!
//! ```text
//! 0         1         2       18                    26                  34           42
//! | version | journal | seed  | uuid_v7 window, ms  | opaque window, ms | refund, ms |      u64::MAX: for ever
//! ```

use std::io::Read as _;

use tp_core::ids::SlotSeed;
use tp_core::rules::Windows;

use crate::config::JournalKind;

const VERSION: u8 = 1;
const BYTES: usize = 42;
const FOREVER: u64 = u64::MAX;

/// What is fixed for a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Parameters {
    pub(crate) seed: SlotSeed,
    pub(crate) windows: Windows,
    pub(crate) journal: JournalKind,
}

/// Why parameters were not understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotParameters {
    pub(crate) what: &'static str,
    pub(crate) is_newer: bool,
}

impl Parameters {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, self.journal as u8];
        bytes.extend_from_slice(&self.seed.0);
        let w = self.windows;
        for window in [w.key_uuid_v7_ms.unwrap_or(FOREVER), w.key_opaque_ms.unwrap_or(FOREVER), w.refund_ms] {
            bytes.extend_from_slice(&window.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NotParameters> {
        let bad = |what| NotParameters { what, is_newer: false };
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) if version > VERSION => {
                return Err(NotParameters {
                    what: "written by a later release: use the newer software",
                    is_newer: true,
                });
            }
            _ => return Err(bad("no version")),
        }
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| bad("wrong length"))?;
        let journal = match bytes[1] {
            0 => JournalKind::Segment,
            1 => JournalKind::Sled,
            2 => JournalKind::Memory,
            _ => return Err(bad("unknown journal kind")),
        };
        let mut seed = [0; 16];
        seed.copy_from_slice(&bytes[2..18]);
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let window = |at| Some(word(at)).filter(|ms| *ms != FOREVER);
        let windows = Windows { key_uuid_v7_ms: window(18), key_opaque_ms: window(26), refund_ms: word(34) };
        Ok(Self { seed: SlotSeed(seed), windows, journal })
    }
}

/// 32 random bytes of the operating system: the seed and the engine's id.
pub(crate) fn draw() -> std::io::Result<([u8; 16], u128)> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let (mut seed, mut id) = ([0; 16], [0; 16]);
    seed.copy_from_slice(&bytes[..16]);
    id.copy_from_slice(&bytes[16..]);
    Ok((seed, u128::from_le_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_keep_their_golden_bytes() {
        let windows = Windows { key_uuid_v7_ms: Some(1), key_opaque_ms: None, refund_ms: 0x0102 };
        let parameters = Parameters { seed: SlotSeed([7; 16]), windows, journal: JournalKind::Segment };
        let mut golden = vec![1, 0];
        golden.extend([7; 16]);
        golden.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend([255; 8]);
        golden.extend([2, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parameters.encode(), golden);
        assert_eq!(Parameters::decode(&golden), Ok(parameters));
    }

    #[test]
    fn other_bytes_are_refused_and_later_versions_are_told_apart() {
        for length in 0..60 {
            let is_ok = Parameters::decode(&vec![0; length]).is_ok();
            assert!(!is_ok);
        }
        let newer = Parameters::decode(&[2; 42]).expect_err("a later version");
        assert!(newer.is_newer);
        let mut unknown = vec![1, 9];
        unknown.resize(42, 0);
        assert!(!Parameters::decode(&unknown).expect_err("an unknown journal").is_newer);
    }
}
