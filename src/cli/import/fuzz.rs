//! Fuzz target of the bank's file.
//!
//! Promised: faults that say where and stay short, or rows within their ranges, dates ascending, each transaction once; written out
//! again they are read as the same rows. Every row can be made a command. How to run a fuzzer on it: `docs/src/fuzzing.md`.

use std::collections::BTreeSet;
use std::path::Path;

use tp_fuzz::{Bound, Seed};
use tpcore::Amount;

use super::csv::{FAULTS_SHOWN, Sheet, check as read};
use super::plan::{Counter, capture, first_command, is_authorized, last_key, payer};
use super::row::{COLUMNS, Category, Direction, Operation, PartnerBank, Row};

/// A row, its place in the table of transactions and the table's growth, for some 30 bytes of text; a field of one byte has
/// bounds of its own in the reader.
const BOUND: Bound = Bound { bytes: 64 << 10, per_byte: 64, turnover: 4 };

/// The longest reason: a few fields cut short, and the words that were expected.
const REASON_BYTES_MAX: usize = 1_200;

/// Real rows of every kind, and one input for each rule of the file.
fn seeds() -> Vec<Seed> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pkdd99/transactions-1993.csv");
    let file = std::fs::read_to_string(path).expect("the bank's file");
    let (header, rows) = file.split_once('\n').expect("a header");
    let mut kinds = BTreeSet::new();
    let kind = |row: &str| {
        row.split(',')
            .enumerate()
            .filter(|(at, _)| [3, 4, 7].contains(at))
            .map(|(_, f)| f.to_owned())
            .collect::<Vec<_>>()
    };
    let rows: Vec<&str> = rows.lines().filter(|row| kinds.insert(kind(row))).collect();
    let text = |rows: &[&str]| format!("{header}\n{}\n", rows.join("\n"));
    let quoted =
        format!("\u{FEFF}{}", text(&["\"1\",7,1993-01-01,credit,\"cash_deposit\",500,500,,,"]).replace('\n', "\r\n"));
    let seed = |name: &str, text: String| (name.to_owned(), text.into_bytes());
    vec![
        seed("every-kind", text(&rows)),
        seed("one-row", text(&rows[..1])),
        seed("header", text(&[]).trim_end().to_owned()),
        seed("quoted", quoted),
        seed("twice", text(&[rows[0], rows[0]])),
        seed("contradiction", text(&[rows[0], &rows[0].replace("70000", "70001")])),
        seed("out-of-order", text(&[rows[1], rows[0]])),
        seed("every-fault", text(&["0,x,1993-02-29,kredit,cash,0,--1,fees,a b,x"])),
        seed("open-quote", text(&["\"1,7,1993-01-01,credit"])),
        seed("extremes", text(&[EXTREMES])),
    ]
}

const EXTREMES: &str = "18446744073709551615,18446744073709551615,2149-06-06,debit,transfer_out,79228162514264337593543950335,-1267650600228229401496703205375,loan,ZZZZZZ,0";

fn check(bytes: &[u8]) {
    match BOUND.hold(bytes.len(), || read("f.csv", bytes)) {
        Ok(sheet) => check_sheet(&sheet),
        Err(failure) => {
            assert!(!failure.faults.is_empty() && failure.faults.len() <= FAULTS_SHOWN);
            assert!(failure.faults_total >= failure.faults.len() as u64);
            let lines = bytes.iter().filter(|byte| matches!(**byte, b'\n' | b'\r')).count() as u64 + 1;
            for fault in failure.faults {
                assert!((1..=lines).contains(&fault.line), "{fault} of {lines} lines");
                assert!(fault.reason.len() <= REASON_BYTES_MAX, "{} bytes: {fault}", fault.reason.len());
            }
        }
    }
}

fn check_sheet(sheet: &Sheet) {
    assert!(sheet.rows.is_sorted_by_key(|row| row.date), "dates ascend");
    let ids: BTreeSet<u64> = sheet.rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), sheet.rows.len(), "a transaction counts once");
    let mut text = COLUMNS.join(",") + "\n";
    for row in &sheet.rows {
        assert!(row.id > 0 && row.account > 0 && !row.amount.is_zero() && row.amount <= Amount::MAX, "{row:?}");
        assert!(row.balance_after.unsigned_abs() < 1 << 100, "{row:?}");
        assert_eq!(row.signed() > 0, row.direction == Direction::Credit, "{row:?}");
        assert!(first_command(row).key().is_some() && payer(row).0 > 0, "{row:?}");
        let booked_last =
            if is_authorized(row) { capture(row, tpcore::AuthorizationId(0)) } else { first_command(row) };
        assert_eq!(booked_last.key(), Some(last_key(row)), "{row:?}");
        text.push_str(&line(row));
    }
    let again =
        read("f.csv", text.as_bytes()).unwrap_or_else(|failure| panic!("{}: {:?}", failure.message, failure.faults));
    assert_eq!((again.rows, again.rows_identical), (sheet.rows.clone(), 0), "rows survive their text");
}

/// The row as the bank writes it.
fn line(row: &Row) -> String {
    let direction = if row.direction == Direction::Credit { "credit" } else { "debit" };
    let operation = match row.operation {
        Operation::CashDeposit => "cash_deposit",
        Operation::CashWithdrawal => "cash_withdrawal",
        Operation::CardWithdrawal => "card_withdrawal",
        Operation::TransferIn => "transfer_in",
        Operation::TransferOut => "transfer_out",
        Operation::Bank => "bank",
    };
    let category = match row.category {
        Category::None => "",
        Category::Interest => "interest",
        Category::StatementFee => "statement_fee",
        Category::Household => "household",
        Category::Pension => "pension",
        Category::Insurance => "insurance",
        Category::Loan => "loan",
        Category::PenaltyInterest => "penalty_interest",
    };
    let Row { id, account, date, amount, balance_after, partner, .. } = row;
    assert!(Counter::of(row) != Counter::Partner(PartnerBank(u32::MAX)), "six characters stay below 2^32");
    format!(
        "{id},{account},{date},{direction},{operation},{},{balance_after},{category},{},\n",
        amount.get(),
        code(*partner)
    )
}

/// The code behind a bank's number, by long division.
fn code(PartnerBank(mut number): PartnerBank) -> String {
    let mut code = Vec::new();
    while number > 0 {
        let digit = u8::try_from((number - 1) % 36).expect("below 36");
        code.push(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
        number = (number - 1) / 36;
    }
    code.iter().rev().copied().map(char::from).collect()
}

#[test]
fn a_file_of_any_bytes_is_faulted_or_read_as_rows() {
    tp_fuzz::target!("csv", seeds, check);
}

#[test]
fn the_seeds_are_read_or_faulted_as_they_are_named() {
    let read: Vec<_> = seeds().iter().map(|(_, bytes)| read("f.csv", bytes)).collect();
    let found: Vec<_> =
        read.iter().map(|read| read.as_ref().map(|s| s.rows.len()).map_err(|f| f.faults_total)).collect();
    assert_eq!(found, [Ok(12), Ok(1), Ok(0), Ok(1), Ok(1), Err(1), Err(1), Err(9), Err(1), Ok(1)]);
}
