//! Events as bytes: a 16-byte header and an rkyv archive for each, 16-byte aligned, back to back in a frame's payload.
//!
//! ```text
//! 0      1        2         4            8              16
//! | kind | version | reserved | body bytes | time (u64 ms) | body ... zeros up to a multiple of 16 |
//! ```
//! Integers are little-endian. Owns the mapping of kinds to archived types; refuses to know frames. What is read is always
//! validated (`rkyv::access`), then tested for ranges; bytes from outside cannot make it panic.

use rkyv::api::high::HighSerializer;
use rkyv::rancor::Failure;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use crate::event::{
    Answered, Authorized, Body, Ended, Event, Expired, Fenced, Forgotten, Incremented, Moved, Noted, Opened, Recorded,
    Released, Settled, Tombstoned,
};
use crate::time::Time;

/// The alignment of every event, as of the 128-bit integers in it.
pub const EVENT_ALIGN: usize = 16;
/// Bytes of an event's header.
pub const HEADER_BYTES: usize = 16;
/// The version written.
pub const EVENT_VERSION: u8 = 1;

/// Why bytes are not events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end inside an event.
    #[error("an event is cut short")]
    Short,
    /// Written by a later release.
    #[error("event kind {kind} version {version} is not known to this release: use a newer one")]
    Unknown {
        /// Kind byte.
        kind: u8,
        /// Version byte.
        version: u8,
    },
    /// The archive is not valid or a field is out of range.
    #[error("the body of an event of kind {kind} is not valid")]
    Invalid {
        /// Kind byte.
        kind: u8,
    },
}

/// Encoded events, aligned: what a turn hands to the journal.
pub type EventBytes = AlignedVec<EVENT_ALIGN>;

macro_rules! kinds {
    ($($number:literal $variant:ident $boxed:tt;)*) => {
        fn encode_body(body: &Body, out: EventBytes) -> (u8, EventBytes) {
            match body { $(Body::$variant(e) => ($number, archive(kinds!(@ref $boxed e), out)),)* }
        }
        fn decode_body(kind: u8, version: u8, bytes: &[u8]) -> Result<Body, DecodeError> {
            if version != EVENT_VERSION { return Err(DecodeError::Unknown { kind, version }) }
            let invalid = |_: Failure| DecodeError::Invalid { kind };
            match kind {
                $($number => {
                    let archived = rkyv::access::<<$variant as Archive>::Archived, Failure>(bytes).map_err(invalid)?;
                    let native: $variant = rkyv::deserialize::<_, Failure>(archived).map_err(invalid)?;
                    Ok(Body::$variant(kinds!(@own $boxed native)))
                })*
                _ => Err(DecodeError::Unknown { kind, version }),
            }
        }
    };
    (@ref boxed $e:ident) => { $e.as_ref() };
    (@ref plain $e:ident) => { $e };
    (@own boxed $e:ident) => { Box::new($e) };
    (@own plain $e:ident) => { $e };
}

kinds! {
    1 Settled plain;
    2 Noted plain;
    3 Tombstoned plain;
    4 Fenced plain;
    5 Authorized plain;
    6 Incremented plain;
    7 Released plain;
    8 Expired plain;
    9 Moved boxed;
    10 Opened boxed;
    11 Answered plain;
    12 Ended plain;
    13 Forgotten plain;
    14 Recorded plain;
}

fn archive<T>(value: &T, out: EventBytes) -> EventBytes
where
    T: for<'a> Serialize<HighSerializer<EventBytes, ArenaHandle<'a>, Failure>>,
{
    rkyv::api::high::to_bytes_in::<_, Failure>(value, out)
        .expect("a growing writer and a growing arena: no event type shares pointers, so nothing else can fail")
}

/// Appends an event. Returns how many bytes it takes.
pub fn encode(event: &Event, out: &mut EventBytes) -> usize {
    let start = out.len();
    debug_assert_eq!(start % EVENT_ALIGN, 0);
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let (kind, mut bytes) = encode_body(&event.body, core::mem::take(out));
    let body = bytes.len() - start - HEADER_BYTES;
    let length = u32::try_from(body).expect("a body is at most a record of 64 KiB and its head");
    let header = &mut bytes[start..start + HEADER_BYTES];
    header[0] = kind;
    header[1] = EVENT_VERSION;
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..16].copy_from_slice(&event.time.0.to_le_bytes());
    let padded = bytes.len().next_multiple_of(EVENT_ALIGN);
    bytes.resize(padded, 0);
    *out = bytes;
    out.len() - start
}

/// The kind of [`Opened`], for those who look for the openings of a payload.
pub const KIND_OPENED: u8 = 10;

/// What the header of an event says of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Kind byte.
    pub kind: u8,
    /// Version byte.
    pub version: u8,
    /// Bytes of the body behind the header.
    pub body_bytes: usize,
    /// How many bytes it takes, up to the next event or the end.
    pub bytes: usize,
    /// When it was decided.
    pub time: Time,
}

/// Reads the header of the event at the front of `bytes` and passes its body by unread.
///
/// # Errors
/// When the bytes end inside the event.
pub fn span(bytes: &[u8]) -> Result<Span, DecodeError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(DecodeError::Short)?;
    let word = |range: core::ops::Range<usize>| header[range].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let body_bytes = usize::try_from(word(4..8)).map_err(|_| DecodeError::Short)?;
    let end = HEADER_BYTES + body_bytes;
    if end > bytes.len() {
        return Err(DecodeError::Short);
    }
    Ok(Span {
        kind: header[0],
        version: header[1],
        body_bytes,
        bytes: end.next_multiple_of(EVENT_ALIGN).min(bytes.len()),
        time: Time(word(8..16)),
    })
}

/// Reads the event at the front of `bytes`, which must be 16-byte aligned in memory. Returns it and how many bytes it took.
///
/// # Errors
/// When the bytes are not an event that this release knows.
pub fn decode(bytes: &[u8]) -> Result<(Event, usize), DecodeError> {
    let Span { kind, version, body_bytes, bytes: taken, time } = span(bytes)?;
    let body = decode_body(kind, version, &bytes[HEADER_BYTES..HEADER_BYTES + body_bytes])?;
    if time > Time::MAX || !body.is_in_range() {
        return Err(DecodeError::Invalid { kind });
    }
    Ok((Event { time, body }, taken))
}

/// The events of a payload, in order.
pub struct Events<'a> {
    rest: &'a [u8],
}

impl<'a> Events<'a> {
    /// Over a payload that is 16-byte aligned in memory.
    pub const fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, DecodeError>;
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match decode(self.rest) {
            Ok((event, bytes)) => {
                self.rest = &self.rest[bytes..];
                Some(Ok(event))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}
