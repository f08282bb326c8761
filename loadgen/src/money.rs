//! After the run: is the money where the answers say it is?
//!
//! Owns the checks and their wording; refuses to correct anything.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tpcore::Seq;

use crate::books::Books;
use crate::report::MoneyCheck;
use crate::target::{Activity, Closing, Inspect, Sums};

/// So long after the last hold's lifetime its expiry may come.
pub(crate) const LATE: Duration = Duration::from_secs(15);

pub(crate) fn check(name: &str, ok: bool, detail: String) -> MoneyCheck {
    MoneyCheck { name: name.to_owned(), ok, detail }
}

/// The sums of a target at an event, with nothing under way: what a comparison begins or ends with.
///
/// # Errors
/// When the target does not say, or does not come to rest.
pub fn stand(target: &dyn Inspect) -> Result<(Sums, Seq)> {
    let until = Instant::now() + LATE;
    loop {
        let (last, durable) = target.seqs();
        let sums = target.sums()?;
        if durable == last && target.seqs() == (last, last) {
            return Ok((sums, last));
        }
        if Instant::now() >= until {
            bail!("the target does not come to rest: events are made all the time");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Compares the target's sums and its record of the run since `from` with what the answers come to. Waits for holds that are
/// just expiring. `lifetime`: how long the run's holds live, where it is short.
///
/// # Errors
/// When the target does not say.
pub fn compare(
    target: &dyn Inspect,
    books: &Books,
    (before, from): (Sums, Seq),
    lifetime: Option<Duration>,
) -> Result<Vec<MoneyCheck>> {
    let until = Instant::now() + lifetime.unwrap_or_default() + LATE;
    let mut activity = Activity { seq: from, ..Activity::default() };
    loop {
        let (found, seq) = stand(target)?;
        target.follow(&mut activity)?;
        let expected = books.expected(before, activity.expired);
        let is_met = activity.seq == seq && expected == Some(found);
        if is_met || Instant::now() >= until {
            return Ok(checks(books, before, found, expected, &activity));
        }
        std::thread::sleep(Duration::from_millis(100)); // holds are expiring
    }
}

fn checks(books: &Books, before: Sums, found: Sums, expected: Option<Sums>, activity: &Activity) -> Vec<MoneyCheck> {
    let expected = expected.unwrap_or_default();
    let in_transit = found.in_transit;
    let Activity { approvals, expiries, expired, .. } = *activity;
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
                "{} by the answers; the target shows {}",
                books.moved,
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
            "approvals",
            approvals == books.approvals,
            format!("{} answered; {approvals} events of the target", books.approvals),
        ),
        one_answer(books),
    ]
}

/// IDM-1, as far as the answers show it.
pub(crate) fn one_answer(books: &Books) -> MoneyCheck {
    let detail = match &books.contradiction {
        None => "no answer contradicts an earlier one or what was asked".to_owned(),
        Some(first) => format!("{} answers contradict an earlier one or what was asked: {first}", books.contradictions),
    };
    check("one key, one answer", books.contradictions == 0, detail)
}

/// Compares what the directory gives with what the target showed.
pub fn compare_closing(closing: &Closing) -> Option<MoneyCheck> {
    let after = closing.after?;
    let detail = format!("{} before the close, {after} from the directory", closing.before);
    Some(check("digest after opening the directory again", after == closing.before, detail))
}
