//! TLS: a [`Transport`] that encrypts what another one carries.
//!
//! [`MaybeTls`] is the transport of every connection, encrypted if [`Config::tls`](crate::Config::tls) is set. Backends
//! and the driver do not know the difference:
//!
//! * The handshake is a part of the first read, or of the first write if the server begins. It has the deadline of the
//!   first head, and holds no thread.
//! * Decrypted bytes are returned before any wait. No received byte stays encrypted if its record is complete.
//! * The bytes of a write stay in the queue of the driver until the system has taken their records, so that a flush
//!   ends when all of them are on the way.
//! * A read sends what rustls answers by itself, such as tickets, unless a write waits for the peer.
//!
//! | the peer | the server |
//! | --- | --- |
//! | ends its sending side with `close_notify`, or without it | as for TCP: a request that is incomplete fails, because its length is known, and its response is sent |
//! | violates the protocol | sends an alert, and closes in stages, so that the alert arrives |
//! | speaks plain HTTP | answers 400 without TLS, and closes in stages |
//! | has the whole of the last response | sends `close_notify`, and closes. After a response that was cut it sends none |

mod info;
mod session;
mod stream;

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use crate::conn::context;
use crate::conn::maybe_http2::speaks_http2;
use crate::conn::tls::session::{MAX_SEALED, Session};
use crate::conn::tls::stream::TlsStream;
use crate::conn::transport::Transport;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::stream::Stream;
use crate::proto::write_queue::WriteQueue;
use crate::runtime::config::Config;

pub use info::TlsInfo;

/// The TLS session of a connection, once its handshake has ended.
#[derive(Clone, Default)]
pub(crate) struct TlsSlot(std::sync::OnceLock<Arc<TlsInfo>>);

impl TlsSlot {
    fn get(&self) -> Option<&TlsInfo> {
        self.0.get().map(|info| &**info)
    }

    /// Whether the protocol that was negotiated, if there is a session, is HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) fn allows_http2(&self) -> bool {
        self.get().is_none_or(|info| info.alpn() == Some(b"h2"))
    }
}

/// The transport of a connection: `T`, or TLS over it. See the [module](self).
pub(crate) enum MaybeTls<T> {
    Plain(T),
    Tls(Box<Tls<T>>),
    /// Inside of [`encrypt`] only.
    Moving,
}

/// Returns the transport of a connection that was accepted now.
#[inline]
pub(crate) fn plain<T>(transport: T) -> MaybeTls<T> {
    MaybeTls::Plain(transport)
}

/// Begins TLS on a plain transport, if the settings have it. `received` are the bytes of the handshake that were read
/// before. `context` gets the properties of the session.
#[inline]
pub(crate) fn encrypt<T: Transport>(
    transport: &mut MaybeTls<T>,
    received: &mut ReadBuffer,
    context: &Arc<context::Context>,
    config: &Config,
) {
    let Some(tls) = &config.tls else { return };
    if let MaybeTls::Plain(inner) = std::mem::replace(transport, MaybeTls::Moving) {
        let mut session = Session::new(tls.current(speaks_http2(config, context.runtime.threads_block())));
        session.incoming = std::mem::take(received);
        *transport = MaybeTls::Tls(Box::new(Tls::new(inner, context, session)));
    }
}

/// Calls one of the methods that both variants have.
macro_rules! either {
    ($transport:expr, $name:ident ( $($argument:expr),* )) => {
        match $transport {
            MaybeTls::Plain(transport) => transport.$name($($argument),*),
            MaybeTls::Tls(transport) => transport.$name($($argument),*),
            MaybeTls::Moving => unreachable!("the transport is in place between the calls of the driver"),
        }
    };
}

impl<T: Transport> Transport for MaybeTls<T> {
    #[inline]
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        either!(self, poll_read(cx, into))
    }

    #[inline]
    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        either!(self, try_read(into))
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        either!(self, poll_write(cx, from))
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, poll_shutdown(cx))
    }

    fn announce_end(&mut self, cx: &mut Context<'_>) {
        either!(self, announce_end(cx));
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        either!(self, take_error())
    }

    #[inline]
    fn has_unread_end(&self) -> bool {
        either!(self, has_unread_end())
    }

    #[inline]
    fn set_deadline(&mut self, at: Option<Instant>) {
        either!(self, set_deadline(at));
    }

    fn into_stream(self) -> io::Result<Stream> {
        match self {
            MaybeTls::Plain(transport) => transport.into_stream(),
            MaybeTls::Tls(transport) => transport.into_stream(),
            MaybeTls::Moving => unreachable!("the transport is in place between the calls of the driver"),
        }
    }
}

/// A TLS session over `T`.
pub(crate) struct Tls<T> {
    inner: T,
    session: Session,
    /// The number of bytes at the front of the driver's queue whose records are in `session.outgoing`. While it is not
    /// 0, only the driver writes, because its waker is the one that the transport keeps.
    sealed: usize,
    /// Gets the properties of the session. `None` after that.
    context: Option<Arc<context::Context>>,
    peer: Option<SocketAddr>,
}

