//! The state that the two halves of a socket and its closing share: tungstenite over the connection, behind a lock.
//!
//! tungstenite frames, masks, joins fragments, checks and answers. This file maps its calls, which never wait, to
//! polls, and limits what it queues.

use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

use bytes::Bytes;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig};

use crate::proto::stream::Stream;
use crate::runtime::sync::{Mutex, lock};
use crate::web::ws::deflate::{Deflate, Deflater};
use crate::web::ws::error::Error;
use crate::web::ws::io::{Io, Waiter, Wakers};
use crate::web::ws::message::{CloseFrame, Message};
use crate::web::ws::{MAX_QUEUED, Settings};

/// The bytes that a socket which waits for messages holds for them.
const READ_BUFFER: usize = 4 << 10;

/// What the halves of a socket share.
pub(super) struct Shared {
    wakers: Arc<Wakers>,
    /// `None` once the connection was given up.
    protocol: Mutex<Option<Protocol>>,
}

struct Protocol {
    socket: tungstenite::WebSocket<Io>,
    /// Whether tungstenite or the stream may hold bytes for the peer.
    is_unflushed: bool,
    phase: Phase,
}

/// How far a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Messages go both ways.
    Open,
    /// A close was queued or received.
    Closing,
    /// The closing handshake is complete.
    Closed,
    /// The peer has violated the protocol, and the close for that was queued. No more messages can be received.
    Deaf,
    /// The peer has left, or the connection was given up.
    Ended,
}

impl Shared {
    pub(super) fn new(stream: Stream, settings: &Settings, deflate: Option<Deflate>) -> Shared {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_write_buffer_size(MAX_QUEUED)
            .max_message_size(Some(settings.max_message_size))
            .max_frame_size(Some(settings.max_frame_size));
        let wakers = Arc::<Wakers>::default();
        let inflating = deflate.map(|deflate| deflate.inflating(settings.max_frame_size));
        let io = Io::new(stream, wakers.clone(), inflating);
        let socket = tungstenite::WebSocket::from_raw_socket(io, Role::Server, Some(config));
        let protocol = Protocol { socket, is_unflushed: false, phase: Phase::Open };
        Shared { wakers, protocol: Mutex::new(Some(protocol)) }
    }

    /// How far the socket is closed. `waiter` is woken when that or the readiness of the connection changes.
    pub(super) fn phase(&self, waiter: Waiter, cx: &Context<'_>) -> Phase {
        self.wakers.register(waiter, cx);
        lock(&self.protocol).as_ref().map_or(Phase::Ended, |protocol| protocol.phase)
    }

    /// Receives the next message. After an error, nothing more is received.
    pub(super) fn poll_read(&self, waiter: Waiter, cx: &Context<'_>) -> Poll<Result<Message, Error>> {
        self.poll(waiter, cx, Protocol::read)
    }

    /// Whether bytes were received since the last call, also those of a frame that is not complete.
    pub(super) fn has_received(&self) -> bool {
        lock(&self.protocol).as_mut().is_some_and(|protocol| protocol.socket.get_mut().has_received())
    }

    /// Queues a message. The caller has flushed the message before it.
    pub(super) fn write(&self, message: Message, deflater: Option<&mut Deflater>) -> Result<(), Error> {
        self.change(|protocol| protocol.write(message, deflater))
    }

    /// Waits until the operating system has taken everything that was queued.
    pub(super) fn poll_flush(&self, waiter: Waiter, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.poll(waiter, cx, Protocol::flush)
    }

    /// Queues a close, unless one was queued or received before.
    pub(super) fn close(&self, frame: Option<CloseFrame>) {
        // The outcome is seen by the closing, which flushes the socket.
        let _ = self.change(|protocol| protocol.close(frame));
    }

