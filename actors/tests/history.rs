//! Old facts on a running engine are what a replay of the whole journal says, for every account and at many points.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]
#![allow(clippy::print_stderr, reason = "random tests say their seed")]

mod common;
#[path = "history/life.rs"]
mod life;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{START, in_memory, open_account, transfer};
use life::{Known, Life, Stood, Truth};
use tp_actors::history::{AccountAt, HistoryError, StatementLine, StatementQuery};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex};
use tp_actors::tp_core::time::Time;
use tp_actors::{CheckpointPolicy, Clock, Config, Engine, ErrorClass, GivenClock, UpTo};

fn config(path: &Path, clock: &GivenClock, partitions: usize) -> Config {
    Config {
        partitions,
        segment_bytes: 1 << 20,
        identity_seed: Some(7),
        clock: Clock::given(clock.clone()),
        checkpoint: CheckpointPolicy { at_close: true, ..CheckpointPolicy::off() },
        ..Config::at(path)
    }
}

/// All lines of an account up to an event, newest first, page after page.
fn pages(engine: &Engine, account: AccountId, limit: usize, up_to: Seq) -> Vec<StatementLine> {
    let (mut lines, mut before) = (Vec::new(), None);
    loop {
        let query = StatementQuery { before, limit, from: None };
        let page = engine.statement(account, query).expect("readable").expect("there is one");
        assert!(page.lines.len() == limit || page.next.is_none(), "a page is short only at the end");
        lines.extend(page.lines.into_iter().filter(|line| line.seq <= up_to));
        before = page.next;
        if before.is_none() {
            return lines;
        }
    }
}

fn assert_statement(engine: &Engine, account: AccountId, known: &Known, up_to: Seq, limit: usize) {
    let mut lines = pages(engine, account, limit, up_to);
    lines.reverse();
    let mut posted = 0;
    assert_eq!(lines.len(), known.lines.len(), "account {account}, pages of {limit}");
    for (line, (seq, time, expected)) in lines.iter().zip(&known.lines) {
        posted += expected.amount;
        let expected = StatementLine { seq: *seq, time: *time, line: expected.clone(), posted };
        assert_eq!(line, &expected, "account {account}, pages of {limit}");
    }
}

/// Every `step`-th event of the account and its last one, and what lies around it.
fn assert_points(engine: &Engine, account: AccountId, known: &Known, up_to: Seq, step: usize) {
    let first = known.stood.first().expect("it has a leg").seq;
    assert_eq!(engine.account_at(account, UpTo::Seq(Seq(first.0 - 1))).expect("readable"), None, "not opened yet");
    let last = known.stood.len() - 1;
    for n in (0..last).step_by(step).chain([last]) {
        let Stood { seq, time, version, posted, held } = known.stood[n];
        let at = AccountAt { posted, held, version, seq, time };
        // The last number before the account's next event still shows it so.
        let until = known.stood.get(n + 1).map_or(up_to.0, |next| next.seq.0 - 1);
        for point in [seq.0, until] {
            let found = engine.account_at(account, UpTo::Seq(Seq(point))).expect("readable");
            assert_eq!(found, Some(at), "account {account} at {point}");
        }
        let last_of_time = known.stood.iter().rfind(|other| other.time <= time).expect("itself");
        let found = engine.account_at(account, UpTo::Time(time)).expect("readable").expect("it existed");
        let is_same =
            (found.seq, found.posted, found.held) == (last_of_time.seq, last_of_time.posted, last_of_time.held);
        assert!(is_same || found.seq > up_to, "account {account} at {time:?}: {found:?}, {last_of_time:?}");
    }
}

fn assert_all(engine: &Engine, truth: &Truth, step: usize) {
    for (account, known) in &truth.accounts {
        for limit in [1_000, 7] {
            assert_statement(engine, *account, known, truth.last, limit);
        }
        assert_points(engine, *account, known, truth.last, step);
    }
    for (id, (account, expected)) in truth.authorizations.iter().step_by(step) {
        let mut found = engine.authorization_history(*id, *account).expect("readable").expect("the account names it");
        found.events.retain(|(seq, _)| *seq <= truth.last);
        assert_eq!((&found.events, found.is_complete), (expected, true), "authorization {id}");
    }
}

