//! What the fuzz targets of all crates share.
//!
//! Owns how a target runs: its committed corpus, damage to it, noise; and how much memory a parser may take. Refuses to know any
//! format. A target is a test: [`target!`] with a name, the seeds of its corpus and a function of bytes that panics when a
//! promise is broken. The parser's file says what is promised; this crate adds that nothing panics, hangs or bloats (P12).
//!
//! ```text
//!  cargo test          seeds ─► are they in the corpus? ─► corpus ─► damage of each file, by a fixed seed ─► noise
//!  cargo bolero test   corpus ─► libFuzzer: mutation guided by coverage
//! ```
//! Linking it replaces the process's allocator by one that counts: for tests only.
#![forbid(unsafe_code)]

mod bound;
mod corpus;
mod damage;
mod run;

pub use bolero;
pub use bound::Bound;
pub use corpus::Seed;
pub use damage::damage;
pub use run::run;

/// Runs a fuzz target; the whole body of a `#[test]`. The corpus lies in `__fuzz__/<name>/corpus` beside the calling file.
///
/// `target!("frame", seeds, check)`: `seeds` makes the corpus's first files, `check` takes one input.
#[macro_export]
macro_rules! target {
    ($name:literal, $seeds:expr, $check:expr) => {{
        let location = $crate::bolero::TargetLocation {
            package_name: env!("CARGO_PKG_NAME"),
            manifest_dir: env!("CARGO_MANIFEST_DIR"),
            module_path: module_path!(),
            file: file!(),
            line: line!(),
            item_path: $crate::bolero::__item_path__!(),
            test_name: Some($name.to_owned()),
        };
        if location.should_run() {
            $crate::run(location, $seeds, $check);
        }
    }};
}
