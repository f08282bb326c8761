//! The listeners of a file: where, in which layout, for which tenant and acquirers, with which bounds.
//!
//! Owns the file's form (TOML) and its tests. Refuses to open anything but layouts that it names. An unknown name or a value out of range
//! is an error that names the listener, never a default.
//!
//! ```toml
//! [[listener]]
//! name = "north"                    # in logs and metrics: 1 to 16 of a-z, 0-9, -
//! listen = "127.0.0.1:8583"
//! layout = "1987-ascii"             # or layout_file = "path.toml"
//! tenant = 1
//! acquirers = ["12345"]             # element 32; none named: any
//! [listener.settlement]             # the tenant's accounts that purchases are paid to and refunds come from, by currency
//! EUR = "900"
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tp_actors::tp_core::ids::AccountId;
use tp_iso8583::{Layout, LayoutError};

use crate::tenancy::TenantId;

/// Why the listeners of a file were not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenersError {
    /// The file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A listener says something impossible.
    #[error("{}: listener `{name}`: {reason}", path.display())]
    Listener {
        /// The file.
        path: PathBuf,
        /// Which one.
        name: String,
        /// What.
        reason: String,
    },
    /// A layout.
    #[error("{}: listener `{name}`: {error}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// Which one.
        name: String,
        /// Why.
        error: LayoutError,
    },
}

/// The listeners of a file.
#[derive(Clone, Debug, Default)]
pub struct Listeners(pub(crate) Vec<Arc<Listener>>);

/// Where a message says that part of an amount may be approved.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    /// In which element.
    pub(crate) element: usize,
    /// From which character on, counted from 0.
    pub(crate) at: usize,
    /// Which characters.
    pub(crate) value: String,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) listen: SocketAddr,
    pub(crate) layout: Layout,
    pub(crate) tenant: TenantId,
    /// Without leading zeros; empty: any.
    pub(crate) acquirers: Vec<String>,
    /// By currency.
    pub(crate) settlement: BTreeMap<String, AccountId>,
    /// Stands for the cards that are not known, in advices and reversals: what others decided is booked all the same.
    pub(crate) unknown_cards: AccountId,
    pub(crate) partial: Option<Signal>,
    pub(crate) hold_lifetime_ms: Option<u64>,
    /// Addresses that links may come from; empty: any.
    pub(crate) clients: Vec<IpAddr>,
    pub(crate) tls: bool,
    pub(crate) sign_on: bool,
    pub(crate) deadline: Duration,
    pub(crate) idle: Duration,
    pub(crate) links_max: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) message_bytes_max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    listener: Vec<ListenerText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerText {
    name: String,
    listen: SocketAddr,
    layout: Option<String>,
    layout_file: Option<PathBuf>,
    tenant: u32,
    #[serde(default)]
    acquirers: Vec<String>,
    #[serde(default)]
    settlement: BTreeMap<String, String>,
    unknown_cards: Option<String>,
    partial: Option<Signal>,
    hold_lifetime_ms: Option<u64>,
    #[serde(default)]
    clients: Vec<IpAddr>,
    #[serde(default)]
    tls: bool,
    #[serde(default)]
    plain_text: bool,
    #[serde(default)]
    sign_on: bool,
    deadline_ms: Option<u64>,
    idle_ms: Option<u64>,
    links_max: Option<u64>,
    in_flight_max: Option<u64>,
    message_bytes_max: Option<u64>,
}

/// The account that stands for unknown cards when none is named: the tenant's last one.
const UNKNOWN_CARDS: &str = "79228162514264337593543950335";

