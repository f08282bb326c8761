//! Listeners at work: accepting links, and what all links of a listener share.
//!
//! Owns the accept loop, the calls to the engine within the listener's tenant, cut-over and totals, the undoing of late answers, and the
//! numbers of the listener. Refuses to know frames.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tp_actors::tp_core::amount::Ledger;
use tp_actors::tp_core::command::{Command, Record, Reverse, Verb};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::scope::Scope;
use tp_actors::{CallOptions, Pending};
use tp_iso8583::{Message, currency_of};

use super::ask::Planned;
use super::codes::Code;
use super::key_locks::KeyLocks;
use super::link::{self, Ended};
use super::listeners::Listener;
use super::totals::{CUT_OVER_STREAM, CutOver, Period, Sum, Totals};
use crate::app::Serving;
use crate::auth::tls::Tls;
use crate::gate::Room;
use crate::net::count::{Count, Counted};
use crate::net::links::{Door, accept};
use crate::observe::CardStats;

/// What the links of a listener share. Each has one of its own, so that what its messages count on is counted on one core
/// ([`Edge::of_link`]).
#[derive(Clone)]
pub(crate) struct Edge {
    pub(super) serving: Arc<Serving>,
    pub(super) listener: Arc<Listener>,
    pub(super) totals: Arc<Totals>,
    /// Keys of requests that are being decided, of all listeners.
    pub(super) keys: Arc<KeyLocks>,
    /// The tenant's room.
    pub(super) room: Arc<Room>,
    pub(super) stats: Arc<CardStats>,
    tls: Option<Arc<Tls>>,
    tls_handshake: Duration,
    /// Tasks: messages that need several questions, and approvals that are being undone.
    busy: Count,
}

/// Binds all listeners of a file.
///
/// # Errors
/// The address that cannot be listened on, and why.
pub(crate) async fn bind(
    listeners: &super::Listeners,
) -> Result<Vec<(Arc<Listener>, TcpListener)>, (SocketAddr, std::io::Error)> {
    let mut bound = Vec::new();
    for listener in &listeners.0 {
        let socket = TcpListener::bind(listener.listen).await.map_err(|error| (listener.listen, error))?;
        bound.push((Arc::clone(listener), socket));
    }
    Ok(bound)
}

