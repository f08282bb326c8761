//! The vault on an engine: in memory, and on a directory that is opened again.

use std::path::Path;

use tp_actors::Config;
use tp_actors::tp_core::event::Body;

use super::super::keys::tests::ring;
use super::*;
use crate::control::fold;

const NUMBER: &[u8] = b"4111111111111111";

fn tenant(number: u32) -> TenantId {
    TenantId::new(number).expect("a tenant")
}

fn new_card(of: u32, number: &[u8], account: &str) -> NewCard {
    let tenant = tenant(of);
    let pan = Pan::parse(number).expect("a number");
    NewCard { tenant, pan, account: tenant.account(account).expect("an account"), expiry: Expiry::parse(b"3012") }
}

fn engine(config: Config) -> Arc<Engine> {
    let mut config = config;
    config.partitions = 2;
    Arc::new(Engine::open(config).expect("opened"))
}

/// The vault of what the engine has recorded, with these keys.
fn vault(engine: &Arc<Engine>, folder: Option<&Path>, keys: LocalCardKeys) -> Arc<Vault> {
    let mut own = VaultFold::open(engine, folder.map(Path::to_owned));
    fold(engine, &mut [&mut own]).expect("folded");
    own.check_keys(&keys).expect("every key");
    Arc::new(Vault::new(Arc::clone(engine), own, keys))
}

async fn added(vault: &Arc<Vault>, of: u32, number: &[u8], account: &str) -> Card {
    vault.add(new_card(of, number, account), "a test").await.expect("added").0
}

fn found(vault: &Vault, of: u32, number: &[u8]) -> Option<Token> {
    let found = vault.find(tenant(of), &Pan::parse(number).expect("a number")).expect("the keys work");
    found.map(|found| found.card).filter(|card| card.status != CardStatus::Closed).map(|card| card.token)
}

#[tokio::test]
async fn a_number_has_one_token_of_each_tenant_and_account() {
    let engine = engine(Config::in_memory());
    let vault = vault(&engine, None, ring(&[1]));
    let card = added(&vault, 1, NUMBER, "7").await;
    assert_eq!((card.masked().as_str(), card.status), ("411111******1111", CardStatus::Active));
    let (again, is_new) = vault.add(new_card(1, NUMBER, "7"), "a test").await.expect("there");
    assert_eq!((again.token, is_new), (card.token, false));
    assert!(matches!(vault.add(new_card(1, NUMBER, "8"), "a test").await, Err(CardError::OtherAccount)));
    let other = added(&vault, 2, NUMBER, "8").await;
    assert_ne!(other.token, card.token);
    assert_eq!((found(&vault, 1, NUMBER), found(&vault, 2, NUMBER)), (Some(card.token), Some(other.token)));
    assert_eq!((found(&vault, 3, NUMBER), vault.card(tenant(2), card.token)), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_is_added_many_times_at_once_is_added_once() {
    let engine = engine(Config::in_memory());
    let vault = vault(&engine, None, ring(&[1, 2]));
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.add(new_card(1, NUMBER, "7"), "a test").await })
        })
        .collect();
    let mut tokens = HashSet::new();
    for task in tasks {
        match task.await.expect("no panic") {
            Ok((card, _)) => _ = tokens.insert(card.token),
            Err(error) => assert!(matches!(error, CardError::UnderWay), "{error}"),
        }
    }
    assert_eq!(tokens.len(), 1);
    assert_eq!(vault.page(tenant(1), None, 10).len(), 1);
}

#[tokio::test]
async fn whoever_sees_a_number_is_recorded_before() {
    let engine = engine(Config::in_memory());
    let vault = vault(&engine, None, ring(&[1]));
    let card = added(&vault, 1, NUMBER, "7").await;
    let pan = vault.reveal(tenant(1), card.token, "key of ada").await.expect("shown");
    assert_eq!(pan.digits(), NUMBER);
    assert!(matches!(vault.reveal(tenant(2), card.token, "x").await, Err(CardError::NoCard)));
    let events: Vec<_> = engine.events(Seq(1)).take(2).map(|next| next.expect("an event").1).collect();
    let Body::Recorded(recorded) = &events[1].body else { panic!("a record") };
    let CardChange::Revealed { by } = CardRecord::from_bytes(&recorded.bytes).expect("a card's").change else {
        panic!()
    };
    assert_eq!(by, "key of ada");
    for event in &events {
        let Body::Recorded(recorded) = &event.body else { panic!("a record") };
        assert!(!recorded.bytes.windows(NUMBER.len()).any(|part| part == NUMBER));
    }
}

