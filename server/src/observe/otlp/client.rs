//! One HTTP request on one connection, without TLS: what an exporter needs to reach the collector beside it. Owns the socket and its
//! deadlines; refuses `https`: a collector that is not on this machine or its private network is reached through one that is.
//!
//! It blocks, since the exporter has a thread of its own.

use std::future::{Future, ready};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use opentelemetry_http::{HttpClient, HttpError};

/// An answer is a small message; more than this is not read.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Sends one request at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlainClient {
    /// Of connecting, and of each read and write.
    pub(super) timeout: Duration,
}

impl HttpClient for PlainClient {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(ready(self.send(&request).map_err(HttpError::from)))
    }
}

impl PlainClient {
    fn send(self, request: &Request<Bytes>) -> io::Result<Response<Bytes>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what.to_owned());
        let authority = request.uri().authority().ok_or_else(|| invalid("an endpoint without a host"))?;
        if request.uri().scheme_str() != Some("http") {
            return Err(invalid("only http:// endpoints"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let address = (host, authority.port_u16().unwrap_or(80)).to_socket_addrs()?.next();
        let mut stream = TcpStream::connect_timeout(&address.ok_or_else(|| invalid("an unknown host"))?, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        stream.write_all(&head(request, authority.as_str()))?;
        stream.write_all(request.body())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP answer"))
    }
}

fn head(request: &Request<Bytes>, authority: &str) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let length = request.body().len();
    let mut head = format!(
        "{} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\ncontent-length: {length}\r\n",
        request.method()
    )
    .into_bytes();
    for (name, value) in request.headers() {
        if !matches!(name.as_str(), "host" | "connection" | "content-length") {
            head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    head.extend(b"\r\n");
    head
}

/// The status code, `Retry-After`, and the body when it comes in one piece; a chunked one is left out: it says nothing that is needed.
fn parse(answer: &[u8]) -> Option<Response<Bytes>> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let mut response = Response::builder().status(StatusCode::from_u16(status).ok()?);
    let mut is_chunked = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        is_chunked |= name.eq_ignore_ascii_case("transfer-encoding");
        if name.eq_ignore_ascii_case("retry-after") {
            response = response.header("retry-after", value.trim());
        }
    }
    let body = if is_chunked { Bytes::new() } else { Bytes::copy_from_slice(&answer[end + 4..]) };
    response.body(body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_its_body_and_anything_else_is_none() {
        let answer = parse(b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\n\r\nbody").expect("an answer");
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["retry-after"], &answer.body()[..]),
            (429, &"7".parse().expect("a value"), &b"body"[..])
        );
        assert!(
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                .expect("an answer")
                .body()
                .is_empty()
        );
        for none in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
            b"HTTP/1.1 \xff\r\n\r\n",
        ] {
            assert!(parse(none).is_none());
        }
    }

    #[test]
    fn an_endpoint_that_is_not_plain_http_is_refused() {
        let client = PlainClient { timeout: Duration::from_secs(1) };
        for uri in ["https://localhost/v1/traces", "/v1/traces"] {
            let request = Request::post(uri).body(Bytes::new()).expect("a request");
            assert_eq!(
                client.send(&request).map(|_| ()).map_err(|error| error.kind()),
                Err(io::ErrorKind::InvalidInput)
            );
        }
    }
}
