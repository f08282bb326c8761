//! Reads: accounts, authorizations, statements, histories, points in time.
//!
//! Owns their queries and pages. What needs the journal's files is read on threads of its own, a bounded number at once. Refuses to show
//! what is not durable, or another tenant's.

use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tp_actors::history::{AuthorizationHistory, HistoryError, StatementCursor, StatementLine, StatementQuery};
use tp_actors::tp_core::command::{Read, ReadTarget};
use tp_actors::tp_core::event::{Body, Event, Movement};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex, Version};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::{AccountView, Detail, Reply};
use tp_actors::tp_core::scope::Scope;
use tp_actors::tp_core::time::{Date, Time};
use tp_actors::{CallOptions, Engine, UpTo};

use super::command::{parse_account, parse_id};
use super::problem::{Problem, Refusal};
use super::reply::{AccountJson, AuthorizationJson};
use super::request::{Answer, Answered, PageQuery, Request, limit_of};
use crate::app::Serving;
use crate::tenancy::TenantId;

/// `GET /v1/accounts/{account}`
pub(crate) async fn account(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[serde(default)]
        at: Option<String>,
    }
    let query: Query = request.query()?;
    let tenant = request.caller.tenant;
    let account = parse_account(tenant, request.path(0))?;
    let view = account_now(serving, request, account).await?;
    let Some(at) = query.at else { return Ok(Answer::ok(&AccountJson { view: &view, tenant })) };
    let up_to = parse_point(&at)?;
    let stood = history(serving, tenant, move |engine| engine.account_at(account, up_to)).await?;
    let stood = stood.ok_or_else(|| Problem::of_outcome(Outcome::AccountNotFound))?;
    let ledger = view.settings.ledger;
    Ok(Answer::ok(&json!({
        "account": tenant.name_of(account),
        "asset": ledger.asset(),
        "scale": ledger.scale(),
        "at": at,
        "balances": { "posted": stood.posted.to_string(), "held": stood.held.to_string() },
        "seq": stood.seq.0,
        "version": stood.version.0,
        "time": stood.time.to_string(),
    })))
}

/// An account as it stands.
async fn account_now(serving: &Serving, request: &Request, account: AccountId) -> Result<AccountView, Problem> {
    match read(serving, request, ReadTarget::Account(account)).await?.detail.map(|detail| *detail) {
        Some(Detail::Account(view)) => Ok(view),
        _ => Err(Problem::of_outcome(Outcome::AccountNotFound)),
    }
}

/// Reads through the engine, bound to the caller's tenant.
async fn read(serving: &Serving, request: &Request, target: ReadTarget) -> Result<Reply, Problem> {
    let scope = Scope { tenant: Some(request.caller.tenant.get()), ..Scope::default() };
    let deadline_ms = Some(request.deadline_ms()?.unwrap_or(serving.command_ms));
    let reply = serving.engine.call_with(Read { target }, CallOptions { deadline_ms, scope }).await;
    if reply.detail.is_some() { Ok(reply) } else { Err(Problem::of_reply(reply)) }
}

/// `GET /v1/authorizations/{authorization}`
pub(crate) async fn authorization(serving: &Serving, request: &Request) -> Answered {
    let tenant = request.caller.tenant;
    let id: AuthorizationId = parse_id("authorization", request.path(0))?;
    let reply = read(serving, request, ReadTarget::Authorization(id)).await?;
    let ledger = reply.ledger;
    match reply.detail.map(|detail| *detail) {
        Some(Detail::Authorization(view)) => Ok(Answer::ok(&AuthorizationJson { view: &view, ledger, tenant })),
        _ => Err(Problem::of_outcome(Outcome::OriginalNotFound)),
    }
}

