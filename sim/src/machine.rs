//! The simulated machine's configuration, and the journal as every campaign reads it.
//!
//! Owns what all runs of an engine here have in common: it depends on nothing but its owner's choices. Refuses to know what is run.

use std::sync::Arc;

use tp_actors::{
    CheckpointPolicy, Clock, Config, MachineClocks, ManualEngine, VerifyFailed, VerifyReport, scrub_on,
    verify_mirrored_on, verify_on,
};
use tp_core::codec::{EventBytes, Events, encode};
use tp_core::event::Event;
use tp_core::time::Time;
use tp_storage::{Device, FolderDevice, Frame, MemoryDevice};

use crate::oracle::Wrong;

/// When a simulated machine is switched on: 2026-01-15T11:59:00Z.
pub(crate) const START: Time = Time(1_768_478_340_000);

/// The smallest segment that takes what so many partitions may have in flight.
pub(crate) const fn segment_bytes(partitions: usize) -> u64 {
    (partitions.next_power_of_two() as u64) << 20
}

/// An engine on a simulated machine, with checkpoints on request only.
pub(crate) fn config(device: Arc<dyn Device>, clocks: &MachineClocks, partitions: usize) -> Config {
    Config {
        data_dir: None,
        device: Some(device),
        identity_seed: Some(0x5EED),
        partitions,
        segment_bytes: segment_bytes(partitions),
        clock: Clock::Machine(clocks.clone()),
        checkpoint: CheckpointPolicy { bytes_per_second: u64::MAX, ..CheckpointPolicy::off() },
        accept_clock: true,
        ..Config::at("")
    }
}

/// How many copies of the journal a machine keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// The data directory, which is the whole disk.
    One,
    /// The data directory and its mirror, in two folders of one disk, so that the power goes for both at once.
    Two,
}

impl Copies {
    /// The device of the data directory, and of the mirror.
    pub(crate) fn on(self, all: Arc<dyn Device>) -> (Arc<dyn Device>, Option<Arc<dyn Device>>) {
        let folder = |name: &str| Arc::new(FolderDevice::new(Arc::clone(&all), name)) as Arc<dyn Device>;
        match self {
            Self::One => (all, None),
            Self::Two => (folder("data"), Some(folder("mirror"))),
        }
    }

    /// Of a machine with this disk.
    pub(crate) fn config(self, disk: Arc<dyn Device>, clocks: &MachineClocks, partitions: usize) -> Config {
        let (device, mirror_device) = self.on(disk);
        Config { mirror_device, ..config(device, clocks, partitions) }
    }

    /// Their number.
    pub(crate) fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// A scrub of all copies.
    pub(crate) fn scrub(self, device: &MemoryDevice) -> Result<VerifyReport, VerifyFailed> {
        let (device, mirror) = self.on(Arc::new(device.clone()));
        scrub_on(device, mirror)
    }

    /// `verify`, of all copies.
    pub(crate) fn verify(self, device: &MemoryDevice) -> Result<VerifyReport, VerifyFailed> {
        match self.on(Arc::new(device.clone())) {
            (device, Some(mirror)) => verify_mirrored_on(&device, &mirror),
            (device, None) => verify_on(&device),
        }
    }
}

/// The events of a frame with their numbers.
pub(crate) fn events(frame: &Frame) -> impl Iterator<Item = Result<(u64, Event), Wrong>> {
    let numbers = frame.first_seq..=frame.last_seq();
    numbers.zip(Events::new(frame.payload())).map(|(seq, event)| Ok((seq, event.map_err(|error| error.to_string())?)))
}

/// The digest of a journal with one event more.
pub(crate) fn chain(before: Option<&[u8; 32]>, event: &Event) -> [u8; 32] {
    let mut bytes = EventBytes::new();
    encode(event, &mut bytes);
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.unwrap_or(&[0; 32])).update(&bytes);
    *hasher.finalize().as_bytes()
}

/// The running digest of an engine's journal, event by event.
pub(crate) fn log_of(engine: &ManualEngine) -> Result<Vec<[u8; 32]>, Wrong> {
    let mut log: Vec<[u8; 32]> = Vec::new();
    let mut reader = engine.source().read_from(1).map_err(|error| error.to_string())?;
    while let Some(frame) = reader.next(engine.last_seq().0).map_err(|error| error.to_string())? {
        for event in events(&frame) {
            let digest = chain(log.last(), &event?.1);
            log.push(digest);
        }
    }
    Ok(log)
}
