//! Recovery: from a data directory to a state and an open journal.
//!
//! Owns the order of the steps (checkpoint, scan, replay, boot); refuses to write anything before the state stands.
//! Falls back from a broken checkpoint to the one before, then to the whole journal, and says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tp_core::ids::Seq;
use tp_storage::{
    Catalogue, CatalogueTrouble, CheckpointStore, DataDirectory, Device, DiskDevice, Floor, Frame, Identity, Journal,
    JournalOptions, MemoryJournal, MirrorSync, SegmentJournal, SledCatalogue, SledJournal, TailReport,
};

use crate::config::{BadConfig, Bounds, Config, JournalKind};
use crate::error::{OpenError, ReplayError};
use crate::fold::{State, load_and};
use crate::parameters::{Parameters, draw};
use crate::replay::{reached, replay, replay_from};

/// What recovery found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The last sequence number of the journal.
    pub last_seq: Seq,
    /// The checkpoint that was used; `None`: the whole journal was replayed.
    pub checkpoint: Option<u64>,
    /// Replay began behind this number.
    pub replayed_from: Seq,
    /// Events read.
    pub events_replayed: u64,
    /// How the journal ended.
    pub tail: TailReport,
    /// What else is worth saying: checkpoints not used, copies of the witness cut off.
    pub notes: Vec<String>,
    /// How long it took, ms.
    pub took_ms: u64,
}

/// A recovered engine's parts, before it serves.
pub(crate) struct Recovered {
    pub(crate) state: State,
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) directory: Option<DataDirectory>,
    /// Opened before the scan, since its highest entry shows what was durable.
    pub(crate) catalogue: Option<Box<dyn Catalogue>>,
    /// The latest time in anything recorded.
    pub(crate) recorded_time: u64,
    pub(crate) report: RecoveryReport,
}

/// Recovers what the configuration names.
pub(crate) fn recover(config: &Config) -> Result<Recovered, OpenError> {
    let Some(device) = device_of(config) else { return in_memory(config) };
    let directory = open_directory(config, device)?;
    let parameters = parameters_of(config, &directory)?;
    match parameters.journal {
        JournalKind::Sled => recover_sled(config, directory, parameters),
        JournalKind::Segment | JournalKind::Memory => recover_segments(config, directory, parameters),
    }
}

fn disk(path: &PathBuf) -> Arc<dyn Device> {
    Arc::new(DiskDevice::new(path))
}

fn device_of(config: &Config) -> Option<Arc<dyn Device>> {
    config.device.clone().or_else(|| config.data_dir.as_ref().map(disk))
}

fn mirror_of(config: &Config) -> Option<Arc<dyn Device>> {
    config.mirror_device.clone().or_else(|| config.mirror.as_ref().map(disk))
}

fn random_parameters(config: &Config) -> Result<(Parameters, u128), OpenError> {
    let drawn = config.identity_seed.map_or_else(draw, |seed| Ok((seed.to_le_bytes(), !seed)));
    let (seed, id) = drawn.map_err(|source| OpenError::System { what: "random bytes", source })?;
    let seed = tp_core::ids::SlotSeed(seed);
    Ok((Parameters { seed, windows: config.windows.unwrap_or_default(), journal: config.journal }, id))
}

fn in_memory(config: &Config) -> Result<Recovered, OpenError> {
    let (parameters, _) = random_parameters(config)?;
    Ok(Recovered {
        state: State::empty(parameters),
        journal: Box::new(MemoryJournal::new()),
        directory: None,
        catalogue: None,
        recorded_time: 0,
        report: RecoveryReport {
            last_seq: Seq::ZERO,
            checkpoint: None,
            replayed_from: Seq::ZERO,
            events_replayed: 0,
            tail: TailReport::Clean,
            notes: Vec::new(),
            took_ms: 0,
        },
    })
}

fn open_directory(config: &Config, device: Arc<dyn Device>) -> Result<DataDirectory, OpenError> {
    let (parameters, engine_id) = random_parameters(config)?;
    let identity = || Identity { engine_id, parameters: parameters.encode() };
    Ok(match mirror_of(config) {
        Some(mirror) => DataDirectory::create_or_open_mirrored(device, mirror, config.empty_directory, identity)?,
        None => DataDirectory::create_or_open(device, identity)?,
    })
}

/// What the directory fixes, and whether the configuration asks for something else.
pub(crate) fn parameters_in(directory: &DataDirectory) -> Result<Parameters, OpenError> {
    Parameters::decode(directory.parameters()).map_err(|not| OpenError::Parameters {
        directory: directory.device().display(""),
        what: not.what,
        is_newer: not.is_newer,
    })
}

fn parameters_of(config: &Config, directory: &DataDirectory) -> Result<Parameters, OpenError> {
    let parameters = parameters_in(directory)?;
    if let Some(asked) = config.windows.filter(|asked| *asked != parameters.windows) {
        return Err(BadConfig::OtherWindows { directory: parameters.windows, asked }.into());
    }
    if parameters.journal != config.journal {
        return Err(BadConfig::OtherJournal { directory: parameters.journal, asked: config.journal }.into());
    }
    Ok(parameters)
}

fn floor_of(as_of_max: u64, catalogue: Option<&dyn Catalogue>) -> Floor {
    let noted = catalogue.and_then(|catalogue| catalogue.highest().ok().flatten()).map_or(0, |entry| entry.last_seq());
    let shown_by = if noted > as_of_max { "the catalogue" } else { "a checkpoint" };
    Floor { seq: noted.max(as_of_max), shown_by: shown_by.to_owned() }
}

