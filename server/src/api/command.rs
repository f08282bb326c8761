//! From members to a command of the engine.
//!
//! Owns the reading of amounts, accounts, ids and dates, and the binding of a command to its tenant: accounts by their names (TEN-1),
//! everything else by the scope that the engine tests. Refuses to decide anything but whether the request says a command at all.

use tp_actors::tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_actors::tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Limits, Lookup, Note, OpenAccount,
    PeriodLimit, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount, Verb, Void,
};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::metadata::Metadata;

use super::key::{parse_key, parse_kind};
use super::members::{LimitsBody, Members, PeriodBody, Text};
use super::problem::{Problem, Refusal};
use crate::cards::names_card;
use crate::iso8583::CARD_PREFIX;
use crate::tenancy::{TenantId, parse_decimal};

/// A command as it was asked for: ready for the engine once its payee is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    /// Asset and scale that the caller gave.
    pub(crate) ledger: Option<Ledger>,
    /// Whose account is paid, if it is another tenant's.
    pub(crate) payee_tenant: Option<TenantId>,
    /// What it may move: `None` where it moves nothing by itself.
    pub(crate) moved: Option<Amount>,
}

/// The command that these members say. They were checked against the verb's shape.
pub(crate) fn command(verb: Verb, m: &Members<'_>, key: Key, tenant: TenantId) -> Result<Asked, Problem> {
    let reader = Reader { members: m, tenant };
    let ledger = reader.ledger()?;
    let note = reader.note()?;
    let command = match verb {
        Verb::OpenAccount => {
            OpenAccount { key, account: reader.account()?, settings: reader.settings(needed(ledger, "asset")?)?, note }
                .into()
        }
        Verb::UpdateAccount => {
            let status = reader.status()?;
            let (credit_limit, limits) = (reader.credit_limit()?, reader.limits()?);
            UpdateAccount { key, account: reader.account()?, status, credit_limit, limits, note }.into()
        }
        Verb::CloseAccount => CloseAccount { key, account: reader.account()?, note }.into(),
        Verb::Authorize => Authorize {
            key,
            account: reader.account()?,
            ledger: needed(ledger, "asset")?,
            amount: reader.amount()?,
            lifetime_ms: m.lifetime_ms,
            allow_partial: m.allow_partial.unwrap_or(false),
            payee: reader.payee_if_any()?,
            tolerance_bp: m.tolerance_bp.unwrap_or(0),
            note,
        }
        .into(),
        Verb::Increment => Increment {
            key,
            authorization: reader.authorization()?,
            amount: reader.amount()?,
            lifetime_ms: m.lifetime_ms,
            note,
        }
        .into(),
        Verb::Capture => Capture {
            key,
            authorization: reader.authorization()?,
            payee: reader.payee()?,
            amount: reader.amount()?,
            is_final: m.is_final.unwrap_or(false),
            note,
        }
        .into(),
        Verb::Void => {
            Void { key, authorization: reader.authorization()?, amount: reader.amount_if_any()?, note }.into()
        }
        Verb::Refund => Refund { key, target: reader.refund_target()?, amount: reader.amount()?, note }.into(),
        Verb::Reverse => {
            let kind = parse_kind(m.original_kind.as_deref())?;
            let original = parse_key(needed(m.original.as_deref(), "original")?, kind)?;
            let new_total = m.new_total.as_deref().map(|text| parse_amount("new_total", text)).transpose()?;
            if new_total.is_some() != ledger.is_some() {
                return Err(Problem::invalid("`new_total`, `asset` and `scale` go together"));
            }
            Reverse { key, account: reader.account()?, original, new_total, note }.into()
        }
        Verb::Advise => Advise {
            key,
            account: reader.account()?,
            ledger: needed(ledger, "asset")?,
            amount: reader.amount()?,
            advice: reader.advice()?,
            note,
        }
        .into(),
        Verb::Transfer => Transfer {
            key,
            account: reader.account()?,
            payee: reader.payee()?,
            ledger: needed(ledger, "asset")?,
            amount: reader.amount()?,
            note,
        }
        .into(),
        Verb::Lookup => Lookup { account: reader.account()?, key, fence: m.fence.unwrap_or(false) }.into(),
        Verb::Read | Verb::Record => return Err(Problem::invalid("no such command")),
    };
    Ok(Asked::new(command, ledger, tenant))
}

