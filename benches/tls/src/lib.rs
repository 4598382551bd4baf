//! What the measured servers have in common.

use bytes::Bytes;

/// The length of the large response, in bytes: 100 MiB.
pub const LARGE: usize = 100 << 20;

/// The body of `/large`.
pub fn large() -> Bytes {
    vec![b'x'; LARGE].into()
}
