//! The sizes that bound what one connection may occupy.

use std::sync::Arc;

/// The limits that bound the input and the output of one connection.
///
/// [`h1::Connection`](crate::h1::Connection) enforces all of them except [`output`](Limits::output) and
/// [`pipeline`](Limits::pipeline), which its driver enforces, as it does [`drain`](Limits::drain) before an upgrade.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::Config;
///
/// let mut config = Config::default();
/// config.limits.body = 1 << 20;
/// config.limits.request_line = 4096;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The largest request line in bytes, without its line end. A longer one is answered with 414, or with 501 if the
    /// method alone is too long (RFC 9112, 3). Default: 8190.
    pub request_line: usize,
    /// The largest field line in bytes, without its line end, in a head and in a trailer section. A longer one is
    /// answered with 431 (RFC 6585, 5). Default: 8190.
    pub field_line: usize,
    /// The largest number of field lines in a head, and in a trailer section. More are answered with 431. Values above
    /// [`Limits::MAX_FIELDS`] are reduced to it. Default: 100.
    pub fields: usize,
    /// The largest head in bytes, and the largest trailer section, including its empty line. A longer one is answered
    /// with 431. Values above [`Limits::MAX_HEAD`] are reduced to it. Default: 32 KiB.
    pub head: usize,
    /// The largest request body in bytes. A longer one is answered with 413, before it is read if its `Content-Length`
    /// is known. With 0, no request may have a body. Default: 2 GiB.
    pub body: u64,
    /// The largest rest of a request body, in bytes, that is read and dropped: after the response to keep the
    /// connection open, and before an upgrade. If more is left, the connection closes, and the response says so if the
    /// length of the body is known; the upgrade is answered with 413. With 0, this happens if anything is left.
    /// Default: 256 KiB.
    pub drain: u64,
    /// The number of bytes in the write queue at which the driver stops polling the response body, until the peer takes
    /// some. Default: 256 KiB.
    pub output: usize,
    /// The number of pipelined requests that one connection answers before other connections have their turn.
    /// Default: 64.
    pub pipeline: usize,
}

impl Limits {
    /// The largest value of [`Limits::head`]: positions in a head have 16 bits.
    pub const MAX_HEAD: usize = u16::MAX as usize;
    /// The largest value of [`Limits::fields`].
    pub const MAX_FIELDS: usize = 256;

    /// Reduces `head` and `fields` to their largest values.
    pub(crate) fn clamped(mut self: Arc<Self>) -> Arc<Limits> {
        if self.head > Limits::MAX_HEAD || self.fields > Limits::MAX_FIELDS {
            let limits = Arc::make_mut(&mut self);
            limits.head = limits.head.min(Limits::MAX_HEAD);
            limits.fields = limits.fields.min(Limits::MAX_FIELDS);
        }
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_line: 8190,
            field_line: 8190,
            fields: 100,
            head: 32 * 1024,
            body: 2 << 30,
            drain: 256 * 1024,
            output: 256 * 1024,
            pipeline: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_limits_above_their_maximum_are_reduced() {
        for (head, fields) in [(0, 0), (1, 1), (1, 0), (0, 1)] {
            let given = Limits {
                head: Limits::MAX_HEAD + head,
                fields: Limits::MAX_FIELDS + fields,
                ..Limits::default()
            };
            let given = Arc::new(given);
            let limits = given.clone().clamped();
            assert_eq!((limits.head, limits.fields), (Limits::MAX_HEAD, Limits::MAX_FIELDS));
            // The connections of a server share the limits.
            assert_eq!(Arc::ptr_eq(&limits, &given), head + fields == 0);
        }
        let given = Arc::new(Limits::default());
        assert!(Arc::ptr_eq(&given.clone().clamped(), &given));
    }
}
