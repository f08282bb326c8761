//! `tpcore tenant` and `tpcore key`: who may do what, in a directory that no server has open.
//!
//! Owns the reading of their arguments and what is printed: a secret once, when its key is made. Refuses to work beside a running
//! server, which has routes for it, and to make a directory by a slip of the path.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tp_server::control::{KeyId, KeyKind, Role, Roles};
use tp_server::offline::Offline;
use tp_server::tenancy::TenantId;

use super::args::{Administered, KeyVerb, TenantVerb};
use super::exit::{Code, Failure};
use super::output::{Output, Table, object};
use super::serve::{failure, read};

/// Runs `tpcore tenant`.
pub(crate) fn run_tenant(verb: &TenantVerb, output: &mut Output) -> Result<Code, Failure> {
    match verb {
        TenantVerb::Add { tenant, name, directory } => {
            let tenant = parse_tenant(tenant)?;
            // The first tenant may make the directory: nothing else can be served without one.
            with(directory, |offline| offline.add_tenant(tenant, name).map_err(|error| failure(&error)))?;
            say(output, &format!("tenant {tenant} is there"), json!({"tenant": tenant.get(), "name": name}))
        }
        TenantVerb::List(directory) => {
            must_exist(&directory.directory.data_dir)?;
            let tenants = with(directory, |offline| Ok(offline.tenants()))?;
            if output.is_json() {
                let list: Vec<Value> =
                    tenants.iter().map(|t| json!({"tenant": t.tenant.get(), "name": t.name})).collect();
                output.object(&object([("tenants", list.into())]))?;
                return Ok(Code::Ok);
            }
            let mut table = Table::new(&["tenant", "name"], 2);
            for tenant in &tenants {
                table.row(vec![tenant.tenant.to_string(), tenant.name.clone()]);
            }
            table.print(output)?;
            Ok(Code::Ok)
        }
        TenantVerb::Agree { payer, payee, end, directory } => {
            must_exist(&directory.directory.data_dir)?;
            let (payer, payee) = (parse_tenant(payer)?, parse_tenant(payee)?);
            with(directory, |offline| {
                let changed =
                    if *end { offline.end_agreement(payer, payee) } else { offline.add_agreement(payer, payee) };
                changed.map_err(|error| failure(&error))
            })?;
            let what = if *end { "may no longer be" } else { "may be" };
            let text = format!("money of tenant {payer} {what} paid to tenant {payee}");
            say(output, &text, json!({"payer": payer.get(), "payee": payee.get(), "ended": end}))
        }
    }
}

/// What `tpcore key list` shows of a key.
const HEADER: [&str; 5] = ["key", "kind", "person", "roles", "state"];

/// Runs `tpcore key`.
pub(crate) fn run_key(verb: &KeyVerb, output: &mut Output) -> Result<Code, Failure> {
    match verb {
        KeyVerb::Add { tenant, person, roles, kind, public, directory } => {
            must_exist(&directory.directory.data_dir)?;
            let tenant = parse_tenant(tenant)?;
            let roles = parse_roles(roles)?;
            let public = public.as_deref().map(|text| STANDARD.decode(text)).transpose();
            let public = public.map_err(|_| Failure::new(Code::Usage, "--public is Base64"))?;
            let kind = KeyKind::parse(kind, public).map_err(|reason| Failure::new(Code::Usage, reason))?;
            let (key, secret) = with(directory, |offline| {
                offline.add_key(kind, tenant, person, roles).map_err(|error| failure(&error))
            })?;
            let secret = secret.as_ref().map(|secret| secret.as_str());
            let text = match secret {
                Some(secret) => {
                    format!("key {key}\nsecret {secret}\nIt is kept as a hash or sealed, and shown only now.")
                }
                None => format!("key {key}"),
            };
            say(output, &text, json!({"key": key.to_string(), "secret": secret}))
        }
        KeyVerb::List { tenant, directory } => {
            must_exist(&directory.directory.data_dir)?;
            let tenant = parse_tenant(tenant)?;
            let keys = with(directory, |offline| Ok(offline.keys(tenant)))?;
            let rows: Vec<[String; 5]> = keys
                .iter()
                .map(|entry| {
                    let roles: Vec<&str> = entry.roles.each().map(Role::name).collect();
                    let state = if entry.revoked.is_some() { "revoked" } else { "live" };
                    let kind = entry.credential.kind();
                    [
                        entry.key.to_string(),
                        kind.to_owned(),
                        entry.person.to_string(),
                        roles.join(","),
                        state.to_owned(),
                    ]
                })
                .collect();
            if output.is_json() {
                let row =
                    |row: &[String; 5]| HEADER.iter().zip(row).map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
                let list: Vec<Value> = rows.iter().map(|r| Value::Object(row(r))).collect();
                output.object(&object([("keys", list.into())]))?;
                return Ok(Code::Ok);
            }
            let mut table = Table::new(&HEADER, 5);
            for row in rows {
                table.row(row.into());
            }
            table.print(output)?;
            Ok(Code::Ok)
        }
        KeyVerb::Revoke { key, directory } => {
            must_exist(&directory.directory.data_dir)?;
            let key: KeyId =
                key.parse().map_err(|_| Failure::new(Code::Usage, "a key's id is 16 hex digits in lower case"))?;
            with(directory, |offline| offline.revoke_key(key).map_err(|error| failure(&error)))?;
            say(output, &format!("key {key} is worth nothing from now on"), json!({"key": key.to_string()}))
        }
    }
}

/// Works on a directory and closes it, whatever came of the work.
fn with<T>(directory: &Administered, work: impl FnOnce(&Offline) -> Result<T, Failure>) -> Result<T, Failure> {
    let settings = read(&directory.settings)?;
    let offline = Offline::open(&directory.directory.data_dir, &settings).map_err(|error| failure(&error))?;
    let worked = work(&offline);
    offline.close().map_err(|error| failure(&error))?;
    worked
}

fn say(output: &mut Output, text: &str, fields: Value) -> Result<Code, Failure> {
    if output.is_json() {
        if let Value::Object(fields) = fields {
            output.object(&fields)?;
        }
    } else {
        text.lines().try_for_each(|line| output.line(line))?;
    }
    Ok(Code::Ok)
}

fn must_exist(path: &Path) -> Result<(), Failure> {
    if path.join("identity").exists() {
        return Ok(());
    }
    let what = format!("{} is no data directory: `tpcore tenant add` makes one", path.display());
    Err(Failure::new(Code::Directory, what))
}

fn parse_tenant(text: &str) -> Result<TenantId, Failure> {
    text.parse().map_err(|reason: &str| Failure::new(Code::Usage, reason))
}

fn parse_roles(texts: &[String]) -> Result<Roles, Failure> {
    let roles: Result<Roles, _> = texts.iter().map(|text| text.parse::<Role>()).collect();
    roles.map_err(|reason| Failure::new(Code::Usage, reason))
}
