//! What happens on a tenant's accounts, as a stream; the tenant's durable cursors; accounts as they stand.
//!
//! Owns what of an event is a tenant's to see, where a stream begins, and its end. A stream reads the journal's files on a thread of its own,
//! a bounded number at once, and holds nothing up: one that takes nothing stands still alone. Refuses to keep anything but cursors.
//!
//! ```text
//!   journal -> events -> legs (from so far before the first wanted event that their openings are known) -> the tenant's -> channel -> stream
//! ```
//!
//! Invariants: TEN-1 (no leg of another tenant's account, no reference or outcome of another's command); each event once, in the order of
//! the journal, none left out from the first wanted one on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tonic::Status;
use tp_actors::history::{Legs, Line};
use tp_actors::tp_core::amount::{Amount, Ledger};
use tp_actors::tp_core::command::{Read, ReadTarget};
use tp_actors::tp_core::event::{Body, Event};
use tp_actors::tp_core::ids::{AccountId, Seq};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::{AccountView, AuthorizationState, Detail};
use tp_actors::tp_core::scope::Scope;
use tp_actors::tp_core::time::Time;
use tp_actors::{CallOptions, CursorError, EventFeed, Pending};
use tp_protocol::grpc as proto;

use super::convert::balances;
use super::door::{Known, status};
use crate::api::command::parse_account;
use crate::api::problem::{Problem, Refusal};
use crate::api::reply::status_name;
use crate::app::Serving;
use crate::control::Role;
use crate::tenancy::TenantId;

/// Cursors of a tenant.
const CURSORS: u32 = 64;
/// Events before the first wanted one that are read for the exchanges that are open at it: they are open for milliseconds.
const LOOK_BACK: u64 = 65_536;
/// Events that wait to be taken.
const AHEAD: usize = 256;
/// How long the journal's end is waited at before it is looked whether the stream still has a reason to be.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// While only others have events, one without legs comes so often.
const QUIET: Duration = Duration::from_secs(1);

type Sent = Result<proto::Event, Status>;

/// Opens a stream.
pub(super) async fn follow(
    known: &Known,
    request: proto::FollowRequest,
    stopped: watch::Receiver<bool>,
) -> Result<mpsc::Receiver<Sent>, Status> {
    known.needs(Role::Read)?;
    let last = known.serving.engine.last_seq();
    let from = match (request.from_seq, request.cursor) {
        (Some(0), _) => return Err(Status::invalid_argument("`from_seq` is 1 or more")),
        (Some(from), cursor) => {
            cursor.map(checked).transpose()?;
            Seq(from)
        }
        (None, Some(cursor)) => stands(known, cursor).await?.next(),
        (None, None) => Seq(1),
    };
    if from > last.next() {
        return Err(Status::out_of_range(format!("the journal's last event is {}", last.0)));
    }
    let too_many = || status(&Problem::new(Refusal::TooManyInFlight, "as many streams follow as may"));
    let own = known.serving.rooms.follow(known.caller.tenant).ok_or_else(too_many)?;
    let permit = Arc::clone(&known.serving.follow_permits).try_acquire_owned().map_err(|_| too_many())?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let follower = Follower {
        known: known.clone(),
        from,
        with_balances: request.with_balances,
        sender,
        stopped,
        told: Instant::now(),
        looked: Instant::now(),
    };
    tokio::task::spawn_blocking(move || {
        let _permits = (own, permit);
        follower.run();
    });
    Ok(receiver)
}

struct Follower {
    known: Known,
    from: Seq,
    with_balances: bool,
    sender: mpsc::Sender<Sent>,
    stopped: watch::Receiver<bool>,
    /// When something was sent last.
    told: Instant,
    looked: Instant,
}

/// Nothing more is sent.
struct Over;

impl Follower {
    fn run(mut self) {
        let start = Seq(self.from.0.saturating_sub(LOOK_BACK).max(1));
        let mut feed = self.known.serving.engine.events(start);
        let mut legs = Legs::default();
        while self.look().and_then(|()| self.next(&mut feed, &mut legs)).is_ok() {}
    }

