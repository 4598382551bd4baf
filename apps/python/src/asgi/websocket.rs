//! A WebSocket: the callables `receive` and `send` of its application, and its handshake.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use gearshift::ws::close_code;
use gearshift::{IntoResponse, Request, Response, StatusCode};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::PyDict;

use crate::asgi::awaitable::{done, is_done, ready, resolve};
use crate::asgi::crossing::Event;
use crate::asgi::event_loop::EventLoop;
use crate::asgi::socket::{self, Messages, Received};
use crate::asgi::websocket_message::{self, Message};
use crate::asgi::{Shared, failed};
use crate::errors::{ClientDisconnected, asks_to_exit, log_exception};

/// A WebSocket, which the application and the connection share.
pub(crate) struct WebSocket {
    event_loop: Arc<EventLoop>,
    messages: Arc<Messages>,
    handshake: Mutex<Handshake>,
    state: Mutex<State>,
}

/// The answer of the application to the handshake.
#[derive(Default)]
struct Handshake {
    answer: Option<Answer>,
    waker: Option<Waker>,
}

enum Answer {
    /// The sub-protocol, and further fields.
    Accept(Option<String>, Response),
    Reject(Response),
}

/// The part that the application uses, with the GIL. While it is locked, no object of Python is called, made or
/// dropped: each of these may run code of the application, which may call `send`.
struct State {
    phase: Phase,
    /// Whether `websocket.connect` was received.
    is_connected: bool,
    receivers: Vec<Py<PyAny>>,
    senders: Vec<Py<PyAny>>,
    has_ended: bool,
    /// Keeps the task alive.
    task: Option<Py<PyAny>>,
    route: String,
}

enum Phase {
    /// The handshake waits for the application.
    Connecting,
    /// The application rejects the handshake with a response, whose body follows.
    Rejecting(Box<(Response, BytesMut)>),
    Open,
    /// The application has closed or rejected the WebSocket.
    Closed,
}

