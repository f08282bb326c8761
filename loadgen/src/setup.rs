//! Before the run: accounts, and the money on them.
//!
//! Owns the closed loop that opens what is missing; refuses to touch what is there (a used directory keeps its accounts).

use std::cell::RefCell;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use tpcore::{Amount, Command, CreditLimit, Key, Note, OpenAccount, Reply, Settings, Transfer};

use crate::driver::closed_loop;
use crate::plan::{FUNDING, WorkloadPlan, account, funding, ledger, payee};
use crate::target::Target;

/// Commands under way at a time.
const IN_FLIGHT: usize = 2048;

/// Opens what is missing, and gives each account without money its opening balance. Returns how many were given one. `each`
/// is told how much of all is done, 0 to 1000.
///
/// # Errors
/// When an account of that id exists that is not the generator's, or the target does not answer.
pub fn prepare(target: &dyn Target, plan: &WorkloadPlan, stop: &AtomicBool, each: &mut dyn FnMut(u64)) -> Result<u64> {
    let mut session = target.bulk_session(IN_FLIGHT)?;
    let mut random = plan.seed ^ target.now().0 << 20;
    let mut key = || {
        random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        Key::uuid_v7_from_parts(target.now(), u128::from(random).wrapping_mul(0x2545_F491_4F6C_DD1D))
    };
    let unlimited = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger()) };
    let (payees, accounts) = (plan.payees, plan.accounts);
    let all = FUNDING + payees + accounts;
    let steps = all + accounts;
    let poor = RefCell::new(Vec::new());
    let id_of = |n: u64| match n {
        n if n < FUNDING => (funding(n), unlimited),
        n if n < FUNDING + payees => (payee(n - FUNDING), unlimited),
        n => (account(n - FUNDING - payees), Settings::new(ledger())),
    };
    let mut done = 0;
    closed_loop(
        &mut *session,
        IN_FLIGHT,
        all,
        |n| {
            let (account, settings) = id_of(n);
            OpenAccount { key: key(), account, settings, note: Note::default() }.into()
        },
        |n, reply| {
            expect_approval("opening an account", reply)?;
            if n >= FUNDING + payees && reply.balances.is_some_and(|balances| balances.posted == 0) {
                poor.borrow_mut().push(n - FUNDING - payees);
            }
            done += 1;
            each(done * 1000 / steps);
            Ok(())
        },
        stop,
    )?;
    let poor = poor.into_inner();
    let Some(amount) = Amount::new(u128::from(plan.opening_balance)).filter(|amount| !amount.is_zero()) else {
        return Ok(0);
    };
    let give = |n: u64| -> Command {
        let to = usize::try_from(n).ok().and_then(|n| poor.get(n)).copied().unwrap_or_default();
        let transfer = Transfer {
            key: key(),
            account: funding(to % FUNDING),
            payee: account(to),
            ledger: ledger(),
            amount,
            note: Note::default(),
        };
        transfer.into()
    };
    closed_loop(
        &mut *session,
        IN_FLIGHT,
        poor.len() as u64,
        give,
        |_, reply| {
            expect_approval("giving an opening balance", reply)?;
            done += 1;
            each(done * 1000 / steps);
            Ok(())
        },
        stop,
    )?;
    Ok(poor.len() as u64)
}

fn expect_approval(what: &str, reply: &Reply) -> Result<()> {
    if !reply.outcome.is_approval() {
        bail!("{what} was answered {}: use another data directory, or another tenant", reply.outcome);
    }
    Ok(())
}
