//! Events as JSON: every field under its stable name (docs/src/operating.md lists them).
//!
//! Owns the names; refuses to interpret. One flat object an event: `seq`, `time`, `event`, then what its kind has, every field
//! each time, `null` where it has no value. Ids of accounts and amounts are decimal strings, ids made by the engine and
//! `uuid_v7` keys UUIDs, opaque keys 32 and fingerprints 16 hex digits, counts, slots, versions and sequence numbers numbers, times
//! RFC 3339, dates and months ISO 8601. Nothing is lost: two different events have different texts.

use serde_json::{Map, Value, json};
use tpcore::event::{
    Answered, Authorized, Body, End, Ended, Event, Expired, Fenced, Forgotten, Head, Incremented, Moved, Movement,
    Noted, Opened, Recorded, Released, Settled, Tombstoned,
};
use tpcore::{
    AccountId, Bucket, CreditLimit, Date, Flags, Key, KeyKind, Ledger, Limits, Metadata, PeriodLimit, Seq, Settings,
    Status, TransferId,
};

use super::output::{decimal, decimal_or_null};

/// The fields of one event in their order.
type Fields = Map<String, Value>;

/// One event.
pub(crate) fn event_json(seq: Seq, event: &Event) -> Fields {
    let mut fields = Fields::new();
    put(&mut fields, "seq", json!(seq.0));
    put(&mut fields, "time", time(event.time));
    put(&mut fields, "event", json!(event.body.name()));
    match &event.body {
        Body::Settled(e) => settled(&mut fields, e),
        Body::Noted(e) => noted(&mut fields, e),
        Body::Tombstoned(e) => tombstoned(&mut fields, e),
        Body::Fenced(e) => fenced(&mut fields, e),
        Body::Authorized(e) => authorized(&mut fields, e),
        Body::Incremented(e) => incremented(&mut fields, e),
        Body::Released(e) => released(&mut fields, e),
        Body::Expired(e) => expired(&mut fields, e),
        Body::Moved(e) => moved(&mut fields, e),
        Body::Opened(e) => opened(&mut fields, e),
        Body::Answered(e) => answered(&mut fields, e),
        Body::Ended(e) => ended(&mut fields, e),
        Body::Forgotten(e) => forgotten(&mut fields, e),
        Body::Recorded(e) => recorded(&mut fields, e),
    }
    fields
}

fn put(fields: &mut Fields, name: &str, value: Value) {
    fields.insert(name.to_owned(), value);
}

fn head(fields: &mut Fields, head: &Head) {
    put(fields, "verb", json!(head.verb.name()));
    put(fields, "account", account(head.account));
    put(fields, "slot", json!(head.slot.get()));
    put(fields, "version", json!(head.version.0));
    put(fields, "previous", json!(head.previous.0));
    put(fields, "outcome", json!(head.outcome.name()));
    put(fields, "flags", flags(head.flags));
    put_key(fields, "key", "key_kind", head.full_key());
    put(fields, "fingerprint", json!(format!("{:016x}", head.fingerprint.0)));
    put(fields, "value_date", value_date(head.value_date));
    let rare = head.rare.as_deref().cloned().unwrap_or_default();
    put(fields, "metadata", metadata(&rare.metadata));
    put(fields, "payee", nonzero(rare.payee, decimal));
    put(fields, "requested", nonzero(rare.requested, decimal));
    put(fields, "booked_ledger", nonzero(rare.ledger, |bits| json!(Ledger::from_bits(bits).to_string())));
}

fn settled(fields: &mut Fields, e: &Settled) {
    head(fields, &e.head);
    put(fields, "settings", settings_json(&e.settings));
}

fn noted(fields: &mut Fields, e: &Noted) {
    head(fields, &e.head);
    put(fields, "amount", decimal(e.amount));
    put(fields, "target", nonzero(e.target, uuid));
}

fn tombstoned(fields: &mut Fields, e: &Tombstoned) {
    head(fields, &e.head);
    put_key(fields, "original", "original_kind", Key { bits: e.original, kind: e.original_kind });
}

fn fenced(fields: &mut Fields, e: &Fenced) {
    put(fields, "account", account(e.account));
    put(fields, "slot", json!(e.slot.get()));
    put_key(fields, "key", "key_kind", Key { bits: e.key, kind: e.key_kind });
}

fn authorized(fields: &mut Fields, e: &Authorized) {
    head(fields, &e.head);
    put(fields, "authorization", json!(e.authorization.to_string()));
    put(fields, "amount", decimal(e.amount));
    put(fields, "expires", time(e.expires));
    put(fields, "tolerance_bp", json!(e.tolerance_bp));
    put(fields, "bucket", bucket(e.bucket));
}

