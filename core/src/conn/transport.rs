//! Seam 1: the bytes of one connection.
//!
//! A backend passes each of its sockets to the driver as a [`Transport`]. The driver owns the transport and polls it. A
//! transport never blocks.
//!
//! An implementation guarantees:
//!
//! * `Pending` means that the waker of the context is woken once progress may be possible, or once the deadline has
//!   passed. Reading and writing keep one waker each: the one of the latest poll, which may come from any thread.
//! * A read that does not fill the buffer has taken all bytes that had arrived ([`ReadBuffer::is_drained`]). After such
//!   a read, `poll_read` makes no system call until the system reports that the socket is readable again.
//! * A deadline ends a wait only after one more attempt at it or later. Bytes that have arrived are read, and room in
//!   the buffer of the socket is used, even if the process did not run when they came.
//! * A transport has no buffer: bytes that were written have been passed to the kernel.
//!
//! The driver decides how long the peer may take. It sets the deadline of the transport, and moves it after progress.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::proto::read_buffer::ReadBuffer;
use crate::proto::stream::Stream;
use crate::proto::write_queue::WriteQueue;

/// The byte stream of one connection; see the [module](self).
///
/// `backends/tokio/src/transport.rs` is an example.
pub trait Transport: Send + Unpin + 'static {
    /// Reads bytes that have arrived into the free space of the buffer. Returns the number of bytes; 0 means that the
    /// peer has ended its sending side.
    ///
    /// # Errors
    /// `TimedOut` if no byte has arrived when the deadline has passed, or an error of the system. `InvalidData` if the
    /// peer has violated a protocol below HTTP. The driver then closes in stages, and answers if an
    /// [`h1::Error`](crate::h1::Error) is inside. Later reads drop what arrives.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>>;

    /// Reads like [`Transport::poll_read`], but registers no waker, and always makes the system call.
    ///
    /// # Errors
    /// `WouldBlock` if no byte has arrived, or an error of the system.
    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize>;

    /// Writes the first bytes of the queue with one system call, and removes them from the queue, which is not empty.
    /// Returns the number of bytes, at least 1. The queue limits the call to [`WriteQueue::MAX_WRITE`] bytes.
    ///
    /// # Errors
    /// `TimedOut` if there is no room for a byte when the deadline has passed, or an error of the system.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>>;

    /// Ends the sending side of the connection. Reading is still possible.
    ///
    /// # Errors
    /// An error of the system; `NotConnected` if the peer has left.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that the connection ends in order, as `close_notify` of TLS does. A transport without such a
    /// message does nothing. Nothing is written after this. The driver calls it, perhaps twice, before it ends the
    /// sending side or drops the transport, unless a response was cut short.
    ///
    /// The message is sent without a wait: a peer for which the system has no room does not read.
    fn announce_end(&mut self, _: &mut Context<'_>) {}

    /// Returns and clears the error that the system has recorded for the socket (`SO_ERROR`). Only this error reports
    /// that a peer has left after it has ended its sending side.
    ///
    /// # Errors
    /// The system cannot return the recorded error.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// Whether the system has reported the end of the peer's sending side. Bytes before the end may be unread. The
    /// result after a read has returned 0 is of no importance.
    fn has_unread_end(&self) -> bool;

    /// Sets the time at which a pending read or write fails with `TimedOut`. `None` means that it never does.
    ///
    /// The driver calls this for many requests, so an implementation must not change a timer in each call. It may check
    /// the deadline when its timer fires, and set the timer again if the deadline is later.
    fn set_deadline(&mut self, at: Option<Instant>);

    /// Converts the connection to a stream of bytes without a deadline, for the protocol after an upgrade.
    ///
    /// # Errors
    /// An error of the system while the socket is registered elsewhere.
    fn into_stream(self) -> io::Result<Stream>;
}
