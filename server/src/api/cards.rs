//! Cards over HTTP.
//!
//! Owns the bodies of these routes. A number comes in once, when a card is added, and goes out only to the role `card_data`, which is
//! recorded; everything else names a card by its token. Refuses to repeat anything of a body that it could not read.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tp_actors::tp_core::time::Time;
use zeroize::Zeroizing;

use super::approvals::by;
use super::command::parse_account;
use super::problem::{Problem, Refusal};
use super::request::{Answer, Answered, PageQuery, Request, limit_of};
use crate::app::Serving;
use crate::cards::{Card, CardError, CardKeyId, CardStatus, Expiry, NewCard, Pan, Token};
use crate::control::now;

/// A body with a card number: what is wrong with it is said by its place, never by its words.
fn private_json<'a, T: Deserialize<'a>>(request: &'a Request, members: &str) -> Result<T, Problem> {
    serde_json::from_slice(&request.body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::invalid(format!("the body at line {line}, column {column}: it is an object with {members}"))
    })
}

/// `POST /v1/cards`
pub(crate) async fn add(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        card_number: Zeroizing<String>,
        account: String,
        #[serde(default)]
        expires: Option<String>,
    }
    let body: Body = private_json(request, "`card_number`, `account` and perhaps `expires` (YYMM)")?;
    let pan = Pan::parse(body.card_number.as_bytes()).map_err(|error| Problem::invalid(error.to_string()))?;
    let tenant = request.caller.tenant;
    let account = parse_account(tenant, &body.account)?;
    let expiry = body.expires.as_deref().map(|text| Expiry::parse(text.as_bytes()));
    let expiry = expiry.map(|expiry| expiry.ok_or_else(|| Problem::invalid("`expires` is YYMM"))).transpose()?;
    let new = NewCard { tenant, pan, account, expiry };
    let (card, is_new) = serving.vault.add(new, &by(&request.caller)).await.map_err(problem_of)?;
    Ok(Answer::json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &json_of(&card)))
}

/// `GET /v1/cards`
pub(crate) fn list(serving: &Serving, request: &Request) -> Answered {
    let page: PageQuery = request.query()?;
    let limit = limit_of(page.limit.as_deref())?;
    let after = page.cursor.as_deref().map(str::parse).transpose();
    let after: Option<Token> = after.map_err(|_| Problem::invalid("`cursor` is not one that was given here"))?;
    let mut cards = serving.vault.page(request.caller.tenant, after, limit + 1);
    let mut body = serde_json::Map::new();
    let is_more = cards.len() > limit;
    cards.truncate(limit);
    if let Some(last) = cards.last().filter(|_| is_more) {
        body.insert("next".to_owned(), json!(last.token.to_string()));
    }
    body.insert("cards".to_owned(), cards.iter().map(json_of).collect());
    Ok(Answer::ok(&body))
}

/// `GET /v1/cards/{card}`
pub(crate) fn get(serving: &Serving, request: &Request) -> Answered {
    let card = serving.vault.card(request.caller.tenant, token(request)?).ok_or_else(missing)?;
    Ok(Answer::ok(&json_of(&card)))
}

/// `PATCH /v1/cards/{card}`
pub(crate) async fn update(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        status: String,
    }
    let body: Body = private_json(request, "`status`")?;
    let status = CardStatus::named(&body.status)
        .ok_or_else(|| Problem::invalid("`status` is `active`, `blocked` or `closed`"))?;
    let changed = serving.vault.set_status(request.caller.tenant, token(request)?, status, &by(&request.caller)).await;
    Ok(Answer::ok(&json_of(&changed.map_err(problem_of)?)))
}

/// `POST /v1/cards/{card}/reveal`
pub(crate) async fn reveal(serving: &Serving, request: &Request) -> Answered {
    if !request.body.is_empty() {
        return Err(Problem::invalid("it has no body"));
    }
    let token = token(request)?;
    let pan = serving.vault.reveal(request.caller.tenant, token, &by(&request.caller)).await.map_err(problem_of)?;
    let digits = std::str::from_utf8(pan.digits()).unwrap_or_default();
    Ok(Answer::ok(&json!({"card": token.to_string(), "card_number": digits})))
}

/// `GET /v1/card-keys`
pub(crate) fn keys(serving: &Serving) -> Answer {
    let (ids, counts) = serving.vault.counts();
    let count = |id: &CardKeyId| counts.0.iter().find(|(key, _)| key == id).map_or(0, |(_, count)| *count);
    let key = |(at, id): (usize, &CardKeyId)| json!({"key": id.to_string(), "is_current": at == 0, "cards": count(id)});
    let keys: Vec<Value> = ids.iter().enumerate().map(key).collect();
    Answer::ok(&json!({ "card_keys": keys }))
}

fn token(request: &Request) -> Result<Token, Problem> {
    request.path(0).parse().map_err(|_| missing())
}

fn missing() -> Problem {
    Problem::new(Refusal::NotFound, "there is no such card")
}

fn json_of(card: &Card) -> Value {
    let today = Time(now().0);
    let mut body = json!({
        "card": card.token.to_string(),
        "masked": card.masked(),
        "account": card.tenant.name_of(card.account),
        "status": card.status.name(),
        "added": Time(card.added).to_string(),
    });
    if let Some(expiry) = card.expiry {
        body["expires"] = json!(expiry.to_string());
        body["is_expired"] = json!(crate::cards::is_over(expiry, today));
    }
    body
}

fn problem_of(error: CardError) -> Problem {
    match error {
        CardError::NoCard => missing(),
        error @ CardError::OtherAccount => Problem::new(Refusal::AlreadyExists, error.to_string()),
        error => Problem::new(Refusal::ControlFailed, error.to_string()),
    }
}
