//! Handshakes in memory, with certificates made here.

use std::fs;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConnection};

use super::*;

const NAME: &str = "bank.example";

/// A certificate with its key.
struct Pair {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// An authority and a folder for its files.
struct Place {
    folder: tempfile::TempDir,
    authority: Pair,
    params: CertificateParams,
}

impl Place {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = Pair { certificate: params.self_signed(&key).unwrap(), key };
        let place = Self { folder: tempfile::tempdir().unwrap(), authority, params };
        place.write("authority.pem", &place.authority.certificate.pem());
        place
    }

    fn make(&self, purpose: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let issuer = Issuer::from_params(&self.params, &self.authority.key);
        Pair { certificate: params.signed_by(&key, &issuer).unwrap(), key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn install(&self) -> Pair {
        let server = self.make(ExtendedKeyUsagePurpose::ServerAuth);
        self.write("server.pem", &server.certificate.pem());
        self.write("server.key", &server.key.serialize_pem());
        server
    }

    fn files(&self, clients: ClientCertificates) -> TlsFiles {
        TlsFiles { certificates: self.path("server.pem"), key: self.path("server.key"), clients }
    }

    fn client(&self, own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivatePkcs8KeyDer::from(pair.key.serialize_der()).into();
                builder.with_client_auth_cert(vec![pair.certificate.der().clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// Carries bytes to and fro until neither side has any left.
fn handshake(tls: &Tls, client: ClientConfig) -> Result<(ServerConnection, ClientConnection), rustls::Error> {
    let mut server = ServerConnection::new(tls.config())?;
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from(NAME).unwrap())?;
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            server.read_tls(&mut left).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut left = wire.as_slice();
        while !left.is_empty() {
            client.read_tls(&mut left).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok((server, client))
}

fn shown_to(client: &ClientConnection) -> &CertificateDer<'static> {
    &client.peer_certificates().unwrap()[0]
}

#[test]
fn a_client_speaks_tls_1_3_and_h2() {
    let place = Place::new();
    let installed = place.install();
    let tls = Tls::open(place.files(ClientCertificates::NotAsked)).unwrap();
    let (server, client) = handshake(&tls, place.client(None)).unwrap();
    assert!(!server.is_handshaking() && !client.is_handshaking());
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(shown_to(&client), installed.certificate.der());
    assert_eq!(server.peer_certificates(), None);
}

#[test]
fn a_client_of_tls_1_2_is_refused() {
    let place = Place::new();
    place.install();
    let tls = Tls::open(place.files(ClientCertificates::NotAsked)).unwrap();
    // A hello of version 1.2: one cipher suite of that time, extensions for curves and signatures, none that names 1.3.
    let extensions = [
        [0, 10, 0, 4, 0, 2, 0, 23].as_slice(), // supported_groups: P-256
        &[0, 13, 0, 4, 0, 2, 4, 3],            // signature_algorithms: ECDSA with P-256 and SHA-256
    ]
    .concat();
    let mut hello = vec![3, 3];
    hello.extend([9; 32]); // random
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]); // no session, ECDHE-ECDSA-AES128-GCM-SHA256, no compression
    hello.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    hello.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(hello.len()).unwrap().to_be_bytes());
    message.extend(hello);
    let mut record = vec![22, 3, 1];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);

    let mut server = ServerConnection::new(tls.config()).unwrap();
    server.read_tls(&mut record.as_slice()).unwrap();
    assert!(matches!(server.process_new_packets(), Err(rustls::Error::PeerIncompatible(_))));
    let mut answer = Vec::new();
    server.write_tls(&mut answer).unwrap();
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70], "a fatal alert: protocol_version");
}

#[test]
fn reloading_serves_the_new_certificate_to_new_connections() {
    let place = Place::new();
    let before = place.install();
    let tls = Tls::open(place.files(ClientCertificates::NotAsked)).unwrap();
    let (mut old_server, mut old_client) = handshake(&tls, place.client(None)).unwrap();
    let after = place.install();
    let (_, client) = handshake(&tls, place.client(None)).unwrap();
    assert_eq!(shown_to(&client), before.certificate.der(), "nothing changes before the reload");
    tls.reload().unwrap();
    let (_, client) = handshake(&tls, place.client(None)).unwrap();
    assert_eq!(shown_to(&client), after.certificate.der());
    // The open connection goes on.
    io::Write::write_all(&mut old_client.writer(), b"still here").unwrap();
    let mut wire = Vec::new();
    old_client.write_tls(&mut wire).unwrap();
    old_server.read_tls(&mut wire.as_slice()).unwrap();
    assert_eq!(old_server.process_new_packets().unwrap().plaintext_bytes_to_read(), 10);
}

