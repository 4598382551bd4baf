//! A TLS connection as a stream of bytes, for the protocol after an upgrade.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures_io::{AsyncRead, AsyncWrite};

use crate::conn::tls::session::{MAX_SEALED, Session};
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::stream::Stream;

/// Encrypts what is written to a stream, and decrypts what is read.
///
/// A write is complete once its bytes are encrypted. They leave with it, or with the next write, flush, close or read.
/// The end of the stream without `close_notify` is the error `UnexpectedEof`, because anybody on the way can cause it.
pub(super) struct TlsStream {
    inner: Stream,
    session: Session,
    plaintext: ReadBuffer,
    /// Whether a writer waits: the inner stream keeps its waker, and a reader must not replace it.
    is_writer_waiting: bool,
}

impl TlsStream {
    pub(super) fn new(inner: Stream, session: Session) -> TlsStream {
        TlsStream { inner, session, plaintext: ReadBuffer::new(), is_writer_waiting: false }
    }

    /// Writes the encrypted bytes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = &mut self.session.outgoing;
        while !outgoing.is_empty() {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, outgoing.front()))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outgoing.sent(sent);
        }
        outgoing.release();
        Poll::Ready(Ok(()))
    }

    /// Writes the encrypted bytes for a writer, which waits if this is pending.
    fn poll_send_for_writer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_send(cx);
        self.is_writer_waiting = sent.is_pending();
        sent
    }

    /// Reads ciphertext. Returns the number of bytes.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let incoming = &mut self.session.incoming;
        incoming.read_little();
        let received = Pin::new(&mut self.inner).poll_read(cx, incoming.spare_mut());
        match &received {
            Poll::Ready(Ok(n)) => incoming.filled(*n),
            _ => incoming.release(),
        }
        received
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            if !this.plaintext.is_empty() {
                let n = this.plaintext.len().min(into.len());
                into[..n].copy_from_slice(&this.plaintext.as_slice()[..n]);
                this.plaintext.discard(n);
                this.plaintext.release();
                return Poll::Ready(Ok(n));
            }
            let decrypted = this.session.decrypt(&mut this.plaintext);
            if !this.is_writer_waiting && !this.session.outgoing.is_empty() {
                // The answer to a change of keys, an alert, or what a writer has left.
                if let Poll::Ready(Err(error)) = this.poll_send(cx) {
                    return Poll::Ready(Err(error));
                }
            }
            if decrypted? > 0 {
                continue;
            }
            if this.session.has_received_end() {
                return Poll::Ready(Ok(0));
            }
            if ready!(this.poll_receive(cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send_for_writer(cx))?;
        let from = &from[..from.len().min(MAX_SEALED)];
        if !from.is_empty() {
            self.session.encrypt(from)?;
            if let Poll::Ready(Err(error)) = self.poll_send(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_for_writer(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.queue_end()?;
        ready!(self.poll_send_for_writer(cx))?;
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

impl Drop for TlsStream {
    /// Sends what the last write has left, if the system takes it. There is no `close_notify`: only a stream that was
    /// closed has ended as its protocol says.
    fn drop(&mut self) {
        let _ = self.poll_send(&mut Context::from_waker(Waker::noop()));
    }
}
