//! Which trace a request belongs to: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context/>).
//!
//! Owns the header `traceparent` and the ids; refuses `tracestate`, which is for vendors and which nothing here reads. A header that is not
//! valid is as if it were not there (section 3.2.2.5): a new trace begins. An id is data of a caller: it is shown in logs and problem
//! details only in its checked form of 32 hexadecimal digits.

use std::cell::RefCell;
use std::fmt;

use aws_lc_rs::rand;
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

/// A trace, all of whose spans have it: 16 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span: 8 bytes, not all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// What goes with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TraceContext {
    /// The caller's trace, or a new one.
    pub trace: TraceId,
    /// This request's own span.
    pub span: SpanId,
    /// The caller's span; `None`: the trace begins here.
    pub parent: Option<SpanId>,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

impl TraceContext {
    /// Of a request with that header. More than one `traceparent` is as none: give `None`.
    pub fn of(traceparent: Option<&[u8]>) -> Self {
        let [a, b, c] = random_words();
        let span = SpanId(nonzero(c));
        if let Some((trace, parent, is_sampled)) = traceparent.and_then(parse) {
            return Self { trace, span, parent: Some(parent), is_sampled };
        }
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&nonzero(a));
        trace[8..].copy_from_slice(&b);
        Self { trace: TraceId(trace), span, parent: None, is_sampled: false }
    }

    /// The header for what this request calls in turn: its span is the parent there.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// Version 00 exactly; a higher version by the same fields, and more behind a further dash (section 3.2.4).
fn parse(header: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let (fields, rest) = header.split_at_checked(55)?;
    let [version] = hex(&fields[..2])?;
    let is_length_right = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|byte| *byte == b'-') };
    if version == 0xff || !is_length_right || [2, 35, 52].iter().any(|dash| fields[*dash] != b'-') {
        return None;
    }
    let (trace, parent): ([u8; 16], [u8; 8]) = (hex(&fields[3..35])?, hex(&fields[36..52])?);
    let [flags] = hex(&fields[53..])?;
    (trace != [0; 16] && parent != [0; 8]).then_some((TraceId(trace), SpanId(parent), flags & 1 == 1))
}

/// Lower case only, as the specification wants.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

thread_local! {
    /// The ids' generator: seeded by the operating system, once a thread, since asking for each request takes longer than all else that is
    /// done for its trace. Ids need not be secret, only different.
    static IDS: RefCell<Pcg64Mcg> = RefCell::new(seeded());
}

fn seeded() -> Pcg64Mcg {
    let mut seed = [0; 16];
    if rand::fill(&mut seed).is_err() {
        // Without randomness at least the threads differ, and two starts.
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let thread = std::ptr::from_ref(&seed).addr() as u128;
        seed = (start ^ thread << 64).to_le_bytes();
    }
    Pcg64Mcg::from_seed(seed)
}

fn random_words() -> [[u8; 8]; 3] {
    IDS.with_borrow_mut(|ids| std::array::from_fn(|_| ids.next_u64().to_le_bytes()))
}

fn nonzero(word: [u8; 8]) -> [u8; 8] {
    if word == [0; 8] { [1; 8] } else { word }
}

fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context(header: &str) -> TraceContext {
        TraceContext::of(Some(header.as_bytes()))
    }

    #[test]
    fn a_valid_header_continues_its_trace_with_a_span_of_our_own() {
        let ours = context(VALID);
        assert_eq!(ours.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ours.parent.map(|parent| parent.to_string()).as_deref(), Some("00f067aa0ba902b7"));
        assert!(ours.is_sampled && Some(ours.span) != ours.parent);
        let next = context(&ours.traceparent());
        assert_eq!((next.trace, next.parent, next.is_sampled), (ours.trace, Some(ours.span), true));
        assert!(!context(&VALID.replace("-01", "-02")).is_sampled, "the other flags are not ours");
    }

    #[test]
    fn a_header_that_is_not_valid_is_as_if_it_were_not_there() {
        let headers = [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}-"),
            &format!("{VALID}0"),
            &VALID.to_uppercase(),
            &VALID.replace('-', "_"),
            &VALID.replacen("00", "ff", 1),
            &VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &VALID.replace("00f067aa0ba902b7", "0000000000000000"),
            &VALID.replace("4bf9", "4bg9"),
            &VALID.replace("-01", "-0x"),
            &VALID.replacen("00", "01", 1).replace("-01", "-01x"),
            "00-4bf92f3577b34da6a3ce929d0e0e4736é00f067aa0ba902b7-01",
        ];
        for header in headers {
            let new = context(header);
            assert!(new.parent.is_none() && !new.is_sampled, "{header}");
            assert_ne!(new.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{header}");
        }
    }

    #[test]
    fn a_later_version_is_read_by_its_first_fields() {
        for header in [VALID.replacen("00", "01", 1), VALID.replacen("00", "cc", 1) + "-more-of-it"] {
            assert_eq!(context(&header).trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{header}");
        }
    }

    #[test]
    fn new_traces_differ_and_none_is_zero() {
        let (one, other) = (TraceContext::of(None), TraceContext::of(None));
        assert!(one.trace != other.trace && one.span != other.span);
        assert!(one.trace.0 != [0; 16] && one.span.0 != [0; 8]);
        assert_eq!(nonzero([0; 8]), [1; 8]);
    }

    #[test]
    fn threads_do_not_give_the_same_ids() {
        let ids = || (0..100).map(|_| TraceContext::of(None).trace).collect::<Vec<_>>();
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(ids)).collect();
        let all: std::collections::HashSet<_> =
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect();
        assert_eq!(all.len(), 800);
    }
}
