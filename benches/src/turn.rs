//! `turn`: authorizations through a partition's turns, for an exact count of instructions.
//!
//! ```text
//! cargo build --release -p tp-benches --bin turn
//! valgrind --tool=callgrind --toggle-collect='*measured*' --callgrind-out-file=turn.out target/release/turn
//! ```
//!
//! Callgrind's total divided by the number of authorizations is what one costs: decide, evolve, stamp, encode, reply. One thread, no
//! queues, no journal. Owns the work that is counted; refuses to measure time, which the `commands` bench does.

use std::hint::black_box;
use std::io::Write as _;
use std::iter::empty;

use tp_benches::bank::{BATCH, Bank};
use tp_benches::make;
use tp_core::codec::{self, EventBytes};
use tp_core::turn::Submission;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Authorizations that are counted.
const COUNT: u64 = 102_400;
/// Accounts: more than the caches hold.
const ACCOUNTS: u64 = 100_000;

fn main() -> std::io::Result<()> {
    let mut bank = Bank::new(1, ACCOUNTS);
    let authorize = |bank: &mut Bank| make::authorize(bank.key(), bank.account(), bank.minor());
    // Tables and blocks have their size before the count begins.
    let warm: Vec<Submission> = (0..COUNT).map(|_| Bank::submission(0, authorize(&mut bank))).collect();
    let counted: Vec<Submission> = (0..COUNT).map(|_| Bank::submission(0, authorize(&mut bank))).collect();
    let mut bytes = EventBytes::new();
    let (_, before) = (measured(&mut bank, warm, &mut bytes), bytes.len());
    let approved = measured(&mut bank, counted, &mut bytes);
    assert_eq!(approved, COUNT, "every authorization is approved");
    let per_event = (bytes.len() - before) as u64 / COUNT;
    writeln!(std::io::stdout(), "{} authorizations in turns of {BATCH}, {per_event} bytes of events each", 2 * COUNT)
}

/// What is counted.
#[inline(never)]
fn measured(bank: &mut Bank, submissions: Vec<Submission>, bytes: &mut EventBytes) -> u64 {
    let (mut queue, mut approved) = (submissions.into_iter(), 0);
    while queue.len() > 0 {
        bank.turn(0, &mut empty(), &mut queue.by_ref().take(BATCH));
        for event in &bank.out.events {
            codec::encode(event, bytes);
        }
        approved += bank.out.answers.iter().filter(|answer| answer.reply.outcome.is_approval()).count() as u64;
    }
    black_box(approved)
}
