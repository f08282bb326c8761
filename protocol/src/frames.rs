//! The frames of the binary door, byte by byte: `docs/src/frames.md` is this file in words.
//!
//! Owns every frame's form and what of it cannot be. Refuses to know what a command does, and to read anything but whole frames. All
//! numbers are little-endian and unsigned unless said otherwise; a frame begins with the number of bytes that follow its length, and a
//! kind. Nothing is allocated for a frame, and no input panics.
//!
//! ```text
//!   u32 length | u8 kind | ... length - 1 bytes ...
//!      caller: HELLO, COMMAND        server: WELCOME, REPLY, GOODBYE
//! ```

use zerocopy::byteorder::little_endian::{I128, U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of these frames.
pub const VERSION: u16 = 1;

/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;
/// The longest frame, its length included.
pub const FRAME_BYTES_MAX: usize = 8_192;
/// The longest credential of a HELLO, bytes.
pub const CREDENTIAL_BYTES_MAX: usize = 8_000;

/// Kinds of frames.
pub mod kind {
    /// The caller's first frame.
    pub const HELLO: u8 = 1;
    /// A command.
    pub const COMMAND: u8 = 2;
    /// The server's first frame.
    pub const WELCOME: u8 = 129;
    /// A reply.
    pub const REPLY: u8 = 130;
    /// The server's last frame: why it ends.
    pub const GOODBYE: u8 = 131;
}

/// Verbs, numbered as in journals.
pub mod verb {
    /// Asks for a hold.
    pub const AUTHORIZE: u8 = 4;
    /// Raises or extends one.
    pub const INCREMENT: u8 = 5;
    /// Pays out of one.
    pub const CAPTURE: u8 = 6;
    /// Releases one.
    pub const VOID: u8 = 7;
    /// Gives a capture back.
    pub const REFUND: u8 = 8;
    /// Undoes a command.
    pub const REVERSE: u8 = 9;
    /// Reports another's decision.
    pub const ADVISE: u8 = 10;
    /// Pays at once.
    pub const TRANSFER: u8 = 11;
    /// Asks what became of a command.
    pub const LOOKUP: u8 = 12;
}

/// Flags of a [`Command`].
pub mod flag {
    /// The key is a UUID of version 7, whose time counts.
    pub const KEY_UUID_V7: u16 = 1;
    /// Likewise the original's, of a reversal.
    pub const ORIGINAL_UUID_V7: u16 = 2;
    /// `authorize`: take less when there is not enough.
    pub const ALLOW_PARTIAL: u16 = 4;
    /// `capture`: the rest of the hold is released.
    pub const FINAL: u16 = 8;
    /// `lookup`: a command that is not known shall never be decided.
    pub const FENCE: u16 = 16;
    /// `payee` is there.
    pub const PAYEE: u16 = 32;
    /// The payee is another tenant's: `payee_tenant` says whose.
    pub const PAYEE_TENANT: u16 = 64;
    /// `amount`, `asset` and `scale` are there. Of `void` and `reverse` they may be missing.
    pub const AMOUNT: u16 = 128;
    /// `lifetime_ms` is there.
    pub const LIFETIME: u16 = 256;
    /// `subject` is there: the id of the authorization or capture that a command names, or the key of the command that it reverses.
    pub const SUBJECT: u16 = 512;
    /// `refund`: `subject` is a capture's id, not an authorization's.
    pub const CAPTURE: u16 = 1024;
    /// Every flag that there is.
    pub const ALL: u16 = 2047;
}

/// What an advice reports.
pub mod advice {
    /// No advice.
    pub const NONE: u8 = 0;
    /// A stand-in authorization.
    pub const HOLD: u8 = 1;
    /// A completion.
    pub const POST: u8 = 2;
    /// A refusal.
    pub const DECLINED: u8 = 3;
}

/// Flags of a [`Reply`].
pub mod told {
    /// The first answer of this key, given again.
    pub const REPEATED: u16 = 1;
    /// The original was undone since.
    pub const REVERSED: u16 = 2;
    /// `posted` and `held` are there, and the ledger.
    pub const BALANCES: u16 = 4;
    /// `available` is there: the credit has a limit.
    pub const AVAILABLE: u16 = 8;
    /// `authorization` is there.
    pub const AUTHORIZATION: u16 = 16;
    /// `transfer` is there.
    pub const TRANSFER: u16 = 32;
    /// `expires_ms` is there.
    pub const EXPIRES: u16 = 64;
    /// `seq` is there: the command made an event.
    pub const SEQ: u16 = 128;
    /// `transfer` is the id of the approval that it waits for.
    pub const APPROVAL: u16 = 256;
}

/// Codes of a [`Reply`] that are no outcome of the engine. Those below 128 are the outcomes' numbers in journals.
pub mod code {
    /// Second persons: it waits for one.
    pub const WAITS: u8 = 128;
    /// It makes no sense: [`super::Reply::status`] 400.
    pub const INVALID: u8 = 129;
    /// The caller's roles do not include it.
    pub const FORBIDDEN: u8 = 130;
    /// Too many commands a second.
    pub const RATE_LIMITED: u8 = 131;
    /// Too many under way.
    pub const TOO_MANY_IN_FLIGHT: u8 = 132;
    /// No agreement lets money move between these tenants.
    pub const NO_AGREEMENT: u8 = 133;
    /// Another refusal, which HTTP names: [`super::Reply::status`] says of what kind. Nothing was done.
    pub const REFUSED: u8 = 134;
    /// A second person rejected it: nothing was done.
    pub const APPROVAL_REJECTED: u8 = 135;
    /// No second person decided in time: nothing was done.
    pub const APPROVAL_EXPIRED: u8 = 136;
    /// It was approved, and it is not known whether it was executed: look it up.
    pub const APPROVAL_UNKNOWN: u8 = 137;
    /// The key looks like a card number.
    pub const CARD_NUMBER: u8 = 138;
}

/// Why a server ends a connection.
pub mod reason {
    /// It stops: what it had taken is answered.
    pub const STOPPING: u8 = 1;
    /// It is not known who is calling, or not any more.
    pub const UNAUTHENTICATED: u8 = 2;
    /// Too many failed proofs from that address.
    pub const RATE_LIMITED: u8 = 3;
    /// What came is no frame that is allowed there.
    pub const FRAME: u8 = 4;
    /// The version is not spoken.
    pub const VERSION: u8 = 5;
    /// Nothing came for too long.
    pub const IDLE: u8 = 6;
    /// The journal is being read.
    pub const RECOVERING: u8 = 7;
}

/// A command: 128 bytes. What its verb does not take is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Command {
    /// [`COMMAND_LENGTH`].
    pub length: U32,
    /// [`kind::COMMAND`].
    pub kind: u8,
    /// One of [`verb`].
    pub verb: u8,
    /// Of [`flag`].
    pub flags: U16,
    /// The caller's own; it comes back with the reply.
    pub tag: U64,
    /// Idempotency key: 128 bits, those of a UUID where it is one.
    pub key: U128,
    /// The account, 1 to 2^96 - 1; zero where the verb names none.
    pub account: U128,
    /// Likewise the payee.
    pub payee: U128,
    /// The authorization or capture that is named, or the key of a reversal's original.
    pub subject: U128,
    /// Minor units, 0 to 2^96 - 1.
    pub amount: U128,
    /// Milliseconds.
    pub lifetime_ms: U64,
    /// Milliseconds until it is decided and durable: 1 to 60,000; 0: the server's default.
    pub deadline_ms: U32,
    /// Whose the payee is, with its flag.
    pub payee_tenant: U32,
    /// In 1/10,000.
    pub tolerance_bp: U16,
    /// 0 to 38.
    pub scale: u8,
    /// One of [`advice`].
    pub advice: u8,
    /// 1 to 7 of A-Z and 0-9, and zeros.
    pub asset: [u8; 8],
    /// Zeros.
    pub reserved: [u8; 4],
}