/// An engine after a random life of several segments, still running.
fn lived(path: &Path, seed: u64, commands: usize, in_flight: usize) -> (Engine, Life, GivenClock) {
    let clock = GivenClock::new(START);
    let engine = Engine::open(config(path, &clock, 2)).expect("opens");
    Life::open_accounts(&engine);
    let mut life = Life::new(seed, clock.clone());
    life.live(&engine, commands, in_flight);
    (engine, life, clock)
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path.join("journal")).expect("a folder");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|ending| ending == "segment"));
    files.sort();
    files
}

#[test]
fn statements_points_and_histories_are_what_the_whole_journal_says() {
    let mut truths = Vec::new();
    for (seed, in_flight) in [(1, 64), (2, 1), (3, 8)] {
        eprintln!("seed {seed}");
        let dir = tempfile::tempdir().expect("a directory");
        let (engine, ..) = lived(dir.path(), seed, 1_500, in_flight);
        let truth = Truth::of(dir.path());
        assert_all(&engine, &truth, 7);
        assert!(in_flight > 1 || segments(dir.path()).len() > 2, "{:?}", segments(dir.path()));
        truths.push(truth);
    }
    // The random lives met all that makes a statement or a hold difficult.
    for kind in [
        "moved capture",
        "opened capture",
        "answered capture",
        "answered refund",
        "ended capture approved",
        "ended capture payee_",
        "ended transfer payee_",
        "ended refund approved",
        "ended undo_capture",
        "ended undo_transfer",
        "ended undo_refund",
        "ended advice",
        "released void",
        "released reverse",
        "expired expire",
        "incremented",
        "noted capture",
    ] {
        assert!(truths.iter().any(|truth| truth.count(kind) > 0), "no {kind} in {:?}", truths[0].kinds);
    }
    let has_suspense = |truth: &Truth| truth.accounts.keys().any(|account| !account.is_clients());
    assert!(truths.iter().any(has_suspense), "no suspense account");
}

#[test]
fn questions_are_answered_while_more_commands_come_and_after_a_restart_from_a_checkpoint() {
    let dir = tempfile::tempdir().expect("a directory");
    let (engine, mut life, clock) = lived(dir.path(), 11, 600, 16);
    let before = Truth::of(dir.path());
    std::thread::scope(|scope| {
        let load = scope.spawn(|| life.live(&engine, 1_000, 16));
        while !load.is_finished() {
            for (account, known) in &before.accounts {
                // Pages walk on from where they began, whatever comes on top.
                let mut lines = pages(&engine, *account, 50, before.last);
                lines.reverse();
                let of_before: Vec<_> = lines.into_iter().map(|l| (l.seq, l.time, l.line)).collect();
                assert_eq!(of_before, known.lines, "account {account}");
                let last = known.stood.last().expect("it has a leg");
                let at = engine.account_at(*account, UpTo::Seq(last.seq)).expect("readable").expect("it existed");
                assert_eq!(
                    (at.version, at.posted, at.held),
                    (last.version, last.posted, last.held),
                    "account {account}"
                );
            }
        }
    });
    engine.close_blocking().expect("an orderly close");
    let truth = Truth::of(dir.path());
    let engine = Engine::open(config(dir.path(), &clock, 1)).expect("opens");
    assert_eq!((engine.recovery().checkpoint, engine.recovery().events_replayed), (Some(1), 0), "from the checkpoint");
    assert_all(&engine, &truth, 13);
    life.live(&engine, 300, 16);
    assert_all(&engine, &Truth::of(dir.path()), 29);
}

