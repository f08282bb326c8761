//! Engine time: it never falls and never jumps.
//!
//! Owns the steering as a plain step function ([`Steering`]) and the shared clock around it; refuses to know who asks.
//! Invariants: CLK-1 `now` never falls; CLK-2 the system clock's steering is at most 1 ms a second; CLK-3 it starts from
//! the latest of the wall clock and every recorded time.
//!
//! ```text
//! wall clock --(once a second, at most 1 ms each)--> offset --+
//! monotonic clock --------------------------------------------+--> max with the latest said --> now
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tp_core::time::{DAY_MS, Time};
use tp_planted::{Bug, has};

/// A system clock further off than this raises the alarm, ms.
pub(crate) const ALARM_MS: u64 = 1_000;
/// A wall clock further than this from the last recorded time is not believed, ms.
pub(crate) const REFUSED_MS: u64 = 7 * DAY_MS;

/// Where engine time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The monotonic clock, steered to the wall clock by at most 1 ms a second.
    System,
    /// Driven by the embedder: tests, import of history. Deadlines still run on the monotonic clock.
    Given(GivenClock),
    /// Both clocks of a machine, moved by the embedder: for simulation. Engine time is steered as by the system clock.
    Machine(MachineClocks),
}

impl Clock {
    /// The steered system clock.
    pub const fn system() -> Self {
        Self::System
    }

    /// Driven through this handle.
    pub fn given(clock: GivenClock) -> Self {
        Self::Given(clock)
    }

    /// What the wall clock says now, ms since 1970; `None`: there is none to be believed or not.
    pub(crate) fn wall_ms(&self) -> Option<u64> {
        match self {
            Self::System => u64::try_from(system_wall_us() / 1000).ok(),
            Self::Given(_) => None,
            Self::Machine(clocks) => Some(clocks.wall().0),
        }
    }
}

/// The monotonic clock and the wall clock of a machine that is simulated. Clones move the same clocks.
#[derive(Clone, Debug, Default)]
pub struct MachineClocks {
    monotonic_us: Arc<AtomicU64>,
    wall_us: Arc<AtomicU64>,
}

impl MachineClocks {
    /// The monotonic clock at zero, the wall clock at that time.
    pub fn new(wall: Time) -> Self {
        let clocks = Self::default();
        clocks.set_wall(wall);
        clocks
    }

    /// Lets time pass on both, µs.
    pub fn pass(&self, us: u64) {
        self.monotonic_us.fetch_add(us, Ordering::AcqRel);
        self.wall_us.fetch_add(us, Ordering::AcqRel);
    }

    /// Sets the wall clock, to an earlier or later time.
    pub fn set_wall(&self, wall: Time) {
        self.wall_us.store(wall.0.min(Time::MAX.0) * 1000, Ordering::Release);
    }

    /// What the wall clock says.
    pub fn wall(&self) -> Time {
        Time(self.wall_us.load(Ordering::Acquire) / 1000)
    }
}

/// A clock that its owner moves. Clones move the same clock.
#[derive(Clone, Debug)]
pub struct GivenClock {
    time: Arc<AtomicU64>,
}

impl GivenClock {
    /// Stands at that time. An engine opened with it starts at the later of it and all recorded times.
    pub fn new(start: Time) -> Self {
        Self { time: Arc::new(AtomicU64::new(start.0.min(Time::MAX.0))) }
    }

    /// Moves it forward; an earlier time changes nothing. Returns where it stands.
    pub fn set(&self, time: Time) -> Time {
        let time = time.0.min(Time::MAX.0);
        Time(self.time.fetch_max(time, Ordering::AcqRel).max(time))
    }

    /// Where it stands.
    pub fn now(&self) -> Time {
        Time(self.time.load(Ordering::Acquire))
    }
}

/// How far the offset may go in one step, and whether that is alarming: pure, so that tests drive it through years.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Steering {
    /// To be added to the offset, µs.
    pub(crate) step_us: i64,
    /// Whether the difference is more than the steering is meant for.
    pub(crate) is_alarming: bool,
}

impl Steering {
    /// `engine_us` and `wall_us` are Unix microseconds, `elapsed_us` the time since the last step.
    pub(crate) fn of(engine_us: i64, wall_us: i64, elapsed_us: u64) -> Self {
        let difference = wall_us.saturating_sub(engine_us);
        let most = i64::try_from(elapsed_us / 1000).unwrap_or(i64::MAX);
        Self { step_us: difference.clamp(-most, most), is_alarming: difference.unsigned_abs() > ALARM_MS * 1000 }
    }
}

/// What the wall clock says now, µs since 1970; before 1970: 0.
fn system_wall_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

fn wall_us(clock: &Clock) -> i64 {
    match clock {
        Clock::System | Clock::Given(_) => system_wall_us(),
        Clock::Machine(clocks) => i64::try_from(clocks.wall_us.load(Ordering::Acquire)).unwrap_or(i64::MAX),
    }
}

/// The engine's clocks, shared by its threads.
#[derive(Debug)]
pub(crate) struct EngineClock {
    clock: Clock,
    started: Instant,
    /// Where the monotonic clock of a simulated machine stood at the start, µs.
    started_us: u64,
    /// Engine time minus monotonic time, µs.
    offset_us: AtomicI64,
    steered_us: AtomicU64,
    /// The latest time said or recorded.
    latest: AtomicU64,
    difference_ms: AtomicI64,
    alarm: AtomicBool,
}

