//! The judgement: what the end of a journal means.
//!
//! Owns the rules torn / ambiguous / corrupt / tail lost, applied to where the walk stopped and to everything that lies
//! behind; changes nothing.

use std::io;

use crate::block::BLOCK;
use crate::copies::{Check, FrameRead};
use crate::frame::{FORMAT, FrameHeader, FrameKind, HeaderState, Position, parse_header};
use crate::problem::{Problem, RESTORE};
use crate::reader::LiveSegment;
use crate::rebuild::CopyOf;
use crate::recover::RecoverError;
use crate::scan::{Cut, Head, ScanMode, Spare, TailReport, split};
use crate::scan_walk::{Stop, Stopped, Walker};
use crate::segment::{self, Segment};
use crate::witness::Witness;

/// What lies behind the stop.
struct Remains {
    first: Option<Position>,
    blocks: u64,
    valid_later: Option<(Position, FrameHeader)>,
    newer: Option<(Position, u16)>,
}

impl Walker<'_, '_> {
    /// Nothing may stand behind the last frame of a full segment: looked at where the walk met something, and in a strict scan.
    pub(crate) fn check_rest(&mut self, stopped: &Stopped) -> Result<(), RecoverError> {
        if !self.request.strict && matches!(stopped.stop, Stop::End | Stop::Hole) {
            return Ok(());
        }
        let found: Vec<_> = self.each_copy(stopped.at, |segment, copy| {
            let mut first = None;
            segment.run_on(copy, stopped.at.offset, |at, _| {
                first.get_or_insert(at);
                Ok(())
            })?;
            Ok(first)
        })?;
        let what = "bytes where nothing was ever written; no event is concerned";
        self.note_strays(stopped.at, found, what);
        Ok(())
    }

    /// In a strict scan: what lies behind a cut is as it was when the boot frame was written.
    pub(crate) fn check_behind_cut(&mut self, stopped: &Stopped, live: &LiveSegment) -> Result<(), RecoverError> {
        let (true, Some(noted)) = (self.request.strict, live.rest_checksum) else { return Ok(()) };
        let found = self.each_copy(stopped.at, |segment, copy| {
            let (checksum, _) = segment.rest_from(copy, stopped.at.offset)?;
            Ok((checksum != noted).then_some(stopped.at.offset))
        })?;
        let what = "bytes behind the end of an earlier run have changed since; no event is concerned";
        self.note_strays(stopped.at, found, what);
        Ok(())
    }

    /// Asks about each copy of a segment.
    fn each_copy<T>(
        &self,
        at: Position,
        ask: impl Fn(&Segment, usize) -> io::Result<T>,
    ) -> Result<Vec<T>, RecoverError> {
        let Some(head) = self.heads.get(&at.segment) else { return Ok(Vec::new()) };
        let segment = head.open(self.request.dir).map_err(self.io_error(at))?;
        let copies = 0..self.request.dir.devices().len();
        copies.map(|copy| ask(&segment, copy)).collect::<io::Result<_>>().map_err(self.io_error(at))
    }

    /// Notes where copies hold what should not be there: to be rebuilt from one that does not, if there is one.
    fn note_strays(&mut self, at: Position, found: Vec<Option<u64>>, what: &str) {
        let is_clean_somewhere = found.contains(&None);
        for (copy, offset) in found.into_iter().enumerate().filter_map(|(copy, offset)| Some((copy, offset?))) {
            if is_clean_somewhere {
                self.differences.note(self.request.dir, CopyOf { segment: at.segment, copy }, offset, (0, 0), what);
            } else {
                let file = self.request.dir.devices()[copy].display(&segment::path(at.segment));
                self.strays.push(Problem::new(file, offset, what, "check the disk; the data is whole"));
            }
        }
    }

    /// FRK-1: behind a cut, no copy has a frame that goes on from there.
    pub(crate) fn check_fork(&self, cut: Position, next: &LiveSegment) -> Result<(), RecoverError> {
        if !self.request.dir.is_mirrored() {
            return Ok(());
        }
        let goes_on = |header: &FrameHeader| {
            header.kind != FrameKind::Boot && header.first_seq == self.next_seq && header.chain == self.chain
        };
        let between = self.heads.range(cut.segment + 1..next.number);
        let starts = between.map(|(&segment, _)| Position { segment, offset: 0 });
        for at in std::iter::once(cut).chain(starts) {
            let found = self.each_copy(at, |segment, copy| {
                let Some(only) = segment.only(copy).filter(|only| at.offset < only.bytes) else { return Ok(false) };
                let (read, _) = only.read_frame(at.offset, Check::Enough)?;
                Ok(matches!(read, FrameRead::Good(header, _) if only.holds(&header, at.offset) && goes_on(&header)))
            })?;
            if found.contains(&true) {
                return Err(split(self.request.dir, at, self.next_seq));
            }
        }
        Ok(())
    }

