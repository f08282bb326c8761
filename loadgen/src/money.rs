//! After the run: is the money where the answers say it is?
//!
//! Owns the checks and their wording; refuses to correct anything.

use std::time::{Duration, Instant};

use anyhow::Result;
use tpcore::Seq;

use crate::books::Books;
use crate::report::MoneyCheck;
use crate::target::{Closing, Sums, Target};

/// So long after the last hold's lifetime its expiry may come.
const LATE: Duration = Duration::from_secs(15);

fn check(name: &str, ok: bool, detail: String) -> MoneyCheck {
    MoneyCheck { name: name.to_owned(), ok, detail }
}

/// Compares the target's sums with what the answers come to. `lifetime`: how long holds live, if they may expire meanwhile;
/// then the expiries since `from` count.
///
/// # Errors
/// When the target does not say.
pub fn compare(
    target: &dyn Target,
    books: &Books,
    before: Sums,
    from: Seq,
    lifetime: Option<Duration>,
) -> Result<Vec<MoneyCheck>> {
    let until = Instant::now() + lifetime.map_or(Duration::ZERO, |lifetime| lifetime + LATE);
    loop {
        let stood = target.durable_seq();
        let (expiries, expired) = if lifetime.is_some() { target.expired_after(from)? } else { (0, 0) };
        let found = target.sums()?;
        let expected = books.expected(before, expired);
        let is_still = target.durable_seq() == stood;
        if (is_still && expected == Some(found)) || Instant::now() >= until {
            return Ok(checks(books, before, found, expected, (expiries, expired)));
        }
        std::thread::sleep(Duration::from_millis(100)); // holds are expiring
    }
}

fn checks(
    books: &Books,
    before: Sums,
    found: Sums,
    expected: Option<Sums>,
    (expiries, expired): (u64, u128),
) -> Vec<MoneyCheck> {
    let expected = expected.unwrap_or_default();
    let in_transit = found.in_transit;
    vec![
        check(
            "trial balance",
            found.debits == found.credits && in_transit == 0,
            format!("debits {} = credits {}, in transit {in_transit}", found.debits, found.credits),
        ),
        check(
            "money moved",
            (found.debits, found.credits) == (expected.debits, expected.credits),
            format!(
                "{} moved by {} approved commands; the target shows {}",
                books.moved,
                books.approvals,
                found.debits.wrapping_sub(before.debits).cast_signed()
            ),
        ),
        check(
            "money held",
            found.held == expected.held,
            format!(
                "{} before + {} held - {} released - {expired} expired ({expiries} holds); the target shows {}",
                before.held, books.held, books.released, found.held
            ),
        ),
        check(
            "one key, one answer",
            books.contradictions == 0,
            match &books.contradiction {
                None => "no answer contradicts an earlier one or what was asked".to_owned(),
                Some(first) => {
                    format!("{} answers contradict an earlier one or what was asked: {first}", books.contradictions)
                }
            },
        ),
    ]
}

/// Compares what the directory gives with what the target showed.
pub fn compare_closing(closing: &Closing) -> Option<MoneyCheck> {
    let after = closing.after?;
    let detail = format!("{} before the close, {after} from the directory", closing.before);
    Some(check("digest after opening the directory again", after == closing.before, detail))
}