#[tokio::test]
async fn a_number_whose_card_is_closed_may_come_again_and_is_remembered() {
    let engine = engine(Config::in_memory());
    let vault = vault(&engine, None, ring(&[1]));
    let card = added(&vault, 1, NUMBER, "7").await;
    for (status, is_found) in [(CardStatus::Blocked, true), (CardStatus::Active, true), (CardStatus::Closed, false)] {
        let changed = vault.set_status(tenant(1), card.token, status, "a test").await.expect("changed");
        assert_eq!((changed.status, found(&vault, 1, NUMBER).is_some()), (status, is_found));
    }
    let active = vault.set_status(tenant(1), card.token, CardStatus::Active, "a test").await;
    assert!(matches!(active, Err(CardError::NoCard)), "closed is for good");
    let next = added(&vault, 1, NUMBER, "8").await;
    assert_eq!(found(&vault, 1, NUMBER), Some(next.token));
    // A rotation of the closed one does not put it in the way of the new one.
    vault.set_keys(ring(&[2, 1])).await.expect("both");
    assert_eq!(vault.rotate().await.expect("rotated"), 2);
    assert_eq!(found(&vault, 1, NUMBER), Some(next.token));
    let all = vault.find(tenant(1), &Pan::parse(NUMBER).expect("a number")).expect("the keys work").expect("there");
    assert_eq!(all.accounts_before, [card.account], "what the number paid from before");
}

#[tokio::test]
async fn a_rotation_moves_every_card_to_the_new_key_and_then_the_old_one_may_go() {
    let engine = engine(Config::in_memory());
    let vault = vault(&engine, None, ring(&[1]));
    let numbers: Vec<Pan> = (0..200).map(|number| Pan::of_parts(400_000, number).expect("a number")).collect();
    let mut tokens = Vec::new();
    for pan in &numbers {
        tokens.push(added(&vault, 1, pan.digits(), "7").await.token);
    }
    let [old, new] = [ring(&[1]).ids()[0], ring(&[2]).ids()[0]];
    assert!(matches!(vault.set_keys(ring(&[2])).await, Err(CardKeyError::Unknown(key)) if key == old));
    vault.set_keys(ring(&[2, 1])).await.expect("both");
    assert_eq!(vault.counts().1, CardCounts(vec![(old, 200)]));
    assert_eq!(vault.rotate().await.expect("rotated"), 200);
    assert_eq!((vault.counts().1, vault.rotate().await.expect("done")), (CardCounts(vec![(new, 200)]), 0));
    vault.set_keys(ring(&[2])).await.expect("the new one alone");
    for (pan, token) in numbers.iter().zip(&tokens) {
        assert_eq!(found(&vault, 1, pan.digits()), Some(*token));
        assert_eq!(&vault.reveal(tenant(1), *token, "a test").await.expect("shown"), pan);
    }
    // So does a start that folds it all again.
    let again = self::vault(&engine, None, ring(&[2]));
    assert!(numbers.iter().zip(&tokens).all(|(pan, token)| found(&again, 1, pan.digits()) == Some(*token)));
}

#[tokio::test]
async fn a_start_takes_what_the_file_has_and_the_rest_from_the_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = data.join("server");
    let open = || engine(Config::at(&data));
    let close = |engine: &Arc<Engine>| engine.close_in_place().expect("closed");
    let (first, second, third) = {
        let engine = open();
        let vault = vault(&engine, Some(&server), ring(&[1]));
        let first = added(&vault, 1, NUMBER, "7").await.token;
        vault.write_cache(true).expect("written");
        let second = added(&vault, 1, b"5555555555554444", "8").await.token;
        vault.write_cache(true).expect("written");
        let third = added(&vault, 1, b"378282246310005", "9").await.token;
        close(&engine);
        (first, second, third)
    };
    let check = |vault: &Vault| {
        assert_eq!(found(vault, 1, NUMBER), Some(first));
        assert_eq!(found(vault, 1, b"5555555555554444"), Some(second));
        assert_eq!(found(vault, 1, b"378282246310005"), Some(third));
    };
    let file = server.join("cards.log");
    let whole = std::fs::read(&file).expect("a file");
    // As it is; cut within its last part; another's; damaged; gone.
    for bytes in [Some(whole.clone()), Some(whole[..whole.len() - 3].to_vec()), Some(vec![7; 500]), None] {
        match &bytes {
            Some(bytes) => std::fs::write(&file, bytes).expect("written"),
            None => std::fs::remove_file(&file).expect("removed"),
        }
        // Twice: the second start takes what the first one wrote.
        for _ in 0..2 {
            let engine = open();
            let vault = vault(&engine, Some(&server), ring(&[1]));
            check(&vault);
            vault.write_cache(true).expect("written");
            close(&engine);
        }
    }
}
