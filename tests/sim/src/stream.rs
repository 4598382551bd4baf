//! An upgraded connection of the simulated world, as the application reads and writes it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use crate::fault::Fault;
use crate::world::World;

/// The server's end of a connection that has left HTTP.
pub(crate) struct SimStream {
    world: Arc<World>,
    at: usize,
}

impl SimStream {
    pub(crate) fn new(world: Arc<World>, at: usize) -> SimStream {
        let mut state = world.lock();
        let link = &mut state.links[at];
        link.is_upgraded = true;
        link.deadline = None;
        link.moved();
        state.note(format_args!("[{at}] is upgraded"));
        drop(state);
        SimStream { world, at }
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let (mut state, at) = (self.world.lock(), self.at);
        match state.links[at].receive(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.links[at].read_waker = Some(cx.waker().clone());
                state.links[at].wants_read = true;
                Poll::Pending
            }
            read => {
                state.links[at].wants_read = false;
                state.was_read(at, &read);
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let (mut state, at) = (self.world.lock(), self.at);
        let written = match state.send_to_gone(at, from.len()) {
            Some(n) => Ok(n),
            None => state.links[at].send(from).inspect(|n| state.was_sent(at, &from[..*n], 0)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.links[at].write_waker = Some(cx.waker().clone());
                state.links[at].wants_write = true;
                Poll::Pending
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.world.lock().shut(self.at))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if !state.is_forced || !state.has(Fault::KeepUpgraded) {
            state.close(self.at);
        }
    }
}
