//! Seam 1: the bytes of one connection.
//!
//! A backend hands its sockets to the driver as a [`Transport`]. It is poll-shaped and owned by the driver, and
//! blocking is the case in which nothing is ever `Pending`: a backend whose threads may wait does so inside
//! `poll_read` and `poll_write`.
//!
//! What a transport promises:
//!
//! * `Pending` means that the waker of the context is woken once there may be progress, or once the deadline has
//!   passed. Reading and writing keep a waker each; the newest one of each counts, from whichever thread.
//! * A read that ends before its room is full has taken all there was ([`Inbox::is_drained`]); after such a read,
//!   `poll_read` makes no system call until there is news.
//! * Nothing is buffered in the transport, so that what was written has been given to the kernel.
//!
//! How long a peer may take is not its business: it is given deadlines, and the driver moves them when there was
//! progress.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::{Inbox, Outbox, Stream};

/// One connection's bytes; see the [module](self).
pub trait Transport: Send + Unpin + 'static {
    /// Whether `poll_read` and `poll_write` wait inside, instead of returning `Pending`.
    ///
    /// The driver gives such a transport back to its backend whenever the next thing to wait for is a request's
    /// head, see [`Drive`](crate::drive::Drive), and does not read while a handler runs.
    const BLOCKING: bool;

    /// Reads what has arrived, at most as much as there is room for, and says how many bytes: 0 if the peer will
    /// send no more.
    ///
    /// # Errors
    /// `TimedOut` if nothing has arrived by the deadline, or whatever the system says.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut Inbox) -> Poll<io::Result<usize>>;

    /// Reads like [`Transport::poll_read`] but never waits, and asks the system even if no news came.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived, or whatever the system says.
    fn try_read(&mut self, into: &mut Inbox) -> io::Result<usize>;

    /// Writes until nothing waits. One that is blocking comes back as soon as it would wait again after the peer has
    /// taken something, with what is left.
    ///
    /// # Errors
    /// `TimedOut` if something still waits at the deadline, or whatever the system says.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut Outbox) -> Poll<io::Result<()>>;

    /// Tells the peer that nothing more will be sent. Reading goes on.
    ///
    /// # Errors
    /// Whatever the system says, `NotConnected` if the peer has left.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// What has befallen the connection since it was last asked, without reading or writing: the only way to hear
    /// that a peer has gone which had ended its side before.
    ///
    /// # Errors
    /// Whatever the system says of asking.
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;

    /// A way to look at the peer from elsewhere. Only blocking transports have one: on event loops the driver sees
    /// to the peer while a handler waits.
    fn lookout(&self) -> Option<Arc<dyn Lookout>> {
        None
    }

    /// Until when a read or a write may wait; one that is still waiting then fails with `TimedOut`. It is set
    /// often and must cost next to nothing: a timer is moved when it fires and finds that the deadline has moved.
    fn set_deadline(&mut self, at: Option<Instant>);

    /// The connection as a plain stream of bytes, for what comes after an upgrade.
    ///
    /// # Errors
    /// Whatever the system says when the socket changes hands.
    fn into_stream(self) -> io::Result<Stream>;
}

/// Looks at a peer while its connection is in other hands. It does not keep the connection open.
pub trait Lookout: Send + Sync {
    /// What can be seen without waiting.
    fn look(&self) -> Look;

    /// Sends `bytes` at once or not at all, and waits up to `patience` for the peer's system to say that nobody is
    /// there to take them.
    fn probe(&self, bytes: &[u8], patience: Duration) -> Look;
}

/// What a [`Lookout`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The peer is there, as far as can be seen.
    Present,
    /// It will send no more, and may or may not be there.
    Ended,
    /// It has left.
    Gone,
}
