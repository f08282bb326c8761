//! One target: under `cargo test` its corpus, damage to it and noise; under a fuzzer whatever the fuzzer says.
//!
//! Owns the order of inputs and the words of a failure, by which it can be had again; refuses to know formats.

use std::panic::RefUnwindSafe;
use std::time::Duration;

use bolero::{DefaultEngine, TargetLocation, TestTarget};

use crate::corpus::{self, Seed};
use crate::damage::damage;

/// Inputs of noise; bolero prints the seed of one that fails.
const NOISE: usize = 200;

/// Damaged inputs of a target under `cargo test`; `TPCORE_FUZZ_CASES` says otherwise.
const DAMAGED: u64 = 2_000;

/// Runs a target. Called by [`crate::target!`].
///
/// # Panics
/// When `check` does, or the corpus is not as it should be.
pub fn run(location: TargetLocation, seeds: fn() -> Vec<Seed>, check: impl Fn(&[u8]) + RefUnwindSafe) {
    if !cfg!(fuzzing) {
        let dir = location.work_dir().expect("the file of the target is there").join("corpus");
        let inputs = corpus::read(&dir, seeds());
        damaged(&inputs, &check);
    }
    // No limit of time: all of the corpus, on machines of any speed.
    let target = TestTarget::new(DefaultEngine::new(location)).with_test_time(Duration::MAX).with_iterations(NOISE);
    target.for_each(|input: &[u8]| check(input));
}

/// The same cases each time, spread evenly over the corpus.
fn damaged(inputs: &[Seed], check: &impl Fn(&[u8])) {
    let cases = std::env::var("TPCORE_FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(DAMAGED);
    for case in 0..cases {
        let index = |number: u64| usize::try_from(number % inputs.len() as u64).expect("an index");
        let (name, bytes) = &inputs[index(case)];
        let (_, other) = &inputs[index(case / 7 + 1)];
        let mut bytes = bytes.clone();
        damage(&mut bytes, other, case);
        let told = Told { name, case, bytes: &bytes };
        check(&bytes);
        drop(told);
    }
}

/// Says which case it is when the check panics.
struct Told<'a> {
    name: &'a str,
    case: u64,
    bytes: &'a [u8],
}

impl Drop for Told<'_> {
    #[allow(clippy::print_stderr, reason = "what a failing test has to say")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { name, case, bytes } = self;
            eprintln!("input: {name} damaged by seed {case}, {} bytes: {bytes:02x?}", bytes.len());
        }
    }
}
