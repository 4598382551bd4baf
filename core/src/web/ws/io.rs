//! The connection as tungstenite sees it: reads and writes that fail with `WouldBlock` instead of waiting.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;
use futures_io::{AsyncRead, AsyncWrite};

use crate::proto::stream::Stream;
use crate::web::ws::deflate::Inflating;

/// The futures that can wait for one connection at the same time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    /// A receive of the application.
    Receiver,
    /// A send of the application.
    Sender,
    /// The closing of the socket, which goes on without the application.
    Closing,
}

/// The wakers of all [`Waiter`]s. The stream keeps one waker for each direction, and each waiter may read and write: a
/// receive also answers pings. A stream that is ready therefore wakes all of them.
#[derive(Default)]
pub(super) struct Wakers([AtomicWaker; 3]);

impl Wakers {
    /// Keeps the waker of a waiter until the next wake-up.
    pub(super) fn register(&self, waiter: Waiter, cx: &Context<'_>) {
        self.0[waiter as usize].register(cx.waker());
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.iter().for_each(AtomicWaker::wake);
    }
}

/// A connection for tungstenite.
pub(super) struct Io {
    raw: Raw,
    /// Present if compression was negotiated.
    inflating: Option<Inflating>,
}

/// The stream without decompression.
struct Raw {
    stream: Stream,
    /// Wakes all waiters.
    waker: Waker,
    /// Whether bytes were received since [`Io::has_received`] was called.
    has_received: bool,
}

impl Io {
    pub(super) fn new(stream: Stream, wakers: Arc<Wakers>, inflating: Option<Inflating>) -> Io {
        Io { raw: Raw { stream, waker: wakers.into(), has_received: false }, inflating }
    }

    /// Whether bytes were received since the last call.
    pub(super) fn has_received(&mut self) -> bool {
        std::mem::take(&mut self.raw.has_received)
    }

    /// Closes the sending side.
    pub(super) fn shut_down(&mut self) -> io::Result<()> {
        self.raw.poll(|cx, stream| stream.poll_close(cx))
    }

    /// Reads and drops bytes. Returns whether more may come.
    pub(super) fn discard(&mut self) -> io::Result<bool> {
        Ok(self.raw.read(&mut [0; 4096])? > 0)
    }
}

impl Raw {
    fn poll<R>(
        &mut self,
        poll: impl FnOnce(&mut Context<'_>, Pin<&mut Stream>) -> Poll<io::Result<R>>,
    ) -> io::Result<R> {
        match poll(&mut Context::from_waker(&self.waker), Pin::new(&mut self.stream)) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Raw {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.poll(|cx, stream| AsyncRead::poll_read(stream, cx, into))?;
        self.has_received |= read > 0;
        Ok(read)
    }
}

impl Read for Io {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.inflating {
            Some(inflating) => inflating.read(&mut self.raw, into),
            None => self.raw.read(into),
        }
    }
}

impl Write for Io {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.raw.poll(|cx, stream| AsyncWrite::poll_write(stream, cx, from))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.raw.poll(|cx, stream| AsyncWrite::poll_flush(stream, cx))
    }
}