impl Asked {
    /// A command of a tenant, with the ledger that it names.
    pub(crate) fn new(command: Command, ledger: Option<Ledger>, tenant: TenantId) -> Self {
        let payee_tenant = payee_of(&command).and_then(TenantId::of).filter(|payee| *payee != tenant);
        let moved = moved(&command);
        Self { command, ledger, payee_tenant, moved }
    }
}

/// The verb of that name, if it is one of the protocol.
pub(crate) fn parse_verb(text: &str) -> Option<Verb> {
    let verb = Verb::ALL.iter().copied().find(|verb| verb.name() == text)?;
    (!matches!(verb, Verb::Read | Verb::Record)).then_some(verb)
}

/// The account that a command pays, if it names one.
const fn payee_of(command: &Command) -> Option<AccountId> {
    match command {
        Command::Authorize(c) => c.payee,
        Command::Capture(c) => Some(c.payee),
        Command::Transfer(c) => Some(c.payee),
        Command::Advise(c) => match c.advice {
            Advice::Hold { payee, .. } => payee,
            Advice::Post { payee, .. } => Some(payee),
            Advice::Declined => None,
        },
        _ => None,
    }
}

/// What a second person may have to look at: commands that move money at once, with their amount.
const fn moved(command: &Command) -> Option<Amount> {
    match command {
        Command::Capture(c) => Some(c.amount),
        Command::Refund(c) => Some(c.amount),
        Command::Transfer(c) => Some(c.amount),
        Command::Advise(c) => match c.advice {
            Advice::Hold { .. } | Advice::Post { .. } => Some(c.amount),
            Advice::Declined => None,
        },
        _ => None,
    }
}

fn needed<T>(value: Option<T>, name: &str) -> Result<T, Problem> {
    value.ok_or_else(|| Problem::invalid(format!("`{name}` is missing")))
}

/// Minor units as a decimal string.
pub(crate) fn parse_amount(name: &str, text: &str) -> Result<Amount, Problem> {
    parse_decimal(text).and_then(Amount::new).ok_or_else(|| {
        Problem::invalid(format!(
            "`{name}` has to be minor units as a decimal string, 0 to 2^96 - 1, without leading zeros"
        ))
    })
}

/// The ledger of an asset code and scale.
pub(crate) fn parse_ledger(asset: &str, scale: u8) -> Result<Ledger, Problem> {
    Ledger::new(asset, scale)
        .ok_or_else(|| Problem::invalid("`asset` is 1 to 7 of A-Z and 0-9, `scale` a number from 0 to 38"))
}

/// A UUID made by the engine. One that is not names nothing, which the caller is told as such.
pub(crate) fn parse_id<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| Problem::invalid(format!("`{name}` is not an id made by this engine")))
}

struct Reader<'a> {
    members: &'a Members<'a>,
    tenant: TenantId,
}

