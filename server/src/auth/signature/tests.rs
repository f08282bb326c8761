//! Signed requests: the vectors of the standard, the profile rule by rule, and every byte changed once.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_618_884_473;
const KEY: KeyId = KeyId::from_bytes([0xab; 8]);
const SECRET: [u8; 32] = [7; 32];
const BODY: &[u8] = br#"{"account":"1","amount":"1250"}"#;

fn headers_of(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    headers
}

/// The vectors of RFC 9421, appendix B.2: one request, two keys.
mod vectors {
    use super::*;

    const SHARED_SECRET: &str =
        "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";
    const ED25519_PUBLIC: &str = "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs";
    const ED25519_SEED: &str = "n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU";

    fn check(input: &str, signature: &str, expected_base: &str, verifying: &VerifyingKey, signing: &SigningKey) {
        let headers = headers_of(&[
            ("host", "example.com"),
            ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
            ("content-type", "application/json"),
            ("content-length", "18"),
        ]);
        let parts = SignedParts {
            method: "POST",
            scheme: Scheme::Https,
            authority: "example.com",
            path: "/foo",
            query: Some("param=Value&Pet=dog"),
            headers: &headers,
        };
        let entry = only_entry(input).unwrap();
        let Member::Strings(components) = entry.member else { panic!("{input}") };
        let base = base::signature_base(&parts, &components, &entry.parameters).unwrap();
        assert_eq!(base, expected_base);
        let Member::Bytes(bytes) = only_entry(signature).unwrap().member else { panic!("{signature}") };
        assert!(verifying.verify(base.as_bytes(), &bytes));
        assert_eq!(signing.sign(base.as_bytes()), bytes);
        assert!(!verifying.verify(format!("{base} ").as_bytes(), &bytes));
    }

    #[test]
    fn the_hmac_vector_of_the_standard_verifies() {
        let secret = STANDARD.decode(SHARED_SECRET).unwrap();
        check(
            r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
            "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
            concat!(
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\"content-type\": application/json\n",
                "\"@signature-params\": (\"date\" \"@authority\" \"content-type\");created=1618884473;keyid=\"test-shared-secret\"",
            ),
            &VerifyingKey::hmac_sha256(&secret).unwrap(),
            &SigningKey::hmac_sha256(&secret).unwrap(),
        );
    }

    #[test]
    fn the_ed25519_vector_of_the_standard_verifies() {
        let signing = SigningKey::ed25519(&URL_SAFE_NO_PAD.decode(ED25519_SEED).unwrap()).unwrap();
        let public = URL_SAFE_NO_PAD.decode(ED25519_PUBLIC).unwrap();
        assert_eq!(signing.public_key(), Some(public.as_slice()));
        check(
            concat!(
                r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length")"#,
                r#";created=1618884473;keyid="test-key-ed25519""#,
            ),
            "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
            concat!(
                "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n",
                "\"content-type\": application/json\n\"content-length\": 18\n",
                "\"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\")",
                ";created=1618884473;keyid=\"test-key-ed25519\"",
            ),
            &VerifyingKey::ed25519(&public).unwrap(),
            &signing,
        );
    }
}

/// A request that owns its parts, so that a test can change one.
#[derive(Clone)]
struct Request {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn parts(&self) -> SignedParts<'_> {
        SignedParts {
            method: &self.method,
            scheme: Scheme::Https,
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }

    fn verified(&self, key: &VerifyingKey) -> Result<Verified, SignatureError> {
        verify(&self.parts(), &self.body, key, NOW, Limits::default())
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, value.parse().unwrap());
    }

    fn text(&self, name: &str) -> String {
        self.headers[name].to_str().unwrap().to_owned()
    }
}

fn options() -> SignOptions<'static> {
    SignOptions {
        key_id: KEY,
        created_unix_s: NOW,
        expires_unix_s: None,
        nonce: "nonce-0001",
        label: "sig1",
        also: &["content-type"],
    }
}

fn hmac() -> (SigningKey, VerifyingKey) {
    (SigningKey::hmac_sha256(&SECRET).unwrap(), VerifyingKey::hmac_sha256(&SECRET).unwrap())
}

