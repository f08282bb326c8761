//! Where a response ends: its head, and the length of its body.
//!
//! Owns the framing of HTTP/1.1 responses as the server sends them (`Content-Length`, keep-alive); refuses to know bodies. Bytes
//! come in pieces of any size: what is not whole yet is no error. What cannot be a response is one, and is never guessed at.

/// The longest head, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The longest body, bytes: a page of a thousand accounts and a batch of 500 replies are below a megabyte.
const BODY_BYTES_MAX: usize = 8 << 20;
const HEADERS_MAX: usize = 64;

/// The head of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// 200 to 599.
    pub(crate) status: u16,
    /// Bytes of the head, with its empty line.
    pub(crate) own_bytes: usize,
    /// Bytes of the body behind it.
    pub(crate) body_bytes: usize,
    /// The connection ends with it.
    pub(crate) is_last: bool,
}

/// The head at the beginning of `bytes`; `None`: it is not whole yet.
///
/// # Errors
/// When it is none, or says nothing about its length.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let own_bytes = match response.parse(bytes) {
        Ok(httparse::Status::Complete(own_bytes)) => own_bytes,
        Ok(httparse::Status::Partial) if bytes.len() <= HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err("the head of a response has no end".to_owned()),
        Err(error) => return Err(format!("a response is no HTTP/1.1: {error}")),
    };
    let status = response.code.unwrap_or(0);
    if !(200..600).contains(&status) {
        return Err(format!("a response has the status {status}"));
    }
    let mut length = None;
    let mut is_last = response.version == Some(0);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).unwrap_or_default().trim();
            let is_number = digits.bytes().all(|b| b.is_ascii_digit());
            let parsed = digits.parse::<usize>().ok().filter(|n| is_number && *n <= BODY_BYTES_MAX);
            let parsed = parsed.ok_or_else(|| format!("a response has the Content-Length '{digits}'"))?;
            if length.replace(parsed).is_some_and(|first| first != parsed) {
                return Err("a response has two lengths".to_owned());
            }
        } else if header.name.eq_ignore_ascii_case("connection") {
            is_last |= header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a response comes in chunks: the protocol has a Content-Length".to_owned());
        }
    }
    let is_empty = matches!(status, 204 | 304);
    let body_bytes = if is_empty { 0 } else { length.ok_or("a response has no Content-Length")? };
    Ok(Some(Head { status, own_bytes, body_bytes, is_last }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &str =
        "HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nContent-Length: 2\r\nDate: x\r\n\r\n{}HTTP/1.1 200";

    #[test]
    fn a_head_is_found_once_it_is_whole() {
        let end = RESPONSE.find("{}").expect("a body");
        for cut in 0..end {
            assert_eq!(head(&RESPONSE.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        let expected = Head { status: 201, own_bytes: end, body_bytes: 2, is_last: false };
        for cut in end..RESPONSE.len() {
            assert_eq!(head(&RESPONSE.as_bytes()[..cut]), Ok(Some(expected)), "{cut}");
        }
        let last = RESPONSE.replace("Date: x", "Connection: Close");
        assert!(head(last.as_bytes()).expect("a head").expect("whole").is_last);
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        let bad = [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            &long,
        ];
        for bad in bad {
            assert!(head(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