impl Reader<'_> {
    fn ledger(&self) -> Result<Option<Ledger>, Problem> {
        match (self.members.asset.as_deref(), self.members.scale) {
            (Some(asset), Some(scale)) => parse_ledger(asset, scale).map(Some),
            (None, None) if self.members.amount.is_none() => Ok(None),
            _ => Err(Problem::invalid("`amount`, `asset` and `scale` go together")),
        }
    }

    fn account(&self) -> Result<AccountId, Problem> {
        let text = needed(self.members.account.as_deref(), "account")?;
        parse_account(self.tenant, text)
    }

    fn payee_if_any(&self) -> Result<Option<AccountId>, Problem> {
        let parse = |text: &Text<'_>| {
            self.tenant.account_of_any(text).ok_or_else(|| {
                Problem::invalid("`payee` is an account, 1 to 2^96 - 1, or another tenant's, written TENANT:ACCOUNT")
            })
        };
        self.members.payee.as_ref().map(parse).transpose()
    }

    fn payee(&self) -> Result<AccountId, Problem> {
        needed(self.payee_if_any()?, "payee")
    }

    fn amount_if_any(&self) -> Result<Option<Amount>, Problem> {
        self.members.amount.as_deref().map(|text| parse_amount("amount", text)).transpose()
    }

    fn amount(&self) -> Result<Amount, Problem> {
        needed(self.amount_if_any()?, "amount")
    }

    fn authorization_if_any(&self) -> Result<Option<AuthorizationId>, Problem> {
        self.members.authorization.as_deref().map(|text| parse_id("authorization", text)).transpose()
    }

    fn authorization(&self) -> Result<AuthorizationId, Problem> {
        needed(self.authorization_if_any()?, "authorization")
    }

    fn refund_target(&self) -> Result<RefundTarget, Problem> {
        let capture: Option<TransferId> =
            self.members.capture.as_deref().map(|text| parse_id("capture", text)).transpose()?;
        match (capture, self.authorization_if_any()?) {
            (Some(capture), None) => Ok(RefundTarget::Capture(capture)),
            (None, Some(authorization)) => Ok(RefundTarget::Authorization(authorization)),
            _ => Err(Problem::invalid("a refund names either `capture` or `authorization`")),
        }
    }

    fn advice(&self) -> Result<Advice, Problem> {
        let (lifetime_ms, payee, authorization) =
            (self.members.lifetime_ms, self.payee_if_any()?, self.authorization_if_any()?);
        match (self.members.advice.as_deref(), payee, authorization, lifetime_ms) {
            (Some("hold"), payee, None, lifetime_ms) => Ok(Advice::Hold { lifetime_ms, payee }),
            (Some("post"), Some(payee), authorization, None) => Ok(Advice::Post { payee, authorization }),
            (Some("declined"), None, None, None) => Ok(Advice::Declined),
            _ => Err(Problem::invalid(
                "`advice` is `hold` (with `payee` and `lifetime_ms` if wanted), `post` (with `payee`, and `authorization` if there is one) or `declined`",
            )),
        }
    }

    fn status(&self) -> Result<Option<Status>, Problem> {
        Ok(match self.members.status.as_deref() {
            None => None,
            Some("open") => Some(Status::Open),
            Some("debit_frozen") => Some(Status::DebitFrozen),
            Some("frozen") => Some(Status::Frozen),
            Some(_) => return Err(Problem::invalid("`status` is `open`, `debit_frozen` or `frozen`")),
        })
    }

    fn credit_limit(&self) -> Result<Option<CreditLimit>, Problem> {
        match self.members.credit_limit.as_deref() {
            None => Ok(None),
            Some("unlimited") => Ok(Some(CreditLimit::Unlimited)),
            Some(text) => parse_amount("credit_limit", text).map(CreditLimit::Amount).map(Some),
        }
    }

    fn limits(&self) -> Result<Option<Limits>, Problem> {
        self.members.limits.as_ref().map(limits).transpose()
    }

    fn settings(&self, ledger: Ledger) -> Result<Settings, Problem> {
        let default = Settings::new(ledger);
        Ok(Settings {
            kind: self.members.kind.unwrap_or(default.kind),
            tenant: self.tenant.get(),
            status: self.status()?.unwrap_or(default.status),
            credit_limit: self.credit_limit()?.unwrap_or(default.credit_limit),
            limits: self.limits()?.unwrap_or(default.limits),
            ..default
        })
    }

    fn note(&self) -> Result<Note, Problem> {
        let m = self.members;
        let value_date = m.value_date.as_deref().map(str::parse).transpose();
        let value_date =
            value_date.map_err(|_| Problem::invalid("`value_date` is a date from 1970-01-01 to 2149-06-06"))?;
        let texts = m.metadata.iter().flatten().flat_map(|(name, value)| [&**name, &**value]);
        if m.reference.as_deref().into_iter().chain(texts).any(names_card) {
            return Err(Problem::new(Refusal::CardNumber, "`reference` or `metadata`"));
        }
        let mut metadata = Metadata::EMPTY;
        let too_long = |_| Problem::invalid("`reference` and `metadata` are more than 256 bytes together");
        if let Some(reference) = &m.reference {
            metadata = metadata.with("", reference).map_err(too_long)?;
        }
        for (name, value) in m.metadata.iter().flatten() {
            if name.is_empty() {
                return Err(Problem::invalid("a name in `metadata` is empty: that is the `reference`"));
            }
            if name.starts_with(CARD_PREFIX) {
                return Err(Problem::invalid("names in `metadata` that begin with `card.` are those of card messages"));
            }
            metadata = metadata.with(name, value).map_err(too_long)?;
        }
        Ok(Note { value_date, metadata })
    }
}

