//! The members of a command's JSON body: one list for all commands, and which of them belong to which.
//!
//! Owns names, kinds and the two tables [`MEMBERS`] and [`shape`], from which bodies are checked and described (`openapi.rs`).
//! Refuses to know what a command means. A member that does not belong to the command is refused, so that a misspelt or
//! misplaced option is never ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize};
use tp_actors::tp_core::command::Verb;

use super::problem::Problem;

/// A text that borrows from the body where it has no escapes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(crate) struct Text<'a>(pub(crate) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A member that is there. `null` is no value: a void whose amount is `null` by a slip would release everything.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Limits of an account, as they are written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsBody<'a> {
    /// The largest single command, minor units.
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) command_amount: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) day: Option<PeriodBody<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) month: Option<PeriodBody<'a>>,
}

/// Limits within a day or month, as they are written.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PeriodBody<'a> {
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) count: Option<u32>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Text<'a>>,
}

/// All members that a command may have.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Members<'a> {
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) payee: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) asset: Option<Text<'a>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) scale: Option<u8>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) authorization: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) capture: Option<Text<'a>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) lifetime_ms: Option<u64>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) allow_partial: Option<bool>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) tolerance_bp: Option<u16>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) is_final: Option<bool>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) original: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) original_kind: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) new_total: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) advice: Option<Text<'a>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<u16>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) credit_limit: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) limits: Option<LimitsBody<'a>>,
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<bool>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) value_date: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Text<'a>>,
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// In batches: the verb.
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) command: Option<Text<'a>>,
    /// In batches: the idempotency key.
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<Text<'a>>,
    /// In batches: its kind.
    #[serde(borrow, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    pub(crate) key_kind: Option<Text<'a>>,
}

/// What a member's value is, for the description.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Minor units as a decimal string.
    Amount,
    /// An account of the tenant.
    Account,
    /// An account, perhaps another tenant's.
    Payee,
    /// A UUID made by the engine.
    Id,
    /// An asset code.
    Asset,
    /// Any text.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A whole number between two bounds.
    Number(u64, u64),
    /// True or false.
    Bool,
    /// A date.
    Date,
    /// An object of texts.
    Texts,
    /// An amount or `unlimited`.
    CreditLimit,
    /// Limits of an account.
    Limits,
}

const STATUSES: &[&str] = &["open", "debit_frozen", "frozen"];
const KINDS: &[&str] = &["opaque", "uuid_v7"];
/// Ten years: longer lifetimes are bounded by the ledger's policy anyway.
const LIFETIME_MS_MAX: u64 = 315_360_000_000;

/// Name, kind and meaning of each member.
pub(crate) const MEMBERS: &[(&str, Kind, &str)] = &[
    ("account", Kind::Account, "The account that owns the decision: the payer, or the account itself."),
    ("payee", Kind::Payee, "Who is paid; for an authorization: the only account that may be."),
    ("amount", Kind::Amount, "How much, minor units."),
    ("asset", Kind::Asset, "The asset code of the account's ledger."),
    ("scale", Kind::Number(0, 38), "The decimal digits of the ledger's minor unit."),
    ("authorization", Kind::Id, "The authorization that is worked on."),
    ("capture", Kind::Id, "The capture that is refunded: its transfer id."),
    (
        "lifetime_ms",
        Kind::Number(1, LIFETIME_MS_MAX),
        "How long the hold lives, bounded by the ledger's policy. Default: the policy's.",
    ),
    ("allow_partial", Kind::Bool, "Approve less when there is not enough. Default false."),
    ("tolerance_bp", Kind::Number(0, 10_000), "How far captures may exceed the authorization, in 1/10,000. Default 0."),
    ("is_final", Kind::Bool, "Release the rest of the hold. Default false."),
    ("original", Kind::Text, "The idempotency key of the command that is reversed."),
    ("original_kind", Kind::Choice(KINDS), "The kind of that key. Default `opaque`."),
    ("new_total", Kind::Amount, "What the original shall come to instead of nothing, minor units."),
    ("advice", Kind::Choice(&["hold", "post", "declined"]), "What someone else decided."),
    ("kind", Kind::Number(0, 65_535), "The caller's own classification of the account. Default 0."),
    ("status", Kind::Choice(STATUSES), "What the account refuses. Default `open`."),
    (
        "credit_limit",
        Kind::CreditLimit,
        "How far below zero the account may go, minor units, or `unlimited`. Default 0.",
    ),
    ("limits", Kind::Limits, "Other bounds of the account's debits."),
    ("fence", Kind::Bool, "Forbid the command when it is not known. Default false."),
    ("value_date", Kind::Date, "The business day that the command belongs to; kept, and not interpreted."),
    ("reference", Kind::Text, "The caller's reference; kept, and not interpreted."),
    ("metadata", Kind::Texts, "The caller's own names and values; with the reference at most 256 bytes encoded."),
    ("command", Kind::Text, "The command's verb."),
    ("key", Kind::Text, "The command's idempotency key."),
    ("key_kind", Kind::Choice(KINDS), "The kind of the key. Default `opaque`."),
];

