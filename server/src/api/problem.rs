//! Problems: what is answered instead of an approval (RFC 9457), and the status of every outcome.
//!
//! Owns the mapping from outcomes to status codes and the names of the server's own refusals. Refuses to know why.

use std::borrow::Cow;

use http::StatusCode;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;

macro_rules! refusals {
    ($($name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// The server's own refusals, beside the engine's outcomes. The names are stable.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Refusal { $($name,)* }

        impl Refusal {
            /// Every one.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The stable name.
            pub(crate) const fn name(self) -> &'static str { match self { $(Self::$name => $text),* } }
            const fn status(self) -> u16 { match self { $(Self::$name => $status),* } }
            const fn title(self) -> &'static str { match self { $(Self::$name => $title),* } }
        }
    };
}

refusals! {
    InvalidRequest = "invalid_request", 400, "The request is not one of this route";
    KeyMissing = "idempotency_key_missing", 400, "A command needs an Idempotency-Key";
    Unauthenticated = "unauthenticated", 401, "It is not known who is calling";
    SignAgain = "sign_again", 401, "Signed before this process started: sign again";
    Forbidden = "forbidden", 403, "The caller's roles do not include this";
    NoAgreement = "no_agreement", 403, "No agreement lets money move between these tenants";
    NotFound = "not_found", 404, "Nothing is here";
    MethodNotAllowed = "method_not_allowed", 405, "The route has other methods";
    ApprovalNotOpen = "approval_not_open", 409, "The approval is not pending any more";
    ApprovalRejected = "approval_rejected", 409, "A second person rejected it";
    ApprovalExpired = "approval_expired", 409, "No second person decided in time";
    ApprovalUnknown = "approval_unknown", 409, "It is not known whether it was executed";
    SamePerson = "same_person", 403, "A second person has to decide";
    AlreadyExists = "already_exists", 409, "It exists, with other contents";
    BodyTooLarge = "body_too_large", 413, "The body is larger than allowed";
    UnsupportedMediaType = "unsupported_media_type", 415, "The body has to be application/json";
    RateLimited = "rate_limited", 429, "Too many requests a second";
    TooManyInFlight = "too_many_in_flight", 429, "Too many requests under way";
    Recovering = "recovering", 503, "The engine has not recovered yet";
    BodyTimeout = "body_timeout", 408, "The body did not come in time";
    CardNumber = "card_number_refused", 400, "What looks like a card number belongs into no other place than a card's";
    ControlFailed = "control_failed", 503, "What was asked could not be recorded";
    HistoryFailed = "history_failed", 500, "Old facts could not be read";
}

/// What is answered instead of an approval.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// The stable name.
    pub(crate) name: &'static str,
    pub(crate) title: Cow<'static, str>,
    pub(crate) detail: Cow<'static, str>,
    /// The decision, where there was one.
    pub(crate) reply: Option<Box<Reply>>,
}

impl Problem {
    pub(crate) fn new(refusal: Refusal, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status: status_of_number(refusal.status()),
            name: refusal.name(),
            title: Cow::Borrowed(refusal.title()),
            detail: without_numbers(detail.into()),
            reply: None,
        }
    }

    pub(crate) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Refusal::InvalidRequest, detail)
    }

    /// From a reply that is no approval.
    pub(crate) fn of_reply(reply: Reply) -> Self {
        let outcome = reply.outcome;
        Self { reply: Some(Box::new(reply)), ..Self::of_outcome(outcome) }
    }

    /// From an outcome alone.
    pub(crate) fn of_outcome(outcome: Outcome) -> Self {
        let name = outcome.name();
        Self {
            status: status_of_number(status_of(outcome)),
            name,
            title: Cow::Owned(title_of(name)),
            detail: Cow::Borrowed(detail_of(outcome)),
            reply: None,
        }
    }

    /// Whether the same request may succeed later: a `Retry-After` is sent.
    pub(crate) fn is_temporary(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 503)
    }
}

