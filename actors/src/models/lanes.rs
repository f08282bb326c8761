//! A partition's inbox: no command is forgotten, neither by a partition that rests nor by one that ends.
//!
//! Owns the models of `Shared::submit`, `PartitionWaker`, `WakeLoop` and the end of a crank.

use std::sync::Arc;

use tp_core::command::{Command, Read, ReadTarget};
use tp_core::ids::AccountId;
use tp_core::outcome::Outcome;

use super::harness::{Disk, Explore, FOREVER, Shape, explore, parts, run_partition};
use super::queues::Queues;
use crate::client::Client;
use crate::shared::Stage;

/// A command that makes no event, so that no writer is needed.
fn read() -> Command {
    Read { target: ReadTarget::Account(AccountId(1)) }.into()
}

fn outcome_of_next(client: &mut Client) -> Outcome {
    assert!(client.wait(FOREVER));
    let mut outcomes = Vec::new();
    client.poll(|_, reply| outcomes.push(reply.outcome));
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

/// The partition looks at its inbox, finds nothing and waits; the command comes at any moment of that.
#[test]
fn a_partition_that_rests_is_woken_by_a_command() {
    explore("inbox wake-up", &Explore { queues: Queues::Stamped, preemptions: Some(4) }, || {
        let shape = Shape { accounts: vec![AccountId(1)], ..Shape::of(1, &Disk::holding(1)) };
        let mut parts = parts(&shape);
        let crank = parts.cranks.pop().expect("one");
        let mut client = Client::new(Arc::clone(&parts.shared), 2);
        let partition = loom::thread::spawn(move || run_partition(crank));
        client.submit(1, &read()).expect("room");
        assert_eq!(outcome_of_next(&mut client), Outcome::Approved);
        parts.shared.enter(Stage::Ended);
        partition.join().expect("no panic");
    });
}

/// The partition says that it is closed and then empties its inbox; whoever pushes looks after it whether it is closed.
#[test]
fn a_command_that_comes_while_its_partition_ends_is_answered() {
    explore("inbox at the end", &Explore { queues: Queues::Stamped, preemptions: Some(6) }, || {
        let mut parts = parts(&Shape::of(1, &Disk::default()));
        let mut crank = parts.cranks.pop().expect("one");
        let mut client = Client::new(Arc::clone(&parts.shared), 2);
        parts.shared.enter(Stage::Ended);
        let partition = loom::thread::spawn(move || crank.run(1));
        client.submit(1, &read()).expect("room");
        assert_eq!(outcome_of_next(&mut client), Outcome::Stopping);
        partition.join().expect("no panic");
    });
}
