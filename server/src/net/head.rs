//! What is refused in the head of a request although the parser takes it.
//!
//! Owns the rules that keep two readers of the same bytes (a proxy and this server) of one mind about where a request ends and whom it is
//! for (RFC 9112 3.2, 6.1, 6.3; RFC 9113 8.3.1). Refuses to know routes.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Request, Version};

/// Why a head is refused.
pub(crate) fn flaw<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Some("the header Host is there more than once");
    }
    if host.is_none() && request.version() == Version::HTTP_11 {
        return Some("the header Host is missing");
    }
    if let Some(host) = host {
        let host = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
        let Some(host) = host.filter(|host| !host.as_str().contains('@')) else {
            return Some("the header Host is no host");
        };
        // HTTP/1.1 says that the target's authority wins; HTTP/2 that they are the same. Neither is a request of an honest client.
        if request.uri().authority().is_some_and(|authority| *authority != host) {
            return Some("the header Host is not the target's");
        }
    }
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next()
        && (codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    {
        return Some("the only transfer coding is chunked");
    }
    None
}

/// Whether the connection ends with the answer. A chunked body may have come with a length, which the parser dropped: whoever stands
/// between may have gone by it, so nothing that follows on the connection is believed.
pub(crate) fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(TRANSFER_ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, target: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut builder = Request::builder().version(version).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request")
    }

    #[test]
    fn a_request_names_its_host_once() {
        let old = |headers: &[(&str, &str)]| flaw(&request(Version::HTTP_11, "/v1/tenant", headers));
        assert_eq!(old(&[("host", "a.example:8700")]), None);
        assert_eq!(old(&[("host", "[::1]:8700")]), None);
        for bad in [&[][..], &[("host", "a"), ("host", "a")], &[("host", "")], &[("host", "a b")], &[("host", "u@a")]] {
            assert!(old(bad).is_some(), "{bad:?}");
        }
        assert_eq!(flaw(&request(Version::HTTP_10, "/", &[])), None);
        assert_eq!(flaw(&request(Version::HTTP_2, "http://a/", &[])), None);
        assert_eq!(flaw(&request(Version::HTTP_2, "http://a/", &[("host", "a")])), None);
        assert!(flaw(&request(Version::HTTP_2, "http://a/", &[("host", "b")])).is_some());
        assert!(flaw(&request(Version::HTTP_11, "http://a/", &[("host", "b")])).is_some());
    }

    #[test]
    fn a_body_is_chunked_or_has_a_length() {
        let coded = |codings: &[&str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            request(Version::HTTP_11, "/", &headers)
        };
        assert!(flaw(&coded(&["chunked"])).is_none() && is_last(&coded(&["Chunked"])));
        assert!(!is_last(&coded(&[])));
        for bad in [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity"]] {
            assert!(flaw(&coded(bad)).is_some(), "{bad:?}");
        }
    }
}
