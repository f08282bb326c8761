//! The one table of routes: method, path, who may call it, what it does.
//!
//! Owns the table from which the router, the checks and the description are made. A route cannot be added anywhere else, and not without
//! its access: there is no such value (RTE-1).

use http::Method;
use tp_actors::tp_core::command::Verb;

use crate::control::Role;

/// Who may call a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// Anybody: nothing of a tenant is behind it.
    Public,
    /// A caller with this role.
    Role(Role),
    /// A caller with the role of each command in the body.
    EachCommand,
}

/// What a route does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Command(Verb),
    Batch,
    Accounts,
    Account,
    Statement,
    Authorization,
    History,
    Approvals,
    Approval,
    Approve,
    Reject,
    Tenant,
    SetThreshold,
    Keys,
    AddKey,
    RevokeKey,
    Tenants,
    AddTenant,
    AddAgreement,
    EndAgreement,
    AddCard,
    Cards,
    Card,
    UpdateCard,
    RevealCard,
    CardKeys,
    Live,
    Ready,
    Version,
    OpenApi,
}

/// A route.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    pub(crate) operation: Operation,
    pub(crate) summary: &'static str,
}

const fn route(
    method: Method,
    path: &'static str,
    access: Access,
    operation: Operation,
    summary: &'static str,
) -> Route {
    Route { method, path, access, operation, summary }
}

const READ: Access = Access::Role(Role::Read);
const AUTHORIZE: Access = Access::Role(Role::Authorize);
const MONEY: Access = Access::Role(Role::MoneyMovement);
const ADMIN: Access = Access::Role(Role::Admin);
const CARD_DATA: Access = Access::Role(Role::CardData);

/// Every route.
pub(crate) const ROUTES: &[Route] = &{
    use Access::{EachCommand, Public};
    use Operation as Op;
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    [
        route(POST, "/v1/accounts", ADMIN, Op::Command(Verb::OpenAccount), "Open an account"),
        route(GET, "/v1/accounts", READ, Op::Accounts, "List the tenant's accounts"),
        route(GET, "/v1/accounts/{account}", READ, Op::Account, "Show an account, now or at a point in time"),
        route(
            Method::PATCH,
            "/v1/accounts/{account}",
            ADMIN,
            Op::Command(Verb::UpdateAccount),
            "Change an account's settings",
        ),
        route(POST, "/v1/accounts/{account}/close", ADMIN, Op::Command(Verb::CloseAccount), "Close an account"),
        route(GET, "/v1/accounts/{account}/statement", READ, Op::Statement, "List an account's legs, newest first"),
        route(
            GET,
            "/v1/accounts/{account}/commands/{key}",
            READ,
            Op::Command(Verb::Lookup),
            "Show what became of a command",
        ),
        route(
            POST,
            "/v1/accounts/{account}/commands/{key}/fence",
            AUTHORIZE,
            Op::Command(Verb::Lookup),
            "Show what became of a command, and forbid an unknown one",
        ),
        route(POST, "/v1/authorizations", AUTHORIZE, Op::Command(Verb::Authorize), "Authorize: ask for a hold"),
        route(GET, "/v1/authorizations/{authorization}", READ, Op::Authorization, "Show an authorization"),
        route(GET, "/v1/authorizations/{authorization}/history", READ, Op::History, "List an authorization's events"),
        route(
            POST,
            "/v1/authorizations/{authorization}/increments",
            AUTHORIZE,
            Op::Command(Verb::Increment),
            "Raise a hold or extend it",
        ),
        route(
            POST,
            "/v1/authorizations/{authorization}/captures",
            MONEY,
            Op::Command(Verb::Capture),
            "Capture part or all of a hold",
        ),
        route(
            POST,
            "/v1/authorizations/{authorization}/voids",
            AUTHORIZE,
            Op::Command(Verb::Void),
            "Release part or all of a hold",
        ),
        route(POST, "/v1/refunds", MONEY, Op::Command(Verb::Refund), "Give captured money back"),
        route(
            POST,
            "/v1/reversals",
            AUTHORIZE,
            Op::Command(Verb::Reverse),
            "Undo an earlier command for technical reasons",
        ),
        route(POST, "/v1/advices", MONEY, Op::Command(Verb::Advise), "Report what someone else decided"),
        route(POST, "/v1/transfers", MONEY, Op::Command(Verb::Transfer), "Debit one account and credit another"),
        route(POST, "/v1/batches", EachCommand, Op::Batch, "Send many commands at once, each for itself"),
        route(GET, "/v1/approvals", READ, Op::Approvals, "List commands that need a second person"),
        route(GET, "/v1/approvals/{approval}", READ, Op::Approval, "Show a command that needs a second person"),
        route(POST, "/v1/approvals/{approval}/approve", MONEY, Op::Approve, "Approve a command of another person"),
        route(POST, "/v1/approvals/{approval}/reject", MONEY, Op::Reject, "Reject a command of another person"),
        route(
            POST,
            "/v1/cards",
            ADMIN,
            Op::AddCard,
            "Add a card: its number is kept sealed, and a token stands for it",
        ),
        route(GET, "/v1/cards", READ, Op::Cards, "List the tenant's cards"),
        route(GET, "/v1/cards/{card}", READ, Op::Card, "Show a card, its number masked"),
        route(Method::PATCH, "/v1/cards/{card}", ADMIN, Op::UpdateCard, "Block, unblock or close a card"),
        route(POST, "/v1/cards/{card}/reveal", CARD_DATA, Op::RevealCard, "Show a card's number; that is recorded"),
        route(GET, "/v1/card-keys", ADMIN, Op::CardKeys, "List the keys of card numbers (operator)"),
        route(GET, "/v1/tenant", READ, Op::Tenant, "Show the caller's tenant"),
        route(
            Method::PUT,
            "/v1/tenant/threshold",
            ADMIN,
            Op::SetThreshold,
            "Set the amount above which a second person is needed",
        ),
        route(GET, "/v1/keys", ADMIN, Op::Keys, "List the tenant's keys"),
        route(POST, "/v1/keys", ADMIN, Op::AddKey, "Add a key to the tenant"),
        route(Method::DELETE, "/v1/keys/{key}", ADMIN, Op::RevokeKey, "Revoke a key of the tenant"),
        route(GET, "/v1/tenants", ADMIN, Op::Tenants, "List all tenants (operator)"),
        route(POST, "/v1/tenants", ADMIN, Op::AddTenant, "Add a tenant (operator)"),
        route(POST, "/v1/agreements", ADMIN, Op::AddAgreement, "Let money move from one tenant to another (operator)"),
        route(Method::DELETE, "/v1/agreements/{payer}/{payee}", ADMIN, Op::EndAgreement, "End an agreement (operator)"),
        route(GET, "/health/live", Public, Op::Live, "Whether the process lives"),
        route(GET, "/health/ready", Public, Op::Ready, "Whether the engine has recovered and serves"),
        route(GET, "/version", Public, Op::Version, "The release"),
        route(GET, "/openapi.json", Public, Op::OpenApi, "This description"),
    ]
};

