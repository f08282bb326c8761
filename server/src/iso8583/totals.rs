//! The day's totals of each listener: what 0500 asks for.
//!
//! Owns the sums, which are a fold over the journal: every command of a card message carries its listener and class in its note, and a
//! cut-over is a record of its own, so that sums and their periods are as durable as the money. A thread follows the events; its state is
//! kept in a file, a cache. Refuses to count answers: what counts is what was booked.
//!
//! ```text
//!   events --> Authorized | Moved | Opened ... Ended --> period of the listener: debits, credits, their reversals, authorizations
//!          --> record of stream 3: cut-over          --> the period before is kept, a new one begins
//! ```

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tp_actors::Engine;
use tp_actors::tp_core::event::{Body, Event, Head, Movement};
use tp_actors::tp_core::ids::Seq;
use tp_actors::tp_core::metadata::entries_in;

use super::CARD_PREFIX;
use crate::cache_file::{self, hash};

/// The stream of the engine's records with cut-overs.
pub(super) const CUT_OVER_STREAM: u32 = 3;

/// How a command counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    Authorization,
    AuthorizationReversal,
    Debit,
    DebitReversal,
    Credit,
    CreditReversal,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Authorization,
        Self::AuthorizationReversal,
        Self::Debit,
        Self::DebitReversal,
        Self::Credit,
        Self::CreditReversal,
    ];

    /// Its name in notes.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "a",
            Self::AuthorizationReversal => "ar",
            Self::Debit => "d",
            Self::DebitReversal => "dr",
            Self::Credit => "c",
            Self::CreditReversal => "cr",
        }
    }
}

/// A record of stream 3.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CutOver {
    pub(super) v: u32,
    pub(super) listener: String,
    /// Month and day of the period that begins: MMDD.
    pub(super) date: String,
}

/// How many and how much, minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) number: u64,
    pub(super) amount: u128,
}

/// The sums of one currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) debits: Sum,
    pub(super) debit_reversals: Sum,
    pub(super) credits: Sum,
    pub(super) credit_reversals: Sum,
}

/// From one cut-over to the next.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Period {
    /// MMDD; empty: before the first cut-over.
    pub(super) date: String,
    /// By ledger's asset.
    pub(super) sums: BTreeMap<String, Sums>,
    pub(super) authorizations: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Periods {
    current: Period,
    previous: Option<Period>,
}

/// An exchange that was opened by a card message and has not ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Open {
    slot: u16,
    number: u64,
    listener: String,
    class: String,
    asset: String,
    amount: u128,
}

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct State {
    listeners: BTreeMap<String, Periods>,
    /// By slot and number.
    #[serde(with = "values")]
    open: HashMap<(u16, u64), Open>,
}

/// The open exchanges as a list: they have their place in themselves.
mod values {
    use std::collections::HashMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Open;