fn recover_segments(config: &Config, directory: DataDirectory, parameters: Parameters) -> Result<Recovered, OpenError> {
    let mut notes = Vec::new();
    let catalogue = match place_of(config) {
        Some(place) => open_catalogue(&place, directory.engine_id(), &mut notes)?,
        None => None,
    };
    let store = CheckpointStore::new(&directory);
    store.delete_unpublished()?;
    let options = JournalOptions {
        segment_bytes: config.segment_bytes,
        reserve_bytes: Bounds::of(config).reserve_bytes,
        accept_tail: config.accept_tail,
        // A simulated disk has no use for a thread, and a run of it must repeat itself.
        mirror_sync: if config.device.is_some() { MirrorSync::InTurn } else { MirrorSync::Together },
    };
    let (loaded, (recovered, replayed_from)) = load_and(&store, parameters, u64::MAX, |loaded| {
        let from = loaded.state.replayed_to;
        let floor = floor_of(loaded.as_of_max, catalogue.as_deref());
        // One pass over the journal: what the scan reads is replayed at once, and thrown away if the scan refuses.
        let recovered = replay(&mut loaded.state, |sink| {
            let mut each = |frame: &Frame| sink.take(frame);
            SegmentJournal::recover_with(&directory, options, floor, from + 1, &mut each).map_err(OpenError::from)
        })?;
        Ok::<_, OpenError>((recovered, from))
    })?;
    let state = loaded.state;
    reached(&state, recovered.last_seq)?;
    notes.extend(loaded.notes);
    notes.extend(recovered.notes.iter().map(ToString::to_string));
    let report = RecoveryReport {
        last_seq: Seq(recovered.last_seq),
        checkpoint: loaded.generation,
        replayed_from: Seq(replayed_from),
        events_replayed: recovered.last_seq.saturating_sub(replayed_from),
        tail: recovered.tail.clone(),
        notes,
        took_ms: 0,
    };
    let recorded_time = recovered.last_time.max(state.time_max).max(loaded.time);
    check_clock(config, recorded_time)?;
    let journal = Box::new(recovered.open()?);
    Ok(Recovered { state, journal, directory: Some(directory), catalogue, recorded_time, report })
}

/// The catalogue's folder: below a data directory of the operating system only.
pub(crate) fn place_of(config: &Config) -> Option<PathBuf> {
    if config.device.is_some() { None } else { config.data_dir.as_ref().map(|path| path.join(CATALOGUE_DIR)) }
}

/// `None`: it cannot be used now; its thread sees to it.
///
/// # Errors
/// It belongs to another engine, or is of a newer format. Nothing was changed.
fn open_catalogue(
    place: &Path,
    engine_id: u128,
    notes: &mut Vec<String>,
) -> Result<Option<Box<dyn Catalogue>>, OpenError> {
    let error = match SledCatalogue::open(place, engine_id) {
        Ok(catalogue) => return Ok(Some(Box::new(catalogue))),
        Err(error) => error,
    };
    notes.push(match error.trouble() {
        CatalogueTrouble::Foreign => return Err(OpenError::Catalogue(Box::new(error))),
        CatalogueTrouble::Damaged => format!("{error}; it is put aside and made again from the journal"),
        CatalogueTrouble::Unavailable => format!("{error}; it is left alone and tried again"),
    });
    Ok(None)
}

fn recover_sled(config: &Config, directory: DataDirectory, parameters: Parameters) -> Result<Recovered, OpenError> {
    let Some(path) = &config.data_dir else { return Err(BadConfig::JournalAndDirectory.into()) };
    let store = CheckpointStore::new(&directory);
    store.delete_unpublished()?;
    let sled = |error| OpenError::Sled(Box::new(error));
    let (loaded, (journal, replayed_from, events_replayed)) = load_and(&store, parameters, u64::MAX, |loaded| {
        let floor = floor_of(loaded.as_of_max, None);
        let journal = SledJournal::open(path.join(SLED_DIR), directory.engine_id(), &floor).map_err(sled)?;
        let from = loaded.state.replayed_to;
        let mut reader = journal.source().read_from(from + 1).map_err(ReplayError::Read)?;
        let events = replay_from(&mut loaded.state, &mut *reader, journal.durable_seq())?;
        drop(reader);
        Ok::<_, OpenError>((journal, from, events))
    })?;
    let (last_seq, mut notes) = (journal.durable_seq(), loaded.notes);
    notes.push(SledJournal::guarantee().to_owned());
    let state = loaded.state;
    let report = RecoveryReport {
        last_seq: Seq(last_seq),
        checkpoint: loaded.generation,
        replayed_from: Seq(replayed_from),
        events_replayed,
        tail: TailReport::Clean,
        notes,
        took_ms: 0,
    };
    let recorded_time = journal.last_time().max(state.time_max).max(loaded.time);
    check_clock(config, recorded_time)?;
    Ok(Recovered {
        state,
        journal: Box::new(journal),
        directory: Some(directory),
        catalogue: None,
        recorded_time,
        report,
    })
}

/// The folder of the catalogue in the data directory.
pub(crate) const CATALOGUE_DIR: &str = "catalogue";
/// The folder of the sled journal in the data directory.
pub(crate) const SLED_DIR: &str = "journal-sled";

/// A wall clock more than 7 days from the last recorded time is not believed unasked.
fn check_clock(config: &Config, recorded_time: u64) -> Result<(), OpenError> {
    let Some(wall) = config.clock.wall_ms() else { return Ok(()) };
    if config.accept_clock || recorded_time == 0 {
        return Ok(());
    }
    if wall.abs_diff(recorded_time) <= crate::clock::REFUSED_MS {
        return Ok(());
    }
    let (wall, recorded) = (tp_core::time::Time(wall), tp_core::time::Time(recorded_time));
    Err(OpenError::ClockRefused { wall, recorded })
}
