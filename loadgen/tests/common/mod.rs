//! What the tests with real processes share: the report of a run, and the times in a journal.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::Value;
use tpcore::event::Body;
use tpcore::{AccountId, AuthorizationId, Seq, Time, UpTo, View};

pub(crate) const LOADGEN: &str = env!("CARGO_BIN_EXE_tp-loadgen");

/// The JSON that a run wrote: the money is right, whatever else was missed.
#[track_caller]
pub(crate) fn report(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["money_ok"], true, "{:#}", report["money"]);
    report
}

/// The times of a journal's events.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) last_seq: Seq,
    /// The earliest and the latest of the events looked at.
    pub(crate) earliest: Option<Time>,
    pub(crate) latest: Option<Time>,
    pub(crate) expiries: u64,
}

/// Walks a journal and looks at the events after `after`. On the way: the time of no account's events ever falls (CLK-1), over
/// restarts too, and no hold expires before its time. (Two partitions may hand in their events in another order than that of time.)
#[track_caller]
pub(crate) fn times(data: &Path, after: Seq) -> Times {
    let mut times = Times::default();
    let mut accounts: HashMap<AccountId, Time> = HashMap::new();
    let mut holds: HashMap<AuthorizationId, Time> = HashMap::new();
    let view = View::replay(data, UpTo::End, &mut |seq, event, _| {
        let account = match &event.body {
            Body::Expired(expired) => Some(expired.account),
            Body::Answered(answered) => Some(answered.account),
            body => body.head().map(|head| head.account),
        };
        if let Some(account) = account {
            let before = accounts.insert(account, event.time).unwrap_or(Time(0));
            assert!(before <= event.time, "event {seq} at {} comes after one at {before}", event.time);
        }
        match &event.body {
            Body::Authorized(made) => {
                holds.insert(made.authorization, made.expires);
            }
            Body::Incremented(raised) => {
                holds.insert(raised.authorization, raised.expires);
            }
            Body::Expired(expired) => {
                let due = holds.remove(&expired.authorization).expect("it was authorized");
                assert!(due <= event.time, "event {seq} lets a hold expire at {}, it is due at {due}", event.time);
                times.expiries += u64::from(seq > after);
            }
            _ => {}
        }
        if seq > after {
            times.earliest = Some(times.earliest.map_or(event.time, |earliest| earliest.min(event.time)));
            times.latest = Some(times.latest.map_or(event.time, |latest| latest.max(event.time)));
        }
        ControlFlow::Continue(())
    });
    times.last_seq = view.expect("the journal is readable").last_seq();
    times
}

/// What this process's clock says.
pub(crate) fn wall() -> Time {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    Time(u64::try_from(since.as_millis()).expect("before the year 500 million"))
}
