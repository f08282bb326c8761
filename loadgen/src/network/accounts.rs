//! The money, account by account: what a server shows against what the answers come to.
//!
//! Owns the comparison over the network and its wording. A tenant is shown no trial balance and no events, so what is proved is
//! less than beside an engine: every account of the generator stands where the answers put it, all accounts of the tenant sum up
//! to nothing, and a sample of the answers is given again. Refuses to correct anything.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tpcore::{AccountId, Balances, Lookup};

use super::control::Control;
use super::encode::api_account;
use crate::books::{Added, Books};
use crate::driver::closed_loop;
use crate::money::{LATE, check, one_answer};
use crate::plan::{WorkloadPlan, account, payee};
use crate::report::MoneyCheck;
use crate::target::Target;
use crate::workload::Workload;

/// Between two looks at holds that expire.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Lookups under way at a time.
const IN_FLIGHT: usize = 512;

/// An account as it is shown, minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// Credits less debits.
    pub posted: i128,
    /// On hold.
    pub held: u128,
}

/// Where every account of the generator stands; `None`: it is not shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    payers: Vec<Option<Shown>>,
    payees: Vec<Option<Shown>>,
    /// What is posted on all accounts of the ledger that the tenant has, added up.
    posted: i128,
    /// How many these are.
    accounts: u64,
}

impl Standing {
    pub(super) fn new(plan: &WorkloadPlan) -> Self {
        let none = |count: u64| vec![None; usize::try_from(count).unwrap_or(usize::MAX)];
        Self { payers: none(plan.accounts), payees: none(plan.payees), posted: 0, accounts: 0 }
    }

    /// Takes in an account of the generator's ledger, by its id in the API.
    ///
    /// # Errors
    /// When it was shown before, or the sum leaves its range.
    pub(super) fn show(&mut self, id: u128, balances: Balances) -> Result<()> {
        let Balances { posted, held, .. } = balances;
        let Some(sum) = self.posted.checked_add(posted) else { bail!("the sum of all accounts leaves its range") };
        (self.posted, self.accounts) = (sum, self.accounts + 1);
        let known = [(&mut self.payers, account(0)), (&mut self.payees, payee(0))];
        for (accounts, first) in known {
            let n = id.checked_sub(api_account(first)).and_then(|n| usize::try_from(n).ok());
            if let Some(shown) = n.and_then(|n| accounts.get_mut(n))
                && shown.replace(Shown { posted, held }).is_some()
            {
                bail!("account {id} is on two pages");
            }
        }
        Ok(())
    }

    fn with<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (AccountId, Option<Shown>, Option<Shown>)> {
        let pair = |ours: &'a [Option<Shown>], theirs: &'a [Option<Shown>], id: fn(u64) -> AccountId| {
            (0..).zip(ours.iter().zip(theirs)).map(move |(n, (ours, theirs))| (id(n), *ours, *theirs))
        };
        pair(&self.payers, &other.payers, account).chain(pair(&self.payees, &other.payees, payee))
    }
}

/// Accounts that do not stand as they should: how many, and the first.
#[derive(Debug, Default)]
struct Differing {
    accounts: u64,
    first: Option<String>,
}

impl Differing {
    fn meet<T: PartialEq + std::fmt::Display>(&mut self, account: AccountId, found: Option<T>, expected: Option<T>) {
        if found.is_some() && found == expected {
            return;
        }
        self.accounts += 1;
        let show = |value: Option<T>| value.map_or_else(|| "nothing".to_owned(), |value| value.to_string());
        let id = api_account(account);
        self.first.get_or_insert_with(|| format!("account {id} shows {}, not {}", show(found), show(expected)));
    }

    fn detail(self, right: impl FnOnce() -> String) -> String {
        self.first.map_or_else(right, |first| format!("{} accounts differ: {first}", self.accounts))
    }
}

/// What was compared once.
struct Compared {
    posted: Differing,
    held: Differing,
    /// Every hold of the run has expired: each account holds what it held before.
    has_expired: bool,
}

fn compare_once(books: &Books, before: &Standing, found: &Standing) -> Compared {
    let (mut posted, mut held, mut has_expired) = (Differing::default(), Differing::default(), true);
    let added: Box<dyn Iterator<Item = Added>> = match &books.accounts {
        Some(accounts) => Box::new(accounts.payers.iter().chain(&accounts.payees).copied()),
        None => Box::new(std::iter::repeat(Added::default())),
    };
    for ((account, before, found), added) in before.with(found).zip(added) {
        posted.meet(
            account,
            found.map(|found| found.posted),
            before.and_then(|before| before.posted.checked_add(added.posted)),
        );
        has_expired &= before.map(|before| before.held) == found.map(|found| found.held);
        held.meet(
            account,
            found.map(|found| found.held),
            before.and_then(|before| before.held.checked_add_signed(added.held)),
        );
    }
    Compared { posted, held, has_expired }
}

