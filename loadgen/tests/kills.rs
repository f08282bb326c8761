//! Fifty processes killed on one directory (P1): whatever they acknowledged is in the journal. `tp-sim kills` takes more.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::path::Path;

#[test]
fn fifty_kills_lose_nothing_that_was_acknowledged() {
    let place = tempfile::tempdir().expect("a directory");
    let done =
        tp_sim::kills::run(Path::new(env!("CARGO_BIN_EXE_tp-loadgen")), place.path(), 50, 1).expect("nothing lost");
    println!("{done:?}");
    assert_eq!(done.kills, 50);
    assert!(done.acknowledged > 5_000, "most of them served for a while: {done:?}");
    assert!(done.before_service > 0 && done.before_service < 25, "some were killed while they started: {done:?}");
}
