//! Commands as messages of the gRPC door.
//!
//! Owns which member of a message each member of a command is; refuses to send. Texts are those of the HTTP encoder.

use tp_protocol::grpc;
use tpcore::{Amount, Command, CreditLimit, Key, KeyKind, Ledger, RefundTarget};

use super::encode::{api_account, kind_name, uuid};
use crate::plan::ledger;

fn id(bits: u128) -> String {
    let mut out = Vec::with_capacity(36);
    uuid(&mut out, bits);
    String::from_utf8(out).unwrap_or_default()
}

/// An account's id, decimal.
fn account(account: tpcore::AccountId) -> String {
    api_account(account).to_string()
}

/// The message of a command; `None`: the generator does not speak it.
pub(super) fn of(tag: u64, command: &Command, deadline_ms: u32) -> Option<grpc::Command> {
    let mut message = grpc::Command {
        tag,
        command: command.verb().name().to_owned(),
        deadline_ms: Some(deadline_ms),
        ..grpc::Command::default()
    };
    let key = match command {
        Command::Lookup(lookup) => lookup.key,
        command => command.key()?,
    };
    name(&mut message, key);
    let usual = ledger();
    match command {
        Command::OpenAccount(c) => {
            message.account = Some(account(c.account));
            message.credit_limit = match c.settings.credit_limit {
                CreditLimit::Unlimited => Some("unlimited".to_owned()),
                CreditLimit::Amount(limit) => (!limit.is_zero()).then(|| limit.get().to_string()),
            };
            (message.asset, message.scale) = denomination(usual);
        }
        Command::Authorize(c) => {
            message.account = Some(account(c.account));
            money(&mut message, c.amount, c.ledger);
            message.lifetime_ms = c.lifetime_ms;
            message.allow_partial = c.allow_partial.then_some(true);
            message.payee = c.payee.map(account);
            message.tolerance_bp = Some(u32::from(c.tolerance_bp)).filter(|bp| *bp > 0);
        }
        Command::Increment(c) => {
            message.authorization = Some(id(c.authorization.0));
            money(&mut message, c.amount, usual);
            message.lifetime_ms = c.lifetime_ms;
        }
        Command::Capture(c) => {
            message.authorization = Some(id(c.authorization.0));
            message.payee = Some(account(c.payee));
            money(&mut message, c.amount, usual);
            message.is_final = Some(c.is_final);
        }
        Command::Void(c) => {
            message.authorization = Some(id(c.authorization.0));
            if let Some(amount) = c.amount {
                money(&mut message, amount, usual);
            }
        }
        Command::Refund(c) => {
            match c.target {
                RefundTarget::Capture(capture) => message.capture = Some(id(capture.0)),
                RefundTarget::Authorization(authorization) => message.authorization = Some(id(authorization.0)),
            }
            money(&mut message, c.amount, usual);
        }
        Command::Reverse(c) => {
            message.account = Some(account(c.account));
            message.original = Some(id(c.original.bits));
            message.original_kind = Some(kind_name(c.original.kind).to_owned());
            if let Some(total) = c.new_total {
                message.new_total = Some(total.get().to_string());
                (message.asset, message.scale) = denomination(usual);
            }
        }
        Command::Transfer(c) => {
            message.account = Some(account(c.account));
            message.payee = Some(account(c.payee));
            money(&mut message, c.amount, c.ledger);
        }
        Command::Lookup(c) => {
            message.account = Some(account(c.account));
            message.fence = c.fence.then_some(true);
        }
        _ => return None,
    }
    Some(message)
}

fn name(message: &mut grpc::Command, key: Key) {
    message.key = id(key.bits);
    message.key_kind = (key.kind != KeyKind::Opaque).then(|| kind_name(key.kind).to_owned());
}

fn denomination(ledger: Ledger) -> (Option<String>, Option<u32>) {
    (Some(ledger.asset()), Some(ledger.scale().into()))
}

fn money(message: &mut grpc::Command, amount: Amount, ledger: Ledger) {
    message.amount = Some(amount.get().to_string());
    (message.asset, message.scale) = denomination(ledger);
}
