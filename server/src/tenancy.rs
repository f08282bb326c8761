//! Tenants and the names of their accounts.
//!
//! Owns the mapping between what a tenant calls an account and the engine's id: the tenant's number in the top 32 bits, its own
//! name for the account in the other 96. So a tenant cannot even express another's account (TEN-1); only a payee may be written
//! with its tenant. Refuses to know who may do what.
//!
//! ```text
//! bit 127        96 95                                        0
//!     | tenant (32) | the tenant's account, 1 to 2^96 - 1      |     top 32 bits all ones: suspense accounts, nobody's
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::scope::AccountRange;

/// A tenant: 0 to 2^32 - 2. Tenant 0 is the operator's own: what other commands made in the directory is its.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TenantId(u32);

const LOCAL_BITS: u32 = 96;
const LOCAL_MAX: u128 = (1 << LOCAL_BITS) - 1;

impl TenantId {
    /// The operator's own.
    pub const OPERATOR: Self = Self(0);

    /// The tenant of that number; `None` for the largest, whose accounts are the engine's suspense accounts.
    pub const fn new(number: u32) -> Option<Self> {
        if number == u32::MAX { None } else { Some(Self(number)) }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The tenant of an account; `None`: a suspense account.
    pub const fn of(account: AccountId) -> Option<Self> {
        Self::new((account.0 >> LOCAL_BITS) as u32)
    }

    /// All accounts of this tenant.
    pub const fn accounts(self) -> AccountRange {
        let from = (self.0 as u128) << LOCAL_BITS;
        AccountRange { from: AccountId(from), to: AccountId(from | LOCAL_MAX) }
    }

    /// The engine's id of an account of this tenant, from the tenant's own name for it.
    pub fn account(self, text: &str) -> Option<AccountId> {
        self.account_of_number(parse_decimal(text)?)
    }

    /// The same from that name as a number.
    pub const fn account_of_number(self, local: u128) -> Option<AccountId> {
        if local == 0 || local > LOCAL_MAX {
            return None;
        }
        Some(AccountId((self.0 as u128) << LOCAL_BITS | local))
    }

    /// The engine's id of an account that may be another tenant's, written `TENANT:ACCOUNT`.
    pub fn account_of_any(self, text: &str) -> Option<AccountId> {
        match text.split_once(':') {
            None => self.account(text),
            Some((tenant, local)) => tenant.parse::<Self>().ok()?.account(local),
        }
    }

    /// What this tenant calls an account.
    pub fn name_of(self, account: AccountId) -> String {
        let local = account.0 & LOCAL_MAX;
        match Self::of(account) {
            Some(tenant) if tenant == self => local.to_string(),
            Some(tenant) => format!("{tenant}:{local}"),
            None => "suspense".to_owned(),
        }
    }
}

impl TryFrom<u32> for TenantId {
    type Error = &'static str;
    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("a tenant is a number from 0 to 4294967294")
    }
}

impl From<TenantId> for u32 {
    fn from(tenant: TenantId) -> Self {
        tenant.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for TenantId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = parse_decimal(text).and_then(|number| u32::try_from(number).ok());
        Self::try_from(number.unwrap_or(u32::MAX))
    }
}

/// A decimal number in its only form: digits, no sign, no leading zeros, below 2^128.
pub(crate) fn parse_decimal(text: &str) -> Option<u128> {
    let bytes = text.as_bytes();
    let is_canonical = !bytes.is_empty() && bytes.len() <= 39 && (bytes[0] != b'0' || bytes.len() == 1);
    if !is_canonical {
        return None;
    }
    bytes.iter().try_fold(0u128, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u128::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_cannot_write_the_account_of_another_as_its_own() {
        let (ours, theirs) = (TenantId(3), TenantId(4));
        let account = theirs.account("7").expect("an account");
        assert_eq!(account, AccountId(4 << 96 | 7));
        assert_eq!((theirs.name_of(account).as_str(), ours.name_of(account).as_str()), ("7", "4:7"));
        let as_number = account.0.to_string();
        assert_eq!(ours.account(&as_number), None, "the number behind it is no name");
        assert_eq!(ours.account("4:7"), None);
        assert_eq!(ours.account_of_any("4:7"), Some(account));
    }

    #[test]
    fn only_the_one_form_of_a_number_is_taken() {
        for text in
            ["", "0", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "1e3", "0x1", "٣", "4294967295:1", ":1", "1:", "1:2:3"]
        {
            assert_eq!(TenantId(3).account_of_any(text), None, "{text:?}");
        }
        assert_eq!(TenantId(0).account("79228162514264337593543950335"), Some(AccountId((1 << 96) - 1)));
        assert_eq!(TenantId(0).account("79228162514264337593543950336"), None);
        assert_eq!(parse_decimal("340282366920938463463374607431768211456"), None);
    }

    #[test]
    fn suspense_accounts_are_nobodys() {
        assert_eq!(TenantId::of(AccountId(u128::MAX)), None);
        assert_eq!(TenantId::new(u32::MAX), None);
        assert_eq!("4294967295".parse::<TenantId>().ok(), None);
    }
}
