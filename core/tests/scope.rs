//! Scopes: a tenant sees and moves nothing of another's, whatever it asks; another ledger uses no key up.
//!
//! One table has a command of every verb on what belongs to [`OURS`]. What a stranger is told is compared with what is told in a
//! world where nothing was ever opened, and with the state before.

mod harness;

use std::collections::BTreeSet;

use harness::{SEED, World, replay};
use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Lookup, Note, OpenAccount, Read, ReadTarget,
    Record, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount, Verb, Void,
};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::rules::Rules;
use tp_core::scope::{AccountRange, Scope};
use tp_core::slot::ORPHAN_KEYS_MAX;
use tp_core::time::{DAY_MS, Time};
use tp_core::turn::Admission;

const START: Time = Time(19_737 * DAY_MS);
const OURS: Scope = Scope { tenant: Some(1), ledger: None, counter: None };
const THEIRS: Scope = Scope { tenant: Some(2), ledger: None, counter: None };
/// The tenant of accounts that name none, and so of the suspense accounts by their fields.
const NOBODY: Scope = Scope { tenant: Some(0), ledger: None, counter: None };

fn eur() -> Ledger {
    Ledger::new("EUR", 2).expect("valid")
}
fn usd() -> Ledger {
    Ledger::new("USD", 2).expect("valid")
}
fn only(ledger: Ledger) -> Scope {
    Scope { ledger: Some(ledger), ..Scope::default() }
}
/// The n-th account of that partition, when there are two.
fn account(partition: usize, n: usize) -> AccountId {
    let is_there = |id: &AccountId| SEED.slot_of(*id).index() % 2 == partition;
    (1..).map(AccountId).filter(is_there).nth(n).expect("half of all accounts")
}
fn payer() -> AccountId {
    account(0, 0)
}
fn payee() -> AccountId {
    account(1, 0)
}
/// An account of the payer's slot and tenant on which nothing stands.
fn empty() -> AccountId {
    account(0, 1)
}

fn open(key: u128, account: AccountId, tenant: u32, ledger: Ledger) -> Command {
    let settings = Settings { tenant, credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger) };
    OpenAccount { key: Key::opaque(key), account, settings, note: Note::default() }.into()
}
fn authorize(key: Key, account: AccountId) -> Command {
    Authorize::new(key, account, eur(), Amount::from(100)).into()
}
fn capture(key: u128, authorization: AuthorizationId) -> Command {
    let (key, amount) = (Key::opaque(key), Amount::from(40));
    Capture { key, authorization, payee: payee(), amount, is_final: false, note: Note::default() }.into()
}
fn void(key: u128, authorization: AuthorizationId) -> Command {
    Void { key: Key::opaque(key), authorization, amount: None, note: Note::default() }.into()
}
fn advise(key: u128, account: AccountId, ledger: Ledger, advice: Advice) -> Command {
    let (key, amount) = (Key::opaque(key), Amount::from(30));
    Advise { key, account, ledger, amount, advice, note: Note::default() }.into()
}
fn post() -> Advice {
    Advice::Post { payee: payee(), authorization: None }
}
const HOLD: Advice = Advice::Hold { lifetime_ms: None, payee: None };
fn fence(account: AccountId, key: Key) -> Command {
    Lookup { account, key, fence: true }.into()
}
fn read_account(account: AccountId) -> Command {
    Read { target: ReadTarget::Account(account) }.into()
}

fn transfer(key: u128) -> Command {
    let (key, account, amount) = (Key::opaque(key), payer(), Amount::from(20));
    Transfer { key, account, payee: payee(), ledger: eur(), amount, note: Note::default() }.into()
}
fn refund(key: u128, target: RefundTarget) -> Command {
    Refund { key: Key::opaque(key), target, amount: Amount::from(5), note: Note::default() }.into()
}
fn reverse(key: u128, original: u128) -> Command {
    let (key, original) = (Key::opaque(key), Key::opaque(original));
    Reverse { key, account: payer(), original, new_total: None, note: Note::default() }.into()
}
/// Of our tenant, and only pulls from those accounts.
fn pulls_from(from: u128, to: u128) -> Scope {
    Scope { counter: Some(AccountRange { from: AccountId(from), to: AccountId(to) }), ..OURS }
}
fn with_payee() -> Scope {
    pulls_from(payee().0, payee().0)
}
/// All accounts beside the payee, above it or below.
fn without_payee() -> [Scope; 2] {
    [pulls_from(payee().0 + 1, u128::MAX), pulls_from(0, payee().0 - 1)]
}

