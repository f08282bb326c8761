//! The state that the control records fold into.
//!
//! Owns the rules of a change ([`ControlState::check`]) and its effect ([`ControlState::apply`]). Refuses to know where records come
//! from. Applying is total: what does not fit changes nothing, and says so.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{ApprovalId, AskedFor, Change, Credential, Maker, Roles, UnixMs, key_text};
use super::{KeyId, NO_KEY};
use crate::tenancy::{TenantId, parse_decimal};

/// A tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// Its number.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Above these amounts, minor units as text by ledger (`EUR/2`), a second person is needed.
    pub thresholds: BTreeMap<String, String>,
}

impl Tenant {
    /// Whether that much of that ledger needs a second person.
    pub fn needs_second_person(&self, ledger: &str, amount: u128) -> bool {
        self.thresholds.get(ledger).and_then(|text| parse_decimal(text)).is_some_and(|threshold| amount > threshold)
    }
}

/// A key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its id.
    #[serde(with = "key_text")]
    pub key: KeyId,
    /// Whose.
    pub tenant: TenantId,
    /// Who holds it.
    pub person: Arc<str>,
    /// What it may be used for.
    pub roles: Roles,
    /// How it proves itself.
    pub credential: Credential,
    /// Who made it; `None`: the command line.
    pub made_by: Option<Maker>,
    /// When it came.
    pub added: UnixMs,
    /// When it was revoked.
    pub revoked: Option<UnixMs>,
}

/// How an approval stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// It waits for a second person.
    Pending,
    /// A second person approved it; its command is being executed.
    Approved {
        /// Who.
        person: String,
        /// When.
        at: UnixMs,
    },
    /// A second person rejected it.
    Rejected {
        /// Who.
        person: String,
    },
    /// Its command was executed.
    Executed {
        /// Who approved it.
        person: String,
        /// With what outcome.
        outcome: String,
        /// What was answered, JSON.
        reply: String,
    },
}

/// A command that needs a second person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Approval {
    /// What was asked for.
    pub asked_for: AskedFor,
    /// When.
    pub asked: UnixMs,
    /// How it stands.
    pub state: ApprovalState,
}

impl Approval {
    /// Its id.
    pub const fn id(&self) -> ApprovalId {
        self.asked_for.approval
    }

    /// Whether it waits and may still be decided.
    pub fn is_open(&self, now: UnixMs) -> bool {
        self.state == ApprovalState::Pending && now < self.asked_for.expires
    }

    /// The name of its state; a pending one past its time has expired.
    pub fn state_name(&self, now: UnixMs) -> &'static str {
        match self.state {
            ApprovalState::Pending if now < self.asked_for.expires => "pending",
            ApprovalState::Pending => "expired",
            ApprovalState::Approved { .. } => "approved",
            ApprovalState::Rejected { .. } => "rejected",
            ApprovalState::Executed { .. } => "executed",
        }
    }

    /// What makes two commands the same one for a repeat: whose key, and the key.
    fn identity(&self) -> (String, String) {
        (self.asked_for.account.clone(), self.asked_for.engine_key.clone())
    }
}

/// How long an approval is kept after it was asked for, once it is over: longer than any may wait (30 days).
const RETENTION_MS: u64 = 62 * 86_400_000;

/// Keys of one tenant that are not revoked.
const KEYS_MAX: usize = 10_000;

