//! The closed sets of labels: why a connection, a caller or a request was turned away. Owns the names, which dashboards and alerts
//! cite; refuses free text, so that nobody outside decides how many series there are.

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$line:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name { $($(#[$line])* $variant,)* }

        impl $name {
            /// All, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// The label.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text),* } }
        }
    };
}

reasons! {
    /// Why a connection was not served.
    ConnectionRefusal {
        /// As many are open as may be.
        Limit = "limit",
        /// As many are open from its address as may be.
        AddressLimit = "address_limit",
        /// The server is stopping.
        Stopping = "stopping",
        /// The operating system could not give one: no descriptors, mostly.
        Accept = "accept",
    }
}

reasons! {
    /// Why a TLS handshake did not end in a session.
    TlsFailure {
        /// It took too long.
        Timeout = "timeout",
        /// A client certificate is missing, expired, or not by an authority that is trusted.
        Certificate = "certificate",
        /// Anything else: no common version or cipher, not TLS at all, gone.
        Protocol = "protocol",
    }
}

reasons! {
    /// Why a caller was not believed (401), or not allowed (403).
    AuthenticationFailure {
        /// No proof at all.
        Missing = "missing",
        /// Not of the form that the scheme wants.
        Malformed = "malformed",
        /// No such key, certificate or issuer.
        Unknown = "unknown",
        /// The secret is not that key's.
        Secret = "secret",
        /// The signature of a request or token does not fit.
        Signature = "signature",
        /// A signature's time is too far from the clock: `sign_again`.
        Time = "time",
        /// A signature that was used before.
        Replay = "replay",
        /// The key, token or certificate has expired.
        Expired = "expired",
        /// The key was revoked, or its tenant is disabled.
        Revoked = "revoked",
        /// Known, and without the role that the route wants: `forbidden`.
        Role = "role",
        /// Known, and not from an address that the key may be used from.
        Address = "address",
        /// Names an account of another tenant without an agreement: `no_agreement`.
        Agreement = "agreement",
    }
}

reasons! {
    /// Which limit a request met (429).
    RateLimit {
        /// Commands a second of one key.
        Key = "key",
        /// Commands a second of one tenant.
        Tenant = "tenant",
        /// Requests a second of one address, and failures to prove who one is.
        Address = "address",
        /// Requests in flight of one tenant or key.
        TenantInFlight = "tenant_in_flight",
        /// Requests in flight of the whole server.
        InFlight = "in_flight",
    }
}