/// A world with a payer, an empty account and a payee of [`OURS`], and a hold of 100, of which 40 are captured.
struct Bank {
    world: World,
    hold: AuthorizationId,
    capture: TransferId,
}

const AUTHORIZED: u128 = 10;
const CAPTURED: u128 = 11;

impl Bank {
    fn new(partitions: usize) -> Self {
        let mut world = World::new(partitions, Rules::default(), START);
        for (key, account) in [(1, payer()), (2, payee()), (3, empty())] {
            assert_eq!(world.call_within(OURS, open(key, account, 1, eur())).outcome, Outcome::Approved);
        }
        let hold = world.call_within(OURS, authorize(Key::opaque(AUTHORIZED), payer())).authorization.expect("a hold");
        let capture = world.call_within(OURS, capture(CAPTURED, hold)).transfer.expect("a capture");
        Self { world, hold, capture }
    }

    /// Commands of all verbs on what is ours, each done when its own tenant asks; and what a stranger is told, where that is not
    /// what it is told when nothing exists.
    fn commands(&self) -> Vec<(Command, Option<Outcome>)> {
        let (key, note, amount) = (Key::opaque(100), Note::default(), Amount::from(5));
        let refund = |target| Command::from(Refund { key, target, amount, note: Note::default() });
        let update = UpdateAccount {
            key,
            account: payer(),
            status: Some(Status::Frozen),
            credit_limit: None,
            limits: None,
            note: note.clone(),
        };
        let (account, original) = (payer(), Key::opaque(AUTHORIZED));
        let reverse = |original| Reverse { key, account, original, new_total: None, note: Note::default() };
        let as_missing = [
            update.into(),
            CloseAccount { key, account: empty(), note: note.clone() }.into(),
            authorize(key, payer()),
            authorize(original, payer()),
            Increment { key, authorization: self.hold, amount, lifetime_ms: None, note: note.clone() }.into(),
            capture(100, self.hold),
            capture(CAPTURED, self.hold),
            void(100, self.hold),
            refund(RefundTarget::Capture(self.capture)),
            refund(RefundTarget::Authorization(self.hold)),
            Transfer { key, account, payee: payee(), ledger: eur(), amount, note }.into(),
            Lookup { account, key: original, fence: false }.into(),
            read_account(payer()),
            Read { target: ReadTarget::Authorization(self.hold) }.into(),
            Read { target: ReadTarget::Capture(self.capture) }.into(),
        ];
        let told = [
            (open(100, payer(), 1, eur()), Outcome::Malformed),
            (reverse(original).into(), Outcome::AccountNotFound),
            (reverse(Key::opaque(200)).into(), Outcome::AccountNotFound),
            (advise(100, payer(), eur(), HOLD), Outcome::AccountNotFound),
            (advise(100, payer(), eur(), post()), Outcome::AccountNotFound),
            (advise(100, payer(), eur(), Advice::Declined), Outcome::AccountNotFound),
            (fence(payer(), original), Outcome::OriginalNotFound),
            (fence(payer(), Key::opaque(200)), Outcome::OriginalNotFound),
        ];
        let as_missing = as_missing.into_iter().map(|command| (command, None));
        as_missing.chain(told.map(|(command, outcome)| (command, Some(outcome)))).collect()
    }

