//! Every setting of the server: name, default, unit, meaning, in one table.
//!
//! Owns reading them from a file (TOML), the environment and flags, in that order of strength, and saying where each came from.
//! Refuses to open anything that they name. An unknown name, a value out of range or of the wrong kind is an error that names the
//! place, never a default.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a setting's value came from, the weakest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The table below.
    Default,
    /// `serve --dev`.
    Dev,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("--dev"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Why the settings were not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// No setting has that name.
    #[error("{origin}: there is no setting `{name}`{}", nearest(name))]
    Unknown {
        /// The name.
        name: String,
        /// Where it stood.
        origin: Origin,
    },
    /// The value is not one of the setting's.
    #[error("{origin}: `{name}` is `{value}`: {reason}")]
    Value {
        /// The setting.
        name: String,
        /// What it was set to.
        value: String,
        /// What is wanted.
        reason: String,
        /// Where it stood.
        origin: Origin,
    },
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Together(String),
}

/// The setting whose name is nearest, as a hint.
fn nearest(name: &str) -> String {
    let distance = |other: &str| {
        let (a, b): (Vec<char>, Vec<char>) = (name.chars().take(64).collect(), other.chars().collect());
        let mut row: Vec<usize> = (0..=b.len()).collect();
        for (i, x) in a.iter().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, y) in b.iter().enumerate() {
                let next = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[b.len()]
    };
    let best = TABLE.iter().map(|setting| (distance(setting.name), setting.name)).min();
    best.filter(|(far, _)| *far <= 4).map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"))
}

/// A kind of value, read from its text form.
pub trait Value: Sized {
    /// # Errors
    /// What is wanted instead.
    fn from_text(text: &str) -> Result<Self, String>;
    /// The text form.
    fn to_text(&self) -> String;
}

impl Value for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "`true` or `false` is wanted".to_owned())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for SocketAddr {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "an IP address and port is wanted, as in 127.0.0.1:8700 or [::1]:8700".to_owned())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for Option<SocketAddr> {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { SocketAddr::from_text(text).map(Some) }
    }
    fn to_text(&self) -> String {
        self.map_or_else(String::new, |address| address.to_string())
    }
}

impl Value for Option<PathBuf> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(if text.is_empty() { None } else { Some(PathBuf::from(text)) })
    }
    fn to_text(&self) -> String {
        self.as_ref().map_or_else(String::new, |path| path.display().to_string())
    }
}

impl Value for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn to_text(&self) -> String {
        self.clone()
    }
}

/// A whole number between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Number<const FROM: u64, const TO: u64>(u64);

impl<const FROM: u64, const TO: u64> Number<FROM, TO> {
    /// Its value.
    pub const fn get(self) -> u64 {
        self.0
    }
    /// Its value as a size; on a machine of 32 bits at most what fits.
    pub fn size(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
    /// That many milliseconds.
    pub const fn ms(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl<const FROM: u64, const TO: u64> Value for Number<FROM, TO> {
    fn from_text(text: &str) -> Result<Self, String> {
        let digits = text.replace('_', "");
        match digits.parse() {
            Ok(value) if (FROM..=TO).contains(&value) => Ok(Self(value)),
            _ => Err(format!("a whole number from {FROM} to {TO} is wanted")),
        }
    }
    fn to_text(&self) -> String {
        self.0.to_string()
    }
}

/// Whether clients show certificates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientCertificates {
    /// They are not asked for.
    None,
    /// Asked for; other ways to prove who one is stay open.
    Optional,
    /// A connection without a certificate of the given authority is refused.
    Required,
}

impl Value for ClientCertificates {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "optional" => Ok(Self::Optional),
            "required" => Ok(Self::Required),
            _ => Err("`none`, `optional` or `required` is wanted".to_owned()),
        }
    }
    fn to_text(&self) -> String {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
        .to_owned()
    }
}

/// A row of the table.
pub struct Setting {
    /// Its name: in a file under its section, in the environment `TPCORE_` and the name in capitals with `__` for the dot.
    pub name: &'static str,
    /// Its default, in text form.
    pub default: &'static str,
    /// Its unit, or kind.
    pub unit: &'static str,
    /// What it does.
    pub meaning: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
    get: fn(&Settings) -> String,
}

impl Setting {
    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("TPCORE_{}", self.name.to_uppercase().replace('.', "__"))
    }
}