    /// Whether the stream still has a reason to be.
    fn look(&mut self) -> Result<(), Over> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        if self.sender.is_closed() {
            return Err(Over);
        }
        if *self.stopped.borrow() {
            return self.end(Status::unavailable("stopping"));
        }
        if !self.known.serving.is_live(&self.known.caller) {
            return self.end(Status::unauthenticated("the key was revoked"));
        }
        Ok(())
    }

    fn end(&self, status: Status) -> Result<(), Over> {
        let _ = self.sender.blocking_send(Err(status)); // the caller may be gone
        Err(Over)
    }

    fn next(&mut self, feed: &mut EventFeed, legs: &mut Legs) -> Result<(), Over> {
        let (seq, event) = match feed.next_timeout(LOOK_EVERY) {
            Ok(Some(next)) => next,
            Ok(None) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, "a stream of events could not read the journal");
                return self.end(Status::data_loss("the journal could not be read there; the operator's logs say why"));
            }
        };
        let (tenant, mut told) = (self.known.caller.tenant, Vec::new());
        legs.each(&event, |account| TenantId::of(account) == Some(tenant), |account, line| told.push((account, line)));
        if seq < self.from || told.is_empty() && self.told.elapsed() < QUIET {
            return Ok(());
        }
        let legs = told.iter().map(|(account, line)| self.leg(&event, *account, line)).collect();
        let event =
            proto::Event { seq: seq.0, time: event.time.to_string(), event: event.body.name().to_owned(), legs };
        self.told = Instant::now();
        self.sender.blocking_send(Ok(event)).map_err(|_| Over)
    }

    fn leg(&self, event: &Event, account: AccountId, line: &Line) -> proto::Leg {
        let tenant = self.known.caller.tenant;
        let is_own = line.owner.is_some_and(|owner| TenantId::of(owner) == Some(tenant));
        let what = What::of(&event.body);
        let own = |text: Option<String>| text.filter(|_| is_own);
        let standing = if self.with_balances { self.standing(account) } else { None };
        proto::Leg {
            account: tenant.name_of(account),
            version: line.version.0,
            what: line.what.to_owned(),
            posted: line.amount.to_string(),
            amount: what.amount.map(|amount| amount.to_string()),
            asset: what.ledger.map(Ledger::asset),
            scale: what.ledger.map(|ledger| u32::from(ledger.scale())),
            counterparty: line.counterparty.map(|account| tenant.name_of(account)),
            transfer: line.transfer.map(|id| id.to_string()),
            outcome: own(line.outcome.map(|outcome| outcome.name().to_owned())),
            authorization: own(line.authorization.map(|id| id.to_string())),
            expires: own(what.expires.map(|time| time.to_string())),
            state: own(what.state.map(|state| state.name().to_owned())),
            reference: own(line.reference.clone()),
            value_date: own(line.value_date.map(|date| date.to_string())),
            standing,
            is_complete: line.owner.is_some(),
        }
    }

    fn standing(&self, account: AccountId) -> Option<proto::Account> {
        let view = view_of(read(&self.known.serving, self.known.caller.tenant, account).wait().detail)?;
        Some(shown(&view, self.known.caller.tenant))
    }
}

/// What an event says beside its legs.
#[derive(Default)]
struct What {
    amount: Option<Amount>,
    ledger: Option<Ledger>,
    expires: Option<Time>,
    state: Option<AuthorizationState>,
}

impl What {
    fn of(body: &Body) -> Self {
        let amount = |amount: Amount| Self { amount: Some(amount), ..Self::default() };
        match body {
            Body::Settled(e) => Self { ledger: Some(e.settings.ledger), ..Self::default() },
            Body::Noted(e) => amount(e.amount),
            Body::Authorized(e) => Self { expires: Some(e.expires), ..amount(e.amount) },
            Body::Incremented(e) => Self { expires: Some(e.expires), ..amount(e.amount) },
            Body::Released(e) => Self { state: Some(e.state), ..amount(e.amount) },
            Body::Expired(e) => Self { state: Some(AuthorizationState::Expired), ..amount(e.amount) },
            Body::Moved(e) => Self { ledger: Some(e.movement.ledger), ..amount(e.movement.amount) },
            Body::Opened(e) => Self { ledger: Some(e.movement.ledger), ..amount(e.movement.amount) },
            Body::Answered(e) => Self { ledger: Some(e.ledger), ..amount(e.amount) },
            Body::Tombstoned(_) | Body::Fenced(_) | Body::Ended(_) | Body::Forgotten(_) | Body::Recorded(_) => {
                Self::default()
            }
        }
    }
}

