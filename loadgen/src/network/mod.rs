//! The network target: a `tpcore serve`, over HTTP/1.1 (`docs/src/protocol.md`).
//!
//! Owns everything about the wire; refuses to know rates, mixes and verdicts. It shares the machine with the server more often than
//! not, so a request costs it as little as can be: one thread, one epoll, no allocation per command.
//!
//! ```text
//!  driver ─► session ─► encode ─► connection ══ server ══ connection ─► response ─► decode ─► session ─► driver
//!              ├─► links ══ card messages (authorizations) or frames (all but reads) ══ server, where the plan says so
//!              └─► streams ══ gRPC ══ server (all but reads, where the plan says so)
//!  checks ─► control ─────────────────────────── pages of accounts ───────────────► accounts ─► money
//! ```

mod accounts;
mod aside;
mod audit;
mod card_codec;
mod cards;
mod connection;
mod control;
mod decode;
mod encode;
mod endpoint;
mod flights;
mod frame_codec;
mod links;
mod message;
mod response;
mod session;
mod streams;
mod transport;

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, Result, bail};
use tp_iso8583::Layout;
use tpcore::Time;

pub use accounts::{Shown, Standing};
pub use audit::audit;
pub use encode::api_account;
pub use endpoint::{BearerKey, Endpoint};
pub use session::{BATCH_WAIT, GIVE_UP, REPEATS_MAX};

use crate::plan::{NetworkPlan, Way, WorkloadPlan};
use crate::report::MoneyCheck;
use crate::target::{Closing, Progress, Session, Stand, Target};
use crate::workload::Workload;
use card_codec::CardCodec;
use control::Control;
use encode::Encoder;
use frame_codec::FrameCodec;
use links::LinkSession;
use session::{NetworkSession, SessionPlan};
use streams::StreamSession;
use transport::Transport;

/// Commands a request of the setup and the audit, which nobody times.
const BULK_BATCH: usize = 100;

/// The first address of a listener, written `HOST:PORT`.
fn address_of(listener: &str) -> Result<SocketAddr> {
    let found = listener.to_socket_addrs().with_context(|| format!("cannot find {listener}"))?.next();
    found.with_context(|| format!("{listener} has no address"))
}

/// A server.
#[derive(Debug)]
pub struct Network {
    plan: NetworkPlan,
    address: SocketAddr,
    transport: Arc<Transport>,
    tenant: u32,
    /// How many accounts have cards.
    cards: AtomicU64,
}

impl Network {
    /// Finds the server of a plan and asks it who the caller is.
    ///
    /// # Errors
    /// When it cannot be reached, or does not let the caller in.
    pub fn open(plan: &NetworkPlan) -> Result<Self> {
        let mut control = Control::connect(plan)?;
        let tenant = control.tenant()?;
        Ok(Self {
            plan: plan.clone(),
            address: control.address(),
            transport: Arc::default(),
            tenant,
            cards: AtomicU64::new(0),
        })
    }

    fn session_of(&self, in_flight: usize, batch: usize) -> Result<Box<dyn Session>> {
        let NetworkPlan { connections, pipeline, .. } = self.plan;
        let plan = SessionPlan { address: self.address, connections, pipeline, batch, in_flight };
        let encoder = Encoder::new(&self.plan.endpoint, self.plan.key.as_ref(), self.plan.deadline_ms);
        Ok(Box::new(NetworkSession::new(plan, encoder, Arc::clone(&self.transport))?))
    }

    fn check(&self) -> Result<()> {
        self.fault().map_or(Ok(()), Err)
    }
}

impl Target for Network {
    fn session(&self, in_flight: usize) -> Result<Box<dyn Session>> {
        let http = self.session_of(in_flight, self.plan.batch)?;
        let transport = Arc::clone(&self.transport);
        match &self.plan.way {
            Way::Http => Ok(http),
            Way::Streams(streams) => {
                Ok(Box::new(StreamSession::new(http, &self.plan, *streams, in_flight, transport)?))
            }
            Way::Cards(cards) => {
                let layout = Layout::named(&cards.layout).context("there is no such layout")?;
                let place = (address_of(&cards.listener)?, cards.links);
                let codec = CardCodec::new(layout);
                Ok(Box::new(LinkSession::new(http, place, codec, in_flight, transport)?))
            }
            Way::Frames(frames) => {
                let codec = FrameCodec::new(self.plan.key.clone(), self.plan.deadline_ms);
                let place = (address_of(&frames.listener)?, frames.links);
                Ok(Box::new(LinkSession::new(http, place, codec, in_flight, transport)?))
            }
        }
    }

    fn bulk_session(&self, in_flight: usize) -> Result<Box<dyn Session>> {
        self.session_of(in_flight, self.plan.batch.max(BULK_BATCH))
    }

    /// This machine's clock: a server takes keys whose time is near its own.
    fn now(&self) -> Time {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).plus_ms(0)
    }

    fn key_window_ms(&self) -> u64 {
        self.plan.key_window_ms
    }

    fn stand(&self, plan: &WorkloadPlan) -> Result<Stand> {
        self.check()?;
        // The accounts are open by now.
        if matches!(self.plan.way, Way::Cards(_)) && self.cards.swap(plan.accounts, Ordering::Relaxed) < plan.accounts {
            cards::add(&self.plan, self.address, plan.accounts)?;
        }
        Ok(Stand::Accounts(Control::connect(&self.plan)?.accounts(plan)?))
    }

    fn compare(&self, workload: &Workload, before: &Stand) -> Result<Vec<MoneyCheck>> {
        self.check()?;
        let Stand::Accounts(before) = before else { bail!("a bug: the accounts before the run are another target's") };
        accounts::compare(self, &mut Control::connect(&self.plan)?, workload, before)
    }

    /// Nothing: what the server shows of itself is in its metrics, and asking takes it time.
    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn fault(&self) -> Option<anyhow::Error> {
        self.transport.fault().map(|what| anyhow::anyhow!("the server at {}: {what}", self.plan.endpoint))
    }

    fn transport(&self) -> BTreeMap<String, u64> {
        self.transport.counts()
    }

    fn tenant(&self) -> Option<u32> {
        Some(self.tenant)
    }

    fn close(self: Box<Self>) -> Result<Option<Closing>> {
        self.check()?;
        Ok(None)
    }
}
