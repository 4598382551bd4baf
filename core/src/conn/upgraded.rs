//! A connection that has left HTTP: the stream that the function of an upgrade receives, and the task that calls it.
//!
//! The stream keeps the place of the connection until it is dropped. While it exists, the future of the function
//! belongs to the connection and is no background task: a stop waits for the connection, and counts it as cut if it has
//! to end it.
//!
//! A function that reads or writes in a loop, and whose peer is quick, would never wait. The stream therefore lets the
//! other connections of the thread run after [`MAX_PER_TURN`] bytes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::conn::driver::ConnectionState;
use crate::conn::io::{Io, MAX_PER_TURN};
use crate::conn::transport::Transport;
use crate::proto::response::Upgrade;
use crate::proto::stream::Stream;
use crate::proto::{BoxFuture, carry};
use crate::runtime::handle::before;
use crate::runtime::latch::Guard;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::stall::Origin;

/// Hands a connection over to the function of an upgrade. `state` keeps the place of the connection among the open
/// ones.
pub(crate) fn hand_over<T: Transport>(io: Io<T>, mut state: ConnectionState, (then, place): Upgrade) {
    let Io { transport, mut connection, .. } = io;
    let early = connection.read_buffer.take(connection.read_buffer.len());
    let stream = match transport.into_stream() {
        Ok(stream) => stream.with_early(early),
        Err(error) => return log::error!("a connection could not be handed over: {error}"),
    };
    state.guard.leave_http();
    let (runtime, shutdown) = (state.context.runtime.clone(), state.guard.shutdown().clone());
    let rest = Arc::new(OnceLock::new());
    let stream = Stream::new(Upgraded {
        stream,
        reading: Cut::of(&shutdown),
        writing: Cut::of(&shutdown),
        rest: Arc::downgrade(&rest),
        state,
    });
    let task = async move {
        let _rest = rest;
        // The future is polled once more after a forced stop, and learns of it from the stream. Then it is dropped.
        before(async { then(stream).await }, shutdown.reached(Phase::Forced)).await;
    };
    runtime.spawn_at(carry(task), Origin::Upgraded(place), false).detach();
}

/// The stream of an upgraded connection. Its fields are dropped in their order: the place of the connection is free
/// once its socket is closed.
struct Upgraded {
    stream: Stream,
    reading: Cut,
    writing: Cut,
    /// The task of the upgrade holds the other reference.
    rest: Weak<OnceLock<Guard>>,
    state: ConnectionState,
}

impl Drop for Upgraded {
    /// Makes the rest of the function a background task, before the place is free: a graceful stop waits for either.
    fn drop(&mut self) {
        if self.state.guard.shutdown().phase() != Phase::Forced
            && let Some(rest) = self.rest.upgrade()
        {
            let _ = rest.set(self.state.context.runtime.task_guard());
        }
    }
}

/// One direction of a stream: the end of its waits, which is a forced stop, and its turns.
struct Cut {
    shutdown: Shutdown,
    /// Created by the first wait.
    forced: Option<BoxFuture<()>>,
    /// The bytes that were moved since the last wait.
    moved: usize,
}

impl Cut {
    fn of(shutdown: &Shutdown) -> Cut {
        Cut { shutdown: shutdown.clone(), forced: None, moved: 0 }
    }

    /// Calls `poll`, which moves bytes, as [`Cut::or`] does. It is pending after [`MAX_PER_TURN`] bytes without a wait.
    fn or_turn(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.moved >= MAX_PER_TURN {
            self.moved = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = self.or(cx, poll);
        self.moved = match polled {
            Poll::Ready(Ok(n)) => self.moved.saturating_add(n),
            _ => 0,
        };
        polled
    }

    /// Calls `poll`. Fails after a forced stop, which also wakes the task if `poll` is pending.
    fn or<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if self.shutdown.phase() != Phase::Forced {
            let polled = poll(cx);
            if polled.is_ready() {
                return polled;
            }
        }
        let forced = self.forced.get_or_insert_with(|| Box::pin(self.shutdown.reached(Phase::Forced)));
        ready!(forced.as_mut().poll(cx));
        let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the server was stopped");
        Poll::Ready(Err(error))
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let Upgraded { stream, reading, .. } = self.get_mut();
        reading.or_turn(cx, |cx| Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let Upgraded { stream, writing, .. } = self.get_mut();
        writing.or_turn(cx, |cx| Pin::new(stream).poll_write(cx, from))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Upgraded { stream, writing, .. } = self.get_mut();
        writing.or_turn(cx, |cx| Pin::new(stream).poll_write_vectored(cx, from))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Upgraded { stream, writing, .. } = self.get_mut();
        writing.or(cx, |cx| Pin::new(stream).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Upgraded { stream, writing, .. } = self.get_mut();
        writing.or(cx, |cx| Pin::new(stream).poll_close(cx))
    }
}
