//! Bodies of responses as replies.
//!
//! Owns what the members mean; refuses to judge whether an answer is right. Strict: an amount that is no amount, an id that is
//! none, a member twice are errors. Members that are not known are skipped, so that a reply may grow. Texts are borrowed from the
//! buffer that they came in.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use tp_protocol::grpc;
use tpcore::{Amount, AuthorizationId, Balances, Date, Outcome, Reply, Seq, Time, TransferId, Version};

/// What a response says of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// A reply.
    Reply(Reply),
    /// The server's front turned it away (429, or 503 while it recovers): this submission did nothing, as with `busy`.
    TurnedAway,
    /// The server understands something else than the generator says, or does not let it: going on makes no sense.
    Refused(String),
}

impl Answer {
    /// What a command that was sent again so often has for its reply. That a submission did nothing says nothing of one before it whose
    /// connection broke.
    ///
    /// # Errors
    /// Why going on makes no sense; `None`: the server's front turned it away.
    pub(super) fn decided(self, repeats: u8) -> Result<Reply, Option<String>> {
        match self {
            Self::Reply(reply) if repeats > 0 && reply.outcome.leaves_at_once() => Ok(Reply::bare(Outcome::InProgress)),
            Self::Reply(reply) => Ok(reply),
            Self::TurnedAway => Err(None),
            Self::Refused(what) => Err(Some(what)),
        }
    }
}

/// The reply of a command that the server's front turned away after it was sent again so often.
pub(super) const fn turned_away(repeats: u8) -> Reply {
    Reply::bare(if repeats > 0 { Outcome::InProgress } else { Outcome::Busy })
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    status: Status,
    outcome: Option<&'a str>,
    #[serde(default)]
    repeated: bool,
    #[serde(default)]
    reversed: bool,
    amount: Option<&'a str>,
    #[serde(borrow)]
    balances: Option<WireBalances<'a>>,
    authorization: Option<&'a str>,
    transfer: Option<&'a str>,
    expires: Option<&'a str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    version: u64,
}

/// What a reply of a batch and a problem have as a number, and an account that is read as a text of its own.
#[derive(Clone, Copy, Default)]
struct Status(Option<u16>);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Status;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status code, or the status of an account")
            }
            fn visit_u64<E: de::Error>(self, code: u64) -> Result<Status, E> {
                u16::try_from(code).map(|code| Status(Some(code))).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, _: &str) -> Result<Status, E> {
                Ok(Status(None))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Balances as they are written: texts, `available` is `null` without a limit.
#[derive(Deserialize)]
pub(super) struct WireBalances<'a> {
    posted: &'a str,
    held: &'a str,
    available: Option<&'a str>,
}

impl WireBalances<'_> {
    /// As numbers; `None`: they are none.
    pub(super) fn read(&self) -> Option<Balances> {
        let available = self.available.map(signed);
        let available = if let Some(read) = available { Some(read?) } else { None };
        Some(Balances { posted: signed(self.posted)?, held: unsigned(self.held)?, available })
    }
}

#[derive(Deserialize)]
struct WireBatch<'a> {
    #[serde(borrow)]
    replies: Vec<Wire<'a>>,
}

/// The answer to one command.
///
/// # Errors
/// When the body is no reply and no problem.
pub(crate) fn single(status: u16, body: &[u8]) -> Result<Answer, String> {
    let wire: Wire<'_> = serde_json::from_slice(body).map_err(|error| unreadable(status, &error, body))?;
    answer(status, &wire, &|| excerpt(body))
}

/// The answers to a batch of so many commands, one by one in their order.
///
/// # Errors
/// When the body is not that.
pub(crate) fn batch(status: u16, body: &[u8], commands: usize, each: &mut dyn FnMut(Answer)) -> Result<(), String> {
    if status != 200 {
        // What the batch as a whole was answered holds for each of its commands.
        let all = single(status, body)?;
        (0..commands).for_each(|_| each(all.clone()));
        return Ok(());
    }
    let batch: WireBatch<'_> = serde_json::from_slice(body).map_err(|error| unreadable(status, &error, body))?;
    if batch.replies.len() != commands {
        return Err(format!("a batch of {commands} was answered with {} replies", batch.replies.len()));
    }
    for wire in &batch.replies {
        let status = wire.status.0.ok_or("a reply of a batch has no status")?;
        each(answer(status, wire, &|| excerpt(body))?);
    }
    Ok(())
}

fn unreadable(status: u16, error: &serde_json::Error, body: &[u8]) -> String {
    format!("a response ({status}) cannot be read: {error}: {}", excerpt(body))
}

