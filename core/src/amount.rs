//! Amounts, ledgers, credit limits. All arithmetic on money is checked; there are no floats.

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// A single amount: unsigned, in minor units of the ledger's asset, below 2^96.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest single amount: 2^96 - 1.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// That many minor units; `None` from 2^96 up.
    pub const fn new(minor_units: u128) -> Option<Self> {
        if minor_units <= Self::MAX.0 { Some(Self(minor_units)) } else { None }
    }
    /// Minor units.
    pub const fn get(self) -> u128 {
        self.0
    }
    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<u64> for Amount {
    fn from(minor_units: u64) -> Self {
        Self(u128::from(minor_units))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The largest scale: 10^38 is the last power of ten in 128 bits.
const SCALE_MAX: u8 = 38;

/// A ledger: the value (asset code, scale). The accounts of one ledger balance. Written `CZK/2`: amounts are 1/10^scale
/// of the asset's unit. Asset code: 1 to 7 of `A-Z` and `0-9`; scale: 0 to 38.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
pub struct Ledger(u64);

impl Ledger {
    /// The ledger of that asset and scale; `None` outside the ranges above.
    pub const fn new(asset: &str, scale: u8) -> Option<Self> {
        let code = asset.as_bytes();
        if code.is_empty() || code.len() > 7 || scale > SCALE_MAX {
            return None;
        }
        let mut bytes = [0u8; 8];
        let mut i = 0;
        while i < code.len() {
            if !code[i].is_ascii_uppercase() && !code[i].is_ascii_digit() {
                return None;
            }
            bytes[i] = code[i];
            i += 1;
        }
        bytes[7] = scale;
        Some(Self(u64::from_be_bytes(bytes)))
    }
    /// Asset code padded with zero bytes (7), then the scale; big-endian.
    pub const fn bits(self) -> u64 {
        self.0
    }
    /// The ledger with these bits, unchecked: only for bits that a ledger gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
    /// Whether the bits are a ledger's: what came out of the journal is tested before use.
    pub const fn is_valid(self) -> bool {
        let bytes = self.0.to_be_bytes();
        let mut length = 0;
        while length < 7 && (bytes[length].is_ascii_uppercase() || bytes[length].is_ascii_digit()) {
            length += 1;
        }
        let mut rest = length;
        while rest < 7 && bytes[rest] == 0 {
            rest += 1;
        }
        length > 0 && rest == 7 && bytes[7] <= SCALE_MAX
    }
    /// The asset code.
    pub fn asset(self) -> String {
        self.0.to_be_bytes()[..7].iter().take_while(|b| **b != 0).map(|b| char::from(*b)).collect()
    }
    /// Decimal digits of the minor unit.
    pub const fn scale(self) -> u8 {
        (self.0 & 0xFF) as u8
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.asset(), self.scale())
    }
}
impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The text is not a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a ledger: expected an asset code of 1 to 7 of A-Z and 0-9, a slash and a scale of 0 to 38, as in EUR/2")]
pub struct NotALedger;

impl core::str::FromStr for Ledger {
    type Err = NotALedger;
    fn from_str(text: &str) -> Result<Self, NotALedger> {
        let (asset, scale) = text.split_once('/').ok_or(NotALedger)?;
        scale.parse().ok().and_then(|scale| Self::new(asset, scale)).ok_or(NotALedger)
    }
}

/// How far below zero an account's available balance may be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub enum CreditLimit {
    /// Up to this amount.
    Amount(Amount),
    /// Without bound: counter-accounts, merchants' settlement, the outside world.
    Unlimited,
}

impl Default for CreditLimit {
    fn default() -> Self {
        Self::Amount(Amount::ZERO)
    }
}

/// What stands on an account. Minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Balances {
    /// Credits less debits, signed.
    pub posted: i128,
    /// Reserved by open holds.
    pub held: u128,
    /// Posted less held plus the credit limit, signed; `None`: unlimited.
    pub available: Option<i128>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_ends_below_two_to_the_96() {
        assert_eq!(Amount::new((1 << 96) - 1), Some(Amount::MAX));
        assert_eq!(Amount::new(1 << 96), None);
    }

    #[test]
    fn a_ledger_is_written_as_asset_and_scale() {
        for text in ["CZK/2", "BTC/8", "X/0", "ABCDEF7/38"] {
            let ledger: Ledger = text.parse().expect("a ledger");
            assert_eq!(ledger.to_string(), text);
            assert!(ledger.is_valid());
        }
        for text in ["", "CZK", "czk/2", "CZK/39", "/2", "ABCDEFGH/2", "CZK/-1", "CZ K/2"] {
            assert_eq!(text.parse::<Ledger>(), Err(NotALedger), "{text}");
        }
        assert!(!Ledger::from_bits(0).is_valid());
    }
}