/// Compares what the server shows with what the answers come to. Where the run's holds live short, it waits until all of them
/// have expired, unless none has.
///
/// # Errors
/// When the server does not say.
pub(super) fn compare(
    target: &dyn Target,
    control: &mut Control,
    workload: &Workload,
    before: &Standing,
) -> Result<Vec<MoneyCheck>> {
    let asked = ask_again(target, workload)?;
    let (books, lifetime) = (workload.books(), workload.plan().hold_lifetime);
    let until = Instant::now() + lifetime.map_or(Duration::ZERO, |lifetime| lifetime + LATE);
    loop {
        let found = control.accounts(workload.plan())?;
        let compared = compare_once(books, before, &found);
        let is_met = compared.held.accounts == 0 || lifetime.is_some() && compared.has_expired;
        if is_met || Instant::now() >= until {
            return Ok(checks(books, &found, compared, is_met, asked));
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn checks(
    books: &Books,
    found: &Standing,
    compared: Compared,
    is_held_right: bool,
    (asked, other): (usize, Option<String>),
) -> Vec<MoneyCheck> {
    let Compared { posted, held, has_expired } = compared;
    let accounts = found.payers.len() + found.payees.len();
    let holds = if held.accounts > 0 && has_expired {
        format!(
            "all {} that were held or left have expired or been released: each account holds what it held before",
            books.held
        )
    } else {
        held.detail(|| format!("{} held - {} released, as {accounts} accounts show", books.held, books.released))
    };
    vec![
        check(
            "accounts of the tenant",
            found.posted == 0,
            format!("{} accounts of the ledger, posted {} in all", found.accounts, found.posted),
        ),
        check(
            "money moved",
            posted.accounts == 0,
            posted.detail(|| format!("{} by the answers, as {accounts} accounts show one by one", books.moved)),
        ),
        check("money held", is_held_right, holds),
        check(
            "approvals",
            other.is_none(),
            other.unwrap_or_else(|| {
                format!("{} answered; {asked} answers of the run were asked for again and given again", books.approvals)
            }),
        ),
        one_answer(books),
    ]
}

/// Asks for a sample of the answers again. How many were asked, and the first that is another now.
fn ask_again(target: &dyn Target, workload: &Workload) -> Result<(usize, Option<String>)> {
    let known = workload.remembered(target.now());
    let mut session = target.bulk_session(IN_FLIGHT)?;
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut other = None;
    closed_loop(
        &mut *session,
        IN_FLIGHT,
        known.len() as u64,
        |n| known[at(n)].0.into(),
        |n, reply| {
            let (Lookup { account, key, .. }, outcome, amount) = known[at(n)];
            if (reply.outcome, reply.amount) != (outcome, amount) {
                let account = api_account(account);
                other.get_or_insert_with(|| {
                    format!(
                        "key {:032x} of account {account} was answered {outcome} {amount}, asked again {} {}",
                        key.bits, reply.outcome, reply.amount
                    )
                });
            }
            Ok(())
        },
        &AtomicBool::new(false),
    )?;
    target.fault().map_or(Ok((known.len(), other)), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::books::AccountBooks;

    fn balances(posted: i128, held: u128) -> Balances {
        Balances { posted, held, available: None }
    }

    fn standing(payer: (i128, u128), payee_posted: i128) -> Standing {
        let mut standing = Standing { payers: vec![None], payees: vec![None], posted: 0, accounts: 0 };
        standing.show(api_account(account(0)), balances(payer.0, payer.1)).expect("shown");
        standing.show(api_account(payee(0)), balances(payee_posted, 0)).expect("shown");
        standing.show(7, balances(-payer.0 - payee_posted, 0)).expect("another account counts in the sum");
        standing
    }

    #[test]
    fn every_account_must_stand_where_the_answers_put_it() {
        let none = vec![Added::default()];
        let mut books =
            Books { accounts: Some(AccountBooks { payers: none.clone(), payees: none }), ..Books::default() };
        books.hold(account(0), 70);
        books.release(account(0), 30);
        books.transfer(account(0), payee(0), 30);
        let before = standing((100, 5), 0);
        let wrong = |found: &Standing| {
            let compared = compare_once(&books, &before, found);
            (compared.posted.accounts, compared.held.accounts, compared.has_expired)
        };
        assert_eq!(wrong(&standing((70, 45), 30)), (0, 0, false));
        assert_eq!(wrong(&standing((70, 5), 30)), (0, 1, true));
        assert_eq!(wrong(&standing((71, 45), 29)), (2, 0, false), "the sum is right and the accounts are not");
        let missing = Standing { payees: vec![None], ..standing((70, 45), 30) };
        assert_eq!(wrong(&missing).0, 1, "an account that is not shown is no account that is right");
    }

    #[test]
    fn an_account_on_two_pages_is_an_error() {
        let mut twice = standing((1, 0), 0);
        assert!(twice.show(api_account(account(0)), balances(1, 0)).is_err());
        assert_eq!(twice.accounts, 4);
    }
}
