//! From rows to commands: accounts, counter-accounts, keys, steps.
//!
//! Owns the mapping of the bank's words to ours; refuses to know engines and files. Ids:
//!
//! ```text
//! 1 .. 2^64 - 1            the bank's accounts, under their own numbers    kind 1
//! 2^64                     fees                                            kind 2
//! 2^64 + 1                 interest                                        kind 3
//! 2^64 + 2                 cash desk                                       kind 4
//! 2^64 + 2^32 + n          partner bank; n: its code, 0 without code       kind 5
//! ```
//! A credit is a transfer from the counter-account, a debit one to it; cash and card withdrawals at the cash desk are
//! authorized and captured. The keys of a row depend on nothing but its transaction's number and the step, so that a row
//! booked once is never booked again.

use tpcore::{
    AccountId, Amount, AuthorizationId, Authorize, Capture, Command, CreditLimit, Key, Ledger, Metadata, Note,
    OpenAccount, Settings, Transfer, UpdateAccount,
};

use super::row::{Category, Direction, Operation, PartnerBank, Row};

/// The ledger of the bank's file: Czech koruna in haléř.
pub(crate) const LEDGER: Ledger = match Ledger::new("CZK", 2) {
    Some(ledger) => ledger,
    None => panic!("CZK/2 is a ledger"),
};

/// The kind of the bank's accounts.
pub(crate) const KIND_BANK_ACCOUNT: u16 = 1;

const FIRST_OF_OURS: u128 = 1 << 64;

/// An account that stands for the other side of a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Counter {
    Fees,
    Interest,
    CashDesk,
    Partner(PartnerBank),
}

impl Counter {
    /// The first rule that matches.
    pub(crate) fn of(row: &Row) -> Self {
        match (row.category, row.operation) {
            (Category::StatementFee, _) => Self::Fees,
            (Category::PenaltyInterest, _) | (_, Operation::Bank) => Self::Interest,
            (_, Operation::TransferIn | Operation::TransferOut) => Self::Partner(row.partner),
            _ => Self::CashDesk,
        }
    }

    pub(crate) fn account(self) -> AccountId {
        AccountId(match self {
            Self::Fees => FIRST_OF_OURS,
            Self::Interest => FIRST_OF_OURS + 1,
            Self::CashDesk => FIRST_OF_OURS + 2,
            Self::Partner(bank) => FIRST_OF_OURS + (1 << 32) + u128::from(bank.0),
        })
    }

    pub(crate) const fn kind(self) -> u16 {
        match self {
            Self::Fees => 2,
            Self::Interest => 3,
            Self::CashDesk => 4,
            Self::Partner(_) => 5,
        }
    }
}

/// The account of a row.
pub(crate) fn account(row: &Row) -> AccountId {
    AccountId(u128::from(row.account))
}

/// What a key is for. The number is part of the key and never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Open = 1,
    CreditLimit = 2,
    Transfer = 3,
    Authorize = 4,
    Capture = 5,
}

/// The first 128 bits of BLAKE3 over step, subject and value (16 bytes each, little-endian), domain-separated.
fn key(step: Step, subject: u128, value: u128) -> Key {
    let mut hasher = blake3::Hasher::new_derive_key("tpcore import key 1");
    hasher.update(&(step as u128).to_le_bytes()).update(&subject.to_le_bytes()).update(&value.to_le_bytes());
    let mut bits = [0; 16];
    hasher.finalize_xof().fill(&mut bits);
    Key::opaque(u128::from_le_bytes(bits))
}

/// Whether the row is authorized and captured, or transferred.
pub(crate) fn is_authorized(row: &Row) -> bool {
    let withdraws = matches!(row.operation, Operation::CashWithdrawal | Operation::CardWithdrawal);
    withdraws && row.direction == Direction::Debit && Counter::of(row) == Counter::CashDesk
}

/// The account that owns the keys of a row: the payer.
pub(crate) fn payer(row: &Row) -> AccountId {
    match row.direction {
        Direction::Debit => account(row),
        Direction::Credit => Counter::of(row).account(),
    }
}

/// The key of the step after which the row's money has moved.
pub(crate) fn last_key(row: &Row) -> Key {
    let step = if is_authorized(row) { Step::Capture } else { Step::Transfer };
    key(step, u128::from(row.id), 0)
}

/// The first command of a row, and the only one of most.
pub(crate) fn first_command(row: &Row) -> Command {
    if is_authorized(row) {
        return Authorize {
            payee: Some(Counter::CashDesk.account()),
            note: note(row),
            ..Authorize::new(key(Step::Authorize, u128::from(row.id), 0), account(row), LEDGER, row.amount)
        }
        .into();
    }
    let counter = Counter::of(row).account();
    let (from, to) = match row.direction {
        Direction::Debit => (account(row), counter),
        Direction::Credit => (counter, account(row)),
    };
    Transfer { key: last_key(row), account: from, payee: to, ledger: LEDGER, amount: row.amount, note: note(row) }
        .into()
}

