//! Administration of a data directory that no server has open: the first tenant and the first key have to come from somewhere.
//!
//! Owns opening the engine for it and the changes as plain calls. Refuses to work beside a running server: that has routes for it.

use std::path::Path;
use std::sync::Arc;

use tp_actors::{CheckpointPolicy, Engine};
use zeroize::Zeroizing;

use crate::auth::seal::Sealer;
use crate::control::{Change, Control, KeyEntry, KeyId, KeyKind, NewKey, Roles, Tenant};
use crate::server::{ServeError, engine_config, folder, sealer};
use crate::settings::Settings;
use crate::tenancy::TenantId;

/// A data directory open for administration.
#[derive(Debug)]
pub struct Offline {
    engine: Arc<Engine>,
    control: Arc<Control>,
    sealer: OpaqueSealer,
    runtime: tokio::runtime::Runtime,
}

struct OpaqueSealer(Sealer);

impl std::fmt::Debug for OpaqueSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

/// Who made a change, as the records name it.
const BY: &str = "command line";

impl Offline {
    /// Opens a directory; it is made when it is missing. Blocks.
    ///
    /// # Errors
    /// [`ServeError`].
    pub fn open(data_dir: &Path, settings: &Settings) -> Result<Self, ServeError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|_| ServeError::Thread("no runtime could be made"))?;
        let mut config = engine_config(settings, data_dir);
        config.checkpoint = CheckpointPolicy::off();
        let engine = Engine::open(config).map_err(|error| ServeError::Open(Box::new(error)))?;
        let engine = Arc::new(engine);
        let control = Arc::new(Control::open(Arc::clone(&engine), Some(folder(data_dir)))?);
        let sealer = OpaqueSealer(sealer(settings, data_dir, &control)?);
        Ok(Self { engine, control, sealer, runtime })
    }

    fn change(&self, change: Change) -> Result<(), ServeError> {
        Ok(self.runtime.block_on(self.control.change(BY, change))?)
    }

    /// Adds a tenant. Again with the same name: nothing changes.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub fn add_tenant(&self, tenant: TenantId, name: &str) -> Result<(), ServeError> {
        self.change(Change::TenantAdded { tenant, name: name.to_owned() })
    }

    /// Every tenant.
    pub fn tenants(&self) -> Vec<Tenant> {
        self.control.read(|state| state.tenants().cloned().collect())
    }

    /// Adds a key; its secret is given once.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub fn add_key(
        &self,
        kind: KeyKind,
        tenant: TenantId,
        person: &str,
        roles: Roles,
    ) -> Result<(KeyId, Option<Zeroizing<String>>), ServeError> {
        let new =
            NewKey::make(kind, tenant, person.to_owned(), roles, None, &self.sealer.0).map_err(ServeError::Thread)?;
        self.change(new.change)?;
        Ok((new.key, new.secret))
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub fn revoke_key(&self, key: KeyId) -> Result<(), ServeError> {
        self.change(Change::KeyRevoked { key })
    }

    /// A tenant's keys, revoked ones too.
    pub fn keys(&self, tenant: TenantId) -> Vec<Arc<KeyEntry>> {
        self.control.read(|state| state.keys_of(tenant))
    }

    /// Lets money of one tenant be paid to another.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub fn add_agreement(&self, payer: TenantId, payee: TenantId) -> Result<(), ServeError> {
        self.change(Change::AgreementAdded { payer, payee })
    }

    /// Ends an agreement.
    ///
    /// # Errors
    /// [`ServeError::Control`].
    pub fn end_agreement(&self, payer: TenantId, payee: TenantId) -> Result<(), ServeError> {
        self.change(Change::AgreementEnded { payer, payee })
    }

    /// Closes the directory.
    ///
    /// # Errors
    /// [`ServeError::Close`].
    pub fn close(self) -> Result<(), ServeError> {
        Ok(self.engine.close_in_place().map(drop)?)
    }
}
