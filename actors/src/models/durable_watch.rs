//! The watch on the durable number: whoever waits sees what is published, and sees the end.
//!
//! Owns the models of [`crate::wake::Durable`], on which feeds, views, checkpoints and the catalogue wait.

use std::sync::Arc;

use tp_core::ids::Seq;

use super::harness::{Disk, Explore, Shape, explore, parts};
use super::queues::Queues;
use crate::error::PoisonCause;
use crate::wake::{Durable, DurablePoint};

const ALL: Explore = Explore { queues: Queues::Gated, preemptions: None };

#[test]
fn whoever_waits_for_a_number_is_woken_by_it_and_finds_it_published() {
    explore("durable watch", &Explore { queues: Queues::Gated, preemptions: Some(3) }, || {
        let durable = Arc::new(Durable::new(DurablePoint::default()));
        let waiters = [1, 2].map(|seq| {
            let durable = Arc::clone(&durable);
            loom::thread::spawn(move || {
                assert!(durable.wait(Seq(seq), None, || false));
                assert!(durable.seq() >= Seq(seq), "the copy does not lag behind for who was told");
                assert!(durable.point().time_max >= 10 * seq, "nor does the rest of the point");
            })
        });
        durable.publish(1, 10);
        durable.publish(2, 20);
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

/// What is written before a number is published is seen by who sees the number without waiting.
#[test]
fn a_number_that_is_seen_brings_what_was_written_before_it() {
    explore("durable copy", &ALL, || {
        let durable = Arc::new(Durable::new(DurablePoint::default()));
        let frame = loom::sync::Arc::new(loom::cell::Cell::new(0));
        let writer = {
            let (durable, frame) = (Arc::clone(&durable), frame.clone());
            loom::thread::spawn(move || {
                frame.set(7);
                durable.publish(1, 10);
            })
        };
        if durable.seq() >= Seq(1) {
            assert_eq!(frame.get(), 7);
        }
        writer.join().expect("no panic");
    });
}

/// The waiter tests under the lock whether all is over; whoever ends it takes the lock before it wakes.
#[test]
fn a_poison_ends_the_wait_for_a_number_that_never_comes() {
    explore("durable watch, poison", &ALL, || {
        let shared = parts(&Shape::of(1, &Disk::default())).shared;
        let waiter = {
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || shared.durable.wait(Seq(1), None, || shared.poison.is_set()))
        };
        shared.poison(PoisonCause::Panicked { thread: "a model".into(), message: String::new() });
        assert!(!waiter.join().expect("no panic"), "it never became durable");
    });
}
