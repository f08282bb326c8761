//! Statements and authorization histories over the whole life cycle: random commands through an engine of several partitions,
//! then the real binary on what it left. The seed is printed.

mod common;

use common::{Random, on, text, tpcore};
use serde_json::{Value, json};
use tpcore::{
    AccountId, Advice, Advise, Amount, AuthorizationId, Authorize, Capture, Clock, Command, Config, CreditLimit,
    Engine, GivenClock, Increment, Key, Ledger, Note, OpenAccount, Refund, RefundTarget, Reverse, Settings, Status,
    Time, Transfer, TransferId, UpdateAccount, Void, Windows,
};

const ACCOUNTS: u64 = 9;
const START: Time = Time(1_700_000_000_000);

/// What the random commands can name.
#[derive(Default)]
struct Known {
    keys: Vec<(AccountId, Key)>,
    authorizations: Vec<(AccountId, AuthorizationId)>,
    transfers: Vec<TransferId>,
}

struct Maker<'a> {
    random: Random,
    ledger: Ledger,
    known: &'a mut Known,
    next_key: u128,
}

impl Maker<'_> {
    fn account(&mut self) -> AccountId {
        AccountId(u128::from(self.random.below(ACCOUNTS) + 1))
    }

    fn amount(&mut self) -> Amount {
        Amount::from(self.random.below(900) + 1)
    }

    fn authorization(&mut self) -> (AccountId, AuthorizationId) {
        let count = self.known.authorizations.len() as u64;
        let nobody = (AccountId(1), AuthorizationId::new(START, tpcore::SlotIndex::new(1).expect("a slot"), 1));
        let index = usize::try_from(self.random.below(count.max(1))).expect("an index");
        self.known.authorizations.get(index).copied().unwrap_or(nobody)
    }

    /// A command of any kind and the account that owns its key.
    fn command(&mut self) -> (AccountId, Key, Command) {
        self.next_key += 1;
        let (key, account, payee, amount) = (Key::opaque(self.next_key), self.account(), self.account(), self.amount());
        let (ledger, note) = (self.ledger, Note::default());
        let (payer, authorization) = self.authorization();
        match self.random.below(12) {
            0..3 => (
                account,
                key,
                Authorize { lifetime_ms: Some(50_000), ..Authorize::new(key, account, ledger, amount) }.into(),
            ),
            3 => (payer, key, Increment { key, authorization, amount, lifetime_ms: None, note }.into()),
            4 | 5 => (
                payer,
                key,
                Capture { key, authorization, payee, amount, is_final: self.random.below(3) == 0, note }.into(),
            ),
            6 => (payer, key, Void { key, authorization, amount: Some(amount), note }.into()),
            7 => {
                let index = self.random.below(self.known.transfers.len().max(1) as u64);
                let capture = self.known.transfers.get(usize::try_from(index).expect("an index")).copied();
                let target = capture.map_or(RefundTarget::Authorization(authorization), RefundTarget::Capture);
                (payer, key, Refund { key, target, amount, note }.into())
            }
            8 => {
                let index = self.random.below(self.known.keys.len().max(1) as u64);
                let known = self.known.keys.get(usize::try_from(index).expect("an index")).copied();
                let (account, original) = known.unwrap_or((account, Key::opaque(1 << 100)));
                (account, key, Reverse { key, account, original, new_total: None, note }.into())
            }
            9 => {
                let advice = Advice::Post { payee, authorization: None };
                (account, key, Advise { key, account, ledger, amount, advice, note }.into())
            }
            _ => (account, key, Transfer { key, account, payee, ledger, amount, note }.into()),
        }
    }
}

