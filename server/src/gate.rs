//! The gate: who is calling, and whether there is room for the call.
//!
//! Owns the way from headers and certificate to a caller, the rates and counts of tenants, and the rate of failed proofs of an address.
//! Refuses to know what is called. Every failure of a proof is answered alike; why it failed is in the logs and the metrics.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use governor::clock::DefaultClock;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::HeaderMap;
use http::request::Parts;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::problem::{Problem, Refusal};
use crate::api::request::Caller;
use crate::auth::jwt::TokenVerifier;
use crate::auth::nonces::{NonceRefusal, Nonces};
use crate::auth::seal::{Purpose, Sealer};
use crate::auth::secret::{API_KEY_PREFIX, ApiKeyHash, ApiKeyText};
use crate::auth::signature::{HeadVerified, Limits, ParsedSignature, Scheme, SignedParts, VerifyingKey, is_signed};
use crate::control::{Control, Credential, KeyEntry, NO_KEY, Role, now};
use crate::observe::AuthenticationFailure;
use crate::tenancy::TenantId;

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) address: IpAddr,
    pub(crate) scheme: Scheme,
    /// The SHA-256 of the client's certificate, if it showed one.
    pub(crate) certificate: Option<[u8; 32]>,
}

/// A caller, and what is still to be tested when the body is there.
pub(crate) struct Known {
    pub(crate) caller: Caller,
    pub(crate) head: Option<HeadVerified>,
}

/// Why a proof failed: for logs and metrics.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) reason: AuthenticationFailure,
    pub(crate) detail: String,
    /// Whether the same client may succeed with another try.
    pub(crate) again: Again,
}

/// What a client whose proof failed may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Again {
    /// Nothing.
    No,
    /// Sign again.
    Sign,
    /// Come later: as many nonces as are remembered were used.
    Later,
}

impl Failed {
    fn new(reason: AuthenticationFailure, detail: impl std::fmt::Display) -> Self {
        Self { reason, detail: detail.to_string(), again: Again::No }
    }

    pub(crate) fn problem(&self) -> Problem {
        match self.again {
            Again::Sign => return Problem::new(Refusal::SignAgain, ""),
            Again::Later => return Problem::new(Refusal::RateLimited, "too many signed requests within the window"),
            Again::No => {}
        }
        Problem::new(
            Refusal::Unauthenticated,
            "an API key or token (Authorization: Bearer), a request signature or a client certificate is needed",
        )
    }
}

/// The ways to prove who one is.
pub(crate) struct Gate {
    pub(crate) tokens: Option<Arc<TokenVerifier>>,
    pub(crate) nonces: Nonces,
    pub(crate) limits: Limits,
}