fn ed25519() -> (SigningKey, VerifyingKey) {
    let signing = SigningKey::ed25519(&SECRET).unwrap();
    let verifying = VerifyingKey::ed25519(signing.public_key().unwrap()).unwrap();
    (signing, verifying)
}

fn signed_with(key: &SigningKey, options: &SignOptions<'_>, body: &[u8]) -> Request {
    let mut request = Request {
        method: "POST".to_owned(),
        authority: "api.example.com:8443".to_owned(),
        path: "/v1/authorizations".to_owned(),
        query: Some("a=1&b=%20".to_owned()),
        headers: headers_of(&[
            ("content-type", "application/json"),
            ("idempotency-key", "\"order-1\""),
            ("idempotency-key-kind", "opaque"),
            ("accept", "*/*"),
        ]),
        body: body.to_vec(),
    };
    let made = sign(&request.parts(), body, key, options).unwrap();
    if let Some(digest) = &made.content_digest {
        request.set("content-digest", digest);
    }
    request.set("signature-input", &made.signature_input);
    request.set("signature", &made.signature);
    request
}

fn signed() -> Request {
    signed_with(&hmac().0, &options(), BODY)
}

#[test]
fn a_signed_request_verifies_with_either_algorithm_with_and_without_a_body() {
    for (signing, verifying) in [hmac(), ed25519()] {
        for body in [BODY, b""] {
            let request = signed_with(&signing, &options(), body);
            assert_eq!(parse_key_id(&request.headers), Ok(KEY));
            let verified = request.verified(&verifying).unwrap();
            assert_eq!(verified, Verified { key_id: KEY, nonce: "nonce-0001".to_owned(), created_unix_s: NOW });
        }
    }
}

#[test]
fn another_key_does_not_verify() {
    let request = signed();
    assert_eq!(request.verified(&VerifyingKey::hmac_sha256(&[8; 32]).unwrap()), Err(SignatureError::DoesNotVerify));
    assert_eq!(request.verified(&ed25519().1), Err(SignatureError::AlgorithmOfAnotherKey));
}

/// Every text that differs from this one in one byte, in several ways.
fn changes(text: &str) -> impl Iterator<Item = String> + '_ {
    (0..text.len()).flat_map(move |at| {
        [1_u8, 2, 4, 0x10, 0x11].into_iter().filter_map(move |bits| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] ^= bits;
            (0x20..=0x7e).contains(&bytes[at]).then(|| String::from_utf8(bytes).unwrap())
        })
    })
}

#[test]
fn any_changed_byte_of_the_head_is_refused() {
    for (signing, verifying) in [hmac(), ed25519()] {
        let original = signed_with(&signing, &options(), BODY);
        let refused = |changed: Request, what: &str| assert!(changed.verified(&verifying).is_err(), "accepted: {what}");
        for text in changes(&original.method) {
            refused(Request { method: text.clone(), ..original.clone() }, &text);
        }
        for text in changes(&original.authority) {
            refused(Request { authority: text.clone(), ..original.clone() }, &text);
        }
        for text in changes(&original.path) {
            refused(Request { path: text.clone(), ..original.clone() }, &text);
        }
        for text in changes(original.query.as_deref().unwrap()) {
            refused(Request { query: Some(text.clone()), ..original.clone() }, &text);
        }
        refused(Request { query: None, ..original.clone() }, "no query");
        let covered = [
            "content-type",
            "idempotency-key",
            "idempotency-key-kind",
            "content-digest",
            "signature-input",
            "signature",
        ];
        for name in covered {
            for text in changes(&original.text(name)) {
                let mut changed = original.clone();
                changed.set(name, &text);
                refused(changed, &text);
            }
            let mut without = original.clone();
            without.headers.remove(name);
            refused(without, name);
            let mut twice = original.clone();
            twice.headers.append(name, original.headers[name].clone());
            refused(twice, name);
        }
    }
}

