//! One account at rest: 168 bytes. Owns its arithmetic; refuses to know commands.

use tp_planted::{Bug, has};

use crate::amount::{Amount, Balances, CreditLimit, Ledger};
use crate::command::{Limits, Settings, Status};
use crate::gapless::{Single, Wide};
use crate::ids::{AccountId, Seq, Version};
use crate::outcome::Outcome;
use crate::reply::AccountView;
use crate::time::Bucket;

/// No sum on an account goes beyond 2^126 by a command that can be refused. Forced movements may pass it; 2^30 of the largest
/// would be needed to leave 127 bits, which evolve then reports instead of wrapping.
pub(crate) const SUM_MAX: u128 = 1 << 126;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Account {
    id: Wide,
    pub(crate) debits: Wide,
    pub(crate) credits: Wide,
    pub(crate) held: Wide,
    pub(crate) day_amount: Wide,
    pub(crate) month_amount: Wide,
    pub(crate) ledger: Ledger,
    pub(crate) seq: Seq,
    pub(crate) version: Version,
    limits: Option<Box<Limits>>,
    /// Nothing where it is unlimited.
    credit_limit: Single,
    pub(crate) day_count: u32,
    pub(crate) month_count: u32,
    pub(crate) bucket: Bucket,
    pub(crate) holds_open: u32,
    pub(crate) exchanges_open: u32,
    tenant: u32,
    kind: u16,
    pub(crate) status: Status,
    is_unlimited: bool,
}

impl Account {
    pub(crate) fn new(id: AccountId, settings: &Settings) -> Self {
        let mut account = Self {
            id: Wide::new(id.0),
            debits: Wide::default(),
            credits: Wide::default(),
            held: Wide::default(),
            day_amount: Wide::default(),
            month_amount: Wide::default(),
            ledger: settings.ledger,
            seq: Seq::ZERO,
            version: Version(0),
            limits: None,
            credit_limit: Single::default(),
            day_count: 0,
            month_count: 0,
            bucket: Bucket::default(),
            holds_open: 0,
            exchanges_open: 0,
            tenant: settings.tenant,
            kind: settings.kind,
            status: settings.status,
            is_unlimited: false,
        };
        account.settle(settings);
        account
    }

    /// The suspense account of a slot and ledger, as it is on first use.
    pub(crate) fn suspense(id: AccountId, ledger: Ledger) -> Self {
        Self::new(id, &Settings { credit_limit: CreditLimit::Unlimited, kind: u16::MAX, ..Settings::new(ledger) })
    }

