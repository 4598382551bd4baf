//! The bytes that a connection has received and not consumed.
//!
//! A read goes into a scratch buffer that the connections of a thread share. The received bytes are then copied into
//! the buffer of the connection. The scratch buffer is large and is initialised once: reading needs no unsafe code
//! and no zeroing. Heads and body pieces leave the read buffer as [`Bytes`] that share its memory. The buffer of an
//! idle connection returns to a pool of the thread, so that neither idle nor busy connections allocate.
//!
//! A read that fills much of the scratch buffer is not copied: the scratch buffer itself becomes the buffer of the
//! connection. It is used for reading again once all [`Bytes`] that share its memory were dropped.

use std::cell::RefCell;

use bytes::{Buf, Bytes, BytesMut};

/// The size of the scratch buffer in bytes: the most that one read returns.
const SCRATCH_SIZE: usize = 512 * 1024;
/// The size of a read in bytes, unless the read before it filled that size.
const FIRST_READ: usize = 64 * 1024;
/// The smallest read, in bytes, that is not copied. The memory in use is then at most twice the bytes that it holds.
const LARGE_READ: usize = SCRATCH_SIZE / 2;
/// The largest number of scratch buffers, lent to connections, that a thread keeps for later reads.
const MAX_LENT: usize = 4;
/// The capacity of a pooled buffer in bytes.
const BUFFER_SIZE: usize = 8 * 1024;
/// The largest number of buffers in the pool of one thread.
const MAX_POOLED: usize = 64;

thread_local! {
    static POOL: RefCell<Pool> =
        const { RefCell::new(Pool { scratch: None, lent: Vec::new(), buffers: Vec::new() }) };
}

struct Pool {
    scratch: Option<Box<BytesMut>>,
    /// Scratch buffers with the bytes of a large read.
    lent: Vec<Bytes>,
    buffers: Vec<BytesMut>,
}

impl Pool {
    /// Takes an initialised scratch buffer.
    fn take_scratch(&mut self) -> Box<BytesMut> {
        if let Some(scratch) = self.scratch.take() {
            return scratch;
        }
        let unused = self.lent.iter().position(Bytes::is_unique).map(|at| self.lent.swap_remove(at));
        let unused = unused.and_then(|lent| lent.try_into_mut().ok());
        Box::new(unused.unwrap_or_else(|| Bytes::from(vec![0; SCRATCH_SIZE]).into()))
    }
}

/// The received bytes of one connection that were not consumed.
///
/// ```
/// use gearshift_core::ReadBuffer;
///
/// let mut buffer = ReadBuffer::new();
/// // A system call would write here.
/// buffer.spare_mut()[..5].copy_from_slice(b"hello");
/// buffer.filled(5);
/// assert_eq!(buffer.take(4), "hell");
/// assert_eq!(buffer.as_slice(), b"o");
/// ```
#[derive(Debug, Default)]
pub struct ReadBuffer {
    unread: Unread,
    /// The scratch buffer between [`ReadBuffer::spare_mut`] and [`ReadBuffer::filled`]. Boxed, because an idle
    /// connection has none.
    scratch: Option<Box<BytesMut>>,
    /// The last read did not fill the scratch buffer: the socket has no more bytes.
    drained: bool,
    /// The last read returned so much that the next one may be larger.
    is_bulk: bool,
}

#[derive(Debug)]
enum Unread {
    /// Copies of what was read.
    Copied(BytesMut),
    /// A large read, in the scratch buffer that it went into.
    Large(Bytes),
}

impl Default for Unread {
    fn default() -> Unread {
        Unread::Copied(BytesMut::new())
    }
}

impl ReadBuffer {
    /// Creates an empty read buffer that has allocated nothing.
    pub fn new() -> ReadBuffer {
        ReadBuffer::default()
    }