#[test]
fn an_engine_in_memory_answers_too() {
    let clock = GivenClock::new(START);
    let engine = Engine::open(Config { clock: Clock::given(clock.clone()), ..in_memory(2) }).expect("opens");
    Life::open_accounts(&engine);
    let mut life = Life::new(5, clock);
    life.live(&engine, 400, 8);
    let mut legs = tp_actors::history::Legs::default();
    let mut known: std::collections::BTreeMap<AccountId, Known> = std::collections::BTreeMap::new();
    let last = engine.durable_seq();
    let mut feed = engine.events(Seq(1));
    while feed.position() <= last {
        let (seq, event) = feed.next_timeout(Duration::from_mins(1)).expect("readable").expect("durable");
        legs.each(
            &event,
            |_| true,
            |account, line| {
                known.entry(account).or_default().lines.push((seq, event.time, line));
            },
        );
    }
    assert!(known.len() as u64 > life::ACCOUNTS);
    for (account, known) in &known {
        assert_statement(&engine, *account, known, last, 10);
        let now = engine.account(*account).expect("running").expect("there is one");
        let at = engine.account_at(*account, UpTo::Seq(now.seq)).expect("readable").expect("it exists");
        assert_eq!((at.posted, at.held, at.version), (now.balances.posted, now.balances.held, now.version));
    }
}

#[test]
fn a_line_says_whose_decision_it_is_also_to_the_payee() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    for id in 1..=30 {
        engine.call_blocking(open_account(1, id, None));
    }
    for payee in 2..=30 {
        assert!(engine.call_blocking(transfer(100 + payee, 1, payee, 5)).outcome.is_approval());
    }
    let mut events = std::collections::BTreeSet::new();
    for account in (1..=30).map(AccountId) {
        for StatementLine { line, .. } in pages(&engine, account, 100, engine.durable_seq()) {
            events.insert(line.event);
            let owner = if line.what == "transfer" { AccountId(1) } else { account };
            assert_eq!(line.owner, Some(owner), "{account}: {line:?}");
        }
    }
    for event in ["settled", "moved", "opened", "answered", "ended"] {
        assert!(events.contains(event), "no {event} in {events:?}");
    }
}

#[test]
fn every_line_has_an_owner_and_an_expiry_belongs_to_the_account_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_engine, ..) = lived(dir.path(), 3, 600, 8);
    let truth = Truth::of(dir.path());
    assert!(truth.count("expired expire") > 0 && truth.count("answered capture") > 0, "{:?}", truth.kinds);
    for (account, known) in &truth.accounts {
        for (_, _, line) in &known.lines {
            match line.event {
                "expired" => assert_eq!(line.owner, Some(*account), "{line:?}"),
                "answered" => assert!(line.owner.is_some() && line.owner == line.counterparty, "{account}: {line:?}"),
                _ => assert!(line.owner.is_some(), "{account}: {line:?}"),
            }
        }
    }
}

#[test]
fn an_unknown_account_has_no_statement_no_past_and_no_authorization() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    let (nobody, id) = (AccountId(99), AuthorizationId::new(START, SlotIndex::new(1).expect("a slot"), 1));
    assert_eq!(engine.statement(nobody, StatementQuery::default()).expect("running"), None);
    assert_eq!(engine.account_at(nobody, UpTo::End).expect("running"), None);
    assert_eq!(engine.authorization_history(id, nobody).expect("running"), None);
    engine.call_blocking(open_account(1, 1, None));
    assert_eq!(engine.account_at(AccountId(1), UpTo::Time(Time(0))).expect("running"), None, "it was opened later");
    assert_eq!(engine.authorization_history(id, AccountId(1)).expect("running"), None, "it never made one");
}

