//! Work of two partitions: whatever depends on an event has a higher number (J1).
//!
//! Owns the model of a transfer between accounts of two partitions, over the queues between them. The writer comes
//! after both: the order is in the numbers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tp_core::amount::Amount;
use tp_core::command::{Note, Transfer};
use tp_core::event::Body;
use tp_core::ids::AccountId;
use tp_core::key::Key;

use super::harness::{Disk, Explore, Parts, SEED, Shape, explore, ledger, parts, run_partition, run_partition_until};
use super::queues::Queues;
use crate::client::Client;
use crate::shared::{Shared, Stage};
use crate::writer_thread::WriterOrder;

/// An account of that partition of two.
fn account_of(partition: usize) -> AccountId {
    let found = (1..100).map(AccountId).find(|account| SEED.slot_of(*account).index() % 2 == partition);
    found.expect("half of all")
}

/// Events first into the ring, then messages: a crash between any two frames leaves no answer without its open.
#[test]
fn an_exchange_stands_in_the_journal_in_the_order_of_its_causes() {
    explore("exchange", &Explore { queues: Queues::Gated, preemptions: Some(4) }, || {
        let disk = Disk::holding(2);
        let accounts = vec![account_of(0), account_of(1)];
        let transfer = Transfer {
            key: Key::opaque(9),
            account: accounts[0],
            payee: accounts[1],
            ledger: ledger(),
            amount: Amount::from(5),
            note: Note::default(),
        };
        let Parts { shared, cranks, writer, sleeper, orders, .. } = parts(&Shape { accounts, ..Shape::of(2, &disk) });
        let mut client = Client::new(Arc::clone(&shared), 1);
        client.submit(0, &transfer.into()).expect("room");
        let mut cranks = cranks.into_iter();
        let [payer, payee] = [cranks.next(), cranks.next()].map(|crank| crank.expect("two"));
        let has_ended = |shared: &Shared| shared.lanes[0].counters.events.load(Ordering::Relaxed) == 2;
        let payer = loom::thread::spawn(move || {
            run_partition_until(payer, |shared| has_ended(shared) || shared.poison.is_set());
        });
        let payee = loom::thread::spawn(move || run_partition(payee));
        payer.join().expect("no panic");
        assert!(shared.poison.cause().is_none(), "{:?}", shared.poison.cause());
        shared.enter(Stage::Ended);
        payee.join().expect("no panic");
        orders.send(WriterOrder::Close).expect("room");
        writer.run(&sleeper).expect("closed");
        let order: Vec<_> = disk.events().iter().map(|(_, event)| step_of(&event.body)).collect();
        assert_eq!(order, ["open", "answer", "end"], "J1");
    });
}

fn step_of(body: &Body) -> &'static str {
    match body {
        Body::Opened(_) => "open",
        Body::Answered(_) => "answer",
        Body::Ended(_) => "end",
        _ => "something else",
    }
}
