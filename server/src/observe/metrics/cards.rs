//! The numbers of one card listener. Owns the closed sets of their labels (LIM-1): what a peer sends makes no series.

use std::sync::atomic::{AtomicU64, Ordering};

use super::families as f;
use super::scrape::Scrape;

/// Types of answers with a label of their own; any other, and what is not answered, is `other`.
const TYPES: [&str; 10] = ["0110", "0130", "0210", "0230", "0410", "0430", "0510", "0530", "0810", "0830"];
/// Response codes with a label of their own: those that the edge answers; any other is `other`.
const CODES: [&str; 21] = [
    "00", "09", "10", "12", "13", "14", "21", "25", "30", "31", "51", "54", "61", "62", "65", "68", "84", "85", "91",
    "94", "96",
];

/// The numbers of one card listener.
pub struct CardStats {
    listener: String,
    answers: [[AtomicU64; CODES.len() + 1]; TYPES.len() + 1],
    links_open: AtomicU64,
    undone: AtomicU64,
}

impl CardStats {
    /// Everything zero.
    pub fn new(listener: &str) -> Self {
        Self {
            listener: listener.to_owned(),
            answers: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            links_open: AtomicU64::new(0),
            undone: AtomicU64::new(0),
        }
    }

    /// An answer of that type with that code; both empty: a message was not answered.
    pub fn answer(&self, mti: &str, code: &str) {
        let at = |all: &[&str], one: &str| all.iter().position(|each| *each == one).unwrap_or(all.len());
        self.answers[at(&TYPES, mti)][at(&CODES, code)].fetch_add(1, Ordering::Relaxed);
    }

    /// A link was opened.
    pub fn link_opened(&self) {
        self.links_open.fetch_add(1, Ordering::Relaxed);
    }

    /// A link was closed.
    pub fn link_closed(&self) {
        self.links_open.fetch_sub(1, Ordering::Relaxed);
    }

    /// An approval is undone because its answer was late.
    pub fn late_undone(&self) {
        self.undone.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn record(&self, scrape: &Scrape) {
        let (name, load) = (self.listener.as_str(), |counter: &AtomicU64| counter.load(Ordering::Relaxed));
        let types = TYPES.into_iter().chain(["other"]);
        for (mti, of_type) in types.zip(&self.answers) {
            for (code, counter) in CODES.into_iter().chain(["other"]).zip(of_type) {
                // Rates need a series before its first event; one for each type is enough for that.
                if load(counter) > 0 || code == "00" {
                    scrape.counter(
                        f::CARD_MESSAGES,
                        &[("listener", name), ("type", mti), ("code", code)],
                        load(counter),
                    );
                }
            }
        }
        scrape.count(f::CARD_LINKS, &[("listener", name)], load(&self.links_open));
        scrape.counter(f::CARD_LATE, &[("listener", name)], load(&self.undone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_actors::tp_core::outcome::Outcome;

    #[test]
    fn every_code_that_is_answered_has_a_label() {
        for code in Outcome::ALL.iter().filter_map(|outcome| outcome.response_code()) {
            assert!(CODES.contains(&code), "{code}");
        }
        assert!(CODES.is_sorted());
    }
}
