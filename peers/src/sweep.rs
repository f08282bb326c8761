//! All damages of one engine, one at a time.
//!
//! Owns the loop: lay a pristine copy out, damage it, ask a reader; if that one was not refused, lay the same damage out again and
//! ask a reader who has the engine check itself first. Refuses to know formats.
//!
//! Invariant: the pristine copy reads as `Same` both ways before anything is damaged, else nothing would be measured.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::child::{Outcome, ask};
use crate::damage::{self, Damage, KINDS, Left};
use crate::engines::{Check, Engine, Failure};
use crate::image::Image;

/// Bits that are flipped when no stride is given, about.
const FLIPS: usize = 3_000;
/// Damages of each outcome that are kept as examples.
const EXAMPLES: usize = 3;

/// How to sweep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Every so many bits and lengths; `None`: so that about [`FLIPS`] bits are flipped.
    pub(crate) stride: Option<usize>,
    /// Readers at a time.
    pub(crate) jobs: usize,
    /// How long a reader may take.
    pub(crate) patience: Duration,
}

/// Damages of one kind, by what a reader got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// In the order of [`Outcome::ALL`].
    pub(crate) plain: [u64; 6],
    /// The same damages, read after the engine's own check. What was refused or hung without it is counted as before.
    pub(crate) checked: [u64; 6],
    /// Of those `lost` and `wrong`: more warnings were logged than of the pristine copy.
    pub(crate) warned: u64,
}

impl Counts {
    pub(crate) fn damages(&self) -> u64 {
        self.plain.iter().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.plain.iter_mut().zip(other.plain).for_each(|(sum, count)| *sum += count);
        self.checked.iter_mut().zip(other.checked).for_each(|(sum, count)| *sum += count);
        self.warned += other.warned;
    }
}

/// One damage whose outcome is worth a look.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) outcome: Outcome,
    pub(crate) file: String,
    pub(crate) damage: String,
    pub(crate) said: String,
}

/// Everything about one engine.
#[derive(Clone, Debug)]
pub(crate) struct Swept {
    pub(crate) engine: Engine,
    pub(crate) stride: usize,
    /// Name and bytes written, of every file.
    pub(crate) files: Vec<(String, usize)>,
    /// In the order of [`KINDS`].
    pub(crate) counts: [Counts; KINDS.len()],
    pub(crate) examples: Vec<Example>,
    /// Records missing, of every damage that lost some.
    pub(crate) missing: Vec<u64>,
}

impl Swept {
    /// Median and most of the records missing when some were; `None`: never.
    pub(crate) fn missing(&self) -> Option<(u64, u64)> {
        let mut sorted = self.missing.clone();
        sorted.sort_unstable();
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

/// Damages everything of one engine. `root` is a folder for this alone.
pub(crate) fn sweep(engine: Engine, root: &Path, options: Options) -> Result<Swept, Failure> {
    let written = root.join("written");
    fs::create_dir_all(&written)?;
    let image = engine.write(&written)?;
    fs::remove_dir_all(&written)?;
    let checks: &[Check] = if engine.has_check() { &[Check::Plain, Check::Integrity] } else { &[Check::Plain] };
    let mut warnings = 0;
    for check in checks {
        let folder = root.join("pristine");
        image.lay(&folder, usize::MAX, None)?;
        let answer = ask(engine, &folder, *check, options.patience)?;
        if answer.outcome != Outcome::Same {
            return Err(format!("{}: a sound directory reads as {answer:?}", engine.name()).into());
        }
        if *check == Check::Plain {
            warnings = answer.warnings;
        }
    }
    let stride = options.stride.unwrap_or_else(|| (image.written() * 8 / FLIPS) | 1);
    let files = image.files.iter().map(|file| (file.path.display().to_string(), file.written.len())).collect();
    let swept = Swept { engine, stride, files, counts: Default::default(), examples: Vec::new(), missing: Vec::new() };
    let work = Work { image, all: Vec::new(), warnings, next: AtomicUsize::new(0), swept: Mutex::new(swept), options };
    let work = Work { all: damage::all(&work.image, stride), ..work };
    let ended = std::thread::scope(|scope| {
        let readers = (0..options.jobs.max(1)).map(|job| {
            let (work, folder) = (&work, root.join(format!("reader-{job}")));
            scope.spawn(move || work.until_done(engine, &folder).map_err(|error| error.to_string()))
        });
        let readers: Vec<_> = readers.collect();
        readers.into_iter().try_for_each(|reader| reader.join().unwrap_or(Err("a panic".into())))
    });
    ended?;
    Ok(work.swept.into_inner().map_err(|_| "a panic")?)
}

struct Work {
    image: Image,
    all: Vec<(usize, Damage)>,
    /// What is logged of the pristine copy.
    warnings: u64,
    next: AtomicUsize,
    swept: Mutex<Swept>,
    options: Options,
}

impl Work {
    fn until_done(&self, engine: Engine, folder: &Path) -> Result<(), Failure> {
        while let Some((index, damage)) = self.all.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.one(engine, folder, *index, *damage)?;
        }
        Ok(())
    }

    fn one(&self, engine: Engine, folder: &Path, index: usize, damage: Damage) -> Result<(), Failure> {
        let file = &self.image.files[index];
        let changed = match damage.apply(file) {
            Left::Unchanged => return Ok(()),
            Left::Changed(changed) => Some(changed),
            Left::Missing => None,
        };
        self.image.lay(folder, index, changed.as_ref())?;
        let plain = ask(engine, folder, Check::Plain, self.options.patience)?;
        let mut checked = plain.outcome;
        if engine.has_check() && !matches!(plain.outcome, Outcome::Refused | Outcome::Hung) {
            self.image.lay(folder, index, changed.as_ref())?;
            checked = ask(engine, folder, Check::Integrity, self.options.patience)?.outcome;
        }
        let is_silent = matches!(plain.outcome, Outcome::Lost | Outcome::Wrong);
        let mut swept = self.swept.lock().map_err(|_| "a panic")?;
        let counts = &mut swept.counts[damage.kind()];
        counts.plain[plain.outcome as usize] += 1;
        counts.checked[checked as usize] += 1;
        counts.warned += u64::from(is_silent && plain.warnings > self.warnings);
        if plain.outcome == Outcome::Lost {
            swept.missing.push(plain.missing);
        }
        let are_few = swept.examples.iter().filter(|example| example.outcome == plain.outcome).count() < EXAMPLES;
        if plain.outcome != Outcome::Same && are_few {
            let (file, damage) = (file.path.display().to_string(), format!("{damage:?}"));
            swept.examples.push(Example { outcome: plain.outcome, file, damage, said: plain.said });
        }
        Ok(())
    }
}
