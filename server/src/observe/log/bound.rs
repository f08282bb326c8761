//! How many lines a place in the code may write. Owns the counts by place; refuses to know what a line says.

use std::collections::HashMap;

use parking_lot::Mutex;
use tracing::callsite::Identifier;

/// What happens to a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is written; before it, how many of its kind were left out since the last one, if any.
    Write { suppressed: u64 },
    /// It is left out.
    Suppress,
}

#[derive(Default)]
struct Place {
    second: u64,
    written: u32,
    suppressed: u64,
}

/// So many lines a second for each place. Places are lines of source code: finitely many.
pub(super) struct Bound {
    lines_per_second: u32,
    places: Mutex<HashMap<Identifier, Place>>,
}

impl Bound {
    pub(super) fn new(lines_per_second: u32) -> Self {
        Self { lines_per_second: lines_per_second.max(1), places: Mutex::default() }
    }

    /// Asks for one line in that second.
    pub(super) fn ask(&self, place: Identifier, second: u64) -> Verdict {
        let mut places = self.places.lock();
        let place = places.entry(place).or_default();
        if place.second != second {
            (place.second, place.written) = (second, 0);
        }
        if place.written >= self.lines_per_second {
            place.suppressed += 1;
            return Verdict::Suppress;
        }
        place.written += 1;
        Verdict::Write { suppressed: std::mem::take(&mut place.suppressed) }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::{Metadata, subscriber::Interest};

    use super::*;

    struct Here;
    impl Callsite for Here {
        fn set_interest(&self, _: Interest) {}
        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("a place is only compared")
        }
    }

    #[test]
    fn the_next_second_reports_what_the_one_before_left_out() {
        static ONE: (u8, Here) = (1, Here);
        let place = || Identifier(&ONE.1);
        let bound = Bound::new(2);
        let asked: Vec<_> = [5, 5, 5, 5, 6, 6].map(|second| bound.ask(place(), second)).into();
        let written = |suppressed| Verdict::Write { suppressed };
        assert_eq!(asked, [written(0), written(0), Verdict::Suppress, Verdict::Suppress, written(2), written(0)]);
    }
}
