//! Bytes from outside: events and slots are read from any bytes, and what is taken in is valid.
//!
//! One file a target; the seeds are the golden files, so that damage falls on every field of every kind. How to run a fuzzer on
//! them: `docs/src/fuzzing.md`.

mod event;
mod golden;
mod history;
mod image;
