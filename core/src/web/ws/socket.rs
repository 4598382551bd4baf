//! The socket of the application, its two halves, and its closing.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream as Messages;

use crate::proto::BoxFuture;
use crate::proto::stream::Stream;
use crate::runtime::clock::after;
use crate::runtime::contained::contain;
use crate::runtime::handle::Runtime;
use crate::runtime::latch::{Guard, Latch};
use crate::web::ws::Settings;
use crate::web::ws::deflate::{Deflate, Deflater};
use crate::web::ws::error::Error;
use crate::web::ws::io::Waiter;
use crate::web::ws::message::{CloseFrame, Message, close_code};
use crate::web::ws::protocol::{Phase, Shared};

/// Messages that a receive returns at once before the other connections of the thread have a turn.
const MAX_PER_TURN: u32 = 32;

/// A WebSocket, which the function of [`WebSocketUpgrade::on_upgrade`](crate::ws::WebSocketUpgrade::on_upgrade)
/// receives.
///
/// Its drop closes the socket. `WebSocket` is also a `Stream` of `futures` whose items are those of
/// [`WebSocket::recv`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::{Message, WebSocket};
///
/// async fn echo(mut socket: WebSocket) {
///     while let Some(Ok(message)) = socket.recv().await {
///         if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
///             return;
///         }
///     }
/// }
/// # drop(echo);
/// ```
#[derive(Debug)]
pub struct WebSocket {
    sender: WebSocketSender,
    receiver: WebSocketReceiver,
}

impl WebSocket {
    /// Waits for the next message. Returns `None` at the end: after a close of the peer was returned, after the
    /// closing handshake that this side has begun, and after an error.
    ///
    /// A ping is answered, and returned as well. A future that is dropped loses no message.
    ///
    /// # Errors
    /// [`Error`] if the peer violates the protocol or a limit, or leaves without a closing handshake.
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        self.receiver.recv().await
    }

    /// Sends a message, and waits until the operating system has taken it. A peer that reads slowly makes the wait
    /// long, and [`send_timeout`](crate::ws::WebSocketUpgrade::send_timeout) ends it.
    ///
    /// If the future is dropped, the message is sent as a whole or not at all. The payload of a ping or a pong is cut
    /// to 125 bytes. A [`Message::Close`] is the same as [`WebSocket::close`].
    ///
    /// # Errors
    /// [`Error::Closed`] after a close, also one of the server that stops; [`Error::NotTaken`] at the time limit;
    /// [`Error::Io`] if the connection fails.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.sender.send(message).await
    }

    /// Begins the closing handshake with a code of [`close_code`] and a reason, of which up to 123 bytes are sent. With
    /// a code that must not be sent, such as 1005 or 0, the close has neither (RFC 6455, 7.4).
    /// Messages that the peer has sent before it answers are still received.
    ///
    /// # Errors
    /// As [`WebSocket::send`], but not if the socket is closed already.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        self.sender.close(code, reason).await
    }

    /// Splits the socket, to receive in one task and send in another. The socket is closed when both halves are
    /// dropped.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Runtime;
    /// use gearshift::ws::{Message, WebSocket};
    ///
    /// async fn tell_the_time(socket: WebSocket, runtime: Runtime) {
    ///     let (mut sender, mut receiver) = socket.split();
    ///     let pause = runtime.clone();
    ///     runtime
    ///         .spawn(async move {
    ///             while sender.send("tick".into()).await.is_ok() {
    ///                 pause.sleep(std::time::Duration::from_secs(1)).await;
    ///             }
    ///         })
    ///         .detach();
    ///     while let Some(Ok(_)) = receiver.recv().await {}
    /// }
    /// # drop(tell_the_time);
    /// ```
    pub fn split(self) -> (WebSocketSender, WebSocketReceiver) {
        (self.sender, self.receiver)
    }
}

