//! Feeds: durable events in order, old ones and those to come.
//!
//! Owns the position of one consumer; refuses to know what it does with the events. A feed reads the journal behind the
//! durable number, holds nothing up, and ends with the engine.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tp_core::event::Event;
use tp_core::ids::Seq;
use tp_storage::{FrameReader, FrameSource};

use crate::error::{FeedError, ReplayError};
use crate::replay::each_event;
use crate::shared::{Shared, Stage};

/// Events that became durable, from a number on. As an iterator it waits for what is to come, and ends when the engine
/// was closed and everything was given, or after an error. It reads the directory's files: drop it before the directory
/// is opened again.
pub struct EventFeed {
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    reader: Option<Box<dyn FrameReader>>,
    /// The next number to be given.
    next: Seq,
    decoded: VecDeque<(Seq, Event)>,
    is_over: bool,
}

impl fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFeed").field("next", &self.next).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl EventFeed {
    pub(crate) fn new(shared: Arc<Shared>, source: Arc<dyn FrameSource>, from: Seq) -> Self {
        let next = from.max(Seq(1));
        Self { shared, source, reader: None, next, decoded: VecDeque::new(), is_over: false }
    }

    /// The number of the event that comes next: what a consumer keeps as its cursor.
    pub const fn position(&self) -> Seq {
        self.next
    }

    /// The next event; `None`: none came in time, or the engine was closed.
    ///
    /// # Errors
    /// [`FeedError`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<(Seq, Event)>, FeedError> {
        self.advance(Instant::now().checked_add(timeout))
    }

    fn advance(&mut self, until: Option<Instant>) -> Result<Option<(Seq, Event)>, FeedError> {
        loop {
            if let Some((seq, event)) = self.decoded.pop_front() {
                self.next = seq.next();
                return Ok(Some((seq, event)));
            }
            let ended = || self.shared.stage() == Stage::Ended || self.shared.poison.is_set();
            if !self.shared.durable.wait(self.next, until, ended) {
                return self.shared.poison.cause().map_or(Ok(None), |cause| Err(FeedError::Poisoned(cause)));
            }
            self.read()?;
        }
    }

    /// Decodes the frame that holds the next number.
    fn read(&mut self) -> Result<(), FeedError> {
        let up_to = self.shared.durable.seq().0;
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(self.source.read_from(self.next.0).map_err(ReplayError::Read)?),
        };
        let Some(frame) = reader.next(up_to).map_err(ReplayError::Read)? else {
            return Err(ReplayError::Short { reached: self.next.0 - 1, last_seq: up_to }.into());
        };
        let Self { decoded, next, .. } = self;
        each_event(&frame, |seq, event| {
            if seq >= next.0 {
                decoded.push_back((Seq(seq), event));
            }
            Ok(())
        })?;
        Ok(())
    }
}

impl Iterator for EventFeed {
    type Item = Result<(Seq, Event), FeedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let advanced = self.advance(None);
        self.is_over = !matches!(advanced, Ok(Some(_)));
        advanced.transpose()
    }
}
