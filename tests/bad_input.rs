//! Bad input: refused with file, line and reason, before anything is created or booked.

mod common;

use common::{HEADER, Run, import, on, sums_of_accounts, text, tpcore};
use serde_json::json;

const GOOD: &str = "1,7,1993-01-01,credit,cash_deposit,500,500,,,";

/// The file's bytes are refused with this line and reason; a new directory stays uncreated, an old one unchanged.
#[track_caller]
fn refused(bytes: &[u8], line: u64, reason: &str) -> Run {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let input = temporary.path().join("bad.csv");
    std::fs::write(&input, bytes).expect("written");
    let data = temporary.path().join("data");
    let run = import(&input, &data).expect(3);
    assert!(!data.exists(), "nothing is created");
    let place = format!("{}:{line}: ", input.display());
    assert!(run.stderr.contains(&place), "{place} in {}", run.stderr);
    assert!(run.stderr.contains(reason), "{reason} in {}", run.stderr);
    let error = &run.json()["error"];
    assert_eq!((&error["exit_code"], &error["faults"][0]["line"]), (&json!(3), &json!(line)));
    run
}

fn rows(rows: &[&str]) -> Vec<u8> {
    format!("{HEADER}\n{}\n", rows.join("\n")).into_bytes()
}

#[test]
fn every_fault_is_named_with_file_line_and_reason_and_nothing_is_created() {
    let with = |row: &str| rows(&[GOOD, row]);
    refused(&with("x,7,1993-01-01,credit,cash_deposit,5,5,,,"), 3, "transaction_id: \"x\" is not a whole number");
    refused(&with("2,-7,1993-01-01,credit,cash_deposit,5,5,,,"), 3, "account_id: \"-7\"");
    refused(&with("2,7,1993-02-29,credit,cash_deposit,5,5,,,"), 3, "date: \"1993-02-29\" is not a date");
    refused(&with("2,7,1992-12-31,credit,cash_deposit,5,5,,,"), 3, "date: out of order: 1992-12-31 after 1993-01-01");
    refused(&with("2,7,1993-01-01,loan,cash_deposit,5,5,,,"), 3, "type: unknown type \"loan\"");
    refused(&with("2,7,1993-01-01,credit,cash,5,5,,,"), 3, "operation: unknown operation \"cash\"");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,5.00,5,,,"), 3, "amount_minor: \"5.00\"");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,0,5,,,"), 3, "amount_minor: \"0\"");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,79228162514264337593543950336,5,,,"), 3, "2^96");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,5,x,,,"), 3, "balance_after_minor: \"x\"");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,5,5,gifts,,"), 3, "category: unknown category \"gifts\"");
    refused(&with("2,7,1993-01-01,debit,transfer_out,5,5,,a b,"), 3, "partner_bank: \"a b\" is not a bank code");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,5,5,,"), 3, "9 columns, expected 10");
    refused(&with("2,7,1993-01-01,credit,cash_deposit,5,5,,,,"), 3, "11 columns, expected 10");
    refused(&with("1,7,1993-01-01,credit,cash_deposit,501,501,,,"), 3, "stands on line 2 with other contents");
    refused(b"", 1, "the file is empty");
    refused(b"a,b\n1,2\n", 1, "header: column 1 is \"a\", expected \"transaction_id\"");
    let mut latin = rows(&[GOOD]);
    latin.extend_from_slice(b"2,7,1993-01-01,credit,cash_deposit,5,5,d\xF9chod,,\n");
    refused(&latin, 3, "not UTF-8: byte 0xf9 at position 41 of the line");
}

#[test]
fn twenty_faults_are_shown_and_the_rest_counted() {
    let bad: Vec<&str> = std::iter::repeat_n("x,7,1993-01-01,credit,cash_deposit,5,5,,,", 57).collect();
    let run = refused(&rows(&bad), 2, "and 37 more");
    assert_eq!(run.json()["error"]["faults_total"], json!(57));
    assert_eq!(run.json()["error"]["faults"].as_array().map(Vec::len), Some(20));
}

#[test]
fn a_fault_in_the_last_row_leaves_an_existing_directory_as_it_was() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    import(&common::file(temporary.path(), "good.csv", &[GOOD]), &data).expect(0);
    let before = (sums_of_accounts(&data), on(&data, &["verify"]).expect(0).json());
    let bad = common::file(temporary.path(), "bad.csv", &["2,7,1993-01-02,credit,cash_deposit,5,505,,,", "3,,,,,,,,,"]);
    import(&bad, &data).expect(3);
    assert_eq!((sums_of_accounts(&data), on(&data, &["verify"]).expect(0).json()), before);
}

#[test]
fn wrong_usage_ends_with_code_2_and_help_with_0() {
    for arguments in [
        &["import"][..],
        &["nothing"],
        &["accounts", "--data-dir", "x", "--colour"],
        &["accounts", "--data-dir", "x", "--csv", "--json"],
        &["statement", "abc", "--data-dir", "x"],
        &["statement", "1", "--from", "yesterday", "--data-dir", "x"],
        &["state", "--at", "1993-13-01", "--data-dir", "x"],
        &["authorization", "00000000-0000-0000-0000-000000000000", "--data-dir", "x"],
        &["dump", "--from", "-1", "--data-dir", "x"],
        &["catalogue"],
    ] {
        let run = tpcore(arguments).expect(2);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{arguments:?}");
    }
    let help = tpcore(&["--help"]).expect(0).stdout;
    for word in
        ["import", "accounts", "statement", "authorization", "state", "dump", "verify", "checkpoint", "catalogue"]
    {
        assert!(help.contains(word), "{word}");
    }
    assert!(help.contains("Exit codes:"));
    tpcore(&["--version"]).expect(0);
}

#[test]
fn a_missing_input_file_is_bad_input() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    let run = import(&temporary.path().join("none.csv"), &data).expect(3);
    assert!(run.stderr.contains("none.csv cannot be read"), "{}", run.stderr);
    assert!(!data.exists());
}

#[test]
fn accounts_and_authorizations_that_do_not_exist_are_bad_input() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    import(&common::file(temporary.path(), "good.csv", &[GOOD]), &data).expect(0);
    let run = on(&data, &["statement", "8"]).expect(3);
    assert!(run.stderr.contains("account 8 does not exist"), "{}", run.stderr);
    let run = on(&data, &["authorization", "018f3c4e-9d2a-8001-8000-000000000001"]).expect(3);
    assert!(run.stderr.contains("does not exist"), "{}", run.stderr);
    let id = "18446744073709551617";
    tpcore(&["statement", id, "--data-dir", text(&data)]).expect(3);
}