/// Why a change is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The tenant is there already, with another name.
    #[error("the tenant exists with another name")]
    TenantExists,
    /// There is no such tenant.
    #[error("there is no such tenant")]
    NoTenant,
    /// A key with this id is there already.
    #[error("the key exists")]
    KeyExists,
    /// There is no such key, or it was revoked.
    #[error("there is no such key")]
    NoKey,
    /// A key for this certificate is there already.
    #[error("another key has this certificate")]
    CertificateTaken,
    /// A key without roles, without a person, or a name that is too long.
    #[error("a name is 1 to 100 visible characters, and a key has at least one role")]
    BadName,
    /// Not an amount or a ledger.
    #[error("a threshold is an amount in minor units of a ledger")]
    BadThreshold,
    /// Tenants agree with others only.
    #[error("an agreement is between two tenants")]
    SameTenant,
    /// There is no such agreement.
    #[error("there is no such agreement")]
    NoAgreement,
    /// There is no such approval.
    #[error("there is no such approval")]
    NoApproval,
    /// It was decided before, or is too old.
    #[error("the approval is not pending any more")]
    NotOpen,
    /// What binds a tenant is loosened by the operator.
    #[error("only the operator raises or removes a threshold")]
    OnlyOperator,
    /// As many keys as a tenant may have.
    #[error("a tenant has at most {KEYS_MAX} keys that were not revoked")]
    TooManyKeys,
    /// As many wait as may.
    #[error("as many commands wait for a second person as may")]
    TooManyPending,
    /// Whoever asked cannot decide.
    #[error("a second person has to decide")]
    SamePerson,
}

/// What the records fold into.
#[derive(Clone, Debug, Default)]
pub struct ControlState {
    tenants: BTreeMap<TenantId, Tenant>,
    keys: HashMap<KeyId, Arc<KeyEntry>>,
    certificates: HashMap<Vec<u8>, KeyId>,
    agreements: BTreeSet<(TenantId, TenantId)>,
    /// By tenant and id, so that a page of one tenant costs what is on it.
    approvals: BTreeMap<(TenantId, ApprovalId), Approval>,
    /// By account and idempotency key, so that a repeat finds the one it made.
    asked: HashMap<(String, String), (TenantId, ApprovalId)>,
    /// How many approvals a tenant has under an idempotency key, of whatever account.
    asked_keys: HashMap<(TenantId, String), usize>,
    /// Of each tenant those that were pending and had not expired when the last one was asked for.
    open: HashMap<TenantId, BTreeSet<ApprovalId>>,
    /// Approved and not yet executed.
    unfinished: BTreeSet<(TenantId, ApprovalId)>,
    /// In the order in which they were asked for: the oldest are forgotten first.
    order: VecDeque<(TenantId, ApprovalId)>,
}

/// The state as an image keeps it.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct StateImage {
    tenants: Vec<Tenant>,
    keys: Vec<KeyEntry>,
    agreements: Vec<(TenantId, TenantId)>,
    approvals: Vec<Approval>,
}

/// Whether two names are of one person: letters' case and space around them make no other one.
fn is_person(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.chars().count()) && text.chars().all(|c| !c.is_control())
}

impl ControlState {
    /// A tenant.
    pub fn tenant(&self, tenant: TenantId) -> Option<&Tenant> {
        self.tenants.get(&tenant)
    }

    /// Every tenant, ascending.
    pub fn tenants(&self) -> impl Iterator<Item = &Tenant> {
        self.tenants.values()
    }

    /// A key that was not revoked, of a tenant that exists.
    pub fn live_key(&self, key: KeyId) -> Option<&Arc<KeyEntry>> {
        self.keys.get(&key).filter(|entry| entry.revoked.is_none())
    }

    /// The key of a certificate, if it was not revoked.
    pub fn key_of_certificate(&self, fingerprint: &[u8]) -> Option<&Arc<KeyEntry>> {
        self.certificates.get(fingerprint).and_then(|key| self.live_key(*key))
    }

    /// Whether a key that was not revoked has a sealed secret.
    pub fn has_sealed_keys(&self) -> bool {
        self.keys.values().any(|entry| entry.revoked.is_none() && matches!(entry.credential, Credential::Hmac(_)))
    }

    /// A tenant's keys, ascending by id, revoked ones too.
    pub fn keys_of(&self, tenant: TenantId) -> Vec<Arc<KeyEntry>> {
        let mut keys: Vec<_> = self.keys.values().filter(|entry| entry.tenant == tenant).cloned().collect();
        keys.sort_unstable_by_key(|entry| entry.key);
        keys
    }

