//! From the drawing of a number to the reply: partitions, rings, writer, release.
//!
//! Owns the models of whole engines whose commands are records. DUR-1: no approval before its event is on the disk. SEQ-1: the
//! journal refuses a frame that does not follow, and counts its events. BND-1: no turn starts into a journal that has no more than its
//! reserve. Liveness: everybody is answered and every thread ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tp_core::ids::Seq;
use tp_core::outcome::Outcome;

use super::harness::{Disk, Explore, FOREVER, Parts, Shape, explore, parts, record, run_partition_until, start};
use super::queues::Queues;
use crate::client::Client;
use crate::crank::PartitionCrank;
use crate::writer_thread::WriterOrder;

/// Submits a record to each of these streams, starts the threads and takes all replies: outcome and number by tag.
fn run(shape: &Shape, streams: &[u32]) -> Vec<(Outcome, Seq)> {
    let parts = parts(shape);
    let mut client = Client::new(Arc::clone(&parts.shared), streams.len());
    for (tag, stream) in streams.iter().enumerate() {
        client.submit(tag as u64, &record(*stream)).expect("room");
    }
    let running = start(parts);
    let mut replies = vec![None; streams.len()];
    while client.in_flight() > 0 {
        assert!(client.wait(FOREVER));
        client.poll(|tag, reply| {
            let durable = shape.disk.seq();
            let is_early = reply.outcome.is_approval() && reply.seq > durable;
            assert!(!is_early, "DUR-1: event {} was acknowledged, {durable} is on the disk", reply.seq);
            let place = &mut replies[usize::try_from(tag).expect("small")];
            assert!(place.replace((reply.outcome, reply.seq)).is_none(), "answered twice");
        });
    }
    running.stop();
    replies.into_iter().map(|reply| reply.expect("answered")).collect()
}

/// As [`run`] for partitions with a record each, with fewer threads: the writer's is the model's own, each partition ends when
/// its reply has left, the last of them closes the writer, and the client looks in the end.
fn run_partitions(shape: &Shape) -> Vec<(Outcome, Seq)> {
    let Parts { shared, cranks, writer, sleeper, orders, .. } = parts(shape);
    let mut client = Client::new(Arc::clone(&shared), cranks.len());
    for stream in (0..).take(cranks.len()) {
        client.submit(0, &record(stream)).expect("room");
    }
    let left = Arc::new(AtomicUsize::new(cranks.len()));
    let partition = |crank: PartitionCrank| {
        let (shared, orders, left) = (Arc::clone(&shared), orders.clone(), Arc::clone(&left));
        loom::thread::spawn(move || {
            let index = crank.index();
            run_partition_until(crank, |shared| {
                let counters = &shared.lanes[index].counters;
                counters.events.load(Ordering::Relaxed) > 0 && counters.owed.load(Ordering::Relaxed) == 0
            });
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                orders.send(WriterOrder::Close).expect("room");
                shared.writer.wake();
            }
        })
    };
    let partitions: Vec<_> = cranks.into_iter().map(partition).collect();
    writer.run(&sleeper).expect("closed");
    for partition in partitions {
        partition.join().expect("no panic");
    }
    let mut replies = Vec::new();
    client.poll(|_, reply| replies.push((reply.outcome, reply.seq)));
    replies
}

fn all_are_approved(replies: &[(Outcome, Seq)], disk: &Disk) {
    assert!(replies.iter().all(|(outcome, _)| *outcome == Outcome::Approved), "{replies:?}");
    let mut numbers: Vec<_> = replies.iter().map(|(_, seq)| seq.0).collect();
    numbers.sort_unstable();
    let written: Vec<_> = disk.events().iter().map(|(seq, _)| *seq).collect();
    assert_eq!(numbers, written, "each has its own event");
}

#[test]
fn a_reply_leaves_after_its_event_is_durable_and_everybody_wakes_for_it() {
    explore("commit, one partition", &Explore { queues: Queues::Stamped, preemptions: Some(2) }, || {
        let disk = Disk::default();
        all_are_approved(&run(&Shape::of(1, &disk), &[0]), &disk);
    });
}

/// Two partitions draw numbers at once; the writer finds them in either order, and one of them with a gap before it.
#[test]
fn the_numbers_of_two_partitions_become_one_journal_without_gaps() {
    explore("commit, two partitions", &Explore { queues: Queues::Gated, preemptions: Some(1) }, || {
        let disk = Disk::default();
        all_are_approved(&run_partitions(&Shape::of(2, &disk)), &disk);
    });
}

/// The partition that finds too much in flight has nothing of its own at the writer: whose batch was committed is not who
/// waits for its room. Only its timer, 5 ms later, made it look again.
#[test]
fn a_partition_that_was_put_off_for_anothers_events_is_woken_when_they_are_durable() {
    explore("put off", &Explore { queues: Queues::Gated, preemptions: Some(1) }, || {
        let disk = Disk::default();
        let shape = Shape { in_flight: 1, ..Shape::of(2, &disk) };
        all_are_approved(&run_partitions(&shape), &disk);
    });
}

/// POI-1: an append fails. What it held is answered `in_progress`, what comes later is refused, and nobody hangs.
#[test]
fn a_failed_append_acknowledges_nothing_and_everybody_is_told() {
    explore("poison", &Explore { queues: Queues::Gated, preemptions: Some(2) }, || {
        let disk = Disk::failing_at(1);
        let replies = run(&Shape::of(1, &disk), &[0, 0]);
        assert_eq!(disk.seq(), Seq::ZERO);
        let told = [Outcome::InProgress, Outcome::SystemError];
        assert!(replies.iter().all(|(outcome, _)| told.contains(outcome)), "{replies:?}");
        assert_eq!(replies[0].0, Outcome::InProgress, "it was decided");
    });
}

/// BND-1: the second turn may start as soon as the first's event is no longer in flight. By then it has to know that the journal
/// took it and has no more than its reserve left.
#[test]
fn what_is_durable_makes_no_room_that_the_journal_has_not() {
    explore("room", &Explore { queues: Queues::Gated, preemptions: Some(2) }, || {
        let disk = Disk::with_room_for(1);
        let shape = Shape { in_flight: 1, turn_commands: 1, ..Shape::of(1, &disk) };
        let replies = run(&shape, &[0, 0]);
        let outcomes = [replies[0].0, replies[1].0];
        assert_eq!(outcomes, [Outcome::Approved, Outcome::NoSpace], "BND-1: {} frames' events are there", disk.seq());
    });
}
