//! What an engine knows survives its end: orderly, at once, with exchanges open, with any number of partitions.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use common::{Workload, config_at, in_memory, lookup, open_accounts, run};
use tp_actors::{Config, Engine, StateDigest, VerifyStatus, View, ViewOptions, verify};

fn view(path: &std::path::Path, use_checkpoint: bool) -> View {
    View::open(path, ViewOptions { use_checkpoint, ..ViewOptions::default() }).expect("a good directory")
}

fn digest_of(path: &std::path::Path) -> StateDigest {
    view(path, false).digest()
}

#[test]
fn an_engine_in_memory_runs_the_life_cycle_and_balances() {
    let engine = Engine::open(in_memory(3)).expect("opens");
    open_accounts(&engine);
    let replies = run(&engine, &mut Workload::new(1), 2_000, 64);
    assert_eq!(replies.len(), 2_000, "everything is answered");
    let approved = replies.values().filter(|reply| reply.outcome.is_approval()).count();
    assert!(approved > 500, "{approved} of 2,000 approved");
    common::assert_balanced(&engine);
    let status = engine.status();
    assert_eq!(status.partitions.len(), 3);
    assert!(status.poison.is_none());
    engine.close_blocking().expect("an orderly close");
}

#[test]
fn a_closed_engine_opens_to_the_same_digest_with_any_number_of_partitions() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    open_accounts(&engine);
    run(&engine, &mut Workload::new(2), 3_000, 64);
    let digest = engine.digest().expect("running");
    let last_seq = engine.last_seq();
    let closed = engine.close_blocking().expect("an orderly close");
    assert_eq!(closed.last_seq, last_seq);
    assert_eq!(digest_of(dir.path()), digest, "a view");
    for (partitions, prefault_records) in [(1, 0), (2, 20_000), (4, 0), (8, 1)] {
        let config = Config { prefault_records, ..config_at(dir.path(), partitions) };
        let engine = Engine::open(config).expect("opens again");
        assert_eq!(engine.last_seq(), last_seq, "nothing was open: nothing is added");
        assert_eq!(engine.digest().expect("running"), digest, "{partitions} partitions");
        common::assert_balanced(&engine);
        engine.close_blocking().expect("an orderly close");
    }
    let report = verify(dir.path()).expect("verifies");
    assert_eq!((report.status, report.last_seq, report.digest), (VerifyStatus::Ok, last_seq.0, Some(digest)));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    let too_many = Config { prefault_records: (1 << 32) + 1, ..config_at(dir.path(), 1) };
    assert!(Engine::open(too_many).is_err(), "out of range");
}

#[test]
fn an_engine_stopped_at_random_points_with_exchanges_open_loses_nothing_it_said() {
    let mut open_exchanges = 0;
    for seed in 0..6 {
        let dir = tempfile::tempdir().expect("a directory");
        let mut workload = Workload::new(seed);
        let mut said = std::collections::BTreeMap::new();
        let engine = Engine::open(config_at(dir.path(), 3)).expect("opens");
        open_accounts(&engine);
        drop(engine);
        let mut exchanges_seen = 0;
        for round in 0..4u64 {
            let partitions = 1 + (seed + round) as usize % 4;
            let engine = Engine::open(config_at(dir.path(), partitions)).expect("opens again");
            said.extend(run(&engine, &mut workload, 200 + 37 * seed as usize, 32));
            // Some more that nobody waits for: the engine ends under them.
            let mut client = engine.client(256);
            for _ in 0..100 {
                let (tag, command) = workload.next();
                let _ = client.submit(tag, &command);
            }
            drop(engine);
            client.poll(|tag, reply| {
                workload.learn(tag, &reply);
                said.insert(tag, reply);
            });
            assert_eq!(client.in_flight(), 0, "everything is answered, if only `in_progress` or `stopping`");
            exchanges_seen += view(dir.path(), true).open_exchanges();
        }
        let engine = Engine::open(config_at(dir.path(), 2)).expect("opens again");
        let mut compared = 0;
        for (tag, reply) in said.iter().filter(|(_, reply)| reply.seq.0 > 0) {
            let Some(owner) = workload.owners.get(tag) else { continue };
            let known = lookup(&engine, *owner, *tag);
            assert_eq!((known.outcome, known.seq), (reply.outcome, reply.seq), "seed {seed}, key {tag}");
            compared += 1;
        }
        assert!(compared > 100, "seed {seed}: a run that compares nothing proves nothing");
        open_exchanges += exchanges_seen;
        common::assert_balanced(&engine);
        engine.close_blocking().expect("an orderly close");
        assert_eq!(verify(dir.path()).expect("verifies").status, VerifyStatus::Ok, "seed {seed}");
    }
    assert!(open_exchanges > 0, "no engine ended with an exchange open");
}