    /// Whether money of `payer` may be paid to `payee`.
    pub fn may_pay(&self, payer: TenantId, payee: TenantId) -> bool {
        payer == payee || self.agreements.contains(&(payer, payee))
    }

    /// Whom a tenant may pay, and who may pay it.
    pub fn agreements_of(&self, tenant: TenantId) -> impl Iterator<Item = (TenantId, TenantId)> {
        self.agreements.iter().copied().filter(move |(payer, payee)| *payer == tenant || *payee == tenant)
    }

    /// An approval of this tenant.
    pub fn approval(&self, tenant: TenantId, approval: ApprovalId) -> Option<&Approval> {
        self.approvals.get(&(tenant, approval))
    }

    /// A tenant's approvals, ascending by id, from behind one on.
    pub fn approvals_of(&self, tenant: TenantId, after: Option<ApprovalId>) -> impl Iterator<Item = &Approval> {
        let from = after.map_or(ApprovalId(0), |after| ApprovalId(after.0.saturating_add(1)));
        self.approvals.range((tenant, from)..=(tenant, ApprovalId(u128::MAX))).map(|(_, approval)| approval)
    }

    /// How many of a tenant's approvals are pending.
    pub fn pending_of(&self, tenant: TenantId, now: UnixMs) -> usize {
        let open = self.open.get(&tenant).into_iter().flatten();
        open.filter(|id| self.approval(tenant, **id).is_some_and(|approval| approval.is_open(now))).count()
    }

    /// The approval that a command of this account with this key made.
    pub fn asked(&self, account: &str, engine_key: &str) -> Option<&Approval> {
        let place = self.asked.get(&(account.to_owned(), engine_key.to_owned()))?;
        self.approvals.get(place)
    }

    /// Whether any command of this tenant with this key made an approval.
    pub fn has_asked(&self, tenant: TenantId, engine_key: &str) -> bool {
        !self.asked_keys.is_empty() && self.asked_keys.contains_key(&(tenant, engine_key.to_owned()))
    }

    /// Approved and not yet known to be executed: they are executed again, under their own keys.
    pub fn unfinished(&self) -> Vec<Approval> {
        self.unfinished.iter().filter_map(|place| self.approvals.get(place)).cloned().collect()
    }

    /// Whether a person made this key, or the key that it was made with, and so on.
    fn was_made_by(&self, key: KeyId, person: &str) -> bool {
        let mut made = self.keys.get(&key).and_then(|entry| entry.made_by.as_ref());
        // A key is made with one that was there before: the chain is no longer than there are keys.
        for _ in 0..=self.keys.len() {
            let Some(maker) = made else { return false };
            if is_person(&maker.person, person) {
                return true;
            }
            made = self.keys.get(&maker.key).and_then(|entry| entry.made_by.as_ref());
        }
        true
    }

