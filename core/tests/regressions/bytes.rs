//! Bytes from outside that were believed: slot images and events whose numbers no engine of ours writes.

use std::panic::catch_unwind;

use tp_core::amount::{Amount, CreditLimit};
use tp_core::codec::{EventBytes, decode, encode};
use tp_core::command::{Limits, PeriodLimit, Settings};
use tp_core::key::Key;
use tp_core::rules::{Rules, Windows};
use tp_core::slot::Slot;

use crate::bank::{Bank, START, account, capture, open_account, settings, transfer};
use crate::harness::SEED;

/// Amounts whose bytes stand out in an image.
const HELD: u64 = 0x51_2233_4455;
const CAPTURED: u64 = 0x52_2233_4455;
const SENT: u64 = 0x53_2233_4455;

/// A slot with an open hold, a capture and an open exchange, the first of its slot: its number is 1, the next one is 2.
fn image() -> Vec<u8> {
    let mut bank = Bank::new(2, Rules::default());
    let (payer, payee, far) = (account(0, 0), account(0, 1), account(1, 0));
    for id in [payer, payee, far] {
        bank.open(id);
    }
    let id = bank.hold(Key::opaque(3), payer, HELD + CAPTURED);
    bank.approved(capture(Key::opaque(4), id, payee, CAPTURED));
    bank.start(transfer(Key::opaque(5), payer, far, SENT));
    let slot = bank.world.slot(SEED.slot_of(payer)).expect("a slot");
    assert_eq!(slot.open_exchanges(), 1);
    slot.image(START)
}

/// Whether the image is refused; a panic fails the test, and says where.
fn is_refused(image: &[u8], at: usize) -> bool {
    let read = catch_unwind(|| Slot::from_image(image, SEED, Windows::default()).is_err());
    read.unwrap_or_else(|_| panic!("the image with a changed number at byte {at} panics"))
}

/// At how many of the places where `old` stands in the image, putting `new` there is refused; and how many places there are.
fn refused_with<const N: usize>(image: &[u8], old: [u8; N], new: [u8; N]) -> (usize, usize) {
    let places = (0..=image.len() - N).step_by(8).filter(|at| image[*at..*at + N] == old);
    places.fold((0, 0), |(refused, all), at| {
        let mut changed = image.to_vec();
        changed[at..at + N].copy_from_slice(&new);
        (refused + usize::from(is_refused(&changed, at)), all + 1)
    })
}

#[test]
fn an_untouched_image_is_read() {
    assert!(!is_refused(&image(), 0));
}

/// Open exchanges stand in a queue from the oldest to the next number. A number far beyond asked for that much memory: a panic
/// on an overflowing capacity.
#[test]
fn an_image_with_a_huge_exchange_number_is_refused() {
    let image = image();
    for huge in [u64::MAX, u64::MAX - 1, 1 << 62, 1 << 40] {
        let (refused, _) = refused_with(&image, 2u64.to_le_bytes(), huge.to_le_bytes());
        assert!(refused >= 1, "next exchange {huge}");
        let (refused, _) = refused_with(&image, 1u64.to_le_bytes(), huge.to_le_bytes());
        assert!(refused >= 1, "open exchange {huge}");
    }
}

/// No word of an image, whatever it means, makes its reader panic.
#[test]
fn no_huge_number_in_an_image_panics() {
    let image = image();
    for at in (0..image.len() - 8).step_by(8) {
        for huge in [u64::MAX, 1 << 63, 1 << 40] {
            let mut changed = image.clone();
            changed[at..at + 8].copy_from_slice(&u64::to_le_bytes(huge));
            is_refused(&changed, at);
        }
    }
}

/// Amounts end below 2^96, sums below 2^127: arithmetic relies on it. What was read was believed, and sums of it overflowed.
#[test]
fn an_image_with_an_amount_out_of_range_is_refused() {
    let image = image();
    let wide = |amount: u64| u128::from(amount).to_le_bytes();
    for (name, amount, by) in [
        ("the account's debits", CAPTURED + SENT, 1),
        ("its sums of the day and of the month", HELD + CAPTURED + SENT, 2),
        ("the hold and the account's held sum", HELD, 2),
        ("what was authorized", HELD + CAPTURED, 1),
        ("the capture, its part from the hold and the sum of captures", CAPTURED, 3),
        ("the amount of the open exchange", SENT, 1),
    ] {
        for huge in [1 << 127, u128::MAX] {
            let (refused, places) = refused_with(&image, wide(amount), u128::to_le_bytes(huge));
            assert!(refused >= by, "{name}: {refused} of {places} places");
        }
    }
}

/// Numbers within their range that contradict each other: a hold of another size than its account's held sum, a capture that
/// is not what its authorization says (HLD-1, CAP-1).
#[test]
fn an_image_that_violates_an_invariant_is_refused() {
    let image = image();
    let wide = |amount: u64| u128::from(amount).to_le_bytes();
    for (name, amount, by) in [
        ("the hold and the account's held sum", HELD, 2),
        ("what was authorized", HELD + CAPTURED, 1),
        ("the capture, its part from the hold and the sum of captures", CAPTURED, 3),
    ] {
        for new in [amount + 1, amount - 1] {
            let (refused, places) = refused_with(&image, wide(amount), wide(new));
            assert!(refused >= by, "{name}: {refused} of {places} places");
        }
    }
}

/// A damaged event with a limit above 2^96 was decoded, and evolve made an account of it.
#[test]
fn settings_with_an_amount_above_two_to_the_96_do_not_decode() {
    let marks = [0x61_2233_4455, 0x62_2233_4455, 0x63_2233_4455, 0x64_2233_4455].map(|n: u128| Amount::new(n));
    let [credit, command_amount, day, month] = marks;
    let period = |amount| PeriodLimit { amount, ..PeriodLimit::default() };
    let limits = Limits { command_amount, day: period(day), month: period(month) };
    let credit_limit = CreditLimit::Amount(credit.expect("below 2^96"));
    let mut bank = Bank::new(1, Rules::default());
    bank.approved(open_account(Key::opaque(1), account(0, 0), Settings { credit_limit, limits, ..settings() }));
    let mut bytes = EventBytes::new();
    encode(&bank.world.journal[0], &mut bytes);
    for mark in marks.into_iter().flatten() {
        let mark = mark.get().to_le_bytes();
        let at = bytes.windows(16).position(|window| window == mark).expect("the amount is in the event");
        assert!(decode(&bytes).is_ok());
        bytes[at + 12] = 1;
        assert!(decode(&bytes).is_err(), "2^96 and more at byte {at}");
        bytes[at + 12] = 0;
    }
}

/// The amount that a remembered key carries was taken unseen, and its reversal would have tripped an assertion.
#[test]
fn a_key_with_an_amount_above_two_to_the_96_is_refused() {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    for account in [payer, payee] {
        bank.open(account);
    }
    bank.approved(transfer(Key::opaque(5), payer, payee, 0x51_2233_4455));
    bank.approved(transfer(Key::opaque(6), payer, payee, 1)); // the account's own sums are other numbers now
    let image = bank.world.slot(SEED.slot_of(payer)).expect("its slot").image(START);
    let (refused, places) = refused_with(&image, 0x51_2233_4455u128.to_le_bytes(), u128::MAX.to_le_bytes());
    assert!(places >= 1 && refused == places, "{refused} of {places} places");
}
