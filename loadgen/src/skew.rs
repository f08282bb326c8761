//! Which account a command is for: evenly drawn, Zipf-distributed, or mostly one.
//!
//! Owns the distributions; refuses to know accounts beyond their index.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand::distr::{Distribution, Uniform};
use rand_distr::Zipf;

/// How accounts are drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Skew {
    /// All alike.
    Uniform,
    /// The n-th most used account is drawn in proportion to n^-s; s from 0 (not included) to 10.
    Zipf(f64),
    /// So many accounts get half of all commands, the others share the rest.
    Hot(u64),
}

impl FromStr for Skew {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "a skew is uniform, zipf:0.99 or hot:1";
        match text.split_once(':') {
            None if text == "uniform" => Ok(Self::Uniform),
            Some(("zipf", exponent)) => {
                let exponent: f64 = exponent.parse().map_err(|_| form)?;
                if exponent > 0.0 && exponent <= 10.0 {
                    Ok(Self::Zipf(exponent))
                } else {
                    Err("the exponent of zipf lies above 0 and is at most 10".to_owned())
                }
            }
            Some(("hot", accounts)) => match accounts.parse() {
                Ok(0) => Err("hot needs at least one account".to_owned()),
                Ok(accounts) => Ok(Self::Hot(accounts)),
                Err(_) => Err(form.to_owned()),
            },
            _ => Err(form.to_owned()),
        }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::Hot(accounts) => write!(f, "hot:{accounts}"),
        }
    }
}

/// Draws account indexes.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    kind: Kind,
    accounts: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Uniform(Uniform<u64>),
    Zipf(Zipf<f64>),
    Hot { hot: u64, all: Uniform<u64> },
}

impl Draw {
    /// Over that many accounts, at least one.
    ///
    /// # Errors
    /// When there are none, or fewer than are to be hot.
    pub fn new(skew: Skew, accounts: u64) -> Result<Self, String> {
        let all = Uniform::new(0, accounts).map_err(|_| "there is no account to draw".to_owned())?;
        let kind = match skew {
            Skew::Uniform => Kind::Uniform(all),
            #[allow(clippy::cast_precision_loss, reason = "an account's rank, not money")]
            Skew::Zipf(exponent) => Kind::Zipf(Zipf::new(accounts as f64, exponent).map_err(|e| e.to_string())?),
            Skew::Hot(hot) if hot > accounts => {
                return Err(format!("hot:{hot} needs as many accounts, there are {accounts}"));
            }
            Skew::Hot(hot) => Kind::Hot { hot, all },
        };
        Ok(Self { kind, accounts })
    }

    /// An index below the number of accounts.
    pub fn draw(&self, random: &mut impl Rng) -> u64 {
        match self.kind {
            Kind::Uniform(all) => all.sample(random),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank from 1 to the number of accounts"
            )]
            Kind::Zipf(zipf) => scatter((zipf.sample(random) as u64).clamp(1, self.accounts) - 1, self.accounts),
            Kind::Hot { hot, all } => {
                if random.next_u32() & 1 == 0 {
                    u64::from(random.next_u32()) % hot
                } else {
                    all.sample(random)
                }
            }
        }
    }
}

/// Spreads ranks over the indexes, so that the most used accounts are no neighbours: a bijection below `accounts`.
fn scatter(rank: u64, accounts: u64) -> u64 {
    // A prime above 2^32 is coprime to every number of accounts that it does not divide.
    const STEP: u64 = 4_294_967_311;
    if accounts.is_multiple_of(STEP) {
        return rank;
    }
    u64::try_from(u128::from(rank) * u128::from(STEP) % u128::from(accounts)).unwrap_or(rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;
    use std::collections::{BTreeMap, BTreeSet};

    fn counts(skew: &str, accounts: u64, draws: u32) -> BTreeMap<u64, u32> {
        let draw = Draw::new(skew.parse().expect("parses"), accounts).expect("fits");
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut counts = BTreeMap::new();
        (0..draws).for_each(|_| *counts.entry(draw.draw(&mut random)).or_insert(0) += 1);
        counts
    }

    #[test]
    fn uniform_reaches_all_alike() {
        let counts = counts("uniform", 100, 100_000);
        assert_eq!(counts.len(), 100);
        assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn zipf_follows_its_law() {
        let counts = counts("zipf:0.99", 1_000, 1_000_000);
        let mut sorted: Vec<f64> = counts.values().map(|count| f64::from(*count)).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let ratio = sorted[0] / sorted[9];
        assert!((8.5..11.0).contains(&ratio), "the first is drawn 10^0.99 = 9.77 times as often as the tenth: {ratio}");
    }

    #[test]
    fn half_of_all_goes_to_the_hot_ones() {
        let counts = counts("hot:1", 1_000, 100_000);
        let hottest = *counts.values().max().expect("some");
        assert!((49_000..51_500).contains(&hottest), "{hottest}");
    }

    #[test]
    fn scattering_loses_no_account() {
        for accounts in [1, 2, 7, 1_000, 65_536] {
            assert_eq!(
                (0..accounts).map(|rank| scatter(rank, accounts)).collect::<BTreeSet<_>>().len() as u64,
                accounts
            );
        }
    }

    #[test]
    fn what_is_no_skew_is_refused() {
        for bad in ["", "even", "zipf", "zipf:", "zipf:0", "zipf:11", "zipf:NaN", "hot:0", "hot:x", "hot", "uniform:1"]
        {
            assert!(bad.parse::<Skew>().is_err(), "{bad}");
        }
        assert!(Draw::new(Skew::Hot(3), 2).is_err() && Draw::new(Skew::Uniform, 0).is_err());
        for good in ["uniform", "zipf:0.99", "hot:1"] {
            assert_eq!(good.parse::<Skew>().map(|skew| skew.to_string()).as_deref(), Ok(good));
        }
    }
}