    /// The flat list of what a change needs.
    ///
    /// # Errors
    /// [`Refused`].
    pub(crate) fn check(&self, change: &Change, now: UnixMs) -> Result<(), Refused> {
        let known = |tenant: &TenantId| self.tenants.contains_key(tenant).then_some(()).ok_or(Refused::NoTenant);
        match change {
            Change::TenantAdded { name, .. } if !is_name(name) => Err(Refused::BadName),
            Change::TenantAdded { tenant, name } => match self.tenants.get(tenant) {
                Some(existing) if existing.name != *name => Err(Refused::TenantExists),
                _ => Ok(()),
            },
            Change::KeyAdded { key, tenant, person, roles, credential, .. } => {
                known(tenant)?;
                if !is_name(person) || roles.is_empty() {
                    return Err(Refused::BadName);
                }
                if self.keys.contains_key(key) {
                    return Err(Refused::KeyExists);
                }
                if self.keys.values().filter(|entry| entry.tenant == *tenant && entry.revoked.is_none()).count()
                    >= KEYS_MAX
                {
                    return Err(Refused::TooManyKeys);
                }
                match credential {
                    Credential::Certificate(print) if self.key_of_certificate(print).is_some() => {
                        Err(Refused::CertificateTaken)
                    }
                    _ => Ok(()),
                }
            }
            Change::KeyRevoked { key } => self.live_key(*key).map(drop).ok_or(Refused::NoKey),
            Change::ThresholdSet { tenant, ledger, amount } => {
                known(tenant)?;
                let is_ledger = ledger.parse::<tp_actors::tp_core::amount::Ledger>().is_ok();
                let is_amount = amount.as_deref().is_none_or(|text| parse_decimal(text).is_some());
                if is_ledger && is_amount { Ok(()) } else { Err(Refused::BadThreshold) }
            }
            Change::AgreementAdded { payer, payee } => {
                known(payer)?;
                known(payee)?;
                if payer == payee { Err(Refused::SameTenant) } else { Ok(()) }
            }
            Change::AgreementEnded { payer, payee } => {
                self.agreements.get(&(*payer, *payee)).map(drop).ok_or(Refused::NoAgreement)
            }
            Change::ApprovalAsked(asked) => {
                known(&asked.tenant)?;
                let is_new = self.approval(asked.tenant, asked.approval).is_none();
                if is_new { Ok(()) } else { Err(Refused::NotOpen) }
            }
            Change::ApprovalGiven { tenant, approval, person, key }
            | Change::ApprovalRejected { tenant, approval, person, key } => {
                let found = self.approval(*tenant, *approval).ok_or(Refused::NoApproval)?;
                if !found.is_open(now) {
                    return Err(Refused::NotOpen);
                }
                let asked = &found.asked_for;
                let is_same = is_person(&asked.person, person) || (asked.key == *key && *key != NO_KEY);
                if is_same || self.was_made_by(*key, &asked.person) || self.was_made_by(asked.key, person) {
                    Err(Refused::SamePerson)
                } else {
                    Ok(())
                }
            }
            Change::ApprovalExecuted { tenant, approval, .. } => {
                match self.approval(*tenant, *approval).map(|a| &a.state) {
                    None => Err(Refused::NoApproval),
                    Some(ApprovalState::Approved { .. }) => Ok(()),
                    Some(_) => Err(Refused::NotOpen),
                }
            }
        }
    }

