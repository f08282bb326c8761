//! One row of the bank's file, field by field.
//!
//! Owns the rules of each field and between the fields of one row, and the [`Fault`]s they give. Refuses to know files, other
//! rows and what is booked. Parsing is strict: digits only, no signs but the minus of a balance, no spaces.

use std::fmt;

use serde_json::{Map, Value, json};
use tpcore::{Amount, Date};

/// The columns, as the header row must name them.
pub(crate) const COLUMNS: [&str; 10] = [
    "transaction_id",
    "account_id",
    "date",
    "type",
    "operation",
    "amount_minor",
    "balance_after_minor",
    "category",
    "partner_bank",
    "partner_account",
];

/// Money in or out, seen from the account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Credit,
    Debit,
}

/// What the bank did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    CashDeposit,
    CashWithdrawal,
    CardWithdrawal,
    TransferIn,
    TransferOut,
    Bank,
}

/// What for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Category {
    None,
    Interest,
    StatementFee,
    Household,
    Pension,
    Insurance,
    Loan,
    PenaltyInterest,
}

/// A partner bank: its code as a number, one-to-one. No code (a transfer within the bank): 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PartnerBank(pub(crate) u32);

/// One row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    /// The bank's number of the transaction, from 1.
    pub(crate) id: u64,
    /// The bank's account number, from 1.
    pub(crate) account: u64,
    pub(crate) date: Date,
    pub(crate) direction: Direction,
    pub(crate) operation: Operation,
    /// Above 0.
    pub(crate) amount: Amount,
    /// The bank's own running balance, below 2^100 either way, so that differences cannot overflow.
    pub(crate) balance_after: i128,
    pub(crate) category: Category,
    pub(crate) partner: PartnerBank,
}

impl Row {
    /// What it adds to the account, minor units.
    pub(crate) fn signed(&self) -> i128 {
        let amount = self.amount.get().cast_signed(); // below 2^96
        match self.direction {
            Direction::Credit => amount,
            Direction::Debit => -amount,
        }
    }
}

/// Something wrong with the file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    /// The column's name; `None`: the whole row.
    pub(crate) column: Option<&'static str>,
    pub(crate) reason: String,
}