impl Gate {
    /// Who is calling. A signature is complete only with the body.
    pub(crate) fn identify(
        &self,
        control: &Control,
        sealer: &Sealer,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<Known, Failed> {
        if is_signed(&parts.headers) {
            return self.identify_by_signature(control, sealer, connection, parts);
        }
        if let Some(text) = bearer(&parts.headers)? {
            let caller = if text.starts_with(API_KEY_PREFIX) {
                let key =
                    ApiKeyText::parse(text).map_err(|error| Failed::new(AuthenticationFailure::Malformed, error))?;
                let entry = control.read(|state| state.live_key(key.id()).cloned());
                let entry = entry.ok_or_else(|| Failed::new(AuthenticationFailure::Unknown, key.id()))?;
                let fits = hash_of(&entry).is_some_and(|hash| key.verify(&hash));
                if !fits {
                    return Err(Failed::new(AuthenticationFailure::Secret, key.id()));
                }
                caller_of(&entry)
            } else {
                self.identify_by_token(control, text)?
            };
            return Ok(Known { caller, head: None });
        }
        let print = connection.certificate.ok_or_else(|| Failed::new(AuthenticationFailure::Missing, ""))?;
        let entry = control.read(|state| state.key_of_certificate(&print).cloned());
        let entry = entry
            .ok_or_else(|| Failed::new(AuthenticationFailure::Unknown, "no key has the certificate's fingerprint"))?;
        Ok(Known { caller: caller_of(&entry), head: None })
    }

    fn identify_by_signature(
        &self,
        control: &Control,
        sealer: &Sealer,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<Known, Failed> {
        let failed = |error: &dyn ToString| Failed::new(AuthenticationFailure::Signature, error.to_string());
        let parsed = ParsedSignature::from_headers(&parts.headers).map_err(|error| failed(&error))?;
        let id = parsed.key_id();
        let entry = control.read(|state| state.live_key(id).cloned());
        let entry = entry.ok_or_else(|| Failed::new(AuthenticationFailure::Unknown, id))?;
        let key = match &entry.credential {
            Credential::Hmac(sealed) => {
                let secret = sealer.open(Purpose::RequestSignature, &id.to_bytes(), sealed);
                let secret = secret.map_err(|error| Failed::new(AuthenticationFailure::Signature, error))?;
                VerifyingKey::hmac_sha256(&secret)
            }
            Credential::Ed25519(public) => VerifyingKey::ed25519(public),
            Credential::Bearer(_) | Credential::Certificate(_) => {
                return Err(Failed::new(AuthenticationFailure::Signature, "not a signing key"));
            }
        };
        let key = key.map_err(|error| failed(&error))?;
        let authority = authority(parts).ok_or_else(|| failed(&"no authority"))?;
        let signed = SignedParts {
            method: parts.method.as_str(),
            scheme: connection.scheme,
            authority,
            path: parts.uri.path(),
            query: parts.uri.query(),
            headers: &parts.headers,
        };
        let head = parsed.verify_head(&signed, &key, now().0 / 1000, self.limits).map_err(|error| failed(&error))?;
        Ok(Known { caller: caller_of(&entry), head: Some(head) })
    }

    /// The rest of a signature: the body is the signed one, and it was never seen before.
    pub(crate) fn finish(&self, head: HeadVerified, body: &[u8]) -> Result<(), Failed> {
        let verified = head.finish(body).map_err(|error| Failed::new(AuthenticationFailure::Signature, error))?;
        self.nonces.take(&verified, now().0 / 1000).map_err(|error| Failed {
            again: match error {
                NonceRefusal::SignAgain => Again::Sign,
                NonceRefusal::TooMany => Again::Later,
                NonceRefusal::TooOld | NonceRefusal::Replayed => Again::No,
            },
            ..Failed::new(AuthenticationFailure::Replay, error)
        })
    }

    fn identify_by_token(&self, control: &Control, text: &str) -> Result<Caller, Failed> {
        let tokens = self
            .tokens
            .as_ref()
            .ok_or_else(|| Failed::new(AuthenticationFailure::Signature, "no tokens are accepted here"))?;
        let bearer = tokens
            .verify(text, now().0 / 1000)
            .map_err(|error| Failed::new(AuthenticationFailure::Signature, error))?;
        // Names are kept with what they ask for.
        if crate::cards::names_card(&bearer.subject) {
            return Err(Failed::new(AuthenticationFailure::Malformed, "its subject looks like a card number"));
        }
        let tenant = u32::try_from(bearer.tenant).ok().and_then(TenantId::new);
        let tenant = tenant.filter(|tenant| control.read(|state| state.tenant(*tenant).is_some()));
        let tenant = tenant.ok_or_else(|| Failed::new(AuthenticationFailure::Unknown, "its tenant is not recorded"))?;
        // Roles of other services in the same token are none of ours.
        let roles = bearer.roles.iter().filter_map(|name| name.parse::<Role>().ok()).collect();
        let until_unix_s = Some(bearer.expires_unix_s);
        Ok(Caller { tenant, person: bearer.subject.into(), key: NO_KEY, roles, until_unix_s })
    }
}

fn hash_of(entry: &KeyEntry) -> Option<ApiKeyHash> {
    match &entry.credential {
        Credential::Bearer(hash) => <[u8; 32]>::try_from(hash.as_slice()).ok().map(ApiKeyHash::from_bytes),
        _ => None,
    }
}

fn caller_of(entry: &KeyEntry) -> Caller {
    let (tenant, person) = (entry.tenant, Arc::clone(&entry.person));
    Caller { tenant, person, key: entry.key, roles: entry.roles, until_unix_s: None }
}

/// The bearer's text, if there is one. Two headers are no proof of anything.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Failed> {
    let mut values = headers.get_all("authorization").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Failed::new(AuthenticationFailure::Malformed, "more than one Authorization"));
    }
    let text = value.to_str().map_err(|_| Failed::new(AuthenticationFailure::Malformed, "not visible ASCII"))?;
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(Some(rest.trim()))
    } else {
        Err(Failed::new(AuthenticationFailure::Malformed, "not Bearer"))
    }
}

