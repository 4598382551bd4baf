//! `receive` and `send` of an HTTP exchange, as Python calls them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use gearshift::Request;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::asgi::Shared;
use crate::asgi::awaitable::{done, ready};
use crate::asgi::exchange::{Exchange, Phase, Received, disconnected, route};
use crate::asgi::message::Message;
use crate::errors::asks_to_exit;

/// How often a wait for the client to leave looks at its connection, on a blocking backend, in seconds.
const PEER_CHECK_INTERVAL: f64 = 0.25;

/// An exchange, as Python has it.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct HttpExchange {
    exchange: Arc<Exchange>,
    shared: Arc<Shared>,
}

#[pymethods]
impl HttpExchange {
    /// `receive` of ASGI.
    fn receive(this: &Bound<'_, HttpExchange>) -> PyResult<Py<PyAny>> {
        let (py, exchange) = (this.py(), &this.get().exchange);
        let received = exchange.poll_receive(py, &mut exchange.lock(py), Waker::noop());
        if let Some(message) = Exchange::message(py, received)? {
            return ready(py, message);
        }
        let future = exchange.event_loop.create_future(py)?;
        // The connection sees the watch, or the poll sees what the connection did before.
        exchange.is_watched.store(true, Ordering::SeqCst);
        let mut state = exchange.lock(py);
        let received = exchange.poll_receive(py, &mut state, &Waker::from(exchange.clone()));
        if matches!(received, Received::Nothing) {
            state.receivers.push(future.clone().unbind());
            let must_check = state.in_place.is_some() && !std::mem::replace(&mut state.is_checking, true);
            drop(state);
            if must_check {
                HttpExchange::check_later(this)?;
            }
            return Ok(future.unbind());
        }
        drop(state);
        ready(py, Exchange::message(py, received)?.unwrap_or_else(|| py.None()))
    }

    /// `send` of ASGI.
    fn send(&self, py: Python<'_>, message: &Bound<'_, PyDict>) -> PyResult<Py<PyAny>> {
        let message = Message::read(message)?;
        let exchange = &self.exchange;
        let mut state = exchange.lock(py);
        let is_complete = matches!(state.phase, Phase::Done);
        if state.has_left || exchange.channel.is_closed() && !state.drops_body && !is_complete {
            return Err(disconnected());
        }
        exchange.take(Some(&self.shared.runtime), &mut state, message)?;
        let is_done = matches!(state.phase, Phase::Done);
        let must_tell = is_done && !state.receivers.is_empty();
        drop(state);
        if must_tell {
            exchange.changed(py);
        }
        if exchange.event_loop.is_in_place() {
            return self.sent_in_place(py, is_done);
        }
        if is_done || !exchange.channel.is_full() {
            return done(py);
        }
        let future = exchange.event_loop.create_future(py)?;
        exchange.is_watched.store(true, Ordering::SeqCst);
        if exchange.channel.is_full() {
            exchange.lock(py).senders.push(future.clone().unbind());
            return Ok(future.unbind());
        }
        done(py)
    }

    /// The application has ended.
    fn ended(&self, py: Python<'_>) -> PyResult<()> {
        self.exchange.end(py, None);
        self.stop_in_place(py)
    }

    /// The application has left an exception.
    fn failed(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        let error = PyErr::from_value(error);
        if asks_to_exit(py, &error) {
            let route = route(self.exchange.lock(py).request.as_ref());
            self.shared.process.exit(py, &error, &route);
        }
        self.exchange.end(py, Some(&error));
        self.stop_in_place(py)
    }

    /// Looks whether the client has left, for a wait on a blocking backend.
    fn check(this: &Bound<'_, HttpExchange>) -> PyResult<()> {
        let (py, exchange) = (this.py(), &this.get().exchange);
        let mut state = exchange.lock(py);
        state.has_left |= state.in_place.as_ref().is_some_and(|(_, token)| token.is_cancelled());
        drop(state);
        exchange.changed(py);
        let mut state = exchange.lock(py);
        let is_watched = !state.receivers.is_empty() || exchange.cancels && !state.has_left;
        state.is_checking = is_watched && !exchange.has_ended();
        let must_check = state.is_checking;
        drop(state);
        if must_check { HttpExchange::check_later(this) } else { Ok(()) }
    }
}

impl HttpExchange {
    fn check_later(this: &Bound<'_, HttpExchange>) -> PyResult<()> {
        let check = this.getattr(intern!(this.py(), "check"))?;
        this.get().exchange.event_loop.call_later(this.py(), PEER_CHECK_INTERVAL, check)
    }

    /// Lets the thread of a request send what the application has sent. The application waits until a piece of a
    /// streamed response was sent.
    fn sent_in_place(&self, py: Python<'_>, is_done: bool) -> PyResult<Py<PyAny>> {
        let exchange = &self.exchange;
        if is_done {
            exchange.event_loop.stop(py)?;
            return done(py);
        }
        if exchange.channel.is_empty() {
            return done(py);
        }
        exchange.event_loop.stop(py)?;
        let future = exchange.event_loop.create_future(py)?;
        exchange.lock(py).senders.push(future.clone().unbind());
        Ok(future.unbind())
    }

    fn stop_in_place(&self, py: Python<'_>) -> PyResult<()> {
        match self.exchange.event_loop.is_in_place() {
            true => self.exchange.event_loop.stop(py),
            false => Ok(()),
        }
    }
}

/// An exchange whose task is gone, for example after a panic, is answered.
impl Drop for HttpExchange {
    fn drop(&mut self) {
        if !self.exchange.has_ended() {
            Python::try_attach(|py| self.exchange.end(py, None));
        }
    }
}

/// Calls the application for a request, in a task of the loop.
pub(crate) fn begin(py: Python<'_>, shared: &Arc<Shared>, mut request: Request, exchange: &Arc<Exchange>) {
    let begun = || -> PyResult<()> {
        let event_loop = &exchange.event_loop;
        let scope = shared.template.http(py, &request, event_loop)?;
        let body = std::mem::take(request.body_mut());
        {
            let mut state = exchange.lock(py);
            state.body = Some(body);
            if event_loop.is_in_place() {
                state.in_place = Some((shared.runtime.clone(), request.cancel_token()));
            }
            state.request = Some(request);
        }
        let python = Bound::new(py, HttpExchange { exchange: exchange.clone(), shared: shared.clone() })?;
        let coroutine = shared.run.bind(py).call1((&shared.app, &scope, &python))?;
        let task = event_loop.begin(py, coroutine, &scope)?;
        if exchange.has_ended() {
            return Ok(());
        }
        exchange.lock(py).task = Some(task.unbind());
        if exchange.cancels {
            let must_check =
                event_loop.is_in_place() && !std::mem::replace(&mut exchange.lock(py).is_checking, true);
            if must_check {
                HttpExchange::check_later(&python)?;
            }
            exchange.is_watched.store(true, Ordering::SeqCst);
            if exchange.channel.is_closed() {
                exchange.changed(py);
            }
        }
        Ok(())
    };
    if let Err(error) = begun() {
        if asks_to_exit(py, &error) {
            shared.process.exit(py, &error, "a request");
        }
        exchange.end(py, Some(&error));
    }
}