    pub(super) fn serialize<S: Serializer>(open: &HashMap<(u16, u64), Open>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(open.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HashMap<(u16, u64), Open>, D::Error> {
        let list = Vec::<Open>::deserialize(deserializer)?;
        Ok(list.into_iter().map(|open| ((open.slot, open.number), open)).collect())
    }
}

impl State {
    fn take(&mut self, event: &Event) {
        match &event.body {
            Body::Authorized(authorized) => {
                if let Some((listener, Class::Authorization)) = noted(&authorized.head) {
                    self.period(listener).authorizations += 1;
                }
            }
            Body::Moved(moved) if moved.head.outcome.is_approval() => {
                if let Some((listener, class)) = noted(&moved.head) {
                    self.count(listener, class, &moved.movement.ledger.asset(), moved.movement.amount.get());
                }
            }
            Body::Opened(opened) => {
                if let Some((listener, class)) = noted(&opened.head) {
                    let Movement { ledger, amount, .. } = opened.movement;
                    let (slot, number) = (opened.head.slot.get(), opened.number);
                    let (class, asset, amount) = (class.name().to_owned(), ledger.asset(), amount.get());
                    let listener = listener.to_owned();
                    self.open.insert((slot, number), Open { slot, number, listener, class, asset, amount });
                }
            }
            Body::Ended(ended) if !self.open.is_empty() => {
                for end in &ended.ends {
                    let Some(open) = self.open.remove(&(end.slot.get(), end.number)) else { continue };
                    let class = Class::ALL.into_iter().find(|class| class.name() == open.class);
                    if let Some(class) = class.filter(|_| end.outcome.is_approval()) {
                        self.count(&open.listener, class, &open.asset, open.amount);
                    }
                }
            }
            Body::Recorded(recorded) if recorded.stream == CUT_OVER_STREAM => {
                if let Ok(CutOver { listener, date, .. }) = serde_json::from_slice(&recorded.bytes) {
                    let periods = self.listeners.entry(listener).or_default();
                    // The same cut-over once more is the same day, and a late repeat of the one before is no new one.
                    let is_previous = periods.previous.as_ref().is_some_and(|previous| previous.date == date);
                    if periods.current.date != date && !is_previous {
                        let next = Period { date, ..Period::default() };
                        periods.previous = Some(std::mem::replace(&mut periods.current, next));
                    }
                }
            }
            _ => {}
        }
    }

    /// The period of a listener that runs.
    fn period(&mut self, listener: &str) -> &mut Period {
        if !self.listeners.contains_key(listener) {
            self.listeners.insert(listener.to_owned(), Periods::default());
        }
        let periods = self.listeners.get_mut(listener);
        &mut periods.expect("it was put in if it was not there").current
    }

    fn count(&mut self, listener: &str, class: Class, asset: &str, amount: u128) {
        let sums = self.period(listener).sums.entry(asset.to_owned()).or_default();
        let sum = match class {
            Class::Debit => &mut sums.debits,
            Class::DebitReversal => &mut sums.debit_reversals,
            Class::Credit => &mut sums.credits,
            Class::CreditReversal => &mut sums.credit_reversals,
            Class::Authorization | Class::AuthorizationReversal => return,
        };
        sum.number = sum.number.saturating_add(1);
        sum.amount = sum.amount.saturating_add(amount);
    }
}

/// Listener and class in an event's note.
fn noted(head: &Head) -> Option<(&str, Class)> {
    let (mut listener, mut class) = (None, None);
    for (name, value) in entries_in(&head.rare.as_ref()?.metadata) {
        match name.strip_prefix(CARD_PREFIX.as_bytes()) {
            Some(b"listener") if listener.is_none() => listener = Some(value),
            Some(b"total") if class.is_none() => class = Some(value),
            _ => continue,
        }
        if let (Some(listener), Some(class)) = (listener, class) {
            let class = Class::ALL.into_iter().find(|one| one.name().as_bytes() == class)?;
            return Some((std::str::from_utf8(listener).ok()?, class));
        }
    }
    None
}

#[derive(Serialize, Deserialize)]
struct Contents {
    v: u32,
    directory: String,
    as_of: u64,
    /// The hash of the event there: another one means another journal.
    event: String,
    state: State,
}

/// The totals of a running engine.
pub(crate) struct Totals {
    /// The state, and up to which event it is the fold.
    state: Mutex<(Seq, State)>,
    position: AtomicU64,
    path: PathBuf,
    directory: String,
}

const VERSION: u32 = 1;

impl Totals {
    /// Follows the engine's events from where the file ends, on a thread of its own, until the engine closes.
    ///
    /// # Errors
    /// No thread could be started.
    pub(crate) fn start(engine: Arc<Engine>, folder: &std::path::Path) -> std::io::Result<Arc<Self>> {
        let path = folder.join("totals.json");
        let directory = hash(&engine.seed().0);
        let kept = read(&path, &directory).filter(|kept| is_there(&engine, kept));
        let (as_of, state) = kept.map_or_else(Default::default, |kept| (Seq(kept.as_of), kept.state));
        let totals =
            Arc::new(Self { state: Mutex::new((as_of, state)), position: AtomicU64::new(as_of.0), path, directory });
        let following = Arc::clone(&totals);
        std::thread::Builder::new().name("tp-totals".to_owned()).spawn(move || following.follow(&engine, as_of))?;
        Ok(totals)
    }

    fn follow(&self, engine: &Engine, as_of: Seq) {
        // It ends with the engine.
        for next in engine.events(Seq(as_of.0 + 1)) {
            match next {
                Ok((seq, event)) => {
                    let mut state = self.state.lock();
                    state.1.take(&event);
                    state.0 = seq;
                    drop(state);
                    self.position.store(seq.0, Ordering::Release);
                }
                Err(error) => {
                    tracing::error!(%error, "the day's totals stand still: 0500 is answered 91 until the next start");
                    return;
                }
            }
        }
    }

    /// Up to which event they count.
    pub(super) fn position(&self) -> Seq {
        Seq(self.position.load(Ordering::Acquire))
    }

    /// The period of a listener that began on that day; `None` for the day: the one that runs.
    pub(super) fn period(&self, listener: &str, date: Option<&str>) -> Option<Period> {
        let state = self.state.lock();
        let Some(periods) = state.1.listeners.get(listener) else {
            return date.is_none().then(Period::default);
        };
        let is_it = |period: &&Period| date.is_none_or(|date| period.date == date);
        std::iter::once(&periods.current).chain(&periods.previous).find(is_it).cloned()
    }

    /// Writes the file. A file that cannot be written costs time at the next start, and nothing else. Blocks.
    pub(crate) fn write(&self, engine: &Engine) -> std::io::Result<()> {
        let (as_of, state) = {
            let state = self.state.lock();
            (state.0, state.1.clone())
        };
        let Some(event) = hash_at(engine, as_of) else { return Ok(()) };
        let contents = Contents { v: VERSION, directory: self.directory.clone(), as_of: as_of.0, event, state };
        cache_file::write(&self.path, &contents)
    }
}

fn read(path: &std::path::Path, directory: &str) -> Option<Contents> {
    let contents: Contents = cache_file::read(path)?;
    (contents.v == VERSION && contents.directory == directory).then_some(contents)
}

fn is_there(engine: &Engine, kept: &Contents) -> bool {
    hash_at(engine, Seq(kept.as_of)).is_some_and(|hash| hash == kept.event)
}

/// What tells one event from another at the same place.
fn hash_at(engine: &Engine, at: Seq) -> Option<String> {
    if at == Seq::ZERO || at > engine.durable_seq() {
        return None;
    }
    let (seq, event) = engine.events(at).next_timeout(Duration::from_mins(1)).ok()??;
    (seq == at).then(|| hash(format!("{event:?}").as_bytes()))
}