impl EngineClock {
    /// Starts at the latest of the clock and `recorded` (CLK-3).
    pub(crate) fn start(clock: &Clock, recorded: Time) -> Self {
        let started_us = match clock {
            Clock::Machine(clocks) => clocks.monotonic_us.load(Ordering::Acquire),
            Clock::System | Clock::Given(_) => 0,
        };
        let recorded = if has(Bug::TimeFalls) { Time(0) } else { recorded };
        let recorded_us = i64::try_from(recorded.0.min(Time::MAX.0) * 1000).unwrap_or(i64::MAX);
        Self {
            clock: clock.clone(),
            started: Instant::now(),
            started_us,
            offset_us: AtomicI64::new(wall_us(clock).max(recorded_us)),
            steered_us: AtomicU64::new(0),
            latest: AtomicU64::new(recorded.0.min(Time::MAX.0)),
            difference_ms: AtomicI64::new(0),
            alarm: AtomicBool::new(false),
        }
    }

    fn monotonic_us(&self) -> u64 {
        match &self.clock {
            Clock::Machine(clocks) => clocks.monotonic_us.load(Ordering::Acquire).saturating_sub(self.started_us),
            Clock::System | Clock::Given(_) => u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The clock of deadlines: ms since the start.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.monotonic_us() / 1000
    }

    fn engine_us(&self) -> i64 {
        let monotonic = i64::try_from(self.monotonic_us()).unwrap_or(i64::MAX);
        self.offset_us.load(Ordering::Acquire).saturating_add(monotonic)
    }

    /// Engine time (CLK-1).
    pub(crate) fn now(&self) -> Time {
        let raw = match &self.clock {
            Clock::Given(given) => given.now().0,
            Clock::System | Clock::Machine(_) => u64::try_from(self.engine_us() / 1000).unwrap_or(0).min(Time::MAX.0),
        };
        let latest = self.latest.load(Ordering::Acquire);
        if raw <= latest { Time(latest) } else { Time(self.latest.fetch_max(raw, Ordering::AcqRel).max(raw)) }
    }

    /// To be called about once a second by one thread (CLK-2).
    pub(crate) fn steer(&self) {
        if matches!(self.clock, Clock::Given(_)) {
            return;
        }
        let monotonic = self.monotonic_us();
        let elapsed = monotonic.saturating_sub(self.steered_us.swap(monotonic, Ordering::AcqRel));
        let (engine, wall) = (self.engine_us(), wall_us(&self.clock));
        let steering = Steering::of(engine, wall, elapsed);
        self.offset_us.fetch_add(steering.step_us, Ordering::AcqRel);
        self.difference_ms.store((wall - engine) / 1000, Ordering::Release);
        self.alarm.store(steering.is_alarming, Ordering::Release);
    }

    /// Wall clock minus engine time at the last steering, ms, and whether that is alarming.
    pub(crate) fn difference(&self) -> (i64, bool) {
        (self.difference_ms.load(Ordering::Acquire), self.alarm.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steering_never_exceeds_a_millisecond_a_second_whatever_the_wall_clock_does() {
        let mut engine: i64 = 1_700_000_000_000_000;
        for wall_jump in [0, 500, -500, 1_000_000, -315_360_000_000_000, 315_360_000_000_000] {
            let steering = Steering::of(engine, engine + wall_jump, 1_000_000);
            assert!(steering.step_us.abs() <= 1000, "{steering:?}");
            assert_eq!(steering.is_alarming, wall_jump.abs() > 1_000_000);
            engine += 1_000_000 + steering.step_us;
        }
        assert_eq!(Steering::of(0, -300, 1_000_000).step_us, -300, "a small difference is taken away whole");
    }

    #[test]
    fn a_clock_starts_at_the_latest_recorded_time_and_never_falls() {
        let ahead = Time(Clock::System.wall_ms().expect("after 1970") + 3_600_000);
        let clock = EngineClock::start(&Clock::system(), ahead);
        let mut last = clock.now();
        assert!(last >= ahead);
        for _ in 0..100 {
            clock.offset_us.fetch_sub(5_000, Ordering::AcqRel);
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn a_machines_wall_clock_may_jump_and_engine_time_follows_slowly() {
        let machine = MachineClocks::new(Time(5_000_000));
        machine.pass(7_000);
        let clock = EngineClock::start(&Clock::Machine(machine.clone()), Time(0));
        assert_eq!((clock.now(), clock.monotonic_ms()), (Time(5_000_007), 0));
        machine.set_wall(Time(1_000));
        for second in 1..=3u64 {
            machine.pass(1_000_000);
            clock.steer();
            assert_eq!(clock.monotonic_ms(), second * 1000);
            assert_eq!(clock.now(), Time(5_000_007 + second * 999), "a millisecond a second");
        }
        assert!(clock.difference().1, "and the alarm is raised");
    }

    #[test]
    fn a_given_clock_only_goes_forward() {
        let given = GivenClock::new(Time(1000));
        let clock = EngineClock::start(&Clock::given(given.clone()), Time(500));
        assert_eq!(clock.now(), Time(1000));
        given.set(Time(900));
        assert_eq!(clock.now(), Time(1000));
        given.set(Time(2000));
        assert_eq!(clock.now(), Time(2000));
        let later = EngineClock::start(&Clock::given(given), Time(5000));
        assert_eq!(later.now(), Time(5000));
    }
}
