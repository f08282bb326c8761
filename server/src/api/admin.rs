//! Tenants, keys, thresholds, agreements over HTTP.
//!
//! Owns the bodies of these routes. A secret is shown once, in the answer that makes it, and kept as a hash or sealed. Refuses to show or
//! change anything of another tenant; what concerns several is the operator's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tp_actors::tp_core::time::Time;

use super::approvals::{by, problem_of};
use super::command::{parse_amount, parse_ledger};
use super::problem::{Problem, Refusal};
use super::request::{Answer, Answered, Caller, Request};
use crate::app::Serving;
use crate::cards::names_card;
use crate::control::{Change, KeyEntry, KeyId, KeyKind, Maker, NewKey, Refused, Role, Tenant};
use crate::tenancy::{TenantId, parse_decimal};

/// `GET /v1/tenant`
pub(crate) fn tenant(serving: &Serving, request: &Request) -> Answered {
    let tenant = request.caller.tenant;
    serving.control.read(|state| {
        let found =
            state.tenant(tenant).ok_or_else(|| Problem::new(Refusal::NotFound, "the tenant is not recorded"))?;
        let mut body = tenant_json(found);
        let agreements = state.agreements_of(tenant);
        let list: Vec<Value> = agreements.map(|(payer, payee)| json!({"payer": payer, "payee": payee})).collect();
        body.insert("agreements".to_owned(), list.into());
        Ok(Answer::ok(&body))
    })
}

fn tenant_json(tenant: &Tenant) -> Map<String, Value> {
    let threshold = |(ledger, amount): (&String, &String)| {
        let (asset, scale) = ledger.split_once('/').unwrap_or((ledger, "0"));
        json!({"asset": asset, "scale": scale.parse::<u8>().unwrap_or(0), "amount": amount})
    };
    let mut body = Map::new();
    body.insert("tenant".to_owned(), json!(tenant.tenant));
    body.insert("name".to_owned(), json!(tenant.name));
    body.insert("thresholds".to_owned(), tenant.thresholds.iter().map(threshold).collect());
    body
}

/// `PUT /v1/tenant/threshold`
pub(crate) async fn set_threshold(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        asset: String,
        scale: u8,
        /// `null`: no second person is needed.
        amount: Option<String>,
        /// Whose: the operator may name another tenant than its own.
        #[serde(default)]
        tenant: Option<TenantId>,
    }
    let body: Body = request.json()?;
    let tenant = of_operator(&request.caller, body.tenant)?;
    let ledger = parse_ledger(&body.asset, body.scale)?.to_string();
    let amount = body.amount.as_deref().map(|text| parse_amount("amount", text)).transpose()?;
    let is_operators = request.caller.tenant == TenantId::OPERATOR;
    let change = Change::ThresholdSet { tenant, ledger: ledger.clone(), amount: amount.map(|a| a.to_string()) };
    let by = by(&request.caller);
    let made = serving.control.change_if(&by, |state| {
        // Whoever is bound by a threshold does not raise it.
        let before = state.tenant(tenant).and_then(|tenant| tenant.thresholds.get(&ledger));
        let before = before.and_then(|text| parse_decimal(text));
        let is_raised = before.is_some_and(|before| amount.is_none_or(|amount| amount.get() > before));
        if is_raised && !is_operators { Err(Refused::OnlyOperator) } else { Ok(Some(change)) }
    });
    made.await.map_err(problem_of)?;
    serving.control.read(|state| {
        let found = state.tenant(tenant).ok_or_else(|| Problem::new(Refusal::NotFound, ""))?;
        Ok(Answer::ok(&tenant_json(found)))
    })
}

/// The tenant that a request is about: the caller's own, or for the operator the one that is named.
fn of_operator(caller: &Caller, named: Option<TenantId>) -> Result<TenantId, Problem> {
    match named {
        None => Ok(caller.tenant),
        Some(tenant) if tenant == caller.tenant || caller.tenant == TenantId::OPERATOR => Ok(tenant),
        Some(_) => Err(Problem::new(Refusal::Forbidden, "only the operator names another tenant")),
    }
}

/// `GET /v1/keys`
pub(crate) fn keys(serving: &Serving, request: &Request) -> Answer {
    let keys = serving.control.read(|state| state.keys_of(request.caller.tenant));
    let keys: Vec<Value> = keys.iter().map(|entry| key_json(entry).into()).collect();
    Answer::ok(&json!({ "keys": keys }))
}

fn key_json(entry: &KeyEntry) -> Map<String, Value> {
    let time = |ms: u64| json!(Time(ms).to_string());
    let mut body = Map::new();
    body.insert("key".to_owned(), json!(entry.key.to_string()));
    body.insert("kind".to_owned(), json!(entry.credential.kind()));
    body.insert("person".to_owned(), json!(&*entry.person));
    body.insert("roles".to_owned(), entry.roles.each().map(|role| json!(role.name())).collect());
    body.insert("added".to_owned(), time(entry.added.0));
    if let Some(revoked) = entry.revoked {
        body.insert("revoked".to_owned(), time(revoked.0));
    }
    body
}