    /// The bytes that were not consumed.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        match &self.unread {
            Unread::Copied(buffer) => buffer,
            Unread::Large(bytes) => bytes,
        }
    }

    /// The bytes that were not consumed, to be changed.
    #[cfg(feature = "tls")]
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        if let Unread::Large(bytes) = &self.unread {
            self.unread = Unread::Copied(BytesMut::from(&bytes[..]));
        }
        match &mut self.unread {
            Unread::Copied(buffer) => buffer,
            Unread::Large(_) => unreachable!("a large read was just copied"),
        }
    }

    /// The number of bytes that were not consumed.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether all received bytes were consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Whether the last read returned less than it had room for. Another read would find nothing.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The memory for the next read, never empty. The caller writes to its start and calls [`ReadBuffer::filled`].
    #[inline]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        let size = self.read_size();
        let scratch = self.scratch.get_or_insert_with(|| POOL.with_borrow_mut(Pool::take_scratch));
        &mut scratch[..size]
    }

    /// Limits the next read to 64 KiB, so that its bytes can be changed in place.
    #[cfg(feature = "tls")]
    pub(crate) fn read_little(&mut self) {
        self.is_bulk = false;
    }

    /// The most that the next read returns, in bytes.
    #[inline]
    fn read_size(&self) -> usize {
        if self.is_bulk { SCRATCH_SIZE } else { FIRST_READ }
    }

    /// Appends the `n` bytes that the caller has written to the start of [`ReadBuffer::spare_mut`].
    ///
    /// # Panics
    /// If `n` is larger than that memory.
    #[inline]
    pub fn filled(&mut self, n: usize) {
        self.drained = n < self.read_size();
        self.is_bulk = n >= FIRST_READ;
        let Some(scratch) = self.scratch.take() else { return };
        if n >= LARGE_READ && self.is_empty() {
            return self.lend(scratch.freeze(), n);
        }
        self.append(&scratch[..n]);
        POOL.with_borrow_mut(|pool| pool.scratch = Some(scratch));
    }

    /// Keeps the first `n` bytes of a scratch buffer in it. The read buffer is empty.
    #[inline(never)]
    fn lend(&mut self, scratch: Bytes, n: usize) {
        self.recycle();
        self.unread = Unread::Large(scratch.slice(..n));
        POOL.with_borrow_mut(|pool| {
            if pool.lent.len() < MAX_LENT {
                pool.lent.push(scratch);
            }
        });
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
        match &mut self.unread {
            Unread::Copied(buffer) => buffer.split_to(n).freeze(),
            Unread::Large(bytes) => bytes.split_to(n),
        }
    }

    /// Consumes and returns the first bytes, at most `left` of them, and subtracts their number from `left`.
    pub(crate) fn take_of(&mut self, left: &mut u64) -> Bytes {
        let n = usize::try_from(*left).map_or(self.len(), |left| left.min(self.len()));
        *left -= n as u64;
        self.take(n)
    }

    /// Consumes and drops the first `n` bytes.
    ///
    /// # Panics
    /// If `n` is larger than [`ReadBuffer::len`].
    #[inline]
    pub fn discard(&mut self, n: usize) {
        match &mut self.unread {
            Unread::Copied(buffer) => buffer.advance(n),
            Unread::Large(bytes) => bytes.advance(n),
        }
    }

    /// Returns memory to the pool: that of [`ReadBuffer::spare_mut`] after a read that failed, and all memory if the
    /// read buffer is empty. The next read takes memory again.
    #[inline]
    pub fn release(&mut self) {
        if self.is_empty() {
            self.recycle();
        } else if let Some(scratch) = self.scratch.take() {
            POOL.with_borrow_mut(|pool| pool.scratch = Some(scratch));
        }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        if let Unread::Large(rest) = &self.unread {
            self.unread = Unread::Copied(BytesMut::from(&rest[..]));
        }
        let Unread::Copied(buffer) = &mut self.unread else { unreachable!("a large read was just copied") };
        if buffer.capacity() == 0 && bytes.len() <= BUFFER_SIZE {
            let kept = POOL.with_borrow_mut(|pool| pool.buffers.pop());
            *buffer = kept.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_SIZE));
        }
        buffer.extend_from_slice(bytes);
    }

    /// Returns the memory to the pool of the thread, unless [`Bytes`] share it or its size is unusual.
    fn recycle(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        let scratch = self.scratch.take();
        // `try_with`: a connection can be dropped by the destructor of another thread-local value.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.scratch = scratch.or(pool.scratch.take());
            let Unread::Copied(mut buffer) = unread else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives `len` bytes that count up from `from`, in reads that are as large as possible. Returns the address that
    /// the last of them went to.
    fn receive(read_buffer: &mut ReadBuffer, from: usize, len: usize) -> *const u8 {
        let (mut at, mut address) = (from, std::ptr::null());
        while at < from + len {
            let spare = read_buffer.spare_mut();
            let n = spare.len().min(from + len - at);
            spare[..n].iter_mut().zip(at..).for_each(|(byte, count)| *byte = count as u8);
            address = spare.as_ptr();
            read_buffer.filled(n);
            at += n;
        }
        address
    }

    fn counts_up(bytes: &[u8], from: usize) -> bool {
        bytes.iter().zip(from..).all(|(&byte, count)| byte == count as u8)
    }

    /// A read buffer whose next read may be as large as the scratch buffer.
    fn bulk() -> ReadBuffer {
        let mut read_buffer = ReadBuffer::new();
        receive(&mut read_buffer, 0, FIRST_READ);
        read_buffer.discard(FIRST_READ);
        read_buffer
    }

    #[test]
    fn reads_grow_while_they_are_full_and_shrink_again() {
        let mut read_buffer = ReadBuffer::new();
        let mut sizes = Vec::new();
        for n in [FIRST_READ, FIRST_READ, SCRATCH_SIZE, 10, 10] {
            sizes.push(read_buffer.spare_mut().len());
            read_buffer.filled(n);
        }
        assert_eq!(sizes, [FIRST_READ, SCRATCH_SIZE, SCRATCH_SIZE, SCRATCH_SIZE, FIRST_READ]);
    }

    #[test]
    fn a_large_read_is_not_copied_and_its_memory_is_used_again() {
        let mut read_buffer = bulk();
        let read_to = receive(&mut read_buffer, 7, LARGE_READ);
        assert_eq!(read_buffer.as_slice().as_ptr(), read_to);
        let bytes = read_buffer.take(LARGE_READ);
        assert_ne!(read_buffer.spare_mut().as_ptr(), read_to, "the bytes are still in use");
        read_buffer.filled(FIRST_READ);
        assert!(counts_up(&bytes, 7));
        drop(bytes);
        // The scratch buffer of this thread is used first.
        let held = POOL.with_borrow_mut(|pool| pool.scratch.take());
        assert!(held.is_some());
        assert_eq!(read_buffer.spare_mut().as_ptr(), read_to);
        assert_eq!(read_buffer.spare_mut().len(), SCRATCH_SIZE);
    }

    #[test]
    fn reads_of_all_sizes_follow_each_other() {
        let sizes =
            [1, BUFFER_SIZE, FIRST_READ - 1, FIRST_READ, LARGE_READ, SCRATCH_SIZE, 2 * SCRATCH_SIZE + 1];
        for (first, second) in sizes.iter().flat_map(|first| sizes.map(|second| (*first, second))) {
            for keep in [0, 1, first / 2] {
                let mut read_buffer = bulk();
                receive(&mut read_buffer, 0, first);
                assert_eq!(read_buffer.len(), first);
                assert!(counts_up(&read_buffer.take(first - keep), 0));
                receive(&mut read_buffer, first, second);
                assert!(counts_up(read_buffer.as_slice(), first - keep));
                assert_eq!(read_buffer.len(), keep + second);
            }
        }
    }

    #[test]
    fn an_empty_buffer_is_released() {
        for n in [1, BUFFER_SIZE, LARGE_READ, SCRATCH_SIZE] {
            let mut read_buffer = bulk();
            receive(&mut read_buffer, 0, n);
            read_buffer.discard(n);
            read_buffer.release();
            assert!(matches!(&read_buffer.unread, Unread::Copied(buffer) if buffer.capacity() == 0));
            assert!(read_buffer.scratch.is_none());
        }
    }

    #[test]
    fn a_failed_read_leaves_no_scratch_buffer_beside_unread_bytes() {
        let mut read_buffer = ReadBuffer::new();
        read_buffer.extend(b"GET /");
        let scratch = read_buffer.spare_mut().as_ptr();
        read_buffer.release();
        assert!(read_buffer.scratch.is_none());
        assert_eq!(read_buffer.as_slice(), b"GET /");
        assert_eq!(
            ReadBuffer::new().spare_mut().as_ptr(),
            scratch,
            "the next connection reads into the same memory"
        );
    }

    #[test]
    fn few_scratch_buffers_are_kept() {
        let kept: Vec<Bytes> = (0..2 * MAX_LENT)
            .map(|_| {
                let mut read_buffer = bulk();
                receive(&mut read_buffer, 0, SCRATCH_SIZE);
                read_buffer.take(SCRATCH_SIZE)
            })
            .collect();
        assert!(kept.iter().all(|bytes| counts_up(bytes, 0)));
        assert_eq!(POOL.with_borrow(|pool| pool.lent.len()), MAX_LENT);
    }

    #[test]
    fn a_read_that_does_not_fill_its_room_has_drained_the_socket() {
        for bulk in [false, true] {
            for missing in [0, 1] {
                let mut read_buffer = if bulk { self::bulk() } else { ReadBuffer::new() };
                let room = read_buffer.spare_mut().len();
                read_buffer.filled(room - missing);
                assert_eq!(read_buffer.is_drained(), missing > 0, "{room} bytes of room");
            }
        }
    }

    /// The number of buffers in the pool of this thread.
    fn pooled() -> usize {
        POOL.with_borrow(|pool| pool.buffers.len())
    }

    #[test]
    fn buffers_of_a_usual_size_are_used_again_once_no_bytes_share_them() {
        for release in [ReadBuffer::release, |read_buffer: &mut ReadBuffer| drop(std::mem::take(read_buffer))]
        {
            for (len, is_shared, is_kept) in [
                (1, false, true),
                (1, true, false),
                (BUFFER_SIZE, false, true),
                (BUFFER_SIZE + 100, false, true),
                (2 * BUFFER_SIZE, false, false),
            ] {
                POOL.with_borrow_mut(|pool| pool.buffers.clear());
                let mut read_buffer = ReadBuffer::new();
                read_buffer.extend(&vec![0; len]);
                let bytes = read_buffer.take(len);
                if !is_shared {
                    drop(bytes.clone());
                    drop(bytes);
                    release(&mut read_buffer);
                } else {
                    release(&mut read_buffer);
                    drop(bytes);
                }
                assert_eq!(pooled(), usize::from(is_kept), "{len} bytes, shared: {is_shared}");
                read_buffer.extend(b"a");
                assert_eq!(pooled(), 0);
            }
        }
    }

    #[test]
    fn the_pool_of_buffers_is_bounded() {
        let of_usual_size = |_| {
            let mut read_buffer = ReadBuffer::new();
            read_buffer.extend(b"a");
            read_buffer
        };
        let read_buffers: Vec<_> = (0..MAX_POOLED + 2).map(of_usual_size).collect();
        drop(read_buffers);
        assert_eq!(pooled(), MAX_POOLED);
    }
}