    /// What is told within the scope; nothing may come of it.
    fn refused(&mut self, scope: Scope, command: &Command) -> Reply {
        let state = |world: &World| {
            (replay::digest(world.slots(), world.now), world.journal.len(), world.keys_in_memory(), world.accounts())
        };
        let before = state(&self.world);
        let reply = self.world.call_within(scope, command.clone());
        assert!(state(&self.world) == before, "{scope:?} {command:?} changed the state");
        assert_eq!(reply, Reply::bare(reply.outcome), "{scope:?} {command:?} is answered barely");
        reply
    }
}

fn told_of_nothing(command: &Command) -> Reply {
    World::new(1, Rules::default(), START).call_within(THEIRS, command.clone())
}

#[test]
fn the_table_has_every_verb_of_an_owner() {
    let verbs: BTreeSet<Verb> = Bank::new(1).commands().iter().map(|(command, _)| command.verb()).collect();
    let all = Verb::ALL.iter().copied().filter(|verb| *verb != Verb::Record).collect();
    assert_eq!(verbs, all);
}

#[test]
fn a_tenant_is_told_of_anothers_what_it_is_told_of_nothing() {
    for partitions in [1, 2] {
        let mut bank = Bank::new(partitions);
        for (command, told) in bank.commands() {
            let reply = bank.refused(THEIRS, &command);
            let expected = told.map_or_else(|| told_of_nothing(&command), Reply::bare);
            assert_eq!(reply, expected, "{command:?}");
        }
        bank.world.check_replay(&[1, 3]);
    }
}

#[test]
fn the_right_tenant_and_none_at_all_get_what_they_always_got() {
    let commands = Bank::new(1).commands();
    for (n, (command, _)) in commands.into_iter().enumerate() {
        let told = |scope: Scope| {
            let mut bank = Bank::new(2);
            let again = bank.commands().swap_remove(n).0;
            bank.world.call_within(scope, again)
        };
        let (open, ours) = (told(Scope::default()), told(OURS));
        assert_eq!(open, ours, "{command:?}");
        assert_eq!(open, told(Scope { ledger: Some(eur()), ..OURS }), "{command:?}");
        let is_done = ours.outcome.is_approval() || ours.outcome == Outcome::Fenced;
        assert!(is_done && ours.ledger == Some(eur()), "{command:?}: {ours:?}");
    }
}

#[test]
fn a_stranger_leaves_no_fence_and_no_tombstone_behind() {
    let mut bank = Bank::new(1);
    let key = Key::opaque(300);
    bank.refused(THEIRS, &fence(payer(), key));
    let (account, note) = (payer(), Note::default());
    bank.refused(THEIRS, &Reverse { key: Key::opaque(301), account, original: key, new_total: None, note }.into());
    assert_eq!(bank.world.call_within(OURS, authorize(key, payer())).outcome, Outcome::Approved);
}

#[test]
fn time_and_room_are_told_of_anothers_account_as_of_none() {
    let mut bank = Bank::new(1);
    let expired = Key::uuid_v7_from_parts(Time(START.0 - 400 * DAY_MS), 1);
    let ahead = Key::uuid_v7_from_parts(START.plus_ms(DAY_MS), 1);
    for key in [expired, ahead] {
        for command in [authorize(key, payer()), fence(payer(), key)] {
            assert_eq!(told_of_nothing(&command).outcome, Outcome::KeyExpired);
            assert_eq!(bank.refused(THEIRS, &command), told_of_nothing(&command), "{command:?}");
        }
    }
    bank.world.admission = Admission::NoSpace;
    let fresh = Key::opaque(300);
    for command in [authorize(fresh, payer()), fence(payer(), fresh)] {
        assert_eq!(bank.refused(THEIRS, &command).outcome, Outcome::NoSpace, "{command:?}");
    }
    bank.world.admission = Admission::Open;
    // The slot has all the keys of missing accounts that it takes.
    let is_neighbour = |id: &AccountId| SEED.slot_of(*id) == SEED.slot_of(payer()) && *id != payer();
    let missing = (1_000..100_000).map(AccountId).find(is_neighbour).expect("one in 1,024 accounts");
    for n in 0..ORPHAN_KEYS_MAX as u128 {
        bank.world.submit(fence(missing, Key::opaque(1_000 + n)));
    }
    bank.world.settle();
    for account in [missing, payer()] {
        for command in [authorize(fresh, account), fence(account, fresh)] {
            assert_eq!(bank.refused(THEIRS, &command).outcome, Outcome::Busy, "{command:?}");
        }
    }
}