/// `:authority` of HTTP/2, else `Host`.
fn authority(parts: &Parts) -> Option<&str> {
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| parts.headers.get("host")?.to_str().ok())
}

/// The rate and count of one tenant.
pub(crate) struct TenantRoom {
    rate: RateLimiter<NotKeyed, InMemoryState, DefaultClock>,
    in_flight: AtomicUsize,
    in_flight_max: usize,
    /// Reads of old facts under way.
    reads: Arc<Semaphore>,
    /// Streams of events.
    follows: Arc<Semaphore>,
}

/// The rates and counts of all tenants.
pub(crate) struct Rooms {
    quota: Quota,
    in_flight_max: usize,
    reads_max: usize,
    follows_max: usize,
    tenants: RwLock<HashMap<TenantId, Arc<TenantRoom>>>,
}

/// A tenant's room as one connection holds it. Its places count on this: a count that every command of all connections touched would go
/// from core to core with each.
pub(crate) struct Room(Arc<TenantRoom>);

/// A place among a tenant's requests under way; dropped, it is free again.
pub(crate) struct Place(Arc<Room>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    /// A place for one request.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Place, Refusal> {
        let room = &*self.0;
        if room.rate.check().is_err() {
            return Err(Refusal::RateLimited);
        }
        if room.in_flight.fetch_add(1, Ordering::Relaxed) >= room.in_flight_max {
            room.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::TooManyInFlight);
        }
        Ok(Place(Arc::clone(self)))
    }
}

impl Rooms {
    pub(crate) fn new(
        (rate, burst): (u64, u64),
        in_flight_max: usize,
        (reads_max, follows_max): (usize, usize),
    ) -> Self {
        let number = |value: u64| NonZeroU32::new(u32::try_from(value).unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(number(rate)).allow_burst(number(burst));
        Self { quota, in_flight_max, reads_max, follows_max, tenants: RwLock::new(HashMap::new()) }
    }

    /// The room of a tenant that was identified: there are as many as tenants.
    fn of(&self, tenant: TenantId) -> Arc<TenantRoom> {
        if let Some(room) = self.tenants.read().get(&tenant) {
            return Arc::clone(room);
        }
        let room = || {
            Arc::new(TenantRoom {
                rate: RateLimiter::direct(self.quota),
                in_flight: AtomicUsize::new(0),
                in_flight_max: self.in_flight_max,
                reads: Arc::new(Semaphore::new(self.reads_max)),
                follows: Arc::new(Semaphore::new(self.follows_max)),
            })
        };
        Arc::clone(self.tenants.write().entry(tenant).or_insert_with(room))
    }

    /// The room of a tenant, for one connection.
    pub(crate) fn room(&self, tenant: TenantId) -> Arc<Room> {
        Arc::new(Room(self.of(tenant)))
    }

    /// A place for one read of old facts.
    pub(crate) fn read(&self, tenant: TenantId) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.of(tenant).reads).try_acquire_owned().ok()
    }

    /// A place for one stream of events.
    pub(crate) fn follow(&self, tenant: TenantId) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.of(tenant).follows).try_acquire_owned().ok()
    }

    /// Whether the rate allows so many commands more.
    pub(crate) fn may_send(&self, tenant: TenantId, more: usize) -> bool {
        let more = u32::try_from(more).ok().and_then(NonZeroU32::new);
        more.is_none_or(|more| matches!(self.of(tenant).rate.check_n(more), Ok(Ok(()))))
    }
}

