//! A request as the operations see it, and an answer as they give it.
//!
//! Owns the reading of headers, query and body of one request. Refuses to answer anything itself.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tp_actors::tp_core::key::Key;

use super::key::{parse_key, parse_kind};
use super::problem::{Problem, Refusal};
use crate::auth::jwt::LEEWAY_S;
use crate::control::{KeyId, Roles};
use crate::tenancy::{TenantId, parse_decimal};

/// Who is calling.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) person: Arc<str>,
    /// The key; a token has none, and stands for its person alone.
    pub(crate) key: KeyId,
    pub(crate) roles: Roles,
    /// When what proved it is over, seconds since 1970; `None`: when the key is revoked.
    pub(crate) until_unix_s: Option<u64>,
}

impl Caller {
    /// Whether the token that proved it is over.
    pub(crate) fn is_over(&self, unix_s: u64) -> bool {
        self.until_unix_s.is_some_and(|until| unix_s >= until.saturating_add(LEEWAY_S))
    }
}

/// A request that passed the gate.
pub(crate) struct Request {
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) query: String,
    /// The values of the path's parameters, in their order.
    pub(crate) path: Vec<String>,
    pub(crate) body: Bytes,
}

/// An answer that is no problem.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(status: StatusCode, value: &impl serde::Serialize) -> Self {
        // Plain data into memory: it cannot fail.
        Self { status, body: serde_json::to_vec(value).unwrap_or_default().into() }
    }
    pub(crate) fn ok(value: &impl serde::Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }
}

/// What comes of a request.
pub(crate) type Answered = Result<Answer, Problem>;

/// A header's text, if it is there once.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) {
            Err(Problem::invalid(format!("the header {name} is there more than once")))
        } else {
            Ok(None)
        };
    };
    value.to_str().map(Some).map_err(|_| Problem::invalid(format!("the header {name} is not visible ASCII")))
}

/// Longest deadline that a caller may ask for, ms.
const DEADLINE_MS_MAX: u64 = 60_000;

impl Request {
    /// The idempotency key of a command.
    pub(crate) fn key(&self) -> Result<Key, Problem> {
        let kind = parse_kind(header(&self.headers, "idempotency-key-kind")?)?;
        let text = header(&self.headers, "idempotency-key")?.ok_or_else(|| Problem::new(Refusal::KeyMissing, ""))?;
        parse_key(text, kind)
    }

    /// The deadline that the caller asked for, ms.
    pub(crate) fn deadline_ms(&self) -> Result<Option<u64>, Problem> {
        let parse = |text: &str| match parse_decimal(text).and_then(|ms| u64::try_from(ms).ok()) {
            Some(ms @ 1..=DEADLINE_MS_MAX) => Ok(ms),
            _ => Err(Problem::invalid("Tpcore-Deadline-Ms is a number from 1 to 60000")),
        };
        header(&self.headers, "tpcore-deadline-ms")?.map(parse).transpose()
    }

    /// A value of the path.
    pub(crate) fn path(&self, index: usize) -> &str {
        self.path.get(index).map_or("", String::as_str)
    }

    /// The body as JSON. No body is an empty object.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body: {error}")))
    }

    /// The query's parameters; unknown and doubled ones are refused.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let mut object = serde_json::Map::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value).ok_or_else(|| Problem::invalid("the query is not percent-encoded UTF-8"))?;
            if object.insert(name.to_owned(), value.into_owned().into()).is_some() {
                return Err(Problem::invalid(format!("the query has `{name}` more than once")));
            }
        }
        serde_json::from_value(object.into()).map_err(|error| Problem::invalid(format!("the query: {error}")))
    }
}

/// Percent-decoding of a query's value.
pub(crate) fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
                let digits = std::str::from_utf8(digits).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// A page of a list: how many, from where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    #[serde(default)]
    pub(crate) limit: Option<String>,
    #[serde(default)]
    pub(crate) cursor: Option<String>,
}

/// Largest page.
const LIMIT_MAX: usize = 1_000;

/// The size of a page.
pub(crate) fn limit_of(text: Option<&str>) -> Result<usize, Problem> {
    match text.map(|text| parse_decimal(text).and_then(|limit| usize::try_from(limit).ok())) {
        None => Ok(100),
        Some(Some(limit @ 1..=LIMIT_MAX)) => Ok(limit),
        Some(_) => Err(Problem::invalid("`limit` is a number from 1 to 1000")),
    }
}

/// How deep a body nests, cut off at `max` + 1. Text is not looked into.
pub(crate) fn depth_exceeds(body: &[u8], max: usize) -> bool {
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    for byte in body {
        if in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_began_ends_with_it() {
        let (tenant, person, roles) = (TenantId::OPERATOR, Arc::from("ann"), Roles::default());
        let caller = |until_unix_s| Caller {
            tenant,
            person: Arc::clone(&person),
            key: crate::control::NO_KEY,
            roles,
            until_unix_s,
        };
        assert!(!caller(Some(100)).is_over(100 + LEEWAY_S - 1) && caller(Some(100)).is_over(100 + LEEWAY_S));
        assert!(!caller(None).is_over(u64::MAX) && !caller(Some(u64::MAX)).is_over(u64::MAX - 1));
    }

    #[test]
    fn nesting_is_counted_outside_of_texts() {
        assert!(!depth_exceeds(br#"{"a":[1,{"b":"[[[[[["}]}"#, 3));
        assert!(depth_exceeds(br#"{"a":[1,{"b":"x"}]}"#, 2));
        assert!(!depth_exceeds(br#"{"a\"[[[":1}"#, 1), "an escaped quote does not end a text");
        assert!(depth_exceeds(&vec![b'['; 60_000], 16));
    }

    #[test]
    fn a_query_is_decoded_and_what_is_no_utf8_is_refused() {
        assert_eq!(decoded("a%20b+c%2Fd").as_deref(), Some("a b c/d"));
        for bad in ["%", "%2", "%zz", "%ff", "%+1"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_that_is_there_twice_is_refused() {
        let mut headers = HeaderMap::new();
        headers.append("idempotency-key", "a".parse().expect("a value"));
        assert_eq!(header(&headers, "idempotency-key").expect("once"), Some("a"));
        headers.append("idempotency-key", "b".parse().expect("a value"));
        assert!(header(&headers, "idempotency-key").is_err());
    }
}
