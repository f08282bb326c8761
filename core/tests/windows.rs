//! Windows of memory: how long keys and closed authorizations are known, and that forgetting changes nothing else: an eviction is
//! no event, so replay is compared after every command (RPL-1).

mod harness;
mod script;

use harness::World;
use script::{Observed, ObservedHold, START, Subject};
use tp_core::amount::Balances;
use tp_core::command::{Command, Status};
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::rules::Rules;
use tp_core::time::Time;

struct Core(World);

impl Subject for Core {
    fn start(&mut self, rules: Rules) {
        self.0 = World::new(self.0.partitions(), rules, START);
    }
    fn call(&mut self, now: Time, command: &Command) -> Observed {
        self.0.now = now;
        self.0.settle();
        let reply = self.0.call(command.clone());
        self.0.idle();
        self.0.check_replay(&[1, 3]);
        Observed {
            outcome: reply.outcome,
            repeated: reply.repeated,
            reversed: reply.reversed,
            flags: reply.flags,
            amount: i128::try_from(reply.amount.get()).expect("below 2^96"),
            balances: reply.balances,
            authorization: reply.authorization,
            transfer: reply.transfer,
            expires: reply.expires,
        }
    }
    fn account(&mut self, _now: Time, id: AccountId) -> Option<(Balances, Status)> {
        self.0.account(id).map(|view| (view.balances, view.settings.status))
    }
    fn hold(&mut self, _now: Time, _id: AuthorizationId) -> Option<ObservedHold> {
        None
    }
}

fn check(text: &str) {
    for partitions in [1, 3] {
        let mut core = Core(World::new(partitions, Rules::default(), START));
        let (failures, _) = script::run(text, &mut core);
        assert!(failures.is_empty(), "{partitions} partitions:\n{}", failures.join("\n"));
    }
}

#[test]
fn an_opaque_key_is_forgotten_after_a_day() {
    check(
        "scenario s
        open alice credit 100           => approved
        open shop                       => approved
        transfer alice shop 10 key t    => approved 10 posted -10
        at +23h
        transfer alice shop 10 key t    => approved 10 posted -10 repeated
        at +25h
        transfer alice shop 10 key t    => approved 10 posted -20
        transfer alice shop 11 key t    => idempotency_conflict",
    );
}

#[test]
fn a_key_is_remembered_for_longer_while_its_authorization_lives() {
    check(
        "scenario s
        open alice credit 100           => approved
        open shop                       => approved
        authorize alice 50 as A key a   => approved 50 held 50
        capture A shop 10 key c         => approved 10 posted -10
        at +5d
        authorize alice 50 key a        => approved 50 repeated expires +7d
        capture A shop 10 key c         => approved 10 repeated
        reverse alice c                 => reversal_accepted 10 posted 0
        reverse alice a                 => reversal_accepted 50 held 0",
    );
}

#[test]
fn a_closed_authorization_is_forgotten_after_the_refund_window() {
    check(
        "scenario s
        policy refund-window +30d
        open alice credit 100                => approved
        open shop                            => approved
        authorize alice 50 as A life +1d     => approved
        capture A shop 10 as C               => approved
        at +29d
        refund C 1                           => approved
        at +70d
        transfer shop alice 1                => approved
        refund C 1                           => refund_window_passed nobody
        check alice posted -8 held 0",
    );
}

/// The last moment of the window belongs to the refusal, never to a second execution (IDM-1).
#[test]
fn a_uuid_key_is_refused_once_it_could_be_forgotten() {
    check(
        "scenario s
        open alice credit 100                => approved
        open shop                            => approved
        transfer alice shop 10 key t@+0s     => approved
        at +599999ms
        transfer alice shop 10 key t@-599999ms => approved repeated
        at +600000ms
        transfer alice shop 10 key t@-600000ms => key_expired
        at +11m
        transfer alice shop 10 key t@-11m    => key_expired
        check alice posted -10",
    );
}

/// Memory of keys is bounded by the window, not by the age of the directory.
#[test]
fn keys_past_their_window_leave_memory() {
    let mut core = Core(World::new(2, Rules::default(), START));
    let opened = ["scenario s", "open alice credit unlimited => approved", "open shop => approved"].map(String::from);
    let payment = |day: u32, n: u32| format!("transfer alice shop 1 key d{day}n{n} => approved");
    let day = |day| core::iter::once(format!("at +{day}d")).chain((0..10).map(move |n| payment(day, n)));
    let text = opened.into_iter().chain((0..20).flat_map(day)).collect::<Vec<_>>().join("\n");
    let (failures, _) = script::run(&text, &mut core);
    assert!(failures.is_empty(), "{failures:?}");
    let keys = core.0.keys_in_memory();
    assert!((10..=40).contains(&keys), "of 202 keys {keys} are in memory; two days have 20");
}