fn incremented(fields: &mut Fields, e: &Incremented) {
    head(fields, &e.head);
    put(fields, "authorization", json!(e.authorization.to_string()));
    put(fields, "amount", decimal(e.amount));
    put(fields, "expires", time(e.expires));
    put(fields, "bucket", bucket(e.bucket));
}

fn released(fields: &mut Fields, e: &Released) {
    head(fields, &e.head);
    put(fields, "authorization", json!(e.authorization.to_string()));
    put(fields, "amount", decimal(e.amount));
    put_original(fields, e.original, e.original_kind);
    put(fields, "state", json!(e.state.name()));
    put(fields, "bucket", bucket(e.bucket));
    put(fields, "uncounted", json!(e.uncounted));
}

fn expired(fields: &mut Fields, e: &Expired) {
    put(fields, "account", account(e.account));
    put(fields, "slot", json!(e.slot.get()));
    put(fields, "version", json!(e.version.0));
    put(fields, "previous", json!(e.previous.0));
    put(fields, "authorization", json!(e.authorization.to_string()));
    put(fields, "amount", decimal(e.amount));
}

fn moved(fields: &mut Fields, e: &Moved) {
    head(fields, &e.head);
    movement(fields, &e.movement);
    put(fields, "counter_booked", account(e.counter));
    put(fields, "counter_version", json!(e.counter_version.0));
    put(fields, "counter_previous", json!(e.counter_previous.0));
}

fn opened(fields: &mut Fields, e: &Opened) {
    head(fields, &e.head);
    movement(fields, &e.movement);
    put(fields, "exchange", json!(e.number));
}

fn movement(fields: &mut Fields, m: &Movement) {
    put(fields, "purpose", json!(m.purpose.name()));
    put(fields, "transfer", transfer(m.transfer));
    put(fields, "amount", decimal(m.amount));
    put(fields, "ledger", json!(m.ledger.to_string()));
    put(fields, "counter", account(m.counter));
    put(fields, "counter_slot", json!(m.counter_slot.get()));
    put(fields, "authorization", nonzero(m.authorization, uuid));
    put(fields, "capture", nonzero(m.capture, uuid));
    put_original(fields, m.original, m.original_kind);
    put(fields, "hold", decimal(m.hold));
    put(fields, "bucket", bucket(m.bucket));
    put(fields, "is_counted", json!(m.is_counted));
    put(fields, "is_final", json!(m.is_final));
}

fn answered(fields: &mut Fields, e: &Answered) {
    put(fields, "account", account(e.account));
    put(fields, "slot", json!(e.slot.get()));
    put(fields, "version", json!(e.version.0));
    put(fields, "previous", json!(e.previous.0));
    put(fields, "outcome", json!(e.outcome.name()));
    put(fields, "flags", flags(e.flags));
    put(fields, "purpose", json!(e.purpose.name()));
    put(fields, "transfer", transfer(e.transfer));
    put(fields, "amount", decimal(e.amount));
    put(fields, "ledger", json!(e.ledger.to_string()));
    put(fields, "opener", json!(e.opener.get()));
    put(fields, "exchange", json!(e.number));
    put(fields, "exchange_oldest", json!(e.oldest));
}

fn ended(fields: &mut Fields, e: &Ended) {
    let end = |end: &End| {
        json!({
            "account": account(end.account),
            "slot": end.slot.get(),
            "version": end.version.0,
            "previous": end.previous.0,
            "outcome": end.outcome.name(),
            "flags": flags(end.flags),
            "exchange": end.number,
        })
    };
    put(fields, "ends", e.ends.iter().map(end).collect());
}

fn forgotten(fields: &mut Fields, e: &Forgotten) {
    put(fields, "slot", json!(e.slot.get()));
    put(fields, "opener", json!(e.opener.get()));
    put(fields, "exchange_below", json!(e.below));
}

fn recorded(fields: &mut Fields, e: &Recorded) {
    put(fields, "stream", json!(e.stream));
    put(fields, "bytes", json!(hex(&e.bytes)));
}

fn account(id: AccountId) -> Value {
    decimal(id)
}

fn transfer(id: TransferId) -> Value {
    json!(id.to_string())
}

fn time(time: tpcore::Time) -> Value {
    json!(time.to_string())
}

/// 128 bits as a UUID's text.
fn uuid(bits: u128) -> Value {
    json!(TransferId(bits).to_string())
}

fn nonzero<T: Default + PartialEq>(value: T, shown: impl FnOnce(T) -> Value) -> Value {
    if value == T::default() { Value::Null } else { shown(value) }
}

fn put_key(fields: &mut Fields, name: &str, kind_name: &str, key: Key) {
    let (text, kind) = match key.kind {
        KeyKind::UuidV7 => (uuid(key.bits), "uuid_v7"),
        KeyKind::Opaque => (json!(format!("{:032x}", key.bits)), "opaque"),
    };
    put(fields, name, text);
    put(fields, kind_name, json!(kind));
}

