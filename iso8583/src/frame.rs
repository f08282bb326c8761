//! Frames of a connection: two bytes of length, the highest first, then so many bytes of a message. The length does not count itself.

/// Bytes of a frame's head.
pub const FRAME_HEAD_BYTES: usize = 2;

/// The longest message that a frame can hold.
pub const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

/// The message is longer than a frame can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a message of {0} bytes: a frame holds at most {MESSAGE_BYTES_MAX}")]
pub struct FrameTooLong(pub usize);

/// The length of the message behind a frame's head.
pub const fn frame_length(head: [u8; FRAME_HEAD_BYTES]) -> usize {
    u16::from_be_bytes(head) as usize
}

/// Appends a frame whose message `write` appends.
///
/// # Errors
/// What `write` gives, or [`FrameTooLong`]; nothing is appended then.
pub fn frame_into<E: From<FrameTooLong>>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    let written = write(out).and_then(|()| {
        let length = out.len() - start - FRAME_HEAD_BYTES;
        u16::try_from(length).map_err(|_| FrameTooLong(length).into())
    });
    match written {
        Ok(length) => {
            out[start..start + FRAME_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_its_length_and_a_failed_one_leaves_nothing() {
        let mut out = vec![7];
        frame_into(&mut out, |out| {
            out.extend_from_slice(&[1; 300]);
            Ok::<_, FrameTooLong>(())
        })
        .expect("short enough");
        assert_eq!((out.len(), &out[..3]), (303, &[7, 1, 44][..]));
        assert_eq!(frame_length([1, 44]), 300);
        let refused = frame_into(&mut out, |out| {
            out.resize(out.len() + 65_536, 0);
            Ok::<_, FrameTooLong>(())
        });
        assert_eq!((refused, out.len()), (Err(FrameTooLong(65_536)), 303));
    }
}
