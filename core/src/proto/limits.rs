//! The limits that a connection enforces on its own.

use std::sync::Arc;

/// The limits that [`h1::Connection`](crate::h1::Connection) enforces on its own.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of the request line, without its line end. Beyond: 414 (RFC 9112, 3).
    pub request_line: usize,
    /// Bytes of one field line, without its line end. Beyond: 431 (RFC 6585, 5).
    pub field_line: usize,
    /// Field lines in one head, and in one trailer section. Beyond: 431. More than [`Limits::MAX_FIELDS`] are taken for
    /// that many.
    pub fields: usize,
    /// Bytes of the whole head with its empty line. Beyond: 431. More than [`Limits::MAX_HEAD`] are taken for that
    /// many.
    pub head: usize,
    /// Bytes of one request body. Beyond: 413, before reading it if its length says so.
    pub body: u64,
    /// Bytes of a body nobody asked for that are read and dropped to keep a connection open.
    pub drain: u64,
    /// Bytes of responses held for a peer that does not take them.
    pub output: usize,
    /// Requests of one connection answered before other connections have their turn.
    pub pipeline: usize,
}

impl Limits {
    /// The largest value of [`Limits::head`]: positions in a head are kept in 16 bits.
    pub const MAX_HEAD: usize = u16::MAX as usize;
    /// The largest value of [`Limits::fields`].
    pub const MAX_FIELDS: usize = 256;

    /// The same, with nothing above what can be kept.
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