/// `GET /v1/authorizations/{authorization}/history`
pub(crate) async fn authorization_history(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[serde(default)]
        account: Option<String>,
    }
    let query: Query = request.query()?;
    let tenant = request.caller.tenant;
    let id: AuthorizationId = parse_id("authorization", request.path(0))?;
    // One that has left memory is found by its account.
    let account = match query.account.as_deref() {
        Some(text) => account_now(serving, request, parse_account(tenant, text)?).await?.account,
        None => match read(serving, request, ReadTarget::Authorization(id)).await?.detail.map(|detail| *detail) {
            Some(Detail::Authorization(view)) => view.account,
            _ => return Err(Problem::of_outcome(Outcome::OriginalNotFound)),
        },
    };
    let found = history(serving, tenant, move |engine| engine.authorization_history(id, account)).await?;
    // A payee's chain names it too: its history is the payer's.
    let is_owned = |event: &Event| match &event.body {
        Body::Authorized(e) => e.authorization == id && e.head.account == account,
        _ => false,
    };
    let is_ours =
        |found: &AuthorizationHistory| !found.is_complete || found.events.iter().any(|(_, event)| is_owned(event));
    let found = found.filter(|found| !found.events.is_empty() && (query.account.is_none() || is_ours(found)));
    let found = found.ok_or_else(|| Problem::of_outcome(Outcome::OriginalNotFound))?;
    let events: Vec<Value> = found.events.iter().map(|(seq, event)| event_json(*seq, event, tenant)).collect();
    Ok(Answer::ok(&json!({
        "authorization": id.to_string(),
        "account": tenant.name_of(account),
        "events": events,
        "is_complete": found.is_complete,
    })))
}

/// What an authorization's event says.
fn event_json(seq: Seq, event: &Event, tenant: TenantId) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| _ = fields.insert(name.to_owned(), value);
    put("seq", json!(seq.0));
    put("time", json!(event.time.to_string()));
    put("event", json!(event.body.name()));
    if let Some(head) = event.body.head() {
        put("command", json!(head.verb.name()));
        put("outcome", json!(head.outcome.name()));
        put("version", json!(head.version.0));
    }
    match &event.body {
        Body::Authorized(e) => {
            put("amount", json!(e.amount.to_string()));
            put("expires", json!(e.expires.to_string()));
        }
        Body::Incremented(e) => {
            put("amount", json!(e.amount.to_string()));
            put("expires", json!(e.expires.to_string()));
        }
        Body::Released(e) => {
            put("amount", json!(e.amount.to_string()));
            put("state", json!(e.state.name()));
        }
        Body::Expired(e) => put("amount", json!(e.amount.to_string())),
        Body::Moved(e) => put_movement(&mut put, &e.movement, tenant),
        Body::Opened(e) => put_movement(&mut put, &e.movement, tenant),
        _ => {}
    }
    fields.into()
}

fn put_movement(put: &mut impl FnMut(&str, Value), movement: &Movement, tenant: TenantId) {
    put("purpose", json!(movement.purpose.name()));
    put("amount", json!(movement.amount.to_string()));
    put("transfer", json!(movement.transfer.to_string()));
    put("counterparty", json!(tenant.name_of(movement.counter)));
    put("is_final", json!(movement.is_final));
}

/// `GET /v1/accounts/{account}/statement`
pub(crate) async fn statement(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[serde(default)]
        limit: Option<String>,
        #[serde(default)]
        cursor: Option<String>,
        #[serde(default)]
        from: Option<String>,
    }
    let query: Query = request.query()?;
    let tenant = request.caller.tenant;
    let account = parse_account(tenant, request.path(0))?;
    let limit = limit_of(query.limit.as_deref())?;
    let before = query.cursor.as_deref().map(|text| parse_cursor(account, text)).transpose()?;
    let from = match query.from.as_deref().map(parse_point).transpose()? {
        None => None,
        Some(UpTo::Time(time)) => Some(time),
        Some(_) => return Err(Problem::invalid("`from` is a time")),
    };
    let view = account_now(serving, request, account).await?;
    let page =
        history(serving, tenant, move |engine| engine.statement(account, StatementQuery { before, from, limit }))
            .await?;
    let page = page.ok_or_else(|| Problem::of_outcome(Outcome::AccountNotFound))?;
    let ledger = view.settings.ledger;
    let mut body = json!({
        "account": tenant.name_of(account),
        "asset": ledger.asset(),
        "scale": ledger.scale(),
        "legs": page.lines.iter().map(|line| leg_json(line, tenant)).collect::<Vec<_>>(),
    });
    if let Some(next) = page.next {
        body["next"] = json!(format!("{}.{}.{}", next.seq.0, next.version.0, next.posted));
    }
    Ok(Answer::ok(&body))
}

