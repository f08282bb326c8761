//! What `serve --dev` makes: a tenant with funded accounts, and keys of two people.
//!
//! Owns names, amounts and keys of the demonstration. Made again at each start it changes nothing but the keys, which are new each time
//! (only hashes of the old ones are kept).

use std::sync::Arc;

use tp_actors::CallOptions;
use tp_actors::tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_actors::tp_core::command::{Command, Note, OpenAccount, Settings, Transfer};
use tp_actors::tp_core::key::Key;

use crate::app::Serving;
use crate::auth::key_id::KeyId;
use crate::cards::{NewCard, Pan};
use crate::control::{Change, Control, KeyKind, NewKey, Role};
use crate::tenancy::TenantId;

/// What was made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Demo {
    /// A key with every role.
    pub key: String,
    /// A key of a second person, to approve what is above a threshold.
    pub second_key: String,
    /// A key of the operator's tenant.
    pub operator_key: String,
    /// The number of account 1's card; the others follow in the ninth digit behind the issuer's.
    pub first_card: String,
}

/// The number of the demonstration's tenant.
const TENANT: u32 = 1;
/// Funded accounts are 1 to this.
const ACCOUNTS: u64 = 10;
/// A merchant, to be paid.
const MERCHANT: u64 = 100;
/// Where the money comes from.
const FUNDING: u64 = 1_000;
/// What card messages are settled with.
const SETTLEMENT: u64 = 900;
/// The issuer of the demonstration's cards.
const ISSUER: u32 = 400_000;
/// What each account gets: 10,000.00 EUR.
const FUNDS: u64 = 1_000_000;

/// Makes it.
pub(crate) async fn make(serving: &Serving) -> Result<Demo, String> {
    let ledger = Ledger::new("EUR", 2).ok_or("a ledger")?;
    let tenant = TenantId::new(TENANT).ok_or("a tenant")?;
    for (tenant, name) in [(TenantId::OPERATOR, "operator"), (tenant, "demo")] {
        let name = name.to_owned();
        let added = serving
            .control
            .change_if("serve --dev", |state| {
                Ok(state.tenant(tenant).is_none().then_some(Change::TenantAdded { tenant, name }))
            })
            .await;
        added.map_err(|error| error.to_string())?;
    }
    let id = |number: u64| tenant.account(&number.to_string()).ok_or("an account");
    let accounts = (1..=ACCOUNTS).map(|number| (number, CreditLimit::default()));
    let others = [MERCHANT, SETTLEMENT, FUNDING].map(|number| (number, CreditLimit::Unlimited));
    for (number, credit_limit) in accounts.chain(others) {
        let settings = Settings { tenant: TENANT, credit_limit, ..Settings::new(ledger) };
        let key = Key::opaque(u128::from(number));
        command(serving, OpenAccount { key, account: id(number)?, settings, note: Note::default() }).await?;
    }
    for number in 1..=ACCOUNTS {
        let key = Key::opaque(u128::from(number) << 64);
        let (account, payee, amount) = (id(FUNDING)?, id(number)?, Amount::from(FUNDS));
        // Keys are forgotten after a day: an account that was funded before is not funded again.
        let stands = serving.engine.account(payee).map_err(|error| error.to_string())?;
        if stands.is_some_and(|view| view.credits > 0) {
            continue;
        }
        command(serving, Transfer { key, account, payee, ledger, amount, note: Note::default() }).await?;
    }
    let mut first_card = String::new();
    for number in (1..=ACCOUNTS).rev() {
        let pan = Pan::of_parts(ISSUER, u32::try_from(number).unwrap_or(0)).map_err(|error| error.to_string())?;
        // Nobody's: made up here, for everybody to see.
        first_card = String::from_utf8_lossy(pan.digits()).into_owned();
        let new = NewCard { tenant, pan, account: id(number)?, expiry: None };
        serving.vault.add(new, "serve --dev").await.map_err(|error| error.to_string())?;
    }
    revoke_old(&serving.control).await?;
    Ok(Demo {
        first_card,
        key: key(serving, tenant, "demo").await?,
        second_key: key(serving, tenant, "second").await?,
        operator_key: key(serving, TenantId::OPERATOR, "demo").await?,
    })
}

async fn command(serving: &Serving, command: impl Into<Command>) -> Result<(), String> {
    let reply = serving.engine.call_with(command, CallOptions::default()).await;
    // An account that was changed or closed since is left as it is.
    let is_there = reply.outcome == tp_actors::tp_core::outcome::Outcome::AccountExists;
    if reply.outcome.is_approval() || is_there {
        Ok(())
    } else {
        Err(format!("the engine answered `{}`", reply.outcome))
    }
}

/// The names of those whose keys are made at each start.
const PERSONS: [&str; 2] = ["demo", "second"];

/// Revokes the keys of earlier starts.
async fn revoke_old(control: &Arc<Control>) -> Result<(), String> {
    let tenants = [Some(TenantId::OPERATOR), TenantId::new(TENANT)];
    let old: Vec<KeyId> = control.read(|state| {
        let keys = tenants.into_iter().flatten().flat_map(|tenant| state.keys_of(tenant));
        keys.filter(|entry| entry.revoked.is_none() && PERSONS.contains(&&*entry.person))
            .map(|entry| entry.key)
            .collect()
    });
    for key in old {
        control.change("serve --dev", Change::KeyRevoked { key }).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

async fn key(serving: &Serving, tenant: TenantId, person: &str) -> Result<String, String> {
    let roles = Role::ALL.into_iter().collect();
    let new = NewKey::make(KeyKind::Bearer, tenant, person.to_owned(), roles, None, &serving.sealer)?;
    serving.control.change("serve --dev", new.change).await.map_err(|error| error.to_string())?;
    new.secret.map(|secret| secret.to_string()).ok_or_else(|| "a bearer key has a secret".to_owned())
}