#[test]
fn any_changed_byte_of_the_body_is_refused() {
    let (signing, verifying) = hmac();
    let original = signed_with(&signing, &options(), BODY);
    for at in 0..BODY.len() {
        for bit in 0..8 {
            let mut changed = original.clone();
            changed.body[at] ^= 1 << bit;
            assert_eq!(changed.verified(&verifying), Err(SignatureError::Digest(DigestError::OtherBody)));
        }
    }
    for body in [b"".to_vec(), BODY[1..].to_vec(), [BODY, b" "].concat()] {
        assert!(Request { body, ..original.clone() }.verified(&verifying).is_err());
    }
}

#[test]
fn what_is_not_covered_may_change() {
    let mut request = signed();
    request.set("accept", "text/plain");
    assert!(request.verified(&hmac().1).is_ok());
}

#[test]
fn a_body_without_a_covered_digest_is_refused() {
    let mut request = signed_with(&hmac().0, &options(), b"");
    request.body = BODY.to_vec();
    assert_eq!(request.verified(&hmac().1), Err(SignatureError::NotCovered("content-digest")));
    request.set("content-digest", &super::super::content_digest::content_digest(BODY));
    assert_eq!(request.verified(&hmac().1), Err(SignatureError::NotCovered("content-digest")));
}

#[test]
fn an_idempotency_key_that_was_added_is_refused() {
    let mut plain = signed();
    plain.headers.remove("idempotency-key");
    plain.headers.remove("idempotency-key-kind");
    let made = sign(&plain.parts(), BODY, &hmac().0, &options()).unwrap();
    plain.set("signature-input", &made.signature_input);
    plain.set("signature", &made.signature);
    assert!(plain.verified(&hmac().1).is_ok());
    for name in COVERED_IF_PRESENT {
        let mut added = plain.clone();
        added.set(name, "other");
        assert_eq!(added.verified(&hmac().1), Err(SignatureError::NotCovered(name)));
    }
}

/// Signs whatever `Signature-Input` says and verifies it: only the profile can refuse.
fn outcome_of_input(change: impl Fn(String) -> String) -> Result<Verified, SignatureError> {
    let mut request = signed();
    let input = change(request.text("signature-input"));
    request.set("signature-input", &input);
    if let Ok(mut entries) = fields::dictionary(&input)
        && let Some(Entry { key, member: Member::Strings(components), parameters }) = entries.pop()
        && let Ok(base) = base::signature_base(&request.parts(), &components, &parameters)
    {
        let mut signature = format!("{key}=");
        fields::write_bytes(&mut signature, &hmac().0.sign(base.as_bytes()));
        request.set("signature", &signature);
    }
    request.verified(&hmac().1)
}

#[test]
fn each_rule_of_the_profile_has_its_reason() {
    use SignatureError as E;
    let cases: [(&str, &str, E); 22] = [
        ("\"@method\" ", "", E::NotCovered("@method")),
        ("\"@authority\" ", "", E::NotCovered("@authority")),
        ("\"@path\" ", "", E::NotCovered("@path")),
        ("\"@query\" ", "", E::NotCovered("@query")),
        ("\"content-digest\" ", "", E::NotCovered("content-digest")),
        ("\"idempotency-key\" ", "", E::NotCovered("idempotency-key")),
        ("\"idempotency-key-kind\" ", "", E::NotCovered("idempotency-key-kind")),
        ("\"@path\"", "\"@path\" \"@path\"", E::ComponentRepeated),
        ("\"@path\"", "\"@path\" \"@target-uri\"", E::ComponentUnsupported),
        ("\"@path\"", "\"@path\" \"signature\"", E::ComponentUnsupported),
        ("\"@path\"", "\"@path\";req", E::ComponentUnsupported),
        ("\"content-type\"", "\"Content-Type\"", E::ComponentUnsupported),
        ("\"content-type\"", "\"x-absent\"", E::CoveredFieldMissing),
        (";created=1618884473", "", E::ParameterMissing("created")),
        (";created=1618884473", ";created=-1", E::ParameterWrong("created")),
        (";created=1618884473", ";created=\"1618884473\"", E::ParameterWrong("created")),
        (";nonce=\"nonce-0001\"", "", E::ParameterMissing("nonce")),
        (";nonce=\"nonce-0001\"", ";nonce=\"1234567\"", E::ParameterWrong("nonce")),
        (";keyid=\"abababababababab\"", "", E::ParameterMissing("keyid")),
        (";keyid=\"abababababababab\"", ";keyid=\"a\"", E::ParameterWrong("keyid")),
        (";alg=\"hmac-sha256\"", ";alg=\"ed25519\"", E::AlgorithmOfAnotherKey),
        (";created=", ";context=\"x\";created=", E::ParameterUnknown),
    ];
    for (from, to, expected) in cases {
        let outcome = outcome_of_input(|input| {
            assert!(input.contains(from), "{input}");
            input.replacen(from, to, 1)
        });
        assert_eq!(outcome, Err(expected), "{from} -> {to}");
    }
    for (from, to) in [
        ("sig1=", "other*="),
        (";alg=\"hmac-sha256\"", ""),
        (";created=1618884473", ";created=1618884473;expires=1618884474;tag=\"t\""),
        (" \"content-type\"", ""),
    ] {
        assert!(outcome_of_input(|input| input.replacen(from, to, 1)).is_ok(), "{from} -> {to}");
    }
}

