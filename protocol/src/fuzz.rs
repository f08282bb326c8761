//! What must hold for any bytes that come on a link.

use tp_fuzz::{Bound, Seed};
use zerocopy::IntoBytes as _;

use crate::frames::{Command, FRAME_BYTES_MAX, Frame, Reply, goodbye, hello, reason, verb, welcome};

/// Nothing is taken for a frame.
const BOUND: Bound = Bound { bytes: 0, per_byte: 0, turnover: 1 };

fn seeds() -> Vec<Seed> {
    let mut command = Command::new(verb::AUTHORIZE, 7, 255).with_amount(2500, "EUR", 2);
    command.account = 42.into();
    let (mut caller, mut server) = (Vec::new(), Vec::new());
    hello(&mut caller, b"tpk_0123456789abcdef");
    caller.extend_from_slice(command.as_bytes());
    welcome(&mut server, 1, 2048);
    server.extend_from_slice(Reply::new(7, 0, 201).as_bytes());
    goodbye(&mut server, reason::STOPPING);
    vec![("caller".to_owned(), caller), ("server".to_owned(), server)]
}

/// Nothing panics and every frame is taken whole; what is not whole yet is a frame's beginning and stays one until the rest is there.
fn check(bytes: &[u8]) {
    let mut at = 0;
    loop {
        let read = BOUND.hold(bytes.len(), || Frame::read(&bytes[at..]));
        let Ok(Some((frame, total))) = read else { return };
        assert!((1..=FRAME_BYTES_MAX).contains(&total) && at + total <= bytes.len());
        for cut in [0, 4, total / 2, total - 1] {
            assert_eq!(Frame::read(&bytes[at..at + cut]), Ok(None));
        }
        assert_eq!(Frame::read(&bytes[at..at + total]), Ok(Some((frame, total))));
        if let Frame::Command(command) = frame {
            // A code ends where its zeros begin.
            assert!(command.asset_code().is_none_or(|code| code.len() <= 8 && !code.contains('\0')));
        }
        at += total;
    }
}

#[test]
fn any_bytes_are_frames_or_refused() {
    tp_fuzz::target!("door-frames", seeds, check);
}
