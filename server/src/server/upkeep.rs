//! What has to be looked at now and then while a server runs.
//!
//! Owns which files are watched and since when: from before they were read, so that no change is missed. Refuses to know what is in them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::cards::{renew_card_keys, rotate_cards};
use crate::app::Serving;
use crate::auth::jwt::TokenVerifier;
use crate::auth::tls::Tls;
use crate::cards::KeySource;
use crate::settings::Settings;

/// Files that are looked at for changes, and when they had changed last.
pub(super) struct Watched {
    certificates: [Option<PathBuf>; 3],
    card_source: KeySource,
    card_files: Vec<Option<PathBuf>>,
    certificates_seen: Vec<Option<SystemTime>>,
    tokens_seen: Vec<Option<SystemTime>>,
    card_keys_seen: Vec<Option<SystemTime>>,
}

impl Watched {
    /// As they are now.
    pub(super) fn new(settings: &Settings, card_source: KeySource) -> Self {
        let certificates = [&settings.tls_certificate, &settings.tls_key, &settings.tls_client_ca].map(Clone::clone);
        let card_files = match &card_source {
            KeySource::File(path) => vec![Some(path.clone())],
            KeySource::Environment => Vec::new(),
        };
        let (certificates_seen, card_keys_seen) = (changed(&certificates), changed(&card_files));
        let tokens_seen = changed(std::slice::from_ref(&settings.jwt_keys));
        Self { certificates, card_source, card_files, certificates_seen, tokens_seen, card_keys_seen }
    }
}

/// What has to be looked at now and then: changed certificate and key files, the image of the control state.
pub(super) async fn upkeep(
    serving: Arc<Serving>,
    tls: Option<Arc<Tls>>,
    tokens: Option<Arc<TokenVerifier>>,
    settings: Settings,
    watched: Watched,
) {
    let Watched { certificates, card_source, card_files, certificates_seen, tokens_seen, card_keys_seen } = watched;
    let (mut seen, mut seen_keys, mut card_keys_seen) = (certificates_seen, tokens_seen, card_keys_seen);
    if card_keys_seen.contains(&None) {
        card_keys_seen = changed(&card_files); // made at this start
    }
    // What an earlier process did not get done.
    let mut is_rotated = rotate_cards(&serving).await;
    loop {
        tokio::time::sleep(settings.tls_reload_ms.ms()).await;
        let (now, now_keys) = (changed(&certificates), changed(std::slice::from_ref(&settings.jwt_keys)));
        if let Some(tls) = tls.as_ref().filter(|_| now != seen) {
            match tls.reload() {
                Ok(()) => tracing::info!("new certificates are in use"),
                Err(error) => tracing::error!(%error, "the new certificates are not used; the old ones stay"),
            }
            seen = now;
        }
        if let (Some(tokens), Some(path)) = (tokens.as_ref().filter(|_| now_keys != seen_keys), &settings.jwt_keys) {
            match tokens.reload(path) {
                Ok(()) => tracing::info!("new keys of tokens are in use"),
                Err(error) => tracing::error!(%error, "the new keys of tokens are not used; the old ones stay"),
            }
            seen_keys = now_keys;
        }
        let card_keys_now = changed(&card_files);
        if card_keys_now != card_keys_seen {
            is_rotated = renew_card_keys(&serving, &card_source).await;
            card_keys_seen = card_keys_now;
        } else if !is_rotated {
            is_rotated = rotate_cards(&serving).await;
        }
        let serving = Arc::clone(&serving);
        let written = tokio::task::spawn_blocking(move || {
            serving.control.write_image(false).and_then(|()| serving.vault.write_cache(false))
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "no image of tenants, keys and cards was written");
        }
    }
}

/// When the files were changed last.
fn changed(paths: &[Option<PathBuf>]) -> Vec<Option<SystemTime>> {
    let time = |path: &PathBuf| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    paths.iter().map(|path| path.as_ref().and_then(time)).collect()
}
