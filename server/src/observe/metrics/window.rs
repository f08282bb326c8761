//! The last minute, second by second: what the status page shows without a time series store.
//!
//! Owns a ring of seconds in each of a few shards; a thread always records into the same one, so that its lock is all but never
//! waited for. Everything is allocated at the start: a second's counts and its histogram of latencies are cleared when the ring comes round.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Serialize;
use tp_actors::tp_core::outcome::Outcome;

/// Seconds that are shown.
pub(crate) const SHOWN_SECONDS: u64 = 60;
/// Seconds that are kept: those, the current one, and some for threads that come late.
const RING_SECONDS: u64 = 64;
/// Shards. More threads than these share one.
const SHARDS: usize = 4;
/// Latencies are kept up to a minute, in µs, to 1 %.
const LATENCY_MAX_US: u64 = 60_000_000;

/// What became of a command, roughly: the lines of the status page's chart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// It had its effect.
    Approved,
    /// A decision, or an answer, that is "no".
    Refused,
    /// Not looked at: busy, no room, too late, stopping. To be repeated.
    TurnedAway,
    /// A bug.
    Failed,
}

impl Class {
    pub(crate) const fn of(outcome: Outcome) -> Self {
        match outcome {
            _ if outcome.is_approval() => Self::Approved,
            Outcome::SystemError => Self::Failed,
            Outcome::Malformed => Self::Refused,
            _ if outcome.leaves_at_once() => Self::TurnedAway,
            _ => Self::Refused,
        }
    }
}

/// Counts of one second.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct SecondCounts {
    /// HTTP requests answered, of every route.
    pub requests: u64,
    /// Commands that had their effect.
    pub approved: u64,
    /// Commands that were refused.
    pub refused: u64,
    /// Commands that were not looked at: busy, no room, too late, stopping.
    pub turned_away: u64,
    /// Commands that met a bug.
    pub failed: u64,
}

impl SecondCounts {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.approved += other.approved;
        self.refused += other.refused;
        self.turned_away += other.turned_away;
        self.failed += other.failed;
    }
}

/// Latencies of requests that reached the engine, from their head to the encoded reply. µs, to 1 %.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Latencies {
    /// How many requests.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Latencies {
    fn of(all: &Histogram<u32>) -> Self {
        Self {
            count: all.len(),
            p50_us: all.value_at_quantile(0.5),
            p90_us: all.value_at_quantile(0.9),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
            max_us: all.max(),
        }
    }
}

/// What the window saw.
pub(crate) struct Seen {
    /// The last complete seconds, oldest first; fewer while the server is young.
    pub(crate) seconds: Vec<SecondCounts>,
    pub(crate) latency_10s: Latencies,
    pub(crate) latency_60s: Latencies,
}

struct Second {
    /// Since the epoch; what is in the ring's place may be older than what is asked for.
    number: u64,
    counts: SecondCounts,
    latencies: Histogram<u32>,
}

/// The last minute.
pub(crate) struct Window {
    epoch: Instant,
    shards: Box<[Mutex<Box<[Second]>>]>,
}

impl Window {
    pub(crate) fn new(epoch: Instant) -> Self {
        let shard =
            || (0..RING_SECONDS).map(|_| Second { number: 0, counts: SecondCounts::default(), latencies: latencies() });
        Self { epoch, shards: (0..SHARDS).map(|_| Mutex::new(shard().collect())).collect() }
    }