/// Accepts links until told to stop, then waits for them to end, and for what broken ones left to be undone.
pub(crate) async fn run(edge: Arc<Edge>, socket: TcpListener, mut stop: watch::Receiver<bool>) {
    let listener = &*edge.listener;
    let (metrics, clients) = (&edge.serving.metrics, &*listener.clients);
    let door = Door { name: &listener.name, links_max: listener.links_max, clients, metrics };
    let told = stop.clone();
    let mut links = accept(socket, door, &mut stop, |stream, peer, place| {
        // Whose a link is, its address says.
        place.greeted();
        let (edge, stop) = (Arc::clone(&edge), told.clone());
        async move { edge.link(stream, peer, stop).await }
    })
    .await;
    while links.join_next().await.is_some() {}
    while edge.busy.get() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Edge {
    pub(crate) fn new(
        serving: Arc<Serving>,
        listener: Arc<Listener>,
        (totals, keys): (Arc<Totals>, Arc<KeyLocks>),
        tls: Option<Arc<Tls>>,
        tls_handshake: Duration,
    ) -> Self {
        let tls = tls.filter(|_| listener.tls);
        let stats = Arc::new(CardStats::new(&listener.name));
        let room = serving.rooms.room(listener.tenant);
        Self { serving, listener, totals, keys, room, stats, tls, tls_handshake, busy: Count::default() }
    }

    /// The same, for one link: with references that no other link's messages count on.
    pub(super) fn of_link(&self) -> Arc<Self> {
        let (keys, room) = (Arc::new((*self.keys).clone()), self.serving.rooms.room(self.listener.tenant));
        Arc::new(Self { keys, room, ..self.clone() })
    }

    /// Holds up the server's end until it is dropped.
    pub(super) fn busy(&self) -> Counted {
        self.busy.one()
    }

    /// The numbers of this listener.
    pub(crate) fn stats(&self) -> Arc<CardStats> {
        Arc::clone(&self.stats)
    }

    /// Serves one link.
    async fn link(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) {
        self.stats.link_opened();
        let (name, address) = (self.listener.name.clone(), peer.ip());
        tracing::info!(listener = name, %address, "a link was opened");
        let ended = match self.tls.clone() {
            None => link::serve(self.of_link(), stream, stop).await,
            Some(tls) => {
                let accepted = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(self.tls_handshake, accepted).await {
                    Ok(Ok(stream)) => link::serve(self.of_link(), stream, stop).await,
                    Ok(Err(error)) => Ended::Broken(error.kind()),
                    Err(_) => Ended::Idle,
                }
            }
        };
        tracing::info!(listener = name, %address, reason = %ended, "a link was closed");
        self.stats.link_closed();
    }

    /// Hands a command to the engine, bound to the listener's tenant.
    pub(super) fn submit(&self, command: Command, ledger: Option<Ledger>, deadline_ms: u64) -> Pending {
        self.serving.engine.call_with(command, self.options(ledger, deadline_ms))
    }

    /// How a command is submitted: bound to the listener's tenant.
    pub(super) fn options(&self, ledger: Option<Ledger>, deadline_ms: u64) -> CallOptions {
        let tenant = self.listener.tenant;
        let scope = Scope { tenant: Some(tenant.get()), ledger, counter: Some(tenant.accounts()) };
        CallOptions { deadline_ms: Some(deadline_ms), scope }
    }

    /// Undoes an approval that is answered as declined; done when that is durable. It is tried until the engine has decided it, whatever
    /// happens to the link. `false`: it is not undone, and nothing may be answered.
    pub(super) async fn undo(self: &Arc<Self>, reverse: Reverse) -> bool {
        let edge = Arc::clone(self);
        edge.stats.late_undone();
        let busy = self.busy();
        let undone = tokio::spawn(async move {
            let _until_done = busy;
            edge.undone(reverse).await
        });
        undone.await.unwrap_or(false)
    }

    /// What came of a command whose reply did not come in time: asked again until the engine says. `None`: it stops.
    pub(super) async fn outcome_of(&self, planned: &Planned) -> Option<Reply> {
        let reply = self.decided(&planned.command, planned.ledger).await;
        (!reply.outcome.leaves_at_once()).then_some(reply)
    }

    async fn undone(&self, reverse: Reverse) -> bool {
        let outcome = self.decided(&reverse.into(), None).await.outcome;
        self.serving.count(Verb::Reverse, outcome);
        if !outcome.is_approval() {
            let (listener, outcome) = (self.listener.name.as_str(), outcome.name());
            tracing::error!(listener, outcome, "an approval whose answer was late is not undone");
        }
        outcome.is_approval()
    }

    /// The engine's decision, asked for until there is one; a reply without a decision: there will be none any more.
    async fn decided(&self, command: &Command, ledger: Option<Ledger>) -> Reply {
        let mut pause = Duration::from_millis(5);
        loop {
            let reply = self.submit(command.clone(), ledger, 60_000).await;
            let is_over =
                matches!(reply.outcome, Outcome::Stopping | Outcome::Malformed) || self.serving.engine.is_poisoned();
            if is_over || !reply.outcome.leaves_at_once() {
                return reply;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Begins the next period, once that is durable.
    pub(super) async fn cut_over(&self, answer: &Message, deadline_ms: u64) -> Code {
        let date = answer.text(15).or_else(|| answer.text(7).and_then(|time| time.get(..4)));
        let Some(date) = date else { return Code::FORMAT };
        let record = CutOver { v: 1, listener: self.listener.name.clone(), date: date.to_owned() };
        let bytes = serde_json::to_vec(&record).unwrap_or_default().into_boxed_slice();
        let options = CallOptions { deadline_ms: Some(deadline_ms), ..CallOptions::default() };
        let reply = self.serving.engine.call_with(Record { stream: CUT_OVER_STREAM, bytes }, options).await;
        if reply.outcome.is_approval() { Code::APPROVED } else { Code::of(&reply) }
    }

    /// Puts the totals of the period of element 15 in, in the currency of element 50, and whether those of the message are the same.
    pub(super) async fn totals(&self, answer: &mut Message, until: Instant) -> Code {
        let currency = answer.get(50).or_else(|| answer.get(49)).and_then(currency_of);
        let Some(currency) = currency else { return Code::FORMAT };
        // Everything that was answered before counts.
        let wanted = self.serving.engine.durable_seq();
        while self.totals.position() < wanted {
            if Instant::now() > until {
                return Code::INOPERATIVE;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let Some(period) = self.totals.period(&self.listener.name, answer.text(15)) else { return Code::INVALID };
        let asked: Vec<(usize, String)> = SUMS
            .into_iter()
            .chain([AUTHORIZATIONS, NET])
            .filter_map(|element| answer.text(element).map(|text| (element, text.to_owned())))
            .collect();
        for (element, text) in ours(&period, currency.code) {
            super::answer::put(&self.listener.layout, answer, element, &text);
        }
        let is_same = asked.iter().all(|(element, text)| answer.text(*element) == Some(text));
        super::answer::put(&self.listener.layout, answer, 66, if is_same { "1" } else { "2" });
        Code::APPROVED
    }
}

/// Elements with sums: numbers, then amounts.
const SUMS: [usize; 8] = [74, 75, 76, 77, 86, 87, 88, 89];
const AUTHORIZATIONS: usize = 81;
const NET: usize = 97;

/// The elements of a period's totals in one currency.
fn ours(period: &Period, asset: &str) -> Vec<(usize, String)> {
    let sums = period.sums.get(asset).copied().unwrap_or_default();
    let each = [
        (74, 86, sums.credits),
        (75, 87, sums.credit_reversals),
        (76, 88, sums.debits),
        (77, 89, sums.debit_reversals),
    ];
    let mut elements = Vec::new();
    for (number_at, amount_at, Sum { number, amount }) in each {
        elements.push((number_at, format!("{number:010}")));
        elements.push((amount_at, format!("{amount:016}")));
    }
    elements.push((AUTHORIZATIONS, format!("{:010}", period.authorizations)));
    let (to_pay, back) = (
        sums.debits.amount.saturating_add(sums.credit_reversals.amount),
        sums.credits.amount.saturating_add(sums.debit_reversals.amount),
    );
    let sign = if to_pay >= back { 'D' } else { 'C' };
    elements.push((NET, format!("{sign}{:016}", to_pay.abs_diff(back))));
    elements
}