impl Messages for WebSocket {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// The half of a [`WebSocket`] that sends; see [`WebSocket::split`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::{Message, WebSocketSender};
///
/// async fn count(mut sender: WebSocketSender) -> Result<(), gearshift::ws::Error> {
///     for number in 0..10 {
///         sender.send(Message::text(number.to_string())).await?;
///     }
///     sender.close(1000, "").await
/// }
/// # drop(count);
/// ```
pub struct WebSocketSender {
    shared: Arc<Shared>,
    runtime: Runtime,
    timeout: Duration,
    deflater: Option<Deflater>,
    _guard: Guard,
}

impl WebSocketSender {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        let mut timer = None;
        // A send that was dropped may have left its message in the queue.
        poll_fn(|cx| self.poll_flush(cx, &mut timer)).await?;
        self.shared.write(message, self.deflater.as_mut())?;
        poll_fn(|cx| self.poll_flush(cx, &mut timer)).await
    }

    /// As [`WebSocket::close`].
    ///
    /// # Errors
    /// As [`WebSocket::close`].
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), Error> {
        let mut timer = None;
        self.shared.close(Some(CloseFrame::new(code, reason)));
        match poll_fn(|cx| self.poll_flush(cx, &mut timer)).await {
            Err(Error::Closed) => Ok(()),
            outcome => outcome,
        }
    }

    /// Waits until everything is flushed. The first wait starts `timer`.
    fn poll_flush(&self, cx: &mut Context<'_>, timer: &mut Option<BoxFuture<()>>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(outcome) = self.shared.poll_flush(Waiter::Sender, cx) {
            return Poll::Ready(outcome);
        }
        let timer =
            timer.get_or_insert_with(|| self.runtime.sleep_until(after(self.runtime.now(), self.timeout)));
        ready!(timer.as_mut().poll(cx));
        self.shared.abort();
        Poll::Ready(Err(Error::NotTaken))
    }
}

impl fmt::Debug for WebSocketSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketSender").field("deflate", &self.deflater.is_some()).finish_non_exhaustive()
    }
}

/// The half of a [`WebSocket`] that receives; see [`WebSocket::split`]. It answers pings, and is a `Stream` of
/// `futures`.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::WebSocketReceiver;
///
/// /// The number of messages until the peer closes.
/// async fn count(mut receiver: WebSocketReceiver) -> usize {
///     let mut count = 0;
///     while let Some(Ok(_)) = receiver.recv().await {
///         count += 1;
///     }
///     count
/// }
/// # drop(count);
/// ```
pub struct WebSocketReceiver {
    shared: Arc<Shared>,
    runtime: Runtime,
    silence: Option<Silence>,
    has_ended: bool,
    in_turn: u32,
    _guard: Guard,
}

