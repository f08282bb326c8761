//! The state that the control records fold into.
//!
//! Owns the rules of a change ([`ControlState::check`]) and its effect ([`ControlState::apply`]). Refuses to know where records come
//! from. Applying is total: what does not fit changes nothing, and says so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{ApprovalId, Change, Credential, Maker, Roles, UnixMs, key_text};
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
    /// Who is behind it: the person who added it, and whoever was behind the key that this was done with. Empty: it was added on the
    /// command line.
    pub added_by: Vec<Arc<str>>,
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
        given: UnixMs,
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
    /// Its id.
    pub approval: ApprovalId,
    /// Whose.
    pub tenant: TenantId,
    /// Who asked for the command.
    pub person: String,
    /// With which key; [`NO_KEY`] for a token.
    #[serde(with = "key_text")]
    pub key: KeyId,
    /// When.
    pub asked: UnixMs,
    /// Until when it may be decided.
    pub expires: UnixMs,
    /// The command as in a batch, JSON.
    pub command: String,
    /// How it stands.
    pub state: ApprovalState,
}

impl Approval {
    /// Whether it waits and may still be decided.
    pub fn is_open(&self, now: UnixMs) -> bool {
        self.state == ApprovalState::Pending && now < self.expires
    }

    /// The name of its state; a pending one past its time has expired.
    pub fn state_name(&self, now: UnixMs) -> &'static str {
        match self.state {
            ApprovalState::Pending if now < self.expires => "pending",
            ApprovalState::Pending => "expired",
            ApprovalState::Approved { .. } => "approved",
            ApprovalState::Rejected { .. } => "rejected",
            ApprovalState::Executed { .. } => "executed",
        }
    }
}

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
    /// As many wait as may.
    #[error("as many commands wait for a second person as may")]
    TooManyPending,
    /// Whoever asked cannot decide, nor can a key that one of the two added for the other.
    #[error("a second person has to decide: not who asked, and not by a key that one of the two added for the other")]
    SamePerson,
}

/// What the records fold into.
#[derive(Clone, Debug, Default)]
pub struct ControlState {
    tenants: BTreeMap<TenantId, Tenant>,
    keys: HashMap<KeyId, Arc<KeyEntry>>,
    certificates: HashMap<Vec<u8>, KeyId>,
    agreements: BTreeSet<(TenantId, TenantId)>,
    approvals: BTreeMap<ApprovalId, Approval>,
    /// Approvals by tenant and command identity, so that a repeat finds the one it made.
    asked: HashMap<(TenantId, String), ApprovalId>,
    /// Tenants that ever asked for one.
    askers: BTreeSet<TenantId>,
}

