//! TLS 1.3 over sockets: certificates that change while the server runs, clients that are known by theirs, and no plain text by accident.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::{ALL_ROLES, Answer, Connection, Gateway, Key, Start, add_key, add_tenant, run, text_of};
use tp_server::auth::tls::client_fingerprint;

const NAME: &str = "bank.example";
const EUR: &str = r#""asset":"EUR","scale":2"#;

/// A certificate with its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Pair {
    fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// What `tpcore key add --kind certificate` takes.
    fn fingerprint(&self) -> String {
        STANDARD.encode(client_fingerprint(&[self.der()]).expect("one certificate"))
    }
}

/// Who signs certificates.
struct Authority {
    params: CertificateParams,
    pair: Pair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        Self { params, pair: Pair { certificate, key } }
    }

    fn make(&self, purpose: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).expect("a name");
        params.extended_key_usages = vec![purpose];
        let issuer = Issuer::from_params(&self.params, &self.pair.key);
        Pair { certificate: params.signed_by(&key, &issuer).expect("signed"), key }
    }

    fn client(&self) -> Pair {
        self.make(ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// A data directory, an authority, and the server's files.
struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
    ada: Key,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        add_tenant(&data, "1", "one");
        let ada = add_key(&data, "1", "ada", ALL_ROLES, &[]);
        let place = Self { folder, authority: Authority::new(), ada };
        std::fs::write(place.path("authority.pem"), place.authority.pair.certificate.pem()).expect("written");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a new certificate of the server in its place.
    fn install(&self) -> CertificateDer<'static> {
        let server = self.authority.make(ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(self.path("server.key"), server.key.serialize_pem()).expect("written");
        std::fs::write(self.path("server.pem"), server.certificate.pem()).expect("written");
        server.der()
    }

    fn serve(&self, clients: &str) -> Gateway {
        let setting = |name: &str, file: &str| format!("{name}={}", self.path(file).display());
        let all = [
            setting("tls.certificate", "server.pem"),
            setting("tls.key", "server.key"),
            setting("tls.client_ca", "authority.pem"),
            format!("tls.client_certificates={clients}"),
            "tls.reload_ms=100".to_owned(),
        ];
        let arguments: Vec<&str> = all.iter().flat_map(|setting| ["--set", setting]).collect();
        let log = self.path("log");
        Gateway::start_as(&self.path("data"), &Start { arguments: &arguments, log: Some(&log) })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).expect("a log")
    }

    fn config(&self, own: Option<&Pair>, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.pair.der()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivatePkcs8KeyDer::from(pair.key.serialize_der()).into();
                builder.with_client_auth_cert(vec![pair.der()], key).expect("a pair")
            }
        }
    }

    fn connect(&self, address: SocketAddr, own: Option<&Pair>) -> StreamOwned<ClientConnection, std::net::TcpStream> {
        let config = Arc::new(self.config(own, &[&rustls::version::TLS13]));
        let name = ServerName::try_from(NAME).expect("a name");
        StreamOwned::new(ClientConnection::new(config, name).expect("a client"), Connection::dial(address))
    }

    /// What the server shows a new connection.
    fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let mut stream = self.connect(address, None);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        }
        stream.conn.peer_certificates().expect("a certificate")[0].clone().into_owned()
    }

    fn get(
        &self,
        gateway: &Gateway,
        own: Option<&Pair>,
        headers: &[(&str, &str)],
        path: &str,
    ) -> std::io::Result<Answer> {
        let mut connection = Connection::over(self.connect(gateway.listen, own));
        connection.try_send("GET", path, headers, "")?;
        connection.try_answer()?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }
}

fn bearer(key: &Key) -> String {
    format!("Bearer {}", key.secret)
}

#[test]
fn a_new_certificate_is_in_use_without_a_restart_and_open_connections_stay() {
    let place = Place::new();
    let first = place.install();
    let gateway = place.serve("none");
    assert_eq!(place.shown(gateway.listen), first);
    let mut open = Connection::over(place.connect(gateway.listen, None));
    let bearer = bearer(&place.ada);
    let mut ask_on_open = || {
        open.send("GET", "/v1/tenant", &[("authorization", &bearer)], "");
        assert_eq!(open.answer().status, 200);
    };
    ask_on_open();

    let second = place.install();
    let waits = || std::thread::sleep(Duration::from_millis(25));
    let is_new = (0..1_200).any(|_| {
        waits();
        place.shown(gateway.listen) == second
    });
    assert!(is_new, "the new certificate is never shown");
    ask_on_open();

    // What cannot be used is said, and what was there stays.
    std::fs::write(place.path("server.pem"), "no certificate").expect("written");
    let is_said = (0..1_200).any(|_| {
        waits();
        place.log().contains("the old ones stay")
    });
    assert!(is_said, "{}", place.log());
    assert_eq!(place.shown(gateway.listen), second);
    ask_on_open();
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn nothing_but_tls_13_is_spoken_where_tls_is() {
    let place = Place::new();
    place.install();
    let gateway = place.serve("none");
    let bearer = bearer(&place.ada);
    let mut plain = Connection::open(gateway.listen);
    plain.send("GET", "/v1/tenant", &[("authorization", &bearer)], "");
    let rest = plain.rest();
    assert!(!rest.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&rest));
    // A client that trusts somebody else does not talk to it.
    let stranger =
        Place { authority: Authority::new(), folder: tempfile::tempdir().expect("a folder"), ada: place.ada.clone() };
    assert!(stranger.get(&gateway, None, &[], "/health/live").is_err());
    assert_eq!(place.get(&gateway, None, &[("authorization", &bearer)], "/v1/tenant").expect("an answer").status, 200);
}

