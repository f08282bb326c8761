//! Cards for the generator's accounts: one each, added over HTTP before a run, many requests ahead.
//!
//! Owns the requests and their answers. A card that is there is no fault: a second run on the same server finds them. Refuses to time
//! anything.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::encode::api_account;
use super::response;
use crate::plan::{NetworkPlan, account, card_number};

/// Requests ahead of their answers.
const AHEAD: usize = 64;
/// Connections, each with a thread: every card is a record that waits for the disk.
const CONNECTIONS: usize = 8;

/// Adds a card to each of the accounts that pay.
///
/// # Errors
/// When the server cannot be reached or refuses one.
pub(super) fn add(plan: &NetworkPlan, address: SocketAddr, accounts: u64) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS as u64)
            .map(|first| scope.spawn(move || add_some(plan, address, (first..accounts).step_by(CONNECTIONS))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| bail!("a bug: adding cards panicked")))
    })
}

fn add_some(plan: &NetworkPlan, address: SocketAddr, mut accounts: impl Iterator<Item = u64>) -> Result<()> {
    let mut stream = TcpStream::connect(address).context("to add cards")?;
    stream.set_read_timeout(Some(Duration::from_mins(1)))?;
    stream.set_nodelay(true)?;
    let (mut input, mut chunk, mut is_over) = (Vec::new(), vec![0; 64 * 1024], false);
    let mut ahead = 0;
    while !is_over || ahead > 0 {
        let mut out = Vec::new();
        while !is_over && ahead < AHEAD {
            match accounts.next() {
                Some(number) => {
                    request(plan, number, &mut out)?;
                    ahead += 1;
                }
                None => is_over = true,
            }
        }
        stream.write_all(&out)?;
        if ahead == 0 {
            break;
        }
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            bail!("the server closed a connection while cards were added");
        }
        input.extend_from_slice(&chunk[..read]);
        let mut taken = 0;
        while let Some(head) = response::head(&input[taken..]).map_err(anyhow::Error::msg)? {
            let Some(body) = input.get(taken + head.own_bytes..taken + head.own_bytes + head.body_bytes) else { break };
            if !matches!(head.status, 200 | 201) {
                bail!("a card was answered {}: {}", head.status, String::from_utf8_lossy(body));
            }
            taken += head.own_bytes + head.body_bytes;
            ahead -= 1;
        }
        input.drain(..taken);
    }
    Ok(())
}

fn request(plan: &NetworkPlan, number: u64, out: &mut Vec<u8>) -> Result<()> {
    let payer = account(number);
    let card = card_number(payer);
    let card = std::str::from_utf8(&card).unwrap_or_default();
    let body = format!(r#"{{"card_number":"{card}","account":"{}"}}"#, api_account(payer));
    let authorization =
        plan.key.as_ref().map_or_else(String::new, |key| format!("Authorization: Bearer {}\r\n", key.expose()));
    write!(
        out,
        "POST /v1/cards HTTP/1.1\r\nHost: {}\r\n{authorization}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        plan.endpoint.authority(),
        body.len()
    )?;
    Ok(())
}