/// What a COMMAND's length says.
pub const COMMAND_LENGTH: u32 = 128 - 4;

/// A reply: 152 bytes. What is not there is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Reply {
    /// [`REPLY_LENGTH`].
    pub length: U32,
    /// [`kind::REPLY`].
    pub kind: u8,
    /// The outcome's number, or one of [`code`].
    pub code: u8,
    /// Of [`told`].
    pub flags: U16,
    /// The command's.
    pub tag: U64,
    /// The event in the journal.
    pub seq: U64,
    /// The account's version.
    pub version: U64,
    /// What was approved, released, moved or given back, minor units.
    pub amount: U128,
    /// Minor units; signed.
    pub posted: I128,
    /// Minor units.
    pub held: U128,
    /// Minor units; signed.
    pub available: I128,
    /// The authorization made or named.
    pub authorization: U128,
    /// The transfer made; with its flag the approval that it waits for.
    pub transfer: U128,
    /// Milliseconds since 1970.
    pub expires_ms: U64,
    /// The status code that HTTP has for it.
    pub status: U16,
    /// Remarks: 1 `over_hold`, 2 `overdrawn`, 4 `unmatched`, 8 `suspense`, 16 `counter_suspense`.
    pub remarks: u8,
    /// The balances' ledger.
    pub scale: u8,
    /// Likewise: 1 to 7 of A-Z and 0-9, and zeros.
    pub asset: [u8; 8],
    /// Zeros.
    pub reserved: [u8; 4],
}