/// An engine's random life in this directory; returns the authorizations made.
fn live(data: &std::path::Path) -> Vec<AuthorizationId> {
    let clock = GivenClock::new(START);
    let mut config = Config::at(data);
    (config.partitions, config.clock) = (3, Clock::given(clock.clone()));
    let engine = Engine::open(config).expect("it opens");
    let ledger = Ledger::new("EUR", 2).expect("a ledger");
    for id in 1..=ACCOUNTS {
        let settings = Settings { credit_limit: CreditLimit::Amount(Amount::from(20_000)), ..Settings::new(ledger) };
        let account = AccountId(u128::from(id));
        engine.call_blocking(OpenAccount { key: Key::opaque(1), account, settings, note: Note::default() });
    }
    let mut known = Known::default();
    let mut maker = Maker { random: Random::new(), ledger, known: &mut known, next_key: 10 };
    for step in 0..1500u64 {
        clock.set(Time(START.0 + step * 100));
        let (owner, key, command) = maker.command();
        let is_authorize = matches!(command, Command::Authorize(_));
        let is_capture = matches!(command, Command::Capture(_));
        let reply = engine.call_blocking(command);
        maker.known.keys.push((owner, key));
        if let Some(id) = reply.authorization.filter(|_| is_authorize && reply.outcome.is_approval()) {
            maker.known.authorizations.push((owner, id));
        }
        maker.known.transfers.extend(reply.transfer.filter(|_| is_capture && reply.outcome.is_approval()));
    }
    engine.close_blocking().expect("it closes");
    assert!(!known.transfers.is_empty() && known.authorizations.len() > 50, "too little happened");
    known.authorizations.into_iter().map(|(_, id)| id).collect()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn statements_chain_and_histories_are_whole_over_the_whole_life_cycle() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    let authorizations = live(&data);
    for account in list(&on(&data, &["accounts"]).expect(0).json(), "accounts") {
        let id = account["id"].as_str().unwrap_or_default();
        let statement = on(&data, &["statement", id]).expect(0).json();
        let legs = list(&statement, "legs");
        assert_eq!(json!(legs.len()), account["version"], "{id}: no leg is missing");
        let mut balance = 0i128;
        for (index, leg) in legs.iter().enumerate() {
            balance += leg["amount"].as_str().and_then(|a| a.parse::<i128>().ok()).expect("an amount");
            assert_eq!(
                (&leg["version"], &leg["balance_after"]),
                (&json!(index + 1), &json!(balance.to_string())),
                "{id}"
            );
        }
        assert_eq!(statement["closing_balance"], account["posted"], "{id}");
        assert_eq!(legs.last().map(|leg| leg["held_after"].clone()), Some(account["held"].clone()), "{id}");
    }
    let dump = tpcore(&["dump", "--data-dir", text(&data)]).expect(0).stdout;
    for id in authorizations.iter().step_by(authorizations.len() / 12) {
        let shown = on(&data, &["authorization", &id.to_string()]).expect(0).json();
        let seqs: Vec<&Value> = list(&shown, "history").iter().map(|event| &event["seq"]).collect();
        // Whatever carries the id in any field is in its history.
        for line in dump.lines().filter(|line| line.contains(&id.to_string())) {
            let event: Value = serde_json::from_str(line).expect("JSON");
            assert!(seqs.contains(&&event["seq"]), "{id}: {line}");
        }
        let opened = list(&shown, "history").iter().filter(|event| event["event"] == "opened").count();
        let answered = list(&shown, "history").iter().filter(|event| event["event"] == "answered").count();
        assert_eq!(opened, answered, "{id}: every exchange was answered");
    }
    assert_eq!(on(&data, &["verify"]).expect(0).json()["status"], json!("ok"));
}

#[test]
fn a_refused_row_ends_with_code_1_and_is_counted_by_its_outcome() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    let rows = ["1,7,1993-01-01,credit,cash_deposit,500,500,,,", "2,7,1993-01-02,debit,card_withdrawal,5,495,,,"];
    common::import(&common::file(temporary.path(), "one.csv", &rows[..1]), &data).expect(0);
    let mut config = Config::at(&data);
    config.clock = Clock::given(GivenClock::new(Time(0)));
    config.windows = Some(Windows { key_opaque_ms: None, ..Windows::default() });
    let engine = Engine::open(config).expect("it opens");
    let reply = engine.call_blocking(UpdateAccount {
        key: Key::opaque(77),
        account: AccountId(7),
        status: Some(Status::Frozen),
        credit_limit: None,
        limits: None,
        note: Note::default(),
    });
    assert!(reply.outcome.is_approval());
    engine.close_blocking().expect("it closes");
    let input = common::file(temporary.path(), "two.csv", &rows);
    let report = common::import(&input, &data).expect(1).json();
    assert_eq!(report["refused"], json!({ "account_frozen": 1 }));
    assert_eq!(report["accounts_differing"], json!([]), "what was refused is not expected on the account");
}

#[test]
fn an_account_of_another_ledger_is_no_place_for_the_banks_rows() {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let data = temporary.path().join("data");
    let mut config = Config::at(&data);
    config.clock = Clock::given(GivenClock::new(Time(0)));
    config.windows = Some(Windows { key_opaque_ms: None, ..Windows::default() });
    let engine = Engine::open(config).expect("it opens");
    let settings = Settings::new(Ledger::new("EUR", 2).expect("a ledger"));
    engine.call_blocking(OpenAccount { key: Key::opaque(1), account: AccountId(7), settings, note: Note::default() });
    engine.close_blocking().expect("it closes");
    let input = common::file(temporary.path(), "one.csv", &["1,7,1993-01-01,credit,cash_deposit,500,500,,,"]);
    let run = common::import(&input, &data).expect(3);
    assert!(run.stderr.contains("EUR/2"), "{}", run.stderr);
}
