//! Frames to commands, and what was decided to frames.
//!
//! Owns which fields each verb has, and the codes of the server's own refusals. Refuses to decide: what a frame says is what the same members
//! say over HTTP, which the tests compare for every verb.

use std::borrow::Cow;

use http::StatusCode;
use tp_actors::tp_core::amount::{Amount, Ledger};
use tp_actors::tp_core::command::{
    Advice, Advise, Authorize, Capture, Command, Increment, Lookup, Note, Refund, RefundTarget, Reverse, Transfer,
    Verb, Void,
};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, TransferId, parse_uuid};
use tp_actors::tp_core::key::{Key, KeyKind};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_protocol::frames::{self, advice, code, flag, told, verb};

use crate::api::batch::{Done, is_answer};
use crate::api::command::Asked;
use crate::api::commands::status_of_approval;
use crate::api::key::key_of;
use crate::api::members::{Members, Text};
use crate::api::problem::{Problem, Refusal, status_of};
use crate::api::recorded::Recorded;
use crate::tenancy::TenantId;

/// Which fields a verb has.
struct Shape {
    verb: Verb,
    has_account: bool,
    /// Flags of fields that must be there.
    needs: u16,
    /// Flags that may be.
    may: u16,
    has_tolerance: bool,
}

const fn shape(verb: u8) -> Option<Shape> {
    use flag::{
        ALLOW_PARTIAL, AMOUNT, CAPTURE, FENCE, FINAL, KEY_UUID_V7, LIFETIME, ORIGINAL_UUID_V7, PAYEE, PAYEE_TENANT,
        SUBJECT,
    };
    let (verb, has_account, needs, may) = match verb {
        verb::AUTHORIZE => (Verb::Authorize, true, AMOUNT, LIFETIME | ALLOW_PARTIAL | PAYEE | PAYEE_TENANT),
        verb::INCREMENT => (Verb::Increment, false, SUBJECT | AMOUNT, LIFETIME),
        verb::CAPTURE => (Verb::Capture, false, SUBJECT | PAYEE | AMOUNT, PAYEE_TENANT | FINAL),
        verb::VOID => (Verb::Void, false, SUBJECT, AMOUNT),
        verb::REFUND => (Verb::Refund, false, SUBJECT | AMOUNT, CAPTURE),
        verb::REVERSE => (Verb::Reverse, true, SUBJECT, AMOUNT | ORIGINAL_UUID_V7),
        verb::ADVISE => (Verb::Advise, true, AMOUNT, PAYEE | PAYEE_TENANT | SUBJECT | LIFETIME),
        verb::TRANSFER => (Verb::Transfer, true, PAYEE | AMOUNT, PAYEE_TENANT),
        verb::LOOKUP => (Verb::Lookup, true, 0, FENCE),
        _ => return None,
    };
    let may = needs | may | KEY_UUID_V7;
    Some(Shape { verb, has_account, needs, may, has_tolerance: matches!(verb, Verb::Authorize) })
}

fn invalid(what: &'static str) -> Problem {
    Problem::invalid(what)
}

/// Whether every field that the verb does not have, or whose flag is not set, is zero.
fn check(f: &frames::Command, shape: &Shape) -> Result<(), Problem> {
    let flags = f.flags.get();
    if flags & shape.needs != shape.needs {
        return Err(invalid("a field that the verb needs is not flagged"));
    }
    if flags & !shape.may != 0 || f.has(flag::PAYEE_TENANT) && !f.has(flag::PAYEE) {
        return Err(invalid("a flag that the verb does not have"));
    }
    let is_clean = (shape.has_account || f.account.get() == 0)
        && (f.has(flag::PAYEE) || f.payee.get() == 0)
        && (f.has(flag::PAYEE_TENANT) || f.payee_tenant.get() == 0)
        && (f.has(flag::SUBJECT) || f.subject.get() == 0)
        && (f.has(flag::AMOUNT) || f.amount.get() == 0 && f.scale == 0 && f.asset == [0; 8])
        && (f.has(flag::LIFETIME) || f.lifetime_ms.get() == 0)
        && (shape.has_tolerance || f.tolerance_bp.get() == 0)
        && (matches!(shape.verb, Verb::Advise) || f.advice == advice::NONE)
        && f.reserved == [0; 4];
    if is_clean {
        Ok(())
    } else {
        Err(invalid("a field that the verb does not have, or that no flag announces, is not zero"))
    }
}