fn checked(cursor: u32) -> Result<u32, Status> {
    if cursor < CURSORS { Ok(cursor) } else { Err(Status::invalid_argument("a cursor is a number from 0 to 63")) }
}

/// The engine's name of a tenant's cursor.
fn name_of(tenant: TenantId, cursor: u32) -> String {
    format!("tenant.{tenant}.{cursor}")
}

/// What the catalogue says. It blocks: on another thread.
async fn catalogue<T: Send + 'static>(
    known: &Known,
    ask: impl FnOnce(&tp_actors::Engine) -> Result<T, CursorError> + Send + 'static,
) -> Result<T, Status> {
    let engine = Arc::clone(&known.serving.engine);
    let asked = tokio::task::spawn_blocking(move || ask(&engine)).await;
    let asked = asked.map_err(|_| Status::internal("a bug: the thread that asked ended early"))?;
    asked.map_err(|error| {
        tracing::warn!(%error, "a cursor was not read or moved");
        Status::unavailable("the cursors cannot be read or moved now")
    })
}

/// The last event that a cursor's owner is done with.
async fn stands(known: &Known, cursor: u32) -> Result<Seq, Status> {
    let name = name_of(known.caller.tenant, checked(cursor)?);
    Ok(catalogue(known, move |engine| engine.cursor(&name)).await?.unwrap_or(Seq::ZERO))
}

pub(super) async fn get_cursor(known: &Known, request: proto::CursorRequest) -> Result<proto::Cursor, Status> {
    known.needs(Role::Read)?;
    let seq = stands(known, request.cursor).await?.0;
    Ok(proto::Cursor { cursor: request.cursor, seq })
}

pub(super) async fn set_cursor(known: &Known, cursor: proto::Cursor) -> Result<proto::Cursor, Status> {
    known.needs(Role::Read)?;
    let name = name_of(known.caller.tenant, checked(cursor.cursor)?);
    let durable = known.serving.engine.durable_seq();
    if Seq(cursor.seq) > durable {
        return Err(Status::out_of_range(format!("the journal's last event is {}", durable.0)));
    }
    catalogue(known, move |engine| engine.set_cursor(&name, Seq(cursor.seq))).await?;
    Ok(cursor)
}

pub(super) async fn get_account(known: &Known, request: &proto::AccountRequest) -> Result<proto::Account, Status> {
    known.needs(Role::Read)?;
    let tenant = known.caller.tenant;
    let account = parse_account(tenant, &request.account).map_err(|problem| status(&problem))?;
    let reply = read(&known.serving, tenant, account).await;
    match view_of(reply.detail.clone()) {
        Some(view) => Ok(shown(&view, tenant)),
        None if reply.outcome == Outcome::AccountNotFound => Err(Status::not_found("there is no such account")),
        None => Err(status(&Problem::of_reply(reply))),
    }
}

fn read(serving: &Serving, tenant: TenantId, account: AccountId) -> Pending {
    let scope = Scope { tenant: Some(tenant.get()), ..Scope::default() };
    let deadline_ms = Some(serving.command_ms);
    serving.engine.call_with(Read { target: ReadTarget::Account(account) }, CallOptions { deadline_ms, scope })
}

fn view_of(detail: Option<Box<Detail>>) -> Option<AccountView> {
    match detail.map(|detail| *detail) {
        Some(Detail::Account(view)) => Some(view),
        _ => None,
    }
}

fn shown(view: &AccountView, tenant: TenantId) -> proto::Account {
    let ledger = view.settings.ledger;
    proto::Account {
        account: tenant.name_of(view.account),
        asset: ledger.asset(),
        scale: ledger.scale().into(),
        status: status_name(view.settings.status).to_owned(),
        balances: Some(balances(&view.balances)),
        seq: view.seq.0,
        version: view.version.0,
    }
}
