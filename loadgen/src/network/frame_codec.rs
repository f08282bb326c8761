//! Commands as frames of the binary door (`docs/src/frames.md`).
//!
//! Owns which field of a frame each member of a command is, and back. Refuses to send.

use std::time::Duration;

use tp_protocol::frames::{self, Frame, code, flag, reason, told, verb};
use tpcore::{
    AccountId, Amount, AuthorizationId, Balances, Command, KeyKind, Ledger, Outcome, RefundTarget, Reply, Seq, Time,
    TransferId, Version,
};
use zerocopy::IntoBytes as _;

use super::decode::Answer;
use super::encode::api_account;
use super::endpoint::BearerKey;
use super::links::{Codec, Taken};
use super::session::GIVE_UP;
use crate::plan::ledger;

/// Frames of one caller.
pub(super) struct FrameCodec {
    key: Option<BearerKey>,
    deadline_ms: u32,
    asset: String,
    ledger: Ledger,
}

impl FrameCodec {
    pub(super) fn new(key: Option<BearerKey>, deadline_ms: u64) -> Self {
        let deadline_ms = u32::try_from(deadline_ms).unwrap_or(u32::MAX);
        Self { key, deadline_ms, asset: ledger().asset(), ledger: ledger() }
    }

    fn with_amount(&self, frame: frames::Command, amount: Amount, ledger: Ledger) -> frames::Command {
        if ledger == self.ledger {
            frame.with_amount(amount.get(), &self.asset, ledger.scale())
        } else {
            frame.with_amount(amount.get(), &ledger.asset(), ledger.scale())
        }
    }

    /// The frame of a command; `None`: the generator does not speak it.
    fn frame(&self, tag: u64, command: &Command) -> Option<frames::Command> {
        let key = match command {
            Command::Lookup(lookup) => lookup.key,
            command => command.key()?,
        };
        let new = |verb| frames::Command::new(verb, tag, key.bits);
        let is_v7 = |kind: KeyKind| kind == KeyKind::UuidV7;
        let mut flags = if is_v7(key.kind) { flag::KEY_UUID_V7 } else { 0 };
        let mut set = |is_there: bool, flag: u16| {
            if is_there {
                flags |= flag;
            }
        };
        let account = |account: AccountId| api_account(account).into();
        let mut frame = match command {
            Command::Authorize(c) => {
                set(c.allow_partial, flag::ALLOW_PARTIAL);
                set(c.payee.is_some(), flag::PAYEE);
                set(c.lifetime_ms.is_some(), flag::LIFETIME);
                let mut frame = self.with_amount(new(verb::AUTHORIZE), c.amount, c.ledger);
                frame.account = account(c.account);
                frame.payee = c.payee.map_or(0, api_account).into();
                (frame.lifetime_ms, frame.tolerance_bp) = (c.lifetime_ms.unwrap_or(0).into(), c.tolerance_bp.into());
                frame
            }
            Command::Increment(c) => {
                set(true, flag::SUBJECT);
                set(c.lifetime_ms.is_some(), flag::LIFETIME);
                let mut frame = self.with_amount(new(verb::INCREMENT), c.amount, self.ledger);
                (frame.subject, frame.lifetime_ms) = (c.authorization.0.into(), c.lifetime_ms.unwrap_or(0).into());
                frame
            }
            Command::Capture(c) => {
                set(true, flag::SUBJECT | flag::PAYEE);
                set(c.is_final, flag::FINAL);
                let mut frame = self.with_amount(new(verb::CAPTURE), c.amount, self.ledger);
                (frame.subject, frame.payee) = (c.authorization.0.into(), account(c.payee));
                frame
            }
            Command::Void(c) => {
                set(true, flag::SUBJECT);
                let mut frame = new(verb::VOID);
                if let Some(amount) = c.amount {
                    frame = self.with_amount(frame, amount, self.ledger);
                }
                frame.subject = c.authorization.0.into();
                frame
            }
            Command::Refund(c) => {
                set(true, flag::SUBJECT);
                let mut frame = self.with_amount(new(verb::REFUND), c.amount, self.ledger);
                frame.subject = match c.target {
                    RefundTarget::Capture(id) => {
                        set(true, flag::CAPTURE);
                        id.0.into()
                    }
                    RefundTarget::Authorization(id) => id.0.into(),
                };
                frame
            }
            Command::Reverse(c) => {
                set(true, flag::SUBJECT);
                set(is_v7(c.original.kind), flag::ORIGINAL_UUID_V7);
                let mut frame = new(verb::REVERSE);
                if let Some(total) = c.new_total {
                    frame = self.with_amount(frame, total, self.ledger);
                }
                (frame.account, frame.subject) = (account(c.account), c.original.bits.into());
                frame
            }
            Command::Transfer(c) => {
                set(true, flag::PAYEE);
                let mut frame = self.with_amount(new(verb::TRANSFER), c.amount, c.ledger);
                (frame.account, frame.payee) = (account(c.account), account(c.payee));
                frame
            }
            Command::Lookup(c) => {
                set(c.fence, flag::FENCE);
                let mut frame = new(verb::LOOKUP);
                frame.account = account(c.account);
                frame
            }
            _ => return None,
        };
        frame.flags = (frame.flags.get() | flags).into();
        frame.deadline_ms = self.deadline_ms.into();
        Some(frame)
    }
}

