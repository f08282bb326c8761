//! The read-only commands: what they show, in which form, and that they write nothing and work beside a running engine.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{file, first_rows, import, on, text, tpcore};
use serde_json::{Value, json};
use tpcore::{AccountId, Clock, Config, Engine, GivenClock, Time};

/// Two days of one account: in by cash and transfer, out by card, fee and transfer.
const ROWS: [&str; 6] = [
    "11,7,1993-01-01,credit,cash_deposit,100000,100000,,,",
    "12,7,1993-01-01,debit,card_withdrawal,25000,75000,household,,",
    "13,8,1993-01-01,credit,transfer_in,5000,5000,,AB,77",
    "14,7,1993-01-02,debit,cash_withdrawal,1460,73540,statement_fee,,",
    "15,7,1993-01-02,debit,transfer_out,30000,43540,,CD,12",
    "16,7,1993-01-02,credit,bank,120,43660,interest,,",
];

struct Directory {
    _temporary: tempfile::TempDir,
    data: PathBuf,
}

fn directory() -> Directory {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    import(&file(temporary.path(), "rows.csv", &ROWS), &data).expect(0);
    Directory { _temporary: temporary, data }
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Files below the directory with size and time of change.
fn fingerprint(directory: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let entry = entry.expect("an entry");
        let meta = entry.metadata().expect("metadata");
        if meta.is_dir() {
            found.extend(fingerprint(&entry.path()));
        } else {
            found.insert(entry.path(), (meta.len(), meta.modified().expect("a time")));
        }
    }
    found
}

#[test]
fn accounts_are_listed_with_stable_fields() {
    let d = directory();
    let accounts = on(&d.data, &["accounts"]).expect(0).json();
    let ids: Vec<_> =
        list(&accounts, "accounts").iter().map(|a| a["id"].as_str().unwrap_or_default().to_owned()).collect();
    let base = 1u128 << 64;
    let partner = |n: u128| (base + (1 << 32) + n).to_string();
    // AB = 11 * 36 + 12, CD = 13 * 36 + 14 in bijective base 36.
    let expected = [
        "7".into(),
        "8".into(),
        base.to_string(),
        (base + 1).to_string(),
        (base + 2).to_string(),
        partner(408),
        partner(482),
    ];
    assert_eq!(ids, expected);
    let seven = &list(&accounts, "accounts")[0];
    assert_eq!(seven["settings"]["ledger"], json!("CZK/2"));
    for (field, value) in
        [("debits", "56460"), ("credits", "100120"), ("posted", "43660"), ("held", "0"), ("available", "43660")]
    {
        assert_eq!(seven[field], json!(value), "{field}");
    }
    assert!(seven["version"].as_u64() >= Some(7), "opened, and a leg or more for each row");
    assert_eq!(list(&accounts, "accounts")[4]["available"], Value::Null, "unlimited");
    let csv = tpcore(&["accounts", "--csv", "--data-dir", text(&d.data)]).expect(0).stdout;
    let line = csv.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("7,CZK/2,1,open,56460,100120,0,43660,"), "{line}");
    assert!(csv.lines().nth(3).is_some_and(|line| line.contains(",0,,")), "available is empty when unlimited: {csv}");
    let people = tpcore(&["accounts", "--data-dir", text(&d.data)]).expect(0).stdout;
    assert!(people.contains("436.60"), "{people}");
}

#[test]
fn a_statement_lists_every_leg_without_gap_and_its_balances_chain() {
    let d = directory();
    let statement = on(&d.data, &["statement", "7"]).expect(0).json();
    let legs = list(&statement, "legs");
    let mut balance = 0i128;
    for (index, leg) in legs.iter().enumerate() {
        assert_eq!(leg["version"], json!(index + 1), "versions are gapless: {leg}");
        balance += leg["amount"].as_str().and_then(|a| a.parse::<i128>().ok()).unwrap_or_default();
        assert_eq!(leg["balance_after"], json!(balance.to_string()), "{leg}");
    }
    assert_eq!((&statement["opening_balance"], &statement["closing_balance"]), (&json!("0"), &json!("43660")));
    let moves: Vec<_> = legs.iter().filter(|leg| leg["amount"] != json!("0")).collect();
    let amounts: Vec<_> = moves.iter().map(|leg| leg["amount"].as_str().unwrap_or_default()).collect();
    assert_eq!(amounts, ["100000", "-25000", "-1460", "-30000", "120"]);
    let references: Vec<_> = moves.iter().map(|leg| leg["reference"].as_str().unwrap_or_default()).collect();
    assert_eq!(references, ["11", "12", "14", "15", "16"]);
    let dates: Vec<_> = moves.iter().map(|leg| leg["value_date"].as_str().unwrap_or_default()).collect();
    assert_eq!(dates, ["1993-01-01", "1993-01-01", "1993-01-02", "1993-01-02", "1993-01-02"]);
    let hold = legs.iter().find(|leg| leg["what"] == "authorize").cloned().unwrap_or_default();
    assert_eq!((&hold["amount"], &hold["held_after"]), (&json!("0"), &json!("25000")));
    assert!(tpcore(&["statement", "7", "--data-dir", text(&d.data)]).expect(0).stdout.contains("-250.00"));
}

#[test]
fn the_counter_accounts_statements_chain_too() {
    let d = directory();
    for account in list(&on(&d.data, &["accounts"]).expect(0).json(), "accounts") {
        let id = account["id"].as_str().unwrap_or_default();
        let statement = on(&d.data, &["statement", id]).expect(0).json();
        assert_eq!(statement["closing_balance"], account["posted"], "{id}");
        assert_eq!(
            list(&statement, "legs").len(),
            usize::try_from(account["version"].as_u64().unwrap_or(0)).unwrap_or(0)
        );
    }
}