    /// Closes the sending side, and reads what the peer still sends: a connection that is closed with unread bytes is
    /// reset, and the peer may lose the close before it has read it. After a closing handshake nothing is expected, so
    /// that the wait for the peer's end is for the others.
    pub(super) fn poll_end(&self, waiter: Waiter, cx: &Context<'_>) -> Poll<()> {
        self.poll(waiter, cx, Protocol::end).map(|_: Result<(), Error>| ())
    }

    /// Gives the connection up. All waiters are woken.
    pub(super) fn abort(&self) {
        let protocol = lock(&self.protocol).take();
        drop(protocol);
        self.wake();
    }

    fn wake(&self) {
        self.wakers.wake_by_ref();
    }

    fn poll<R>(
        &self,
        waiter: Waiter,
        cx: &Context<'_>,
        call: impl FnOnce(&mut Protocol) -> Result<R, Error>,
    ) -> Poll<Result<R, Error>> {
        self.wakers.register(waiter, cx);
        match self.change(call) {
            Err(error) if would_wait(&error) => Poll::Pending,
            outcome => Poll::Ready(outcome),
        }
    }

    /// Calls `call`, and wakes all waiters if the phase has changed.
    fn change<R>(&self, call: impl FnOnce(&mut Protocol) -> Result<R, Error>) -> Result<R, Error> {
        let mut guard = lock(&self.protocol);
        let Some(protocol) = guard.as_mut() else { return Err(Error::Closed) };
        let before = protocol.phase;
        let outcome = call(protocol);
        let has_changed = protocol.phase != before;
        drop(guard);
        if has_changed {
            self.wake();
        }
        outcome
    }
}

impl Protocol {
    fn read(&mut self) -> Result<Message, Error> {
        if self.phase >= Phase::Closed {
            return Err(Error::Closed);
        }
        // An answer to a close, or a close that the stream has not taken yet.
        unless_it_waits(self.flush())?;
        match self.socket.read().map_err(Error::from) {
            Ok(message) => {
                if matches!(message, tungstenite::Message::Close(_)) {
                    self.phase = Phase::Closing;
                    self.is_unflushed = true;
                }
                Ok(message.into())
            }
            Err(error) if would_wait(&error) => Err(error),
            Err(error) => {
                if let Some(code) = error.close_code() {
                    let _ = self.close(Some(CloseFrame::new(code, "")));
                }
                self.phase = match error {
                    Error::Closed => Phase::Closed,
                    _ if error.close_code().is_some() => Phase::Deaf,
                    _ => Phase::Ended,
                };
                Err(error)
            }
        }
    }

    fn write(&mut self, message: Message, deflater: Option<&mut Deflater>) -> Result<(), Error> {
        if self.phase != Phase::Open {
            return Err(Error::Closed);
        }
        let deflated = |data, message: &[u8]| {
            let mut frame = Frame::message(deflater?.deflate(message)?, OpCode::Data(data), true);
            frame.header_mut().rsv1 = true;
            Some(tungstenite::Message::Frame(frame))
        };
        let message = match message {
            Message::Text(text) => {
                deflated(Data::Text, text.as_bytes()).unwrap_or(tungstenite::Message::Text(text))
            }
            Message::Binary(bytes) => {
                deflated(Data::Binary, &bytes).unwrap_or(tungstenite::Message::Binary(bytes))
            }
            Message::Ping(bytes) => tungstenite::Message::Ping(control(bytes)),
            Message::Pong(bytes) => tungstenite::Message::Pong(control(bytes)),
            Message::Close(frame) => return self.close(frame),
        };
        // The queue has room for one message of any size, and for the answers to pings.
        self.limit_queue(MAX_QUEUED.saturating_add(message.len()));
        self.is_unflushed = true;
        unless_it_waits(self.socket.write(message).map_err(Error::from))
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.is_unflushed {
            return Ok(());
        }
        match self.socket.flush().map_err(Error::from) {
            Ok(()) | Err(Error::Closed) => {
                self.is_unflushed = false;
                self.limit_queue(MAX_QUEUED);
                Ok(())
            }
            Err(error) if would_wait(&error) => Err(error),
            Err(error) => {
                self.phase = Phase::Ended;
                Err(error)
            }
        }
    }