/// The state as an image keeps it.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct StateImage {
    tenants: Vec<Tenant>,
    keys: Vec<KeyEntry>,
    agreements: Vec<(TenantId, TenantId)>,
    approvals: Vec<Approval>,
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
        self.approvals.get(&approval).filter(|found| found.tenant == tenant)
    }

    /// A tenant's approvals, ascending by id, from behind one on.
    pub fn approvals_of(&self, tenant: TenantId, after: Option<ApprovalId>) -> impl Iterator<Item = &Approval> {
        let from = after.map_or(ApprovalId(0), |after| ApprovalId(after.0.saturating_add(1)));
        self.approvals.range(from..).map(|(_, approval)| approval).filter(move |a| a.tenant == tenant)
    }

    /// How many of a tenant's approvals are pending.
    pub fn pending_of(&self, tenant: TenantId, now: UnixMs) -> usize {
        self.approvals.values().filter(|a| a.tenant == tenant && a.is_open(now)).count()
    }

    /// The approval that a command with this identity made.
    pub fn asked(&self, tenant: TenantId, identity: &str) -> Option<&Approval> {
        self.asked.get(&(tenant, identity.to_owned())).and_then(|id| self.approvals.get(id))
    }

    /// Whether any command of this tenant needs, or needed, a second person: all others are not looked at any closer.
    pub fn has_second_persons(&self, tenant: TenantId) -> bool {
        self.askers.contains(&tenant) || self.tenant(tenant).is_some_and(|tenant| !tenant.thresholds.is_empty())
    }

    /// Who is behind a change, as its record names it. Nobody: the command line.
    fn persons_behind(&self, by: &str) -> Vec<Arc<str>> {
        let mut persons: Vec<Arc<str>> = match Maker::parse(by) {
            Maker::Token(person) => vec![person.into()],
            Maker::Key(key) => self.keys.get(&key).map_or_else(Vec::new, |entry| {
                std::iter::once(&entry.person).chain(&entry.added_by).cloned().collect()
            }),
            Maker::Other => Vec::new(),
        };
        persons.sort_unstable();
        persons.dedup();
        persons
    }

    /// Whether two callers may be one person: by name, by key, or because one of them added the other's key.
    fn may_be_one(&self, (one, one_key): (&str, KeyId), (other, other_key): (&str, KeyId)) -> bool {
        let is_behind = |person: &str, key: KeyId| {
            self.keys.get(&key).is_some_and(|entry| entry.added_by.iter().any(|behind| **behind == *person))
        };
        let is_one_key = one_key == other_key && one_key != NO_KEY;
        one == other || is_one_key || is_behind(one, other_key) || is_behind(other, one_key)
    }

    /// Approved and not yet known to be executed: after a crash these are executed again, under their own keys.
    pub fn unfinished(&self) -> Vec<Approval> {
        let is_approved = |a: &&Approval| matches!(a.state, ApprovalState::Approved { .. });
        self.approvals.values().filter(is_approved).cloned().collect()
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
            Change::KeyAdded { key, tenant, person, roles, credential } => {
                known(tenant)?;
                if !is_name(person) || roles.is_empty() {
                    return Err(Refused::BadName);
                }
                if self.keys.contains_key(key) {
                    return Err(Refused::KeyExists);
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
            Change::ApprovalAsked { tenant, .. } => known(tenant),
            Change::ApprovalGiven { approval, person, key } | Change::ApprovalRejected { approval, person, key } => {
                let found = self.approvals.get(approval).ok_or(Refused::NoApproval)?;
                if !found.is_open(now) {
                    return Err(Refused::NotOpen);
                }
                if self.may_be_one((&found.person, found.key), (person, *key)) {
                    Err(Refused::SamePerson)
                } else {
                    Ok(())
                }
            }
            Change::ApprovalExecuted { approval, .. } => match self.approvals.get(approval).map(|a| &a.state) {
                None => Err(Refused::NoApproval),
                Some(ApprovalState::Approved { .. }) => Ok(()),
                Some(_) => Err(Refused::NotOpen),
            },
        }
    }

    /// Makes a change that was checked. `by`: who made it, as its record says.
    pub(crate) fn apply(&mut self, change: Change, at: UnixMs, by: &str) {
        match change {
            Change::TenantAdded { tenant, name } => {
                self.tenants.entry(tenant).or_insert(Tenant { tenant, name, thresholds: BTreeMap::new() });
            }
            Change::KeyAdded { key, tenant, person, roles, credential } => {
                let (person, added_by) = (person.into(), self.persons_behind(by));
                self.add_key(KeyEntry { key, tenant, person, roles, credential, added_by, added: at, revoked: None });
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
            Change::ApprovalAsked { approval, tenant, person, key, expires, command } => {
                let state = ApprovalState::Pending;
                self.add_approval(Approval { approval, tenant, person, key, asked: at, expires, command, state });
            }
            Change::ApprovalGiven { approval, person, .. } => {
                self.set_state(approval, ApprovalState::Approved { person, given: at });
            }
            Change::ApprovalRejected { approval, person, .. } => {
                self.set_state(approval, ApprovalState::Rejected { person });
            }
            Change::ApprovalExecuted { approval, outcome, reply } => {
                let person = match self.approvals.get(&approval).map(|a| &a.state) {
                    Some(ApprovalState::Approved { person, .. }) => person.clone(),
                    _ => return,
                };
                self.set_state(approval, ApprovalState::Executed { person, outcome, reply });
            }
        }
    }

    fn add_key(&mut self, entry: KeyEntry) {
        if let Credential::Certificate(print) = &entry.credential {
            self.certificates.insert(print.clone(), entry.key);
        }
        self.keys.insert(entry.key, Arc::new(entry));
    }

    fn add_approval(&mut self, approval: Approval) {
        let identity = super::store::identity_of(&approval.command);
        self.asked.insert((approval.tenant, identity), approval.approval);
        self.askers.insert(approval.tenant);
        self.approvals.insert(approval.approval, approval);
    }

    fn set_state(&mut self, approval: ApprovalId, state: ApprovalState) {
        if let Some(found) = self.approvals.get_mut(&approval) {
            found.state = state;
        }
    }

    pub(crate) fn to_image(&self) -> StateImage {
        let mut keys: Vec<_> = self.keys.values().map(|entry| KeyEntry::clone(entry)).collect();
        keys.sort_unstable_by_key(|entry| entry.added);
        StateImage {
            tenants: self.tenants.values().cloned().collect(),
            keys,
            agreements: self.agreements.iter().copied().collect(),
            approvals: self.approvals.values().cloned().collect(),
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

#[cfg(test)]
mod tests;
