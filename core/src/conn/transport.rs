//! Seam 1: the bytes of one connection.
//!
//! A backend hands its sockets to the driver as a [`Transport`]. A transport is poll-shaped, is owned by the driver, and
//! never blocks.
//!
//! What a transport promises:
//!
//! * `Pending` means that the waker of the context is woken once there may be progress, or once the deadline has
//!   passed. Reading and writing keep one waker each. The newest waker of each counts, from whichever thread.
//! * A read that ends before its room is full has taken everything that had arrived
//!   ([`ReadBuffer::is_drained`]). After such a read, `poll_read` makes no system call until the system reports news.
//! * A transport buffers nothing: bytes that were written have been given to the kernel.
//!
//! A transport does not decide how long a peer may take. The driver gives it a deadline, and moves the deadline when
//! there was progress.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::proto::read_buffer::ReadBuffer;
use crate::proto::stream::Stream;
use crate::proto::write_queue::WriteQueue;

/// One connection's bytes; see the [module](self).
pub trait Transport: Send + Unpin + 'static {
    /// Reads what has arrived, at most as much as there is room for, and returns the number of bytes: 0 if the peer
    /// will send no more.
    ///
    /// # Errors
    /// `TimedOut` if nothing has arrived by the deadline, or an error of the system.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>>;

    /// Reads like [`Transport::poll_read`] but registers no waker, and asks the system even if it has reported no news.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, or an error of the system.
    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize>;

    /// Writes until the queue is empty.
    ///
    /// # Errors
    /// `TimedOut` if bytes are left at the deadline, or an error of the system.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing more will be sent. Reading goes on.
    ///
    /// # Errors
    /// An error of the system, `NotConnected` if the peer has left.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The error that the system has recorded for the connection since it was last asked, without reading or writing.
    /// Only this tells that a peer has left which had ended its sending side before.
    ///
    /// # Errors
    /// An error of the system while it was asked.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// Whether the system has reported the end of the peer's sending side and no read has met that end yet.
    fn has_unread_end(&self) -> bool {
        false
    }

    /// Sets until when a read or a write may wait. One that is still waiting then fails with `TimedOut`. The driver
    /// calls this often, so it must cost next to nothing: a timer is moved when it fires and finds that the deadline
    /// has moved.
    fn set_deadline(&mut self, at: Option<Instant>);

    /// The connection as a plain stream of bytes, for the protocol after an upgrade.
    ///
    /// # Errors
    /// An error of the system when the socket changes hands.
    fn into_stream(self) -> io::Result<Stream>;
}