#[test]
fn a_forgotten_capture_and_a_strangers_are_both_past_their_window() {
    let mut bank = Bank::new(1);
    let (key, amount, note) = (Key::opaque(300), Amount::from(5), Note::default());
    let target = RefundTarget::Authorization(bank.hold);
    let refund = Refund { key, target, amount, note }.into();
    // A hold that is still open is never forgotten, whatever its id says.
    let lifetime_ms = Some(u64::MAX);
    let kept = Increment { key, authorization: bank.hold, amount: Amount::ZERO, lifetime_ms, note: Note::default() };
    let rules = Rules::default();
    while bank.world.now <= START.plus_ms(rules.windows.refund_ms) {
        let kept = Increment { key: Key::uuid_v7_from_parts(bank.world.now, 1), ..kept.clone() };
        assert_eq!(bank.world.call_within(OURS, kept.into()).outcome, Outcome::Approved);
        bank.world.now = bank.world.now.plus_ms(3 * DAY_MS);
    }
    assert_eq!(bank.refused(THEIRS, &refund).outcome, Outcome::RefundWindowPassed);
    let mut empty = World::new(1, Rules::default(), bank.world.now);
    assert_eq!(empty.call_within(THEIRS, refund).outcome, Outcome::RefundWindowPassed);
}

#[test]
fn an_account_is_opened_for_the_own_tenant_only_and_anothers_is_not_shown() {
    let mut bank = Bank::new(1);
    assert_eq!(bank.refused(THEIRS, &open(1, payer(), 2, eur())).outcome, Outcome::AccountExists);
    assert_eq!(bank.refused(THEIRS, &open(300, account(0, 9), 1, eur())).outcome, Outcome::Malformed);
    let opened = bank.world.call_within(THEIRS, open(300, account(0, 9), 2, eur()));
    assert_eq!((opened.outcome, opened.ledger), (Outcome::Approved, Some(eur())));
    assert_eq!(bank.refused(OURS, &open(301, account(0, 9), 1, eur())).outcome, Outcome::AccountExists);
}

#[test]
fn an_account_that_does_not_exist_is_nobodys_and_what_stands_for_it_is_out_of_reach() {
    let mut bank = Bank::new(1);
    let missing = account(0, 9);
    assert_eq!(bank.world.call_within(OURS, fence(missing, Key::opaque(300))).outcome, Outcome::Fenced);
    let advised = bank.world.call_within(OURS, advise(301, missing, eur(), HOLD));
    assert_eq!(advised.outcome, Outcome::AdviceAccepted);
    let hold = advised.authorization.expect("a hold on the suspense account");
    let suspense = AccountId::suspense_of(SEED.slot_of(missing), eur());
    for scope in [OURS, THEIRS, NOBODY] {
        assert_eq!(bank.refused(scope, &void(302, hold)).outcome, Outcome::OriginalNotFound, "{scope:?}");
        assert_eq!(bank.refused(scope, &read_account(suspense)).outcome, Outcome::AccountNotFound, "{scope:?}");
    }
    assert_eq!(bank.world.call(read_account(suspense)).ledger, Some(eur()));
    assert_eq!(bank.world.call(void(302, hold)).outcome, Outcome::Approved);
}

#[test]
fn another_ledger_is_refused_and_the_key_is_not_used_up() {
    let mut bank = Bank::new(2);
    for (command, _) in bank.commands() {
        assert_eq!(bank.refused(only(usd()), &command).outcome, Outcome::WrongLedger, "{command:?}");
    }
    let command = capture(300, bank.hold);
    bank.refused(only(usd()), &command);
    let done = bank.world.call_within(only(eur()), command.clone());
    assert_eq!((done.outcome, done.repeated, done.ledger), (Outcome::Approved, false, Some(eur())));
    assert_eq!(bank.refused(only(usd()), &command).outcome, Outcome::WrongLedger, "a repeat too");
    assert_eq!(bank.refused(Scope { ledger: Some(usd()), ..THEIRS }, &command).outcome, Outcome::OriginalNotFound);
}