/// The role that a command needs, wherever it is sent.
pub(crate) const fn role_of(verb: Verb) -> Role {
    match verb {
        Verb::OpenAccount | Verb::UpdateAccount | Verb::CloseAccount => Role::Admin,
        Verb::Authorize | Verb::Increment | Verb::Void | Verb::Reverse => Role::Authorize,
        Verb::Capture | Verb::Refund | Verb::Advise | Verb::Transfer => Role::MoneyMovement,
        Verb::Lookup | Verb::Read | Verb::Record => Role::Read,
    }
}

/// Whether only the operator's tenant may call it.
pub(crate) const fn is_operators(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Tenants
            | Operation::AddTenant
            | Operation::AddAgreement
            | Operation::EndAgreement
            | Operation::CardKeys
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_route_is_there_once_and_every_command_has_the_same_role_everywhere() {
        let all: BTreeSet<_> = ROUTES.iter().map(|r| (r.method.as_str(), r.path)).collect();
        assert_eq!(all.len(), ROUTES.len());
        for route in ROUTES {
            let Operation::Command(verb) = route.operation else { continue };
            let role = if route.path.ends_with("/fence") { Role::Authorize } else { role_of(verb) };
            assert_eq!(route.access, Access::Role(role), "{}", route.path);
        }
        for verb in Verb::ALL.iter().filter(|verb| !matches!(verb, Verb::Read | Verb::Record)) {
            assert!(ROUTES.iter().any(|route| route.operation == Operation::Command(*verb)), "{}", verb.name());
        }
    }

    #[test]
    fn only_what_shows_nothing_of_a_tenant_is_public() {
        let public: Vec<_> = ROUTES.iter().filter(|r| r.access == Access::Public).map(|r| r.path).collect();
        assert_eq!(public, ["/health/live", "/health/ready", "/version", "/openapi.json"]);
    }

    #[test]
    fn the_protocol_page_lists_every_route_with_its_role() {
        let page = include_str!("../../../docs/src/protocol.md");
        for route in ROUTES {
            let written = format!("{} {}", route.method, route.path);
            let access = match route.access {
                Access::Public => "none",
                Access::Role(role) => role.name(),
                Access::EachCommand => "each command's",
            };
            let short = route.path.rsplit('/').next().unwrap_or_default();
            let row = page.lines().find(|line| {
                line.starts_with('|')
                    && (line.contains(&format!("`{written}`"))
                        || line.contains(&format!("`…/{short}`"))
                        || line.contains(&format!("`{}`", route.path)))
            });
            let row = row.unwrap_or_else(|| panic!("{written} is not described"));
            assert_eq!(row.split('|').nth(2).map(str::trim), Some(access), "{written}");
        }
    }
}
