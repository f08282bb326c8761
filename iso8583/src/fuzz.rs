//! What must hold for any bytes and any message.

use std::sync::OnceLock;

use proptest::prelude::*;
use tp_fuzz::{Bound, Seed};

use crate::element::{Characters, Extent};
use crate::{DecodeError, ELEMENTS, Flaw, Layout, Message, Mti};

fn layouts() -> &'static [Layout] {
    static LAYOUTS: OnceLock<Vec<Layout>> = OnceLock::new();
    LAYOUTS.get_or_init(|| Layout::names().map(|name| Layout::named(name).expect("it comes along")).collect())
}

fn empty(mti: [u8; 4]) -> Message {
    Message::new(Mti::from_digits(mti).expect("digits"))
}

/// A value that fits an element, from a number.
fn value(layout: &Layout, element: usize, random: u64) -> Option<Vec<u8>> {
    let spec = layout.element(element)?;
    let length = match spec.extent {
        Extent::Fixed(length) => length,
        Extent::Up { max, .. } => usize::try_from(random).unwrap_or(0) % (max + 1),
    };
    let of = |alphabet: &[u8], at: usize| {
        let mixed = random.wrapping_add(at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        alphabet[usize::try_from(mixed).unwrap_or(0) % alphabet.len()]
    };
    let byte = |at: usize| match spec.characters {
        Characters::Letters => of(b"ABz ", at),
        Characters::LettersDigits => of(b"AZaz09 ", at),
        Characters::Text => of(b"A ~!09", at),
        Characters::Binary => of(&[0, 1, 127, 128, 255], at),
        Characters::Track => of(b"0123456789=", at),
        Characters::SignedDigits if at == 0 => of(b"CD", at),
        Characters::Digits | Characters::SignedDigits => of(b"0123456789", at),
    };
    Some((0..length).map(byte).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn a_message_that_was_encoded_is_decoded_to_the_same(
        mti in 0u16..10_000,
        elements in prop::collection::btree_map(2usize..=ELEMENTS, any::<u64>(), 0..40),
    ) {
        for layout in layouts() {
            let digits: [u8; 4] = format!("{mti:04}").as_bytes().try_into().expect("four");
            let mut message = empty(digits);
            for (element, random) in &elements {
                if let Some(value) = value(layout, *element, *random) {
                    message.set(*element, &value);
                }
            }
            let mut bytes = Vec::new();
            layout.encode(&message, &mut bytes).expect("every value fits");
            let mut read = empty(*b"0000");
            prop_assert_eq!(layout.decode(&bytes, &mut read), Ok(()));
            prop_assert!(read == message, "{:?} became {:?}", message, read);
            // A shorter message is refused, and so is a longer one.
            for end in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
                let refused = layout.decode(&bytes[..end], &mut read).expect_err("it ends early");
                prop_assert_eq!(refused.flaw, Flaw::Short);
            }
            bytes.push(0);
            prop_assert_eq!(layout.decode(&bytes, &mut read).expect_err("too long").flaw, Flaw::Behind(1));
        }
    }
}

#[test]
fn an_element_that_has_other_characters_is_refused_by_its_number_and_what_came_before_stays() {
    let ascii = Layout::named("1987-ascii").expect("it comes along");
    let mut message = empty(*b"0000");
    // Elements 3, 4 and 11; the amount has a letter.
    let bytes = b"01003020000000000000000000" as &[u8];
    let bytes = [&bytes[..20], b"000000", b"00000000x100", b"000001"].concat();
    let refused = ascii.decode(&bytes, &mut message);
    assert_eq!(refused, Err(DecodeError { element: 4, flaw: Flaw::Characters }));
    assert_eq!(refused.expect_err("refused").to_string(), "element 4: it has characters that do not belong there");
    assert_eq!((message.mti().text(), message.text(3), message.get(4)), ("0100", Some("000000"), None));
}

#[test]
fn digits_that_are_no_digits_and_fillers_that_are_none_are_refused_when_packed() {
    let bcd = Layout::named("1987-bcd").expect("it comes along");
    let mut message = empty(*b"0000");
    let mut read = |bitmap: u64, rest: &[u8]| {
        let bytes = [&[1, 0], &bitmap.to_be_bytes()[..], rest].concat();
        bcd.decode(&bytes, &mut message).map_err(|error| error.flaw)
    };
    let (card, track) = (1 << 62, 1 << 29);
    assert_eq!(read(card, &[0x05, 0x01, 0x23, 0x45]), Ok(()));
    assert_eq!(read(card, &[0x05, 0x11, 0x23, 0x45]), Err(Flaw::Characters), "the filler is no zero");
    assert_eq!(read(card, &[0x05, 0x0A, 0x23, 0x45]), Err(Flaw::Characters));
    assert_eq!(read(card, &[0x0A, 0x01, 0x23, 0x45]), Err(Flaw::Characters), "the length is no number");
    assert_eq!(read(card, &[0x20]), Err(Flaw::Long));
    assert_eq!(read(track, &[0x05, 0x41, 0xD1, 0x2F]), Ok(()));
    assert_eq!(read(track, &[0x05, 0x41, 0xD1, 0x20]), Err(Flaw::Characters), "the filler is no F");
    assert_eq!(read(track, &[0x04, 0x41, 0xE1]), Err(Flaw::Characters));
}

/// What is taken for one message: packed digits take twice their bytes, in a buffer that doubles as it grows.
const BOUND: Bound = Bound { bytes: 256, per_byte: 4, turnover: 2 };

/// The first byte chooses the layout, the rest is the message.
fn seeds() -> Vec<Seed> {
    let mut message = empty(*b"0100");
    for (element, value) in [
        (2, "4111111111111111"),
        (3, "000000"),
        (4, "000000001000"),
        (7, "1127101010"),
        (11, "000001"),
        (35, "4111111111111111=25121010000"),
        (41, "TERMINAL"),
        (49, "978"),
        (90, "010000000111271010100000000000100000000000"),
        (97, "C0000000000000100"),
    ] {
        message.set(element, value.as_bytes());
    }
    let seed = |(index, layout): (usize, &Layout)| {
        let mut bytes = vec![u8::try_from(index).expect("few")];
        layout.encode(&message, &mut bytes).expect("it fits");
        (layout.name().to_owned(), bytes)
    };
    layouts().iter().enumerate().map(seed).collect()
}

/// Nothing panics, and what was read can be written and read again.
fn check(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let layouts = layouts();
    let layout = &layouts[usize::from(*which) % layouts.len()];
    let mut message = empty(*b"0000");
    if BOUND.hold(bytes.len(), || layout.decode(bytes, &mut message)).is_ok() {
        let mut again = Vec::new();
        layout.encode(&message, &mut again).expect("what was read can be written");
        let mut read = empty(*b"0000");
        layout.decode(&again, &mut read).expect("what was written can be read");
        // A track's separator has two forms as text and one when it is packed.
        assert!(read.elements().eq(message.elements()) && read.get(4) == message.get(4));
    }
}

#[test]
fn any_bytes_are_a_message_or_refused() {
    tp_fuzz::target!("iso8583-message", seeds, check);
}