/// What a REPLY's length says.
pub const REPLY_LENGTH: u32 = 152 - 4;

const _: () = assert!(size_of::<Command>() == 128 && size_of::<Reply>() == 152);

/// The fixed part of a HELLO; the credential follows: a key or token as after `Bearer `, or nothing where a client certificate says it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Hello {
    /// 4 and the credential's bytes.
    pub length: U32,
    /// [`kind::HELLO`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// [`VERSION`].
    pub version: U16,
}

/// The answer to a HELLO: commands may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Welcome {
    /// 12.
    pub length: U32,
    /// [`kind::WELCOME`].
    pub kind: u8,
    /// Zero.
    pub reserved: u8,
    /// [`VERSION`].
    pub version: U16,
    /// The caller's tenant.
    pub tenant: U32,
    /// Commands that may be under way: above it nothing more is read.
    pub in_flight_max: U32,
}

/// The server's last frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Goodbye {
    /// 4.
    pub length: U32,
    /// [`kind::GOODBYE`].
    pub kind: u8,
    /// One of [`reason`].
    pub reason: u8,
    /// Zeros.
    pub reserved: [u8; 2],
}

impl Command {
    /// One with nothing but its verb, tag and key.
    pub fn new(verb: u8, tag: u64, key: u128) -> Self {
        let (length, tag, key) = (COMMAND_LENGTH.into(), tag.into(), key.into());
        Self { length, kind: kind::COMMAND, verb, tag, key, ..Self::new_zeroed() }
    }

    /// With an amount in an asset: its code and scale.
    #[must_use]
    pub fn with_amount(mut self, amount: u128, asset: &str, scale: u8) -> Self {
        let length = asset.len().min(self.asset.len());
        self.asset[..length].copy_from_slice(&asset.as_bytes()[..length]);
        self.flags = (self.flags.get() | flag::AMOUNT).into();
        (self.amount, self.scale) = (amount.into(), scale);
        self
    }

    /// The amount's asset code, if it is ASCII that ends in zeros.
    pub fn asset_code(&self) -> Option<&str> {
        code_of(&self.asset)
    }

    /// Whether it has all of these flags.
    pub fn has(&self, flags: u16) -> bool {
        self.flags.get() & flags == flags
    }
}

impl Reply {
    /// One with nothing but its code, status and tag.
    pub fn new(tag: u64, code: u8, status: u16) -> Self {
        let (length, tag, status) = (REPLY_LENGTH.into(), tag.into(), status.into());
        Self { length, kind: kind::REPLY, code, tag, status, ..Self::new_zeroed() }
    }