    /// FRK-1: what each copy's witness saw is part of this journal.
    pub(crate) fn check_witnesses(&self, path: &[LiveSegment], witnesses: &[Witness]) -> Result<(), RecoverError> {
        for witness in witnesses.iter().filter(|witness| self.request.dir.is_mirrored() && witness.end.segment > 0) {
            let is_part = |live: &LiveSegment| {
                live.number == witness.end.segment && live.cut.is_none_or(|cut| witness.end.offset <= cut)
            };
            if !path.iter().any(is_part) {
                return Err(split(self.request.dir, witness.end, witness.durable_seq));
            }
        }
        Ok(())
    }

    /// What lies behind the end is the same in every copy: the next boot frame notes one checksum for all.
    pub(crate) fn compare_rest(&mut self) -> Result<(), RecoverError> {
        if !self.request.dir.is_mirrored() || self.request.mode == ScanMode::BesideWriter || self.end.segment == 0 {
            return Ok(());
        }
        let is_noted = |copy| self.differences.is_in(CopyOf { segment: self.end.segment, copy });
        if (0..self.request.dir.devices().len()).any(is_noted) {
            return Ok(()); // it takes the other's rest
        }
        let rests = self.each_copy(self.end, |segment, copy| segment.rest_from(copy, self.end.offset))?;
        // One where nothing was written is preferred.
        let kept = rests.iter().find(|(_, is_zero)| *is_zero).or(rests.first()).copied();
        let others = rests.iter().enumerate().filter(|(_, rest)| Some(**rest) != kept);
        for copy in others.map(|(copy, _)| copy) {
            let of = CopyOf { segment: self.end.segment, copy };
            let what =
                "what an unfinished write left behind the end is not the same in both copies; no event is concerned";
            self.differences.note(self.request.dir, of, self.end.offset, (0, 0), what);
        }
        Ok(())
    }

    /// Looks at everything from `at` to the end of its segment, in every copy.
    fn remains_in(&self, at: Position) -> Result<Remains, RecoverError> {
        let mut remains = Remains { first: None, blocks: 0, valid_later: None, newer: None };
        let Some(head) = self.heads.get(&at.segment) else { return Ok(remains) };
        let segment = head.open(self.request.dir).map_err(self.io_error(at))?;
        let engine_id = self.request.dir.engine_id();
        for copy in 0..self.request.dir.devices().len() {
            let mut blocks = 0;
            let walked = segment.run_on(copy, at.offset, |offset, block| {
                let here = Position { segment: at.segment, offset };
                remains.first = Some(remains.first.map_or(here, |first| first.min(here)));
                blocks += 1;
                match parse_header(block) {
                    HeaderState::Valid(header) if header.at == here && header.engine_id == engine_id && here != at => {
                        remains.valid_later.get_or_insert((here, header));
                    }
                    HeaderState::Newer(format) => {
                        remains.newer.get_or_insert((here, format));
                    }
                    _ => {}
                }
                Ok(())
            });
            walked.map_err(self.io_error(at))?;
            remains.blocks = remains.blocks.max(blocks);
        }
        Ok(remains)
    }

    /// Looks at everything behind the stop: the rest of its segment, and all later segments.
    fn remains(&mut self, path: &[LiveSegment], stopped: &Stopped) -> Result<Remains, RecoverError> {
        let mut all = self.remains_in(stopped.at)?;
        let copies = self.request.dir.devices().len();
        let spare = |(&number, head): (&u64, &Head)| {
            let is_whole = head.whole[..copies].iter().all(|is_whole| *is_whole);
            Spare { number, bytes: is_whole.then_some(head.bytes) }
        };
        let later: Vec<Spare> = self.heads.range(stopped.at.segment + 1..).map(spare).collect();
        self.find_left_over(path, stopped)?;
        for spare in later {
            let number = spare.number;
            let remains = self.remains_in(Position { segment: number, offset: 0 })?;
            if remains.first.is_none() {
                self.spares.push(spare);
            }
            all.first = all.first.or(remains.first);
            all.blocks += remains.blocks;
            all.valid_later = all.valid_later.or(remains.valid_later);
            all.newer = all.newer.or(remains.newer);
        }
        Ok(all)
    }

    /// Spares of earlier runs that were not removed in time, and hold nothing.
    fn find_left_over(&mut self, path: &[LiveSegment], stopped: &Stopped) -> Result<(), RecoverError> {
        let is_live = |number| path.iter().any(|live| live.number == number);
        let empty = |(_, head): &(&u64, &Head)| head.state == HeaderState::Zero;
        let before = self.heads.range(..stopped.at.segment).filter(empty).map(|(&number, _)| number);
        let candidates: Vec<u64> = before.filter(|&number| !is_live(number)).collect();
        for number in candidates {
            if self.remains_in(Position { segment: number, offset: 0 })?.first.is_none() {
                self.spares.push(Spare { number, bytes: None });
            }
        }
        Ok(())
    }

