//! What random clients do, as small numbers: accounts, holds, captures and earlier commands are named by position.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// One thing a client does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Wait { minutes: u16 },
    Again { nth: u8 },
    Conflict { nth: u8, amount: u16 },
    Update { account: u8, what: u8 },
    Close { account: u8 },
    Authorize { account: u8, amount: u16, partial: bool, payee: Option<u8>, tolerance: u16, life: Option<u64> },
    Increment { hold: u8, amount: u16, life: Option<u64> },
    Capture { hold: u8, payee: u8, amount: u16, is_final: bool },
    Void { hold: u8, amount: Option<u16> },
    Refund { capture: u8, amount: u16, by_authorization: bool },
    Reverse { nth: u8, total: Option<u16> },
    ReverseEarly { account: u8, ahead: u8 },
    Lookup { nth: u8, fence: bool },
    LookupEarly { account: u8, ahead: u8, fence: bool },
    AdviseHold { account: u8, amount: u16, life: Option<u64> },
    AdvisePost { account: u8, payee: u8, amount: u16 },
    AdviseMatched { hold: u8, payee: u8, amount: u16 },
    Declined { account: u8 },
    Transfer { account: u8, payee: u8, amount: u16 },
    ReadAccount { account: u8 },
    ReadHold { hold: u8 },
    ReadCapture { capture: u8 },
}

/// Mostly the opened payers, now and then the others.
fn payer() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 0u8..3, 2 => 3u8..7]
}
fn payee() -> impl Strategy<Value = u8> {
    prop_oneof![8 => 2u8..5, 2 => 0u8..7]
}
fn life() -> impl Strategy<Value = Option<u64>> {
    option::weighted(0.5, (1u64..200).prop_map(|minutes| minutes * 60_000))
}
fn hold() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0u8), 2 => 0u8..4]
}
/// Holds and captures are seldom above 100, so that the parts of one come to its caps.
fn amount() -> impl Strategy<Value = u16> {
    prop_oneof![1 => Just(1u16), 6 => 1u16..60, 2 => 60u16..140]
}

fn holding() -> impl Strategy<Value = Action> {
    let authorize = (payer(), 0u16..140, any::<bool>(), option::weighted(0.2, payee()), 0u8..4, life());
    prop_oneof![
        4 => authorize.prop_map(|(account, amount, partial, payee, tolerance, life)| {
            let tolerance = [0, 0, 1_000, 5_000][usize::from(tolerance)];
            Action::Authorize { account, amount, partial, payee, tolerance, life }
        }),
        2 => (hold(), 0u16..40, life()).prop_map(|(hold, amount, life)| Action::Increment { hold, amount, life }),
        6 => (hold(), payee(), amount(), prop::bool::weighted(0.25))
            .prop_map(|(hold, payee, amount, is_final)| Action::Capture { hold, payee, amount, is_final }),
        2 => (hold(), option::of(amount())).prop_map(|(hold, amount)| Action::Void { hold, amount }),
        4 => (hold(), amount(), prop::bool::weighted(0.3))
            .prop_map(|(capture, amount, by_authorization)| Action::Refund { capture, amount, by_authorization }),
        1 => (payer(), amount(), life()).prop_map(|(account, amount, life)| Action::AdviseHold { account, amount, life }),
        1 => (payer(), payee(), amount()).prop_map(|(account, payee, amount)| Action::AdvisePost { account, payee, amount }),
        1 => (hold(), payee(), amount()).prop_map(|(hold, payee, amount)| Action::AdviseMatched { hold, payee, amount }),
        2 => (payer(), payee(), amount()).prop_map(|(account, payee, amount)| Action::Transfer { account, payee, amount }),
    ]
}

fn around() -> impl Strategy<Value = Action> {
    let nth = || prop_oneof![3 => 0u8..6, 1 => any::<u8>()];
    prop_oneof![
        3 => (1u16..120).prop_map(|minutes| Action::Wait { minutes }),
        1 => (1_000u16..3_000).prop_map(|minutes| Action::Wait { minutes }),
        4 => nth().prop_map(|nth| Action::Again { nth }),
        1 => (nth(), amount()).prop_map(|(nth, amount)| Action::Conflict { nth, amount }),
        2 => (0u8..7, any::<u8>()).prop_map(|(account, what)| Action::Update { account, what }),
        1 => (0u8..7).prop_map(|account| Action::Close { account }),
        6 => (nth(), option::weighted(0.3, 0u16..80)).prop_map(|(nth, total)| Action::Reverse { nth, total }),
        1 => (payer(), 0u8..3).prop_map(|(account, ahead)| Action::ReverseEarly { account, ahead }),
        1 => (nth(), any::<bool>()).prop_map(|(nth, fence)| Action::Lookup { nth, fence }),
        1 => (payer(), 0u8..3, any::<bool>()).prop_map(|(account, ahead, fence)| Action::LookupEarly { account, ahead, fence }),
        1 => payer().prop_map(|account| Action::Declined { account }),
        1 => (0u8..7).prop_map(|account| Action::ReadAccount { account }),
        1 => hold().prop_map(|hold| Action::ReadHold { hold }),
        1 => hold().prop_map(|capture| Action::ReadCapture { capture }),
    ]
}

/// A client's session.
pub(crate) fn actions(max: usize) -> impl Strategy<Value = Vec<Action>> {
    vec(prop_oneof![3 => holding().boxed(), 1 => around().boxed()], 1..max)
}