/// The beginning of a body, for a message.
pub(super) fn excerpt(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(300)]).escape_debug().collect()
}

/// The answer of a message.
///
/// # Errors
/// When it is no reply and no problem.
pub(super) fn message(message: &grpc::Reply) -> Result<Answer, String> {
    let m = message;
    let balances = m.balances.as_ref().map(|balances| WireBalances {
        posted: &balances.posted,
        held: &balances.held,
        available: balances.available.as_deref(),
    });
    let status = u16::try_from(m.status).map_err(|_| format!("a reply has the status {}", m.status))?;
    let wire = Wire {
        status: Status(Some(status)),
        outcome: Some(&m.outcome),
        repeated: m.repeated,
        reversed: m.reversed,
        amount: (!m.amount.is_empty()).then_some(&*m.amount),
        balances,
        authorization: m.authorization.as_deref(),
        transfer: m.transfer.as_deref(),
        expires: m.expires.as_deref(),
        seq: m.seq,
        version: m.version,
    };
    answer(status, &wire, &|| format!("{m:?}"))
}

fn answer(status: u16, wire: &Wire<'_>, shown: &dyn Fn() -> String) -> Result<Answer, String> {
    let outcome = match wire.outcome {
        Some("approved") => Outcome::Approved,
        Some(name) => match Outcome::ALL.iter().find(|outcome| outcome.name() == name) {
            Some(outcome) => *outcome,
            None if matches!(status, 429 | 503) => return Ok(Answer::TurnedAway),
            None => return Ok(Answer::Refused(format!("{name} ({status}): {}", shown()))),
        },
        // A read shows an account, and no decision.
        None if status == 200 && wire.balances.is_some() => Outcome::Approved,
        None => return Ok(Answer::Refused(format!("status {status}: {}", shown()))),
    };
    let reply = reply(outcome, wire).map_err(|member| format!("a reply has no {member} that can be: {}", shown()))?;
    Ok(Answer::Reply(reply))
}

/// The reply, or the member that is wrong.
fn reply(outcome: Outcome, wire: &Wire<'_>) -> Result<Reply, &'static str> {
    fn member<T>(
        text: Option<&str>,
        read: impl Fn(&str) -> Option<T>,
        name: &'static str,
    ) -> Result<Option<T>, &'static str> {
        text.map(|text| read(text).ok_or(name)).transpose()
    }
    let amount = member(wire.amount, |text| unsigned(text).and_then(Amount::new), "amount")?.unwrap_or_default();
    let balances = wire.balances.as_ref().map(|balances| balances.read().ok_or("balances")).transpose()?;
    let authorization =
        member(wire.authorization, |text| uuid(text).and_then(AuthorizationId::from_bits), "authorization")?;
    let transfer = member(wire.transfer, |text| uuid(text).and_then(TransferId::from_bits), "transfer")?;
    Ok(Reply {
        repeated: wire.repeated,
        reversed: wire.reversed,
        amount,
        balances,
        authorization,
        transfer,
        expires: member(wire.expires, time, "expires")?,
        seq: Seq(wire.seq),
        version: Version(wire.version),
        ..Reply::bare(outcome)
    })
}

/// Decimal digits, no sign, no leading zeros.
pub(super) fn unsigned(text: &str) -> Option<u128> {
    let is_canonical = text == "0" || !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| is_canonical)
}

/// Likewise with a minus sign where it is below zero.
fn signed(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_canonical = unsigned(digits).is_some_and(|n| n > 0 || digits.len() == text.len());
    text.parse().ok().filter(|_| is_canonical)
}

/// The usual form: 8-4-4-4-12 hexadecimal digits.
fn uuid(text: &str) -> Option<u128> {
    let mut bits = 0_u128;
    for (index, byte) in text.bytes().enumerate() {
        if matches!(index, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
        } else {
            bits = bits << 4 | u128::from(char::from(byte).to_digit(16)?);
        }
    }
    (text.len() == 36).then_some(bits)
}