    /// The balances' asset code.
    pub fn asset_code(&self) -> Option<&str> {
        code_of(&self.asset)
    }

    /// Whether it has all of these flags.
    pub fn has(&self, flags: u16) -> bool {
        self.flags.get() & flags == flags
    }
}

fn code_of(asset: &[u8; 8]) -> Option<&str> {
    let length = asset.iter().position(|byte| *byte == 0).unwrap_or(asset.len());
    let (code, rest) = asset.split_at(length);
    let is_code = code.is_ascii() && rest.iter().all(|byte| *byte == 0);
    is_code.then(|| std::str::from_utf8(code).ok()).flatten()
}

/// A frame at the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A HELLO, its version and credential.
    Hello(u16, &'a [u8]),
    /// A COMMAND.
    Command(&'a Command),
    /// A WELCOME.
    Welcome(&'a Welcome),
    /// A REPLY.
    Reply(&'a Reply),
    /// A GOODBYE, its reason.
    Goodbye(u8),
}

/// What came is no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoFrame;

impl std::fmt::Display for NoFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("no frame: its length or kind is not one that there is")
    }
}

impl std::error::Error for NoFrame {}

impl<'a> Frame<'a> {
    /// The frame that begins some bytes, and how many it takes; `None`: it is not whole yet.
    ///
    /// # Errors
    /// [`NoFrame`]; as soon as its length or kind is there.
    pub fn read(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, NoFrame> {
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| NoFrame)?;
        if length == 0 || length > FRAME_BYTES_MAX - LENGTH_BYTES {
            return Err(NoFrame);
        }
        let Some(&kind) = rest.first() else { return Ok(None) };
        let total = LENGTH_BYTES + length;
        let is_long_enough = match kind {
            kind::HELLO => length >= size_of::<Hello>() - LENGTH_BYTES,
            kind::COMMAND => total == size_of::<Command>(),
            kind::WELCOME => total == size_of::<Welcome>(),
            kind::REPLY => total == size_of::<Reply>(),
            kind::GOODBYE => total == size_of::<Goodbye>(),
            _ => false,
        };
        if !is_long_enough {
            return Err(NoFrame);
        }
        let Some(frame) = bytes.get(..total) else { return Ok(None) };
        let frame = match kind {
            kind::HELLO => {
                let (hello, credential) = Hello::ref_from_prefix(frame).map_err(|_| NoFrame)?;
                Self::Hello(hello.version.get(), credential)
            }
            kind::COMMAND => Self::Command(Command::ref_from_bytes(frame).map_err(|_| NoFrame)?),
            kind::WELCOME => Self::Welcome(Welcome::ref_from_bytes(frame).map_err(|_| NoFrame)?),
            kind::REPLY => Self::Reply(Reply::ref_from_bytes(frame).map_err(|_| NoFrame)?),
            _ => Self::Goodbye(Goodbye::ref_from_bytes(frame).map_err(|_| NoFrame)?.reason),
        };
        Ok(Some((frame, total)))
    }
}

/// Puts a HELLO behind some bytes. A credential above [`CREDENTIAL_BYTES_MAX`] is cut, and not believed.
pub fn hello(out: &mut Vec<u8>, credential: &[u8]) {
    let credential = &credential[..credential.len().min(CREDENTIAL_BYTES_MAX)];
    let length = u32::try_from(size_of::<Hello>() - LENGTH_BYTES + credential.len()).unwrap_or(0);
    let hello = Hello { length: length.into(), kind: kind::HELLO, reserved: 0, version: VERSION.into() };
    out.extend_from_slice(hello.as_bytes());
    out.extend_from_slice(credential);
}

/// Puts a WELCOME behind some bytes.
pub fn welcome(out: &mut Vec<u8>, tenant: u32, in_flight_max: u32) {
    let length = u32::try_from(size_of::<Welcome>() - LENGTH_BYTES).unwrap_or(0);
    let (tenant, in_flight_max) = (tenant.into(), in_flight_max.into());
    let (kind, version) = (kind::WELCOME, VERSION.into());
    let welcome = Welcome { length: length.into(), kind, reserved: 0, version, tenant, in_flight_max };
    out.extend_from_slice(welcome.as_bytes());
}

/// Puts a GOODBYE behind some bytes.
pub fn goodbye(out: &mut Vec<u8>, reason: u8) {
    let length = u32::try_from(size_of::<Goodbye>() - LENGTH_BYTES).unwrap_or(0);
    let goodbye = Goodbye { length: length.into(), kind: kind::GOODBYE, reason, reserved: [0; 2] };
    out.extend_from_slice(goodbye.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page's example, byte for byte.
    const AUTHORIZE: &str = "7c000000 02 04 8000 0700000000000000 ff000000000000000000000000000000 \
        2a000000000000000000000000000000 00000000000000000000000000000000 00000000000000000000000000000000 \
        c4090000000000000000000000000000 0000000000000000 00000000 00000000 0000 02 00 4555520000000000 00000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("digits");
        digits.chunks(2).map(pair).collect()
    }

    #[test]
    fn an_authorization_is_these_bytes() {
        let mut command = Command::new(verb::AUTHORIZE, 7, 255).with_amount(2500, "EUR", 2);
        command.account = 42.into();
        assert_eq!(command.as_bytes(), bytes(AUTHORIZE));
        let read = Frame::read(&bytes(AUTHORIZE)).map(|read| read.map(|(_, total)| total));
        assert_eq!(read, Ok(Some(128)));
        assert_eq!(command.asset_code(), Some("EUR"));
    }

    #[test]
    fn frames_are_read_whole_and_in_a_row() {
        let mut stream = Vec::new();
        hello(&mut stream, b"key");
        welcome(&mut stream, 3, 4096);
        stream.extend_from_slice(Command::new(verb::LOOKUP, 1, 2).as_bytes());
        stream.extend_from_slice(Reply::new(1, 34, 404).as_bytes());
        goodbye(&mut stream, reason::STOPPING);
        let mut at = 0;
        let mut kinds = Vec::new();
        while let Ok(Some((frame, total))) = Frame::read(&stream[at..]) {
            kinds.push(stream[at + LENGTH_BYTES]);
            for cut in 0..total {
                assert_eq!(Frame::read(&stream[at..at + cut]), Ok(None), "{frame:?} cut at {cut}");
            }
            if let Frame::Hello(version, credential) = frame {
                assert_eq!((version, credential), (VERSION, &b"key"[..]));
            }
            at += total;
        }
        assert_eq!(at, stream.len());
        assert_eq!(kinds, [kind::HELLO, kind::WELCOME, kind::COMMAND, kind::REPLY, kind::GOODBYE]);
    }

    #[test]
    fn what_is_no_frame_is_told_as_soon_as_its_kind_is_there() {
        let wrong: [&[u8]; 7] = [
            &[0, 0, 0, 0],
            &[255, 255, 255, 255],
            b"GET / HTTP/1.1",
            &[124, 0, 0, 0, 3],
            &[123, 0, 0, 0, kind::COMMAND],
            &[3, 0, 0, 0, kind::HELLO],
            &[0xFD, 0x1F, 0, 0, kind::HELLO],
        ];
        for bytes in wrong {
            assert_eq!(Frame::read(bytes), Err(NoFrame), "{bytes:?}");
        }
        assert_eq!(Frame::read(&[0xFC, 0x1F, 0, 0, kind::HELLO]), Ok(None), "the longest");
    }

    #[test]
    fn an_asset_ends_in_zeros() {
        let with = |asset: [u8; 8]| Command { asset, ..Command::new(verb::VOID, 0, 1) }.asset_code().map(str::to_owned);
        assert_eq!(with(*b"EUR\0\0\0\0\0").as_deref(), Some("EUR"));
        assert_eq!(with(*b"EUR\0X\0\0\0"), None);
        assert_eq!(with([0xFF; 8]), None);
        assert_eq!(with([0; 8]).as_deref(), Some(""));
    }
}