/// The amount of a later verb is in the ledger of its hold, and an advice may have put that on a suspense account.
#[test]
fn the_ledger_of_a_hold_is_the_one_of_the_account_that_it_stands_on() {
    let mut bank = Bank::new(1);
    let hold = bank.world.call(advise(300, payer(), usd(), HOLD)).authorization.expect("a hold in dollars");
    assert_eq!(bank.refused(only(eur()), &void(301, hold)).outcome, Outcome::WrongLedger);
    assert_eq!(bank.refused(THEIRS, &void(301, hold)).outcome, Outcome::OriginalNotFound);
    let voided = bank.world.call_within(Scope { ledger: Some(usd()), ..OURS }, void(301, hold));
    assert_eq!((voided.outcome, voided.ledger), (Outcome::Approved, Some(eur())), "the payer's own balances");
}

/// One tenant's advice on an account that nobody has is under way, its repeat waits, and another tenant opens the account.
#[test]
fn a_scope_is_kept_while_its_command_waits_and_while_its_exchange_is_open() {
    let mut bank = Bank::new(2);
    let world = &mut bank.world;
    let missing = account(0, 9);
    let turn = |world: &mut World, p: usize| {
        world.decide(p, usize::MAX, usize::MAX, usize::MAX);
        world.ticket(p);
        world.send(p);
    };
    let advice = advise(300, missing, eur(), post());
    let first = world.submit_within(OURS, advice.clone());
    turn(world, 0);
    let waiting = world.submit_within(OURS, advice.clone());
    let open_scope = world.submit(advice);
    turn(world, 0);
    let opening = world.submit_within(THEIRS, open(301, missing, 2, eur()));
    turn(world, 0);
    world.settle();
    let reply = |ticket: u64| &world.replies[&ticket];
    assert_eq!(reply(opening).outcome, Outcome::Approved);
    assert_eq!((reply(first).outcome, reply(first).balances), (Outcome::AdviceAccepted, None), "not theirs to see");
    assert_eq!(reply(waiting), &Reply::bare(Outcome::AccountNotFound));
    let repeat = reply(open_scope);
    assert_eq!((repeat.outcome, repeat.repeated, repeat.ledger), (Outcome::AdviceAccepted, true, Some(eur())));
}

#[test]
fn a_record_has_no_owner_and_is_taken_in_any_scope() {
    let mut bank = Bank::new(1);
    let record = || Record { stream: 1, bytes: Box::from([1]) }.into();
    assert_eq!(bank.world.call_within(Scope { ledger: Some(usd()), ..THEIRS }, record()).outcome, Outcome::Approved);
}

#[test]
fn money_is_drawn_back_from_accounts_of_the_range_only_and_a_repeat_is_one_in_any() {
    for partitions in [1, 2] {
        let mut bank = Bank::new(partitions);
        for command in [transfer(20), advise(21, payer(), eur(), post())] {
            assert!(bank.world.call_within(OURS, command).outcome.is_approval());
        }
        let pulls = [
            refund(30, RefundTarget::Capture(bank.capture)),
            refund(31, RefundTarget::Authorization(bank.hold)),
            reverse(32, CAPTURED),
            reverse(33, 20),
            reverse(34, 21),
        ];
        for command in pulls {
            for scope in without_payee() {
                assert_eq!(bank.refused(scope, &command).outcome, Outcome::NotReversible, "{command:?}");
            }
            let done = bank.world.call_within(with_payee(), command.clone());
            assert!(done.outcome.is_approval() && !done.repeated && done.transfer.is_some(), "{command:?}: {done:?}");
            for scope in without_payee() {
                let again = bank.world.call_within(scope, command.clone());
                assert_eq!((again.outcome, again.repeated, again.seq), (done.outcome, true, done.seq), "{command:?}");
            }
        }
        bank.world.check_replay(&[1, 3]);
    }
}

