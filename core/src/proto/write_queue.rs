//! The bytes that wait to be sent on a connection: a queue of owned chunks.
//!
//! Heads and small bodies are gathered in one growing tail, so that a batch of pipelined responses leaves in one
//! write; a large body is queued as the [`Bytes`] it came as. Everything queued is owned by the write_queue, so that a
//! backend whose writes complete later (io_uring) can take what is in flight out of it, with
//! [`WriteQueue::take_chunk`].
//!
//! Invariant: bytes leave in the order: `chunks` front to back, then `tail`; the first `sent` bytes of the front
//! one of these have left already.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A body up to this size is copied behind its head instead of being queued on its own.
pub const COPIED: usize = 4 * 1024;
/// What a recycled tail may hold at most.
const RECYCLED: usize = 16 * 1024;
/// Tails that one thread keeps for its connections.
const POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes to send; see the [module](self).
#[derive(Debug, Default)]
pub struct WriteQueue {
    chunks: VecDeque<Bytes>,
    chunked_bytes: usize,
    tail: Vec<u8>,
    sent: usize,
}

impl WriteQueue {
    /// An write_queue with nothing to send and no memory.
    pub fn new() -> WriteQueue {
        WriteQueue::default()
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunked_bytes + self.tail.len() - self.sent
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.len() == self.sent
    }

    /// The buffer at the end of the queue, to append to. What it already holds must not be touched.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.tail = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1024));
        }
        &mut self.tail
    }

    /// Queues `bytes`, without a copy if there are more than [`COPIED`].
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED {
            self.tail().extend_from_slice(&bytes);
        } else {
            self.seal();
            self.chunked_bytes += bytes.len();
            self.chunks.push_back(bytes);
        }
    }

    /// The bytes to send next, as one slice; empty if nothing waits.
    #[inline]
    pub fn front(&self) -> &[u8] {
        match self.chunks.front() {
            Some(chunk) => chunk,
            None => &self.tail[self.sent..],
        }
    }

    /// Whether [`WriteQueue::front`] is all there is, so that a plain write does as well as a vectored one.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.chunks.is_empty() || (self.chunks.len() == 1 && self.tail.is_empty())
    }

    /// Fills `slices` with what to send next, and says how many were filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let queued = self.chunks.iter().map(|chunk| &chunk[..]);
        let tail = std::iter::once(&self.tail[if self.chunks.is_empty() { self.sent } else { 0 }..]);
        let mut n = 0;
        for (slot, bytes) in slices.iter_mut().zip(queued.chain(tail).filter(|bytes| !bytes.is_empty())) {
            *slot = IoSlice::new(bytes);
            n += 1;
        }
        n
    }

    /// Announces that the first `n` bytes were sent.
    ///
    /// # Panics
    /// If fewer wait.
    pub fn sent(&mut self, mut n: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            let here = n.min(chunk.len());
            chunk.advance(here);
            self.chunked_bytes -= here;
            n -= here;
            if !chunk.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        self.sent += n;
        assert!(self.sent <= self.tail.len(), "more bytes sent than were waiting");
        if self.sent == self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Takes the chunk to send next out of the queue, to be owned by an operation that completes later.
    pub fn take_chunk(&mut self) -> Option<Bytes> {
        self.seal();
        let chunk = self.chunks.pop_front()?;
        self.chunked_bytes -= chunk.len();
        Some(chunk)
    }

    /// Puts back at the front what an operation took and did not send.
    pub fn put_back(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.seal();
            self.chunked_bytes += chunk.len();
            self.chunks.push_front(chunk);
        }
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        self.chunks.clear();
        self.chunked_bytes = 0;
        self.tail.clear();
        self.sent = 0;
    }

    /// Gives the memory back if nothing waits.
    pub fn release(&mut self) {
        if self.is_empty() && self.tail.capacity() != 0 {
            recycle(std::mem::take(&mut self.tail));
            self.sent = 0;
            if self.chunks.capacity() != 0 {
                self.chunks = VecDeque::new();
            }
        }
    }

    /// Ends the tail: what comes next is queued behind it.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            if self.chunks.is_empty() {
                tail.advance(std::mem::take(&mut self.sent));
            }
            self.chunked_bytes += tail.len();
            self.chunks.push_back(tail);
        }
    }
}

impl Drop for WriteQueue {
    fn drop(&mut self) {
        if self.tail.capacity() != 0 {
            recycle(std::mem::take(&mut self.tail));
        }
    }
}

fn recycle(mut tail: Vec<u8>) {
    // `try_with`: connections may be dropped while the thread's own values are.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < POOLED && tail.capacity() <= RECYCLED {
            tail.clear();
            pool.push(tail);
        }
    });
}