/// Failed proofs by address within the running minute. Bounded: when as many addresses failed as are remembered, all start anew.
pub(crate) struct Failures {
    per_minute: u64,
    memory: Mutex<(u64, HashMap<IpAddr, u64>)>,
}

/// Addresses remembered.
const ADDRESSES_MAX: usize = 100_000;

impl Failures {
    pub(crate) fn new(per_minute: u64) -> Self {
        Self { per_minute, memory: Mutex::new((0, HashMap::new())) }
    }

    /// Whether an address failed too often to be looked at.
    pub(crate) fn is_shut(&self, address: IpAddr, minute: u64) -> bool {
        let memory = self.memory.lock();
        memory.0 == minute && memory.1.get(&network(address)).is_some_and(|failures| *failures >= self.per_minute)
    }

    /// One more.
    pub(crate) fn add(&self, address: IpAddr, minute: u64) {
        let mut memory = self.memory.lock();
        if memory.0 != minute || memory.1.len() >= ADDRESSES_MAX {
            *memory = (minute, HashMap::new());
        }
        *memory.1.entry(network(address)).or_default() += 1;
    }
}

/// What counts as one address: of IPv6 the network of 64 bits, since whoever has one address of it has all.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_at_its_count_is_refused_until_one_of_its_requests_ends() {
        let rooms = Rooms::new((1_000_000, 1_000_000), 2, (1, 1));
        let (one, other) = (TenantId::new(1).expect("a tenant"), TenantId::new(2).expect("a tenant"));
        let first = rooms.room(one).enter().unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let _second = rooms.room(one).enter().unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(rooms.room(one).enter().err(), Some(Refusal::TooManyInFlight));
        assert!(rooms.room(other).enter().is_ok(), "another tenant has its own");
        drop(first);
        assert!(rooms.room(one).enter().is_ok());
    }

    #[test]
    fn a_tenant_above_its_rate_is_refused_and_no_other() {
        let rooms = Rooms::new((1, 3), 100, (1, 1));
        let (one, other) = (TenantId::new(1).expect("a tenant"), TenantId::new(2).expect("a tenant"));
        let refused = (0..10).filter(|_| rooms.room(one).enter().err() == Some(Refusal::RateLimited)).count();
        assert!(refused >= 6, "{refused}");
        assert!(rooms.room(other).enter().is_ok());
        assert!(!rooms.may_send(other, 4), "a batch larger than the burst");
    }

    #[test]
    fn an_address_that_fails_too_often_is_shut_for_the_minute() {
        let failures = Failures::new(2);
        let address = IpAddr::from([127, 0, 0, 1]);
        failures.add(address, 5);
        assert!(!failures.is_shut(address, 5));
        failures.add(address, 5);
        assert!(failures.is_shut(address, 5) && !failures.is_shut(address, 6));
        assert!(!failures.is_shut(IpAddr::from([127, 0, 0, 2]), 5));
        assert!(failures.is_shut("::ffff:127.0.0.1".parse().expect("an address"), 5));
        for last in 1..=2 {
            failures.add(format!("2001:db8::{last}").parse().expect("an address"), 5);
        }
        assert!(failures.is_shut("2001:db8::9".parse().expect("an address"), 5), "a neighbour");
        assert!(!failures.is_shut("2001:db8:0:1::9".parse().expect("an address"), 5));
    }
}