#[test]
fn a_client_is_who_its_certificate_says_until_that_is_revoked() {
    let place = Place::new();
    place.install();
    let (known, unknown) = (place.authority.client(), place.authority.client());
    let other_tenant = place.authority.client();
    let foreign = Authority::new().client();
    let data = place.path("data");
    add_tenant(&data, "2", "two");
    let certificate =
        |print: &str| ["--kind".to_owned(), "certificate".to_owned(), "--public".to_owned(), print.to_owned()];
    let add = |tenant: &str, person: &str, roles: &str, pair: &Pair| {
        let more = certificate(&pair.fingerprint());
        add_key(&data, tenant, person, roles, &more.each_ref().map(String::as_str))
    };
    let id = add("1", "machine", "read", &known).id;
    add("2", "machine", ALL_ROLES, &other_tenant);
    // Without the authority's word a fingerprint alone is worth nothing.
    add("1", "forger", ALL_ROLES, &foreign);

    for clients in ["optional", "required"] {
        let gateway = place.serve(clients);
        let bearer = bearer(&place.ada);
        let headers = [("authorization", bearer.as_str())];
        let tenant = |own: Option<&Pair>, headers: &[(&str, &str)]| place.get(&gateway, own, headers, "/v1/tenant");
        let answer = tenant(Some(&known), &[]).expect("an answer");
        assert_eq!((answer.status, answer.json()["tenant"].as_u64()), (200, Some(1)), "{}", answer.text);
        assert_eq!(tenant(Some(&other_tenant), &[]).expect("an answer").json()["tenant"], 2);
        let answer = place.get(&gateway, Some(&known), &[], "/v1/keys").expect("an answer");
        assert_eq!((answer.status, answer.outcome().as_str()), (403, "forbidden"), "{}", answer.text);
        let answer = tenant(Some(&unknown), &[]).expect("an answer");
        assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{}", answer.text);
        // A bearer that is wrong is not made good by the certificate.
        let answer = tenant(Some(&known), &[("authorization", "Bearer tpk_wrong")]).expect("an answer");
        assert_eq!(answer.status, 401, "{}", answer.text);
        assert_eq!(tenant(Some(&unknown), &headers).expect("an answer").status, 200);
        assert!(tenant(Some(&foreign), &headers).is_err(), "a certificate of another authority");
        match (clients, tenant(None, &headers)) {
            ("optional", answer) => {
                assert_eq!(answer.expect("an answer").status, 200);
                assert_eq!(tenant(None, &[]).expect("an answer").status, 401);
            }
            (_, answer) => assert!(answer.is_err(), "no certificate, and {answer:?}"),
        }
        if clients == "optional" {
            assert_eq!(gateway.stop(), Some(0));
            continue;
        }
        let mut open = Connection::over(place.connect(gateway.listen, Some(&known)));
        let mut ask = || {
            open.send("GET", "/v1/tenant", &[], "");
            open.answer()
        };
        assert_eq!(ask().status, 200);
        let mut admin = Connection::over(place.connect(gateway.listen, Some(&unknown)));
        admin.send("DELETE", &format!("/v1/keys/{id}"), &headers, "");
        assert_eq!(admin.answer().status, 200);
        let answer = ask();
        assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{}", answer.text);
    }
}

#[test]
fn money_moves_over_tls_with_a_certificate_alone() {
    let place = Place::new();
    place.install();
    let machine = place.authority.client();
    let print = machine.fingerprint();
    add_key(&place.path("data"), "1", "machine", ALL_ROLES, &["--kind", "certificate", "--public", &print]);
    let gateway = place.serve("required");
    let mut connection = Connection::over(place.connect(gateway.listen, Some(&machine)));
    let mut command = |path: &str, key: &str, body: &str| {
        connection.send("POST", path, &[("idempotency-key", key)], body);
        connection.answer()
    };
    for account in ["1", "2"] {
        let body = format!(r#"{{"account":"{account}","credit_limit":"500",{EUR}}}"#);
        assert_eq!(command("/v1/accounts", account, &body).status, 201);
    }
    let transfer = format!(r#"{{"account":"1","payee":"2","amount":"500",{EUR}}}"#);
    let moved = command("/v1/transfers", "t", &transfer);
    assert_eq!((moved.status, moved.json()["balances"]["posted"].as_str()), (201, Some("-500")), "{}", moved.text);
}

#[test]
fn beyond_loopback_nothing_is_served_in_plain_text_by_accident() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:8700"] {
        let refused = run(&["serve", "--listen", listen, "--data-dir", text_of(&data)], &[]);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(
            refused.stderr.contains("loopback") && refused.stderr.contains("tls.certificate"),
            "{}",
            refused.stderr
        );
    }
    // Keys to anybody's money are printed only where nobody else can come.
    let refused = run(
        &["serve", "--dev", "--set", "plain_text=true", "--listen", "0.0.0.0:0", "--data-dir", text_of(&data)],
        &[],
    );
    assert_eq!(refused.code, Some(2), "{refused:?}");
    let missing = text_of(&data).to_owned() + "/no.pem";
    let (certificate, key) = (format!("tls.certificate={missing}"), format!("tls.key={missing}"));
    let refused = run(
        &[
            "serve",
            "--set",
            &certificate,
            "--set",
            &key,
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--data-dir",
            text_of(&data),
        ],
        &[],
    );
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("no.pem"), "{}", refused.stderr);
    assert!(!data.exists(), "a directory was made");
}
