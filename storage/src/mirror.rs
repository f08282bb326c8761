//! The mirror: opening a data directory together with the second copy of its journal.
//!
//! Owns the pairing of two folders (who makes whom, and what is refused) and the restoring of an identity that one of them lost.
//! Refuses to know frames: which copy holds what is `copies.rs`, making them alike again is `rebuild.rs`.
//!
//! ```text
//!   directory | mirror     what happens
//!   new       | new        both are made, for one engine
//!   ours      | new        the mirror is made; recovery copies the journal there before anything is served
//!   new       | ours       refused, unless it is said that the disk was replaced: then the directory is made from its mirror
//!   ours      | ours       opened; ours | another engine's: refused
//! ```
//!
//! A mirror is a data directory by itself (identity, lock, witness, journal; its `checkpoints/` stays empty): when the first disk is
//! gone for good, an engine starts on it.

use std::sync::Arc;

use crate::device::Device;
use crate::directory::{
    DataDirectory, DirectoryError, IDENTITY_PATH, Identity, create, look, make_folders, prepare, take_lock,
    write_identity,
};
use crate::problem::Problem;
use crate::witness::{self, WitnessFailure};

impl DataDirectory {
    /// As [`DataDirectory::create_or_open`], with a second copy of the journal on another device. Takes the locks of both.
    ///
    /// # Errors
    /// [`DirectoryError`], of either; `OtherMirror` when they belong to two engines; `OnlyMirror` when the directory is new, its mirror is
    /// not, and `empty` refuses that.
    pub fn create_or_open_mirrored(
        device: Arc<dyn Device>,
        mirror: Arc<dyn Device>,
        empty: EmptyDirectory,
        make: impl FnOnce() -> Identity,
    ) -> Result<Self, DirectoryError> {
        let devices = vec![device, mirror];
        let seen = Found::on(&devices)?;
        seen.check_empty(&devices, empty)?;
        let mut locks = Vec::with_capacity(devices.len());
        for (device, state) in devices.iter().zip(seen.states) {
            if state != State::Damaged {
                prepare(&**device)?;
            }
            locks.push(take_lock(&**device)?);
        }
        // Whoever held a lock until now may have made or filled what was looked at before.
        let found = Found::on(&devices)?;
        found.check_empty(&devices, empty)?;
        let identity = found.identity.clone().unwrap_or_else(make);
        for (at, (device, state)) in devices.iter().zip(found.states).enumerate() {
            match state {
                State::Whole => make_folders(&**device)?,
                State::New => {
                    let other = found.states[1 - at] != State::New;
                    drop(create(&**device, identity.clone(), other.then_some(&*devices[1 - at]))?);
                }
                State::Damaged => {
                    make_folders(&**device)?;
                    write_identity(&**device, &identity)?;
                }
            }
        }
        let notes = found.notes(&devices);
        Ok(Self::of_parts(devices, identity, locks, notes))
    }

    /// As [`DataDirectory::open_read_only`], with a second copy of the journal.
    ///
    /// # Errors
    /// [`DirectoryError`], of either.
    pub fn open_read_only_mirrored(device: Arc<dyn Device>, mirror: Arc<dyn Device>) -> Result<Self, DirectoryError> {
        let devices = vec![device, mirror];
        let missing = DirectoryError::Missing { directory: devices[0].display("") };
        let found = Found::on(&devices)?;
        let notes = found.notes(&devices);
        let identity = found.identity.ok_or(missing)?;
        Ok(Self::of_parts(devices, identity, Vec::new(), notes))
    }
}

/// What is to be done with an empty data directory beside a mirror that holds a journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EmptyDirectory {
    /// Refuse: a disk may not be mounted, and the mirror may have been left behind.
    #[default]
    Refuse,
    /// Make the directory from its mirror.
    FromMirror,
}

/// How the identity of one folder is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    Whole,
    /// Not readable or not there, and the other folder has it.
    Damaged,
}

struct Found {
    identity: Option<Identity>,
    states: [State; 2],
}

impl Found {
    /// Looks at both, and changes nothing.
    fn on(devices: &[Arc<dyn Device>]) -> Result<Self, DirectoryError> {
        let other =
            || DirectoryError::OtherMirror { directory: devices[0].display(""), mirror: devices[1].display("") };
        let state = |identity: &Option<Identity>| if identity.is_some() { State::Whole } else { State::New };
        match (look(&*devices[0]), look(&*devices[1])) {
            (Ok(Some(first)), Ok(Some(second))) if first != second => Err(other()),
            (Ok(first), Ok(second)) => {
                let states = [state(&first), state(&second)];
                Ok(Self { identity: first.or(second), states })
            }
            (Err(error), Ok(Some(identity))) if is_lost(&*devices[0], &error, &identity) => {
                Ok(Self { identity: Some(identity), states: [State::Damaged, State::Whole] })
            }
            (Ok(Some(identity)), Err(error)) if is_lost(&*devices[1], &error, &identity) => {
                Ok(Self { identity: Some(identity), states: [State::Whole, State::Damaged] })
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

impl Found {
    /// `OnlyMirror`, unless that is wanted.
    fn check_empty(&self, devices: &[Arc<dyn Device>], empty: EmptyDirectory) -> Result<(), DirectoryError> {
        let Some(identity) = self.identity.as_ref().filter(|_| self.states[0] == State::New) else { return Ok(()) };
        if empty == EmptyDirectory::FromMirror {
            return Ok(());
        }
        let read = witness::read(&*devices[1], identity.engine_id, false);
        let (seq, time) = read.map_or((0, 0), |read| (read.witness.durable_seq, read.witness.time));
        let (directory, mirror) = (devices[0].display(""), devices[1].display(""));
        Err(DirectoryError::OnlyMirror { directory, mirror, seq, time })
    }

    fn notes(&self, devices: &[Arc<dyn Device>]) -> Vec<Problem> {
        let damaged = devices.iter().zip(self.states).filter(|(_, state)| *state == State::Damaged);
        let note = |(device, _): (&Arc<dyn Device>, State)| {
            let what = "the identity of this folder is damaged or missing, the other copy has it";
            let step = "nothing to do: it is written again when the engine starts, or by a scrub";
            Problem::new(device.display(IDENTITY_PATH), 0, what, step)
        };
        damaged.map(note).collect()
    }
}

/// Whether a folder of this engine has lost nothing but its identity.
fn is_lost(device: &dyn Device, error: &DirectoryError, identity: &Identity) -> bool {
    let is_named = match error {
        DirectoryError::Corrupt { .. } => true,
        DirectoryError::NotOurs { .. } => {
            let ours = ["LOCK", "witness", "journal", "checkpoints", "identity.new"];
            let is_ours = |name: &String| ours.contains(&name.as_str()) || name.starts_with("catalogue");
            device.list("").is_ok_and(|names| names.iter().all(is_ours))
        }
        _ => false,
    };
    // Another engine's folder with a damaged identity stays as it is.
    is_named && !matches!(witness::read(device, identity.engine_id, false), Err(WitnessFailure::NotOurs))
}
