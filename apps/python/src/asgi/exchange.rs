//! An HTTP exchange: a request and its response, which the application and the connection share.

use std::fs::File;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use gearshift::{
    Body, BodyError, CancelToken, HeaderMap, IntoResponse, Method, Request, Response, Runtime, StatusCode,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::asgi::awaitable::{is_done, resolve};
use crate::asgi::crossing::Event;
use crate::asgi::event_loop::EventLoop;
use crate::asgi::failed;
use crate::asgi::message::{self, Message};
use crate::channel::{Channel, End, Head, Producer};
use crate::errors::{ClientDisconnected, asks_to_exit, log_exception, status_of};

/// See the [module](self).
pub(crate) struct Exchange {
    pub(super) channel: Channel,
    /// The loop on which the application runs.
    pub(super) event_loop: Arc<EventLoop>,
    /// Whether the task of a client that has left is cancelled.
    pub(super) cancels: bool,
    /// Whether a change of the channel is of interest to the application.
    pub(super) is_watched: AtomicBool,
    /// Whether the application has ended.
    has_ended: AtomicBool,
    state: Mutex<State>,
}

/// The part that the application uses, with the GIL.
pub(super) struct State {
    pub(super) phase: Phase,
    /// The rest of the body of the request; `None` once it was read.
    pub(super) body: Option<Body>,
    /// Futures of `receive` that wait.
    pub(super) receivers: Vec<Py<PyAny>>,
    /// Futures of `send` that wait for room.
    pub(super) senders: Vec<Py<PyAny>>,
    /// The task of the application, to cancel it.
    pub(super) task: Option<Py<PyAny>>,
    /// Of a request that runs in place.
    pub(super) in_place: Option<(Runtime, CancelToken)>,
    /// Whether the response has no body, so that the messages with its body are dropped.
    pub(super) drops_body: bool,
    /// Whether a check has found that the client has left, or its body cannot be read.
    pub(super) has_left: bool,
    /// Whether a check of the client is scheduled.
    pub(super) is_checking: bool,
    /// The request, whose method and path the log shows.
    pub(super) request: Option<Request>,
}

/// The state of the response.
pub(super) enum Phase {
    /// Nothing was sent.
    Start,
    /// The head waits for the first message of the body. The flag is whether trailers follow.
    Head(Response, bool),
    /// The head was sent.
    Body(bool),
    /// The body was sent, and trailers follow.
    Trailers(HeaderMap),
    /// The response is complete, or was cut.
    Done,
}

/// What `receive` has got.
pub(super) enum Received {
    Body(Bytes, bool),
    Disconnect,
    Nothing,
}

impl Exchange {
    pub(crate) fn new(event_loop: Arc<EventLoop>, cancels: bool) -> Exchange {
        Exchange {
            channel: Channel::default(),
            event_loop,
            cancels,
            is_watched: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            state: Mutex::new(State {
                phase: Phase::Start,
                body: None,
                receivers: Vec::new(),
                senders: Vec::new(),
                task: None,
                in_place: None,
                drops_body: false,
                has_left: false,
                is_checking: false,
                request: None,
            }),
        }
    }

    pub(super) fn lock<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, State> {
        self.state.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether the application has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Receives what there is. A body that is not there yet wakes `waker`.
    pub(super) fn poll_receive(&self, py: Python<'_>, state: &mut State, waker: &Waker) -> Received {
        if matches!(state.phase, Phase::Done) || self.channel.is_closed() {
            return Received::Disconnect;
        }
        let Some(body) = &mut state.body else {
            state.has_left = state.in_place.as_ref().is_some_and(|(_, token)| token.is_cancelled());
            return if state.has_left { Received::Disconnect } else { Received::Nothing };
        };
        let piece = {
            let mut piece = pin!(body.chunk());
            piece.as_mut().poll(&mut Context::from_waker(waker))
        };
        let piece = match (piece, &state.in_place) {
            (Poll::Ready(piece), _) => piece,
            (Poll::Pending, None) => return Received::Nothing,
            // The thread of the request waits, as a read of a blocking application does.
            (Poll::Pending, Some((runtime, _))) => py.detach(|| runtime.block_on(body.chunk())),
        };
        match piece {
            Some(Ok(piece)) => {
                let more = body.remaining() != Some(0);
                if !more {
                    state.body = None;
                }
                Received::Body(piece, more)
            }
            None => {
                state.body = None;
                Received::Body(Bytes::new(), false)
            }
            Some(Err(error)) => {
                self.break_off(state, error);
                Received::Disconnect
            }
        }
    }

    /// Answers a request whose body cannot be read.
    fn break_off(&self, state: &mut State, error: BodyError) {
        log::debug!("{}: {error}", route(state.request.as_ref()));
        (state.body, state.has_left) = (None, true);
        match std::mem::replace(&mut state.phase, Phase::Done) {
            Phase::Start | Phase::Head(..) => self.channel.begin(Head::Whole(error.into_response())),
            Phase::Body(_) | Phase::Trailers(_) => self.channel.end(End::Cut),
            Phase::Done => {}
        }
    }

    /// The message for what was received; `None` if there is nothing.
    pub(super) fn message(py: Python<'_>, received: Received) -> PyResult<Option<Py<PyAny>>> {
        match received {
            Received::Body(body, more) => message::request(py, &body, more).map(Some),
            Received::Disconnect => message::disconnect(py).map(Some),
            Received::Nothing => Ok(None),
        }
    }

    /// Completes the waits of the application that are over.
    pub(crate) fn changed(self: &Arc<Self>, py: Python<'_>) {
        let waker = Waker::from(self.clone());
        let mut resolved = Vec::new();
        let mut receivers = std::mem::take(&mut self.lock(py).receivers);
        // A wait that the application has given up takes no piece of the body. The future may be one of the
        // application, so it is asked and dropped without the lock.
        receivers.retain(|future| !is_done(future.bind(py)).unwrap_or(true));
        let mut state = self.lock(py);
        for future in receivers {
            match self.poll_receive(py, &mut state, &waker) {
                Received::Nothing => state.receivers.push(future),
                received => resolved.push((future, received)),
            }
        }
        let is_closed = self.channel.is_closed();
        let has_left = state.has_left || is_closed && !state.drops_body;
        let senders = match is_closed || !self.channel.is_full() {
            true => std::mem::take(&mut state.senders),
            false => Vec::new(),
        };
        let cancelled = match self.cancels && has_left && !matches!(state.phase, Phase::Done) {
            true => state.task.as_ref().map(|task| task.clone_ref(py)),
            false => None,
        };
        let watches = !state.receivers.is_empty() || !state.senders.is_empty() || self.cancels;
        self.is_watched.store(watches && !is_closed, Ordering::SeqCst);
        drop(state);
        for (future, received) in resolved {
            if let Some(message) = Exchange::message(py, received).transpose() {
                resolve(future.bind(py), message);
            }
        }
        for future in senders {
            resolve(future.bind(py), if has_left { Err(disconnected()) } else { Ok(py.None()) });
        }
        if let Some(task) = cancelled
            && let Err(error) = task.bind(py).call_method0(intern!(py, "cancel"))
        {
            log_exception(py, "a task could not be cancelled", &error);
        }
    }

    /// Ends the exchange: nothing more is sent. `error` is the exception that the application has left.
    pub(super) fn end(&self, py: Python<'_>, error: Option<&PyErr>) {
        if self.has_ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.lock(py);
        let (phase, task) = (std::mem::replace(&mut state.phase, Phase::Done), state.task.take());
        let has_left = state.has_left || self.channel.is_closed();
        // The request stays: its memory is used again by the thread of the connection, if that is the last to drop it.
        (state.body, state.in_place) = (None, None);
        drop(state);
        drop(task);
        let route = || route(self.lock(py).request.as_ref());
        let is_complete = matches!(phase, Phase::Done);
        match error {
            None if is_complete || has_left => {}
            Some(error) if asks_to_exit(py, error) => {}
            Some(error) if has_left && is_expected(py, error) => {}
            Some(error) => {
                log_exception(py, &format!("an exception in the application, for {}", route()), error);
            }
            None => {
                let route = route();
                log::error!("the application has returned before its response was complete, for {route}");
            }
        }
        let status = error.map_or(StatusCode::INTERNAL_SERVER_ERROR, |error| status_of(py, error));
        match phase {
            Phase::Start | Phase::Head(..) => self.channel.begin(Head::Whole(failed(status))),
            Phase::Body(_) | Phase::Trailers(_) => self.channel.end(End::Cut),
            Phase::Done => {}
        }
    }

    /// Takes a message of the application.
    pub(super) fn take(
        &self,
        runtime: Option<&Runtime>,
        state: &mut State,
        message: Message,
    ) -> PyResult<()> {
        match (std::mem::replace(&mut state.phase, Phase::Done), message) {
            (Phase::Start, Message::Start(head, trailers)) => state.phase = Phase::Head(head, trailers),
            (Phase::Head(mut head, false), Message::Body(body, false)) => {
                if !has_no_body(state.request.as_ref(), head.status())
                    && let Err(error) = message::check_length(&head, &body)
                {
                    state.phase = Phase::Head(head, false);
                    return Err(error);
                }
                *head.body_mut() = body.into();
                match (self.channel.complete(head), self.event_loop.wakes()) {
                    (Some(waker), Some(wakes)) => wakes.wake(waker),
                    (Some(waker), None) => waker.wake(),
                    (None, _) => {}
                }
            }
            (Phase::Head(head, trailers), Message::Body(body, more)) => {
                state.drops_body = has_no_body(state.request.as_ref(), head.status());
                match state.drops_body {
                    true => self.channel.begin(Head::Whole(head)),
                    false => self.channel.begin_with(head, body),
                }
                state.phase = if more { Phase::Body(trailers) } else { Phase::Trailers(HeaderMap::new()) };
            }
            (Phase::Body(trailers), Message::Body(body, more)) => {
                if !state.drops_body {
                    self.channel.send(body);
                }
                state.phase = match (more, trailers) {
                    (true, _) => Phase::Body(trailers),
                    (false, true) => Phase::Trailers(HeaderMap::new()),
                    (false, false) => {
                        self.channel.end(End::Complete);
                        Phase::Done
                    }
                };
            }
            (Phase::Trailers(mut all), Message::Trailers(trailers, more)) => {
                all.extend(trailers);
                match more {
                    true => state.phase = Phase::Trailers(all),
                    false if takes_trailers(state.request.as_ref()) => self.channel.end(End::Trailers(all)),
                    false => self.channel.end(End::Complete),
                }
            }
            (Phase::Head(mut head, false), Message::PathSend(path)) => {
                let file = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
                match (file, runtime) {
                    (Ok((len, file)), Some(runtime)) => {
                        *head.body_mut() = Body::from_reader(runtime, Some(len), file);
                        self.channel.begin(Head::Whole(head));
                    }
                    (file, _) => {
                        state.phase = Phase::Head(head, false);
                        let why = file.err().map_or_else(String::new, |error| format!(": {error}"));
                        return Err(PyOSError::new_err(format!("{} cannot be sent{why}", path.display())));
                    }
                }
            }
            (phase, message) => {
                state.phase = phase;
                return Err(PyRuntimeError::new_err(unexpected(&state.phase, &message)));
            }
        }
        Ok(())
    }
}

/// The method and the path of a request, for the log.
pub(super) fn route(request: Option<&Request>) -> String {
    request.map_or_else(String::new, |request| format!("{} {}", request.method(), request.path()))
}

/// Whether a response has no body (RFC 9110, 6.4.1).
fn has_no_body(request: Option<&Request>, status: StatusCode) -> bool {
    let is_head = request.is_some_and(|request| request.method() == Method::HEAD);
    is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Whether the client takes trailers (RFC 9110, 10.1.4).
fn takes_trailers(request: Option<&Request>) -> bool {
    let mut values = request.into_iter().flat_map(|request| request.headers().get_all("te"));
    let is_trailers = |member: &[u8]| member.trim_ascii().eq_ignore_ascii_case(b"trailers");
    values.any(|value| value.split(|byte| *byte == b',').any(is_trailers))
}

/// Why a message cannot be sent now.
fn unexpected(phase: &Phase, message: &Message) -> String {
    let name = match message {
        Message::Start(..) => "http.response.start",
        Message::Body(..) => "http.response.body",
        Message::Trailers(..) => "http.response.trailers",
        Message::PathSend(_) => "http.response.pathsend",
    };
    let expected = match phase {
        Phase::Start => "http.response.start comes first",
        Phase::Head(..) | Phase::Body(_) => "http.response.body is expected",
        Phase::Trailers(_) => "http.response.trailers is expected",
        Phase::Done => "the response is complete",
    };
    format!("{name} cannot be sent: {expected}")
}

/// Whether the exception is a consequence of a client that has left.
fn is_expected(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<ClientDisconnected>(py)
        || error.get_type(py).name().is_ok_and(|name| name == "CancelledError" || name == "ClientDisconnect")
}

pub(super) fn disconnected() -> PyErr {
    ClientDisconnected::new_err("the client has left")
}

impl Producer for Exchange {
    fn channel(&self) -> &Channel {
        &self.channel
    }

    fn notify(self: Arc<Self>) {
        if self.is_watched.load(Ordering::SeqCst) {
            self.wake();
        }
    }
}

/// Wakes the waits of the application: more of the body can be read, or the channel has changed.
impl Wake for Exchange {
    fn wake(self: Arc<Self>) {
        let event_loop = self.event_loop.clone();
        event_loop.push(Event::HttpChanged(self));
    }
}