#[test]
fn two_signatures_are_refused() {
    let outcome = outcome_of_input(|input| format!("{input}, sig2=(\"@method\");created=1"));
    assert_eq!(outcome, Err(SignatureError::NotOneSignature));
    let mut request = signed();
    let signature = format!("{}, sig2=:AA==:", request.text("signature"));
    request.set("signature", &signature);
    assert_eq!(request.verified(&hmac().1), Err(SignatureError::NotOneSignature));
}

#[test]
fn fields_that_are_too_long_or_not_there_are_refused() {
    let long = outcome_of_input(|input| format!("{input}{}", " ".repeat(SIGNATURE_INPUT_BYTES_MAX)));
    assert_eq!(long, Err(SignatureError::FieldTooLong));
    let mut request = signed();
    assert!(is_signed(&request.headers));
    request.headers.remove("signature");
    assert!(is_signed(&request.headers));
    assert_eq!(request.verified(&hmac().1), Err(SignatureError::NotSigned));
    request.headers.remove("signature-input");
    assert!(!is_signed(&request.headers));
}

#[test]
fn the_window_ends_where_it_says() {
    let at = |created_unix_s, expires_unix_s| {
        let options = SignOptions { created_unix_s, expires_unix_s, ..options() };
        signed_with(&hmac().0, &options, BODY).verified(&hmac().1).map(|verified| verified.created_unix_s)
    };
    assert_eq!(at(NOW - 300, None), Ok(NOW - 300));
    assert_eq!(at(NOW - 301, None), Err(SignatureError::TooOld));
    assert_eq!(at(NOW + 5, None), Ok(NOW + 5));
    assert_eq!(at(NOW + 6, None), Err(SignatureError::FromTheFuture));
    assert_eq!(at(NOW, Some(NOW + 1)), Ok(NOW));
    assert_eq!(at(NOW, Some(NOW)), Err(SignatureError::Expired));
    let strict = Limits::new(0, 1_000);
    assert_eq!((strict.age_s_max(), strict.ahead_s_max()), (1, 30));
}

#[test]
fn a_default_port_and_the_case_of_the_host_do_not_matter() {
    let mut request = signed();
    request.authority = "API.example.com:443".to_owned();
    let made =
        sign(&SignedParts { authority: "api.example.com", ..request.parts() }, BODY, &hmac().0, &options()).unwrap();
    request.set("signature", &made.signature);
    assert!(request.verified(&hmac().1).is_ok());
    let plain = SignedParts { scheme: Scheme::Http, ..request.parts() };
    assert_eq!(verify(&plain, BODY, &hmac().1, NOW, Limits::default()), Err(SignatureError::DoesNotVerify));
}