impl Codec for FrameCodec {
    const PLACES_MAX: usize = u32::MAX as usize;
    const NAMES_PLACES: bool = false;
    const CAN_LOOK_UP: bool = true;

    /// By its deadline it is at least told that its outcome is open.
    fn answers_within(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into()) + GIVE_UP
    }

    fn carries(command: &Command) -> bool {
        !matches!(command, Command::Read(_) | Command::Record(_) | Command::OpenAccount(_))
    }

    fn greet(&self, out: &mut Vec<u8>) {
        frames::hello(out, self.key.as_ref().map_or("", BearerKey::expose).as_bytes());
    }

    fn put(&mut self, out: &mut Vec<u8>, tag: u64, command: &Command, _: bool) -> Result<(), String> {
        let frame = self.frame(tag, command).ok_or("a bug: a command that frames do not carry")?;
        out.extend_from_slice(frame.as_bytes());
        Ok(())
    }

    fn take(&mut self, input: &[u8]) -> Result<Option<(usize, Taken)>, String> {
        let Some((frame, bytes)) = Frame::read(input).map_err(|error| error.to_string())? else { return Ok(None) };
        let taken = match frame {
            Frame::Reply(reply) => Taken::Answer(reply.tag.get(), answer(reply)?),
            Frame::Welcome(_) => Taken::Nothing,
            Frame::Goodbye(reason @ (reason::STOPPING | reason::RECOVERING | reason::IDLE)) => {
                Taken::End(format!("the server ended the link, reason {reason}"))
            }
            Frame::Goodbye(reason) => return Err(format!("the server ended a link, reason {reason}")),
            Frame::Hello(..) | Frame::Command(_) => return Err("the server sent a caller's frame".to_owned()),
        };
        Ok(Some((bytes, taken)))
    }
}

