//! Questions beside the load: who the caller is, and the tenant's accounts page by page. One request at a time.
//!
//! Owns a blocking connection; refuses anything that changes something, so that whatever fails may be asked again.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use super::accounts::Standing;
use super::decode::{WireBalances, excerpt, unsigned};
use super::encode::Encoder;
use super::response;
use super::session::GIVE_UP;
use crate::plan::{NetworkPlan, WorkloadPlan, ledger};

/// To connect, and between two pieces of a response.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a question is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// Accounts a page: the most that the protocol has.
const PAGE: usize = 1000;

/// A blocking client.
#[derive(Debug)]
pub(super) struct Control {
    encoder: Encoder,
    endpoint: String,
    address: SocketAddr,
    stream: Option<TcpStream>,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, alias = "items")]
    accounts: Vec<PageAccount<'a>>,
    #[serde(borrow)]
    next: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct PageAccount<'a> {
    account: &'a str,
    asset: &'a str,
    scale: u8,
    #[serde(borrow)]
    balances: WireBalances<'a>,
}

impl Control {
    /// To the first of the server's addresses that takes a connection.
    ///
    /// # Errors
    /// When none does.
    pub(super) fn connect(plan: &NetworkPlan) -> Result<Self> {
        let encoder = Encoder::new(&plan.endpoint, plan.key.as_ref(), plan.deadline_ms);
        let endpoint = plan.endpoint.to_string();
        let mut refused = anyhow!("it has no address");
        for address in plan.endpoint.addresses()? {
            match open(address) {
                Ok(stream) => return Ok(Self { encoder, endpoint, address, stream: Some(stream) }),
                Err(error) => refused = error.into(),
            }
        }
        Err(refused.context(format!("cannot reach {endpoint}")))
    }

    /// Where it is connected to.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of the caller's tenant; 0 where the server does not say.
    ///
    /// # Errors
    /// When the server does not let the caller in.
    pub(super) fn tenant(&mut self) -> Result<u32> {
        let (status, body) = self.get("/v1/tenant")?;
        match status {
            200 => {}
            401 | 403 => bail!(
                "{} does not let the generator in ({status}): give a key of a tenant with --key or TPCORE_KEY: {}",
                self.endpoint,
                excerpt(&body)
            ),
            _ => bail!("{} answered GET /v1/tenant with {status}: {}", self.endpoint, excerpt(&body)),
        }
        let shown: serde_json::Value = serde_json::from_slice(&body)
            .with_context(|| format!("GET /v1/tenant cannot be read: {}", excerpt(&body)))?;
        let number = ["tenant", "id", "number"].iter().find_map(|name| {
            let value = shown.get(name)?;
            value.as_u64().or_else(|| value.as_str()?.parse().ok())
        });
        Ok(number.and_then(|number| u32::try_from(number).ok()).unwrap_or(0))
    }

    /// Every account of the tenant, those of the workload kept.
    ///
    /// # Errors
    /// When a page cannot be had or read.
    pub(super) fn accounts(&mut self, plan: &WorkloadPlan) -> Result<Standing> {
        let mut standing = Standing::new(plan);
        let mut path = format!("/v1/accounts?limit={PAGE}");
        let (asset, scale) = (ledger().asset(), ledger().scale());
        loop {
            let (status, body) = self.get(&path)?;
            if status != 200 {
                bail!("{} answered a page of accounts with {status}: {}", self.endpoint, excerpt(&body));
            }
            let unreadable = || format!("a page of accounts cannot be read: {}", excerpt(&body));
            let page: Page<'_> = serde_json::from_slice(&body).with_context(unreadable)?;
            for account in page.accounts.iter().filter(|account| account.asset == asset && account.scale == scale) {
                let id = unsigned(account.account).with_context(unreadable)?;
                let balances = account.balances.read().with_context(unreadable)?;
                standing.show(id, balances)?;
            }
            let Some(next) = page.next else { return Ok(standing) };
            if page.accounts.is_empty() {
                bail!("{} goes on to a next page after one without accounts", self.endpoint);
            }
            path = format!("/v1/accounts?limit={PAGE}&cursor={}", escaped(&next));
        }
    }

    /// Asks, and asks again when a connection breaks or the server has no room, up to [`GIVE_UP`].
    fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>)> {
        let began = Instant::now();
        loop {
            let answer = self.ask(path);
            if let Err(error) = &answer {
                self.stream = None;
                if began.elapsed() > GIVE_UP {
                    bail!("{} does not answer GET {path}: {error}", self.endpoint);
                }
            } else if !matches!(answer, Ok((429 | 503 | 504, _))) || began.elapsed() > GIVE_UP {
                return Ok(answer?);
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn ask(&mut self, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => open(self.address)?,
        };
        let mut request = Vec::new();
        self.encoder.get(&mut request, path);
        stream.write_all(&request)?;
        let mut input = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            let read = stream.read(&mut piece)?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            input.extend_from_slice(&piece[..read]);
            let Some(head) = response::head(&input).map_err(std::io::Error::other)? else { continue };
            if input.len() >= head.own_bytes + head.body_bytes {
                if !head.is_last {
                    self.stream = Some(stream);
                }
                input.truncate(head.own_bytes + head.body_bytes);
                return Ok((head.status, input.split_off(head.own_bytes)));
            }
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// For a query: whatever is not plain as `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}"); // into a string: never fails
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_opaque() {
        assert_eq!(escaped("aZ09-._~ &=+/é"), "aZ09-._~%20%26%3D%2B%2F%C3%A9");
    }
}