#[test]
fn broken_files_keep_the_old_certificate() {
    let place = Place::new();
    let before = place.install();
    let tls = Tls::open(place.files(ClientCertificates::Optional(place.path("authority.pem")))).unwrap();
    let good =
        ["server.pem", "server.key", "authority.pem"].map(|name| (name, fs::read_to_string(place.path(name)).unwrap()));
    let cut = good[0].1[..good[0].1.len() / 2].to_owned();
    let stranger = place.make(ExtendedKeyUsagePurpose::ServerAuth);
    let large = "#".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1);
    let certificate_of_nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    for (name, content) in [
        ("server.pem", String::new()),
        ("server.pem", cut),
        ("server.pem", stranger.certificate.pem()),
        ("server.pem", certificate_of_nothing.clone()),
        ("server.pem", large),
        ("server.key", String::new()),
        ("server.key", good[0].1.clone()),
        ("server.key", stranger.key.serialize_pem()),
        ("authority.pem", String::new()),
        ("authority.pem", certificate_of_nothing),
    ] {
        place.write(name, &content);
        assert!(tls.reload().is_err(), "{name}: {} bytes", content.len());
        let (_, client) = handshake(&tls, place.client(None)).unwrap();
        assert_eq!(shown_to(&client), before.certificate.der());
        for (name, content) in &good {
            place.write(name, content);
        }
    }
    tls.reload().unwrap();
    fs::remove_file(place.path("server.key")).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Io { path, .. }) if path == place.path("server.key")));
}

#[test]
fn a_required_certificate_must_be_shown_and_be_of_the_authority() {
    let (place, elsewhere) = (Place::new(), Place::new());
    place.install();
    let authorities = place.path("authority.pem");
    let own = place.make(ExtendedKeyUsagePurpose::ClientAuth);
    let foreign = elsewhere.make(ExtendedKeyUsagePurpose::ClientAuth);
    let of_a_server = place.make(ExtendedKeyUsagePurpose::ServerAuth);
    let required = Tls::open(place.files(ClientCertificates::Required(authorities.clone()))).unwrap();
    let optional = Tls::open(place.files(ClientCertificates::Optional(authorities))).unwrap();
    for tls in [&required, &optional] {
        let (server, _) = handshake(tls, place.client(Some(&own))).unwrap();
        let fingerprint = client_fingerprint(server.peer_certificates().unwrap()).unwrap();
        assert_eq!(fingerprint, digest::digest(&SHA256, own.certificate.der()).as_ref());
        assert!(handshake(tls, place.client(Some(&foreign))).is_err());
        assert!(handshake(tls, place.client(Some(&of_a_server))).is_err());
    }
    assert!(handshake(&required, place.client(None)).is_err());
    let (server, _) = handshake(&optional, place.client(None)).unwrap();
    assert_eq!(client_fingerprint(server.peer_certificates().unwrap_or_default()), None);
}

#[test]
fn reloading_exchanges_the_clients_authorities() {
    let (place, elsewhere) = (Place::new(), Place::new());
    place.install();
    let own = place.make(ExtendedKeyUsagePurpose::ClientAuth);
    let tls = Tls::open(place.files(ClientCertificates::Required(place.path("authority.pem")))).unwrap();
    assert!(handshake(&tls, place.client(Some(&own))).is_ok());
    place.write("authority.pem", &elsewhere.authority.certificate.pem());
    tls.reload().unwrap();
    assert!(handshake(&tls, place.client(Some(&own))).is_err());
}

#[test]
fn a_session_is_never_resumed() {
    let place = Place::new();
    place.install();
    let own = place.make(ExtendedKeyUsagePurpose::ClientAuth);
    let tls = Tls::open(place.files(ClientCertificates::Required(place.path("authority.pem")))).unwrap();
    // Clones share the client's memory of sessions.
    let client = place.client(Some(&own));
    for _ in 0..2 {
        let (server, _) = handshake(&tls, client.clone()).unwrap();
        assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn fingerprints_tell_certificates_apart() {
    let place = Place::new();
    let (one, other) = (place.install(), place.install());
    let of =
        |pair: &Pair| client_fingerprint(&[pair.certificate.der().clone(), place.authority.certificate.der().clone()]);
    assert_ne!(of(&one), of(&other));
    assert_eq!(of(&one), client_fingerprint(&[one.certificate.der().clone()]));
}
