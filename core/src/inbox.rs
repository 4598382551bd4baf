//! The bytes that have arrived on a connection and were not consumed yet.
//!
//! Heads and body chunks leave it as [`Bytes`] that share its memory, so nothing is copied between the socket
//! and the handler. While a connection is idle the inbox holds no memory at all: its buffer goes back to a pool
//! of the thread, and the next read takes one from there, so that neither idleness nor traffic allocates.
//!
//! Invariant: `buffer` is initialised up to its length; the first `filled` bytes of it are what has arrived, the
//! rest is spare room. Keeping the spare room initialised is what makes reading into it safe code, at the price
//! of zeroing each byte once when memory is used again.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

/// What a read buffer holds while heads are read.
const SMALL: usize = 8 * 1024;
/// What a read buffer holds while a large body is read.
const LARGE: usize = 64 * 1024;
/// Buffers that one thread keeps for its connections.
const POOLED: usize = 64;
/// Spare room below which more is made before a read.
const LEAST_SPARE: usize = 1024;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Received bytes; see the [module](self).
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: BytesMut,
    filled: usize,
    /// How many bytes are still to come of something large.
    expected: u64,
    /// Whether the last read returned less than there was room for: nothing more has arrived.
    drained: bool,
}

impl Inbox {
    /// An inbox with no bytes and no memory.
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// What has arrived and was not consumed.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// How many bytes have arrived and were not consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.filled
    }

    /// Whether everything that arrived was consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Whether the last read returned less than there was room for, so that another would find nothing.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Announces that a read found nothing.
    #[inline]
    pub fn set_drained(&mut self) {
        self.drained = true;
    }

    /// Room to read into, never empty. What was written to its start is then announced by [`Inbox::filled`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        if self.buffer.len() - self.filled < LEAST_SPARE {
            self.make_room();
        }
        &mut self.buffer[self.filled..]
    }

    /// Announces that `n` bytes were written to the start of [`Inbox::spare_mut`].
    ///
    /// # Panics
    /// If there was no room for that many.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        assert!(n <= self.buffer.len() - self.filled, "more bytes than there was room for");
        self.drained = n < self.buffer.len() - self.filled;
        self.filled += n;
    }

    /// Appends a copy of `bytes`; for tests, simulations and transports that own their buffers.
    pub fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let spare = self.spare_mut();
            let n = spare.len().min(bytes.len());
            spare[..n].copy_from_slice(&bytes[..n]);
            self.filled(n);
            bytes = &bytes[n..];
        }
    }

    /// Consumes `n` bytes, which keep sharing this inbox's memory.
    ///
    /// # Panics
    /// If fewer have arrived.
    #[inline]
    pub fn take(&mut self, n: usize) -> Bytes {
        assert!(n <= self.filled, "taking more bytes than have arrived");
        self.filled -= n;
        self.buffer.split_to(n).freeze()
    }

    /// Consumes `n` bytes without looking at them.
    ///
    /// # Panics
    /// If fewer have arrived.
    #[inline]
    pub fn discard(&mut self, n: usize) {
        assert!(n <= self.filled, "discarding more bytes than have arrived");
        self.filled -= n;
        bytes::Buf::advance(&mut self.buffer, n);
    }

    /// Says that `n` more bytes are on their way, so that the next reads make room for many at once.
    #[inline]
    pub fn expect(&mut self, n: u64) {
        self.expected = n;
    }

    /// Gives the memory back if nothing is in it. The next read takes some again.
    pub fn release(&mut self) {
        if self.filled == 0 && self.buffer.capacity() != 0 {
            recycle(std::mem::take(&mut self.buffer));
        }
    }

    #[cold]
    fn make_room(&mut self) {
        let want = if self.expected > SMALL as u64 { LARGE } else { SMALL };
        if self.buffer.capacity() == 0 && want == SMALL {
            self.buffer = pooled();
            return;
        }
        // Only what has arrived is worth moving, and the memory is ours again if no `Bytes` shares it.
        self.buffer.truncate(self.filled);
        let room = want.max(2 * self.filled) - self.filled;
        self.buffer.reserve(room);
        self.buffer.resize(self.filled + room, 0);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        if self.buffer.capacity() != 0 {
            self.filled = 0;
            recycle(std::mem::take(&mut self.buffer));
        }
    }
}

fn pooled() -> BytesMut {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::zeroed(SMALL))
}

/// Keeps a buffer for the next connection of this thread, if nothing shares it and it is of the common size.
fn recycle(mut buffer: BytesMut) {
    // `try_with`: connections may be dropped while the thread's own values are.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOLED && buffer.try_reclaim(SMALL - buffer.len().min(SMALL)) && buffer.capacity() < 2 * SMALL
        {
            buffer.resize(SMALL, 0);
            pool.push(buffer);
        }
    });
}