macro_rules! settings {
    ($($(#[doc = $meaning:literal])* $field:ident : $kind:ty = $default:literal, $name:literal, $unit:literal;)*) => {
        /// The server's settings.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $($(#[doc = $meaning])* pub $field: $kind,)*
            origins: BTreeMap<&'static str, Origin>,
        }

        /// Every setting, in the order of the documentation.
        pub const TABLE: &[Setting] = &[$(Setting {
            name: $name,
            default: $default,
            unit: $unit,
            meaning: concat!($($meaning),*),
            set: |settings, text| <$kind>::from_text(text).map(|value| settings.$field = value),
            get: |settings| settings.$field.to_text(),
        },)*];

        impl Settings {
            /// The defaults.
            ///
            /// # Errors
            /// Never: a test reads them all.
            pub fn defaults() -> Result<Self, SettingError> {
                let bad = |name: &str, value: &str, reason| SettingError::Value {
                    name: name.to_owned(), value: value.to_owned(), reason, origin: Origin::Default,
                };
                Ok(Self {
                    $($field: <$kind>::from_text($default).map_err(|reason| bad($name, $default, reason))?,)*
                    origins: BTreeMap::new(),
                })
            }
        }
    };
}

settings! {
    /// The address that gateways call.
    listen: SocketAddr = "127.0.0.1:8700", "listen", "address";
    /// The address of metrics, status page and health for operators. Keep it off the network that gateways are on.
    admin_listen: SocketAddr = "127.0.0.1:8701", "admin_listen", "address";
    /// Serve operators on an address that is not loopback: in plain text, and figures of all tenants without a key.
    admin_plain_text: bool = "false", "admin_plain_text", "bool";
    /// Serve without TLS on an address that is not loopback.
    plain_text: bool = "false", "plain_text", "bool";
    /// Threads that serve the network; 0: as many as cores.
    workers: Number<0, 256> = "0", "workers", "threads";
    /// PEM file with the server's certificate chain; with it and `tls.key` the listener speaks TLS 1.3.
    tls_certificate: Option<PathBuf> = "", "tls.certificate", "file";
    /// PEM file with its private key.
    tls_key: Option<PathBuf> = "", "tls.key", "file";
    /// PEM file with the authorities of client certificates.
    tls_client_ca: Option<PathBuf> = "", "tls.client_ca", "file";
    /// Whether clients show certificates: `none`, `optional`, `required`.
    tls_client_certificates: ClientCertificates = "none", "tls.client_certificates", "choice";
    /// How often the certificate files are looked at for changes.
    tls_reload_ms: Number<100, 86_400_000> = "10000", "tls.reload_ms", "ms";
    /// File with the master key that seals the secrets of HMAC keys. Empty: `server/seal.key` in the data directory, made when it is missing.
    seal_key: Option<PathBuf> = "", "auth.seal_key", "file";
    /// JWKS file with the keys of tokens (JWT) that are accepted as bearers. Empty: none are.
    jwt_keys: Option<PathBuf> = "", "auth.jwt_keys", "file";
    /// The issuer (`iss`) that tokens must have.
    jwt_issuer: String = "", "auth.jwt_issuer", "text";
    /// The audience (`aud`) that tokens must have.
    jwt_audience: String = "tpcore", "auth.jwt_audience", "text";
    /// How old a request signature may be.
    signature_window_s: Number<1, 300> = "300", "auth.signature_window_s", "s";
    /// Nonces remembered, of all keys together; when so many are in the window, signed requests are refused.
    nonces_max: Number<1_000, 100_000_000> = "1000000", "auth.nonces_max", "count";
    /// Largest body.
    body_bytes_max: Number<1_024, 1_048_576> = "65536", "limits.body_bytes_max", "bytes";
    /// Largest head of a request: method, path and headers together.
    header_bytes_max: Number<8_192, 1_048_576> = "16384", "limits.header_bytes_max", "bytes";
    /// Deepest nesting of a body's JSON.
    json_depth_max: Number<3, 128> = "16", "limits.json_depth_max", "levels";
    /// Connections at once; more are closed at once. At most what the limit of open files (raised to its hard limit) leaves room for.
    connections_max: Number<1, 1_000_000> = "16384", "limits.connections_max", "count";
    /// Requests of one HTTP/2 connection at once.
    streams_max: Number<1, 10_000> = "256", "limits.streams_max", "count";
    /// Commands of a batch.
    batch_commands_max: Number<1, 5_000> = "500", "limits.batch_commands_max", "count";
    /// Requests that one tenant may have under way.
    tenant_in_flight_max: Number<1, 1_000_000> = "4096", "limits.tenant_in_flight_max", "count";
    /// Requests a second of one tenant, on average; each command of a batch counts.
    tenant_rate: Number<1, 4_000_000_000> = "1000000", "limits.tenant_rate", "1/s";
    /// Requests that one tenant may send at once above its rate.
    tenant_burst: Number<1, 4_000_000_000> = "100000", "limits.tenant_burst", "count";
    /// Failed proofs of identity of one address a minute, above which it is answered 429 without a look at its credentials.
    failures_per_minute: Number<1, 1_000_000> = "600", "limits.failures_per_minute", "1/min";
    /// Reads of old facts (statements, histories, lists) under way at once, of all tenants.
    history_reads_max: Number<1, 1_024> = "8", "limits.history_reads_max", "count";
    /// Streams of events at once, each with a thread; of one tenant at most half of them.
    follows_max: Number<2, 256> = "64", "limits.follows_max", "count";
    /// From a new connection (with TLS: from its handshake's end) to its first byte.
    first_byte_ms: Number<10, 3_600_000> = "10000", "deadlines.first_byte_ms", "ms";
    /// For a TLS handshake.
    tls_ms: Number<10, 3_600_000> = "10000", "deadlines.tls_ms", "ms";
    /// For the head of a request, from its first byte. HTTP/2: for the connection's preface.
    header_ms: Number<10, 3_600_000> = "10000", "deadlines.header_ms", "ms";
    /// For the body of a request, from the end of its head.
    body_ms: Number<10, 3_600_000> = "10000", "deadlines.body_ms", "ms";
    /// For an answer to be taken, from when it is ready; then the connection is cut.
    answer_ms: Number<10, 3_600_000> = "60000", "deadlines.answer_ms", "ms";
    /// How long a connection may stay between requests: from the end of an answer to the first byte of the next request's head. HTTP/2: to
    /// the next whole head; pings do not count.
    idle_ms: Number<10, 86_400_000> = "75000", "deadlines.idle_ms", "ms";
    /// For a command, when its request does not say: until it is decided and durable.
    command_ms: Number<1, 60_000> = "10000", "deadlines.command_ms", "ms";
    /// How long connections may finish what they sent after SIGTERM or SIGINT.
    drain_ms: Number<0, 3_600_000> = "30000", "deadlines.drain_ms", "ms";
    /// File with the keys of card numbers, 64 hexadecimal digits a line, the current one first. Empty: the variable `TPCORE_CARD_KEYS`, else
    /// `server/card.keys` in the data directory, made when it is missing.
    card_keys: Option<PathBuf> = "", "cards.keys", "file";
    /// TOML file with the listeners for card messages (ISO 8583). Empty: there are none.
    card_listeners: Option<PathBuf> = "", "cards.listeners", "file";
    /// The address of the binary door (frames over TCP, with TLS where `tls.certificate` is set). Empty: there is none.
    frames_listen: Option<SocketAddr> = "", "frames.listen", "address";
    /// Links of the binary door at once; more are closed at once.
    frames_links_max: Number<1, 10_000> = "256", "frames.links_max", "count";
    /// How long a command waits for its second person.
    approval_ms: Number<1_000, 2_592_000_000> = "86400000", "approvals.lifetime_ms", "ms";
    /// Approvals of one tenant that may be pending at once.
    approvals_max: Number<1, 1_000_000> = "10000", "approvals.pending_max", "count";
    /// Lines from this level on: `error`, `warn`, `info`, `debug`, `trace`, `off`.
    log_level: String = "info", "log.level", "choice";
    /// A request that took longer is logged.
    log_slow_ms: Number<1, 3_600_000> = "1000", "log.slow_ms", "ms";
    /// Where traces are sent: `http://HOST:PORT/v1/traces` of an OpenTelemetry collector. Needs a binary with the feature `otlp`. Empty: nowhere.
    otlp_endpoint: String = "", "otlp.endpoint", "address";
    /// Of a million requests whose caller does not record them, so many are sent; those that the caller records all are.
    otlp_sampled_per_million: Number<0, 1_000_000> = "1000", "otlp.sampled_per_million", "1/10^6";
    /// Partitions of the engine, each with a thread; 0: as many as cores.
    engine_partitions: Number<0, 256> = "0", "engine.partitions", "threads";
    /// Remembered keys and authorizations, so many of each in all, whose memory is taken and touched at the start, so that no command waits
    /// for a page: about 310 bytes for one of each, and 70 MiB in any case. What is beyond is taken when it is needed. 0: none.
    engine_prefault_records: Number<0, 4_294_967_296> = "0", "engine.prefault_records", "records";
    /// Size of a journal segment: a multiple of 4,096.
    engine_segment_bytes: Number<1_048_576, 1_099_511_627_776> = "67108864", "engine.segment_bytes", "bytes";
    /// Folder of a second copy of the journal, on another disk. Empty: none.
    engine_mirror: Option<PathBuf> = "", "engine.mirror", "folder";
    /// Start although the wall clock is more than 7 days from the last recorded time.
    engine_accept_clock: bool = "false", "engine.accept_clock", "bool";
}

impl Settings {
    /// The setting of that name, from its text form.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn set(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), SettingError> {
        let Some(setting) = TABLE.iter().find(|setting| setting.name == name) else {
            return Err(SettingError::Unknown { name: name.to_owned(), origin });
        };
        (setting.set)(self, text).map_err(|reason| SettingError::Value {
            name: name.to_owned(),
            value: text.to_owned(),
            reason,
            origin: origin.clone(),
        })?;
        self.origins.insert(setting.name, origin);
        Ok(())
    }

    /// Takes what a TOML file says.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn read_file(&mut self, path: &Path) -> Result<(), SettingError> {
        let file = |reason: String| SettingError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| file(error.to_string()))?;
        let mut found = Vec::new();
        flatten("", &table, &mut found).map_err(file)?;
        for (name, value) in found {
            self.set(&name, &value, Origin::File(path.to_owned()))?;
        }
        Ok(())
    }

    /// Takes what the environment says: every variable that starts with `TPCORE_` and is not another part's.
    ///
    /// # Errors
    /// [`SettingError`].
    pub fn read_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(), SettingError> {
        // Other parts of the command, the load generator and the tests read these.
        const OTHERS: [&str; 7] = [
            "TPCORE_KEY",
            "TPCORE_CONFIG",
            "TPCORE_DATA_DIR",
            "TPCORE_NO_SKIP",
            "TPCORE_RENEW",
            "TPCORE_TEST_SEED",
            crate::cards::KEYS_VARIABLE,
        ];
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix("TPCORE_") else { continue };
            if OTHERS.contains(&variable.as_str()) {
                continue;
            }
            let name = rest.to_lowercase().replace("__", ".");
            self.set(&name, &value, Origin::Environment(variable))?;
        }
        Ok(())
    }

    /// Every setting with its value and where that came from.
    pub fn each(&self) -> impl Iterator<Item = (&'static Setting, String, Origin)> {
        TABLE.iter().map(|setting| {
            let origin = self.origins.get(setting.name).cloned().unwrap_or(Origin::Default);
            (setting, (setting.get)(self), origin)
        })
    }

    /// What must hold between settings.
    ///
    /// # Errors
    /// [`SettingError::Together`].
    pub fn validate(&self) -> Result<(), SettingError> {
        let together = |text: &str| Err(SettingError::Together(text.to_owned()));
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return together("`tls.certificate` and `tls.key` go together");
        }
        let has_tls = self.tls_certificate.is_some();
        let asks_clients = self.tls_client_certificates != ClientCertificates::None;
        if asks_clients && (self.tls_client_ca.is_none() || !has_tls) {
            return together("`tls.client_certificates` needs `tls.certificate`, `tls.key` and `tls.client_ca`");
        }
        let open = [("listen", Some(self.listen)), ("frames.listen", self.frames_listen)];
        let open = open.into_iter().find_map(|(name, at)| Some((name, at.filter(|at| !at.ip().is_loopback())?)));
        if let Some((name, listen)) = open.filter(|_| !has_tls && !self.plain_text) {
            return Err(SettingError::Together(format!(
                "`{name}` is {listen}, which is not loopback, and there is no TLS: set `tls.certificate` and `tls.key`, or `plain_text` where something in front of it encrypts"
            )));
        }
        if !self.admin_listen.ip().is_loopback() && !self.admin_plain_text {
            return together(
                "`admin_listen` is not loopback: it is plain text; set `admin_plain_text` on a network of operators only",
            );
        }
        if !self.otlp_endpoint.is_empty() && !cfg!(feature = "otlp") {
            return together("`otlp.endpoint` is set, and this binary was built without the feature `otlp`");
        }
        if self.tenant_burst.get() < self.batch_commands_max.get() {
            return together(
                "`limits.tenant_burst` is below `limits.batch_commands_max`: such a batch could never be sent",
            );
        }
        if self.jwt_keys.is_some() && self.jwt_issuer.is_empty() {
            return together("`auth.jwt_keys` needs `auth.jwt_issuer`");
        }
        if !["error", "warn", "info", "debug", "trace", "off"].contains(&self.log_level.as_str()) {
            return together("`log.level` is one of error, warn, info, debug, trace, off");
        }
        if !self.engine_segment_bytes.get().is_multiple_of(4096) {
            return together("`engine.segment_bytes` is a multiple of 4096");
        }
        Ok(())
    }
}

