//! Lines that could be broken without a test that noticed: each story here fails when its line is.

use std::collections::BTreeSet;

use tp_core::amount::Amount;
use tp_core::command::{Command, Refund, RefundTarget};
use tp_core::event::{Body, Event, Role};
use tp_core::ids::{AccountId, Seq, SlotIndex};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::partition::ASKS_MAX;
use tp_core::rules::{Rules, Windows};
use tp_core::slot::Slot;

use crate::bank::{Bank, START, account, authorize, capture, increment, transfer, void};
use crate::harness::{SEED, World};

/// A payer in partition 0, payees in slots of their own in partition 1, each paid once: its slot remembers the answer.
fn paid(payees: usize) -> World {
    let mut bank = Bank::new(2, Rules::default());
    let payer = account(0, 0);
    bank.open(payer);
    let mut slots = BTreeSet::new();
    let mut ids = (0..).map(|n| account(1, n)).filter(|id| slots.insert(SEED.slot_of(*id)));
    for id in ids.by_ref().take(payees) {
        bank.open(id);
        let command = transfer(bank.key(), payer, id, 1);
        bank.approved(command);
    }
    bank.world
}

/// While nobody answers, each call asks the next ones, and after the last the first again; also after a restart.
#[test]
fn an_idle_partition_goes_on_asking_where_it_stopped() {
    let mut world = paid(2 * ASKS_MAX + 5);
    for round in 0..2 {
        let asks: Vec<Vec<(SlotIndex, SlotIndex)>> = (0..4).map(|_| world.asks(1)).collect();
        let lengths: Vec<usize> = asks.iter().map(Vec::len).collect();
        assert_eq!(lengths[..2], [ASKS_MAX, ASKS_MAX], "round {round}");
        let distinct: BTreeSet<_> = asks[..3].iter().flatten().collect();
        assert_eq!(distinct.len(), 2 * ASKS_MAX + 5, "round {round}: everybody is asked within three calls");
        let twice: BTreeSet<_> = asks[..2].iter().flatten().collect();
        assert_eq!(twice.len(), 2 * ASKS_MAX, "round {round}: nobody is asked again before all were");
        let ascending = asks[..2].concat();
        assert!(ascending.is_sorted(), "round {round}: nobody is left out: {ascending:?}");
        assert!(world.crash(2).is_empty());
    }
    world.idle();
    world.idle();
    world.idle();
    assert_eq!(world.asks(1), [], "all were told what to forget");
}

/// Everything decided strictly before its deadline is executed; at the deadline nothing is.
#[test]
fn a_command_whose_deadline_is_now_is_too_late() {
    let mut bank = Bank::new(2, Rules::default());
    let (payer, payee) = (account(0, 0), account(1, 0));
    bank.open(payer);
    bank.open(payee);
    bank.world.monotonic_ms = 100;
    let before = bank.world.journal.len();
    let late = bank.world.submit_until(authorize(Key::opaque(10), payer, 5), 100);
    bank.world.settle();
    assert_eq!(bank.reply(late).map(|r| r.outcome), Some(Outcome::DeadlineExceeded));
    assert_eq!(bank.world.journal.len(), before, "it did nothing");
    let in_time = bank.world.submit_until(authorize(Key::opaque(10), payer, 5), 101);
    bank.world.settle();
    assert_eq!(bank.reply(in_time).map(|r| r.outcome), Some(Outcome::Approved));
}

#[test]
fn whoever_waits_is_answered_at_the_deadline_and_not_before() {
    let mut bank = Bank::new(2, Rules::default());
    let (payer, payee) = (account(0, 0), account(1, 0));
    bank.open(payer);
    bank.open(payee);
    let hold = bank.hold(Key::opaque(3), payer, 100);
    let mut turn = |command: Command| {
        let ticket = bank.world.submit_until(command, 200);
        bank.world.decide(0, usize::MAX, usize::MAX, usize::MAX);
        bank.world.ticket(0);
        ticket
    };
    let decided = turn(capture(Key::opaque(10), hold, payee, 40));
    let waiting = turn(void(Key::opaque(11), hold));
    for (now, said) in [(199, [None, None]), (200, [Some(Outcome::InProgress), Some(Outcome::DeadlineExceeded)])] {
        bank.world.monotonic_ms = now;
        bank.world.sweep();
        assert_eq!([decided, waiting].map(|t| bank.reply(t).map(|r| r.outcome)), said, "at {now}");
    }
    bank.world.settle();
    assert_eq!(bank.world.authorization(hold).map(|a| (a.captured, a.held)), Some((40, 60)), "the void did nothing");
}

