//! What of cards begins and ends with the server: their keys, the listeners of card messages, the day's totals.
//!
//! Owns where keys come from and that they are neither lost nor replaced unseen, and the order of the edge's start. Refuses to know messages.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{ServeError, folder, make_folder};
use crate::app::Serving;
use crate::auth::seal::MasterKey;
use crate::auth::tls::Tls;
use crate::cards::{CardKeyError, KEYS_VARIABLE, KeySource, LocalCardKeys, VaultFold};
use crate::iso8583::{self, CardListener, Edge, KeyLocks, Listeners, Totals};
use crate::settings::Settings;

/// Where the keys of card numbers come from.
pub(super) fn card_key_source(settings: &Settings, data_dir: &std::path::Path) -> KeySource {
    match &settings.card_keys {
        Some(path) => KeySource::File(path.clone()),
        None if std::env::var_os(KEYS_VARIABLE).is_some() => KeySource::Environment,
        None => KeySource::File(folder(data_dir).join("card.keys")),
    }
}

/// The keys of card numbers. Keys that are gone are not replaced while cards are kept under them.
///
/// # Errors
/// [`ServeError::CardKeys`], [`ServeError::CardKeysLost`].
pub(super) fn card_keys(
    settings: &Settings,
    data_dir: &std::path::Path,
    vault: &VaultFold,
) -> Result<LocalCardKeys, ServeError> {
    let source = card_key_source(settings, data_dir);
    if let KeySource::File(path) = &source
        && settings.card_keys.is_none()
        && !path.exists()
    {
        if vault.has_cards() {
            return Err(ServeError::CardKeysLost { path: path.clone() });
        }
        // With a master key that lies elsewhere nothing has made it yet.
        make_folder(data_dir)?;
        MasterKey::create_file(path).map_err(CardKeyError::from)?;
    }
    let keys = source.read()?;
    vault.check_keys(&keys)?;
    Ok(keys)
}

/// The listeners of card messages, bound.
pub(super) async fn card_sockets(settings: &Settings) -> Result<Vec<(Arc<CardListener>, TcpListener)>, ServeError> {
    let Some(path) = &settings.card_listeners else { return Ok(Vec::new()) };
    let listeners = Listeners::read(path, settings.tls_certificate.is_some())?;
    iso8583::bind(&listeners).await.map_err(|(address, error)| ServeError::Listen { address, error })
}

/// The card edge at work.
pub(super) struct CardEdge {
    listeners: tokio::task::JoinSet<()>,
    pub(super) totals: Option<Arc<Totals>>,
}

impl CardEdge {
    /// Accepts links from now on.
    pub(super) fn start(
        sockets: Vec<(Arc<CardListener>, TcpListener)>,
        serving: &Arc<Serving>,
        tls: Option<&Arc<Tls>>,
        settings: &Settings,
        data_dir: &std::path::Path,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Self, ServeError> {
        let mut listeners = tokio::task::JoinSet::new();
        if sockets.is_empty() {
            return Ok(Self { listeners, totals: None });
        }
        let totals = Totals::start(Arc::clone(&serving.engine), &folder(data_dir));
        let totals = totals.map_err(|_| ServeError::Thread("no thread for the totals of card messages"))?;
        let (mut stats, keys) = (Vec::new(), Arc::new(KeyLocks::default()));
        for (listener, socket) in sockets {
            let (serving, shared) = (Arc::clone(serving), (Arc::clone(&totals), Arc::clone(&keys)));
            let edge = Arc::new(Edge::new(serving, listener, shared, tls.cloned(), settings.tls_ms.ms()));
            stats.push(edge.stats());
            listeners.spawn(iso8583::run(edge, socket, stopped.clone()));
        }
        serving.metrics.show_cards(stats);
        Ok(Self { listeners, totals: Some(totals) })
    }

    /// Waits until every link has ended.
    pub(super) async fn ended(mut self) {
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Takes the keys of card numbers that the file has now, and seals what is under another than the current one again.
pub(super) async fn renew_card_keys(serving: &Arc<Serving>, source: &KeySource) -> bool {
    let taken = match source.read() {
        Ok(keys) => serving.vault.set_keys(keys).await,
        Err(error) => Err(error),
    };
    match taken {
        Ok(()) => {
            tracing::info!("new keys of card numbers are in use");
            rotate_cards(serving).await
        }
        Err(error) => {
            tracing::error!(%error, "the new keys of card numbers are not used; the old ones stay");
            true
        }
    }
}

/// Seals what is not under the current key again. Gives back whether nothing is left to do.
pub(super) async fn rotate_cards(serving: &Arc<Serving>) -> bool {
    match serving.vault.rotate().await {
        Ok(0) => true,
        Ok(cards) => {
            tracing::info!(cards, "card numbers are sealed under the current key now: the older ones may go");
            true
        }
        Err(error) => {
            tracing::warn!(%error, "not all card numbers are sealed under the current key yet");
            false
        }
    }
}