/// The values of a table under their dotted names, in text form.
fn flatten(prefix: &str, table: &toml::Table, found: &mut Vec<(String, String)>) -> Result<(), String> {
    for (name, value) in table {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(&name, inner, found)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(value) => value.to_string(),
            _ => return Err(format!("`{name}` is neither text, a whole number nor true or false")),
        };
        found.push((name, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    fn defaults() -> Settings {
        Settings::defaults().expect("the table's own")
    }

    #[test]
    fn every_default_can_be_read_and_is_shown_as_it_is_written() {
        let settings = defaults();
        assert_eq!(settings.validate(), Ok(()));
        for (setting, value, origin) in settings.each() {
            assert_eq!((value.as_str(), origin), (setting.default, Origin::Default), "{}", setting.name);
            assert!(!setting.meaning.is_empty() && setting.meaning.trim().ends_with('.'), "{}", setting.name);
        }
    }

    /// The table as the operating page has it.
    fn page() -> String {
        let mut page = String::from("| setting | default | unit | meaning |\n|---|---|---|---|\n");
        for setting in TABLE {
            let default = if setting.default.is_empty() { "" } else { &format!("`{}`", setting.default) };
            let _ =
                writeln!(page, "| `{}` | {default} | {} | {} |", setting.name, setting.unit, setting.meaning.trim());
        }
        page
    }

    #[test]
    fn the_operating_page_has_every_setting_with_default_and_unit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/operating.md");
        let text = std::fs::read_to_string(path).expect("the page");
        let (before, rest) = text.split_once("a test compares -->\n").expect("its place");
        let (kept, after) = rest.split_once("<!-- end of settings -->").expect("its end");
        if std::env::var_os("TPCORE_RENEW").is_some() {
            let renewed = format!("{before}a test compares -->\n{}<!-- end of settings -->{after}", page());
            std::fs::write(path, renewed).expect("written");
            return;
        }
        assert!(kept == page(), "docs/src/operating.md is not the table: run this test with TPCORE_RENEW=1");
    }

    #[test]
    fn the_environment_is_stronger_than_the_file_and_a_flag_than_both() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("tpcore.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\n[limits]\nbody_bytes_max = 2048\njson_depth_max = 8\n")
            .expect("written");
        let mut settings = defaults();
        settings.read_file(&path).expect("a file");
        settings
            .read_environment([
                ("TPCORE_LISTEN".to_owned(), "127.0.0.1:2".to_owned()),
                ("TPCORE_LIMITS__JSON_DEPTH_MAX".to_owned(), "9".to_owned()),
                ("PATH".to_owned(), "x".to_owned()),
                ("TPCORE_KEY".to_owned(), "x".to_owned()),
            ])
            .expect("variables");
        settings.set("limits.json_depth_max", "10", Origin::Flag).expect("a flag");
        assert_eq!(settings.listen.port(), 2);
        assert_eq!((settings.body_bytes_max.get(), settings.json_depth_max.get()), (2048, 10));
        let origins: Vec<_> =
            settings.each().filter(|(_, _, origin)| *origin != Origin::Default).map(|(s, _, o)| (s.name, o)).collect();
        let variable = Origin::Environment("TPCORE_LISTEN".to_owned());
        assert_eq!(
            origins,
            [
                ("listen", variable),
                ("limits.body_bytes_max", Origin::File(path)),
                ("limits.json_depth_max", Origin::Flag)
            ]
        );
    }

    #[test]
    fn a_misspelt_name_and_a_value_out_of_range_are_refused_with_their_place() {
        let mut settings = defaults();
        let error = settings.set("limits.body_byte_max", "1", Origin::Flag).expect_err("unknown").to_string();
        assert_eq!(error, "flag: there is no setting `limits.body_byte_max`; did you mean `limits.body_bytes_max`?");
        let error = settings
            .read_environment([("TPCORE_DEADLINES__IDLE_MS".to_owned(), "1".to_owned())])
            .expect_err("too small")
            .to_string();
        assert_eq!(
            error,
            "TPCORE_DEADLINES__IDLE_MS: `deadlines.idle_ms` is `1`: a whole number from 10 to 86400000 is wanted"
        );
    }

    #[test]
    fn plain_text_beyond_loopback_needs_to_be_said() {
        let mut settings = defaults();
        settings.set("listen", "0.0.0.0:8700", Origin::Flag).expect("an address");
        assert!(matches!(settings.validate(), Err(SettingError::Together(_))));
        settings.set("plain_text", "true", Origin::Flag).expect("a bool");
        assert_eq!(settings.validate(), Ok(()));
    }
}
