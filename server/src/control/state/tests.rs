//! Rules of the changes and what they fold into.

use super::*;
use crate::control::Role;

fn id(number: u8) -> KeyId {
    KeyId::from_bytes([number; 8])
}

fn tenant(number: u32) -> TenantId {
    TenantId::new(number).expect("a tenant")
}

fn state() -> ControlState {
    let mut state = ControlState::default();
    for number in [1, 2] {
        state.apply(Change::TenantAdded { tenant: tenant(number), name: format!("t{number}") }, UnixMs(1));
    }
    state.apply(Change::ApprovalAsked(asked(7, "k", 100)), UnixMs(10));
    state
}

fn asked(approval: u128, key: &str, expires: u64) -> AskedFor {
    AskedFor {
        approval: ApprovalId(approval),
        tenant: tenant(1),
        person: "ada".to_owned(),
        key: id(1),
        expires: UnixMs(expires),
        command: "{}".to_owned(),
        account: "1".to_owned(),
        engine_key: key.to_owned(),
        fingerprint: String::new(),
    }
}

fn given(person: &str, key: u8) -> Change {
    Change::ApprovalGiven { tenant: tenant(1), approval: ApprovalId(7), person: person.to_owned(), key: id(key) }
}

#[test]
fn an_approval_is_decided_once_by_another_person_in_time() {
    let mut state = state();
    assert_eq!(state.check(&given("ada", 2), UnixMs(50)), Err(Refused::SamePerson), "her other key");
    assert_eq!(state.check(&given("bob", 1), UnixMs(50)), Err(Refused::SamePerson), "his name on her key");
    assert_eq!(state.check(&given("bob", 2), UnixMs(100)), Err(Refused::NotOpen), "expired");
    assert_eq!(state.check(&given("bob", 2), UnixMs(99)), Ok(()));
    state.apply(given("bob", 2), UnixMs(99));
    assert_eq!(state.check(&given("cyd", 3), UnixMs(99)), Err(Refused::NotOpen), "decided");
    assert_eq!(state.unfinished().len(), 1);
}

#[test]
fn nobody_approves_with_a_key_that_the_asking_person_made_however_often_handed_on() {
    let mut state = state();
    let add = |key: u8, person: &str, maker: Option<(&str, u8)>| Change::KeyAdded {
        key: id(key),
        tenant: tenant(1),
        person: person.to_owned(),
        roles: [Role::MoneyMovement].into_iter().collect(),
        credential: Credential::Bearer(vec![0; 32]),
        made_by: maker.map(|(person, key)| Maker { person: person.to_owned(), key: id(key) }),
    };
    state.apply(add(2, "bob", Some(("Ada", 1))), UnixMs(1));
    state.apply(add(3, "cyd", Some(("bob", 2))), UnixMs(2));
    state.apply(add(4, "dan", Some(("eve", 5))), UnixMs(3));
    for (person, key) in [("bob", 2), ("cyd", 3), (" ADA ", 4)] {
        assert_eq!(state.check(&given(person, key), UnixMs(50)), Err(Refused::SamePerson), "{person}");
    }
    assert_eq!(state.check(&given("dan", 4), UnixMs(50)), Ok(()));
}

#[test]
fn what_is_over_and_old_is_forgotten_and_what_is_unfinished_is_not() {
    let mut state = state();
    state.apply(Change::ApprovalAsked(asked(8, "l", 100)), UnixMs(11));
    state.apply(given("bob", 2), UnixMs(50));
    let late = UnixMs(RETENTION_MS + 1_000);
    state.apply(Change::ApprovalAsked(asked(9, "m", late.0 + 100)), late);
    assert!(state.approval(tenant(1), ApprovalId(7)).is_some(), "approved, and not known to be executed");
    let executed = Change::ApprovalExecuted {
        tenant: tenant(1),
        approval: ApprovalId(7),
        outcome: "approved".to_owned(),
        reply: "{}".to_owned(),
    };
    state.apply(executed, late);
    state.apply(Change::ApprovalAsked(asked(10, "n", late.0 + 100)), late);
    for gone in [7, 8] {
        assert!(state.approval(tenant(1), ApprovalId(gone)).is_none());
    }
    assert!(state.asked("1", "k").is_none() && state.asked("1", "m").is_some());
    assert_eq!(state.pending_of(tenant(1), late), 2);
}

#[test]
fn an_agreement_is_one_way() {
    let mut state = state();
    state.apply(Change::AgreementAdded { payer: tenant(1), payee: tenant(2) }, UnixMs(1));
    assert!(state.may_pay(tenant(1), tenant(2)) && !state.may_pay(tenant(2), tenant(1)));
    state.apply(Change::AgreementEnded { payer: tenant(1), payee: tenant(2) }, UnixMs(2));
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
        made_by: None,
    };
    assert_eq!(state.check(&added, UnixMs(1)), Ok(()));
    state.apply(added.clone(), UnixMs(1));
    assert_eq!(state.check(&added, UnixMs(1)), Err(Refused::KeyExists));
    assert!(state.key_of_certificate(&[1; 32]).is_some());
    state.apply(Change::KeyRevoked { key: id(9) }, UnixMs(2));
    assert!(state.live_key(id(9)).is_none() && state.key_of_certificate(&[1; 32]).is_none());
}

#[test]
fn an_image_gives_the_same_state() {
    let mut state = state();
    state.apply(given("bob", 2), UnixMs(50));
    let text = serde_json::to_string(&state.to_image()).expect("plain data");
    let again = ControlState::from_image(serde_json::from_str(&text).expect("an image"));
    assert_eq!(again.unfinished(), state.unfinished());
    assert_eq!(serde_json::to_string(&again.to_image()).expect("plain data"), text);
}