impl Members<'_> {
    /// Whether each member is there, in the order of [`MEMBERS`].
    fn present(&self) -> [bool; MEMBERS.len()] {
        [
            self.account.is_some(),
            self.payee.is_some(),
            self.amount.is_some(),
            self.asset.is_some(),
            self.scale.is_some(),
            self.authorization.is_some(),
            self.capture.is_some(),
            self.lifetime_ms.is_some(),
            self.allow_partial.is_some(),
            self.tolerance_bp.is_some(),
            self.is_final.is_some(),
            self.original.is_some(),
            self.original_kind.is_some(),
            self.new_total.is_some(),
            self.advice.is_some(),
            self.kind.is_some(),
            self.status.is_some(),
            self.credit_limit.is_some(),
            self.limits.is_some(),
            self.fence.is_some(),
            self.value_date.is_some(),
            self.reference.is_some(),
            self.metadata.is_some(),
            self.command.is_some(),
            self.key.is_some(),
            self.key_kind.is_some(),
        ]
    }

    /// Whether the members are those of this command's body.
    pub(crate) fn check(&self, verb: Verb, place: Place) -> Result<(), Problem> {
        let shape = shape(verb);
        let present = self.present();
        for ((name, _, _), is_there) in MEMBERS.iter().zip(present) {
            let is_in_batch = matches!(*name, "command" | "key" | "key_kind");
            let is_in_path = place == Place::Route && shape.in_path.contains(name);
            let is_wanted = shape.required.contains(name) || shape.in_path.contains(name);
            let is_allowed = match place {
                _ if is_in_batch => place == Place::Batch,
                _ if is_in_path => false,
                _ => is_wanted || shape.optional.contains(name) || (shape.has_note && NOTE.contains(name)),
            };
            if is_there && !is_allowed {
                return Err(Problem::invalid(format!("`{name}` is no member of `{}` here", verb.name())));
            }
            if !is_there && is_wanted && !is_in_path {
                return Err(Problem::invalid(format!("`{}` needs `{name}`", verb.name())));
            }
        }
        Ok(())
    }
}

/// Where a command is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// In the body of its own route, what the path says left out.
    Route,
    /// In a batch or a record: everything is in it.
    Batch,
}

/// Members of every command that makes an event.
pub(crate) const NOTE: &[&str] = &["value_date", "reference", "metadata"];

/// Which members a command has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Must be there.
    pub(crate) required: &'static [&'static str],
    /// May be there.
    pub(crate) optional: &'static [&'static str],
    /// In the path of the command's own route, in the body of a batch.
    pub(crate) in_path: &'static [&'static str],
    /// Whether it takes [`NOTE`].
    pub(crate) has_note: bool,
}

