//! The description of the protocol, `OpenAPI` 3.1, made from the tables that the server itself works by.
//!
//! Owns the mapping from routes, shapes and members to schemas. Refuses to describe anything by hand that a table says: a route or member
//! that is added is described. The text is checked in as `server/openapi.json`; a test compares.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use tp_actors::tp_core::command::Verb;
use tp_actors::tp_core::outcome::Outcome;

use super::members::{Kind, MEMBERS, NOTE, Shape, shape};
use super::problem::Refusal;
use super::routes::{Access, Operation, ROUTES, Route};

/// The description's text.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
        text.push('\n');
        text
    })
}

fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tpcore",
            "version": "1",
            "summary": "Payment authorizations over a double-entry ledger; every reply is durable.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT)." },
                "mutualTls": { "type": "mutualTLS", "description": "A client certificate that a key names." },
            },
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "responses": responses(route),
    });
    let parameters = parameters(route);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = body(route) {
        let required = !matches!(route.operation, Operation::Command(Verb::CloseAccount | Verb::Void));
        operation["requestBody"] = json!({
            "required": required,
            "content": { "application/json": { "schema": schema } },
        });
    }
    match route.access {
        Access::Public => operation["security"] = json!([]),
        Access::Role(role) => {
            operation["security"] = json!([{"bearer": []}, {"mutualTls": []}]);
            operation["description"] = json!(format!("Role: {}.", role.name()));
        }
        Access::EachCommand => {
            operation["security"] = json!([{"bearer": []}, {"mutualTls": []}]);
            operation["description"] = json!("Role: that of each command.");
        }
    }
    operation
}

/// A stable name: the command's or the read's.
fn operation_id(route: &Route) -> String {
    match route.operation {
        Operation::Command(Verb::Lookup) if route.path.ends_with("/fence") => "fence".to_owned(),
        Operation::Command(verb) => verb.name().to_owned(),
        other => {
            let name = format!("{other:?}");
            name.char_indices().fold(String::new(), |mut id, (at, c)| {
                if c.is_ascii_uppercase() && at > 0 {
                    id.push('_');
                }
                id.push(c.to_ascii_lowercase());
                id
            })
        }
    }
}