#[test]
fn a_cursor_of_another_account_or_of_no_statement_is_refused() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    for id in 1..=2 {
        engine.call_blocking(open_account(id, id, None));
    }
    for n in 0..6 {
        engine.call_blocking(transfer(10 + n, 1, 2, 5));
    }
    let page =
        |account: u128, before| engine.statement(AccountId(account), StatementQuery { before, limit: 2, from: None });
    let first = page(1, None).expect("readable").expect("there is one");
    let cursor = first.next.expect("there is more");
    assert_eq!(page(1, Some(cursor)).expect("readable").expect("there is one").lines[0].posted, cursor.posted);
    let mut own = cursor;
    own.account = AccountId(2);
    let mut elsewhere = cursor;
    elsewhere.seq = Seq(2); // the opening of account 2
    let mut ahead = cursor;
    ahead.seq = Seq(u64::MAX);
    let mut before_all = cursor;
    before_all.seq = Seq::ZERO;
    let mut other_version = cursor;
    other_version.version.0 -= 1;
    for (account, cursor) in [(2, cursor), (1, own), (1, elsewhere), (1, ahead), (1, before_all), (1, other_version)] {
        let refused = page(account, Some(cursor));
        let Err(error @ HistoryError::Cursor { .. }) = refused else { panic!("{cursor:?}: {refused:?}") };
        assert_eq!(error.class(), ErrorClass::Usage);
    }
    let mut forged = cursor;
    forged.posted += 1;
    let query = StatementQuery { before: Some(forged), limit: 1_000, from: None };
    let refused = engine.statement(AccountId(1), query);
    assert!(matches!(refused, Err(HistoryError::Chain { .. })), "the first leg shows it: {refused:?}");
    for limit in [0, 1_001] {
        let refused = engine.statement(AccountId(1), StatementQuery { limit, ..StatementQuery::default() });
        assert!(matches!(refused, Err(HistoryError::Limit { .. })), "{refused:?}");
    }
}

#[test]
fn a_statement_from_a_time_on_leaves_out_what_was_recorded_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let (engine, ..) = lived(dir.path(), 21, 400, 8);
    let truth = Truth::of(dir.path());
    for (account, known) in &truth.accounts {
        let from = known.lines[known.lines.len() / 2].1;
        let query = StatementQuery { from: Some(from), limit: 1_000, before: None };
        let mut page = engine.statement(*account, query).expect("readable").expect("there is one");
        page.lines.retain(|line| line.seq <= truth.last);
        let expected: Vec<_> =
            known.lines.iter().rev().filter(|(_, time, _)| *time >= from).map(|line| line.0).collect();
        assert_eq!(page.lines.iter().map(|line| line.seq).collect::<Vec<_>>(), expected, "account {account}");
        assert_eq!(page.next, None);
        assert_eq!(page.lines[0].posted, known.stood.last().expect("a leg").posted);
    }
}

#[test]
fn a_segment_that_is_gone_or_damaged_is_an_error_and_the_engine_goes_on() {
    for is_gone in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let (engine, mut life, _) = lived(dir.path(), 31, 800, 1);
        let until = Instant::now() + Duration::from_mins(1);
        while engine.status().catalogue.seq < engine.durable_seq() {
            assert!(Instant::now() < until, "the catalogue does not follow");
            std::thread::yield_now();
        }
        let first = &segments(dir.path())[0];
        if is_gone {
            std::fs::remove_file(first).expect("removed");
        } else {
            let bytes = std::fs::read(first).expect("readable").len();
            std::fs::write(first, vec![0xA5; bytes]).expect("written");
        }
        let mut failed = 0;
        for account in (1..=life::ACCOUNTS).map(|id| AccountId(id.into())) {
            // All of them were opened in the first segment.
            let (mut before, mut error) = (None, None);
            while error.is_none() {
                match engine.statement(account, StatementQuery { before, limit: 20, from: None }) {
                    Ok(page) => {
                        before = page.expect("there is one").next;
                        assert!(before.is_some(), "account {account} came to its first leg");
                    }
                    Err(found) => error = Some(found),
                }
            }
            assert!(matches!(error, Some(HistoryError::Read { .. })), "{error:?}");
            let at = engine.account_at(account, UpTo::Seq(Seq(1)));
            assert!(matches!(at, Err(HistoryError::Read { .. })), "{at:?}");
            failed += 1;
        }
        assert_eq!(failed, life::ACCOUNTS);
        life.live(&engine, 50, 4);
        assert!(engine.status().poison.is_none());
    }
}
