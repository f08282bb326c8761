//! `tpcore import` on the bank's real rows: everything booked, balances exact, repeatable, extendable, killable.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Random, bank_accounts, file, first_rows, import, on, sums_of_accounts, sums_of_rows, tpcore, year};
use serde_json::{Value, json};

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Every account's debits and credits are the sums of its rows, and the counter-accounts hold the rest.
#[track_caller]
fn check_balances(input: &Path, data_dir: &Path) {
    let all = sums_of_accounts(data_dir);
    let (debits, credits) = all.values().fold((0, 0), |(d, c), sums| (d + sums.0, c + sums.1));
    assert_eq!(debits, credits, "the books balance");
    assert_eq!(bank_accounts(all), sums_of_rows(input));
}

#[test]
fn a_year_of_real_rows_is_booked_exactly_and_a_second_run_changes_nothing() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let first = import(&year(), &data).expect(0).json();
    assert_eq!(first["rows"], json!(28_205));
    assert_eq!(first["accounts"], json!(1_139));
    assert_eq!(first["refused"], json!({}));
    assert_eq!(first["duplicates"], json!(0));
    assert_eq!(first["max_deviation_minor"], json!("60"));
    assert_eq!(first["accounts_differing"], json!([]));
    assert_eq!(first["trial_balance"].as_array().map(Vec::len), Some(1));
    assert_eq!(first["trial_balance"][0]["ledger"], json!("CZK/2"));
    assert_eq!(first["trial_balance"][0]["balanced"], json!(true));
    assert_eq!(first["trial_balance"][0]["debits"], first["trial_balance"][0]["credits"]);
    assert_eq!(first["digest"].as_str().map(str::len), Some(64));
    assert_eq!(first["events"], first["last_seq"]);
    check_balances(&year(), &data);

    let second = import(&year(), &data).expect(0).json();
    for name in ["last_seq", "digest", "trial_balance", "rows", "accounts", "max_deviation_minor", "refused"] {
        assert_eq!(second[name], first[name], "{name}");
    }
    assert_eq!(second["events"], json!(0));
    assert_eq!(second["duplicates"], second["commands"], "all are repeats");

    let verified = on(&data, &["verify"]).expect(0).json();
    assert_eq!(verified["status"], json!("ok"));
    assert_eq!((&verified["last_seq"], &verified["digest"]), (&first["last_seq"], &first["digest"]));
    assert_eq!(verified["problems"], json!([]));
}

#[test]
fn a_longer_file_adds_only_its_new_rows() {
    let temporary = temporary();
    let (data, whole) = (temporary.path().join("data"), temporary.path().join("whole"));
    let (short, long) = (first_rows(temporary.path(), 1500), first_rows(temporary.path(), 2500));
    let first = import(&short, &data).expect(0).json();
    check_balances(&short, &data);
    let second = import(&long, &data).expect(0).json();
    assert_eq!(second["rows"], json!(2500));
    assert_eq!(second["refused"], json!({}));
    let added = second["commands"].as_u64().unwrap_or(0) - second["duplicates"].as_u64().unwrap_or(0);
    assert!((1000..2200).contains(&added), "1,000 rows of one or two commands, and accounts to open: {added}");
    assert!(second["last_seq"].as_u64() > first["last_seq"].as_u64());
    check_balances(&long, &data);
    // Now the shorter one again, which is all booked; then the same balances as of a run into a new directory.
    let third = import(&short, &data).expect(0).json();
    assert_eq!((&third["last_seq"], &third["digest"]), (&second["last_seq"], &second["digest"]));
    import(&long, &whole).expect(0);
    assert_eq!(sums_of_accounts(&data), sums_of_accounts(&whole), "two runs, one result");
}

#[test]
fn a_credit_limit_is_minus_the_lowest_running_sum_and_is_raised_for_a_later_file() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let rows = [
        "1,7,1993-01-01,credit,cash_deposit,100,100,,,",
        "2,7,1993-01-01,debit,cash_withdrawal,150,-50,,,",
        "3,7,1993-01-02,credit,cash_deposit,500,450,,,",
        "4,7,1993-01-03,debit,transfer_out,900,-450,,AB,1",
        "5,7,1993-01-04,debit,card_withdrawal,50,-500,,,",
    ];
    let limit = || {
        let accounts = on(&data, &["accounts"]).expect(0).json();
        let account = accounts["accounts"].as_array().and_then(|all| all.iter().find(|a| a["id"] == "7").cloned());
        account.map_or(Value::Null, |account| account["settings"]["credit_limit"].clone())
    };
    for (count, expected) in [(3, "50"), (4, "450"), (5, "500"), (3, "500")] {
        let input = file(temporary.path(), "rows.csv", &rows[..count]);
        let report = import(&input, &data).expect(0).json();
        assert_eq!((&report["refused"], &report["max_deviation_minor"]), (&json!({}), &json!("0")), "{count} rows");
        assert_eq!(limit(), json!(expected), "{count} rows");
    }
    // A file that only continues: what stands on the account counts.
    let input = file(temporary.path(), "next.csv", &["6,7,1993-02-01,debit,cash_withdrawal,25,-525,,,"]);
    let report = import(&input, &data).expect(0).json();
    assert_eq!((&report["refused"], &report["max_deviation_minor"]), (&json!({}), &json!("0")));
    assert_eq!(limit(), json!("525"));
}