/// What stands on the payer before a payment, distinct from all other numbers of its slot.
const SENT: u64 = 0x53_2233_4455;

/// The payer's slot before a payment of that amount, and the payment.
fn payment(amount: u64) -> (Vec<u8>, Event, Seq) {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    bank.approved(transfer(Key::opaque(3), payer, payee, SENT));
    let image = bank.world.slot(SEED.slot_of(payer)).expect("a slot").image(START);
    bank.approved(transfer(Key::opaque(4), payer, payee, amount));
    let seq = Seq(bank.world.journal.len() as u64);
    (image, bank.world.journal.pop().expect("the payment"), seq)
}

/// The slot with other debits on the payer.
fn with_debits(image: &[u8], payer: AccountId, debits: u128) -> Slot {
    let old = u128::from(SENT).to_le_bytes();
    let places = (0..image.len() - 16).step_by(8).filter(|at| image[*at..*at + 16] == old);
    let changed = places.filter_map(|at| {
        let mut changed = image.to_vec();
        changed[at..at + 16].copy_from_slice(&debits.to_le_bytes());
        Slot::from_image(&changed, SEED, Windows::default()).ok()
    });
    let posted = -debits.cast_signed();
    let mut found = changed.filter(|slot| slot.account(payer).is_some_and(|a| a.balances.posted == posted));
    found.next().expect("the debits stand in the image")
}

/// Sums end below 2^127, so that the difference of two is a number.
#[test]
fn a_sum_may_reach_the_end_of_its_range_and_not_leave_it() {
    let payer = account(0, 0);
    for (amount, fits) in [(9, true), (10, true), (11, false), (12, false)] {
        let (image, event, seq) = payment(amount);
        let mut slot = with_debits(&image, payer, (1 << 127) - 1 - 10);
        match slot.evolve(&event, seq, Role::Owner) {
            Ok(()) => {
                assert!(fits, "{amount}");
                let posted = slot.account(payer).expect("opened").balances.posted;
                assert_eq!(posted, -i128::MAX + 10 - i128::from(amount));
            }
            Err(error) => assert!(!fits && error.what.contains("range"), "{amount}: {error}"),
        }
    }
}

/// A refusal is remembered with what it refused: without it a statement, a history and the window of what was named miss it.
#[test]
fn a_refusal_names_what_the_command_named() {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    let hold = bank.hold(Key::opaque(3), payer, 100);
    let paid = bank.approved(capture(Key::opaque(4), hold, payee, 40)).transfer.expect("a capture has an id");
    let refund = |key, amount| {
        let target = RefundTarget::Capture(paid);
        Command::from(Refund { key, target, amount: Amount::from(amount), note: tp_core::command::Note::default() })
    };
    let refused = |bank: &mut Bank, command: Command| {
        let reply = bank.call(command.clone());
        assert!(!reply.outcome.is_approval(), "{command:?}");
        match &bank.world.journal.last().expect("an event").body {
            Body::Noted(noted) => (noted.target, noted.amount, bank.call(command).authorization),
            other => panic!("{}", other.name()),
        }
    };
    let amount = Amount::from;
    assert_eq!(refused(&mut bank, capture(Key::opaque(10), hold, payee, 61)), (hold.0, amount(61), Some(hold)));
    assert_eq!(refused(&mut bank, refund(Key::opaque(11), 41)), (paid.0, amount(41), None));
    assert_eq!(refused(&mut bank, transfer(Key::opaque(12), payer, AccountId(999_999), 7)).0, 999_999);
    bank.approved(void(Key::opaque(13), hold));
    let (target, _, named) = refused(&mut bank, void(Key::opaque(14), hold));
    assert_eq!((target, named), (hold.0, Some(hold)));
    let (target, _, named) = refused(&mut bank, increment(Key::opaque(15), hold, 5));
    assert_eq!((target, named), (hold.0, Some(hold)));
}