/// `POST /v1/keys`
pub(crate) async fn add_key(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        person: String,
        roles: Vec<Role>,
        #[serde(default = "bearer")]
        kind: String,
        /// Of an Ed25519 key: the public key; of a certificate: the SHA-256 of its DER form. Base64.
        #[serde(default)]
        public: Option<String>,
        /// Whose: the operator may name another tenant than its own.
        #[serde(default)]
        tenant: Option<TenantId>,
    }
    fn bearer() -> String {
        "bearer".to_owned()
    }
    let body: Body = request.json()?;
    if names_card(&body.person) {
        return Err(Problem::new(Refusal::CardNumber, "`person`"));
    }
    let public = body.public.as_deref().map(|text| STANDARD.decode(text)).transpose();
    let public = public.map_err(|_| Problem::invalid("`public` is Base64"))?;
    let kind = KeyKind::parse(&body.kind, public).map_err(Problem::invalid)?;
    let tenant = of_operator(&request.caller, body.tenant)?;
    // Nothing shows here that the certificate is the caller's: a tenant could take another's.
    if matches!(kind, KeyKind::Certificate(_)) && request.caller.tenant != TenantId::OPERATOR {
        return Err(Problem::new(Refusal::Forbidden, "certificates are added by the operator"));
    }
    let made_by = Some(Maker { person: request.caller.person.to_string(), key: request.caller.key });
    let new = NewKey::make(kind, tenant, body.person, body.roles.into_iter().collect(), made_by, &serving.sealer)
        .map_err(|error| Problem::new(Refusal::ControlFailed, error))?;
    let id = new.key;
    serving.control.change(&by(&request.caller), new.change).await.map_err(problem_of)?;
    let entry = serving.control.read(|state| state.live_key(id).cloned());
    let mut body = entry.map(|entry| key_json(&entry)).unwrap_or_default();
    if let Some(secret) = new.secret {
        body.insert("secret".to_owned(), json!(secret.as_str()));
    }
    Ok(Answer::json(StatusCode::CREATED, &body))
}

/// `DELETE /v1/keys/{key}`
pub(crate) async fn revoke_key(serving: &Serving, request: &Request) -> Answered {
    let missing = || Problem::new(Refusal::NotFound, "there is no such key");
    let key: KeyId = request.path(0).parse().map_err(|_| missing())?;
    let entry = serving.control.read(|state| state.live_key(key).cloned());
    let entry = entry.filter(|entry| entry.tenant == request.caller.tenant).ok_or_else(missing)?;
    serving.control.change(&by(&request.caller), Change::KeyRevoked { key }).await.map_err(problem_of)?;
    Ok(Answer::ok(&key_json(&KeyEntry { revoked: Some(crate::control::now()), ..KeyEntry::clone(&entry) })))
}

/// `GET /v1/tenants`
pub(crate) fn tenants(serving: &Serving) -> Answer {
    let tenants: Vec<Value> =
        serving.control.read(|state| state.tenants().map(|tenant| tenant_json(tenant).into()).collect());
    Answer::ok(&json!({ "tenants": tenants }))
}

/// `POST /v1/tenants`
pub(crate) async fn add_tenant(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        tenant: TenantId,
        name: String,
    }
    let body: Body = request.json()?;
    if names_card(&body.name) {
        return Err(Problem::new(Refusal::CardNumber, "`name`"));
    }
    let change = Change::TenantAdded { tenant: body.tenant, name: body.name };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    let shown = serving.control.read(|state| state.tenant(body.tenant).map(tenant_json)).unwrap_or_default();
    Ok(Answer::json(StatusCode::CREATED, &shown))
}

/// `POST /v1/agreements`
pub(crate) async fn add_agreement(serving: &Serving, request: &Request) -> Answered {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        payer: TenantId,
        payee: TenantId,
    }
    let Body { payer, payee } = request.json()?;
    let change = Change::AgreementAdded { payer, payee };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    Ok(Answer::json(StatusCode::CREATED, &json!({"payer": payer, "payee": payee})))
}

/// `DELETE /v1/agreements/{payer}/{payee}`
pub(crate) async fn end_agreement(serving: &Serving, request: &Request) -> Answered {
    let tenant = |index: usize| request.path(index).parse::<TenantId>().map_err(Problem::invalid);
    let (payer, payee) = (tenant(0)?, tenant(1)?);
    let change = Change::AgreementEnded { payer, payee };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    Ok(Answer::ok(&json!({"payer": payer, "payee": payee})))
}
