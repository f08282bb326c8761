//! Messages that others have published, with what they say is in them.
//!
//! Sources: a terminal's 0800 and a switch's 0820, taken apart field by field in questions and answers on decoding ISO 8583
//! (stackoverflow.com, question 21282257 and its answers); the two bitmaps of the tool page "ISO8583 - Bit Map"
//! (chileoffshore.com/en/toolkits/iso8583-tools/show-bitmap).

use tp_iso8583::{DecodeError, Flaw, Layout, Message, Mti};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).expect("two digits")).collect()
}

fn check(layout: &Layout, wire: &[u8], mti: &str, elements: &[(usize, &str)]) {
    let mut message = Message::new(Mti::NONE);
    layout.decode(wire, &mut message).expect("a message");
    assert_eq!(message.mti().text(), mti);
    assert!(message.elements().eq(elements.iter().map(|(element, _)| *element)), "{message:?}");
    for (element, value) in elements {
        assert_eq!(message.text(*element), Some(*value), "element {element}");
    }
    let mut again = Vec::new();
    layout.encode(&message, &mut again).expect("it fits");
    assert_eq!(again, wire, "and back");
}

#[test]
fn a_terminals_packed_network_message_is_read_and_written() {
    let layout = Layout::named("1987-bcd").expect("it comes along");
    let wire = bytes("0800 2020000000800000 000000 000001 3239313130303031");
    check(&layout, &wire, "0800", &[(3, "000000"), (11, "000001"), (41, "29110001")]);
}

#[test]
fn a_switchs_sign_on_with_a_binary_bitmap_is_read_by_a_layout_that_says_so() {
    let text = include_str!("../layouts/1987-ascii.toml").replace("bitmap = \"hex\"", "bitmap = \"binary\"");
    let layout = Layout::parse(&text).expect("a layout");
    // Behind its frame's length and a header of ten characters.
    let wire = bytes(
        "30383230 80380000008100000400000000000000 333632393130 313032393537 31303331 3130303030303035
         303331 53553230313131303331313032393537323031313130333131303239353733 303031",
    );
    let elements = [
        (11, "362910"),
        (12, "102957"),
        (13, "1031"),
        (41, "10000005"),
        (48, "SU20111031102957201110311029573"),
        (70, "001"),
    ];
    check(&layout, &wire, "0820", &elements);
}

/// The elements that a bitmap announces: the first one that is missing is named, again and again, until all were there.
fn announced(bitmap: &str) -> Vec<usize> {
    let layout = Layout::named("1987-bcd").expect("it comes along");
    let (mut wire, mut found) = ([bytes("0100"), bytes(bitmap)].concat(), Vec::new());
    let mut message = Message::new(Mti::NONE);
    while let Err(DecodeError { element, flaw }) = layout.decode(&wire, &mut message) {
        // What is missing is filled with zeros, byte by byte: a length of zero is one, and so are digits.
        let is_missing = flaw == Flaw::Short || (element == 28 && flaw == Flaw::Characters);
        assert!(is_missing, "element {element}: {flaw:?}");
        if found.last() != Some(&element) {
            found.push(element);
        }
        // Fees begin with C or D, text is of characters; zeros are lengths and digits.
        let is_first = wire.last().is_none_or(|last| *last != b'C');
        wire.push(match element {
            28 if is_first => b'C',
            39 | 41 | 42 | 50 => b'0',
            _ => 0,
        });
    }
    found
}

#[test]
fn bitmaps_announce_the_elements_that_others_read_in_them() {
    assert_eq!(announced("4210001102C04804"), [2, 7, 12, 28, 32, 39, 41, 42, 50, 53, 62]);
    assert_eq!(announced("C000000000000001 0000000000000003"), [2, 64, 127, 128]);
}