impl Listeners {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ListenersError`].
    pub fn read(path: &Path, has_tls: bool) -> Result<Self, ListenersError> {
        let file = |reason: String| ListenersError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
        Self::parse(&text, path, has_tls)
    }

    fn parse(text: &str, path: &Path, has_tls: bool) -> Result<Self, ListenersError> {
        let file = |reason: String| ListenersError::File { path: path.to_owned(), reason };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| file(error.to_string()))?;
        let text: FileText = table.try_into().map_err(|error: toml::de::Error| file(error.to_string()))?;
        let mut listeners: Vec<Arc<Listener>> = Vec::new();
        for text in text.listener {
            let name = text.name.clone();
            let wrong = |reason: String| ListenersError::Listener { path: path.to_owned(), name: name.clone(), reason };
            if listeners.iter().any(|listener| listener.name == name) {
                return Err(wrong("another one has that name".to_owned()));
            }
            let layout = layout_of(&text, path)?;
            listeners.push(Arc::new(listener(text, layout, has_tls).map_err(wrong)?));
        }
        Ok(Self(listeners))
    }
}

fn layout_of(text: &ListenerText, path: &Path) -> Result<Layout, ListenersError> {
    let (path, name) = (path.to_owned(), text.name.clone());
    match (&text.layout, &text.layout_file) {
        (Some(own), None) => Layout::named(own).ok_or_else(|| {
            let names: Vec<_> = Layout::names().collect();
            let reason = format!("there is no layout `{own}`: there are {}", names.join(", "));
            ListenersError::Listener { path, name, reason }
        }),
        (None, Some(file)) => {
            // Beside the file that names it.
            let file = path.parent().map_or_else(|| file.clone(), |folder| folder.join(file));
            let text = std::fs::read_to_string(&file);
            let text = text.map_err(|error| ListenersError::File { path: file, reason: error.to_string() })?;
            Layout::parse(&text).map_err(|error| ListenersError::Layout { path, name, error })
        }
        _ => {
            let reason = "it has either `layout` or `layout_file`".to_owned();
            Err(ListenersError::Listener { path, name, reason })
        }
    }
}

/// A value within its range.
fn within(name: &str, value: Option<u64>, default: u64, from: u64, to: u64) -> Result<u64, String> {
    match value.unwrap_or(default) {
        value if (from..=to).contains(&value) => Ok(value),
        value => Err(format!("`{name}` is {value}: a whole number from {from} to {to} is wanted")),
    }
}

fn listener(text: ListenerText, layout: Layout, has_tls: bool) -> Result<Listener, String> {
    let is_name = (1..=16).contains(&text.name.len())
        && text.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_name {
        return Err("its name is 1 to 16 of a-z, 0-9 and -".to_owned());
    }
    if text.tls && !has_tls {
        return Err("`tls` needs the server's `tls.certificate` and `tls.key`".to_owned());
    }
    if !text.tls && !text.listen.ip().is_loopback() && !text.plain_text {
        return Err(
            "it is not on loopback and has no TLS: set `tls`, or `plain_text` where something in front of it encrypts"
                .to_owned(),
        );
    }
    let tenant = TenantId::new(text.tenant).ok_or("`tenant` is a number from 0 to 4294967294")?;
    let account = |name: &str| tenant.account(name).ok_or_else(|| format!("`{name}` is no account: 1 to 2^96 - 1"));
    let mut settlement = BTreeMap::new();
    for (currency, name) in &text.settlement {
        let known = tp_iso8583::currency_of(currency.as_bytes())
            .ok_or_else(|| format!("`{currency}` is no currency of ISO 4217"))?;
        settlement.insert(known.code.to_owned(), account(name)?);
    }
    for acquirer in &text.acquirers {
        if acquirer.is_empty() || acquirer.len() > 11 || !acquirer.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("an acquirer is 1 to 11 digits".to_owned());
        }
    }
    check_layout(&layout)?;
    if let Some(signal) = &text.partial {
        let max = layout.element(signal.element).map_or(0, tp_iso8583::Element::max);
        if signal.value.is_empty() || signal.at.saturating_add(signal.value.len()) > max {
            return Err("`partial` names a place that no message of its layout has".to_owned());
        }
    }
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Listener {
        layout,
        tenant,
        acquirers: text.acquirers.iter().map(|text| text.trim_start_matches('0').to_owned()).collect(),
        settlement,
        unknown_cards: account(text.unknown_cards.as_deref().unwrap_or(UNKNOWN_CARDS))?,
        partial: text.partial,
        hold_lifetime_ms: text.hold_lifetime_ms,
        clients: text.clients,
        tls: text.tls,
        sign_on: text.sign_on,
        deadline: Duration::from_millis(within("deadline_ms", text.deadline_ms, 5_000, 1, 60_000)?),
        idle: Duration::from_millis(within("idle_ms", text.idle_ms, 300_000, 100, 86_400_000)?),
        links_max: size(within("links_max", text.links_max, 64, 1, 10_000)?),
        in_flight_max: size(within("in_flight_max", text.in_flight_max, 1_024, 1, 65_536)?),
        message_bytes_max: size(within("message_bytes_max", text.message_bytes_max, 8_192, 64, 65_535)?),
        listen: text.listen,
        name: text.name,
    })
}

/// Elements that are read or written here, as they have to be where a layout has them; the first four it must have.
const WANTED: [(usize, &str); 32] = [
    (3, "n6"),
    (11, "n6"),
    (13, "n4"),
    (39, "an2"),
    (2, "n..19"),
    (4, "n12"),
    (7, "n10"),
    (14, "n4"),
    (15, "n4"),
    (32, "n..11"),
    (35, "z..37"),
    (37, "an12"),
    (38, "an6"),
    (41, "ans8"),
    (42, "ans15"),
    (49, "an3"),
    (50, "an3"),
    (54, "ans...120"),
    (66, "n1"),
    (70, "n3"),
    (74, "n10"),
    (75, "n10"),
    (76, "n10"),
    (77, "n10"),
    (81, "n10"),
    (86, "n16"),
    (87, "n16"),
    (88, "n16"),
    (89, "n16"),
    (90, "n42"),
    (95, "an42"),
    (97, "x+n16"),
];

/// Whether answers can be written by a layout and requests read.
fn check_layout(layout: &Layout) -> Result<(), String> {
    for (index, (number, notation)) in WANTED.into_iter().enumerate() {
        let wanted = tp_iso8583::Element::parse(notation).map_err(str::to_owned)?;
        match layout.element(number) {
            None if index < 4 => return Err(format!("its layout has no element {number}")),
            Some(element) if element != wanted => {
                return Err(format!(
                    "element {number} of its layout is not {notation}, which is what is written there"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const ONE: &str =
        "[[listener]]\nname = 'north'\nlisten = '127.0.0.1:0'\nlayout = '1987-ascii'\ntenant = 1\n";

    pub(crate) fn parsed(text: &str) -> Result<Listeners, ListenersError> {
        Listeners::parse(text, Path::new("cards.toml"), false)
    }

    #[test]
    fn a_listener_has_defaults_for_all_but_its_name_place_layout_and_tenant() {
        let listeners = parsed(ONE).expect("a listener");
        let listener = &listeners.0[0];
        assert_eq!((listener.deadline, listener.in_flight_max), (Duration::from_secs(5), 1_024));
        assert_eq!(
            listener.unknown_cards,
            TenantId::new(1).and_then(|t| t.account(UNKNOWN_CARDS)).expect("an account")
        );
    }

    #[test]
    fn what_a_listener_cannot_be_is_refused_with_its_name() {
        for (more, wanted) in [
            ("acquirers = ['12a']", "cards.toml: listener `north`: an acquirer is 1 to 11 digits"),
            (
                "deadline_ms = 0",
                "cards.toml: listener `north`: `deadline_ms` is 0: a whole number from 1 to 60000 is wanted",
            ),
            ("tls = true", "cards.toml: listener `north`: `tls` needs the server's `tls.certificate` and `tls.key`"),
            ("layout_file = 'x'", "cards.toml: listener `north`: it has either `layout` or `layout_file`"),
            ("[listener.settlement]\nXXX = '1'", "cards.toml: listener `north`: `XXX` is no currency of ISO 4217"),
            ("[listener.settlement]\nEUR = '0'", "cards.toml: listener `north`: `0` is no account: 1 to 2^96 - 1"),
            (
                "partial = { element = 39, at = 1, value = '12' }",
                "cards.toml: listener `north`: `partial` names a place that no message of its layout has",
            ),
        ] {
            assert_eq!(parsed(&format!("{ONE}{more}")).expect_err(more).to_string(), wanted);
        }
        for text in ["", "[[listener]]\nname = 'x'", &format!("{ONE}other = 1"), &format!("{ONE}{ONE}")] {
            assert!(parsed(text).is_err(), "{text}");
        }
        let open = ONE.replace("127.0.0.1", "0.0.0.0");
        assert!(parsed(&open).is_err() && parsed(&format!("{open}plain_text = true")).is_ok());
    }
}
