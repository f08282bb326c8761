//! Replies and problems as JSON.
//!
//! Owns the names and order of the members. Refuses to leave out what was decided: a refusal carries the same members as an approval.

use serde::ser::{Serialize, SerializeMap, Serializer};
use tp_actors::tp_core::amount::{Balances, CreditLimit, Ledger};
use tp_actors::tp_core::command::{PeriodLimit, Status};
use tp_actors::tp_core::reply::{AccountView, AuthorizationView, CaptureView, Reply};

use super::problem::Problem;
use crate::tenancy::TenantId;

/// A value in its text form, without a buffer of its own.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What stands on an account.
struct BalancesJson<'a>(&'a Balances);

impl Serialize for BalancesJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("posted", &Shown(self.0.posted))?;
        map.serialize_entry("held", &Shown(self.0.held))?;
        map.serialize_entry("available", &self.0.available.map(Shown))?;
        map.end()
    }
}

/// The members of a decision.
fn decision<M: SerializeMap>(map: &mut M, reply: &Reply) -> Result<(), M::Error> {
    map.serialize_entry("repeated", &reply.repeated)?;
    map.serialize_entry("reversed", &reply.reversed)?;
    map.serialize_entry("flags", &reply.flags.names().collect::<Vec<_>>())?;
    map.serialize_entry("amount", &Shown(reply.amount))?;
    if let Some(ledger) = reply.ledger {
        money(map, ledger)?;
    }
    if let Some(balances) = &reply.balances {
        map.serialize_entry("balances", &BalancesJson(balances))?;
    }
    if let Some(authorization) = reply.authorization {
        map.serialize_entry("authorization", &Shown(authorization))?;
    }
    if let Some(transfer) = reply.transfer {
        map.serialize_entry("transfer", &Shown(transfer))?;
    }
    if let Some(expires) = reply.expires {
        map.serialize_entry("expires", &Shown(expires))?;
    }
    if reply.seq.0 > 0 {
        map.serialize_entry("seq", &reply.seq.0)?;
    }
    if reply.version.0 > 0 {
        map.serialize_entry("version", &reply.version.0)?;
    }
    Ok(())
}

fn money<M: SerializeMap>(map: &mut M, ledger: Ledger) -> Result<(), M::Error> {
    map.serialize_entry("asset", &ledger.asset())?;
    map.serialize_entry("scale", &ledger.scale())
}

/// An approval. In a batch it has its status too.
pub(crate) struct ReplyJson<'a> {
    pub(crate) reply: &'a Reply,
    pub(crate) status: Option<u16>,
}

impl Serialize for ReplyJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(status) = self.status {
            map.serialize_entry("status", &status)?;
        }
        map.serialize_entry("outcome", self.reply.outcome.name())?;
        decision(&mut map, self.reply)?;
        map.end()
    }
}

/// A problem.
pub(crate) struct ProblemJson<'a> {
    pub(crate) problem: &'a Problem,
    /// By which the logs know the request.
    pub(crate) trace_id: Option<&'a str>,
}

impl Serialize for ProblemJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let problem = self.problem;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &Shown(format_args!("urn:tpcore:outcome:{}", problem.name)))?;
        map.serialize_entry("title", &problem.title)?;
        map.serialize_entry("status", &problem.status.as_u16())?;
        if !problem.detail.is_empty() {
            map.serialize_entry("detail", &problem.detail)?;
        }
        map.serialize_entry("outcome", problem.name)?;
        if let Some(trace_id) = self.trace_id {
            map.serialize_entry("trace_id", trace_id)?;
        }
        if let Some(reply) = problem.reply.as_deref().filter(|reply| reply.seq.0 > 0 || reply.balances.is_some()) {
            decision(&mut map, reply)?;
        }
        map.end()
    }
}

/// An account as it stands.
pub(crate) struct AccountJson<'a> {
    pub(crate) view: &'a AccountView,
    pub(crate) tenant: TenantId,
}