/// The deadline of a command, ms.
pub(super) fn deadline_ms(f: &frames::Command) -> Result<Option<u64>, Problem> {
    match f.deadline_ms.get() {
        0 => Ok(None),
        ms @ 1..=60_000 => Ok(Some(ms.into())),
        _ => Err(invalid("`deadline_ms` is a number from 1 to 60000, or 0")),
    }
}

/// The verb of a frame, and whether it fences.
pub(super) fn verb_of(f: &frames::Command) -> Result<(Verb, bool), Problem> {
    let shape = shape(f.verb).ok_or_else(|| invalid("`verb` is none of this door's"))?;
    Ok((shape.verb, f.verb == verb::LOOKUP && f.has(flag::FENCE)))
}

/// What a frame asks for.
pub(super) fn asked(f: &frames::Command, tenant: TenantId) -> Result<(Verb, Asked), Problem> {
    let shape = shape(f.verb).ok_or_else(|| invalid("`verb` is none of this door's"))?;
    check(f, &shape)?;
    let reader = Reader { f, tenant };
    let (key, ledger, note) = (reader.key()?, reader.ledger()?, Note::default());
    let lifetime_ms = f.has(flag::LIFETIME).then(|| f.lifetime_ms.get());
    let command: Command = match shape.verb {
        Verb::Authorize => Authorize {
            key,
            account: reader.account()?,
            ledger: Reader::needed(ledger)?,
            amount: reader.amount()?,
            lifetime_ms,
            allow_partial: f.has(flag::ALLOW_PARTIAL),
            payee: reader.payee_if_any()?,
            tolerance_bp: f.tolerance_bp.get(),
            note,
        }
        .into(),
        Verb::Increment => {
            let (authorization, amount) = (reader.authorization()?, reader.amount()?);
            Increment { key, authorization, amount, lifetime_ms, note }.into()
        }
        Verb::Capture => {
            let (authorization, payee, amount) = (reader.authorization()?, reader.payee()?, reader.amount()?);
            Capture { key, authorization, payee, amount, is_final: f.has(flag::FINAL), note }.into()
        }
        Verb::Void => {
            Void { key, authorization: reader.authorization()?, amount: reader.amount_if_any()?, note }.into()
        }
        Verb::Refund => {
            let target = if f.has(flag::CAPTURE) {
                RefundTarget::Capture(reader.transfer()?)
            } else {
                RefundTarget::Authorization(reader.authorization()?)
            };
            Refund { key, target, amount: reader.amount()?, note }.into()
        }
        Verb::Reverse => {
            let original = key_of(f.subject.get(), kind_of(f.has(flag::ORIGINAL_UUID_V7)))?;
            Reverse { key, account: reader.account()?, original, new_total: reader.amount_if_any()?, note }.into()
        }
        Verb::Advise => {
            let (account, amount) = (reader.account()?, reader.amount()?);
            let (ledger, advice) = (Reader::needed(ledger)?, reader.advice(lifetime_ms)?);
            Advise { key, account, ledger, amount, advice, note }.into()
        }
        Verb::Transfer => {
            let (account, payee, amount) = (reader.account()?, reader.payee()?, reader.amount()?);
            Transfer { key, account, payee, ledger: Reader::needed(ledger)?, amount, note }.into()
        }
        _ => Lookup { account: reader.account()?, key, fence: f.has(flag::FENCE) }.into(),
    };
    Ok((shape.verb, Asked::new(command, ledger, tenant)))
}