    /// Takes the settings that can change.
    pub(crate) fn settle(&mut self, settings: &Settings) {
        self.status = settings.status;
        (self.credit_limit, self.is_unlimited) = match settings.credit_limit {
            CreditLimit::Amount(amount) => (Single::new(amount), false),
            CreditLimit::Unlimited => (Single::default(), true),
        };
        self.limits = (settings.limits != Limits::default()).then(|| Box::new(settings.limits));
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            ledger: self.ledger,
            kind: self.kind,
            tenant: self.tenant,
            status: self.status,
            credit_limit: self.credit_limit(),
            limits: self.limits.as_deref().copied().unwrap_or_default(),
        }
    }

    pub(crate) const fn id(&self) -> AccountId {
        AccountId(self.id.get())
    }

    pub(crate) const fn tenant(&self) -> u32 {
        self.tenant
    }

    pub(crate) fn credit_limit(&self) -> CreditLimit {
        if self.is_unlimited { CreditLimit::Unlimited } else { CreditLimit::Amount(self.credit_limit.amount()) }
    }

    pub(crate) fn posted(&self) -> i128 {
        // Both sums stay below 2^127 (see SUM_MAX).
        self.credits.get().cast_signed() - self.debits.get().cast_signed()
    }

    pub(crate) fn balances(&self) -> Balances {
        let (posted, held) = (self.posted(), self.held.get());
        let available = match self.credit_limit() {
            CreditLimit::Unlimited => None,
            CreditLimit::Amount(limit) => {
                Some(posted.saturating_sub(held.cast_signed()).saturating_add(limit.get().cast_signed()))
            }
        };
        Balances { posted, held, available }
    }

    /// What may still be debited; at most a single amount.
    fn room_in_funds(&self) -> u128 {
        self.balances().available.map_or(Amount::MAX.get(), |available| u128::try_from(available).unwrap_or(0))
    }

    /// The sums of the bucket that `bucket` names: those kept, or zero when it is another day or month.
    fn counted(&self, bucket: Bucket) -> ((u32, u128), (u32, u128)) {
        let day = if self.bucket.day == bucket.day { (self.day_count, self.day_amount.get()) } else { (0, 0) };
        let month =
            if self.bucket.month == bucket.month { (self.month_count, self.month_amount.get()) } else { (0, 0) };
        (day, month)
    }

    /// How much of `amount` the limits and funds allow: the guards in the order of the outcomes, each with the room it leaves.
    pub(crate) fn allowance(&self, amount: Amount, bucket: Bucket) -> Allowance {
        let funds = (self.room_in_funds(), Outcome::InsufficientFunds);
        let range = SUM_MAX.saturating_sub(self.debits.get().saturating_add(self.held.get()));
        let range = (range, Outcome::InvalidAmount);
        let Some(limits) = self.limits.as_deref() else { return Allowance::of(amount, &[funds, range]) };
        let ((day_count, day_amount), (month_count, month_amount)) = self.counted(bucket);
        let room =
            |limit: Option<Amount>, used: u128| limit.map_or(u128::MAX, |limit| limit.get().saturating_sub(used));
        let count_room = |limit: Option<u32>, used: u32| if limit.is_some_and(|l| used >= l) { 0 } else { u128::MAX };
        let guards = [
            (room(limits.command_amount, 0), Outcome::AmountLimit),
            (count_room(limits.day.count, day_count), Outcome::CountLimit),
            (count_room(limits.month.count, month_count), Outcome::CountLimit),
            (room(limits.day.amount, day_amount), Outcome::AmountLimit),
            (room(limits.month.amount.filter(|_| !has(Bug::LimitIgnored)), month_amount), Outcome::AmountLimit),
            funds,
            range,
        ];
        Allowance::of(amount, &guards)
    }

    /// Whether another `amount` can be credited without leaving the range of sums.
    pub(crate) fn takes_credit(&self, amount: Amount) -> bool {
        self.credits.get().saturating_add(amount.get()) <= SUM_MAX
    }

    /// Counts an approved amount in its bucket. A bucket before the current one (never by engine time) is left alone.
    pub(crate) fn count(&mut self, bucket: Bucket, amount: Amount) {
        let ((day_count, day_amount), (month_count, month_amount)) = self.counted(bucket);
        self.day_count = day_count.saturating_add(1);
        self.day_amount = Wide::new(day_amount.saturating_add(amount.get()));
        self.month_count = month_count.saturating_add(1);
        self.month_amount = Wide::new(month_amount.saturating_add(amount.get()));
        self.bucket = bucket;
    }

    /// Gives an amount, and `commands` counted with it, back to the bucket that it came from.
    pub(crate) fn uncount(&mut self, bucket: Bucket, amount: Amount, commands: u32) {
        if self.bucket.day == bucket.day {
            self.day_count = self.day_count.saturating_sub(commands);
            self.day_amount = Wide::new(self.day_amount.get().saturating_sub(amount.get()));
        }
        if self.bucket.month == bucket.month {
            self.month_count = self.month_count.saturating_sub(commands);
            self.month_amount = Wide::new(self.month_amount.get().saturating_sub(amount.get()));
        }
    }

    pub(crate) fn view(&self) -> AccountView {
        AccountView {
            account: self.id(),
            settings: self.settings(),
            debits: self.debits.get(),
            credits: self.credits.get(),
            balances: self.balances(),
            seq: self.seq,
            version: self.version,
        }
    }
}

/// What an account allows of an amount.
pub(crate) struct Allowance {
    /// So much at most; all of it when `refusal` is none.
    pub(crate) amount: u128,
    /// The first guard that leaves less than asked.
    pub(crate) refusal: Option<Outcome>,
    /// The first guard that leaves nothing: why a partial approval is refused.
    pub(crate) refusal_of_any: Option<Outcome>,
}

impl Allowance {
    /// What guards in the order of their outcomes leave of an amount.
    fn of(amount: Amount, guards: &[(u128, Outcome)]) -> Self {
        let first = |below: u128| guards.iter().find(|(room, _)| *room < below).map(|(_, outcome)| *outcome);
        Self {
            amount: guards.iter().fold(amount.get(), |least, (room, _)| least.min(*room)),
            refusal: first(amount.get()),
            refusal_of_any: first(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_takes_168_bytes() {
        assert_eq!(size_of::<Option<Account>>(), 168);
    }
}