#[test]
fn a_statement_can_be_cut_to_a_range() {
    let d = directory();
    let second = on(&d.data, &["statement", "7", "--from", "1993-01-02"]).expect(0).json();
    assert_eq!((&second["opening_balance"], &second["closing_balance"]), (&json!("75000"), &json!("43660")));
    let first = on(&d.data, &["statement", "7", "--to", "1993-01-01"]).expect(0).json();
    assert_eq!((&first["opening_balance"], &first["closing_balance"]), (&json!("0"), &json!("75000")));
    let all = on(&d.data, &["statement", "7"]).expect(0).json();
    assert_eq!(list(&all, "legs").len(), list(&first, "legs").len() + list(&second, "legs").len());
}

#[test]
fn an_authorization_shows_its_state_and_every_event_that_names_it() {
    let d = directory();
    let statement = on(&d.data, &["statement", "7"]).expect(0).json();
    let hold = list(&statement, "legs").iter().find(|leg| leg["what"] == "authorize").cloned().unwrap_or_default();
    let id = hold["authorization"].as_str().unwrap_or_default();
    let shown = on(&d.data, &["authorization", id]).expect(0).json();
    assert_eq!(shown["authorization"], json!(id));
    for (field, value) in
        [("account", "7"), ("state", "captured"), ("authorized", "25000"), ("captured", "25000"), ("held", "0")]
    {
        assert_eq!(shown["state"][field], json!(value), "{field}");
    }
    let history: Vec<_> = list(&shown, "history").iter().map(|e| e["event"].as_str().unwrap_or_default()).collect();
    assert!(
        history == ["authorized", "moved"] || history == ["authorized", "opened", "answered", "ended"],
        "{history:?}"
    );
    tpcore(&["authorization", id, "--data-dir", text(&d.data)]).expect(0);
}

#[test]
fn the_state_at_a_time_or_sequence_number_is_what_it_was_then() {
    let d = directory();
    let posted = |at: &str| {
        let state = on(&d.data, &["state", "--at", at]).expect(0).json();
        let seven = list(&state, "accounts").iter().find(|a| a["id"] == "7").cloned();
        (seven.map(|a| a["posted"].clone()), state)
    };
    assert_eq!(posted("1993-01-01").0, Some(json!("75000")));
    assert_eq!(posted("1993-01-01T23:59:59.999Z").0, Some(json!("75000")));
    assert_eq!(posted("1993-01-02").0, Some(json!("43660")));
    assert_eq!(posted("1992-12-31").0, None, "before the first event there are no accounts");
    let statement = on(&d.data, &["statement", "7"]).expect(0).json();
    for leg in list(&statement, "legs") {
        let (balance, state) = posted(&leg["seq"].to_string());
        assert_eq!(balance.as_ref(), Some(&leg["balance_after"]), "{leg}");
        assert_eq!(state["last_seq"], leg["seq"]);
    }
}

#[test]
fn a_dump_has_every_event_once_with_documented_names() {
    let d = directory();
    let report = on(&d.data, &["verify"]).expect(0).json();
    let dump = tpcore(&["dump", "--data-dir", text(&d.data)]).expect(0).stdout;
    let events: Vec<Value> = dump.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    let seqs: Vec<u64> = events.iter().filter_map(|e| e["seq"].as_u64()).collect();
    let last = report["last_seq"].as_u64().unwrap_or(0);
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    let guide = include_str!("../docs/src/operating.md");
    for event in &events {
        for name in event.as_object().map(|fields| fields.keys()).into_iter().flatten() {
            assert!(guide.contains(&format!("`{name}`")), "{name} is not documented");
        }
    }
    let tail = tpcore(&["dump", "--from", &last.to_string(), "--data-dir", text(&d.data)]).expect(0).stdout;
    assert_eq!(tail.lines().count(), 1);
    assert_eq!(tpcore(&["dump", "--from", &(last + 1).to_string(), "--data-dir", text(&d.data)]).expect(0).stdout, "");
}

#[test]
fn read_only_commands_change_no_file() {
    let d = directory();
    let before = fingerprint(&d.data);
    for arguments in [
        &["accounts"][..],
        &["statement", "7"],
        &["state", "--at", "1993-01-01"],
        &["dump"],
        &["verify"],
        &["authorization", "018f3c4e-9d2a-8001-8000-000000000001"],
    ] {
        on(&d.data, arguments);
        assert_eq!(fingerprint(&d.data), before, "{arguments:?}");
    }
}

#[test]
fn read_only_commands_work_beside_a_running_engine() {
    let d = directory();
    let mut config = Config::at(&d.data);
    config.clock = Clock::given(GivenClock::new(Time(0)));
    let engine = Engine::open(config).expect("it opens");
    assert!(engine.account(AccountId(7)).expect("answered").is_some());
    for arguments in [&["accounts"][..], &["statement", "7"], &["state", "--at", "1993-01-01"], &["dump"], &["verify"]]
    {
        on(&d.data, arguments).expect(0);
    }
    engine.close_blocking().expect("it closes");
}

#[test]
fn checkpoint_and_catalogue_rebuild_leave_the_state_as_it_is() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    import(&first_rows(temporary.path(), 300), &data).expect(0);
    let before = on(&data, &["accounts"]).expect(0).json();
    let done = on(&data, &["checkpoint"]).expect(0).json();
    assert_eq!(done["as_of"], before["last_seq"]);
    on(&data, &["catalogue", "rebuild"]).expect(0);
    let after = on(&data, &["accounts"]).expect(0).json();
    for name in ["accounts", "trial_balance", "last_time", "last_seq", "digest"] {
        assert_eq!(after[name], before[name], "{name}");
    }
    assert_eq!(on(&data, &["verify"]).expect(0).json()["status"], json!("ok"));
}