    fn close(&mut self, frame: Option<CloseFrame>) -> Result<(), Error> {
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.phase = Phase::Closing;
        self.is_unflushed = true;
        // tungstenite would lose a close that finds the queue full. Nothing is queued after it.
        self.limit_queue(usize::MAX);
        // A code that must not be sent would make the closing a violation of the protocol (RFC 6455, 7.4.1).
        let frame =
            frame.map(tungstenite::protocol::CloseFrame::from).filter(|frame| frame.code.is_allowed());
        unless_it_waits(self.socket.close(frame).map_err(Error::from))
    }

    fn end(&mut self) -> Result<(), Error> {
        let io = self.socket.get_mut();
        io.shut_down().map_err(Error::Io)?;
        loop {
            match io.discard().map_err(Error::Io) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if would_wait(&error) && self.phase == Phase::Closed => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn limit_queue(&mut self, bytes: usize) {
        self.socket.set_config(|config| config.max_write_buffer_size = bytes);
    }
}

/// What a control frame may hold (RFC 6455, 5.5).
fn control(bytes: Bytes) -> Bytes {
    bytes.slice(..bytes.len().min(125))
}

/// Whether `error` says that the stream is not ready.
fn would_wait(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

/// The outcome of a write that need not be complete: tungstenite keeps the bytes that the stream does not take, and a
/// later flush sends them.
fn unless_it_waits(outcome: Result<(), Error>) -> Result<(), Error> {
    match outcome {
        Err(error) if would_wait(&error) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::Waker;

    use futures_io::{AsyncRead, AsyncWrite};

    use super::*;

    /// A peer that sends pings without end, and reads only after the test tells it to.
    struct Deaf {
        pings: usize,
        reads: Arc<Mutex<bool>>,
        read: Arc<Mutex<usize>>,
    }

    impl AsyncRead for Deaf {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            if self.pings == 0 {
                return Poll::Pending;
            }
            self.pings -= 1;
            let ping = [&[0x89, 0x80 | 100, 0, 0, 0, 0][..], &[b'x'; 100]].concat();
            into[..ping.len()].copy_from_slice(&ping);
            Poll::Ready(Ok(ping.len()))
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
            if !*lock(&self.reads) {
                return Poll::Pending;
            }
            *lock(&self.read) += from.len();
            Poll::Ready(Ok(from.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn the_answers_to_pings_that_a_peer_does_not_read_are_limited() {
        const PINGS: usize = 10_000;
        const MESSAGE: usize = 200_000;
        let (reads, read) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(0)));
        let peer = Deaf { pings: PINGS, reads: reads.clone(), read: read.clone() };
        let shared = Shared::new(Stream::new(peer), &Settings::default(), None);
        let cx = Context::from_waker(Waker::noop());
        shared.write(Message::binary(vec![0; MESSAGE]), None).expect("it is queued");
        let mut pings = 0;
        while let Poll::Ready(message) = shared.poll_read(Waiter::Receiver, &cx) {
            assert!(matches!(message.expect("a message"), Message::Ping(_)));
            pings += 1;
        }
        assert_eq!(pings, PINGS);
        assert!(shared.poll_flush(Waiter::Sender, &cx).is_pending());
        // A close finds room although the queue is full.
        shared.close(Some(CloseFrame::new(1001, "")));
        *lock(&reads) = true;
        assert!(shared.poll_flush(Waiter::Sender, &cx).is_ready());
        let answers = *lock(&read) - MESSAGE;
        assert!(answers <= MAX_QUEUED + 200, "{answers} bytes are queued for {PINGS} pings");
        assert!(answers > MAX_QUEUED / 2, "{answers}: pings are answered");
    }
}