/// A detail without what may be a card number: it may repeat words of the caller's.
fn without_numbers(detail: Cow<'static, str>) -> Cow<'static, str> {
    let is_long = |run: &[u8]| run.len() >= 12;
    let Cow::Owned(text) = &detail else { return detail };
    if !text.as_bytes().split(|byte| !byte.is_ascii_digit()).any(is_long) {
        return detail;
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let (digits, after) = from.split_at(from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if is_long(digits.as_bytes()) { "(digits)" } else { digits });
        rest = after;
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

fn status_of_number(number: u16) -> StatusCode {
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The status code of an outcome that is no approval; 200 of one that is.
pub(crate) const fn status_of(outcome: Outcome) -> u16 {
    use Outcome as O;
    match outcome {
        _ if outcome.is_approval() => 200,
        O::Malformed => 400,
        O::InsufficientFunds | O::AmountLimit | O::CountLimit => 402,
        O::AccountNotFound | O::OriginalNotFound | O::PayeeNotFound => 404,
        O::IdempotencyConflict
        | O::KeyExpired
        | O::Fenced
        | O::ReversedBefore
        | O::AccountExists
        | O::AccountNotEmpty
        | O::AccountClosed
        | O::AccountFrozen
        | O::PayeeClosed
        | O::PayeeFrozen
        | O::HoldExpired
        | O::HoldNotOpen
        | O::NothingLeft
        | O::FurtherActivity => 409,
        O::InvalidAmount
        | O::WrongLedger
        | O::AboveHold
        | O::AboveCaptured
        | O::NotReversible
        | O::RefundWindowPassed => 422,
        O::Busy | O::NoSpace | O::Stopping | O::DeadlineExceeded => 503,
        O::InProgress => 504,
        _ => 500,
    }
}

/// `insufficient_funds` becomes `Insufficient funds`.
fn title_of(name: &str) -> String {
    let mut title = name.replace('_', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

/// What the caller can do about it, where that is not plain from the name.
const fn detail_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::InProgress => "the outcome is not known yet: repeat with the same key, or look the key up",
        Outcome::Busy | Outcome::NoSpace | Outcome::Stopping | Outcome::DeadlineExceeded => {
            "this submission did nothing: repeat with the same key"
        }
        Outcome::IdempotencyConflict => "the key was used before with another body or another kind",
        Outcome::KeyExpired => "the key's own time is outside the window: look it up, or make a new one",
        Outcome::WrongLedger => "asset and scale are not those of the account",
        Outcome::Malformed => "the members do not go together: see the protocol's description of this command",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_the_status_that_the_protocol_says() {
        let protocol = include_str!("../../../docs/src/protocol.md");
        let table: Vec<&str> = protocol
            .lines()
            .skip_while(|line| !line.starts_with("| status |"))
            .take_while(|l| l.starts_with('|'))
            .collect();
        let rows_with = |name: &str| {
            let quoted = format!("`{name}`");
            table.iter().filter(|row| row.contains(&quoted)).map(|row| (*row).to_owned()).collect::<Vec<_>>()
        };
        let outcomes = Outcome::ALL.iter().filter(|o| !o.is_approval()).map(|o| (o.name(), status_of(*o)));
        let refusals = Refusal::ALL.iter().map(|r| (r.name(), r.status()));
        for (name, status) in outcomes.chain(refusals) {
            let rows = rows_with(name);
            let has_status =
                |row: &String| row.split('|').nth(1).is_some_and(|cell| cell.contains(&status.to_string()));
            assert!(rows.len() == 1 && has_status(&rows[0]), "{name} is {status}; the table says {rows:?}");
        }
    }

    #[test]
    fn a_detail_repeats_no_card_number() {
        let detail = |text: &str| Problem::invalid(text.to_owned()).detail.into_owned();
        assert_eq!(detail("unknown field `x4111111111111111` at line 12"), "unknown field `x(digits)` at line 12");
        assert_eq!(detail("é4111111111111111"), "é(digits)");
        assert_eq!(detail("11 digits: 41111111111"), "11 digits: 41111111111");
    }

    #[test]
    fn what_did_nothing_is_503_and_what_is_unknown_is_504() {
        for outcome in Outcome::ALL.iter().filter(|outcome| outcome.leaves_at_once()) {
            let wanted = match outcome {
                Outcome::InProgress => 504,
                Outcome::Malformed => 400,
                _ => 503,
            };
            assert_eq!(status_of(*outcome), wanted, "{outcome}");
        }
    }
}
