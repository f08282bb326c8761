//! A client's rings: whoever waits for a reply is woken by it, and every reply comes once.
//!
//! Owns the models of `client.rs` and of `Touched`; the partition's side is its inbox and the delivery, without its turns.

use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use tp_core::outcome::Outcome;
use tp_core::reply::Reply;

use super::harness::{Explore, FOREVER, Shape, explore, parts, record};
use super::queues::Queues;
use crate::client::Client;
use crate::inbound::Touched;
use crate::shared::Shared;
use crate::sync::{Parker, Unparker};

/// Delivers what is in the inbox of a partition.
fn deliver(shared: &Shared, index: usize) {
    let mut touched = Touched::default();
    let inbound = shared.lanes[index].inbox.pop().expect("submitted before");
    inbound.reply_to.deliver(Reply::bare(Outcome::Approved), &mut touched);
    touched.wake();
}

/// `wait` says that it waits and then looks; a completion is pushed, and then it is seen whether somebody waits. Without both
/// fences each may miss the other, and the client sleeps beside its reply.
#[test]
fn a_client_that_waits_is_woken_by_its_reply() {
    explore("client wait", &Explore { queues: Queues::Stamped, preemptions: None }, || {
        let shared = parts(&Shape::of(1, &super::harness::Disk::default())).shared;
        let mut client = Client::new(Arc::clone(&shared), 2);
        client.submit(1, &record(0)).expect("room");
        let partition = loom::thread::spawn(move || deliver(&shared, 0));
        assert!(client.wait(FOREVER));
        let mut tags = Vec::new();
        client.poll(|tag, _| tags.push(tag));
        assert_eq!((tags, client.in_flight()), (vec![1], 0));
        partition.join().expect("no panic");
    });
}

/// Wakes whoever waits for a task to be run.
struct Runner(Unparker);

impl Wake for Runner {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The same by a task: it notes itself, says that it waits and then looks. That it is asked twice for the same reply, by two wakers, as
/// when it moves to another executor, changes nothing.
#[test]
fn a_task_that_waits_is_woken_by_its_reply() {
    explore("client task", &Explore { queues: Queues::Stamped, preemptions: None }, || {
        let shared = parts(&Shape::of(1, &super::harness::Disk::default())).shared;
        let mut client = Client::new(Arc::clone(&shared), 2);
        client.submit(1, &record(0)).expect("room");
        let partition = loom::thread::spawn(move || deliver(&shared, 0));
        let first = client.poll_ready(&mut Context::from_waker(Waker::noop()));
        let parker = Parker::new();
        let waker = Waker::from(Arc::new(Runner(parker.unparker().clone())));
        let mut is_ready = first.is_ready();
        while !is_ready {
            is_ready = client.poll_ready(&mut Context::from_waker(&waker)).is_ready();
            if !is_ready {
                parker.park();
            }
        }
        let mut tags = Vec::new();
        client.poll(|tag, _| tags.push(tag));
        assert_eq!((tags, client.in_flight()), (vec![1], 0));
        partition.join().expect("no panic");
    });
}

#[test]
fn two_partitions_complete_into_one_ring_and_the_client_gets_each_reply_once() {
    explore("client, two partitions", &Explore { queues: Queues::Stamped, preemptions: Some(3) }, || {
        let shared = parts(&Shape::of(2, &super::harness::Disk::default())).shared;
        let mut client = Client::new(Arc::clone(&shared), 2);
        let partitions = [0usize, 1].map(|index| {
            client.submit(index as u64, &record(u32::try_from(index).expect("small"))).expect("room");
            let shared = Arc::clone(&shared);
            loom::thread::spawn(move || deliver(&shared, index))
        });
        let mut tags = Vec::new();
        while client.in_flight() > 0 {
            assert!(client.wait(FOREVER));
            client.poll(|tag, _| tags.push(tag));
        }
        tags.sort_unstable();
        assert_eq!(tags, [0, 1]);
        for partition in partitions {
            partition.join().expect("no panic");
        }
    });
}
