//! The audit over the network: is every recorded acknowledgement known to the server, with the outcome and the number that were
//! answered?
//!
//! Owns the questions; the file and the verdict are the audit's. Weaker than an audit of the directory in one way: a key whose
//! window has passed is no longer known to the server, and counts as not proved.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, Result};
use tpcore::{AccountId, Lookup, Outcome};

use super::{Network, NetworkPlan};
use crate::audit::{Audited, read};
use crate::driver::closed_loop;
use crate::target::Target as _;

/// Lookups under way at a time.
const IN_FLIGHT: usize = 2048;
/// The API's ids are the lower 96 bits of what the recorder wrote.
const API_MASK: u128 = (1 << 96) - 1;

/// Looks every acknowledgement of a file up.
///
/// # Errors
/// When the file is not one of acknowledgements, or the server does not answer.
pub fn audit(plan: &NetworkPlan, acks: &Path) -> Result<Audited> {
    let text = std::fs::read_to_string(acks).with_context(|| format!("cannot read {}", acks.display()))?;
    let mut audited = Audited { server: Some(plan.endpoint.to_string()), ..Audited::default() };
    let wanted = read(&text, &mut audited).with_context(|| acks.display().to_string())?;
    audited.keys = wanted.len() as u64;
    let mut wanted: Vec<_> = wanted.into_iter().collect();
    wanted.sort_unstable_by_key(|(_, ack)| ack.seq);
    let network = Network::open(plan)?;
    let mut session = network.bulk_session(IN_FLIGHT)?;
    let at = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let looked_up = closed_loop(
        &mut *session,
        IN_FLIGHT,
        audited.keys,
        |n| {
            let (account, key) = wanted[at(n)].0;
            Lookup { account: AccountId(account.0 & API_MASK), key, fence: false }.into()
        },
        |n, reply| {
            let ((_, key), ack) = wanted[at(n)];
            if (reply.outcome, reply.seq.0) == (ack.outcome, ack.seq) {
                audited.found += 1;
                return Ok(());
            }
            audited.wrong(|| {
                let was = format!("key {:032x} was answered {} as event {}", key.bits, ack.outcome, ack.seq);
                match reply.outcome {
                    Outcome::OriginalNotFound => format!("{was}: the server does not know it"),
                    Outcome::KeyExpired => {
                        format!("{was}: its window has passed, so the server cannot say; audit the directory")
                    }
                    outcome => format!("{was}: the server says {outcome} as event {}", reply.seq),
                }
            });
            Ok(())
        },
        &AtomicBool::new(false),
    );
    network.fault().map_or(looked_up, Err)?;
    Ok(audited)
}
