//! The bytes that have arrived on a connection and were not consumed yet.
//!
//! A read goes into a scratch buffer of the thread, and what it brought is appended to the connection's own buffer:
//! the scratch is large and initialised once, so that reading is safe code, zeroes nothing, and needs no memory for
//! connections that have nothing to read. Heads and body chunks leave the read_buffer as [`Bytes`] that share its buffer.
//! While a connection is idle its buffer, too, goes back to a pool of the thread, so that neither idleness nor
//! traffic allocates.

use std::cell::RefCell;

use bytes::{Buf, Bytes, BytesMut};

/// What one read can bring.
const SCRATCH: usize = 64 * 1024;
/// What a pooled buffer holds.
const BUFFER: usize = 8 * 1024;
/// Buffers that one thread keeps for its connections.
const POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { scratch: None, buffers: Vec::new() }) };
}

struct Pool {
    scratch: Option<Box<[u8]>>,
    buffers: Vec<BytesMut>,
}

/// Received bytes; see the [module](self).
#[derive(Debug, Default)]
pub struct ReadBuffer {
    buffer: BytesMut,
    /// Room for the read at hand.
    scratch: Option<Box<[u8]>>,
    /// Whether the last read returned less than there was room for: nothing more has arrived.
    drained: bool,
}

impl ReadBuffer {
    /// An read_buffer with no bytes and no memory.
    pub fn new() -> ReadBuffer {
        ReadBuffer::default()
    }

    /// What has arrived and was not consumed.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// How many bytes have arrived and were not consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether everything that arrived was consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
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

    /// Room to read into, never empty. What was written to its start is then announced by [`ReadBuffer::filled`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.scratch.get_or_insert_with(|| {
            let kept = POOL.with_borrow_mut(|pool| pool.scratch.take());
            kept.unwrap_or_else(|| vec![0; SCRATCH].into_boxed_slice())
        })
    }

    /// Announces that `n` bytes were written to the start of [`ReadBuffer::spare_mut`].
    ///
    /// # Panics
    /// If there was no room for that many.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        let scratch = self.scratch.take().unwrap_or_default();
        self.append(&scratch[..n]);
        self.drained = n < scratch.len();
        POOL.with_borrow_mut(|pool| pool.scratch = Some(scratch));
    }

    /// Appends a copy of `bytes`; for tests, simulations and transports that own their buffers.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.drained = true;
    }

    /// Consumes `n` bytes, which keep sharing this read_buffer's memory.
    ///
    /// # Panics
    /// If fewer have arrived.
    #[inline]
    pub fn take(&mut self, n: usize) -> Bytes {
        self.buffer.split_to(n).freeze()
    }

    /// Consumes `n` bytes without looking at them.
    ///
    /// # Panics
    /// If fewer have arrived.
    #[inline]
    pub fn discard(&mut self, n: usize) {
        self.buffer.advance(n);
    }

    /// Gives the memory back if nothing is in it. The next read takes some again.
    #[inline]
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.recycle();
        }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() == 0 && bytes.len() <= BUFFER {
            let kept = POOL.with_borrow_mut(|pool| pool.buffers.pop());
            self.buffer = kept.unwrap_or_else(|| BytesMut::with_capacity(BUFFER));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Keeps the memory for the next connection of this thread, if nothing shares it and it is of the common size.
    fn recycle(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let scratch = self.scratch.take();
        // `try_with`: connections may be dropped while the thread's own values are.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.scratch = scratch.or(pool.scratch.take());
            buffer.clear();
            if pool.buffers.len() < POOLED && buffer.try_reclaim(BUFFER) && buffer.capacity() < 2 * BUFFER {
                pool.buffers.push(buffer);
            }
        });
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.recycle();
    }
}
