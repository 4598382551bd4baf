//! The bytes that a connection has to send: a queue of owned chunks.
//!
//! Heads and small bodies are copied to one growing tail, so that a batch of pipelined responses leaves in one write.
//! A large body is queued as its [`Bytes`], without a copy.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// The size in bytes up to which [`WriteQueue::push`] copies.
const COPIED: usize = 4 * 1024;
/// The largest capacity, in bytes, of a tail in the pool.
const MAX_RECYCLED: usize = 16 * 1024;
/// The largest number of tails in the pool of one thread.
const MAX_POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// The bytes that one connection has to send.
///
/// Invariant: the bytes are those of `chunks`, front to back, then those of `tail` from `sent` on. `sent` is 0 unless
/// `chunks` is empty, and less than the length of `tail` unless both are 0.
///
/// ```
/// use gearshift_core::{Bytes, WriteQueue};
///
/// let mut queue = WriteQueue::new();
/// queue.push(Bytes::from_static(b"hello"));
/// // A system call has sent three bytes of `queue.front()`.
/// queue.sent(3);
/// assert_eq!(queue.front(), b"lo");
/// ```
#[derive(Debug, Default)]
pub struct WriteQueue {
    chunks: VecDeque<Bytes>,
    /// The number of bytes in `chunks`.
    chunk_bytes: usize,
    tail: Vec<u8>,
    sent: usize,
}

impl WriteQueue {
    /// The most that one write takes out of the queue, in bytes. Other connections of the thread wait while the system
    /// copies them. A smaller limit makes large responses slower: for 16 MiB over loopback, 512 KiB a write take as
    /// much CPU time as 1 MiB, and 128 KiB take a quarter more.
    pub const MAX_WRITE: usize = 512 * 1024;

    /// Creates an empty queue that has allocated nothing.
    pub fn new() -> WriteQueue {
        WriteQueue::default()
    }

