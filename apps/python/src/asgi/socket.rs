//! The task of a WebSocket: it moves messages between the client and the application.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use futures_util::future::{Either, select};
use gearshift::ws::{self, Error, Message, WebSocketReceiver, WebSocketSender, close_code};

/// The messages from the client that wait for the application before the client waits.
const MAX_RECEIVED: usize = 32;
/// The bytes from the client that wait for the application before the client waits. A single message may be larger.
const MAX_RECEIVED_BYTES: usize = 64 * 1024;
/// The bytes that wait for the client before the application waits.
const MAX_QUEUED: usize = 64 * 1024;
/// The bytes that each message counts for in addition to its content, because an empty one takes memory too.
const MESSAGE_OVERHEAD: usize = 64;

/// The code that stands for a close without a code (RFC 6455, 7.1.5).
const NO_CODE: u16 = 1005;
/// The code that stands for a connection that was lost (RFC 6455, 7.1.5).
const LOST: u16 = 1006;

/// The messages of a WebSocket on their way.
#[derive(Default)]
pub(super) struct Messages(Mutex<State>);

#[derive(Default)]
struct State {
    received: VecDeque<Message>,
    /// The sum of the received messages in bytes.
    received_bytes: usize,
    /// The close of the client, or of the connection: its code and its reason.
    closed: Option<(u16, String)>,
    /// The task waits for room among the received messages.
    receiver: Option<Waker>,
    to_send: VecDeque<Message>,
    /// The sum of the messages to send in bytes.
    queued: usize,
    /// The close of the application.
    close: Option<(u16, String)>,
    /// Whether the application has closed, also after the task has taken the close.
    is_closing: bool,
    /// The task waits for messages to send.
    sender: Option<Waker>,
}

/// What the application receives.
pub(super) enum Received {
    /// The handshake, which comes before all messages.
    Connect,
    Message(Message),
    Closed(u16, String),
    Nothing,
}

/// The bytes that a message counts for in a queue.
fn size(message: &Message) -> usize {
    let content = match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Close(_) => 0,
    };
    content + MESSAGE_OVERHEAD
}

impl State {
    fn has_room(&self) -> bool {
        self.received.len() < MAX_RECEIVED && self.received_bytes < MAX_RECEIVED_BYTES
    }
}

impl Messages {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next message from the client. The close comes after all messages, and again with each call.
    pub(super) fn receive(&self) -> Received {
        let mut state = self.lock();
        let Some(message) = state.received.pop_front() else {
            return match &state.closed {
                Some((code, reason)) => Received::Closed(*code, reason.clone()),
                None => Received::Nothing,
            };
        };
        state.received_bytes -= size(&message);
        let waker = state.receiver.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Received::Message(message)
    }

    /// Queues a message to the client.
    pub(super) fn send(&self, message: Message) {
        let mut state = self.lock();
        state.queued += size(&message);
        state.to_send.push_back(message);
        let waker = state.sender.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Closes the WebSocket after the messages that are queued.
    pub(super) fn close(&self, code: u16, reason: String) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.is_closing, true) {
            state.close = Some((code, reason));
        }
        let wakers = [state.sender.take(), state.receiver.take()];
        drop(state);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether the client, or the connection, has closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Whether the application has to wait before it sends more.
    pub(super) fn is_full(&self) -> bool {
        let state = self.lock();
        state.queued >= MAX_QUEUED && state.closed.is_none()
    }

    /// Notes the end of the connection, if no other end is known.
    pub(super) fn lost(&self) {
        self.lock().closed.get_or_insert((LOST, String::new()));
    }
}

/// Moves messages until the WebSocket is closed. `changed` is called after each change that the application may wait
/// for.
pub(super) async fn run(socket: ws::WebSocket, messages: Arc<Messages>, changed: impl Fn()) {
    let (sender, receiver) = socket.split();
    let receiving = pin!(receive_all(receiver, &messages, &changed));
    let sending = pin!(send_all(sender, &messages, &changed));
    match select(receiving, sending).await {
        // After the close of the client nothing can be sent.
        Either::Left(((), _)) => {}
        // After the close of the application, the answer of the client is awaited.
        Either::Right(((), receiving)) => receiving.await,
    }
    messages.lost();
    changed();
}

async fn receive_all(mut receiver: WebSocketReceiver, messages: &Messages, changed: &impl Fn()) {
    loop {
        let closed = match next(&mut receiver, messages).await {
            Some(Ok(Message::Close(frame))) => {
                frame.map_or((NO_CODE, String::new()), |frame| (frame.code, frame.reason.to_string()))
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(message)) => {
                let mut state = messages.lock();
                // An application that has closed may receive nothing more, and the answer of the client is behind the
                // messages that find no room.
                if state.has_room() {
                    state.received_bytes += size(&message);
                    state.received.push_back(message);
                }
                drop(state);
                changed();
                continue;
            }
            Some(Err(Error::Closed)) | None => (close_code::AWAY, String::new()),
            Some(Err(error @ Error::Silent)) => (LOST, error.to_string()),
            Some(Err(error)) => (error.close_code().unwrap_or(LOST), error.to_string()),
        };
        messages.lock().closed.get_or_insert(closed);
        changed();
        return;
    }
}

/// Receives when there is room. Notices the end of the connection while there is none.
async fn next(receiver: &mut WebSocketReceiver, messages: &Messages) -> Option<Result<Message, Error>> {
    let room = poll_fn(|cx| {
        let mut state = messages.lock();
        if state.has_room() || state.is_closing {
            return Poll::Ready(());
        }
        state.receiver = Some(cx.waker().clone());
        Poll::Pending
    });
    let failure = match select(room, pin!(receiver.failed())).await {
        Either::Left(((), _)) => None,
        Either::Right((error, _)) => Some(error),
    };
    match failure {
        None => receiver.recv().await,
        Some(error) => Some(Err(error)),
    }
}

async fn send_all(mut sender: WebSocketSender, messages: &Messages, changed: &impl Fn()) {
    loop {
        let next = poll_fn(|cx| {
            let mut state = messages.lock();
            if let Some(message) = state.to_send.pop_front() {
                return Poll::Ready(Ok(message));
            }
            if let Some(close) = state.close.take() {
                return Poll::Ready(Err(close));
            }
            state.sender = Some(cx.waker().clone());
            Poll::Pending
        });
        let message = match next.await {
            Ok(message) => message,
            Err((code, reason)) => {
                let _ = sender.close(code, &reason).await;
                return;
            }
        };
        let len = size(&message);
        let sent = sender.send(message).await;
        let mut state = messages.lock();
        let was_full = state.queued >= MAX_QUEUED;
        state.queued -= len;
        let has_room = was_full && state.queued < MAX_QUEUED;
        drop(state);
        if let Err(error) = sent {
            messages.lock().closed.get_or_insert((error.close_code().unwrap_or(LOST), error.to_string()));
            changed();
            return;
        }
        if has_room {
            changed();
        }
    }
}