#[test]
fn rows_of_an_earlier_date_are_booked_at_the_recorded_time_with_their_own_value_date() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let later = file(temporary.path(), "later.csv", &["1,7,1993-05-01,credit,cash_deposit,100,100,,,"]);
    let earlier = file(temporary.path(), "earlier.csv", &["2,7,1993-01-01,credit,cash_deposit,5,105,,,"]);
    import(&later, &data).expect(0);
    import(&earlier, &data).expect(0);
    let statement = on(&data, &["statement", "7"]).expect(0).json();
    let leg = statement["legs"].as_array().and_then(|legs| legs.last().cloned()).unwrap_or_default();
    assert_eq!(leg["value_date"], json!("1993-01-01"));
    assert_eq!(leg["time"], json!("1993-05-01T00:00:00.000Z"));
    assert_eq!((&leg["amount"], &leg["balance_after"]), (&json!("5"), &json!("105")));
}

#[test]
fn an_identical_row_is_booked_once_and_said() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let row = "1,7,1993-05-01,credit,cash_deposit,100,100,,,";
    let report = import(&file(temporary.path(), "twice.csv", &[row, row]), &data).expect(0).json();
    assert_eq!((&report["rows"], &report["rows_identical"]), (&json!(1), &json!(1)));
    assert_eq!(bank_accounts(sums_of_accounts(&data)).get("7"), Some(&(0, 100)));
}

#[test]
fn a_deviation_from_the_banks_balance_is_reported_and_no_reason_to_refuse() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let rows = ["1,7,1993-05-01,credit,cash_deposit,100,130,,,", "2,7,1993-05-02,credit,bank,100,155,interest,,"];
    let report = import(&file(temporary.path(), "off.csv", &rows), &data).expect(0).json();
    assert_eq!(report["max_deviation_minor"], json!("45"));
    assert_eq!(report["refused"], json!({}));
}

#[test]
fn a_run_killed_at_random_moments_and_run_again_ends_in_the_same_balances() {
    let temporary = temporary();
    let (data, whole) = (temporary.path().join("data"), temporary.path().join("whole"));
    let input = first_rows(temporary.path(), 4000);
    let started = std::time::Instant::now();
    import(&input, &whole).expect(0);
    let whole_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(1000).max(10);
    let mut random = Random::new();
    let mut killed = 0;
    for _ in 0..12 {
        let arguments = ["import", "--input", common::text(&input), "--data-dir", common::text(&data)];
        let mut child =
            common::command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(random.below(whole_ms)));
        killed += u32::from(child.try_wait().expect("a child").is_none());
        child.kill().expect("SIGKILL");
        child.wait().expect("it ended");
    }
    assert!(killed > 0, "no run was cut short: the test saw nothing");
    let report = import(&input, &data).expect(0).json();
    assert_eq!((&report["refused"], &report["accounts_differing"]), (&json!({}), &json!([])));
    check_balances(&input, &data);
    assert_eq!(sums_of_accounts(&data), sums_of_accounts(&whole));
    assert_eq!(on(&data, &["verify"]).expect(0).json()["status"], json!("ok"));
    let again = import(&input, &data).expect(0).json();
    assert_eq!((&again["events"], &again["digest"]), (&json!(0), &report["digest"]));
}

#[test]
fn the_report_for_people_says_the_same() {
    let temporary = temporary();
    let data = temporary.path().join("data");
    let input = file(temporary.path(), "one.csv", &["1,7,1993-05-01,credit,cash_deposit,100,130,,,"]);
    let run = tpcore(&["import", "--input", common::text(&input), "--data-dir", common::text(&data)]).expect(0);
    for part in ["rows           1", "refused        nothing", "deviation      at most 0.30 CZK", "CZK/2"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}