#[test]
fn the_range_of_pulls_does_not_restrict_who_is_paid() {
    for (partitions, scope) in [1, 2].into_iter().zip(without_payee()) {
        let mut bank = Bank::new(partitions);
        let refunded = bank.world.call_within(OURS, refund(20, RefundTarget::Capture(bank.capture)));
        assert_eq!(refunded.outcome, Outcome::Approved);
        let undo_of_refund = reverse(34, 20);
        for command in [transfer(30), capture(31, bank.hold), advise(32, payer(), eur(), post()), undo_of_refund] {
            let done = bank.world.call_within(scope, command.clone());
            assert!(done.outcome.is_approval() && done.transfer.is_some(), "{command:?}: {done:?}");
        }
    }
}

/// The advice names a payee in the range, but was booked on the suspense account of that payee's slot.
#[test]
fn a_suspense_account_is_drawn_on_only_when_the_range_holds_it() {
    for partitions in [1, 2] {
        let mut bank = Bank::new(partitions);
        let missing = account(1, 9);
        let advice = Advice::Post { payee: missing, authorization: None };
        assert_eq!(bank.world.call_within(OURS, advise(20, payer(), eur(), advice)).outcome, Outcome::AdviceAccepted);
        let undo = reverse(30, 20);
        for scope in [pulls_from(1, u128::MAX >> 32), pulls_from(missing.0, missing.0)] {
            assert_eq!(bank.refused(scope, &undo).outcome, Outcome::NotReversible);
        }
        let suspense = AccountId::suspense_of(SEED.slot_of(missing), eur());
        let done = bank.world.call_within(pulls_from(suspense.0, suspense.0), undo);
        assert_eq!((done.outcome, done.repeated), (Outcome::ReversalAccepted, false));
    }
}

#[test]
fn the_range_of_pulls_is_kept_while_the_command_waits() {
    let mut bank = Bank::new(2);
    let (target, [outside, _]) = (RefundTarget::Capture(bank.capture), without_payee());
    let world = &mut bank.world;
    let pull = world.submit_within(with_payee(), refund(30, target));
    let others = world.submit_within(outside, refund(31, target));
    let repeat = world.submit_within(outside, refund(30, target));
    world.decide(0, usize::MAX, usize::MAX, usize::MAX);
    world.ticket(0);
    assert!(!world.replies.contains_key(&others), "it waits for the exchange of the first");
    world.send(0);
    world.settle();
    let reply = |ticket: u64| &world.replies[&ticket];
    assert_eq!((reply(pull).outcome, reply(pull).repeated), (Outcome::Approved, false));
    assert_eq!(reply(others), &Reply::bare(Outcome::NotReversible));
    assert_eq!((reply(repeat).outcome, reply(repeat).repeated), (Outcome::Approved, true));
}

#[test]
fn a_capture_is_read_as_the_authorization_that_it_was_taken_from() {
    for partitions in [1, 2] {
        let mut bank = Bank::new(partitions);
        let by_capture = bank.world.call_within(OURS, Read { target: ReadTarget::Capture(bank.capture) }.into());
        let by_id = bank.world.call_within(OURS, Read { target: ReadTarget::Authorization(bank.hold) }.into());
        assert_eq!((by_capture.outcome, by_capture.authorization), (Outcome::Approved, Some(bank.hold)));
        assert!(by_capture == by_id && by_id.detail.is_some(), "{by_capture:?}, {by_id:?}");
        let transfer = bank.world.call_within(OURS, transfer(20)).transfer.expect("a transfer");
        for unknown in [transfer, TransferId::new(START, bank.hold.slot(), 1 << 40)] {
            let read = Read { target: ReadTarget::Capture(unknown) }.into();
            assert_eq!(bank.refused(OURS, &read).outcome, Outcome::OriginalNotFound, "{unknown}");
        }
    }
}