/// Of what kind a key is.
const fn kind_of(is_v7: bool) -> KeyKind {
    if is_v7 { KeyKind::UuidV7 } else { KeyKind::Opaque }
}

struct Reader<'a> {
    f: &'a frames::Command,
    tenant: TenantId,
}

impl Reader<'_> {
    fn key(&self) -> Result<Key, Problem> {
        key_of(self.f.key.get(), kind_of(self.f.has(flag::KEY_UUID_V7)))
    }

    fn ledger(&self) -> Result<Option<Ledger>, Problem> {
        if !self.f.has(flag::AMOUNT) {
            return Ok(None);
        }
        let ledger = self.f.asset_code().and_then(|asset| Ledger::new(asset, self.f.scale));
        ledger.map(Some).ok_or_else(|| invalid("`asset` is 1 to 7 of A-Z and 0-9, `scale` a number from 0 to 38"))
    }

    fn needed<T>(value: Option<T>) -> Result<T, Problem> {
        value.ok_or_else(|| invalid("a field that the verb needs is not flagged"))
    }

    fn account(&self) -> Result<AccountId, Problem> {
        let account = self.tenant.account_of_number(self.f.account.get());
        account.ok_or_else(|| invalid("`account` is a number from 1 to 2^96 - 1"))
    }

    fn payee_if_any(&self) -> Result<Option<AccountId>, Problem> {
        if !self.f.has(flag::PAYEE) {
            return Ok(None);
        }
        let given = self.f.has(flag::PAYEE_TENANT).then(|| TenantId::new(self.f.payee_tenant.get()));
        let payee = given.unwrap_or(Some(self.tenant)).and_then(|tenant| tenant.account_of_number(self.f.payee.get()));
        payee.map(Some).ok_or_else(|| invalid("`payee` is a number from 1 to 2^96 - 1"))
    }

    fn payee(&self) -> Result<AccountId, Problem> {
        Self::needed(self.payee_if_any()?)
    }

    fn amount_if_any(&self) -> Result<Option<Amount>, Problem> {
        if !self.f.has(flag::AMOUNT) {
            return Ok(None);
        }
        let amount = Amount::new(self.f.amount.get());
        amount.map(Some).ok_or_else(|| invalid("`amount` is minor units, 0 to 2^96 - 1"))
    }

    fn amount(&self) -> Result<Amount, Problem> {
        Self::needed(self.amount_if_any()?)
    }

    fn authorization(&self) -> Result<AuthorizationId, Problem> {
        AuthorizationId::from_bits(self.f.subject.get())
            .ok_or_else(|| invalid("`subject` is not an id made by this engine"))
    }

    fn transfer(&self) -> Result<TransferId, Problem> {
        TransferId::from_bits(self.f.subject.get()).ok_or_else(|| invalid("`subject` is not an id made by this engine"))
    }

    fn advice(&self, lifetime_ms: Option<u64>) -> Result<Advice, Problem> {
        let authorization = if self.f.has(flag::SUBJECT) { Some(self.authorization()?) } else { None };
        match (self.f.advice, self.payee_if_any()?, authorization, lifetime_ms) {
            (advice::HOLD, payee, None, lifetime_ms) => Ok(Advice::Hold { lifetime_ms, payee }),
            (advice::POST, Some(payee), authorization, None) => Ok(Advice::Post { payee, authorization }),
            (advice::DECLINED, None, None, None) => Ok(Advice::Declined),
            _ => Err(invalid("`advice` is 1 (hold), 2 (post, with a payee) or 3 (declined), each with its own fields")),
        }
    }
}

/// 128 bits as a UUID is written.
fn uuid(bits: u128) -> String {
    AuthorizationId(bits).to_string()
}