impl WebSocketReceiver {
    /// As [`WebSocket::recv`].
    ///
    /// # Errors
    /// As [`WebSocket::recv`].
    pub async fn recv(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits until the connection has failed, and receives nothing. For an application that does not want messages yet,
    /// but wants to know that the peer has left. If the future is dropped, receiving goes on where it was.
    ///
    /// A ping is sent at each [`ping_interval`](crate::ws::WebSocketUpgrade::ping_interval). The system of a peer that
    /// has left answers it with a reset, or not at all, which fails after the retransmissions of TCP. The wait notices
    /// either when it sends the next ping. The answers to the pings are behind the messages that are not received, so
    /// that a silent peer is not closed. Without an interval, only a send notices that the peer has left.
    ///
    /// Returns [`Error::Io`] if the connection has failed, and [`Error::Closed`] if it was closed or given up, also by
    /// the other half. Receives then return `None`.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use futures_lite::future::or;
    /// use gearshift::BoxFuture;
    /// use gearshift::ws::WebSocketReceiver;
    ///
    /// /// Does the work for a message before the next one is read, and drops it when the peer has left.
    /// async fn in_turn(receiver: &mut WebSocketReceiver, work: BoxFuture<()>) {
    ///     let left = async {
    ///         receiver.failed().await;
    ///     };
    ///     or(work, left).await;
    /// }
    /// # drop(in_turn);
    /// ```
    pub async fn failed(&mut self) -> Error {
        poll_fn(|cx| self.poll_failed(cx)).await
    }

    fn poll_failed(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        loop {
            if self.has_ended || self.shared.phase(Waiter::Receiver, cx) == Phase::Ended {
                self.has_ended = true;
                return Poll::Ready(Error::Closed);
            }
            if let Poll::Ready(Err(error)) = self.shared.poll_flush(Waiter::Receiver, cx) {
                self.has_ended = true;
                return Poll::Ready(error);
            }
            let Some(silence) = &mut self.silence else { return Poll::Pending };
            ready!(silence.poll_interval(cx, &self.runtime));
            // The answer to an earlier ping may be unread.
            silence.is_asked = false;
            // The next turn of the loop flushes the ping, and sees an error.
            let _ = self.shared.write(Message::Ping(Bytes::new()), None);
        }
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        if self.in_turn == MAX_PER_TURN {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match self.shared.poll_read(Waiter::Receiver, cx) {
            Poll::Ready(Ok(message)) => {
                self.in_turn += 1;
                if let Some(silence) = &mut self.silence {
                    silence.end(self.runtime.now());
                }
                Poll::Ready(Some(Ok(message)))
            }
            Poll::Ready(Err(error)) => {
                self.has_ended = true;
                Poll::Ready(Some(error).filter(|error| !matches!(error, Error::Closed)).map(Err))
            }
            Poll::Pending => {
                self.in_turn = 0;
                let Some(silence) = &mut self.silence else { return Poll::Pending };
                // A peer can answer no ping within a frame.
                if self.shared.has_received() {
                    silence.end(self.runtime.now());
                }
                ready!(silence.poll(cx, &self.runtime, &self.shared));
                self.has_ended = true;
                self.shared.close(Some(CloseFrame::new(close_code::AWAY, "no answer to a ping")));
                Poll::Ready(Some(Err(Error::Silent)))
            }
        }
    }
}

impl Messages for WebSocketReceiver {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx)
    }
}

impl fmt::Debug for WebSocketReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketReceiver").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}

/// The time since the peer has sent something. The timer is moved when it fires, and not for each message.
struct Silence {
    interval: Duration,
    /// The time for the answer to a ping. `None` if no answer is needed.
    timeout: Option<Duration>,
    since: Instant,
    is_asked: bool,
    timer: Option<BoxFuture<()>>,
}

impl Silence {
    fn new(settings: &Settings, now: Instant) -> Option<Silence> {
        let interval = settings.ping_interval?;
        let timeout =
            Some(settings.ping_timeout.unwrap_or(interval)).filter(|timeout| *timeout != Duration::MAX);
        Some(Silence { interval, timeout, since: now, is_asked: false, timer: None })
    }

    fn end(&mut self, now: Instant) {
        self.since = now;
        if std::mem::replace(&mut self.is_asked, false) {
            // The timeout may be longer than the interval.
            self.timer = None;
        }
    }

    /// Sends a ping after an interval, and is ready if nothing was received until the timeout after that.
    fn poll(&mut self, cx: &mut Context<'_>, runtime: &Runtime, shared: &Shared) -> Poll<()> {
        loop {
            ready!(self.poll_interval(cx, runtime));
            if self.is_asked {
                return Poll::Ready(());
            }
            self.is_asked = self.timeout.is_some();
            // A socket that is closing sends no ping, and `close_timeout` limits its closing. A ping that the
            // stream does not take at once is flushed by the next poll.
            let _ = shared.write(Message::Ping(Bytes::new()), None);
        }
    }

