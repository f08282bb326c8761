//! Who is calling: the ways to prove it. Owns checking of secrets, signatures, tokens and certificates; refuses to know routes, roles
//! and tenants' rules.
//!
//! ```text
//!  Authorization: Bearer tpk_…        -> secret     -> key id                 \
//!  Authorization: Bearer eyJ…         -> jwt        -> tenant, roles, person   |  the caller looks up
//!  Signature-Input, Signature, body   -> signature  -> key id -> nonces        |  tenant and roles, at
//!  client certificate                 -> tls        -> fingerprint            /   every request
//! ```
//!
//! Invariants: AUT-1 (what proves nothing gives no identity: every check answers with an identity or a closed reason, never both),
//! AUT-2 (secrets are compared in constant time, shown by no `Debug` and wiped when dropped), AUT-3 (a signature is accepted at most
//! once), AUT-4 (every check is total and bounded: no input makes it panic, and it looks at a bounded number of bytes).
//! Nothing here reads a clock: the time is an argument.
#![cfg_attr(test, allow(clippy::unwrap_used))] // the build without tests still denies it

pub mod content_digest;
pub mod jwt;
pub mod key_id;
pub mod nonces;
pub mod seal;
pub mod secret;
pub mod signature;
pub mod tls;
