//! Arguments of the network: the server, the key, how it is spoken to, and the audit.
//!
//! Owns their defaults; refuses to know the rest of the command line. A key is read once, and never shown.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use tp_iso8583::Layout;

use crate::audit::{self, Audited};
use crate::network::{self, BearerKey, Endpoint};
use crate::plan::{CardPlan, FramePlan, NetworkPlan, Way};

/// What is driven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum TargetKind {
    Embedded,
    Http(Endpoint),
    /// The same listener, commands over gRPC streams.
    Grpc(Endpoint),
}

/// Reads it.
pub(super) fn target(text: &str) -> Result<TargetKind, String> {
    if text == "embedded" {
        return Ok(TargetKind::Embedded);
    }
    if let Some(server) = text.strip_prefix("grpc://") {
        let endpoint =
            format!("http://{server}").parse().map_err(|_| format!("'{text}' is no server: grpc://HOST:PORT"));
        return endpoint.map(TargetKind::Grpc);
    }
    text.parse().map(TargetKind::Http).map_err(|what: String| format!("{what} (or grpc://HOST:PORT, or embedded)"))
}

/// How a server is spoken to.
#[derive(Args, Debug)]
pub(super) struct NetworkArgs {
    /// Connections to the server [default: 64].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Over the network")]
    connections: Option<u16>,
    /// Requests in flight a connection [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Over the network")]
    pipeline: Option<u16>,
    /// Commands a request; above 1 they go to /v1/batches, full or after 5 ms [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500), help_heading = "Over the network")]
    batch: Option<u16>,
    /// The tenant's key; @FILE reads it from there [default: the variable `TPCORE_KEY`].
    #[arg(long, value_name = "TEXT|@FILE", help_heading = "Over the network")]
    key: Option<String>,
    /// Send authorizations as card messages to this listener of the same server, iso8583://HOST:PORT; they are the whole mix then.
    #[arg(long, value_name = "URL", help_heading = "Over the network")]
    cards: Option<String>,
    /// Send commands as frames to the binary door of the same server, tcp://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "cards", help_heading = "Over the network")]
    frames: Option<String>,
    /// Links to it, or streams of --target grpc://… [default: 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024), help_heading = "Over the network")]
    links: Option<u16>,
    /// The layout of card messages [default: 1987-ascii].
    #[arg(long, value_name = "NAME", requires = "cards", help_heading = "Over the network")]
    layout: Option<String>,
}

/// Links where nobody says how many.
const LINKS: u16 = 8;

/// Connections where nobody says how many.
const CONNECTIONS: u16 = 64;

impl NetworkArgs {
    /// For another target none of them makes sense.
    pub(super) fn refuse_all(&self) -> Result<(), String> {
        let stray = [
            ("--connections", self.connections.is_some()),
            ("--pipeline", self.pipeline.is_some()),
            ("--batch", self.batch.is_some()),
            ("--key", self.key.is_some()),
            ("--cards", self.cards.is_some()),
            ("--frames", self.frames.is_some()),
            ("--links", self.links.is_some()),
        ];
        let stray = stray.iter().find(|(_, is_given)| *is_given);
        stray.map_or(Ok(()), |(name, _)| Err(format!("{name} needs a server as --target")))
    }

    /// With the server, and what the rest of the command line says of it.
    pub(super) fn plan(
        &self,
        target: &TargetKind,
        deadline_ms: u64,
        key_window_ms: u64,
    ) -> Result<NetworkPlan, String> {
        let number = |given: Option<u16>, default: u16| usize::from(given.unwrap_or(default));
        let (endpoint, is_grpc) = match target {
            TargetKind::Http(endpoint) => (endpoint.clone(), false),
            TargetKind::Grpc(endpoint) => (endpoint.clone(), true),
            TargetKind::Embedded => return Err("no server".to_owned()),
        };
        let way = match (&self.cards, &self.frames) {
            (None, None) if is_grpc => Way::Streams(number(self.links, LINKS)),
            _ if is_grpc => return Err("--cards and --frames go with --target http://HOST:PORT".to_owned()),
            (Some(url), _) => Way::Cards(self.card_plan(url)?),
            (None, Some(url)) => {
                Way::Frames(FramePlan { listener: listener(url, "tcp")?, links: number(self.links, LINKS) })
            }
            (None, None) if self.links.is_some() => {
                return Err("--links goes with --cards, --frames or --target grpc://…".to_owned());
            }
            (None, None) => Way::Http,
        };
        Ok(NetworkPlan {
            endpoint,
            key: bearer(self.key.as_deref())?,
            connections: number(self.connections, CONNECTIONS),
            pipeline: number(self.pipeline, 1),
            batch: number(self.batch, 1),
            deadline_ms,
            key_window_ms,
            way,
        })
    }

    fn card_plan(&self, url: &str) -> Result<CardPlan, String> {
        let listener = listener(url, "iso8583")?;
        let layout = self.layout.clone().unwrap_or_else(|| "1987-ascii".to_owned());
        if Layout::named(&layout).is_none() {
            let names: Vec<_> = Layout::names().collect();
            return Err(format!("there is no layout `{layout}`: there are {}", names.join(", ")));
        }
        Ok(CardPlan { listener, links: usize::from(self.links.unwrap_or(LINKS)), layout })
    }
}

/// The `HOST:PORT` of a URL.
fn listener(url: &str, scheme: &str) -> Result<String, String> {
    let form = || format!("'{url}' is no listener: {scheme}://HOST:PORT");
    let listener = url.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")).ok_or_else(form)?;
    let (host, port) = listener.rsplit_once(':').ok_or_else(form)?;
    if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(form());
    }
    Ok(listener.to_owned())
}

/// The key of an argument, or of the environment; none is right for a server that lets everybody in.
fn bearer(argument: Option<&str>) -> Result<Option<BearerKey>, String> {
    let variable = std::env::var("TPCORE_KEY").ok().filter(|key| !key.is_empty());
    let text = argument.map(str::to_owned).or(variable);
    text.map(|text| BearerKey::from_argument(&text)).transpose().map_err(|error| format!("{error:#}"))
}

/// An audit.
#[derive(Args, Debug)]
pub(super) struct AuditArgs {
    /// The data directory, of an engine that is not running.
    #[arg(long, value_name = "DIR", required_unless_present = "target", conflicts_with = "target")]
    data_dir: Option<PathBuf>,
    /// A server to ask instead: http://HOST:PORT. What its window of keys has left behind it cannot say.
    #[arg(long, value_name = "URL")]
    target: Option<Endpoint>,
    /// The key that the server is asked with; @FILE reads it from there [default: the variable `TPCORE_KEY`].
    #[arg(long, value_name = "TEXT|@FILE", conflicts_with = "data_dir")]
    key: Option<String>,
    /// The file.
    #[arg(long, value_name = "FILE")]
    acks: PathBuf,
}

impl AuditArgs {
    /// Of the directory, or of the server.
    pub(super) fn audit(&self) -> Result<Audited> {
        let Some(endpoint) = &self.target else {
            return audit::audit(self.data_dir.as_deref().context("a data directory is missing")?, &self.acks);
        };
        let plan = NetworkPlan {
            endpoint: endpoint.clone(),
            key: bearer(self.key.as_deref()).map_err(anyhow::Error::msg)?,
            connections: AUDIT_CONNECTIONS,
            pipeline: 1,
            batch: 1,
            deadline_ms: 10_000,
            key_window_ms: 0,
            way: Way::Http,
        };
        network::audit(&plan, &self.acks)
    }
}

/// Connections of an audit: its lookups go in batches.
const AUDIT_CONNECTIONS: usize = 4;