/// Lets the application answer the handshake.
pub(super) async fn respond(shared: Arc<Shared>, request: Request) -> Response {
    let upgrade = match request.websocket() {
        Ok(upgrade) => upgrade,
        Err(error) => return error.into_response(),
    };
    let upgrade = shared.process.options().websocket.apply(upgrade);
    let event_loop = match shared.main_or_start().await {
        Ok(event_loop) => event_loop,
        Err(error) => {
            log::error!("the event loop for WebSockets could not be started: {error}");
            return failed(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    let socket = Arc::new(WebSocket::new(event_loop.clone()));
    let leaving = Leaving(Some(socket.clone()));
    event_loop.push(Event::WebSocket(shared, event_loop.clone(), request, socket.clone()));
    match poll_fn(|cx| socket.poll_answer(cx)).await {
        Answer::Reject(response) => response,
        Answer::Accept(protocol, fields) => {
            let upgrade = match &protocol {
                Some(protocol) => upgrade.protocols(&[protocol]),
                None => upgrade,
            };
            let opened = socket.clone();
            let mut response = upgrade.on_upgrade(async move |stream| {
                let _leaving = leaving;
                let changed = || opened.event_loop.push(Event::WebSocketChanged(opened.clone()));
                socket::run(stream, opened.messages.clone(), changed).await;
            });
            for (name, value) in fields.headers() {
                response = response.append_header(name.clone(), value.clone());
            }
            response
        }
    }
}

/// Notes that the connection has ended, when it is dropped.
struct Leaving(Option<Arc<WebSocket>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.messages.lost();
            let event_loop = socket.event_loop.clone();
            event_loop.push(Event::WebSocketChanged(socket));
        }
    }
}

impl WebSocket {
    fn new(event_loop: Arc<EventLoop>) -> WebSocket {
        let state = State {
            phase: Phase::Connecting,
            is_connected: false,
            receivers: Vec::new(),
            senders: Vec::new(),
            has_ended: false,
            task: None,
            route: String::new(),
        };
        WebSocket {
            event_loop,
            messages: Arc::default(),
            handshake: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    fn lock<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, State> {
        self.state.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut handshake = self.handshake.lock().unwrap_or_else(PoisonError::into_inner);
        match handshake.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                handshake.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn answer(&self, answer: Answer) {
        let mut handshake = self.handshake.lock().unwrap_or_else(PoisonError::into_inner);
        handshake.answer = Some(answer);
        let waker = handshake.waker.take();
        drop(handshake);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Takes what the application receives next.
    fn poll_receive(&self, state: &mut State) -> Received {
        match std::mem::replace(&mut state.is_connected, true) {
            true => self.messages.receive(),
            false => Received::Connect,
        }
    }

    /// Completes the waits of the application that are over.
    pub(super) fn changed(self: &Arc<Self>, py: Python<'_>) {
        let mut receivers = std::mem::take(&mut self.lock(py).receivers);
        receivers.retain(|future| !is_done(future.bind(py)).unwrap_or(true));
        let mut resolved = Vec::new();
        let mut state = self.lock(py);
        for future in receivers {
            match self.poll_receive(&mut state) {
                Received::Nothing => state.receivers.push(future),
                received => resolved.push((future, received)),
            }
        }
        let is_closed = self.messages.is_closed();
        let senders = match is_closed || !self.messages.is_full() {
            true => std::mem::take(&mut state.senders),
            false => Vec::new(),
        };
        drop(state);
        for (future, received) in resolved {
            if let Some(message) = websocket_message::received(py, received).transpose() {
                resolve(future.bind(py), message);
            }
        }
        for future in senders {
            resolve(future.bind(py), if is_closed { Err(disconnected()) } else { Ok(py.None()) });
        }
    }

    /// Ends the WebSocket: the application has ended. `error` is the exception that it has left.
    fn end(&self, py: Python<'_>, error: Option<&PyErr>) {
        let mut state = self.lock(py);
        if std::mem::replace(&mut state.has_ended, true) {
            return;
        }
        let (phase, task) = (std::mem::replace(&mut state.phase, Phase::Closed), state.task.take());
        let route = std::mem::take(&mut state.route);
        drop(state);
        drop(task);
        let is_open = matches!(phase, Phase::Open);
        match error {
            Some(error) if asks_to_exit(py, error) => {}
            Some(error) if error.is_instance_of::<ClientDisconnected>(py) => {}
            Some(error) => log_exception(py, &format!("an exception in the application, for {route}"), error),
            None if is_open || matches!(phase, Phase::Closed) || self.messages.is_closed() => {}
            None => log::error!("the application has returned before it answered the handshake, for {route}"),
        }
        match phase {
            Phase::Connecting | Phase::Rejecting(..) => {
                self.answer(Answer::Reject(failed(StatusCode::INTERNAL_SERVER_ERROR)));
            }
            Phase::Open => {
                let code = if error.is_some() { close_code::ERROR } else { close_code::NORMAL };
                self.messages.close(code, String::new());
            }
            Phase::Closed => {}
        }
    }

    /// Takes a message of the application.
    fn take(&self, state: &mut State, message: Message) -> PyResult<()> {
        match (std::mem::replace(&mut state.phase, Phase::Closed), message) {
            (Phase::Connecting, Message::Accept(protocol, fields)) => {
                self.answer(Answer::Accept(protocol, fields));
                state.phase = Phase::Open;
            }
            (Phase::Connecting, Message::Close(..)) => {
                self.answer(Answer::Reject(failed(StatusCode::FORBIDDEN)));
            }
            (Phase::Connecting, Message::Start(response)) => {
                state.phase = Phase::Rejecting(Box::new((response, BytesMut::new())));
            }
            (Phase::Rejecting(mut rejection), Message::Body(piece, more)) => {
                rejection.1.extend_from_slice(&piece);
                if more {
                    state.phase = Phase::Rejecting(rejection);
                } else {
                    let (mut response, body) = *rejection;
                    *response.body_mut() = body.freeze().into();
                    self.answer(Answer::Reject(response));
                }
            }
            (Phase::Open, Message::Send(message)) => {
                self.messages.send(message);
                state.phase = Phase::Open;
            }
            (Phase::Open, Message::Close(code, reason)) => self.messages.close(code, reason),
            (phase, message) => {
                let expected = match phase {
                    Phase::Connecting => "websocket.accept or websocket.close is expected",
                    Phase::Rejecting(..) => "websocket.http.response.body is expected",
                    Phase::Open => "websocket.send or websocket.close is expected",
                    Phase::Closed => "the WebSocket is closed",
                };
                state.phase = phase;
                return Err(PyRuntimeError::new_err(format!(
                    "{} cannot be sent: {expected}",
                    message.kind()
                )));
            }
        }
        Ok(())
    }
}

fn disconnected() -> PyErr {
    ClientDisconnected::new_err("the WebSocket is closed")
}

/// A WebSocket, as Python has it.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct WebSocketExchange {
    socket: Arc<WebSocket>,
    shared: Arc<Shared>,
}

#[pymethods]
impl WebSocketExchange {
    /// `receive` of ASGI.
    fn receive(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let received = self.socket.poll_receive(&mut self.socket.lock(py));
        if let Some(message) = websocket_message::received(py, received)? {
            return ready(py, message);
        }
        let future = self.socket.event_loop.create_future(py)?;
        self.socket.lock(py).receivers.push(future.clone().unbind());
        // A message that came before the future was there.
        self.socket.changed(py);
        Ok(future.unbind())
    }

    /// `send` of ASGI.
    fn send(&self, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
        let message = Message::read(message)?;
        let mut state = self.socket.lock(py);
        if self.socket.messages.is_closed() && matches!(state.phase, Phase::Open | Phase::Connecting) {
            drop(state);
            // An application may close a WebSocket that the client has closed, even in the same moment.
            return if matches!(message, Message::Close(..)) { done(py) } else { Err(disconnected()) };
        }
        self.socket.take(&mut state, message)?;
        drop(state);
        if !self.socket.messages.is_full() {
            return done(py);
        }
        let future = self.socket.event_loop.create_future(py)?;
        self.socket.lock(py).senders.push(future.clone().unbind());
        self.socket.changed(py);
        Ok(future.unbind())
    }

    /// The application has ended.
    fn ended(&self, py: Python<'_>) {
        self.socket.end(py, None);
    }

    /// The application has left an exception.
    fn failed(&self, py: Python<'_>, error: Bound<'_, PyAny>) {
        let error = PyErr::from_value(error);
        if asks_to_exit(py, &error) {
            let route = self.socket.lock(py).route.clone();
            self.shared.process.exit(py, &error, &route);
        }
        self.socket.end(py, Some(&error));
    }
}

/// A WebSocket whose task is gone, for example after a panic, is closed.
impl Drop for WebSocketExchange {
    fn drop(&mut self) {
        Python::try_attach(|py| self.socket.end(py, None));
    }
}

/// Calls the application for a WebSocket, in a task of the loop.
pub(super) fn begin(
    py: Python<'_>,
    shared: &Arc<Shared>,
    event_loop: &Arc<EventLoop>,
    request: Request,
    socket: &Arc<WebSocket>,
) {
    socket.lock(py).route = format!("{} {}", request.method(), request.path());
    let begun = || -> PyResult<()> {
        let scope = shared.template.websocket(py, &request, event_loop)?;
        drop(request);
        let python = Py::new(py, WebSocketExchange { socket: socket.clone(), shared: shared.clone() })?;
        let coroutine = shared.run.bind(py).call1((&shared.app, &scope, python))?;
        let task = event_loop.begin(py, coroutine, &scope)?;
        let mut state = socket.lock(py);
        if !state.has_ended {
            state.task = Some(task.unbind());
        }
        Ok(())
    };
    if let Err(error) = begun() {
        if asks_to_exit(py, &error) {
            shared.process.exit(py, &error, "a WebSocket");
        }
        socket.end(py, Some(&error));
    }
}
