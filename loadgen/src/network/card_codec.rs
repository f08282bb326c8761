//! Authorizations as card messages (ISO 8583).
//!
//! Owns the way from a command to a message and from an answer to a reply. An answer has no event's number and no authorization's id, so what
//! needs those is not sent here (the command line refuses it).
//!
//! ```text
//!   key (128 bits) ─► reference (37): 60 bits, terminal (41): 40 bits     STAN (11): the place among those in flight, which matches answers
//! ```
//! What is in doubt goes out again as 0101.

use std::time::Duration;

use tp_iso8583::{EncodeError, FRAME_HEAD_BYTES, Layout, Message, Mti, frame_into, frame_length};
use tpcore::{Amount, Authorize, Command, Outcome, Reply};

use super::decode::Answer;
use super::links::{Codec, Taken};
use super::session::GIVE_UP;
use crate::plan::card_number;

/// Card messages in one layout.
pub(super) struct CardCodec {
    layout: Layout,
    message: Message,
}

impl CardCodec {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, message: Message::new(Mti::NONE) }
    }
}

impl Codec for CardCodec {
    const PLACES_MAX: usize = STANS;
    const NAMES_PLACES: bool = true;
    // Its key is made by the server of what the message says.
    const CAN_LOOK_UP: bool = false;

    fn answers_within(&self) -> Duration {
        GIVE_UP
    }

    fn carries(command: &Command) -> bool {
        matches!(command, Command::Authorize(_))
    }

    fn greet(&self, _: &mut Vec<u8>) {}

    fn put(&mut self, out: &mut Vec<u8>, tag: u64, command: &Command, is_repeat: bool) -> Result<(), String> {
        let Command::Authorize(command) = command else { return Err("a bug: no authorization".to_owned()) };
        let mti = Mti::from_digits(if is_repeat { *b"0101" } else { *b"0100" }).unwrap_or(Mti::NONE);
        fill(&mut self.message, mti, u32::try_from(tag & u64::from(u32::MAX)).unwrap_or(0), command);
        let put = frame_into(out, |out| self.layout.encode(&self.message, out));
        put.map_err(|error: EncodeError| format!("a card message does not fit the layout: {error}"))
    }

    fn take(&mut self, input: &[u8]) -> Result<Option<(usize, Taken)>, String> {
        let Some((head, rest)) = input.split_first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let Some(body) = rest.get(..frame_length(*head)) else { return Ok(None) };
        let decoded = self.layout.decode(body, &mut self.message);
        decoded.map_err(|error| format!("an answer cannot be read: {error}"))?;
        let (place, reply) = answered(&self.message)?;
        Ok(Some((FRAME_HEAD_BYTES + body.len(), Taken::Answer(place.into(), Answer::Reply(reply)))))
    }
}

/// Places in flight at most: STANs are six digits.
const STANS: usize = 999_999;

/// An authorization as a card message.
fn fill(message: &mut Message, mti: Mti, place: u32, command: &Authorize) {
    message.clear(mti);
    let bits = command.key.bits;
    let (mut reference, mut terminal) = ([0; 12], [0; 8]);
    base32(bits, &mut reference);
    base32(bits >> 60, &mut terminal);
    message.set(2, &card_number(command.account));
    message.set(3, b"000000");
    message.set(4, &digits::<12>(command.amount.get()));
    message.set(7, b"0101000000");
    message.set(11, &digits::<6>(u128::from(place) + 1));
    message.set(13, b"0101");
    message.set(32, b"12345");
    message.set(37, &reference);
    message.set(41, &terminal);
    message.set(49, b"978");
}

/// Five bits a character, the lowest first.
fn base32(mut bits: u128, out: &mut [u8]) {
    for place in out {
        *place = b"0123456789ABCDEFGHIJKLMNOPQRSTUV"[usize::try_from(bits & 31).unwrap_or(0)];
        bits >>= 5;
    }
}

/// The last digits of a number.
fn digits<const N: usize>(number: u128) -> [u8; N] {
    // Amounts of 12 digits are below that; a division of 128 bits is a call.
    let mut number = u64::try_from(number % 1_000_000_000_000).unwrap_or(0);
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    digits
}

/// Whose answer it is, and what it says.
fn answered(message: &Message) -> Result<(u32, Reply), String> {
    let stan = message.number(11).and_then(|stan| u32::try_from(stan).ok()).filter(|stan| *stan > 0);
    let place = stan.ok_or("an answer has no STAN")? - 1;
    let outcome = match message.text(39).unwrap_or_default() {
        "00" => Outcome::Approved,
        "10" => Outcome::ApprovedPartially,
        "51" => Outcome::InsufficientFunds,
        "61" => Outcome::AmountLimit,
        "65" => Outcome::CountLimit,
        // Declined because it was late, and undone.
        "68" => Outcome::DeadlineExceeded,
        "91" => Outcome::Busy,
        other => return Err(format!("a card message was answered {other}")),
    };
    let amount = message.number(4).and_then(|amount| Amount::new(u128::from(amount))).unwrap_or(Amount::ZERO);
    let amount = if outcome.is_approval() { amount } else { Amount::ZERO };
    Ok((place, Reply { amount, ..Reply::bare(outcome) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{account, ledger};
    use tpcore::Key;

    fn authorize(bits: u128, amount: u64) -> Authorize {
        Authorize::new(Key::opaque(bits), account(7), ledger(), Amount::from(amount))
    }

    #[test]
    fn an_authorization_is_a_message_that_its_answer_leads_back_from() {
        let mut message = Message::new(Mti::NONE);
        fill(&mut message, Mti::from_digits(*b"0100").expect("digits"), 41, &authorize(u128::MAX, 1250));
        assert_eq!(message.text(2), Some("4000010000000076"));
        assert_eq!((message.text(4), message.text(11)), (Some("000000001250"), Some("000042")));
        assert_eq!((message.text(37), message.text(41)), (Some("VVVVVVVVVVVV"), Some("VVVVVVVV")));
        message.set(39, b"00");
        let (place, reply) = answered(&message).expect("an answer");
        assert_eq!((place, reply.outcome, reply.amount), (41, Outcome::Approved, Amount::from(1250)));
        message.set(39, b"30");
        assert_eq!(answered(&message).expect_err("no outcome"), "a card message was answered 30");
    }

    #[test]
    fn keys_that_differ_in_any_of_their_low_hundred_bits_differ_in_a_field() {
        let fields = |bits| {
            let mut message = Message::new(Mti::NONE);
            fill(&mut message, Mti::NONE, 0, &authorize(bits, 1));
            (message.text(37).map(str::to_owned), message.text(41).map(str::to_owned))
        };
        for bit in 0..100 {
            assert_ne!(fields(0), fields(1 << bit), "bit {bit}");
        }
    }
}