fn leg_json(leg: &StatementLine, tenant: TenantId) -> Value {
    let line = &leg.line;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("seq", Some(json!(leg.seq.0)));
    put("version", Some(json!(line.version.0)));
    put("time", Some(json!(leg.time.to_string())));
    put("event", Some(json!(line.event)));
    put("what", Some(json!(line.what)));
    put("counterparty", line.counterparty.map(|account| json!(tenant.name_of(account))));
    // What another tenant's command decided and carried is that tenant's.
    if line.owner.is_some_and(|owner| TenantId::of(owner) == Some(tenant)) {
        put("outcome", line.outcome.map(|outcome| json!(outcome.name())));
        put("value_date", line.value_date.map(|date| json!(date.to_string())));
        put("reference", line.reference.as_ref().map(|text| json!(text)));
        put("authorization", line.authorization.map(|id| json!(id.to_string())));
    }
    put("transfer", line.transfer.map(|id| json!(id.to_string())));
    put("amount", Some(json!(line.amount.to_string())));
    put("balance_after", Some(json!(leg.posted.to_string())));
    fields.into()
}

/// Where a statement goes on: sequence number, version and balance.
fn parse_cursor(account: AccountId, text: &str) -> Result<StatementCursor, Problem> {
    let bad = || Problem::invalid("`cursor` is what a page gave as `next`");
    let mut parts = text.split('.');
    let (Some(seq), Some(version), Some(posted), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    let (Ok(seq), Ok(version), Ok(posted)) = (seq.parse(), version.parse(), posted.parse()) else {
        return Err(bad());
    };
    Ok(StatementCursor { account, seq: Seq(seq), version: Version(version), posted })
}

/// A point in the journal: a time, a date (its end) or a sequence number.
fn parse_point(text: &str) -> Result<UpTo, Problem> {
    if let Ok(seq) = text.parse() {
        return Ok(UpTo::Seq(Seq(seq)));
    }
    if let Ok(date) = text.parse::<Date>() {
        return Ok(UpTo::Time(Time(date.start().0 + tp_actors::tp_core::time::DAY_MS - 1)));
    }
    parse_time(text).map(UpTo::Time).ok_or_else(|| {
        Problem::invalid("a point in time is RFC 3339 in UTC (2026-01-31T12:00:00Z), a date, or a sequence number")
    })
}

/// RFC 3339 in UTC with up to three decimals.
pub(crate) fn parse_time(text: &str) -> Option<Time> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let date: Date = date.parse().ok()?;
    let (clock, decimals) = clock.split_once('.').unwrap_or((clock, "0"));
    let number = |text: &str, below: u64| -> Option<u64> {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = is_number.then(|| text.parse().ok()).flatten()?;
        (number < below).then_some(number)
    };
    let mut parts = clock.split(':');
    let (hours, minutes) = (number(parts.next()?, 24)?, number(parts.next()?, 60)?);
    let seconds = number(parts.next()?, 60)?;
    let is_decimals = (1..=3).contains(&decimals.len()) && decimals.bytes().all(|byte| byte.is_ascii_digit());
    if parts.next().is_some() || !is_decimals {
        return None;
    }
    let ms: u64 = format!("{decimals:0<3}").parse().ok()?;
    Some(Time(date.start().0 + ((hours * 60 + minutes) * 60 + seconds) * 1000 + ms))
}

/// How many slots are asked for accounts at once: a partition is held up for as long as it takes to look through them.
const SLOTS_AT_ONCE: u16 = 16;

/// `GET /v1/accounts`
pub(crate) async fn accounts(serving: &Serving, request: &Request) -> Answered {
    let page: PageQuery = request.query()?;
    let limit = limit_of(page.limit.as_deref())?;
    let tenant = request.caller.tenant;
    let (slot, after) = page.cursor.as_deref().map_or(Ok((0, 0)), |text| {
        let parts = text.split_once('.').and_then(|(slot, id)| Some((slot.parse().ok()?, id.parse().ok()?)));
        parts.ok_or_else(|| Problem::invalid("`cursor` is what a page gave as `next`"))
    })?;
    let from: u16 = slot;
    let found =
        history(serving, tenant, move |engine| accounts_from(engine, tenant, from, AccountId(after), limit)).await?;
    let mut body = Map::new();
    let views: Vec<_> = found.iter().take(limit).collect();
    let accounts: Result<Vec<Value>, _> =
        views.iter().map(|view| serde_json::to_value(AccountJson { view, tenant })).collect();
    body.insert("accounts".to_owned(), accounts.unwrap_or_default().into());
    if let Some(last) = views.last().filter(|_| found.len() > limit) {
        let slot = serving.engine.seed().slot_of(last.account).get();
        body.insert("next".to_owned(), json!(format!("{slot}.{}", last.account.0)));
    }
    Ok(Answer::json(StatusCode::OK, &body))
}