#[test]
fn the_base_has_one_line_for_each_component_as_the_standard_writes_it() {
    let headers = headers_of(&[("idempotency-key", "  \"order-1\" ")]);
    let names = [METHOD, AUTHORITY, PATH, QUERY, "idempotency-key"];
    let components = names.map(|name| (name.to_owned(), Parameters::new()));
    let base = |path, query| {
        let parts = SignedParts {
            method: "POST",
            scheme: Scheme::Https,
            authority: "WWW.example.com:443",
            path,
            query,
            headers: &headers,
        };
        base::signature_base(&parts, &components, &vec![("created".to_owned(), Bare::Integer(1))]).unwrap()
    };
    // RFC 9421, 2.2.6 and 2.2.7: an empty path is "/", and "?" leads the query also when there is none.
    for (path, query, path_line, query_line) in [
        ("/path", Some("param=value&foo=bar&baz=bat%2Dman"), "/path", "?param=value&foo=bar&baz=bat%2Dman"),
        ("/path", Some("queryString"), "/path", "?queryString"),
        ("/path", Some(""), "/path", "?"),
        ("", None, "/", "?"),
    ] {
        let expected = [
            "\"@method\": POST",
            "\"@authority\": www.example.com",
            &format!("\"@path\": {path_line}"),
            &format!("\"@query\": {query_line}"),
            "\"idempotency-key\": \"order-1\"",
            "\"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"@query\" \"idempotency-key\");created=1",
        ];
        assert_eq!(base(path, query), expected.join("\n"));
    }
}

#[test]
fn a_value_that_would_make_a_line_of_its_own_is_refused() {
    let request = signed();
    for text in ["/v1\n\"@query\": ?", "/\u{e9}", "/\0"] {
        let parts = SignedParts { path: text, ..request.parts() };
        let outcome = verify(&parts, BODY, &hmac().1, NOW, Limits::default());
        assert_eq!(outcome, Err(SignatureError::NotPrintable));
    }
}

#[test]
fn a_time_that_has_no_text_is_not_signed() {
    let request = signed();
    let of = |created_unix_s| sign(&request.parts(), BODY, &hmac().0, &SignOptions { created_unix_s, ..options() });
    assert!(of(999_999_999_999_999).is_ok());
    for seconds in [1_000_000_000_000_000, u64::MAX] {
        assert_eq!(of(seconds), Err(SignatureError::ParameterWrong("created")));
    }
}

#[test]
fn short_secrets_and_wrong_lengths_are_no_keys() {
    assert!(VerifyingKey::hmac_sha256(&[1; 31]).is_err());
    assert!(VerifyingKey::hmac_sha256(&[1; 1025]).is_err());
    assert!(VerifyingKey::ed25519(&[1; 31]).is_err());
    assert!(SigningKey::ed25519(&[1; 33]).is_err());
    let shown = format!("{:?} {:?}", hmac().0, hmac().1);
    assert!(!shown.contains("7, 7") && shown.contains("redacted"));
}

proptest! {
    #[test]
    fn any_two_header_values_are_parsed_or_refused(input in "[ -~\t]{0,200}", signature in "[ -~\t]{0,100}") {
        let headers = headers_of(&[("signature-input", input.as_str()), ("signature", signature.as_str())]);
        let _ = ParsedSignature::from_headers(&headers);
    }

    #[test]
    fn any_body_and_target_verify_when_signed(
        body in prop::collection::vec(any::<u8>(), 0..200),
        path in "/[!-~]{0,30}",
        query in prop::option::of("[!-~]{0,30}"),
        nonce in "[ -~]{8,64}",
    ) {
        let mut request = Request { path, query, body: body.clone(), ..signed() };
        let made = sign(&request.parts(), &body, &hmac().0, &SignOptions { nonce: &nonce, ..options() }).unwrap();
        if let Some(digest) = &made.content_digest {
            request.set("content-digest", digest);
        }
        request.set("signature-input", &made.signature_input);
        request.set("signature", &made.signature);
        prop_assert_eq!(request.verified(&hmac().1).map(|verified| verified.nonce), Ok(nonce));
    }
}
