//! The scrub: reading, beside a running writer, what nobody asks for, so that damage is found while another copy can still mend it.
//!
//! Owns the walk over the sealed segments, a few frames at a time, and the rebuilding of what it finds. Refuses to know threads and
//! clocks (the caller decides how fast), to touch the segment that is being written, and to read from the page cache.
//!
//! ```text
//!   step ─► a few frames of every copy ─┬─ good in all ............ on
//!                                       ├─ bad in one ............. noted; at the segment's end the copy is rebuilt
//!                                       └─ bad in all ............. reported; on with the next segment
//! ```

use std::io;

use crate::copies::Check;
use crate::device::OpenMode;
use crate::directory::DataDirectory;
use crate::problem::{Problem, RESTORE};
use crate::reader::{Index, LiveSegment};
use crate::rebuild::{Differences, Extent, Next, RebuildError, rebuild};
use crate::segment::{self, Segment};

/// What a step came to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Scrubbed {
    /// So many bytes were read, of all copies together, and are good or noted.
    Read(u64),
    /// Copies were bad and have been rebuilt from the other.
    Repaired(Vec<Problem>),
    /// Something is bad that cannot be repaired, or could not be now. The scrub goes on with the next segment.
    Found(Box<Problem>),
    /// All sealed segments were read; the next step begins anew.
    PassEnded,
}

/// Reads sealed segments, step by step. Made by [`crate::Journal::scrubber`].
pub struct Scrubber {
    dir: DataDirectory,
    index: Index,
    /// Segments up to here are done in this pass.
    done: u64,
    at: Option<Place>,
}

/// Inside a segment.
struct Place {
    extent: Extent,
    segment: Segment,
    next: Next,
    differences: Differences,
}

impl Scrubber {
    pub(crate) fn new(dir: DataDirectory, index: Index) -> Self {
        Self { dir, index, done: 0, at: None }
    }

    /// Reads on, about so many bytes of each copy (at least a frame).
    pub fn step(&mut self, bytes: u64) -> Scrubbed {
        let opened = if let Some(place) = self.at.take() {
            Ok(place)
        } else if let Some(extent) = self.next_segment() {
            self.open(extent)
        } else {
            self.done = 0;
            return Scrubbed::PassEnded;
        };
        match opened {
            Ok(place) => self.read(place, bytes),
            Err(problem) => Scrubbed::Found(Box::new(problem)),
        }
    }

    /// The next sealed segment: all but the newest are.
    fn next_segment(&mut self) -> Option<Extent> {
        let live: Vec<LiveSegment> = self.index.read().clone();
        let mut sealed = Extent::all(&live, (0, 0)).take(live.len().saturating_sub(1));
        let next = sealed.find(|extent| extent.live.number > self.done)?;
        self.done = next.live.number;
        Some(next)
    }

    fn open(&self, extent: Extent) -> Result<Place, Problem> {
        let at = |error: io::Error| self.problem(&extent, 0, (0, 0), &format!("it cannot be read: {error}"));
        let segment = Segment::open(&self.dir, extent.live.number, OpenMode::Read).map_err(at)?;
        segment.forget_cache().map_err(at)?;
        let mut differences = Differences::default();
        let whole = std::array::from_fn(|copy| copy < self.dir.devices().len() && segment.is_whole(copy));
        differences.note_files(&self.dir, segment.number, whole);
        let next = extent.start();
        Ok(Place { extent, segment, next, differences })
    }

    fn problem(&self, extent: &Extent, offset: u64, seqs: (u64, u64), what: &str) -> Problem {
        let file = self.dir.device().display(&segment::path(extent.live.number));
        Problem::new(file, offset, what, RESTORE).with_seqs(seqs.0, seqs.1)
    }

    /// Reads frames, and ends the segment behind its last one.
    fn read(&mut self, mut place: Place, bytes: u64) -> Scrubbed {
        let from = place.next.offset;
        while !place.extent.is_end(place.next) && place.next.offset - from < bytes {
            if let Err(problem) = self.read_frame(&mut place) {
                return Scrubbed::Found(Box::new(problem));
            }
        }
        let read = (place.next.offset - from) * self.dir.devices().len() as u64;
        if place.extent.is_end(place.next) {
            return self.end(&place).unwrap_or(Scrubbed::Read(read));
        }
        self.at = Some(place);
        Scrubbed::Read(read)
    }

    fn read_frame(&self, place: &mut Place) -> Result<(), Problem> {
        let Place { extent, segment, next, differences } = place;
        let bad = |what: &str| self.problem(extent, next.offset, extent.seqs(*next), what);
        let read = next.read(segment, Check::All);
        let read = read.map_err(|error| bad(&format!("it cannot be read: {error}")))?;
        let frame = read.ok_or_else(|| bad("the frame that belongs here is damaged or missing"))?;
        if frame.bad.any() {
            differences.note_frame(&self.dir, &frame.header, frame.bad);
        }
        *next = frame.behind;
        Ok(())
    }

    /// Behind the last frame: rebuilds what is bad, if anything is.
    fn end(&self, place: &Place) -> Option<Scrubbed> {
        let problems: Vec<Problem> = place.differences.problems().cloned().collect();
        let copies = place.differences.segments().remove(&place.extent.live.number)?;
        Some(match rebuild(&self.dir, &place.extent, &copies) {
            Ok(()) => Scrubbed::Repaired(problems),
            Err(RebuildError::Lost(problem)) => Scrubbed::Found(problem),
            Err(error) => {
                let what = format!("a copy of this segment is bad and could not be rebuilt: {error}");
                Scrubbed::Found(Box::new(self.problem(&place.extent, 0, (0, 0), &what)))
            }
        })
    }
}