fn parameters(route: &Route) -> Vec<Value> {
    let mut parameters = Vec::new();
    for part in route.path.split('/') {
        let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else { continue };
        let schema = match name {
            "account" => value_schema(Kind::Account),
            "authorization" => value_schema(Kind::Id),
            "approval" | "card" => json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
            "key" if route.path.starts_with("/v1/keys") => json!({"type": "string", "pattern": "^[0-9a-f]{16}$"}),
            "key" => json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
            _ => json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_294_u64}),
        };
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    let query = |name: &str, schema: Value, meaning: &str| json!({"name": name, "in": "query", "required": false, "schema": schema, "description": meaning});
    let limit = || {
        query("limit", json!({"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}), "How many at most.")
    };
    let cursor = || query("cursor", json!({"type": "string"}), "Where the page begins: `next` of the page before.");
    let point = json!({"type": "string"});
    match route.operation {
        Operation::Accounts | Operation::Approvals | Operation::Cards => parameters.extend([limit(), cursor()]),
        Operation::Statement => {
            parameters.extend([limit(), cursor()]);
            parameters.push(query("from", point, "Leave out what was recorded before this time."));
        }
        Operation::Account => {
            parameters.push(query("at", point, "A time, a date (its end) or a sequence number: the balances then."));
        }
        Operation::History => {
            let meaning = "The authorization's account: needed once the authorization has left memory.";
            parameters.push(query("account", value_schema(Kind::Account), meaning));
        }
        _ => {}
    }
    parameters.extend(header_parameters(route));
    parameters
}

fn header_parameters(route: &Route) -> Vec<Value> {
    let header = |name: &str, required: bool, schema: Value, meaning: &str| json!({"name": name, "in": "header", "required": required, "schema": schema, "description": meaning});
    let mut headers = Vec::new();
    if let Operation::Command(verb) = route.operation {
        if verb != Verb::Lookup {
            let schema = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
            headers.push(header("Idempotency-Key", true, schema, "Same key, same body: the first reply again."));
        }
        let kinds = json!({"type": "string", "enum": ["opaque", "uuid_v7"], "default": "opaque"});
        headers.push(header("Idempotency-Key-Kind", false, kinds, "What the key's bits mean."));
    }
    if matches!(route.operation, Operation::Command(_) | Operation::Batch) {
        let schema = json!({"type": "integer", "minimum": 1, "maximum": 60_000});
        headers.push(header("Tpcore-Deadline-Ms", false, schema, "Until it is decided and durable, ms."));
    }
    headers
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn body(route: &Route) -> Option<Value> {
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false});
    let tenant = || json!({"type": "integer", "minimum": 0, "maximum": 4_294_967_294_u64});
    Some(match route.operation {
        Operation::Command(Verb::Lookup) => return None,
        Operation::Command(verb) => reference(&schema_name(verb)),
        Operation::Batch => reference("Batch"),
        Operation::SetThreshold => object(
            &["asset", "scale", "amount"],
            json!({
                "asset": value_schema(Kind::Asset),
                "scale": value_schema(Kind::Number(0, 38)),
                "amount": {"type": ["string", "null"], "pattern": AMOUNT, "description": "Minor units; null: never."},
                "tenant": tenant(),
            }),
        ),
        Operation::AddKey => object(
            &["person", "roles"],
            json!({
                "person": {"type": "string", "minLength": 1, "maxLength": 100},
                "roles": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": ROLES}},
                "kind": {"type": "string", "enum": ["bearer", "hmac", "ed25519", "certificate"], "default": "bearer"},
                "tenant": tenant(),
                "public": {"type": "string", "description": "Base64: an Ed25519 public key, or a certificate's SHA-256."},
            }),
        ),
        Operation::AddTenant => object(
            &["tenant", "name"],
            json!({"tenant": tenant(), "name": {"type": "string", "minLength": 1, "maxLength": 100}}),
        ),
        Operation::AddAgreement => object(&["payer", "payee"], json!({"payer": tenant(), "payee": tenant()})),
        Operation::AddCard => object(
            &["card_number", "account"],
            json!({
                "card_number": {"type": "string", "pattern": "^[0-9]{12,19}$", "description": "With its check digit."},
                "account": value_schema(Kind::Account),
                "expires": {"type": "string", "pattern": "^[0-9]{2}(0[1-9]|1[0-2])$", "description": "YYMM."},
            }),
        ),
        Operation::UpdateCard => {
            object(&["status"], json!({"status": {"type": "string", "enum": ["active", "blocked", "closed"]}}))
        }
        _ => return None,
    })
}

const ROLES: [&str; 5] = ["read", "authorize", "money_movement", "admin", "card_data"];

fn responses(route: &Route) -> Value {
    let answer = |meaning: &str, schema: Value| json!({"description": meaning, "content": {"application/json": {"schema": schema}}});
    let mut responses = Map::new();
    match route.operation {
        Operation::Command(verb) => {
            responses.insert("200".to_owned(), answer("Done, or done before.", reference("Reply")));
            let makes = !matches!(
                verb,
                Verb::UpdateAccount | Verb::CloseAccount | Verb::Increment | Verb::Void | Verb::Reverse | Verb::Lookup
            );
            if makes {
                responses.insert("201".to_owned(), answer("Done; something was made.", reference("Reply")));
            }
            if matches!(verb, Verb::Capture | Verb::Refund | Verb::Advise | Verb::Transfer | Verb::Lookup) {
                responses.insert("202".to_owned(), answer("It waits for a second person.", reference("Approval")));
            }
        }
        Operation::Batch => {
            _ = responses.insert("200".to_owned(), answer("One answer a command.", reference("Replies")));
        }
        Operation::Approval | Operation::Approve | Operation::Reject => {
            responses.insert("200".to_owned(), answer("The approval as it stands.", reference("Approval")));
            if route.operation == Operation::Approve {
                let meaning = "Approved; it could not be executed yet and is tried again.";
                responses.insert("202".to_owned(), answer(meaning, reference("Approval")));
            }
        }
        Operation::AddCard => {
            responses.insert("200".to_owned(), answer("It was there before.", json!({"type": "object"})));
            responses.insert("201".to_owned(), answer("Made.", json!({"type": "object"})));
        }
        Operation::AddKey | Operation::AddTenant | Operation::AddAgreement => {
            responses.insert("201".to_owned(), answer("Made.", json!({"type": "object"})));
        }
        _ => _ = responses.insert("200".to_owned(), answer("As asked.", json!({"type": "object"}))),
    }
    let problem = json!({
        "description": "A problem: RFC 9457, with the stable name in `outcome`.",
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    });
    responses.insert("default".to_owned(), problem);
    responses.into()
}

fn schema_name(verb: Verb) -> String {
    verb.name().split('_').fold(String::new(), |mut name, part| {
        let (first, rest) = part.split_at(1);
        name.push_str(&first.to_uppercase());
        name.push_str(rest);
        name
    })
}

const AMOUNT: &str = "^(0|[1-9][0-9]{0,28})$";

fn value_schema(kind: Kind) -> Value {
    match kind {
        Kind::Amount => json!({"type": "string", "pattern": AMOUNT}),
        Kind::Account => json!({"type": "string", "pattern": "^[1-9][0-9]{0,28}$"}),
        Kind::Payee => json!({"type": "string", "pattern": "^((0|[1-9][0-9]{0,9}):)?[1-9][0-9]{0,28}$"}),
        Kind::Id => json!({"type": "string", "format": "uuid"}),
        Kind::Asset => json!({"type": "string", "pattern": "^[A-Z0-9]{1,7}$"}),
        Kind::Text => json!({"type": "string", "minLength": 1, "maxLength": 255}),
        Kind::Choice(choices) => json!({"type": "string", "enum": choices}),
        Kind::Number(from, to) => json!({"type": "integer", "minimum": from, "maximum": to}),
        Kind::Bool => json!({"type": "boolean"}),
        Kind::Date => json!({"type": "string", "format": "date"}),
        Kind::Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
        Kind::CreditLimit => json!({"type": "string", "pattern": "^(unlimited|0|[1-9][0-9]{0,28})$"}),
        Kind::Limits => reference("Limits"),
    }
}

/// The schema of a command's members; in a batch with what its route has in the path, and its key.
fn command_schema(verb: Verb, in_batch: bool) -> Value {
    let Shape { required, optional, in_path, has_note } = shape(verb);
    let path: &[&str] = if in_batch { in_path } else { &[] };
    let note: &[&str] = if has_note { NOTE } else { &[] };
    let mut wanted: Vec<&str> = [required, path].concat();
    let mut properties = Map::new();
    if in_batch {
        properties.insert("command".to_owned(), json!({"type": "string", "enum": [verb.name()]}));
        wanted.extend(["command", "key"]);
    }
    let batch: &[&str] = if in_batch { &["key", "key_kind"] } else { &[] };
    for (name, kind, meaning) in MEMBERS {
        let is_member = [required, optional, path, note, batch].iter().any(|list| list.contains(name));
        // To fence is a route of its own.
        if !is_member || (*name == "fence" && !in_batch) {
            continue;
        }
        let mut schema = value_schema(*kind);
        // Beside a reference a description would be ignored by some readers.
        if schema.get("$ref").is_none() {
            schema["description"] = json!(meaning);
        }
        properties.insert((*name).to_owned(), schema);
    }
    json!({"type": "object", "required": wanted, "properties": properties, "additionalProperties": false})
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    let mut in_batch = Vec::new();
    let verbs = Verb::ALL.iter().copied().filter(|verb| !matches!(verb, Verb::Read | Verb::Record));
    for verb in verbs {
        if verb != Verb::Lookup {
            schemas.insert(schema_name(verb), command_schema(verb, false));
        }
        let name = format!("{}InBatch", schema_name(verb));
        in_batch.push(reference(&name));
        schemas.insert(name, command_schema(verb, true));
    }
    schemas.insert(
        "Batch".to_owned(),
        json!({
            "type": "object",
            "required": ["commands"],
            "properties": {"commands": {"type": "array", "minItems": 1, "maxItems": 500, "items": {"oneOf": in_batch}}},
            "additionalProperties": false,
        }),
    );
    schemas.insert("Limits".to_owned(), limits_schema());
    let names = |all: &mut dyn Iterator<Item = &'static str>| all.collect::<Vec<_>>();
    let outcomes = names(&mut Outcome::ALL.iter().map(|outcome| outcome.name()));
    let problems = names(&mut Outcome::ALL.iter().map(|o| o.name()).chain(Refusal::ALL.iter().map(|r| r.name())));
    schemas.insert("Reply".to_owned(), reply_schema(json!({"type": "string", "enum": outcomes})));
    schemas.insert("Problem".to_owned(), problem_schema(json!({"type": "string", "enum": problems})));
    schemas.insert("Approval".to_owned(), approval_schema());
    schemas.insert(
        "Replies".to_owned(),
        json!({
            "type": "object",
            "required": ["replies"],
            "properties": {"replies": {"type": "array", "items": {"type": "object", "required": ["status"]}}},
        }),
    );
    schemas.into()
}

fn limits_schema() -> Value {
    let amount = value_schema(Kind::Amount);
    let period = json!({
        "type": "object",
        "properties": {"count": {"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u64}, "amount": amount},
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "description": "What bounds an account's debits beside its funds, minor units.",
        "properties": {"command_amount": amount, "day": period, "month": period},
        "additionalProperties": false,
    })
}

/// What a decision shows.
fn decision_properties() -> Map<String, Value> {
    let signed = json!({"type": "string", "pattern": "^-?(0|[1-9][0-9]*)$"});
    let nullable = json!({"type": ["string", "null"], "pattern": "^-?(0|[1-9][0-9]*)$"});
    let properties = json!({
        "repeated": {"type": "boolean"},
        "reversed": {"type": "boolean"},
        "flags": {"type": "array", "items": {"type": "string"}},
        "amount": value_schema(Kind::Amount),
        "asset": value_schema(Kind::Asset),
        "scale": value_schema(Kind::Number(0, 38)),
        "balances": {
            "type": "object",
            "required": ["posted", "held", "available"],
            "properties": {"posted": signed, "held": signed, "available": nullable},
        },
        "authorization": value_schema(Kind::Id),
        "transfer": value_schema(Kind::Id),
        "expires": {"type": "string", "format": "date-time"},
        "seq": {"type": "integer", "minimum": 1},
        "version": {"type": "integer", "minimum": 1},
    });
    match properties {
        Value::Object(properties) => properties,
        _ => Map::new(),
    }
}

fn reply_schema(outcome: Value) -> Value {
    let mut properties = decision_properties();
    properties.insert("outcome".to_owned(), outcome);
    json!({"type": "object", "required": ["outcome", "repeated", "reversed", "flags", "amount"], "properties": properties})
}

fn problem_schema(outcome: Value) -> Value {
    let mut properties = decision_properties();
    for (name, schema) in [
        ("type", json!({"type": "string"})),
        ("title", json!({"type": "string"})),
        ("status", json!({"type": "integer", "minimum": 400, "maximum": 599})),
        ("detail", json!({"type": "string"})),
        ("outcome", outcome),
        ("trace_id", json!({"type": "string", "pattern": "^[0-9a-f]{32}$"})),
    ] {
        properties.insert(name.to_owned(), schema);
    }
    json!({"type": "object", "required": ["type", "title", "status", "outcome"], "properties": properties})
}

fn approval_schema() -> Value {
    json!({
        "type": "object",
        "required": ["approval", "state", "asked_by", "asked", "expires", "command"],
        "properties": {
            "approval": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "state": {"type": "string", "enum": ["pending", "expired", "approved", "rejected", "executed"]},
            "asked_by": {"type": "string"},
            "asked": {"type": "string", "format": "date-time"},
            "expires": {"type": "string", "format": "date-time"},
            "command": {"type": "object"},
            "decided_by": {"type": "string"},
            "outcome": {"type": "string"},
            "reply": {"type": "object"},
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_that_is_checked_in_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("TPCORE_RENEW").is_some() {
            std::fs::write(path, text()).expect("written");
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == text(), "server/openapi.json is not what is served: run this test with TPCORE_RENEW=1");
    }

    #[test]
    fn it_is_openapi_and_every_reference_in_it_leads_somewhere() {
        let parsed: Result<utoipa::openapi::OpenApi, _> = serde_json::from_str(text());
        assert!(parsed.is_ok(), "{:?}", parsed.err());
        let document = document();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for part in text().split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn operation_ids_are_unique_and_mutations_with_money_ask_for_a_key() {
        let mut ids: Vec<_> = ROUTES.iter().map(operation_id).collect();
        ids.sort();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all);
        for route in ROUTES.iter().filter(|route| route.method != http::Method::GET) {
            let Operation::Command(verb) = route.operation else { continue };
            let wants = parameters(route).iter().any(|p| p["name"] == "Idempotency-Key" && p["required"] == true);
            assert_eq!(wants, verb != Verb::Lookup, "{}", route.path);
        }
    }
}
