//! A disk that costs virtual time: while a sync is under way, everything but the writer goes on.
//!
//! Owns the thread on which the engine's writer runs, and when its syncs are through. Refuses to know loads and answers.
//! The two threads never run at the same time: the owner waits while the writer works, the writer waits while its sync is
//! under way. So a run depends on nothing but its owner's choices.
//!
//! ```text
//!  owner --go--> writer: collect, write, sync begins --told--> owner: partitions, clients, time, until the sync is through
//!        --go--> writer: sync returns, publish       --told--> owner
//! ```
//!
//! Only the writer's own syncs cost time; those of its helper, which makes spare segments, cost none.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tp_actors::{ManualEngine, ManualWriter, Work};
use tp_storage::Pace;

/// What a disk is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Speed {
    /// What each sync costs, µs.
    pub latency_us: u64,
    /// How fast the bytes of a sync are taken.
    pub bytes_per_second: u64,
}

impl Speed {
    fn cost_us(self, bytes: u64) -> u64 {
        self.latency_us + bytes.saturating_mul(1_000_000) / self.bytes_per_second.max(1)
    }
}

/// What the writer's thread tells the owner.
enum Told {
    /// A sync of so many bytes begins.
    Sync(u64),
    /// The writer did one thing.
    Turned(Work),
}

struct Ends {
    told: SyncSender<Told>,
    go: Receiver<()>,
}

thread_local! {
    /// On the writer's thread only.
    static ENDS: RefCell<Option<Ends>> = const { RefCell::new(None) };
}

/// Waits for the owner; `false`: it has gone.
fn may_go() -> bool {
    ENDS.with_borrow(|ends| ends.as_ref().is_some_and(|ends| ends.go.recv().is_ok()))
}

fn tell(what: Told) {
    // An owner that has gone waits for nothing.
    let _ = ENDS.with_borrow(|ends| ends.as_ref().map(|ends| ends.told.send(what)));
}

/// Holds the syncs of the writer's thread until the owner lets them return.
pub(crate) struct Gate;

impl Pace for Gate {
    fn wait(&self, bytes: u64) {
        if ENDS.with_borrow(Option::is_some) {
            tell(Told::Sync(bytes));
            may_go();
        }
    }
}

/// The virtual disk, and the writer at it.
pub(crate) struct Disk {
    speed: Speed,
    go: SyncSender<()>,
    told: Receiver<Told>,
    thread: JoinHandle<ManualWriter>,
    /// When the sync under way is through, µs.
    due_us: Option<u64>,
    /// The last event that was made when the sync under way began.
    made: u64,
    /// No event above this can be durable: it was not made when the last sync that returned began.
    reach: u64,
    /// The next sync takes so much longer, µs.
    stall_us: u64,
    pub(crate) syncs: u64,
}

impl Disk {
    /// Takes the engine's writer to a thread of its own.
    pub(crate) fn new(engine: &mut ManualEngine, speed: Speed) -> Self {
        let mut writer = engine.take_writer().expect("it was not taken before");
        let (go, orders) = sync_channel(0);
        let (tell_owner, told) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            ENDS.set(Some(Ends { told: tell_owner, go: orders }));
            while may_go() {
                let work = writer.write();
                tell(Told::Turned(work));
            }
            ENDS.set(None);
            writer
        });
        let reach = engine.last_seq().0;
        Self { speed, go, told, thread, due_us: None, made: reach, reach, stall_us: 0, syncs: 0 }
    }

    /// The writer does what it can at this time. Nothing of it takes time but its syncs.
    pub(crate) fn turn(&mut self, engine: &ManualEngine, now_us: u64) {
        if self.due_us.is_some_and(|due_us| due_us > now_us) {
            return;
        }
        if self.due_us.take().is_some() {
            self.reach = self.made;
        }
        loop {
            self.go.send(()).expect("the writer does not end by itself");
            match self.told.recv().expect("the writer does not panic: the engine would be poisoned") {
                Told::Sync(bytes) => {
                    let cost_us = self.speed.cost_us(bytes) + std::mem::take(&mut self.stall_us);
                    self.due_us = Some(now_us + cost_us);
                    self.made = engine.last_seq().0;
                    self.syncs += 1;
                    return;
                }
                Told::Turned(Work::Rests) => return,
                Told::Turned(Work::Made) => {}
            }
        }
    }

    /// When the sync under way is through, µs.
    pub(crate) const fn due_us(&self) -> Option<u64> {
        self.due_us
    }

    /// No event above this can be durable.
    pub(crate) const fn reach(&self) -> u64 {
        self.reach
    }

    /// The next sync takes so much longer.
    pub(crate) const fn stall(&mut self, us: u64) {
        self.stall_us = us;
    }

    /// The sync under way returns, and the engine has its writer back.
    pub(crate) fn end(self, engine: &mut ManualEngine) {
        drop((self.go, self.told));
        engine.give_writer(self.thread.join().expect("the writer does not panic"));
    }
}
