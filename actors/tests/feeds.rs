//! Feeds see every durable event once and in order; cursors survive; the catalogue may be deleted under load.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::time::{Duration, Instant};

use common::{Workload, config_at, in_memory, open_accounts, run};
use tp_actors::Engine;
use tp_actors::tp_core::event::Body;
use tp_actors::tp_core::ids::Seq;
use tp_actors::tp_core::outcome::Outcome;

#[test]
fn a_feed_sees_every_event_once_in_order_and_ends_with_the_engine() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    let live = engine.events(Seq(1));
    let follower =
        std::thread::spawn(move || live.map(|item| item.map(|(seq, _)| seq.0)).collect::<Result<Vec<_>, _>>());
    open_accounts(&engine);
    run(&engine, &mut Workload::new(3), 1_500, 64);
    let closed = engine.close_blocking().expect("an orderly close");
    let seen = follower.join().expect("no panic").expect("no damage");
    assert_eq!(seen, (1..=closed.last_seq.0).collect::<Vec<_>>());
    let engine = Engine::open(config_at(dir.path(), 3)).expect("opens again");
    let old: Vec<_> = engine
        .events(Seq(100))
        .take(50)
        .map(|item| item.map(|(seq, _)| seq.0))
        .collect::<Result<_, _>>()
        .expect("no damage");
    assert_eq!(old, (100..150).collect::<Vec<_>>(), "events of before the restart");
}

#[test]
fn a_consumer_resumes_from_its_cursor_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
    assert_eq!(engine.cursor("webhooks").expect("answered"), None);
    open_accounts(&engine);
    let mut feed = engine.events(Seq(1));
    for _ in 0..25 {
        assert!(feed.next_timeout(Duration::from_secs(30)).expect("no damage").is_some());
    }
    engine.set_cursor("webhooks", feed.position()).expect("kept");
    drop(feed); // it reads the directory, and so holds its lock
    drop(engine);
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens again");
    let cursor = engine.cursor("webhooks").expect("answered").expect("kept");
    assert_eq!(cursor, Seq(26));
    let next = engine.events(cursor).next_timeout(Duration::from_secs(30)).expect("no damage").expect("an event");
    assert_eq!(next.0, Seq(26));
}

#[test]
fn a_feed_at_the_end_waits_and_then_says_that_nothing_came() {
    let engine = Engine::open(in_memory(1)).expect("opens");
    let mut feed = engine.events(Seq(1));
    assert!(feed.next_timeout(Duration::from_millis(1)).expect("no damage").is_none());
    let reply = engine.record(7, *b"a fact").wait();
    assert_eq!((reply.outcome, reply.seq), (Outcome::Approved, Seq(1)));
    let (seq, event) = feed.next_timeout(Duration::from_secs(30)).expect("no damage").expect("the record");
    assert_eq!(seq, Seq(1));
    assert!(matches!(&event.body, Body::Recorded(r) if r.stream == 7 && r.bytes == b"a fact"));
    engine.close_blocking().expect("an orderly close");
    assert!(feed.next().is_none(), "it ends with the engine");
}

#[test]
fn a_catalogue_deleted_under_load_is_made_again_and_nothing_else_happens() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    open_accounts(&engine);
    engine.set_cursor("kept", Seq(5)).expect("kept");
    let mut workload = Workload::new(4);
    run(&engine, &mut workload, 500, 64);
    std::fs::remove_dir_all(dir.path().join("catalogue")).expect("removed");
    let started = Instant::now();
    while engine.status().catalogue.rebuilds == 0 || engine.status().catalogue.lag_events > 0 {
        assert_eq!(run(&engine, &mut workload, 50, 32).len(), 50, "service goes on");
        assert!(started.elapsed() < Duration::from_mins(1), "{:?}", engine.status().catalogue);
        if engine.status().catalogue.rebuilds > 0 {
            std::thread::yield_now();
        }
    }
    assert_eq!(engine.cursor("kept").expect("answered"), Some(Seq(5)));
    common::assert_balanced(&engine);
    let closed = engine.close_blocking().expect("an orderly close");
    let rebuilt = tp_actors::rebuild_catalogue(dir.path()).expect("rebuilt by hand too");
    assert_eq!(rebuilt.last_seq, closed.last_seq);
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens again");
    assert_eq!(engine.cursor("kept").expect("answered"), Some(Seq(5)));
}