/// The members of each command.
pub(crate) const fn shape(verb: Verb) -> Shape {
    const fn of(
        required: &'static [&'static str],
        optional: &'static [&'static str],
        in_path: &'static [&'static str],
    ) -> Shape {
        Shape { required, optional, in_path, has_note: true }
    }
    match verb {
        Verb::OpenAccount => of(&["account", "asset", "scale"], &["kind", "status", "credit_limit", "limits"], &[]),
        Verb::UpdateAccount => of(&[], &["status", "credit_limit", "limits"], &["account"]),
        Verb::CloseAccount => of(&[], &[], &["account"]),
        Verb::Authorize => of(
            &["account", "amount", "asset", "scale"],
            &["lifetime_ms", "allow_partial", "payee", "tolerance_bp"],
            &[],
        ),
        Verb::Increment => of(&["amount", "asset", "scale"], &["lifetime_ms"], &["authorization"]),
        Verb::Capture => of(&["payee", "amount", "asset", "scale"], &["is_final"], &["authorization"]),
        Verb::Void => of(&[], &["amount", "asset", "scale"], &["authorization"]),
        Verb::Refund => of(&["amount", "asset", "scale"], &["capture", "authorization"], &[]),
        Verb::Reverse => of(&["account", "original"], &["original_kind", "new_total", "asset", "scale"], &[]),
        Verb::Advise => {
            of(&["advice", "account", "amount", "asset", "scale"], &["payee", "authorization", "lifetime_ms"], &[])
        }
        Verb::Transfer => of(&["account", "payee", "amount", "asset", "scale"], &[], &[]),
        Verb::Lookup => Shape { required: &[], optional: &["fence"], in_path: &["account"], has_note: false },
        // Not commands of the protocol.
        Verb::Read | Verb::Record => Shape { required: &[], optional: &[], in_path: &[], has_note: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Members<'_>, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn the_table_names_every_member_in_its_place() {
        for (index, (name, kind, _)) in MEMBERS.iter().enumerate() {
            let value = match kind {
                Kind::Number(from, _) => from.to_string(),
                Kind::Bool => "true".to_owned(),
                Kind::Texts | Kind::Limits => "{}".to_owned(),
                _ => "\"x\"".to_owned(),
            };
            let text = format!("{{\"{name}\":{value}}}");
            let members = parse(&text).expect(name);
            let present: Vec<_> = members.present().iter().enumerate().filter(|(_, p)| **p).map(|(i, _)| i).collect();
            assert_eq!(present, [index], "{name}");
        }
    }

    #[test]
    fn unknown_doubled_and_misplaced_members_are_refused() {
        assert!(parse(r#"{"acount":"1"}"#).is_err());
        assert!(parse(r#"{"account":"1","account":"2"}"#).is_err());
        assert!(parse(r#"{"amount":1250}"#).is_err(), "an amount is no JSON number");
        assert!(parse(r#"{"amount":null}"#).is_err(), "and nothing is not left out");
        assert!(parse(r#"{"limits":{"day":{"count":null}}}"#).is_err());
        let members = parse(r#"{"account":"1","payee":"2","amount":"1","asset":"EUR","scale":2,"is_final":true}"#);
        let members = members.expect("members");
        assert!(members.check(Verb::Transfer, Place::Route).is_err(), "is_final belongs to captures");
        let members = Members { is_final: None, ..members };
        assert!(members.check(Verb::Transfer, Place::Route).is_ok());
        let members = Members { key: Some(Text("k".into())), ..members };
        assert!(members.check(Verb::Transfer, Place::Route).is_err(), "a route has its key in a header");
        assert!(members.check(Verb::Transfer, Place::Batch).is_ok());
    }

    #[test]
    fn what_the_path_says_is_not_said_again_in_the_body() {
        let members = parse(r#"{"authorization":"x"}"#).expect("members");
        assert!(members.check(Verb::Void, Place::Route).is_err());
        assert!(members.check(Verb::Void, Place::Batch).is_ok());
        assert!(Members::default().check(Verb::Void, Place::Route).is_ok());
        assert!(Members::default().check(Verb::Void, Place::Batch).is_err());
    }

    #[test]
    fn a_text_with_escapes_is_read_as_well() {
        let members = parse(r#"{"reference":"a\u0041\n"}"#).expect("members");
        assert_eq!(members.reference.as_deref(), Some("aA\n"));
    }
}