    /// Makes a change that was checked.
    pub(crate) fn apply(&mut self, change: Change, at: UnixMs) {
        match change {
            Change::TenantAdded { tenant, name } => {
                self.tenants.entry(tenant).or_insert(Tenant { tenant, name, thresholds: BTreeMap::new() });
            }
            Change::KeyAdded { key, tenant, person, roles, credential, made_by } => {
                let person = person.into();
                let (added, revoked) = (at, None);
                self.add_key(KeyEntry { key, tenant, person, roles, credential, made_by, added, revoked });
            }
            Change::KeyRevoked { key } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    Arc::make_mut(entry).revoked = Some(at);
                }
            }
            Change::ThresholdSet { tenant, ledger, amount } => {
                if let Some(tenant) = self.tenants.get_mut(&tenant) {
                    match amount {
                        Some(amount) => tenant.thresholds.insert(ledger, amount),
                        None => tenant.thresholds.remove(&ledger),
                    };
                }
            }
            Change::AgreementAdded { payer, payee } => _ = self.agreements.insert((payer, payee)),
            Change::AgreementEnded { payer, payee } => _ = self.agreements.remove(&(payer, payee)),
            Change::ApprovalAsked(asked_for) => {
                self.forget(at);
                self.add_approval(Approval { asked_for, asked: at, state: ApprovalState::Pending });
            }
            Change::ApprovalGiven { tenant, approval, person, .. } => {
                self.set_state((tenant, approval), ApprovalState::Approved { person, at });
            }
            Change::ApprovalRejected { tenant, approval, person, .. } => {
                self.set_state((tenant, approval), ApprovalState::Rejected { person });
            }
            Change::ApprovalExecuted { tenant, approval, outcome, reply } => {
                let person = match self.approval(tenant, approval).map(|a| &a.state) {
                    Some(ApprovalState::Approved { person, .. }) => person.clone(),
                    _ => return,
                };
                self.set_state((tenant, approval), ApprovalState::Executed { person, outcome, reply });
            }
        }
    }

    fn add_key(&mut self, entry: KeyEntry) {
        // A revoked key's certificate may have another key by now.
        if let Credential::Certificate(print) = &entry.credential
            && entry.revoked.is_none()
        {
            self.certificates.insert(print.clone(), entry.key);
        }
        self.keys.insert(entry.key, Arc::new(entry));
    }

    fn add_approval(&mut self, approval: Approval) {
        let place = (approval.asked_for.tenant, approval.id());
        self.asked.insert(approval.identity(), place);
        *self.asked_keys.entry((place.0, approval.asked_for.engine_key.clone())).or_default() += 1;
        self.order.push_back(place);
        let state = approval.state.clone();
        self.approvals.insert(place, approval);
        self.set_state(place, state);
    }

    fn set_state(&mut self, place: (TenantId, ApprovalId), state: ApprovalState) {
        let Some(found) = self.approvals.get_mut(&place) else { return };
        let open = self.open.entry(place.0).or_default();
        if state == ApprovalState::Pending {
            open.insert(place.1)
        } else {
            open.remove(&place.1)
        };
        if matches!(state, ApprovalState::Approved { .. }) {
            self.unfinished.insert(place);
        } else {
            self.unfinished.remove(&place);
        }
        found.state = state;
    }

    /// Forgets what is over and old, by the time of the records, so that every fold forgets the same.
    fn forget(&mut self, at: UnixMs) {
        for (tenant, open) in &mut self.open {
            open.retain(|id| self.approvals.get(&(*tenant, *id)).is_some_and(|approval| approval.is_open(at)));
        }
        while let Some(place) = self.order.front().copied() {
            let old = self.approvals.get(&place);
            let is_old = old.is_none_or(|approval| approval.asked.0.saturating_add(RETENTION_MS) < at.0);
            if !is_old || self.unfinished.contains(&place) {
                return;
            }
            self.order.pop_front();
            if let Some(approval) = self.approvals.remove(&place) {
                let identity = approval.identity();
                let key = (place.0, approval.asked_for.engine_key.clone());
                if let Some(count) = self.asked_keys.get_mut(&key) {
                    *count -= 1;
                    if *count == 0 {
                        self.asked_keys.remove(&key);
                    }
                }
                if self.asked.get(&identity) == Some(&place) {
                    self.asked.remove(&identity);
                }
            }
        }
    }

    pub(crate) fn to_image(&self) -> StateImage {
        let mut keys: Vec<_> = self.keys.values().map(|entry| KeyEntry::clone(entry)).collect();
        keys.sort_unstable_by_key(|entry| entry.added);
        StateImage {
            tenants: self.tenants.values().cloned().collect(),
            keys,
            agreements: self.agreements.iter().copied().collect(),
            approvals: self.order.iter().filter_map(|place| self.approvals.get(place)).cloned().collect(),
        }
    }

    pub(crate) fn from_image(image: StateImage) -> Self {
        let mut state = Self { agreements: image.agreements.into_iter().collect(), ..Self::default() };
        state.tenants = image.tenants.into_iter().map(|tenant| (tenant.tenant, tenant)).collect();
        image.keys.into_iter().for_each(|entry| state.add_key(entry));
        image.approvals.into_iter().for_each(|approval| state.add_approval(approval));
        state
    }
}
