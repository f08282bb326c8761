//! Response codes: data element 39 of ISO 8583:1987, for every outcome of the engine and for what the edge itself refuses.

use tp_actors::tp_core::reply::Reply;

/// A response code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Code(pub(crate) &'static str);

impl Code {
    /// Approved, accepted, done.
    pub(crate) const APPROVED: Self = Self("00");
    /// Invalid transaction: the processing code, class or currency is none that this listener serves.
    pub(crate) const INVALID: Self = Self("12");
    /// Invalid card number: it is none, or no card of the tenant.
    pub(crate) const NO_CARD: Self = Self("14");
    /// Format error.
    pub(crate) const FORMAT: Self = Self("30");
    /// Bank not supported by switch: the acquirer is not one of the listener's.
    pub(crate) const NO_ACQUIRER: Self = Self("31");
    /// Expired card.
    pub(crate) const EXPIRED: Self = Self("54");
    /// Restricted card.
    pub(crate) const RESTRICTED: Self = Self("62");
    /// Response received too late: declined, and undone where it had been approved.
    pub(crate) const LATE: Self = Self("68");
    /// Issuer or switch inoperative.
    pub(crate) const INOPERATIVE: Self = Self("91");
    /// System malfunction.
    pub(crate) const MALFUNCTION: Self = Self("96");

    /// The code of a reply.
    pub(crate) fn of(reply: &Reply) -> Self {
        // A repeat of what was undone since is no approval any more.
        if reply.reversed && reply.outcome.is_approval() {
            return Self::LATE;
        }
        // Of the outcomes without a code none comes of a card message.
        reply.outcome.response_code().map_or(Self::MALFUNCTION, Self)
    }

    /// Whether another issuer's decision of that code was an approval: 00, 08, 10, 11, 85; nothing said: it was.
    pub(crate) fn is_approval(code: Option<&str>) -> bool {
        matches!(code, None | Some("00" | "08" | "10" | "11" | "85"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_actors::tp_core::outcome::Outcome;

    #[test]
    fn every_outcome_of_a_card_message_has_a_code_and_what_was_undone_is_no_approval() {
        for outcome in Outcome::ALL {
            let code = Code::of(&Reply::bare(*outcome));
            let is_account_command = matches!(outcome, Outcome::AccountExists | Outcome::AccountNotEmpty);
            assert!(
                code.0.len() == 2
                    && (code != Code::MALFUNCTION || is_account_command || outcome.response_code() == Some("96"))
            );
            let undone = Reply { repeated: true, reversed: true, ..Reply::bare(*outcome) };
            assert!(!outcome.is_approval() || Code::of(&undone) == Code::LATE, "{outcome}");
        }
    }
}