impl Fault {
    /// As in the JSON of a failure.
    pub(crate) fn json(&self) -> Map<String, Value> {
        let value = json!({ "file": self.file, "line": self.line, "column": self.column, "reason": self.reason });
        if let Value::Object(fields) = value { fields } else { Map::new() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        match self.column {
            Some(column) => write!(f, "{column}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

/// A column and why it was not taken.
pub(crate) type FieldFault = (Option<&'static str>, String);

/// Reads the fields of one row; all faults of the row are collected. The date, when it is one, comes back beside them.
pub(crate) fn parse(fields: &[&str; 10]) -> (Option<Date>, Result<Row, Vec<FieldFault>>) {
    let mut faults = Vec::new();
    let mut fault = |column: usize, reason: String| faults.push((Some(COLUMNS[column]), reason));
    let id = positive(fields[0]).map_err(|reason| fault(0, reason));
    let account = positive(fields[1]).map_err(|reason| fault(1, reason));
    let date = fields[2].parse::<Date>().map_err(|error| fault(2, format!("{:?} is {error}", shown(fields[2]))));
    let direction = direction(fields[3]).map_err(|reason| fault(3, reason));
    let operation = operation(fields[4]).map_err(|reason| fault(4, reason));
    let amount = amount(fields[5]).map_err(|reason| fault(5, reason));
    let balance = balance(fields[6]).map_err(|reason| fault(6, reason));
    let category = category(fields[7]).map_err(|reason| fault(7, reason));
    // Only a transfer has a partner; what stands there on other rows is ignored.
    let is_transfer = matches!(operation, Ok(Operation::TransferIn | Operation::TransferOut));
    let partner = if is_transfer { partner(fields[8]) } else { Ok(PartnerBank(0)) };
    let partner = partner.map_err(|reason| fault(8, reason));
    if !fields[9].bytes().all(|b| b.is_ascii_digit()) {
        fault(9, format!("{:?} is not empty or a whole number", shown(fields[9])));
    }
    if let (Ok(direction), Ok(operation)) = (direction, operation)
        && !agree(direction, operation)
    {
        fault(4, format!("{:?} cannot be the operation of a {:?}", fields[4], fields[3]));
    }
    let date_found = date.ok();
    let row = match (id, account, date, direction, operation, amount, balance, category, partner) {
        (
            Ok(id),
            Ok(account),
            Ok(date),
            Ok(direction),
            Ok(operation),
            Ok(amount),
            Ok(balance_after),
            Ok(category),
            Ok(partner),
        ) if faults.is_empty() => {
            Ok(Row { id, account, date, direction, operation, amount, balance_after, category, partner })
        }
        _ => Err(faults),
    };
    (date_found, row)
}

/// A field as it is shown in a message: not longer than a line.
pub(super) fn shown(field: &str) -> String {
    let mut text: String = field.chars().take(40).collect();
    if text.len() < field.len() {
        text.push('…');
    }
    text
}

fn digits(field: &str) -> Option<u128> {
    let all_digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    if all_digits { field.parse().ok() } else { None }
}

fn positive(field: &str) -> Result<u64, String> {
    let number = digits(field).and_then(|number| u64::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("{:?} is not a whole number from 1 to 2^64 - 1", shown(field)))
}

fn amount(field: &str) -> Result<Amount, String> {
    let amount = digits(field).and_then(Amount::new).filter(|amount| !amount.is_zero());
    amount.ok_or_else(|| format!("{:?} is not a whole number from 1 to 2^96 - 1", shown(field)))
}

fn balance(field: &str) -> Result<i128, String> {
    let (negative, rest) = field.strip_prefix('-').map_or((false, field), |rest| (true, rest));
    let size = digits(rest).filter(|size| *size < 1 << 100).map(u128::cast_signed);
    let size = size.ok_or_else(|| format!("{:?} is not a whole number between -2^100 and 2^100", shown(field)))?;
    Ok(if negative { -size } else { size })
}

fn direction(field: &str) -> Result<Direction, String> {
    match field {
        "credit" => Ok(Direction::Credit),
        "debit" => Ok(Direction::Debit),
        _ => Err(format!("unknown type {:?}: expected credit or debit", shown(field))),
    }
}

fn operation(field: &str) -> Result<Operation, String> {
    Ok(match field {
        "cash_deposit" => Operation::CashDeposit,
        "cash_withdrawal" => Operation::CashWithdrawal,
        "card_withdrawal" => Operation::CardWithdrawal,
        "transfer_in" => Operation::TransferIn,
        "transfer_out" => Operation::TransferOut,
        "bank" => Operation::Bank,
        _ => {
            return Err(format!(
                "unknown operation {:?}: expected cash_deposit, cash_withdrawal, card_withdrawal, transfer_in, transfer_out \
                 or bank",
                shown(field)
            ));
        }
    })
}

fn category(field: &str) -> Result<Category, String> {
    Ok(match field {
        "" => Category::None,
        "interest" => Category::Interest,
        "statement_fee" => Category::StatementFee,
        "household" => Category::Household,
        "pension" => Category::Pension,
        "insurance" => Category::Insurance,
        "loan" => Category::Loan,
        "penalty_interest" => Category::PenaltyInterest,
        _ => {
            return Err(format!(
                "unknown category {:?}: expected interest, statement_fee, household, pension, insurance, loan, \
                 penalty_interest or nothing",
                shown(field)
            ));
        }
    })
}

/// What the bank does by itself may go either way.
const fn agree(direction: Direction, operation: Operation) -> bool {
    match operation {
        Operation::CashDeposit | Operation::TransferIn => matches!(direction, Direction::Credit),
        Operation::CashWithdrawal | Operation::CardWithdrawal | Operation::TransferOut => {
            matches!(direction, Direction::Debit)
        }
        Operation::Bank => true,
    }
}

/// Bijective base 36 (digits 1 to 36 are 0-9, A-Z), so that no two codes share a number, whatever their lengths. Six
/// characters stay below 2^32.
fn partner(field: &str) -> Result<PartnerBank, String> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(u32::from(b - b'0') + 1),
        b'A'..=b'Z' => Some(u32::from(b - b'A') + 11),
        _ => None,
    };
    let number = if field.len() > 6 { None } else { field.bytes().try_fold(0u32, |n, b| Some(n * 36 + digit(b)?)) };
    number.map(PartnerBank).ok_or_else(|| format!("{:?} is not a bank code of 1 to 6 of A-Z and 0-9", shown(field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 10] = ["695247", "2378", "1993-01-01", "credit", "cash_deposit", "70000", "-70000", "", "", "0"];

    fn reasons(column: usize, text: &str) -> Vec<FieldFault> {
        let mut fields = GOOD;
        if column == 8 {
            fields[4] = "transfer_in"; // only a transfer's partner is read
        }
        fields[column] = text;
        parse(&fields).1.err().unwrap_or_default()
    }

    #[test]
    fn a_good_row_is_taken_with_its_sign() {
        let row = parse(&GOOD).1.expect("a good row");
        assert_eq!((row.id, row.account, row.signed(), row.balance_after), (695_247, 2378, 70_000, -70_000));
        let mut fields = GOOD;
        (fields[3], fields[4]) = ("debit", "card_withdrawal");
        assert_eq!(parse(&fields).1.expect("a good row").signed(), -70_000);
    }

    #[test]
    fn each_field_that_is_not_what_it_should_be_is_named() {
        let two_to_64 = "18446744073709551616";
        let two_to_96 = "79228162514264337593543950336";
        for (column, texts) in [
            (0, &["", "0", "-1", "+1", "1 ", "1.5", "x", two_to_64][..]),
            (1, &["", "0", two_to_64, "１"]),
            (2, &["", "1993-02-29", "930101", "1993-1-1"]),
            (3, &["", "Credit", "kredit"]),
            (4, &["", "cash", "cash_withdrawal", "transfer_out"]),
            (5, &["", "0", "-5", "1e3", "10.00", two_to_96, "9999999999999999999999999999999999999999999999"]),
            (6, &["", "-", "--1", "1.0", "1267650600228229401496703205376"]),
            (7, &["fees", "Interest"]),
            (8, &["ab", "ABCDEFG", "A B"]),
            (9, &["x", "-1"]),
        ] {
            for text in texts {
                let faults = reasons(column, text);
                assert_eq!(faults.first().and_then(|(column, _)| *column), Some(COLUMNS[column]), "{text:?}");
            }
        }
    }

    #[test]
    fn all_faults_of_a_row_are_told_at_once() {
        let mut fields = GOOD;
        (fields[0], fields[5], fields[7]) = ("x", "y", "z");
        assert_eq!(parse(&fields).1.expect_err("three faults").len(), 3);
    }

    #[test]
    fn bank_codes_have_different_numbers_whatever_their_lengths() {
        let codes = ["", "0", "00", "A", "0A", "AB", "YZ", "ZZZZZZ", "000000", "1"];
        let numbers: std::collections::BTreeSet<_> =
            codes.iter().map(|code| partner(code)).collect::<Result<_, _>>().expect("codes");
        assert_eq!(numbers.len(), codes.len());
        assert_eq!(partner(""), Ok(PartnerBank(0)));
    }
}
