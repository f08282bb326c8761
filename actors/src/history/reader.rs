//! Single events of the journal by their number, for one question.
//!
//! Owns finding an event's frame and keeping the frames used last; refuses to read what is not durable and to hold anything up.
//! Memory: at most [`FRAMES_HELD`] frames and, beyond the one in use, [`BYTES_HELD`] of payload.
//!
//! ```text
//!  number --> a frame held already
//!        \--> the catalogue's entry --> the frame there     (a thread's hop and one read)
//!         \-> the segment's frames in order, up to it       (no catalogue, or it is behind)
//! ```

use std::cell::OnceCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use tp_core::codec::{self, DecodeError, KIND_OPENED};
use tp_core::event::{Body, Event};
use tp_core::ids::Seq;
use tp_core::time::Time;
use tp_storage::{Frame, FrameEntry, FrameSource};

use super::error::HistoryError;
use super::legs::{ExchangeKey, Opening};
use crate::catalogue::CatalogueOrder;
use crate::error::ReplayError;
use crate::replay::miscounted;

/// Frames kept at most.
const FRAMES_HELD: usize = 64;
/// Payload kept at most, beyond the frame in use: four frames of the largest kind, or many small ones.
const BYTES_HELD: usize = 16 << 20;
/// How long the catalogue may take to answer; after that the question is answered without it.
const CATALOGUE_WAIT: Duration = Duration::from_secs(1);

/// How far before its answer an exchange's opening is looked for, in frames. The two are one hop between partitions apart,
/// usually in one frame or in two that follow each other; more lies between them only while the other partition stood still.
pub const OPENING_FRAMES_MAX: usize = 64;
/// Frames whose latest event is so much older than the transfer cannot hold its opening: recorded time never falls in a
/// partition, and partitions differ by far less.
const OPENING_SLACK_MS: u64 = 60_000;

/// A frame with the places of its events.
struct Held {
    frame: Frame,
    /// Where each event begins.
    starts: Vec<u32>,
    /// Openings in it, by their exchange.
    openings: OnceCell<HashMap<ExchangeKey, u32>>,
}

impl Held {
    fn new(frame: Frame) -> Result<Self, ReplayError> {
        let mut starts = Vec::with_capacity(frame.count as usize);
        let mut rest = frame.payload();
        while !rest.is_empty() {
            let held = u32::try_from(starts.len()).unwrap_or(u32::MAX);
            if held >= frame.count {
                return Err(miscounted(&frame, held.saturating_add(1)));
            }
            let start = frame.payload().len() - rest.len();
            let span = codec::span(rest).map_err(|source| undecoded(&frame, held, source))?;
            starts.push(u32::try_from(start).map_err(|_| undecoded(&frame, held, DecodeError::Short))?);
            rest = &rest[span.bytes..];
        }
        match u32::try_from(starts.len()) {
            Ok(held) if held == frame.count => Ok(Self { frame, starts, openings: OnceCell::new() }),
            _ => Err(miscounted(&frame, u32::try_from(starts.len()).unwrap_or(u32::MAX))),
        }
    }

    fn holds(&self, seq: u64) -> bool {
        (self.frame.first_seq..=self.frame.last_seq()).contains(&seq)
    }

    /// The bytes from the n-th event on.
    fn bytes(&self, n: u32) -> Result<&[u8], ReplayError> {
        let start = self.starts.get(n as usize).map_or(usize::MAX, |start| *start as usize);
        self.frame.payload().get(start..).ok_or_else(|| undecoded(&self.frame, n, DecodeError::Short))
    }

    fn event(&self, n: u32) -> Result<Event, ReplayError> {
        match codec::decode(self.bytes(n)?) {
            Ok((event, _)) => Ok(event),
            Err(source) => Err(undecoded(&self.frame, n, source)),
        }
    }

    fn openings(&self) -> Result<&HashMap<ExchangeKey, u32>, ReplayError> {
        if let Some(found) = self.openings.get() {
            return Ok(found);
        }
        let mut found = HashMap::new();
        for n in 0..self.frame.count {
            let span = codec::span(self.bytes(n)?).map_err(|source| undecoded(&self.frame, n, source))?;
            if span.kind == KIND_OPENED
                && let Body::Opened(e) = &self.event(n)?.body
            {
                found.insert((e.head.slot, e.number), n);
            }
        }
        Ok(self.openings.get_or_init(|| found))
    }
}

fn undecoded(frame: &Frame, n: u32, source: DecodeError) -> ReplayError {
    let seq = frame.first_seq + u64::from(n);
    ReplayError::Decode { seq, segment: frame.location.segment, offset: frame.location.offset, source }
}

/// Reads for one question, on the asking thread.
pub(crate) struct Reader<'a> {
    source: &'a dyn FrameSource,
    /// What was durable when the question began.
    durable: u64,
    catalogue: Option<Sender<CatalogueOrder>>,
    /// The one used last first.
    held: Vec<Rc<Held>>,
}

impl<'a> Reader<'a> {
    /// Over what is durable up to that number; without a catalogue it is only slower.
    pub(crate) fn new(durable: Seq, source: &'a dyn FrameSource, catalogue: Option<Sender<CatalogueOrder>>) -> Self {
        Self { source, durable: durable.0, catalogue, held: Vec::new() }
    }

