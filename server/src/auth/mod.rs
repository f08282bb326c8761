//! Who is calling: the ways to prove it. Owns checking of secrets, signatures, tokens and certificates; refuses to know routes, roles
//! and tenants' rules.