/// The key of what is undone; bits zero of an opaque kind: nothing is.
fn put_original(fields: &mut Fields, bits: u128, kind: KeyKind) {
    if bits == 0 && kind == KeyKind::Opaque {
        put(fields, "original", Value::Null);
        put(fields, "original_kind", Value::Null);
    } else {
        put_key(fields, "original", "original_kind", Key { bits, kind });
    }
}

fn flags(flags: Flags) -> Value {
    flags.names().collect()
}

fn value_date(date: Date) -> Value {
    nonzero(date, |date| json!(date.to_string()))
}

fn bucket(bucket: Bucket) -> Value {
    nonzero(
        bucket,
        |b| json!({ "day": b.day.to_string(), "month": format!("{:04}-{:02}", 1970 + b.month / 12, b.month % 12 + 1) }),
    )
}

/// Entries in order, the caller's reference under the empty name; bytes that are not entries as hex digits.
fn metadata(bytes: &[u8]) -> Value {
    match Metadata::from_bytes(bytes) {
        Ok(data) => data.entries().map(|(name, value)| json!({ "name": name, "value": value })).collect(),
        Err(_) => json!(hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The stable name of a status.
pub(crate) const fn status(status: Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::DebitFrozen => "debit_frozen",
        Status::Frozen => "frozen",
        Status::Closed => "closed",
    }
}

/// An account's settings.
pub(crate) fn settings_json(s: &Settings) -> Value {
    json!({
        "ledger": s.ledger.to_string(),
        "kind": s.kind,
        "tenant": s.tenant,
        "status": status(s.status),
        "credit_limit": match s.credit_limit {
            CreditLimit::Amount(amount) => decimal(amount),
            CreditLimit::Unlimited => json!("unlimited"),
        },
        "limits": limits(&s.limits),
    })
}

fn limits(l: &Limits) -> Value {
    let period = |p: &PeriodLimit| json!({ "count": p.count, "amount": decimal_or_null(p.amount) });
    json!({ "command_amount": decimal_or_null(l.command_amount), "day": period(&l.day), "month": period(&l.month) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tpcore::{Amount, AuthorizationId, Fingerprint, Outcome, SlotIndex, Time, Verb, Version, event::Rare};

    fn a_head() -> Head {
        Head {
            account: AccountId(7),
            key: 0xAB,
            version: Version(3),
            previous: Seq(9),
            fingerprint: Fingerprint(0xF),
            rare: Some(Box::new(Rare { metadata: b"\x00\x02r1".to_vec(), payee: 8, requested: 90, ledger: 0 })),
            slot: SlotIndex::new(5).expect("below 1,024"),
            value_date: "1993-01-02".parse().expect("a date"),
            key_kind: KeyKind::Opaque,
            verb: Verb::Authorize,
            outcome: Outcome::ApprovedPartially,
            flags: Flags::OVERDRAWN,
        }
    }

    #[test]
    fn an_authorized_event_has_exactly_these_fields() {
        let slot = SlotIndex::new(5).expect("below 1,024");
        let body = Body::Authorized(Authorized {
            head: a_head(),
            authorization: AuthorizationId::new(Time(1000), slot, 1),
            amount: Amount::from(80),
            expires: Time(86_400_000),
            tolerance_bp: 25,
            bucket: Bucket::of("1993-01-02".parse::<Date>().expect("a date").start(), 0),
        });
        let json = event_json(Seq(10), &Event { time: Time(1), body });
        let expected = r#"{"seq":10,"time":"1970-01-01T00:00:00.001Z","event":"authorized","verb":"authorize","account":"7","slot":5,"version":3,"previous":9,"outcome":"approved_partially","flags":["overdrawn"],"key":"000000000000000000000000000000ab","key_kind":"opaque","fingerprint":"000000000000000f","value_date":"1993-01-02","metadata":[{"name":"","value":"r1"}],"payee":"8","requested":"90","booked_ledger":null,"authorization":"00000000-03e8-8005-8000-000000000001","amount":"80","expires":"1970-01-02T00:00:00.000Z","tolerance_bp":25,"bucket":{"day":"1993-01-02","month":"1993-01"}}"#;
        assert_eq!(serde_json::to_string(&json).expect("JSON"), expected);
    }

    #[test]
    fn what_is_absent_is_null_and_never_left_out() {
        let head = Head { rare: None, value_date: Date(0), ..a_head() };
        let body = Body::Noted(Noted { head, amount: Amount::ZERO, target: 0 });
        let json = event_json(Seq(1), &Event { time: Time(0), body });
        for name in ["value_date", "payee", "requested", "booked_ledger", "target"] {
            assert_eq!(json.get(name), Some(&Value::Null), "{name}");
        }
        assert_eq!(json["metadata"], json!([]));
    }
}