    /// One event.
    pub(crate) fn event(&mut self, seq: Seq) -> Result<Event, HistoryError> {
        let held = self.frame(seq.0)?;
        let n = u32::try_from(seq.0 - held.frame.first_seq).unwrap_or(u32::MAX);
        held.event(n).map_err(|source| HistoryError::Read { seq, source })
    }

    /// The opening of an exchange whose transfer was made at `made`, from the events before `before`. `None`: it is not in
    /// the last [`OPENING_FRAMES_MAX`] frames.
    pub(crate) fn opening(
        &mut self,
        before: Seq,
        exchange: ExchangeKey,
        made: Time,
    ) -> Result<Option<Opening>, HistoryError> {
        let mut seq = before.0;
        for _ in 0..OPENING_FRAMES_MAX {
            let held = self.frame(seq)?;
            let failed = |source| HistoryError::Read { seq: Seq(held.frame.first_seq), source };
            if held.frame.time_max.saturating_add(OPENING_SLACK_MS) < made.0 {
                return Ok(None);
            }
            if let Some(n) = held.openings().map_err(failed)?.get(&exchange)
                && let Body::Opened(e) = held.event(*n).map_err(failed)?.body
            {
                return Ok(Some(Opening::of(&e)));
            }
            seq = held.frame.first_seq - 1;
            if seq == 0 {
                break;
            }
        }
        Ok(None)
    }

    /// The frame that holds an event.
    fn frame(&mut self, seq: u64) -> Result<Rc<Held>, HistoryError> {
        if let Some(at) = self.held.iter().position(|held| held.holds(seq)) {
            self.held[..=at].rotate_right(1);
            return Ok(Rc::clone(&self.held[0]));
        }
        let frame = self.read(seq)?;
        let held = Rc::new(Held::new(frame).map_err(|source| HistoryError::Read { seq: Seq(seq), source })?);
        self.held.insert(0, Rc::clone(&held));
        let mut bytes = 0;
        let kept = self.held.iter().skip(1).take(FRAMES_HELD - 1).take_while(|held| {
            bytes += held.frame.payload().len();
            bytes <= BYTES_HELD
        });
        let kept = 1 + kept.count();
        self.held.truncate(kept);
        Ok(held)
    }

    fn read(&mut self, seq: u64) -> Result<Frame, HistoryError> {
        let short =
            HistoryError::Read { seq: Seq(seq), source: ReplayError::Short { reached: self.durable, last_seq: seq } };
        if seq == 0 || seq > self.durable {
            return Err(short);
        }
        let holds = |frame: &Frame| (frame.first_seq..=frame.last_seq().min(self.durable)).contains(&seq);
        // The catalogue is not the truth: what it does not find, or finds damaged, the journal is asked itself.
        if let Some(entry) = find(&mut self.catalogue, seq)
            && let Ok(Some(frame)) = self.source.frame_at(entry.location())
            && holds(&frame)
        {
            return Ok(frame);
        }
        let mut reader = self.source.read_from(seq).map_err(|error| HistoryError::read(seq, error))?;
        let frame = reader.next(self.durable).map_err(|error| HistoryError::read(seq, error))?;
        frame.filter(holds).ok_or(short)
    }
}

/// Asks the catalogue. One that does not answer in time is not asked again.
fn find(catalogue: &mut Option<Sender<CatalogueOrder>>, seq: u64) -> Option<FrameEntry> {
    let (reply, wait) = bounded(1);
    let order = CatalogueOrder::Find { seq, reply };
    let sent = catalogue.as_ref()?.send_timeout(order, CATALOGUE_WAIT).is_ok();
    let found = if sent { wait.recv_timeout(CATALOGUE_WAIT).ok() } else { None };
    if found.is_none() {
        *catalogue = None;
    }
    found.flatten()
}

#[cfg(test)]
mod tests {
    use tp_core::amount::Ledger;
    use tp_core::command::{Note, OpenAccount, Settings};
    use tp_core::ids::AccountId;
    use tp_core::key::Key;

    use super::*;
    use crate::config::Config;
    use crate::engine::Engine;

    #[test]
    fn an_event_is_the_same_with_and_without_a_catalogue_and_few_frames_are_held() {
        let engine = Engine::open(Config::in_memory()).expect("opens");
        let settings = Settings::new(Ledger::new("EUR", 2).expect("valid"));
        for n in 1..=200 {
            let (key, account) = (Key::opaque(n), AccountId(n));
            engine.call_blocking(OpenAccount { key, account, settings, note: Note::default() });
        }
        let (mut with, mut without) = (engine.journal(), engine.journal());
        without.catalogue = None;
        for seq in (1..=200).rev() {
            let event = with.event(Seq(seq)).expect("durable");
            assert_eq!(event, without.event(Seq(seq)).expect("durable"), "event {seq}");
            assert!(event.body.head().is_some_and(|head| head.account == AccountId(seq.into())), "event {seq}");
            assert!(with.catalogue.is_some(), "it answers");
        }
        assert!(with.held.len() <= FRAMES_HELD && without.held.len() <= FRAMES_HELD);
        for seq in [0, 201, u64::MAX] {
            let missing = with.event(Seq(seq));
            assert!(matches!(missing, Err(HistoryError::Read { .. })), "{missing:?}");
        }
    }
}