    /// One HTTP request that was answered at that moment; its latency, if it reached the engine.
    pub(crate) fn request(&self, at: Instant, latency: Option<Duration>) {
        self.with(at, |second| {
            second.counts.requests += 1;
            if let Some(latency) = latency {
                second.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
        });
    }

    /// One command that was answered at that moment.
    pub(crate) fn command(&self, at: Instant, class: Class) {
        self.with(at, |second| match class {
            Class::Approved => second.counts.approved += 1,
            Class::Refused => second.counts.refused += 1,
            Class::TurnedAway => second.counts.turned_away += 1,
            Class::Failed => second.counts.failed += 1,
        });
    }

    fn with(&self, at: Instant, change: impl FnOnce(&mut Second)) {
        let number = self.number(at);
        let mut shard = self.shards[shard_of_this_thread()].lock();
        let second = &mut shard[place(number)];
        if second.number < number {
            (second.number, second.counts) = (number, SecondCounts::default());
            second.latencies.reset();
        }
        // A thread that slept for a minute before it recorded: its second is gone.
        if second.number == number {
            change(second);
        }
    }

    /// The complete seconds before `now`.
    pub(crate) fn seen(&self, now: Instant) -> Seen {
        let end = self.number(now);
        let mut seconds = Vec::new();
        let (mut last_10, mut last_60) = (latencies(), latencies());
        for number in end.saturating_sub(SHOWN_SECONDS)..end {
            let mut counts = SecondCounts::default();
            for shard in &self.shards {
                let shard = shard.lock();
                let second = &shard[place(number)];
                if second.number != number {
                    continue;
                }
                counts.add(&second.counts);
                let target = if number + 10 >= end { &mut last_10 } else { &mut last_60 };
                target.add(&second.latencies).expect("both have the same range");
            }
            seconds.push(counts);
        }
        last_60.add(&last_10).expect("both have the same range");
        Seen { seconds, latency_10s: Latencies::of(&last_10), latency_60s: Latencies::of(&last_60) }
    }

    fn number(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_secs()
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % RING_SECONDS).expect("below 64")
}

/// Counts of 32 bits: 70 million requests a second for a minute.
fn latencies() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("constants within the range")
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! { static SHARD: Cell<Option<usize>> = const { Cell::new(None) }; }
    SHARD.with(|shard| {
        shard.get().unwrap_or_else(|| {
            let drawn = NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS;
            shard.set(Some(drawn));
            drawn
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_second_is_shown_when_it_is_complete() {
        let epoch = Instant::now();
        let window = Window::new(epoch);
        window.command(epoch + MS(100), Class::Approved);
        window.command(epoch + MS(999), Class::TurnedAway);
        window.request(epoch + MS(1000), Some(MS(2)));
        assert!(window.seen(epoch + MS(999)).seconds.is_empty());
        let seen = window.seen(epoch + MS(1500));
        assert_eq!(seen.seconds, [SecondCounts { approved: 1, turned_away: 1, ..SecondCounts::default() }]);
        assert_eq!(seen.latency_10s.count, 0);
        let seen = window.seen(epoch + MS(2000));
        assert_eq!((seen.seconds[1].requests, seen.latency_10s.count), (1, 1));
    }

    #[test]
    fn what_is_older_than_a_minute_is_forgotten_and_never_seen_again_when_the_ring_comes_round() {
        let epoch = Instant::now();
        let window = Window::new(epoch);
        window.request(epoch, Some(MS(7)));
        assert_eq!(window.seen(epoch + MS(60_000)).latency_60s.count, 1);
        let seen = window.seen(epoch + MS(61_000));
        assert_eq!((seen.latency_60s.count, seen.seconds.len()), (0, 60));
        window.request(epoch + MS(64_000), None);
        window.request(epoch, Some(MS(7)));
        let seen = window.seen(epoch + MS(65_000));
        assert_eq!((seen.seconds[59].requests, seen.latency_60s.count), (1, 0));
    }

    #[test]
    fn the_ten_seconds_are_part_of_the_sixty_and_percentiles_are_those_of_all_threads() {
        let epoch = Instant::now();
        let window = Window::new(epoch);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let window = &window;
                scope.spawn(move || {
                    for ms in 0..125_u64 {
                        window.request(epoch + MS(thread * 3000), Some(MS(1 + ms * 8 + thread)));
                    }
                });
            }
        });
        window.request(epoch + MS(14_999), Some(MS(500)));
        let seen = window.seen(epoch + MS(25_000));
        assert_eq!((seen.latency_10s.count, seen.latency_60s.count), (375, 1001));
        let near = |us: u64, expected: u64| assert!(us.abs_diff(expected) <= expected / 100, "{us} {expected}");
        near(seen.latency_60s.p50_us, 500_000);
        near(seen.latency_60s.p90_us, 900_000);
        near(seen.latency_60s.p99_us, 990_000);
        near(seen.latency_60s.p999_us, 999_000);
        near(seen.latency_60s.max_us, 1_000_000);
    }

    #[test]
    fn every_outcome_has_the_class_that_its_status_code_says() {
        let of = |class| Outcome::ALL.iter().filter(|o| Class::of(**o) == class).map(|o| o.name()).collect::<Vec<_>>();
        assert_eq!(of(Class::Failed), ["system_error"]);
        assert_eq!(of(Class::TurnedAway), ["in_progress", "busy", "deadline_exceeded", "no_space", "stopping"]);
        assert_eq!(of(Class::Approved).len(), 6);
        assert!(of(Class::Refused).contains(&"insufficient_funds") && of(Class::Refused).contains(&"malformed"));
    }
}