impl Serialize for AccountJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (view, settings) = (self.view, &self.view.settings);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("account", &self.tenant.name_of(view.account))?;
        money(&mut map, settings.ledger)?;
        map.serialize_entry("kind", &settings.kind)?;
        map.serialize_entry("status", status_name(settings.status))?;
        match settings.credit_limit {
            CreditLimit::Amount(amount) => map.serialize_entry("credit_limit", &Shown(amount))?,
            CreditLimit::Unlimited => map.serialize_entry("credit_limit", "unlimited")?,
        }
        map.serialize_entry("limits", &LimitsJson(&settings.limits))?;
        map.serialize_entry("debits", &Shown(view.debits))?;
        map.serialize_entry("credits", &Shown(view.credits))?;
        map.serialize_entry("balances", &BalancesJson(&view.balances))?;
        map.serialize_entry("seq", &view.seq.0)?;
        map.serialize_entry("version", &view.version.0)?;
        map.end()
    }
}

struct LimitsJson<'a>(&'a tp_actors::tp_core::command::Limits);

impl Serialize for LimitsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(amount) = self.0.command_amount {
            map.serialize_entry("command_amount", &Shown(amount))?;
        }
        for (name, period) in [("day", self.0.day), ("month", self.0.month)] {
            if period != PeriodLimit::default() {
                map.serialize_entry(name, &PeriodJson(period))?;
            }
        }
        map.end()
    }
}

struct PeriodJson(PeriodLimit);

impl Serialize for PeriodJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(count) = self.0.count {
            map.serialize_entry("count", &count)?;
        }
        if let Some(amount) = self.0.amount {
            map.serialize_entry("amount", &Shown(amount))?;
        }
        map.end()
    }
}

/// The stable name of a status.
pub(crate) const fn status_name(status: Status) -> &'static str {
    match status {
        Status::Open => "open",
        Status::DebitFrozen => "debit_frozen",
        Status::Frozen => "frozen",
        Status::Closed => "closed",
    }
}

/// An authorization as it stands.
pub(crate) struct AuthorizationJson<'a> {
    pub(crate) view: &'a AuthorizationView,
    pub(crate) ledger: Option<Ledger>,
    pub(crate) tenant: TenantId,
}

impl Serialize for AuthorizationJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let view = self.view;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("authorization", &Shown(view.authorization))?;
        map.serialize_entry("account", &self.tenant.name_of(view.account))?;
        if let Some(payee) = view.payee {
            map.serialize_entry("payee", &self.tenant.name_of(payee))?;
        }
        map.serialize_entry("state", view.state.name())?;
        if let Some(ledger) = self.ledger {
            money(&mut map, ledger)?;
        }
        for (name, amount) in [
            ("authorized", view.authorized),
            ("held", view.held),
            ("captured", view.captured),
            ("refunded", view.refunded),
        ] {
            map.serialize_entry(name, &Shown(amount))?;
        }
        map.serialize_entry("expires", &Shown(view.expires))?;
        map.serialize_entry("exchange_open", &view.exchange_open)?;
        let captures: Vec<_> =
            view.captures.iter().map(|capture| CaptureJson { capture, tenant: self.tenant }).collect();
        map.serialize_entry("captures", &captures)?;
        map.end()
    }
}

struct CaptureJson<'a> {
    capture: &'a CaptureView,
    tenant: TenantId,
}

impl Serialize for CaptureJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let capture = self.capture;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("transfer", &Shown(capture.transfer))?;
        map.serialize_entry("payee", &self.tenant.name_of(capture.payee))?;
        map.serialize_entry("amount", &Shown(capture.amount))?;
        map.serialize_entry("refunded", &Shown(capture.refunded))?;
        map.serialize_entry("at", &Shown(capture.at))?;
        map.serialize_entry("is_final", &capture.is_final)?;
        map.end()
    }
}