    /// Judges the end of the journal.
    pub(crate) fn judge(
        &mut self,
        path: &[LiveSegment],
        stopped: &Stopped,
        witness: &Witness,
    ) -> Result<TailReport, RecoverError> {
        if self.request.mode == ScanMode::BesideWriter {
            return self.judge_beside_writer(stopped, witness);
        }
        let remains = self.remains(path, stopped)?;
        if let Some((at, format)) = remains.newer {
            let file = self.request.dir.device().display(&segment::path(at.segment));
            return Err(RecoverError::NewerFormat { file, offset: at.offset, format, known: FORMAT });
        }
        if let Some((at, header)) = remains.valid_later {
            let what = format!(
                "a frame is missing or damaged here, while a good one follows at byte {} of segment {}",
                at.offset, at.segment
            );
            return Err(self.corrupt(stopped.at, &what, (self.next_seq, header.first_seq.saturating_sub(1))));
        }
        if let Stop::Stranger { what, seq_last } = &stopped.stop {
            return Err(self.corrupt(stopped.at, what, (self.next_seq, *seq_last)));
        }
        self.check_durable(stopped, &remains, witness)?;
        self.judge_tail(path, stopped, &remains)
    }

    /// Beside a writer everything above the watermark may be in the middle of being written: only what is below counts.
    fn judge_beside_writer(&self, stopped: &Stopped, witness: &Witness) -> Result<TailReport, RecoverError> {
        let remains = Remains { first: Some(stopped.at), blocks: 0, valid_later: None, newer: None };
        self.check_durable(stopped, &remains, witness)?;
        Ok(TailReport::Clean)
    }

    /// Nothing that was shown to be durable may be missing.
    fn check_durable(&self, stopped: &Stopped, remains: &Remains, witness: &Witness) -> Result<(), RecoverError> {
        let seq_lost = self.watermark >= self.next_seq;
        if !seq_lost && self.end >= witness.end {
            return Ok(());
        }
        let at = if stopped.at.segment == 0 { witness.end } else { stopped.at };
        let file = self.request.dir.device().display(&segment::path(at.segment));
        let seqs = if seq_lost { (self.next_seq, self.watermark) } else { (0, 0) };
        let shown_by = if self.request.floor.seq > witness.durable_seq && self.request.floor.seq == self.watermark {
            self.request.floor.shown_by.as_str()
        } else if witness.durable_seq >= self.next_seq || !seq_lost {
            "the witness"
        } else {
            "a later watermark"
        };
        let damaged =
            remains.first.is_some_and(|first| first == stopped.at) || !matches!(stopped.stop, Stop::Hole | Stop::End);
        let what = format!(
            "the journal {} here, but {shown_by} shows that it was durable up to sequence number {}, byte {} of segment {}",
            if damaged { "is damaged" } else { "ends" },
            self.watermark,
            witness.end.offset,
            witness.end.segment,
        );
        let problem = Box::new(Problem::new(file, at.offset, what, RESTORE).with_seqs(seqs.0, seqs.1));
        Err(if damaged { RecoverError::Corrupt(problem) } else { RecoverError::TailLost(problem) })
    }

    /// The tail proper: clean, torn or ambiguous.
    fn judge_tail(
        &self,
        path: &[LiveSegment],
        stopped: &Stopped,
        remains: &Remains,
    ) -> Result<TailReport, RecoverError> {
        let Some(first) = remains.first else { return Ok(TailReport::Clean) };
        let in_segment = path.last().is_some_and(|live| live.number == first.segment);
        let (at, seq_last, doubt) = match &stopped.stop {
            Stop::NeverWritten { seq_last } => (stopped.at, *seq_last, None),
            Stop::Bad { what, seq_last } => (stopped.at, *seq_last, Some(what.clone())),
            Stop::Stranger { what, .. } => (stopped.at, 0, Some(what.clone())),
            Stop::End | Stop::Hole if in_segment => (stopped.at, 0, None),
            Stop::End | Stop::Hole if first.offset == 0 => {
                (first, 0, Some("these bytes are not a frame header".to_owned()))
            }
            Stop::End | Stop::Hole => (Position { segment: first.segment, offset: 0 }, 0, None),
        };
        let file = self.request.dir.device().display(&segment::path(at.segment));
        let bytes = remains.blocks * BLOCK;
        let cut = Cut { file: file.clone(), offset: at.offset, bytes, seq_first: self.next_seq, seq_last };
        let Some(what) = doubt else { return Ok(TailReport::Torn(cut)) };
        if self.request.accept_tail {
            return Ok(TailReport::Accepted(cut));
        }
        let what = format!(
            "{what}. It is the last frame and may or may not have been acknowledged (a write that was torn in the middle \
             of a block, or damage)"
        );
        let step = "look for another copy of this file; else continue with --accept-tail, which cuts it off";
        let problem = Problem::new(file, at.offset, what, step).with_seqs(self.next_seq, seq_last);
        Err(RecoverError::Ambiguous(Box::new(problem)))
    }
}
