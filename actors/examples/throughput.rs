//! How many durable authorizations a second one thread gets through `client()`, and how long each takes.
//!
//! Opens the accounts, then submits authorizations as fast as the ring takes them (closed loop: latency includes the
//! queueing that the ring's size causes), verifies every reply, and prints the figures.
//!
//! ```text
//! cargo run --release -p tp-actors --example throughput -- [accounts] [authorizations] [in flight] [partitions] [directory]
//! ```
#![allow(clippy::print_stdout, reason = "an example prints its figures")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for reading, not money")]

use std::time::{Duration, Instant};

use tp_actors::tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_actors::tp_core::command::{Authorize, Command, Note, OpenAccount, Settings};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{Client, Config, Engine, View, ViewOptions};

type Failure = Box<dyn std::error::Error>;

fn argument(n: usize, default: u64) -> Result<u64, Failure> {
    Ok(std::env::args().nth(n).map_or(Ok(default), |text| text.parse())?)
}

/// Resident memory of this process, bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Submits all commands with at most the client's capacity in flight; counts replies that are not `expected`.
fn drive(
    client: &mut Client,
    commands: u64,
    mut make: impl FnMut(u64) -> Command,
    mut done: impl FnMut(u64, Outcome),
) -> Duration {
    let start = Instant::now();
    let (mut submitted, mut answered) = (0, 0);
    while answered < commands {
        while submitted < commands {
            if client.submit(submitted, &make(submitted)).is_err() {
                break;
            }
            submitted += 1;
        }
        client.wait(Duration::from_millis(100));
        answered += client.poll(|tag, reply| done(tag, reply.outcome)) as u64;
    }
    start.elapsed()
}

fn main() -> Result<(), Failure> {
    let (accounts, authorizations) = (argument(1, 1_000_000)?, argument(2, 2_000_000)?);
    let in_flight = usize::try_from(argument(3, 4096)?)?;
    let temporary = tempfile::tempdir()?;
    let path: std::path::PathBuf = std::env::args().nth(5).map_or(temporary.path().to_owned(), Into::into);
    let mut config = Config::at(&path);
    config.partitions = usize::try_from(argument(4, config.partitions as u64)?)?;
    let partitions = config.partitions;
    let ledger = Ledger::new("EUR", 2).ok_or("a ledger")?;

    let before = resident();
    let engine = Engine::open(config)?;
    let mut client = engine.client(in_flight);
    let mut settings = Settings::new(ledger);
    settings.credit_limit = CreditLimit::Unlimited;
    let mut refused = 0;
    let mut opened_as = std::collections::BTreeMap::new();
    let mut outcomes = std::collections::BTreeMap::new();
    let took = drive(
        &mut client,
        accounts,
        |n| {
            let account = AccountId(u128::from(n) + 1);
            OpenAccount { key: Key::opaque(account.0), account, settings, note: Note::default() }.into()
        },
        |_, outcome| *opened_as.entry(outcome.name()).or_insert(0_u64) += 1,
    );
    println!(
        "accounts      {accounts} in {took:?}, {} bytes resident each, keys included",
        (resident() - before) / accounts.max(1)
    );
    println!("opened        {opened_as:?}");
    let opened = engine.status().writer;

    let mut sent = vec![Instant::now(); usize::try_from(authorizations)?];
    let mut latency_us: Vec<u32> = vec![0; sent.len()];
    let sent = std::cell::RefCell::new(&mut sent);
    let mut state = 88_172_645_463_325_252_u64;
    let took = drive(
        &mut client,
        authorizations,
        |n| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let account = AccountId(u128::from(state % accounts) + 1);
            let key = Key::opaque((1 << 64) + u128::from(n));
            sent.borrow_mut()[n as usize] = Instant::now();
            Authorize::new(key, account, ledger, Amount::from(1 + state % 10_000)).into()
        },
        |tag, outcome| {
            *outcomes.entry(outcome.name()).or_insert(0_u64) += 1;
            refused += u64::from(outcome != Outcome::Approved);
            let micros = sent.borrow()[tag as usize].elapsed().as_micros();
            latency_us[tag as usize] = u32::try_from(micros).unwrap_or(u32::MAX);
        },
    );
    latency_us.sort_unstable();
    let at = |per_mille: usize| latency_us[(latency_us.len() - 1) * per_mille / 1000];
    let writer = engine.status().writer;
    let (frames, events) = (writer.frames - opened.frames, writer.events - opened.events);
    println!(
        "authorize     {:.0} durable a second ({authorizations} in {took:?}, {in_flight} in flight)",
        authorizations as f64 / took.as_secs_f64()
    );
    println!("outcomes      {outcomes:?}");
    println!("latency       p50 {} us, p99 {} us, p99.9 {} us, max {} us", at(500), at(990), at(999), at(1000));
    println!(
        "journal       {} bytes an event, {} events a frame",
        (writer.event_bytes - opened.event_bytes) / events.max(1),
        events / frames.max(1)
    );
    println!("append        {} us at most", writer.append_us_max);
    let status = engine.status();
    for (n, p) in status.partitions.iter().enumerate() {
        println!(
            "partition {n}   {} turns, {} events, {} put off, {} busy",
            p.turns, p.events, p.turns_put_off, p.busy
        );
    }
    engine.close_blocking()?;
    let start = Instant::now();
    let view = View::open(&path, ViewOptions { use_checkpoint: false, ..ViewOptions::default() })?;
    let replayed = view.last_seq().0;
    println!(
        "replay        {:.0} events a second ({replayed} from the journal alone)",
        replayed as f64 / start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    let engine = Engine::open(Config { partitions, ..Config::at(&path) })?;
    println!("restart       {:?} with the checkpoint of the close", start.elapsed());
    drop(engine);
    if refused == 0 { Ok(()) } else { Err(format!("{refused} refused").into()) }
}
