//! Where a server is, and who asks: `http://HOST:PORT` and the bearer key.
//!
//! Owns their grammar; refuses to connect. A key is never shown: not by `Debug`, not in a report.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

/// The longest key, bytes.
const KEY_BYTES_MAX: usize = 4096;

/// A server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// As in a `Host` header: `localhost:8700`, `[::1]:8700`.
    authority: String,
}

impl Endpoint {
    /// What stands in the `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Its addresses, at least one.
    ///
    /// # Errors
    /// When the name is not known.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = self.authority.to_socket_addrs().with_context(|| format!("cannot find {self}"))?;
        let found: Vec<_> = found.collect();
        if found.is_empty() {
            bail!("cannot find {self}: its name has no address");
        }
        Ok(found)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("'{text}' is no server: http://HOST:PORT");
        if text.starts_with("https://") {
            return Err("the generator speaks no TLS: give the server's plain listener, http://HOST:PORT".to_owned());
        }
        let authority = text.strip_prefix("http://").ok_or_else(form)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
        let is_name = |host: &str| {
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        };
        let is_v6 = |host: &str| {
            let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            inner.is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
        };
        let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
        if !is_port || !(is_name(host) || is_v6(host)) {
            return Err(form());
        }
        Ok(Self { authority: authority.to_owned() })
    }
}

/// A bearer key.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerKey(String);

impl BearerKey {
    /// From an argument: the key itself, or `@FILE`, whose first line it is.
    ///
    /// # Errors
    /// When the file cannot be read, or it cannot be a key.
    pub fn from_argument(text: &str) -> Result<Self> {
        let Some(path) = text.strip_prefix('@') else { return Self::new(text) };
        let path = Path::new(path);
        let content = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(content.lines().next().unwrap_or_default().trim()).with_context(|| path.display().to_string())
    }

    fn new(text: &str) -> Result<Self> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX || !text.bytes().all(|b| b.is_ascii_graphic()) {
            bail!("a key is 1 to {KEY_BYTES_MAX} visible ASCII characters");
        }
        Ok(Self(text.to_owned()))
    }

    /// For the `Authorization` header.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for good in ["http://localhost:8700", "http://10.0.0.1:1", "http://[::1]:8700", "http://a-b.c_d:65535"] {
            assert_eq!(good.parse::<Endpoint>().expect("a server").to_string(), good);
        }
        assert_eq!("http://x:80/".parse::<Endpoint>().expect("a server").authority(), "x:80");
        let bad = [
            "localhost:8700",
            "http://localhost",
            "http://:1",
            "http://x:0",
            "http://x:65536",
            "http://x:+1",
            "http://x:1/v1",
            "http://u@x:1",
            "http://::1:1",
            "http://x y:1",
            "http://x:1\r\nA: b",
            "https://x:1",
        ];
        for bad in bad {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_text_or_the_first_line_of_a_file_and_never_shown() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("key");
        std::fs::write(&path, "tp_secret\nrest\n").expect("written");
        let key = BearerKey::from_argument(&format!("@{}", path.display())).expect("a key");
        assert_eq!(key, BearerKey::from_argument("tp_secret").expect("a key"));
        assert!(!format!("{key:?}").contains("secret"));
        for bad in ["", "a b", "a\r\nb", "@/does/not/exist"] {
            assert!(BearerKey::from_argument(bad).is_err(), "{bad:?}");
        }
    }
}
