//! The models' own proof: each known bug of the threads is switched on, and the model that answers for it must fail.
//!
//! Owns the table of bugs and models; refuses to share a process with a bug: each is looked for in a process of its own, since a
//! failed model leaves its threads where they are.

use std::process::Command;

use tp_planted::Bug;

use super::harness::PLANTED;

/// A bug, the model that must find it, and a word of what the model says.
const FOUND_BY: &[(Bug, &str, &str)] = &[
    (
        Bug::NumbersTorn,
        "commit::the_numbers_of_two_partitions_become_one_journal_without_gaps",
        "deadlock", // both have the first number, and the writer waits for the second for ever
    ),
    (Bug::MessageBeforeRing, "exchange::an_exchange_stands_in_the_journal_in_the_order_of_its_causes", "J1"),
    (Bug::WaitUnfenced, "client_ring::a_client_that_waits_is_woken_by_its_reply", "deadlock"),
    (Bug::WaitUnfenced, "client_ring::a_task_that_waits_is_woken_by_its_reply", "deadlock"),
    (Bug::ClosedLate, "lanes::a_command_that_comes_while_its_partition_ends_is_answered", "deadlock"),
    (Bug::RoomLate, "commit::what_is_durable_makes_no_room_that_the_journal_has_not", "BND-1"),
    (Bug::NudgeUnlocked, "durable_watch::a_poison_ends_the_wait_for_a_number_that_never_comes", "deadlock"),
    (
        Bug::RoomAfterWake,
        "commit::a_partition_that_was_put_off_for_anothers_events_is_woken_when_they_are_durable",
        "deadlock",
    ),
    // Two that the simulation finds as well.
    (Bug::AnswerEarly, "commit::a_reply_leaves_after_its_event_is_durable_and_everybody_wakes_for_it", "DUR-1"),
    (Bug::AbandonAcks, "commit::a_failed_append_acknowledges_nothing_and_everybody_is_told", "DUR-1"),
];

#[test]
fn every_bug_that_only_threads_show_is_found_by_its_model() {
    if !tp_planted::IS_ON {
        let reason = "no bugs are compiled in: run with `--features tp-planted/on`";
        assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "{reason}");
        let mut out = std::io::stderr().lock();
        let _ = std::io::Write::write_fmt(&mut out, format_args!("skipped: {reason}\n"));
        return;
    }
    for bug in Bug::INTERLEAVED {
        assert!(FOUND_BY.iter().any(|(listed, ..)| listed == bug), "no model answers for {}", bug.name());
    }
    for (bug, model, says) in FOUND_BY {
        let model = format!("models::{model}");
        let test = std::env::current_exe().expect("this program");
        let run = Command::new(test).args([&*model, "--exact", "--nocapture"]).env(PLANTED, bug.name()).output();
        let run = run.expect("it starts");
        let said = [run.stdout, run.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("running 1 test"), "there is no {model}");
        assert!(!run.status.success(), "{model} does not find {}: {}", bug.name(), bug.story());
        assert!(said.contains(says), "{model} fails for another reason than {}:\n{said}", bug.name());
    }
}