/// An account of the tenant.
pub(crate) fn parse_account(tenant: TenantId, text: &str) -> Result<AccountId, Problem> {
    tenant
        .account(text)
        .ok_or_else(|| Problem::invalid("`account` is a decimal number from 1 to 2^96 - 1, without leading zeros"))
}

fn limits(body: &LimitsBody<'_>) -> Result<Limits, Problem> {
    let amount = |text: &Option<Text<'_>>| text.as_deref().map(|text| parse_amount("limits", text)).transpose();
    let period = |body: &Option<PeriodBody<'_>>| {
        body.as_ref()
            .map_or(Ok(PeriodLimit::default()), |p| Ok(PeriodLimit { count: p.count, amount: amount(&p.amount)? }))
    };
    Ok(Limits { command_amount: amount(&body.command_amount)?, day: period(&body.day)?, month: period(&body.month)? })
}

#[cfg(test)]
mod tests {
    use super::super::members::Place;
    use super::*;

    fn ask(verb: &str, body: &str) -> Result<Asked, String> {
        let verb = parse_verb(verb).expect("a verb");
        let members: Members<'_> = serde_json::from_str(body).map_err(|error| error.to_string())?;
        members.check(verb, Place::Batch).map_err(|problem| problem.detail.into_owned())?;
        let tenant = TenantId::new(3).expect("a tenant");
        command(verb, &members, Key::opaque(1), tenant).map_err(|problem| problem.detail.into_owned())
    }

    #[test]
    fn every_account_in_a_command_is_the_tenants_own_but_a_payee_that_says_otherwise() {
        let asked = ask("transfer", r#"{"account":"1","payee":"4:2","amount":"5","asset":"EUR","scale":2}"#);
        let asked = asked.expect("a transfer");
        let Command::Transfer(c) = &asked.command else { panic!("{asked:?}") };
        assert_eq!((c.account, c.payee), (AccountId(3 << 96 | 1), AccountId(4 << 96 | 2)));
        assert_eq!(asked.payee_tenant, TenantId::new(4));
        assert!(ask("transfer", r#"{"account":"4:1","payee":"2","amount":"5","asset":"EUR","scale":2}"#).is_err());
        let opened = ask("open_account", r#"{"account":"1","asset":"EUR","scale":2}"#).expect("an account");
        let Command::OpenAccount(c) = &opened.command else { panic!("{opened:?}") };
        assert_eq!((c.settings.tenant, c.account), (3, AccountId(3 << 96 | 1)));
    }

    #[test]
    fn an_amount_never_goes_without_its_asset_and_scale() {
        let id = "0190a5d0-1111-8001-8000-000000000001";
        for body in [
            format!(r#"{{"authorization":"{id}","amount":"1"}}"#),
            format!(r#"{{"authorization":"{id}","amount":"1","asset":"EUR"}}"#),
            format!(r#"{{"authorization":"{id}","amount":"01","asset":"EUR","scale":2}}"#),
            format!(r#"{{"authorization":"{id}","amount":"-1","asset":"EUR","scale":2}}"#),
            format!(r#"{{"authorization":"{id}","amount":"79228162514264337593543950336","asset":"EUR","scale":2}}"#),
            format!(r#"{{"authorization":"{id}","amount":"1","asset":"eur","scale":2}}"#),
        ] {
            assert!(ask("void", &body).is_err(), "{body}");
        }
        let voided = ask("void", &format!(r#"{{"authorization":"{id}","amount":"1","asset":"EUR","scale":2}}"#));
        assert_eq!(voided.expect("a void").ledger, Ledger::new("EUR", 2));
    }

    #[test]
    fn members_of_an_advice_go_with_its_kind() {
        let money = r#""account":"1","amount":"5","asset":"EUR","scale":2"#;
        for (advice, is_good) in [
            (r#""advice":"hold","lifetime_ms":5"#, true),
            (r#""advice":"post","payee":"2""#, true),
            (r#""advice":"declined""#, true),
            (r#""advice":"post""#, false),
            (r#""advice":"declined","payee":"2""#, false),
            (r#""advice":"post","payee":"2","lifetime_ms":5"#, false),
            (r#""advice":"approved""#, false),
        ] {
            assert_eq!(ask("advise", &format!("{{{money},{advice}}}")).is_ok(), is_good, "{advice}");
        }
    }
}
