//! Requests and responses as bytes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

use serde_json::Value;

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is part of the load, and no look at the tenant or its accounts.
    pub(crate) fn is_command(&self) -> bool {
        self.path != "/v1/tenant" && !self.path.starts_with("/v1/accounts?")
    }
}

/// The next request; `None`: the other side has ended.
pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    assert_eq!(words.next().as_deref(), Some("HTTP/1.1"), "{line}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { method, path, headers, body: Vec::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().expect("a length"));
    request.body.resize(length, 0);
    reader.read_exact(&mut request.body).ok()?;
    Some(request)
}

pub(crate) fn write(out: &mut Vec<u8>, status: u16, body: &Value) {
    let body = body.to_string();
    let kind = if status < 400 { "application/json" } else { "application/problem+json" };
    let retry = if matches!(status, 429 | 503) { "retry-after: 1\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\n{retry}content-length: {}\r\ndate: Thu, 26 Nov 2026 10:00:00 GMT\r\n\r\n",
        body.len()
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(body.as_bytes());
}