    /// The number of bytes to send.
    #[inline]
    pub fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len() - self.sent
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.len() == self.sent
    }

    /// The buffer at the end of the queue. The caller appends to it and must not change its present contents.
    #[inline]
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.tail.capacity() == 0 {
            self.take_tail();
        }
        &mut self.tail
    }

    #[inline(never)]
    fn take_tail(&mut self) {
        self.tail = POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(1024));
    }

    /// Queues `bytes`. More than 4 KiB are queued without a copy.
    #[inline]
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED {
            self.tail().extend_from_slice(&bytes);
        } else {
            self.push_chunk(bytes);
        }
    }

    #[inline(never)]
    fn push_chunk(&mut self, bytes: Bytes) {
        if !self.tail.is_empty() {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(std::mem::take(&mut self.sent));
            self.chunk_bytes += tail.len();
            self.chunks.push_back(tail);
        }
        self.chunk_bytes += bytes.len();
        self.chunks.push_back(bytes);
    }

    /// The first bytes to send: a part of the queue that is contiguous, at most [`WriteQueue::MAX_WRITE`] bytes. Empty
    /// if the queue is empty.
    #[inline]
    pub fn front(&self) -> &[u8] {
        let front = match self.chunks.front() {
            Some(chunk) => chunk,
            None => &self.tail[self.sent..],
        };
        &front[..front.len().min(WriteQueue::MAX_WRITE)]
    }

    /// Whether the whole queue is contiguous, so that [`WriteQueue::front`] needs no vectored write.
    #[inline]
    pub fn is_single(&self) -> bool {
        self.chunks.is_empty() || (self.chunks.len() == 1 && self.tail.is_empty())
    }

    /// Fills `slices` with the first chunks to send, for a vectored write of at most [`WriteQueue::MAX_WRITE`] bytes.
    /// Returns the number of slices filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let queued = self.chunks.iter().map(|chunk| &chunk[..]);
        let tail = std::iter::once(&self.tail[self.sent..]);
        let (mut n, mut room) = (0, WriteQueue::MAX_WRITE);
        for (slot, bytes) in slices.iter_mut().zip(queued.chain(tail).filter(|bytes| !bytes.is_empty())) {
            let bytes = &bytes[..bytes.len().min(room)];
            if bytes.is_empty() {
                break;
            }
            *slot = IoSlice::new(bytes);
            room -= bytes.len();
            n += 1;
        }
        n
    }

    /// Removes the first `n` bytes, which were sent.
    ///
    /// # Panics
    /// If `n` is larger than [`WriteQueue::len`].
    pub fn sent(&mut self, mut n: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            let here = n.min(chunk.len());
            chunk.advance(here);
            self.chunk_bytes -= here;
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

    /// Returns the memory to the pool if the queue is empty.
    pub fn release(&mut self) {
        if self.is_empty() && self.tail.capacity() != 0 {
            recycle(std::mem::take(&mut self.tail));
            self.chunks = VecDeque::new();
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

/// Returns a tail to the pool of the thread.
fn recycle(mut tail: Vec<u8>) {
    // `try_with`: a connection can be dropped by the destructor of another thread-local value.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < MAX_POOLED && tail.capacity() <= MAX_RECYCLED {
            tail.clear();
            pool.push(tail);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_takes_a_limited_number_of_bytes() {
        const MAX: usize = WriteQueue::MAX_WRITE;
        for chunks in
            [vec![3 * MAX], vec![MAX / 2, MAX / 2, 5000], vec![MAX - 5000, 6000, MAX], vec![5000; 5]]
        {
            let mut queue = WriteQueue::new();
            queue.tail().extend_from_slice(b"head");
            chunks.iter().for_each(|&len| queue.push(Bytes::from(vec![b'x'; len])));
            let mut left = 4 + chunks.iter().sum::<usize>();
            while !queue.is_empty() {
                assert!(queue.front().len() <= MAX);
                let mut slices = [IoSlice::new(&[]); 8];
                let n = queue.slices(&mut slices);
                let taken = slices[..n].iter().map(|slice| slice.len()).sum();
                assert_eq!(taken, left.min(MAX), "{chunks:?}");
                queue.sent(taken);
                left -= taken;
            }
            assert_eq!(left, 0);
        }
    }

    /// Returns the bytes of the queue in their order.
    fn content(queue: &WriteQueue) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 8];
        let n = queue.slices(&mut slices);
        slices[..n].iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn the_queue_keeps_its_order_and_knows_its_length() {
        let mut queue = WriteQueue::new();
        let large = vec![b'x'; COPIED + 1];
        let steps: &[(&dyn Fn(&mut WriteQueue), &[&[u8]], bool)] = &[
            (&|_| {}, &[], true),
            (&|queue| queue.tail().extend_from_slice(b"head"), &[b"head"], true),
            (&|queue| queue.sent(1), &[b"ead"], true),
            (&|queue| queue.push(large.clone().into()), &[b"ead", &large], false),
            (&|queue| queue.push(large.clone().into()), &[b"ead", &large, &large], false),
            (&|queue| queue.push("rest".into()), &[b"ead", &large, &large, b"rest"], false),
            (&|queue| queue.sent(3 + large.len()), &[&large, b"rest"], false),
            (&|queue| queue.sent(1), &[&large[1..], b"rest"], false),
            (&|queue| queue.sent(large.len()), &[b"est"], true),
            (&|queue| queue.release(), &[b"est"], true),
            (&|queue| queue.sent(3), &[], true),
            (&|queue| queue.push(large.clone().into()), &[&large], true),
            (&|queue| queue.sent(large.len()), &[], true),
        ];
        for (n, (step, expected, is_single)) in steps.iter().enumerate() {
            step(&mut queue);
            let expected = expected.concat();
            assert_eq!(content(&queue), expected, "step {n}");
            assert_eq!(queue.len(), expected.len(), "step {n}");
            assert_eq!(queue.is_empty(), expected.is_empty(), "step {n}");
            assert_eq!(queue.is_single(), *is_single, "step {n}");
            assert!(expected.starts_with(queue.front()), "step {n}");
            assert_eq!(queue.front().len() == expected.len(), *is_single, "step {n}");
        }
    }

    #[test]
    fn only_large_bodies_are_queued_without_a_copy() {
        for (len, is_copied) in [(COPIED, true), (COPIED + 1, false)] {
            let body = Bytes::from(vec![b'x'; len]);
            let mut queue = WriteQueue::new();
            queue.push(body.clone());
            assert_eq!(queue.front().as_ptr() != body.as_ptr(), is_copied, "{len} bytes");
        }
    }

    /// The number of tails in the pool of this thread.
    fn pooled() -> usize {
        POOL.with_borrow(Vec::len)
    }

    #[test]
    fn the_memory_of_empty_queues_is_used_again() {
        for release in [WriteQueue::release, |queue: &mut WriteQueue| drop(std::mem::take(queue))] {
            POOL.with_borrow_mut(Vec::clear);
            let mut queue = WriteQueue::new();
            release(&mut queue);
            assert_eq!(pooled(), 0, "a queue that has allocated nothing has no memory to return");
            queue.tail().push(b'x');
            let memory = queue.front().as_ptr();
            queue.sent(1);
            release(&mut queue);
            assert_eq!(pooled(), 1);
            queue.tail().push(b'x');
            assert_eq!(queue.front().as_ptr(), memory);
            assert_eq!(pooled(), 0);
        }
    }

    #[test]
    fn the_pool_is_bounded() {
        for (len, is_kept) in [(MAX_RECYCLED, true), (MAX_RECYCLED + 1, false)] {
            POOL.with_borrow_mut(Vec::clear);
            recycle(Vec::with_capacity(len));
            assert_eq!(pooled(), usize::from(is_kept), "{len} bytes");
        }
        let queues: Vec<_> = (0..MAX_POOLED + 2)
            .map(|_| {
                let mut queue = WriteQueue::new();
                queue.tail();
                queue
            })
            .collect();
        drop(queues);
        assert_eq!(pooled(), MAX_POOLED);
    }
}
