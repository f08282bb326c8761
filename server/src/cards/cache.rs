//! A file of card records, so that a start need not read the whole journal for them.
//!
//! Owns `server/cards.log` in the data directory. It is a cache (PAN-3) that grows by what is new: what is damaged or torn at its end is
//! cut, and the records behind the last mark are read from the journal. A file of another directory, ahead of the journal, or whose last
//! record is not the journal's (an older journal was put back and went on) is passed over.
//!
//! ```text
//!   head:    "tpcards1", directory 32
//!   record:  length u32 (not ffffffff), crc32c u32 of what follows, seq u64, bytes
//!   mark:    ffffffff, crc32c u32, as_of u64          everything up to that event is above it
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use tp_actors::tp_core::ids::{Seq, SlotSeed};

const MAGIC: &[u8; 8] = b"tpcards1";
const HEAD_BYTES: usize = 8 + 32;
const MARK: u32 = u32::MAX;

/// Where the file is, and of which directory.
pub(crate) struct Cache {
    path: PathBuf,
    directory: [u8; 32],
}

/// What a file gives.
pub(crate) struct Cached {
    pub(crate) as_of: Seq,
    pub(crate) records: Vec<(Seq, Vec<u8>)>,
    /// Where its last mark ends.
    end: u64,
}

impl Cache {
    pub(crate) fn new(folder: &Path, seed: SlotSeed) -> Self {
        let mut directory = [0; 32];
        directory.copy_from_slice(digest(&SHA256, &seed.0).as_ref());
        Self { path: folder.join("cards.log"), directory }
    }

    /// The records up to the last mark; `None`: there is no file that can fit.
    pub(crate) fn read(&self, end: Seq) -> Option<Cached> {
        let bytes = fs::read(&self.path).ok()?;
        let (head, mut rest) = bytes.split_at_checked(HEAD_BYTES)?;
        if head != [&MAGIC[..], &self.directory].concat() {
            return None;
        }
        let (mut records, mut sound) = (Vec::new(), None);
        while let Some(Entry { length, seq, bytes: record, rest: after }) = Entry::read(rest) {
            rest = after;
            if length == MARK {
                sound = Some((seq, records.len(), bytes.len() - rest.len()));
            } else {
                records.push((seq, record.to_vec()));
            }
        }
        let (as_of, count, at) = sound?;
        records.truncate(count);
        (as_of <= end).then_some(Cached { as_of, records, end: at as u64 })
    }

    /// Cuts the file behind its last mark, so that it may grow.
    pub(crate) fn keep(&self, cached: &Cached) -> io::Result<()> {
        OpenOptions::new().write(true).open(&self.path)?.set_len(cached.end)
    }

    /// Takes the file away.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path); // mostly there is none
    }

    /// Appends records and a mark. A torn append is cut at the next start.
    pub(crate) fn append(&self, records: &[(Seq, Vec<u8>)], as_of: Seq) -> io::Result<()> {
        let mut file = self.open()?;
        let mut out = Vec::new();
        for (seq, bytes) in records {
            entry_into(&mut out, u32::try_from(bytes.len()).unwrap_or(0), *seq, bytes);
        }
        entry_into(&mut out, MARK, as_of, &[]);
        file.write_all(&out)?;
        file.sync_all()
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(&[&MAGIC[..], &self.directory].concat())?;
        }
        Ok(file)
    }
}

struct Entry<'a> {
    length: u32,
    seq: Seq,
    bytes: &'a [u8],
    rest: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The next entry; `None` at the end or at what is none.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length);
        let size = if length == MARK { 0 } else { usize::try_from(length).ok()? };
        let (covered, rest) = rest.split_at_checked(8 + size)?;
        let (seq, bytes) = covered.split_first_chunk()?;
        (crc32c::crc32c(covered) == u32::from_le_bytes(*sum)).then(|| Self {
            length,
            seq: Seq(u64::from_le_bytes(*seq)),
            bytes,
            rest,
        })
    }
}

fn entry_into(out: &mut Vec<u8>, length: u32, seq: Seq, bytes: &[u8]) {
    let covered = [&seq.0.to_le_bytes()[..], bytes].concat();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    out.extend_from_slice(&covered);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache::new(folder, SlotSeed([1; 16]))
    }

    fn two() -> Vec<(Seq, Vec<u8>)> {
        vec![(Seq(3), vec![1; 40]), (Seq(5), vec![2; 50])]
    }

    #[test]
    fn records_come_back_up_to_the_last_mark_whatever_is_torn_behind_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        cache.append(&two(), Seq(9)).expect("appended");
        let first = fs::read(&cache.path).expect("a file");
        cache.append(&[(Seq(12), vec![3; 60])], Seq(20)).expect("appended");
        let whole = fs::read(&cache.path).expect("a file");
        for end in first.len()..whole.len() {
            fs::write(&cache.path, &whole[..end]).expect("written");
            let cached = cache.read(Seq(100)).expect("the first part");
            assert_eq!((cached.as_of, cached.records.clone()), (Seq(9), two()), "{end} bytes");
            cache.keep(&cached).expect("cut");
            cache.append(&[(Seq(12), vec![3; 60])], Seq(20)).expect("appended");
            assert_eq!(fs::read(&cache.path).expect("a file"), whole);
        }
        assert_eq!(cache.read(Seq(100)).expect("all").records.len(), 3);
    }

    #[test]
    fn a_changed_bit_hides_what_is_behind_it_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = cache(folder.path());
        cache.append(&two(), Seq(9)).expect("appended");
        let first = fs::read(&cache.path).expect("a file").len();
        cache.append(&[(Seq(12), vec![3; 60])], Seq(20)).expect("appended");
        let whole = fs::read(&cache.path).expect("a file");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 4;
            fs::write(&cache.path, changed).expect("written");
            let as_of = cache.read(Seq(100)).map(|cached| cached.as_of);
            assert_eq!(as_of, if at < first { None } else { Some(Seq(9)) }, "byte {at}");
        }
    }

    #[test]
    fn a_file_of_another_directory_or_ahead_of_the_journal_does_not_fit() {
        let folder = tempfile::tempdir().expect("a folder");
        cache(folder.path()).append(&two(), Seq(9)).expect("appended");
        assert!(cache(folder.path()).read(Seq(8)).is_none());
        assert!(cache(folder.path()).read(Seq(9)).is_some());
        assert!(Cache::new(folder.path(), SlotSeed([2; 16])).read(Seq(100)).is_none());
    }
}