/// The second command of an authorized row.
pub(crate) fn capture(row: &Row, authorization: AuthorizationId) -> Command {
    let payee = Counter::CashDesk.account();
    Capture { key: last_key(row), authorization, payee, amount: row.amount, is_final: true, note: note(row) }.into()
}

/// The row's date as value date, its transaction's number as the caller's reference.
fn note(row: &Row) -> Note {
    let metadata = Metadata::reference(&row.id.to_string()).unwrap_or_default(); // at most 20 digits: it always fits
    Note { value_date: Some(row.date), metadata }
}

/// Opens a counter-account, without limit.
pub(crate) fn open_counter(counter: Counter) -> Command {
    let settings = Settings { kind: counter.kind(), credit_limit: CreditLimit::Unlimited, ..Settings::new(LEDGER) };
    open(counter.account(), settings)
}

/// Opens a bank account that may be overdrawn by `limit`.
pub(crate) fn open_account(account: AccountId, limit: Amount) -> Command {
    let settings =
        Settings { kind: KIND_BANK_ACCOUNT, credit_limit: CreditLimit::Amount(limit), ..Settings::new(LEDGER) };
    open(account, settings)
}

fn open(account: AccountId, settings: Settings) -> Command {
    OpenAccount { key: key(Step::Open, account.0, 0), account, settings, note: Note::default() }.into()
}

/// Raises the credit limit of a bank account.
pub(crate) fn raise_limit(account: AccountId, limit: Amount) -> Command {
    UpdateAccount {
        key: key(Step::CreditLimit, account.0, limit.get()),
        account,
        status: None,
        credit_limit: Some(CreditLimit::Amount(limit)),
        limits: None,
        note: Note::default(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::super::row::parse;
    use super::*;

    fn row(fields: &str) -> Row {
        let fields: Vec<&str> = fields.split(',').collect();
        parse(&fields.try_into().expect("10 fields")).1.expect("a good row")
    }

    #[test]
    fn the_first_matching_rule_chooses_the_counter_account() {
        for (fields, counter, authorized) in [
            ("1,7,1993-01-01,debit,cash_withdrawal,5,5,statement_fee,,", Counter::Fees, false),
            ("1,7,1993-01-01,debit,cash_withdrawal,5,5,penalty_interest,,", Counter::Interest, false),
            ("1,7,1993-01-01,credit,bank,5,5,interest,,", Counter::Interest, false),
            ("1,7,1993-01-01,debit,transfer_out,5,5,household,,", Counter::Partner(PartnerBank(0)), false),
            ("1,7,1993-01-01,credit,transfer_in,5,5,,0,", Counter::Partner(PartnerBank(1)), false),
            ("1,7,1993-01-01,credit,cash_deposit,5,5,,,0", Counter::CashDesk, false),
            ("1,7,1993-01-01,debit,cash_withdrawal,5,5,household,,0", Counter::CashDesk, true),
            ("1,7,1993-01-01,debit,card_withdrawal,5,5,,,", Counter::CashDesk, true),
            ("1,7,1993-01-01,debit,card_withdrawal,5,5,statement_fee,,", Counter::Fees, false),
        ] {
            let row = row(fields);
            assert_eq!((Counter::of(&row), is_authorized(&row)), (counter, authorized), "{fields}");
        }
    }

    #[test]
    fn a_credit_is_paid_by_the_counter_account_and_a_debit_by_the_account() {
        let sides = |fields: &str| match first_command(&row(fields)) {
            Command::Transfer(t) => (t.account.0, t.payee.0),
            other => panic!("{other:?}"),
        };
        assert_eq!(sides("1,7,1993-01-01,credit,bank,5,5,,,"), (FIRST_OF_OURS + 1, 7));
        assert_eq!(sides("1,7,1993-01-01,debit,transfer_out,5,5,,0,"), (7, FIRST_OF_OURS + (1 << 32) + 1));
    }

    #[test]
    fn keys_depend_on_transaction_and_step_only() {
        let one = row("1,7,1993-01-01,debit,card_withdrawal,5,5,,,");
        let (a, c) = (first_command(&one).key(), Some(last_key(&one)));
        assert_ne!(a, c);
        assert_eq!(a, first_command(&row("1,8,1994-01-01,debit,card_withdrawal,6,5,,,")).key());
        assert_ne!(a, first_command(&row("2,7,1993-01-01,debit,card_withdrawal,5,5,,,")).key());
        // Frozen: another key would book every row of an old directory a second time.
        assert_eq!(key(Step::Transfer, 695_247, 0).bits, 258_073_973_240_764_181_526_827_724_497_948_021_681);
    }
}
