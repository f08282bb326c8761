//! The mix of commands: `authorize=60,capture=25,void=5,refund=3,lookup=7`.
//!
//! Owns its grammar and the weighted draw; refuses to know what the commands do.

use std::fmt;
use std::str::FromStr;

use rand::Rng;

/// What the generator sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A new hold.
    Authorize,
    /// Raises a hold.
    Increment,
    /// Posts (part of) a hold to a payee and releases the rest.
    Capture,
    /// Releases a hold.
    Void,
    /// Gives captured money back.
    Refund,
    /// Undoes an authorization.
    Reverse,
    /// Moves money at once.
    Transfer,
    /// Asks what became of an earlier command.
    Lookup,
    /// Reads an account.
    Read,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Authorize,
        Self::Increment,
        Self::Capture,
        Self::Void,
        Self::Refund,
        Self::Reverse,
        Self::Transfer,
        Self::Lookup,
        Self::Read,
    ];

    /// The name in mixes and reports: the verb's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorize => "authorize",
            Self::Increment => "increment",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Reverse => "reverse",
            Self::Transfer => "transfer",
            Self::Lookup => "lookup",
            Self::Read => "read",
        }
    }
}

/// Weights of the kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mix {
    weights: [u32; Kind::ALL.len()],
    sum: u32,
}

impl Default for Mix {
    fn default() -> Self {
        let mut mix = Self { weights: [0; Kind::ALL.len()], sum: 0 };
        let shares =
            [(Kind::Authorize, 60), (Kind::Capture, 25), (Kind::Void, 5), (Kind::Refund, 3), (Kind::Lookup, 7)];
        for (kind, weight) in shares {
            mix.weights[kind as usize] = weight;
            mix.sum += weight;
        }
        mix
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { weights: [0; Kind::ALL.len()], sum: 0 };
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let known = || Kind::ALL.map(Kind::name).join(", ");
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            let kind =
                kind.ok_or_else(|| format!("'{}' is not a command of a mix; there are {}", name.trim(), known()))?;
            let weight: u32 =
                weight.trim().parse().map_err(|_| format!("'{weight}' is not a weight (0 to 1000000)"))?;
            if weight > 1_000_000 {
                return Err("a weight is at most 1000000".to_owned());
            }
            if mix.weights[kind as usize] > 0 {
                return Err(format!("{} stands in the mix twice", kind.name()));
            }
            mix.weights[kind as usize] = weight;
            mix.sum += weight;
        }
        let feeds = mix.weight(Kind::Authorize) > 0;
        let eats = [Kind::Increment, Kind::Capture, Kind::Void, Kind::Refund, Kind::Reverse];
        if mix.sum == 0 {
            Err("a mix needs a weight above 0".to_owned())
        } else if let Some(kind) = eats.into_iter().find(|kind| !feeds && mix.weight(*kind) > 0) {
            Err(format!("{} needs authorizations: give authorize a weight", kind.name()))
        } else if mix.weight(Kind::Refund) > 0 && mix.weight(Kind::Capture) == 0 {
            Err("refund needs captures: give capture a weight".to_owned())
        } else {
            Ok(mix)
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = Kind::ALL.into_iter().filter(|kind| self.weight(*kind) > 0);
        let parts: Vec<_> = parts.map(|kind| format!("{}={}", kind.name(), self.weight(kind))).collect();
        f.write_str(&parts.join(","))
    }
}

impl Mix {
    /// Whether it makes and shows holds, and does nothing with them.
    pub fn only_holds(&self) -> bool {
        let quiet = [Kind::Authorize, Kind::Lookup, Kind::Read].map(|kind| self.weights[kind as usize]);
        quiet.iter().sum::<u32>() == self.sum
    }

    /// How often one kind is drawn, among the sum of all.
    pub const fn weight(&self, kind: Kind) -> u32 {
        self.weights[kind as usize]
    }

    /// Draws a kind.
    pub fn draw(&self, random: &mut impl Rng) -> Kind {
        let mut at = (u64::from(random.next_u32()) * u64::from(self.sum)) >> 32;
        for kind in Kind::ALL {
            let weight = u64::from(self.weights[kind as usize]);
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Kind::Authorize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn a_mix_is_drawn_by_its_weights() {
        let mix: Mix = "authorize=60,capture=25,void=5,refund=3,lookup=7".parse().expect("parses");
        assert_eq!(
            (mix, mix.to_string().as_str()),
            (Mix::default(), "authorize=60,capture=25,void=5,refund=3,lookup=7")
        );
        let mut random = Pcg64Mcg::seed_from_u64(1);
        let mut counts = [0_u32; Kind::ALL.len()];
        (0..100_000).for_each(|_| counts[mix.draw(&mut random) as usize] += 1);
        for kind in Kind::ALL {
            let expected = mix.weight(kind) * 1_000;
            assert!(
                counts[kind as usize].abs_diff(expected) <= expected / 10 + 100 * u32::from(expected > 0),
                "{kind:?} {counts:?}"
            );
        }
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for bad in [
            "",
            "authorize=0",
            "pay=1",
            "authorize=x",
            "authorize=-1",
            "authorize=1,authorize=2",
            "capture=1",
            "authorize=1,refund=1",
            "authorize=1000001",
        ] {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
        assert_eq!("authorize".parse::<Mix>().map(|mix| mix.weight(Kind::Authorize)), Ok(1));
    }
}