/// What a reply says.
fn answer(f: &frames::Reply) -> Result<Answer, String> {
    match f.code {
        code::RATE_LIMITED | code::TOO_MANY_IN_FLIGHT => return Ok(Answer::TurnedAway),
        code @ 128.. => return Ok(Answer::Refused(format!("a command was answered {code} ({})", f.status.get()))),
        _ => {}
    }
    let wrong = |member: &str| format!("a reply has no {member} that can be: {f:?}");
    let outcome = Outcome::from_number(f.code).ok_or_else(|| wrong("code"))?;
    let balances = f.has(told::BALANCES).then(|| Balances {
        posted: f.posted.get(),
        held: f.held.get(),
        available: f.has(told::AVAILABLE).then(|| f.available.get()),
    });
    let authorization = f.has(told::AUTHORIZATION).then(|| AuthorizationId::from_bits(f.authorization.get()));
    let transfer = f.has(told::TRANSFER).then(|| TransferId::from_bits(f.transfer.get()));
    Ok(Answer::Reply(Reply {
        repeated: f.has(told::REPEATED),
        reversed: f.has(told::REVERSED),
        amount: Amount::new(f.amount.get()).ok_or_else(|| wrong("amount"))?,
        balances,
        authorization: authorization.map(|id| id.ok_or_else(|| wrong("authorization"))).transpose()?,
        transfer: transfer.map(|id| id.ok_or_else(|| wrong("transfer"))).transpose()?,
        expires: f.has(told::EXPIRES).then(|| Time(f.expires_ms.get())),
        seq: Seq(f.seq.get()),
        version: Version(f.version.get()),
        ..Reply::bare(outcome)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{account, payee};
    use tpcore::{Authorize, Capture, Key, Lookup, Note};

    #[test]
    fn a_command_is_a_frame_with_its_flags() {
        let mut codec = FrameCodec::new(None, 9);
        let authorize = Authorize {
            allow_partial: true,
            ..Authorize::new(Key::opaque(255), account(7), ledger(), Amount::from(5))
        };
        let mut out = Vec::new();
        codec.put(&mut out, 3, &authorize.into(), false).expect("it fits");
        let Ok(Some((Frame::Command(frame), 128))) = Frame::read(&out) else { panic!("no command: {out:?}") };
        assert_eq!((frame.verb, frame.tag.get(), frame.deadline_ms.get()), (verb::AUTHORIZE, 3, 9));
        assert_eq!((frame.key.get(), frame.account.get()), (255, api_account(account(7))));
        assert_eq!((frame.amount.get(), frame.asset_code(), frame.scale), (5, Some("EUR"), 2));
        assert_eq!(frame.flags.get(), flag::AMOUNT | flag::ALLOW_PARTIAL);
        let id = AuthorizationId::from_bits(0x0199_9999_9999_8001_8000_0000_0000_0001).expect("an id");
        let capture = Capture {
            key: Key { bits: 0x0199_9999_9999_7001_8000_0000_0000_0001, kind: KeyKind::UuidV7 },
            authorization: id,
            payee: payee(1),
            amount: Amount::from(4),
            is_final: true,
            note: Note::default(),
        };
        let frame = codec.frame(1, &capture.into()).expect("a capture");
        let flags = flag::AMOUNT | flag::SUBJECT | flag::PAYEE | flag::FINAL | flag::KEY_UUID_V7;
        assert_eq!((frame.flags.get(), frame.subject.get()), (flags, id.0));
        let lookup = Lookup { account: account(1), key: Key::opaque(1), fence: true };
        assert_eq!(codec.frame(1, &lookup.into()).expect("a lookup").flags.get(), flag::FENCE);
    }

    #[test]
    fn a_reply_is_read_and_what_cannot_be_is_an_error() {
        let mut frame = frames::Reply::new(41, Outcome::Approved as u8, 201);
        frame.flags = (told::SEQ | told::REPEATED | told::BALANCES).into();
        (frame.seq, frame.amount, frame.held) = (9.into(), 5.into(), 7.into());
        let Ok(Answer::Reply(reply)) = answer(&frame) else { panic!("no reply") };
        assert_eq!(
            (reply.outcome, reply.repeated, reply.seq, reply.amount),
            (Outcome::Approved, true, Seq(9), Amount::from(5))
        );
        assert_eq!(reply.balances, Some(Balances { posted: 0, held: 7, available: None }));
        frame.flags = told::AUTHORIZATION.into();
        assert!(answer(&frame).is_err(), "an id of zeros");
        assert!(answer(&frames::Reply::new(1, 127, 200)).is_err());
        assert!(matches!(answer(&frames::Reply::new(1, code::RATE_LIMITED, 429)), Ok(Answer::TurnedAway)));
        assert!(matches!(answer(&frames::Reply::new(1, code::INVALID, 400)), Ok(Answer::Refused(_))));
    }
}
