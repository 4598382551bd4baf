//! A request on the thread of its connection, on a blocking backend.
//!
//! An application that waits before it has sent anything lets the thread run an asyncio loop, until it has sent something
//! or has ended. A response whose application goes on holds the thread: each poll of its body runs the loop again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use gearshift::{Body, BodyError, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use pyo3::prelude::*;

use crate::asgi::event_loop::EventLoop;
use crate::asgi::exchange::Exchange;
use crate::asgi::first_step;
use crate::asgi::http::begin;
use crate::asgi::{Shared, failed, watched};
use crate::channel::{Head, Producer, Receiver};
use crate::errors::{asks_to_exit, log_exception};

/// The asyncio loops of the threads. There are as many as requests have run at the same time.
pub(crate) struct Loops {
    idle: Mutex<Vec<Arc<EventLoop>>>,
    /// A Python function that makes a loop and runs the start of the lifespan on it.
    new_event_loop: Py<PyAny>,
    /// Whether the log has told that the application closes loops.
    has_told_close: Once,
}

impl Loops {
    /// `started` has the attributes of the Python class `Started`.
    ///
    /// # Errors
    /// An exception of Python.
    pub(crate) fn new(started: &Bound<'_, PyAny>) -> PyResult<Loops> {
        let first = Arc::new(watched(&started.getattr("event_loop")?)?);
        let new_event_loop = started.getattr("new_event_loop")?.unbind();
        Ok(Loops { idle: Mutex::new(vec![first]), new_event_loop, has_told_close: Once::new() })
    }

    /// A loop that no other thread uses.
    fn take(&self, py: Python<'_>) -> PyResult<Arc<EventLoop>> {
        loop {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(event_loop) = idle else {
                first_step::leave(py)?;
                return Ok(Arc::new(watched(&self.new_event_loop.bind(py).call0()?)?));
            };
            if !event_loop.is_closed(py)? {
                return Ok(event_loop);
            }
            self.has_told_close.call_once(|| {
                log::warn!(
                    "the application has closed an asyncio loop of the server, whose lifespan cannot stop; another one \
                     takes its place"
                );
            });
        }
    }

    fn put_back(&self, event_loop: Arc<EventLoop>) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(event_loop);
    }
}

/// Calls the application and returns its response.
pub(super) fn respond(shared: &Arc<Shared>, loops: &Loops, request: Request) -> Response {
    Python::attach(|py| {
        let event_loop = match loops.take(py) {
            Ok(event_loop) => event_loop,
            Err(error) => {
                log_exception(py, "the event loop of a thread could not be started", &error);
                return failed(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let exchange = Arc::new(Exchange::new(event_loop, shared.process.options().cancels));
        let receiver = Some(Receiver::new(exchange.clone()));
        let run = Run { shared: shared.clone(), exchange, receiver, first: None };
        if run.exchange.event_loop.has_paused() {
            // Other tasks and timers of the loop have waited.
            run.check(py, run.exchange.event_loop.turn(py));
        }
        begin(py, shared, request, &run.exchange);
        run.respond(py)
    })
}

/// A request whose application runs, and the body of its response.
struct Run {
    shared: Arc<Shared>,
    exchange: Arc<Exchange>,
    /// Dropped when the client has left.
    receiver: Option<Receiver<Exchange>>,
    /// The body of a response that was complete before the application has ended.
    first: Option<Body>,
}

impl Run {
    /// Runs the application until its response has begun.
    fn respond(mut self, py: Python<'_>) -> Response {
        let head = loop {
            match self.exchange.channel().take_head() {
                Some(head) => break head,
                None => self.step(py),
            }
        };
        let mut response = match head {
            Head::Whole(response) if self.exchange.has_ended() => return response,
            Head::Whole(mut response) => {
                self.first = Some(std::mem::take(response.body_mut()));
                response
            }
            Head::Streamed(response) => response,
        };
        *response.body_mut() = Body::from_http(self).holding_thread();
        response
    }

    /// Runs the loop until the application has sent something or has ended.
    fn step(&self, py: Python<'_>) {
        self.check(py, self.exchange.event_loop.run(py));
    }

    /// Handles an exception that has ended a run of the loop.
    fn check(&self, py: Python<'_>, ran: PyResult<()>) {
        if let Err(error) = ran {
            if asks_to_exit(py, &error) {
                // A task that the application has started ends the process, and not this request.
                return self.shared.process.exit(py, &error, "a task");
            }
            log_exception(py, "the event loop of a thread has failed", &error);
            self.exchange.end(py, Some(&error));
        }
    }

    /// Runs the loop until the application has ended.
    fn finish(&mut self, py: Python<'_>) {
        while !self.exchange.has_ended() {
            self.exchange.changed(py);
            self.step(py);
        }
    }
}

impl http_body::Body for Run {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(first) = &mut this.first {
            match Pin::new(first).poll_frame(cx) {
                Poll::Ready(None) => {}
                other => return other,
            }
            Python::attach(|py| this.finish(py));
            return Poll::Ready(None);
        }
        Poll::Ready(Python::attach(|py| {
            loop {
                match this.exchange.channel().take() {
                    Some(Some(part)) => return Some(part.map_err(|why| BodyError::Source(why.into()))),
                    Some(None) => {
                        this.finish(py);
                        return None;
                    }
                    None => {
                        // The piece was sent, so the application may send the next one.
                        this.exchange.changed(py);
                        this.step(py);
                    }
                }
            }
        }))
    }

    fn size_hint(&self) -> SizeHint {
        self.first.as_ref().map_or_else(SizeHint::default, http_body::Body::size_hint)
    }
}

/// The application runs to its end, also after the client has left.
impl Drop for Run {
    fn drop(&mut self) {
        Python::try_attach(|py| {
            let is_cut = !self.exchange.has_ended();
            drop(self.receiver.take());
            self.finish(py);
            if is_cut || self.exchange.event_loop.has_ready() {
                self.check(py, self.exchange.event_loop.settle(py));
            }
        });
        if let Some(loops) = &self.shared.loops {
            loops.put_back(self.exchange.event_loop.clone());
        }
    }
}
