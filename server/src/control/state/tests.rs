//! Tests of the rules of changes.

use super::*;
use crate::control::{Maker, Role};

fn id(number: u8) -> KeyId {
    KeyId::from_bytes([number; 8])
}

fn tenant(number: u32) -> TenantId {
    TenantId::new(number).expect("a tenant")
}

fn state() -> ControlState {
    let mut state = ControlState::default();
    for number in [1, 2] {
        state.apply(Change::TenantAdded { tenant: tenant(number), name: format!("t{number}") }, UnixMs(1), "test");
    }
    state.apply(
        Change::ApprovalAsked {
            approval: ApprovalId(7),
            tenant: tenant(1),
            person: "ada".to_owned(),
            key: id(1),
            expires: UnixMs(100),
            command: r#"{"command":"transfer","account":"1","key":"k"}"#.to_owned(),
        },
        UnixMs(10),
        "test",
    );
    state
}

fn given(person: &str, key: u8) -> Change {
    Change::ApprovalGiven { approval: ApprovalId(7), person: person.to_owned(), key: id(key) }
}

#[test]
fn an_approval_is_decided_once_by_another_person_in_time() {
    let mut state = state();
    assert_eq!(state.check(&given("ada", 2), UnixMs(50)), Err(Refused::SamePerson), "her other key");
    assert_eq!(state.check(&given("bob", 1), UnixMs(50)), Err(Refused::SamePerson), "his name on her key");
    assert_eq!(state.check(&given("bob", 2), UnixMs(100)), Err(Refused::NotOpen), "expired");
    assert_eq!(state.check(&given("bob", 2), UnixMs(99)), Ok(()));
    state.apply(given("bob", 2), UnixMs(99), "test");
    assert_eq!(state.check(&given("cyd", 3), UnixMs(99)), Err(Refused::NotOpen), "decided");
    assert_eq!(state.unfinished().len(), 1);
}

fn added(key: u8, person: &str) -> Change {
    Change::KeyAdded {
        key: id(key),
        tenant: tenant(1),
        person: person.to_owned(),
        roles: [Role::MoneyMovement].into_iter().collect(),
        credential: Credential::Bearer(vec![key; 32]),
    }
}

/// She could hold both keys: her own, and one in the name of a person who does not exist.
#[test]
fn nobody_decides_by_a_key_that_the_asking_person_added_nor_asks_by_one_that_the_deciding_person_added() {
    let mut state = state();
    for (key, person, by) in [
        (1, "ada", "command line".to_owned()),
        (2, "bob", Maker::Key(id(1)).to_string()),
        (3, "cyd", Maker::Key(id(2)).to_string()),
        (4, "dan", "command line".to_owned()),
        (5, "eve", Maker::Key(id(4)).to_string()),
        (6, "fay", Maker::Token("ada").to_string()),
    ] {
        state.apply(added(key, person), UnixMs(1), &by);
    }
    for (person, key) in [("bob", 2), ("cyd", 3), ("fay", 6)] {
        assert_eq!(state.check(&given(person, key), UnixMs(50)), Err(Refused::SamePerson), "{person}");
    }
    for (person, key) in [("dan", 4), ("eve", 5)] {
        assert_eq!(state.check(&given(person, key), UnixMs(50)), Ok(()), "{person}");
    }
    let ask = |key, person: &str| Change::ApprovalAsked {
        approval: ApprovalId(u128::from(key)),
        tenant: tenant(1),
        person: person.to_owned(),
        key: id(key),
        expires: UnixMs(100),
        command: format!(r#"{{"command":"transfer","account":"1","key":"{key}"}}"#),
    };
    state.apply(ask(3, "cyd"), UnixMs(10), "test");
    let decide =
        |person: &str, key| Change::ApprovalGiven { approval: ApprovalId(3), person: person.to_owned(), key: id(key) };
    assert_eq!(state.check(&decide("ada", 1), UnixMs(50)), Err(Refused::SamePerson), "asked by her key's key");
    assert_eq!(state.check(&decide("dan", 4), UnixMs(50)), Ok(()));
    let again = ControlState::from_image(state.to_image());
    assert_eq!(again.check(&given("cyd", 3), UnixMs(50)), Err(Refused::SamePerson), "an image knows it too");
}

#[test]
fn an_agreement_is_one_way() {
    let mut state = state();
    state.apply(Change::AgreementAdded { payer: tenant(1), payee: tenant(2) }, UnixMs(1), "test");
    assert!(state.may_pay(tenant(1), tenant(2)) && !state.may_pay(tenant(2), tenant(1)));
    state.apply(Change::AgreementEnded { payer: tenant(1), payee: tenant(2) }, UnixMs(2), "test");
    assert!(!state.may_pay(tenant(1), tenant(2)) && state.may_pay(tenant(1), tenant(1)));
}

#[test]
fn a_revoked_key_and_its_certificate_prove_nothing() {
    let mut state = state();
    let added = Change::KeyAdded {
        key: id(9),
        tenant: tenant(1),
        person: "ada".to_owned(),
        roles: [Role::Read].into_iter().collect(),
        credential: Credential::Certificate(vec![1; 32]),
    };
    assert_eq!(state.check(&added, UnixMs(1)), Ok(()));
    state.apply(added.clone(), UnixMs(1), "test");
    assert_eq!(state.check(&added, UnixMs(1)), Err(Refused::KeyExists));
    assert!(state.key_of_certificate(&[1; 32]).is_some());
    state.apply(Change::KeyRevoked { key: id(9) }, UnixMs(2), "test");
    assert!(state.live_key(id(9)).is_none() && state.key_of_certificate(&[1; 32]).is_none());
}

#[test]
fn an_image_gives_the_same_state() {
    let mut state = state();
    state.apply(given("bob", 2), UnixMs(50), "test");
    let text = serde_json::to_string(&state.to_image()).expect("plain data");
    let again = ControlState::from_image(serde_json::from_str(&text).expect("an image"));
    assert_eq!(again.unfinished(), state.unfinished());
    assert_eq!(serde_json::to_string(&again.to_image()).expect("plain data"), text);
}