/// `2026-12-03T10:00:00.000Z`.
fn time(text: &str) -> Option<Time> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Date = date.parse().ok()?;
    let bytes = clock.as_bytes();
    let is_shaped = bytes.len() == 12 && bytes[2] == b':' && bytes[5] == b':' && bytes[8] == b'.';
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = clock.get(range)?;
        digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let (h, m, s, ms) = (number(0..2)?, number(3..5)?, number(6..8)?, number(9..12)?);
    let is_clock = h < 24 && m < 60 && s < 60;
    (is_shaped && is_clock).then(|| date.start().plus_ms(((h * 60 + m) * 60 + s) * 1000 + ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tpcore::SlotIndex;

    fn reply(body: &str) -> Reply {
        match single(201, body.as_bytes()) {
            Ok(Answer::Reply(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_is_read_member_by_member() {
        let at = Time(1_764_150_000_123);
        let id = AuthorizationId::new(at, SlotIndex::new(7).expect("a slot"), 42);
        let body = format!(
            r#"{{"outcome":"approved_partially","repeated":true,"reversed":false,"flags":["overdrawn"],"amount":"1250","asset":"EUR","scale":2,
            "balances":{{"posted":"-1000000","held":"1250","available":null}},"authorization":"{id}","expires":"{at}","seq":42,"version":3,"new":[{{}}]}}"#
        );
        let expected = Reply {
            repeated: true,
            amount: Amount::from(1250),
            balances: Some(Balances { posted: -1_000_000, held: 1250, available: None }),
            authorization: Some(id),
            expires: Some(at),
            seq: Seq(42),
            version: Version(3),
            ..Reply::bare(Outcome::ApprovedPartially)
        };
        assert_eq!(reply(&body), expected);
        for outcome in Outcome::ALL {
            assert_eq!(reply(&format!(r#"{{"outcome":"{outcome}"}}"#)), Reply::bare(*outcome));
        }
    }

    /// Once an account's own status was taken for the number of a problem, and no read could be understood.
    #[test]
    fn an_account_that_is_read_is_an_approval() {
        let body = r#"{"account":"1","status":"open","balances":{"posted":"5","held":"0","available":"5"},"seq":7,"version":2}"#;
        let read = |status| single(status, body.as_bytes());
        assert!(
            matches!(read(200), Ok(Answer::Reply(reply)) if reply.outcome == Outcome::Approved && reply.seq == Seq(7))
        );
        assert!(matches!(read(500), Ok(Answer::Refused(_))), "not when it is no success");
    }

    #[test]
    fn what_cannot_be_a_reply_is_an_error() {
        for bad in [
            "",
            "[]",
            "{\"outcome\":\"approved\"",
            "{\"outcome\":\"approved\"}x",
            r#"{"outcome":"approved","amount":1}"#,
            r#"{"outcome":"approved","amount":"-1"}"#,
            r#"{"outcome":"approved","amount":"+1"}"#,
            r#"{"outcome":"approved","amount":"01"}"#,
            r#"{"outcome":"approved","amount":""}"#,
            r#"{"outcome":"approved","amount":"79228162514264337593543950336"}"#,
            r#"{"outcome":"approved","outcome":"approved"}"#,
            r#"{"outcome":"approved","authorization":"00000000-0000-0000-0000-0000000000ff"}"#,
            r#"{"outcome":"approved","expires":"2026-12-03T10:00:00Z"}"#,
            r#"{"outcome":"approved","balances":{"posted":"-0","held":"0","available":"0"}}"#,
            r#"{"outcome":"approved","seq":-1}"#,
        ] {
            assert!(single(200, bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn back_pressure_is_told_from_what_makes_no_sense() {
        for (status, name) in [(429, "rate_limited"), (429, "too_many_in_flight"), (503, "recovering")] {
            let body = format!(r#"{{"title":"a \"title\"","outcome":"{name}"}}"#);
            assert_eq!(single(status, body.as_bytes()), Ok(Answer::TurnedAway));
        }
        for body in [r#"{"outcome":"unauthenticated"}"#, "{}"] {
            assert!(matches!(single(401, body.as_bytes()), Ok(Answer::Refused(_))), "{body}");
        }
    }

    #[test]
    fn a_batch_has_as_many_replies_as_commands() {
        let body = br#"{"replies":[{"status":201,"outcome":"approved"},{"status":503,"outcome":"busy"}]}"#;
        let mut told = Vec::new();
        batch(200, body, 2, &mut |answer| told.push(answer)).expect("reads");
        let expected = [Outcome::Approved, Outcome::Busy].map(|outcome| Answer::Reply(Reply::bare(outcome)));
        assert_eq!(told, expected);
        assert!(batch(200, body, 3, &mut |_| {}).is_err());
        let mut told = 0;
        batch(503, br#"{"outcome":"stopping"}"#, 3, &mut |_| told += 1).expect("reads");
        assert_eq!(told, 3, "what the whole was answered holds for each");
    }
}
