//! Which account is paid: any, or one that lives where the payer does, or one that lives elsewhere.
//!
//! Owns the draw of payees; refuses to know how a target places accounts, beyond a function from account to home.

use std::fmt;
use std::str::FromStr;

use tpcore::AccountId;

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

/// The partitions of a target, and the one that decides for an account.
pub struct Homes {
    /// How many there are, 1 or more.
    pub partitions: usize,
    /// From 0 on.
    pub of: Box<dyn Fn(AccountId) -> usize + Send>,
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Homes({})", self.partitions)
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
    homes: Homes,
    is_within: bool,
    payees: Vec<AccountId>,
    /// Where each partition's begin, and where the last one's end.
    starts: Vec<usize>,
}

impl Grouped {
    fn new(homes: Homes, is_within: bool, count: u64) -> Self {
        let mut by_home: Vec<(usize, AccountId)> =
            (0..count).map(payee).map(|payee| ((homes.of)(payee), payee)).collect();
        by_home.sort_by_key(|(home, _)| *home);
        let starts = (0..=homes.partitions).map(|partition| by_home.partition_point(|(home, _)| *home < partition));
        let starts = starts.collect();
        Self { homes, is_within, payees: by_home.into_iter().map(|(_, payee)| payee).collect(), starts }
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
        let home = (self.homes.of)(payer);
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
    /// Of so many, in a target's `homes`.
    ///
    /// # Errors
    /// When the target shows no homes, or there is no such payee for the payers of a partition.
    pub fn new(locality: Locality, count: u64, homes: Option<Homes>) -> Result<Self, String> {
        if locality == Locality::Any {
            return Ok(Self { count, grouped: None });
        }
        let homes = homes.ok_or("only the embedded target shows where accounts live: leave --locality out")?;
        let grouped = Grouped::new(homes, locality == Locality::Within, count);
        let partitions = grouped.homes.partitions;
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

    fn home_of(account: AccountId) -> usize {
        usize::try_from(account.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & 0xFF).unwrap_or(0)
    }

    fn homes(partitions: usize) -> Homes {
        Homes { partitions, of: Box::new(move |account| home_of(account) % partitions) }
    }

    #[test]
    fn a_payee_lives_where_the_locality_says() {
        for (locality, is_home) in [(Locality::Within, true), (Locality::Across, false)] {
            let payees = Payees::new(locality, 100, Some(homes(3))).expect("enough of them");
            let mut drawn = std::collections::BTreeSet::new();
            for n in 0..3_000 {
                let payer = account(n);
                let payee = payees.draw(payer, |below| n % below);
                assert_eq!(home_of(payer) % 3 == home_of(payee) % 3, is_home, "{locality}: {payer:?} pays {payee:?}");
                drawn.insert(payee);
            }
            assert_eq!(drawn.len(), 100, "{locality}: every payee is paid");
        }
        let payees = Payees::new(Locality::Any, 100, None).expect("it needs no homes");
        assert_eq!(payees.draw(account(1), |below| below - 1), payee(99));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let refusal = |locality, count, homes| Payees::new(locality, count, homes).expect_err("it cannot be drawn");
        assert!(refusal(Locality::Within, 100, None).contains("--locality"));
        assert!(refusal(Locality::Within, 1, Some(homes(3))).contains("too few"));
        assert!(refusal(Locality::Across, 100, Some(homes(1))).contains("too few"));
        assert!(Payees::new(Locality::Within, 1, Some(homes(1))).is_ok());
    }

    #[test]
    fn localities_have_names() {
        for locality in [Locality::Any, Locality::Within, Locality::Across] {
            assert_eq!(locality.to_string().parse(), Ok(locality));
        }
        assert!("near".parse::<Locality>().is_err());
    }
}