/// The members that a frame says, for those who decide second: they keep them as they are written over HTTP.
pub(super) fn members(f: &frames::Command) -> Members<'static> {
    let text = |text: String| Some(Text(Cow::Owned(text)));
    let when = |flags: u16, value: &dyn Fn() -> String| if f.has(flags) { text(value()) } else { None };
    let kind = |flags: u16| when(flags, &|| "uuid_v7".to_owned());
    let verb = shape(f.verb).map(|shape| shape.verb);
    let (amount, subject) = (|| f.amount.get().to_string(), || uuid(f.subject.get()));
    let is = |wanted: Verb| verb == Some(wanted);
    let names_capture = is(Verb::Refund) && f.has(flag::CAPTURE);
    let advice = match f.advice {
        advice::HOLD => Some("hold"),
        advice::POST => Some("post"),
        advice::DECLINED => Some("declined"),
        _ => None,
    };
    Members {
        command: verb.map(|verb| Text(verb.name().into())),
        key: text(uuid(f.key.get())),
        key_kind: kind(flag::KEY_UUID_V7),
        account: if f.account.get() == 0 { None } else { text(f.account.get().to_string()) },
        payee: when(flag::PAYEE, &|| {
            let tenant = f.has(flag::PAYEE_TENANT).then(|| format!("{}:", f.payee_tenant.get()));
            format!("{}{}", tenant.unwrap_or_default(), f.payee.get())
        }),
        amount: if is(Verb::Reverse) { None } else { when(flag::AMOUNT, &amount) },
        new_total: if is(Verb::Reverse) { when(flag::AMOUNT, &amount) } else { None },
        asset: when(flag::AMOUNT, &|| f.asset_code().unwrap_or_default().to_owned()),
        scale: f.has(flag::AMOUNT).then_some(f.scale),
        authorization: if is(Verb::Reverse) || names_capture { None } else { when(flag::SUBJECT, &subject) },
        capture: if names_capture { when(flag::SUBJECT, &subject) } else { None },
        original: if is(Verb::Reverse) { when(flag::SUBJECT, &subject) } else { None },
        original_kind: kind(flag::ORIGINAL_UUID_V7),
        lifetime_ms: f.has(flag::LIFETIME).then(|| f.lifetime_ms.get()),
        allow_partial: f.has(flag::ALLOW_PARTIAL).then_some(true),
        tolerance_bp: (f.tolerance_bp.get() > 0).then(|| f.tolerance_bp.get()),
        is_final: f.has(flag::FINAL).then_some(true),
        advice: advice.map(|advice| Text(advice.into())),
        fence: f.has(flag::FENCE).then_some(true),
        ..Members::default()
    }
}

/// The frame of what was decided.
pub(super) fn reply(tag: u64, done: Done) -> frames::Reply {
    match done {
        Done::Reply(verb, reply) => {
            let status = if is_answer(verb, &reply) {
                status_of_approval(verb, &reply).as_u16()
            } else {
                status_of(reply.outcome)
            };
            decision(tag, status, &reply)
        }
        Done::Problem(problem) => refusal(tag, &problem),
        Done::Second(answer) => second(tag, answer.status, &answer.body),
    }
}

/// The frame of a refusal: with the outcome's number where it has the name of one, else with a code of the server's own.
pub(super) fn refusal(tag: u64, problem: &Problem) -> frames::Reply {
    let status = problem.status.as_u16();
    match &problem.reply {
        Some(reply) => decision(tag, status, reply),
        None => frames::Reply::new(tag, code_of(problem.name), status),
    }
}

fn code_of(name: &str) -> u8 {
    let own = |refusal: Refusal| name == refusal.name();
    match Outcome::ALL.iter().find(|outcome| outcome.name() == name) {
        Some(outcome) => *outcome as u8,
        None if own(Refusal::InvalidRequest) => code::INVALID,
        None if own(Refusal::Forbidden) => code::FORBIDDEN,
        None if own(Refusal::RateLimited) => code::RATE_LIMITED,
        None if own(Refusal::TooManyInFlight) => code::TOO_MANY_IN_FLIGHT,
        None if own(Refusal::NoAgreement) => code::NO_AGREEMENT,
        None if own(Refusal::ApprovalRejected) => code::APPROVAL_REJECTED,
        None if own(Refusal::ApprovalExpired) => code::APPROVAL_EXPIRED,
        None if own(Refusal::ApprovalUnknown) => code::APPROVAL_UNKNOWN,
        None if own(Refusal::CardNumber) => code::CARD_NUMBER,
        None => code::REFUSED,
    }
}

