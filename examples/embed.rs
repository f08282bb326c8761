//! An engine inside a program: two accounts, an authorization, its capture, the balances.
//!
//! Run it with `cargo run --release --example embed`. `Config::in_memory()` keeps nothing; `Config::at("./data")` makes the same
//! program durable: every reply below would then be on disk before it is seen.
#![allow(clippy::print_stdout)] // an example talks to whoever runs it

use tpcore::{
    AccountId, Amount, Authorize, Capture, Config, CreditLimit, Engine, Key, Ledger, Note, OpenAccount, Reply, Settings,
};

const CUSTOMER: AccountId = AccountId(1);
const MERCHANT: AccountId = AccountId(2);

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::open(Config::in_memory())?;
    let ledger: Ledger = "EUR/2".parse()?;

    // The key makes a command safe to repeat: same key, same answer, one effect.
    for (number, account, credit) in [(1, CUSTOMER, 10_000), (2, MERCHANT, 0)] {
        let credit_limit = CreditLimit::Amount(Amount::from(credit));
        let settings = Settings { credit_limit, ..Settings::new(ledger) };
        approved(engine.call_blocking(OpenAccount {
            key: Key::opaque(number),
            account,
            settings,
            note: Note::default(),
        }))?;
    }

    // Hold 60.00, then take 45.00 of it for good: the rest is released.
    let hold = Authorize::new(Key::opaque(3), CUSTOMER, ledger, Amount::from(6_000));
    let authorization =
        approved(engine.call_blocking(hold))?.authorization.ok_or("an approval names its authorization")?;
    let capture = Capture {
        key: Key::opaque(4),
        authorization,
        payee: MERCHANT,
        amount: Amount::from(4_500),
        is_final: true,
        note: Note::default(),
    };
    let first = approved(engine.call_blocking(capture.clone()))?;
    let again = approved(engine.call_blocking(capture))?;
    println!("captured as {:?}, asked again: the same transfer, repeated: {}", first.transfer, again.repeated);

    for account in engine.accounts()? {
        let balances = account.balances;
        println!("account {}: posted {}, held {} (1/100 EUR)", account.account, balances.posted, balances.held);
    }
    engine.close_blocking()?;
    Ok(())
}

fn approved(reply: Reply) -> Result<Reply, String> {
    if reply.outcome.is_approval() { Ok(reply) } else { Err(format!("refused: {}", reply.outcome)) }
}
