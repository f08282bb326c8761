//! Control records: what is written, and its bytes.
//!
//! Owns the format: JSON, one object a record, with a version. Old versions stay readable. Refuses to hold a secret: keys are there as
//! hashes, public keys, fingerprints, or sealed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::auth::key_id::KeyId;
use crate::tenancy::TenantId;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = &'static str;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let is_hex = text.len() == $digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let number = is_hex.then(|| <$inner>::from_str_radix(text, 16).ok()).flatten();
                number.map(Self).ok_or(concat!($digits, " hex digits in lower case are wanted"))
            }
        }
        impl TryFrom<String> for $name {
            type Error = &'static str;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }
    };
}

hex_id! {
    /// An approval: 128 random bits, written as 32 hex digits.
    ApprovalId, u128, 32
}

/// What a key may be used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Read,
    /// Authorizations and their increments, voids and reversals.
    Authorize,
    /// Captures, refunds, transfers, advices; deciding approvals.
    MoneyMovement,
    /// Accounts, keys, thresholds, cards.
    Admin,
    /// Card numbers in the clear.
    CardData,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Read, Self::Authorize, Self::MoneyMovement, Self::Admin, Self::CardData];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Authorize => "authorize",
            Self::MoneyMovement => "money_movement",
            Self::Admin => "admin",
            Self::CardData => "card_data",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let role = Self::ALL.into_iter().find(|role| role.name() == text);
        role.ok_or("a role is `read`, `authorize`, `money_movement`, `admin` or `card_data`")
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Role>", into = "Vec<Role>")]
pub struct Roles(u8);

impl Roles {
    /// Whether the role is among them.
    pub const fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }
    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// In their order.
    pub fn each(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl TryFrom<Vec<Role>> for Roles {
    type Error = &'static str;
    fn try_from(roles: Vec<Role>) -> Result<Self, Self::Error> {
        Ok(roles.into_iter().collect())
    }
}

impl From<Roles> for Vec<Role> {
    fn from(roles: Roles) -> Self {
        roles.each().collect()
    }
}

/// How a key proves itself; never its secret in the clear.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Credential {
    /// A bearer key: the hash of its secret.
    Bearer(#[serde(with = "base64_bytes")] Vec<u8>),
    /// HMAC-SHA256 request signatures: the sealed secret.
    Hmac(#[serde(with = "base64_bytes")] Vec<u8>),
    /// Ed25519 request signatures: the public key.
    Ed25519(#[serde(with = "base64_bytes")] Vec<u8>),
    /// A client certificate: the SHA-256 of its DER form.
    Certificate(#[serde(with = "base64_bytes")] Vec<u8>),
}

impl Credential {
    /// The stable name of its kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bearer(_) => "bearer",
            Self::Hmac(_) => "hmac",
            Self::Ed25519(_) => "ed25519",
            Self::Certificate(_) => "certificate",
        }
    }
}

/// A key's id as its text.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
pub(crate) mod key_text {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::auth::key_id::KeyId;

    pub(crate) fn serialize<S: Serializer>(key: &KeyId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(key)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

/// One change of the state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Change {
    /// A tenant comes.
    TenantAdded { tenant: TenantId, name: String },
    /// A key comes.
    KeyAdded {
        #[serde(with = "key_text")]
        key: KeyId,
        tenant: TenantId,
        person: String,
        roles: Roles,
        credential: Credential,
        made_by: Option<Maker>,
    },
    /// A key is worth nothing from now on.
    KeyRevoked {
        #[serde(with = "key_text")]
        key: KeyId,
    },
    /// Above this amount a second person is needed; `None`: never.
    ThresholdSet { tenant: TenantId, ledger: String, amount: Option<String> },
    /// Money of one tenant's accounts may be paid to another's.
    AgreementAdded { payer: TenantId, payee: TenantId },
    /// No longer.
    AgreementEnded { payer: TenantId, payee: TenantId },
    /// A command waits for a second person.
    ApprovalAsked(AskedFor),
    /// It was approved, and is to be executed.
    ApprovalGiven {
        tenant: TenantId,
        approval: ApprovalId,
        person: String,
        #[serde(with = "key_text")]
        key: KeyId,
    },
    /// It was rejected.
    ApprovalRejected {
        tenant: TenantId,
        approval: ApprovalId,
        person: String,
        #[serde(with = "key_text")]
        key: KeyId,
    },
    /// Its command was executed, with this outcome.
    ApprovalExecuted { tenant: TenantId, approval: ApprovalId, outcome: String, reply: String },
}

/// Who made a key, when that was not the command line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maker {
    /// The person.
    pub person: String,
    /// With which key; [`super::NO_KEY`] for a token.
    #[serde(with = "key_text")]
    pub key: KeyId,
}

/// A command that needs a second person, as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedFor {
    /// Its id.
    pub approval: ApprovalId,
    /// Whose.
    pub tenant: TenantId,
    /// Who asked for the command.
    pub person: String,
    /// With which key; [`super::NO_KEY`] for a token.
    #[serde(with = "key_text")]
    pub key: KeyId,
    /// Until when it may be decided.
    pub expires: UnixMs,
    /// The command as in a batch, JSON.
    pub command: String,
    /// The account that owns the decision, as the engine knows it: decimal.
    pub account: String,
    /// The idempotency key as the engine knows it: kind and bits.
    pub engine_key: String,
    /// The engine's fingerprint of the command: same key and another one is a conflict.
    pub fingerprint: String,
}

/// A record: a change, by whom, when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlRecord {
    /// The format's version.
    pub(crate) v: u32,
    /// When it was made, the writer's clock.
    pub(crate) at: UnixMs,
    /// Who made it: a key's id, or `command line`.
    pub(crate) by: String,
    /// What.
    pub(crate) change: Change,
}

/// Unix milliseconds of the writer's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

/// The version that is written.
pub(crate) const RECORD_VERSION: u32 = 1;

/// Why a record's bytes were not read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// A later release wrote it.
    #[error("a control record of version {0}: a later release wrote it")]
    Newer(u32),
    /// It is no record.
    #[error("a control record cannot be read: {0}")]
    Malformed(String),
}

impl ControlRecord {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Plain data with text keys: writing it into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct VersionOnly {
            v: u32,
        }
        let malformed = |error: serde_json::Error| RecordError::Malformed(error.to_string());
        let VersionOnly { v } = serde_json::from_slice(bytes).map_err(malformed)?;
        if v > RECORD_VERSION {
            return Err(RecordError::Newer(v));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}
