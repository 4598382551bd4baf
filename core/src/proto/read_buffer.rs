//! The bytes that a connection has received and not consumed.
//!
//! A read goes into a scratch buffer that the connections of a thread share. The received bytes are then copied into
//! the buffer of the connection. The scratch buffer is large and is initialised once: reading needs no unsafe code
//! and no zeroing, and a connection without input needs no memory. Heads and body pieces leave the read buffer as
//! [`Bytes`] that share its memory. The buffer of an idle connection returns to a pool of the thread, so that neither
//! idle nor busy connections allocate.

use std::cell::RefCell;

use bytes::{Buf, Bytes, BytesMut};

/// The size of the scratch buffer in bytes: the most that one read returns.
const SCRATCH_SIZE: usize = 64 * 1024;
/// The capacity of a pooled buffer in bytes.
const BUFFER_SIZE: usize = 8 * 1024;
/// The largest number of buffers in the pool of one thread.
const MAX_POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { scratch: None, buffers: Vec::new() }) };
}

struct Pool {
    scratch: Option<Box<[u8]>>,
    buffers: Vec<BytesMut>,
}

/// The received bytes of one connection that were not consumed.
#[derive(Debug, Default)]
pub struct ReadBuffer {
    buffer: BytesMut,
    /// The scratch buffer between [`ReadBuffer::spare_mut`] and [`ReadBuffer::filled`].
    scratch: Option<Box<[u8]>>,
    /// The last read did not fill the scratch buffer: the socket has no more bytes.
    drained: bool,
}

impl ReadBuffer {
    /// Creates an empty read buffer that has allocated nothing.
    pub fn new() -> ReadBuffer {
        ReadBuffer::default()
    }

    /// The bytes that were not consumed.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// The number of bytes that were not consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether all received bytes were consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether the last read returned less than it had room for. Another read would find nothing.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Records that a read found nothing.
    #[inline]
    pub fn set_drained(&mut self) {
        self.drained = true;
    }

    /// The memory for the next read, never empty. The caller writes to its start and calls [`ReadBuffer::filled`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.scratch.get_or_insert_with(|| {
            let kept = POOL.with_borrow_mut(|pool| pool.scratch.take());
            kept.unwrap_or_else(|| vec![0; SCRATCH_SIZE].into_boxed_slice())
        })
    }

    /// Appends the `n` bytes that the caller has written to the start of [`ReadBuffer::spare_mut`].
    ///
    /// # Panics
    /// If `n` is larger than that memory.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        let scratch = self.scratch.take().unwrap_or_default();
        self.append(&scratch[..n]);
        self.drained = n < scratch.len();
        POOL.with_borrow_mut(|pool| pool.scratch = Some(scratch));
    }

    /// Appends a copy of `bytes`, for tests, simulations and transports that own their buffers.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.append(bytes);
        self.drained = true;
    }

    /// Consumes and returns the first `n` bytes. They share the memory of the read buffer.
    ///
    /// # Panics
    /// If `n` is larger than [`ReadBuffer::len`].
    #[inline]
    pub fn take(&mut self, n: usize) -> Bytes {
        self.buffer.split_to(n).freeze()
    }

    /// Consumes and drops the first `n` bytes.
    ///
    /// # Panics
    /// If `n` is larger than [`ReadBuffer::len`].
    #[inline]
    pub fn discard(&mut self, n: usize) {
        self.buffer.advance(n);
    }

    /// Returns the memory to the pool if the read buffer is empty. The next read takes memory again.
    #[inline]
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.recycle();
        }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() == 0 && bytes.len() <= BUFFER_SIZE {
            let kept = POOL.with_borrow_mut(|pool| pool.buffers.pop());
            self.buffer = kept.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_SIZE));
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the memory to the pool of the thread, unless [`Bytes`] share it or its size is unusual.
    fn recycle(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let scratch = self.scratch.take();
        // `try_with`: a connection can be dropped by the destructor of another thread-local value.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.scratch = scratch.or(pool.scratch.take());
            buffer.clear();
            if pool.buffers.len() < MAX_POOLED
                && buffer.try_reclaim(BUFFER_SIZE)
                && buffer.capacity() < 2 * BUFFER_SIZE
            {
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