/// A second person has a say: it waits, or what came of it.
fn second(tag: u64, status: StatusCode, body: &[u8]) -> frames::Reply {
    let recorded = Recorded::read(body);
    if status == StatusCode::ACCEPTED {
        let mut waits = frames::Reply::new(tag, code::WAITS, status.as_u16());
        if let Some(approval) = parse_uuid(&recorded.approval) {
            (waits.flags, waits.transfer) = (told::APPROVAL.into(), approval.into());
        }
        return waits;
    }
    match recorded.reply() {
        Some(reply) => decision(tag, status.as_u16(), &reply),
        None => frames::Reply::new(tag, code_of(&recorded.outcome), status.as_u16()),
    }
}

fn decision(tag: u64, status: u16, reply: &Reply) -> frames::Reply {
    let mut frame = frames::Reply::new(tag, reply.outcome as u8, status);
    let mut flags = 0;
    let mut set = |is_there: bool, flag: u16| {
        if is_there {
            flags |= flag;
        }
    };
    set(reply.repeated, told::REPEATED);
    set(reply.reversed, told::REVERSED);
    set(reply.seq.0 > 0, told::SEQ);
    frame.remarks = reply.flags.0;
    frame.amount = reply.amount.get().into();
    (frame.seq, frame.version) = (reply.seq.0.into(), reply.version.0.into());
    if let Some(balances) = reply.balances {
        set(true, told::BALANCES);
        (frame.posted, frame.held) = (balances.posted.into(), balances.held.into());
        set(balances.available.is_some(), told::AVAILABLE);
        frame.available = balances.available.unwrap_or(0).into();
    }
    if let Some(ledger) = reply.ledger {
        frame.scale = ledger.scale();
        let asset = ledger.asset();
        let code = asset.as_bytes();
        let length = code.len().min(frame.asset.len());
        frame.asset[..length].copy_from_slice(&code[..length]);
    }
    if let Some(authorization) = reply.authorization {
        set(true, told::AUTHORIZATION);
        frame.authorization = authorization.0.into();
    }
    if let Some(transfer) = reply.transfer {
        set(true, told::TRANSFER);
        frame.transfer = transfer.0.into();
    }
    if let Some(expires) = reply.expires {
        set(true, told::EXPIRES);
        frame.expires_ms = expires.0.into();
    }
    frame.flags = flags.into();
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::command::{command, parse_verb};
    use crate::api::key::{parse_key, parse_kind};
    use crate::api::members::Place;
    use proptest::prelude::*;

    /// The same command as the members of a batch say it.
    fn over_http(f: &frames::Command, tenant: TenantId) -> Result<(Verb, Asked), Problem> {
        let members = members(f);
        let verb = members.command.as_deref().and_then(parse_verb).expect("a verb of the door");
        members.check(verb, Place::Batch)?;
        let key = parse_key(members.key.as_deref().expect("a key"), parse_kind(members.key_kind.as_deref())?)?;
        Ok((verb, command(verb, &members, key, tenant)?))
    }

    fn engine_id() -> impl Strategy<Value = u128> {
        any::<u128>().prop_map(|bits| bits & !(0xFFFF << 64) & !(0b11 << 62) | 0x8001 << 64 | 0b10 << 62)
    }

    fn frame() -> impl Strategy<Value = frames::Command> {
        let bits = || prop_oneof![4 => engine_id(), 1 => any::<u128>(), 1 => Just(0)];
        let small = || prop_oneof![4 => 1..1_000_u128, 1 => any::<u128>(), 1 => Just(0), 1 => Just((1 << 96) - 1)];
        let asset = prop_oneof![4 => Just(*b"EUR\0\0\0\0\0"), 1 => any::<[u8; 8]>(), 1 => Just([0; 8])];
        let numbers =
            (prop_oneof![Just(0), 1..9_u64], prop_oneof![Just(0), 1..70_000_u32], 0..3_u16, 0..40_u8, 0..5_u8);
        let flags = prop_oneof![4 => any::<u16>().prop_map(|flags| flags & flag::ALL), 1 => any::<u16>()];
        (3..14_u8, flags, bits(), bits(), small(), small(), small(), asset, numbers, 0..3_u32).prop_map(
            |(verb, flags, key, subject, account, payee, amount, asset, numbers, payee_tenant)| {
                let (lifetime_ms, deadline_ms, tolerance_bp, scale, advice) = numbers;
                let mut f = frames::Command::new(verb, 1, key);
                (f.flags, f.subject, f.account, f.payee) = (flags.into(), subject.into(), account.into(), payee.into());
                (f.amount, f.asset, f.scale, f.advice) = (amount.into(), asset, scale, advice);
                (f.lifetime_ms, f.deadline_ms) = (lifetime_ms.into(), deadline_ms.into());
                (f.tolerance_bp, f.payee_tenant) = (tolerance_bp.into(), payee_tenant.into());
                f
            },
        )
    }

    /// Without what its verb does not have: most frames that are only random are refused for that.
    fn tidied(mut f: frames::Command) -> frames::Command {
        let Some(shape) = shape(f.verb) else { return f };
        f.flags = (f.flags.get() & shape.may | shape.needs).into();
        let without = |flag: u16| f.flags.get() & flag == 0;
        let [payee, tenant, subject, amount, lifetime] =
            [flag::PAYEE, flag::PAYEE_TENANT, flag::SUBJECT, flag::AMOUNT, flag::LIFETIME].map(without);
        if payee {
            f.payee = 0.into();
            f.flags = (f.flags.get() & !flag::PAYEE_TENANT).into();
        }
        if payee || tenant {
            f.payee_tenant = 0.into();
        }
        if subject {
            f.subject = 0.into();
        }
        if amount {
            (f.amount, f.scale, f.asset) = (0.into(), 0, [0; 8]);
        }
        if lifetime {
            f.lifetime_ms = 0.into();
        }
        if !shape.has_account {
            f.account = 0.into();
        }
        if !shape.has_tolerance {
            f.tolerance_bp = 0.into();
        }
        if shape.verb != Verb::Advise {
            f.advice = advice::NONE;
        }
        f
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn a_frame_asks_for_what_the_same_members_ask_for(f in frame().prop_map(tidied), tenant in 0..3_u32) {
            let tenant = TenantId::new(tenant).expect("a tenant");
            let by_frame = asked(&f, tenant);
            prop_assume!(shape(f.verb).is_some());
            match (by_frame, over_http(&f, tenant)) {
                (Ok(frame), Ok(http)) => prop_assert_eq!(frame, http),
                (Err(frame), Err(http)) => prop_assert_eq!(frame.name, http.name),
                (frame, http) => prop_assert!(false, "{:?} {:?}", frame.map_err(|p| p.detail), http.map_err(|p| p.detail)),
            }
        }

        #[test]
        fn no_frame_panics(f in frame(), tenant in 0..3_u32) {
            let tenant = TenantId::new(tenant).expect("a tenant");
            if asked(&f, tenant).is_ok() {
                prop_assert!(check(&f, &shape(f.verb).expect("it has one")).is_ok());
            }
            let _ = (members(&f), deadline_ms(&f));
        }
    }

    #[test]
    fn a_stray_field_is_refused_and_not_ignored() {
        let tenant = TenantId::new(1).expect("a tenant");
        let mut good = frames::Command::new(verb::AUTHORIZE, 1, 255).with_amount(5, "EUR", 2);
        good.account = 7.into();
        assert!(asked(&good, tenant).is_ok());
        let stray: [fn(&mut frames::Command); 10] = [
            |f| f.payee = 1.into(),
            |f| f.payee_tenant = 1.into(),
            |f| f.subject = 1.into(),
            |f| f.lifetime_ms = 1.into(),
            |f| f.advice = 1,
            |f| f.reserved[3] = 1,
            |f| f.flags = (f.flags.get() | flag::FINAL).into(),
            |f| f.flags = (f.flags.get() | 1 << 15).into(),
            |f| f.flags = (f.flags.get() | flag::PAYEE_TENANT).into(),
            |f| f.verb = 13,
        ];
        for (index, change) in stray.into_iter().enumerate() {
            let mut bad = good;
            change(&mut bad);
            assert_eq!(asked(&bad, tenant).map_err(|problem| problem.name), Err("invalid_request"), "{index}");
        }
    }

    #[test]
    fn what_a_second_person_decided_is_told_by_its_outcome() {
        let waits = second(1, StatusCode::ACCEPTED, b"{}");
        assert_eq!((waits.code, waits.status.get()), (code::WAITS, 202));
        let body = br#"{"outcome":"approved","amount":"7","seq":9,"version":2,"repeated":true,"authorization":null,"transfer":"01999999-9999-8001-8000-000000000001"}"#;
        let over = second(1, StatusCode::OK, body);
        assert_eq!((over.code, over.amount.get(), over.seq.get()), (Outcome::Approved as u8, 7, 9));
        assert!(over.has(told::REPEATED | told::TRANSFER | told::SEQ) && !over.has(told::AUTHORIZATION));
        let body = br#"{"outcome":"approved","flags":["overdrawn","over_hold"],"asset":"EUR","scale":2,"balances":{"posted":"-7","held":"3","available":null}}"#;
        let over = second(1, StatusCode::OK, body);
        assert_eq!((over.remarks, over.posted.get(), over.held.get(), over.asset_code()), (3, -7, 3, Some("EUR")));
        assert!(over.has(told::BALANCES) && !over.has(told::AVAILABLE));
        let waits = second(1, StatusCode::ACCEPTED, br#"{"approval":"01999999-9999-8001-8000-000000000001"}"#);
        assert_eq!(waits.transfer.get(), 0x0199_9999_9999_8001_8000_0000_0000_0001);
        assert!(waits.has(told::APPROVAL) && !waits.has(told::TRANSFER));
    }

    /// What a caller may do next depends on it: not one is told as something else.
    #[test]
    fn every_refusal_has_a_code_that_says_whether_anything_was_done() {
        for outcome in Outcome::ALL.iter().filter(|outcome| !outcome.is_approval()) {
            assert_eq!(refusal(1, &Problem::of_outcome(*outcome)).code, *outcome as u8);
        }
        let unnamed: Vec<&str> = Refusal::ALL
            .iter()
            .filter(|refused| refusal(1, &Problem::new(**refused, "")).code == code::REFUSED)
            .map(|refused| refused.name())
            .collect();
        // Those that a command over this door is never answered with, and those that say that nothing was recorded.
        let expected = [
            "idempotency_key_missing",
            "unauthenticated",
            "sign_again",
            "not_found",
            "method_not_allowed",
            "approval_not_open",
            "same_person",
            "already_exists",
            "body_too_large",
            "unsupported_media_type",
            "recovering",
            "body_timeout",
            "control_failed",
            "history_failed",
        ];
        assert_eq!(unnamed, expected);
        for (name, code) in
            [("approval_rejected", code::APPROVAL_REJECTED), ("approval_unknown", code::APPROVAL_UNKNOWN)]
        {
            let body = format!(r#"{{"outcome":"{name}"}}"#);
            assert_eq!(second(1, StatusCode::CONFLICT, body.as_bytes()).code, code);
        }
    }
}