impl<T: Transport> Tls<T> {
    fn new(inner: T, context: &Arc<context::Context>, session: Session) -> Tls<T> {
        Tls { inner, session, sealed: 0, context: Some(context.clone()), peer: context.origin.peer }
    }

    /// Decrypts what has arrived. Returns the number of bytes that are appended to `into`.
    fn decrypt(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        let decrypted = self.session.decrypt(into);
        if let Some(info) = self.session.established()
            && let Some(context) = self.context.take()
        {
            let _ = context.tls.0.set(Arc::new(info));
        }
        if let Err(error) = &decrypted {
            match self.peer {
                Some(peer) => log::debug!("TLS with {peer} has failed: {error}"),
                None => log::debug!("TLS has failed: {error}"),
            }
            // The alert is small. If the system does not take it now, the peer does not read.
            let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
        }
        decrypted
    }

    /// Reads without a wait. `None` if more bytes are needed.
    fn poll_session(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuffer,
    ) -> Poll<Option<io::Result<usize>>> {
        match self.decrypt(into) {
            Ok(0) if self.session.has_received_end() => return Poll::Ready(Some(Ok(0))),
            Ok(0) => {}
            decrypted => return Poll::Ready(Some(decrypted)),
        }
        // The peer waits for each flight of the handshake. It does not wait for anything else that is sent here.
        match self.poll_send(cx) {
            Poll::Pending if self.session.is_handshaking() => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            _ => Poll::Ready(None),
        }
    }

    /// Sends what the session has queued, unless it belongs to a write.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sealed == 0 && !self.session.outgoing.is_empty() {
            ready!(self.inner.poll_write(cx, &mut self.session.outgoing))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Receives ciphertext. Returns the number of bytes. While this is pending, no empty buffer keeps its memory.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.session.incoming.read_little();
        let received = self.inner.poll_read(cx, &mut self.session.incoming);
        if received.is_pending() {
            self.session.incoming.release();
            self.session.outgoing.release();
        }
        received
    }

    /// Drops the bytes that were received for a session that is over.
    fn discard(&mut self, received: io::Result<usize>) -> io::Result<usize> {
        self.session.ignore_incoming();
        self.session.incoming.release();
        received
    }

    /// Encrypts the first bytes of the queue.
    fn seal(&mut self, from: &WriteQueue) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); 8];
        let n = from.slices(&mut slices);
        for slice in &slices[..n] {
            let part = &slice[..slice.len().min(MAX_SEALED - self.sealed)];
            if part.is_empty() {
                break;
            }
            self.session.encrypt(part)?;
            self.sealed += part.len();
        }
        Ok(())
    }
}

impl<T: Transport> Transport for Tls<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        if self.session.is_over() {
            let received = ready!(self.inner.poll_read(cx, &mut self.session.incoming));
            return Poll::Ready(self.discard(received));
        }
        loop {
            if let Some(read) = ready!(self.poll_session(cx, into)) {
                return Poll::Ready(read);
            }
            if ready!(self.poll_receive(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        loop {
            self.session.incoming.read_little();
            let received = self.inner.try_read(&mut self.session.incoming);
            if self.session.is_over() {
                return self.discard(received);
            }
            // Bytes that arrived before the end or an error of the system are read first.
            match self.decrypt(into)? {
                0 if self.session.has_received_end() => return Ok(0),
                0 if matches!(received, Ok(n) if n > 0) => {}
                0 => return received,
                decrypted => return Ok(decrypted),
            }
        }
    }

    /// One write of at most 64 KiB. The bytes leave the queue as the system takes their records.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<usize>> {
        if self.session.is_plain() {
            return self.inner.poll_write(cx, from);
        }
        if self.session.is_handshaking() {
            ready!(self.poll_handshake(cx))?;
        }
        if self.sealed == 0 {
            self.seal(from)?;
        }
        loop {
            ready!(self.inner.poll_write(cx, &mut self.session.outgoing))?;
            // What is left of the records is not shorter than what is left of their plaintext.
            let left = self.session.outgoing.len().min(self.sealed);
            let sent = self.sealed - left;
            if sent > 0 {
                self.sealed = left;
                from.sent(sent);
                return Poll::Ready(Ok(sent));
            }
        }
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_shutdown(cx)
    }

    fn announce_end(&mut self, cx: &mut Context<'_>) {
        if self.sealed == 0 && self.session.queue_end().is_ok() {
            let _ = self.poll_send(cx);
        }
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.inner.take_error()
    }

    fn has_unread_end(&self) -> bool {
        self.session.has_received_end() || self.inner.has_unread_end()
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        self.inner.set_deadline(at);
    }

    fn into_stream(self) -> io::Result<Stream> {
        Ok(Stream::new(TlsStream::new(self.inner.into_stream()?, self.session)))
    }
}

impl<T: Transport> Tls<T> {
    /// Continues the handshake of a connection on which the server sends first, because it refuses the peer.
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            let mut early = std::mem::take(&mut self.session.early);
            let read = self.poll_session(cx, &mut early);
            self.session.early = early;
            let received = match ready!(read) {
                None if self.session.is_handshaking() => ready!(self.poll_receive(cx)),
                None => break,
                Some(read) => read,
            };
            if received? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