/// A tenant's accounts by slot and id, behind a place, one more than the limit if there are more.
fn accounts_from(
    engine: &Engine,
    tenant: TenantId,
    slot: u16,
    after: AccountId,
    limit: usize,
) -> Result<Vec<AccountView>, HistoryError> {
    let (mut found, mut from) = (Vec::new(), slot);
    while found.len() <= limit {
        let Some(first) = SlotIndex::new(from) else { break };
        let is_behind = move |index: SlotIndex, account: AccountId| {
            TenantId::of(account) == Some(tenant) && (index.get() > slot || account > after)
        };
        let seed = engine.seed();
        let mut some = engine.accounts_of_slots(first, SLOTS_AT_ONCE, is_behind)?;
        some.retain(|view| view.settings.tenant == tenant.get());
        some.sort_unstable_by_key(|view| (seed.slot_of(view.account), view.account));
        found.append(&mut some);
        from += SLOTS_AT_ONCE;
    }
    Ok(found)
}

/// Reads the journal's files on a thread for that.
async fn history<T: Send + 'static>(
    serving: &Serving,
    tenant: TenantId,
    look: impl FnOnce(&Engine) -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, Problem> {
    history_from(serving, tenant, false, look).await
}

/// As [`history`]; `has_cursor`: it begins where the caller says.
async fn history_from<T: Send + 'static>(
    serving: &Serving,
    tenant: TenantId,
    has_cursor: bool,
    look: impl FnOnce(&Engine) -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, Problem> {
    // No tenant takes all of them.
    let too_many = || Problem::new(Refusal::TooManyInFlight, "as many old facts are read as may be");
    let own = serving.rooms.read(tenant).ok_or_else(too_many)?;
    let permit = Arc::clone(&serving.history_permits).try_acquire_owned().map_err(|_| too_many())?;
    let engine = Arc::clone(&serving.engine);
    let looked = tokio::task::spawn_blocking(move || {
        let _permits = (own, permit);
        look(&engine)
    });
    let failed = |detail: String| Problem::new(Refusal::HistoryFailed, detail);
    match looked.await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(HistoryError::NotAnswered(error))) => Err(Problem::of_outcome(error.outcome)),
        // Only a cursor that no page gave makes the balances not add up, or damage, which shows without one too.
        Ok(Err(HistoryError::Chain { .. })) if has_cursor => {
            Err(Problem::invalid("`cursor` is what a page gave as `next`"))
        }
        Ok(Err(HistoryError::Cursor { .. })) => Err(Problem::invalid("`cursor` is what a page gave as `next`")),
        Ok(Err(error @ HistoryError::TooFar { .. })) => Err(Problem::invalid(error.to_string())),
        Ok(Err(error)) => {
            tracing::error!(%error, "old facts could not be read");
            Err(failed("the journal could not be read at that place; the operator's logs say why".to_owned()))
        }
        Err(_) => Err(failed("a bug: the reading thread ended early".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_texts_that_are_none_are_refused() {
        assert_eq!(parse_time("1970-01-02T00:00:01.5Z"), Some(Time(86_401_500)));
        for text in [
            "",
            "Z",
            "1970-01-02",
            "1970-01-02T00:00Z",
            "1970-01-02T24:00:00Z",
            "1970-01-02T00:00:00",
            "1970-01-02T00:00:00.1234Z",
            "1970-01-02T+1:00:00Z",
        ] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert!(matches!(parse_point("17"), Ok(UpTo::Seq(Seq(17)))));
        assert!(matches!(parse_point("1970-01-01"), Ok(UpTo::Time(Time(86_399_999)))));
    }

    #[test]
    fn a_cursor_that_no_page_gave_is_refused() {
        let account = AccountId(1);
        assert!(parse_cursor(account, "5.2.-30").is_ok());
        for text in ["", "5", "5.2", "5.2.1.1", "a.b.c", "-1.2.3"] {
            assert!(parse_cursor(account, text).is_err(), "{text}");
        }
    }
}
