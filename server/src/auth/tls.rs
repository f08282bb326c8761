//! TLS of the listener: version 1.3 only, certificates from files, exchanged while the server runs. Owns the rustls configuration and the
//! fingerprint of a client's certificate. Refuses to know sockets, and what a fingerprint may do.
//!
//! ```text
//!  files -> whole new configuration, or an error and the old one stays
//!                      |
//!  each accepted connection takes the current one: Tls::config()
//! ```
//!
//! Everything is exchanged at once (certificate, key and the clients' authorities), so a reload cannot mix old and new.
//!
//! Sessions are not resumed and no early data is taken. A resumed session would bring back a client certificate that was checked earlier,
//! perhaps against an authority that was removed since; and early data can be replayed. A full handshake once per long-lived connection
//! is cheap. What remains: a connection that is open when its certificate is removed stays open. So who the certificate stands for is
//! looked up by [`client_fingerprint`] at every request, not once per connection.
//!
//! Invariant TLS-1: there is always a configuration whose key fits its certificate.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use parking_lot::RwLock;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// What is spoken, best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Must clients show a certificate?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    NotAsked,
    /// They may; one that is shown must be of these authorities (a PEM file).
    Optional(PathBuf),
    /// They must, of these authorities (a PEM file).
    Required(PathBuf),
}

/// Where everything lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate and what leads to its root: PEM, its own first.
    pub certificates: PathBuf,
    /// Its private key: PEM (PKCS #8, SEC 1 or PKCS #1).
    pub key: PathBuf,
    /// Who signs the clients' certificates.
    pub clients: ClientCertificates,
}

/// Why there is no (new) configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file could not be read, or has more than 1 MiB.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A file is not PEM, or has nothing of what is looked for.
    #[error("{}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: pem::Error,
    },
    /// The certificate or the key is not sound, or they do not belong together.
    #[error("certificate and key: {0}")]
    Pair(rustls::Error),
    /// An authority is not sound.
    #[error("{}: {error}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: rustls::Error,
    },
    /// The authorities give no verifier.
    #[error("client authorities: {0}")]
    Verifier(#[from] VerifierBuilderError),
    /// The cryptography does not offer what is needed.
    #[error("TLS 1.3 is not available: {0}")]
    Provider(rustls::Error),
}

/// The current configuration, and where the next one comes from.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(server_config(&files)?));
        Ok(Self { files, current })
    }

    /// What the next connection is to use: ask for each.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files again. New connections use what is new, open ones stay as they are.
    ///
    /// # Errors
    /// [`TlsError`]: then nothing changed.
    pub fn reload(&self) -> Result<(), TlsError> {
        let next = Arc::new(server_config(&self.files)?);
        *self.current.write() = next;
        Ok(())
    }
}

/// The name of a client: SHA-256 of its own certificate (DER), the first of those that it showed. `None` when it showed none.
///
/// It names one certificate, not a person: a renewed certificate has another.
pub fn client_fingerprint(shown: &[CertificateDer<'_>]) -> Option<[u8; 32]> {
    let own = shown.first()?;
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&SHA256, own).as_ref());
    Some(fingerprint)
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    // Given by hand everywhere: a default of the process could be set by any library.
    let provider = Arc::new(provider::default_provider());
    let certificates = certificates(&files.certificates)?;
    let key = private_key(&files.key)?;
    let verifier = client_verifier(&files.clients, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Provider)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certificates, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn client_verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let path = match clients {
        ClientCertificates::NotAsked => return Ok(None),
        ClientCertificates::Optional(path) | ClientCertificates::Required(path) => path,
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(path)? {
        roots.add(authority).map_err(|error| TlsError::Authority { path: path.clone(), error })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let verifier = match clients {
        ClientCertificates::Optional(_) => builder.allow_unauthenticated().build()?,
        ClientCertificates::Required(_) | ClientCertificates::NotAsked => builder.build()?,
    };
    Ok(Some(verifier))
}

/// All certificates of a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = read(path)?;
    let failed = |error| TlsError::Pem { path: path.to_owned(), error };
    let all = CertificateDer::pem_slice_iter(&content).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if all.is_empty() { Err(failed(pem::Error::NoItemsFound)) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| TlsError::Pem { path: path.to_owned(), error })
}

/// Bounded, and wiped afterwards: it may be the key.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let io = |error| TlsError::Io { path: path.to_owned(), error };
    let mut content = Zeroizing::new(Vec::new());
    File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(io)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(content)
}
