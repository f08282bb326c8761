//! Currencies as card messages name them: three digits or three letters of ISO 4217, and the decimal digits of the minor unit.
//!
//! Owns the way from a code to asset and scale. The codes are those of the crate `iso_currency`, which generates them from the list of
//! the standard's maintenance agency. Refuses currencies without a minor unit (precious metals, test codes): money is counted in one.

/// A currency.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Currency {
    /// Its code of three letters.
    pub code: &'static str,
    /// Its code of three digits.
    pub numeric: u16,
    /// Decimal digits of its minor unit: 2 for EUR, 0 for JPY, 3 for KWD.
    pub scale: u8,
}

/// The currency of a code, as data element 49 has it: three digits or three letters.
pub fn currency_of(code: &[u8]) -> Option<Currency> {
    let text = std::str::from_utf8(code).ok().filter(|text| text.len() == 3)?;
    let currency = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        iso_currency::Currency::from_numeric(text.parse().ok()?)?
    } else {
        iso_currency::Currency::from_code(text)?
    };
    let scale = u8::try_from(currency.exponent()?).ok()?;
    Some(Currency { code: currency.code(), numeric: currency.numeric(), scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_found_by_its_digits_and_its_letters() {
        for (numeric, code, scale) in
            [("978", "EUR", 2), ("392", "JPY", 0), ("414", "KWD", 3), ("008", "ALL", 2), ("203", "CZK", 2)]
        {
            let found = currency_of(numeric.as_bytes()).expect(code);
            assert_eq!((found.code, found.scale), (code, scale));
            assert_eq!(currency_of(code.as_bytes()), Some(found));
            assert_eq!(format!("{:03}", found.numeric), numeric);
        }
    }

    #[test]
    fn what_has_no_minor_unit_or_is_no_code_is_no_currency() {
        for code in ["959", "XAU", "999", "000", "eur", "EURO", "97", "", "E1R"] {
            assert_eq!(currency_of(code.as_bytes()), None, "{code}");
        }
    }
}