    /// Ready when the interval has passed, or after a ping its timeout. The next time begins then.
    fn poll_interval(&mut self, cx: &mut Context<'_>, runtime: &Runtime) -> Poll<()> {
        loop {
            let timeout = self.timeout.filter(|_| self.is_asked);
            let due = after(self.since, timeout.unwrap_or(self.interval));
            let timer = self.timer.get_or_insert_with(|| runtime.sleep_until(due));
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            let now = runtime.now();
            if now >= due {
                self.since = now;
                return Poll::Ready(());
            }
        }
    }
}

/// Makes `stream` a socket for the function of the application, and closes it at the end. A panic of the function is
/// passed on after the socket is closed.
pub(super) async fn run(
    stream: Stream,
    runtime: Runtime,
    settings: Settings,
    deflate: Option<Deflate>,
    then: impl AsyncFnOnce(WebSocket),
) {
    let shared = Arc::new(Shared::new(stream, &settings, deflate));
    let halves = Latch::new();
    let sender = WebSocketSender {
        shared: shared.clone(),
        runtime: runtime.clone(),
        timeout: settings.send_timeout,
        deflater: deflate.map(|deflate| deflate.deflater()),
        _guard: halves.guard(),
    };
    let receiver = WebSocketReceiver {
        shared: shared.clone(),
        runtime: runtime.clone(),
        silence: Silence::new(&settings, runtime.now()),
        has_ended: false,
        in_turn: 0,
        _guard: halves.guard(),
    };
    let mut closing = pin!(close(shared.clone(), runtime, settings, halves));
    let mut function = pin!(Some(then(WebSocket { sender, receiver })));
    let (mut panic, mut is_closed) = (None, false);
    poll_fn(|cx| {
        if let Some(running) = function.as_mut().as_pin_mut() {
            match catch_unwind(AssertUnwindSafe(|| running.poll(cx))) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(())) => function.set(None),
                Err(payload) => {
                    shared.close(Some(CloseFrame::new(close_code::ERROR, "")));
                    panic = Some(payload);
                    contain("a function of a WebSocket that is dropped", || function.set(None));
                }
            }
        }
        is_closed = is_closed || closing.as_mut().poll(cx).is_ready();
        if is_closed && function.is_none() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
}

/// Waits for the reason to close a socket, closes it, and gives the connection up at the latest after
/// [`Settings::close_timeout`].
async fn close(shared: Arc<Shared>, runtime: Runtime, settings: Settings, halves: Latch) {
    let mut dropped = pin!(halves.released());
    let mut stopping = pin!(runtime.stopping());
    let mut stops = |cx: &mut Context<'_>| settings.close_on_stop && stopping.as_mut().poll(cx).is_ready();
    let reason = poll_fn(|cx| {
        if shared.phase(Waiter::Closing, cx) != Phase::Open {
            Poll::Ready(None)
        } else if dropped.as_mut().poll(cx).is_ready() {
            Poll::Ready(Some(CloseFrame::new(close_code::NORMAL, "")))
        } else if stops(cx) {
            Poll::Ready(Some(CloseFrame::new(close_code::AWAY, "the server stops")))
        } else {
            Poll::Pending
        }
    });
    if let Some(frame) = reason.await {
        shared.close(Some(frame));
    }
    let handshake = poll_fn(|cx| {
        let flushed = shared.poll_flush(Waiter::Closing, cx);
        let phase = shared.phase(Waiter::Closing, cx);
        // Until the application drops the socket, it receives the messages that come before the peer's answer.
        if phase == Phase::Closing && dropped.as_mut().poll(cx).is_ready() {
            while ready!(shared.poll_read(Waiter::Closing, cx)).is_ok() {}
            // The phase has changed, which has woken this task.
        }
        match phase {
            Phase::Ended => Poll::Ready(()),
            Phase::Closed | Phase::Deaf => {
                ready!(flushed).ok();
                shared.poll_end(Waiter::Closing, cx)
            }
            _ => Poll::Pending,
        }
    });
    let _ = runtime.timeout(settings.close_timeout, handshake).await;
    shared.abort();
}
