//! Which account is paid: any, or one that lives where the payer does, or one that lives elsewhere.
//!
//! Owns the draw of payees; refuses to know how a target places accounts, beyond asking its [`Placement`].

use std::fmt;
use std::str::FromStr;

use tpcore::{AccountId, Placement};

use crate::plan::payee;

/// Where the payee of a capture or transfer lives, seen from its payer. What stays within a partition is one event, what goes across
/// is an exchange of three.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Locality {
    /// Anywhere.
    #[default]
    Any,
    /// In the payer's partition.
    Within,
    /// In another partition.
    Across,
}

impl FromStr for Locality {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Any, Self::Within, Self::Across];
        all.into_iter()
            .find(|one| one.to_string() == text)
            .ok_or_else(|| "a locality is any, within or across".to_owned())
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "any",
            Self::Within => "within",
            Self::Across => "across",
        })
    }
}

/// Draws payees.
#[derive(Debug)]
pub struct Payees {
    count: u64,
    /// With a locality that matters.
    grouped: Option<Grouped>,
}

/// All payees, those of one partition side by side.
#[derive(Debug)]
struct Grouped {
    placement: Placement,
    is_within: bool,
    payees: Vec<AccountId>,
    /// Where each partition's begin, and where the last one's end.
    starts: Vec<usize>,
}

impl Grouped {
    fn new(placement: Placement, is_within: bool, count: u64) -> Self {
        let mut by_home: Vec<(usize, AccountId)> =
            (0..count).map(payee).map(|payee| (placement.partition_of(payee), payee)).collect();
        by_home.sort_by_key(|(home, _)| *home);
        let starts =
            (0..=placement.partitions()).map(|partition| by_home.partition_point(|(home, _)| *home < partition));
        let starts = starts.collect();
        Self { placement, is_within, payees: by_home.into_iter().map(|(_, payee)| payee).collect(), starts }
    }

    /// Where those that live in a partition begin, and how many they are.
    fn own(&self, partition: usize) -> (usize, usize) {
        let (start, end) = (self.starts[partition], self.starts[partition + 1]);
        (start, end - start)
    }

    /// How many the payers of a partition may name.
    fn named_from(&self, partition: usize) -> usize {
        let (_, own) = self.own(partition);
        if self.is_within { own } else { self.payees.len() - own }
    }

    fn draw(&self, payer: AccountId, below: impl FnOnce(u64) -> u64) -> AccountId {
        let home = self.placement.partition_of(payer);
        let (start, own) = self.own(home);
        let drawn = usize::try_from(below(self.named_from(home) as u64)).unwrap_or(0);
        let at = match (self.is_within, drawn < start) {
            (true, _) => start + drawn,
            (false, true) => drawn,
            (false, false) => drawn + own,
        };
        self.payees[at]
    }
}

impl Payees {
    /// Of so many, on a target with this placement.
    ///
    /// # Errors
    /// When the target shows none, or there is no such payee for the payers of a partition.
    pub fn new(locality: Locality, count: u64, placement: Option<Placement>) -> Result<Self, String> {
        if locality == Locality::Any {
            return Ok(Self { count, grouped: None });
        }
        let placement = placement.ok_or("only the embedded target shows where accounts live: leave --locality out")?;
        let grouped = Grouped::new(placement, locality == Locality::Within, count);
        let partitions = placement.partitions();
        if (0..partitions).any(|partition| grouped.named_from(partition) == 0) {
            return Err(format!(
                "--locality {locality} needs a payee for the payers of each partition: {count} payees in {partitions} partitions are too few"
            ));
        }
        Ok(Self { count, grouped: Some(grouped) })
    }

    /// One for this payer; `below` draws a number below its argument.
    pub fn draw(&self, payer: AccountId, below: impl FnOnce(u64) -> u64) -> AccountId {
        match &self.grouped {
            None => payee(below(self.count)),
            Some(grouped) => grouped.draw(payer, below),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::account;
    use tpcore::{Config, Engine};

    fn placement(partitions: usize) -> Placement {
        let engine = Engine::open(Config { partitions, ..Config::in_memory() }).expect("an engine in memory");
        let placement = engine.placement();
        engine.close_blocking().expect("closed");
        placement
    }

    #[test]
    fn a_payee_lives_where_the_locality_says() {
        let placement = placement(3);
        for (locality, is_home) in [(Locality::Within, true), (Locality::Across, false)] {
            let payees = Payees::new(locality, 100, Some(placement)).expect("enough of them");
            let mut drawn = std::collections::BTreeSet::new();
            for n in 0..3_000 {
                let payer = account(n);
                let payee = payees.draw(payer, |below| n % below);
                assert_eq!(
                    placement.partition_of(payer) == placement.partition_of(payee),
                    is_home,
                    "{locality}: {payer:?} pays {payee:?}"
                );
                drawn.insert(payee);
            }
            assert_eq!(drawn.len(), 100, "{locality}: every payee is paid");
        }
        let payees = Payees::new(Locality::Any, 100, None).expect("it needs no homes");
        assert_eq!(payees.draw(account(1), |below| below - 1), payee(99));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let refusal =
            |locality, count, placement| Payees::new(locality, count, placement).expect_err("it cannot be drawn");
        assert!(refusal(Locality::Within, 100, None).contains("--locality"));
        assert!(refusal(Locality::Within, 1, Some(placement(3))).contains("too few"));
        assert!(refusal(Locality::Across, 100, Some(placement(1))).contains("too few"));
        assert!(Payees::new(Locality::Within, 1, Some(placement(1))).is_ok());
    }

    #[test]
    fn localities_have_names() {
        for locality in [Locality::Any, Locality::Within, Locality::Across] {
            assert_eq!(locality.to_string().parse(), Ok(locality));
        }
        assert!("near".parse::<Locality>().is_err());
    }
}
