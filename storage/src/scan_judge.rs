//! The judgement: what the end of a journal means.
//!
//! Owns the rules torn / ambiguous / corrupt / tail lost, applied to where the walk stopped and to everything that lies
//! behind; changes nothing.

use crate::block::BLOCK;
use crate::frame::{FORMAT, FrameHeader, HeaderState, Position, parse_header};
use crate::problem::{Problem, RESTORE};
use crate::reader::LiveSegment;
use crate::recover::RecoverError;
use crate::scan::{Cut, ScanMode, TailReport};
use crate::scan_walk::{Stop, Stopped, Walker};
use crate::segment;
use crate::witness::Witness;

/// What lies behind the stop.
struct Remains {
    first: Option<Position>,
    blocks: u64,
    valid_later: Option<(Position, FrameHeader)>,
    newer: Option<(Position, u16)>,
}

impl Walker<'_, '_> {
    /// In a strict scan: nothing may stand behind the last frame of a full segment.
    pub(crate) fn check_rest(&mut self, stopped: &Stopped) -> Result<(), RecoverError> {
        if !self.request.strict {
            return Ok(());
        }
        let remains = self.remains_in(stopped.at)?;
        if let Some(first) = remains.first {
            let file = self.request.dir.device().display(&segment::path(first.segment));
            let what = "bytes where nothing was ever written; no event is concerned";
            self.strays.push(Problem::new(file, first.offset, what, "check the disk; the data is whole"));
        }
        Ok(())
    }

    /// In a strict scan: what lies behind a cut is as it was when the boot frame was written.
    pub(crate) fn check_behind_cut(&mut self, stopped: &Stopped, next: &LiveSegment) -> Result<(), RecoverError> {
        let boot = self.header_of(next.number).filter(|header| header.cut == stopped.at);
        let (true, Some(boot), Some(head)) = (self.request.strict, boot, self.heads.get(&stopped.at.segment)) else {
            return Ok(());
        };
        let (checksum, _) = head.segment.rest_from(stopped.at.offset).map_err(self.io_error(stopped.at))?;
        if checksum != boot.rest_checksum {
            let file = self.request.dir.device().display(&segment::path(stopped.at.segment));
            let what = "bytes behind the end of an earlier run have changed since; no event is concerned";
            self.strays.push(Problem::new(file, stopped.at.offset, what, "check the disk; the data is whole"));
        }
        Ok(())
    }

    /// Looks at everything from `at` to the end of its segment.
    fn remains_in(&self, at: Position) -> Result<Remains, RecoverError> {
        let mut remains = Remains { first: None, blocks: 0, valid_later: None, newer: None };
        let Some(head) = self.heads.get(&at.segment) else { return Ok(remains) };
        let engine_id = self.request.dir.engine_id();
        let walked = head.segment.run_on(at.offset, |offset, block| {
            let here = Position { segment: at.segment, offset };
            remains.first.get_or_insert(here);
            remains.blocks += 1;
            match parse_header(block) {
                HeaderState::Valid(header) if header.at == here && header.engine_id == engine_id && here != at => {
                    remains.valid_later.get_or_insert((here, header));
                }
                HeaderState::Newer(format) => {
                    remains.newer.get_or_insert((here, format));
                }
                _ => {}
            }
            true
        });
        walked.map_err(self.io_error(at))?;
        Ok(remains)
    }

    /// Looks at everything behind the stop: the rest of its segment, and all later segments.
    fn remains(&mut self, stopped: &Stopped) -> Result<Remains, RecoverError> {
        let mut all = self.remains_in(stopped.at)?;
        let later: Vec<(u64, u64)> =
            self.heads.range(stopped.at.segment + 1..).map(|(&number, head)| (number, head.segment.bytes)).collect();
        for (number, bytes) in later {
            let remains = self.remains_in(Position { segment: number, offset: 0 })?;
            if remains.first.is_none() {
                self.spares.push((number, bytes));
            }
            all.first = all.first.or(remains.first);
            all.blocks += remains.blocks;
            all.valid_later = all.valid_later.or(remains.valid_later);
            all.newer = all.newer.or(remains.newer);
        }
        Ok(all)
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
        let remains = self.remains(stopped)?;
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
