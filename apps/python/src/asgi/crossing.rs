//! The queue to the asyncio loop of the main thread.
//!
//! Threads of the server push events and write to a descriptor that asyncio watches. They do not take the GIL, which a
//! thread that runs Python may hold for milliseconds. One write is made for all events that are pushed before asyncio
//! looks: a batch.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gearshift::Request;
use pyo3::exceptions::PyOSError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use rustix::event::{EventfdFlags, eventfd};

use crate::asgi::exchange::Exchange;
use crate::asgi::http::begin;
use crate::asgi::websocket::{self, WebSocket};
use crate::asgi::{EventLoop, Shared};
use crate::wakes::Wakes;

/// The number of events in a batch from which on the wakes of connections are collected. For fewer it does not pay.
const MIN_BATCH: usize = 3;

/// What a thread of the server tells the loop. The number of events is limited by the number of connections.
pub(crate) enum Event {
    /// A request.
    Http(Arc<Shared>, Request, Arc<Exchange>),
    /// The state of an exchange has changed, and the application may wait for that.
    HttpChanged(Arc<Exchange>),
    /// A request that opens a WebSocket.
    WebSocket(Arc<Shared>, Arc<EventLoop>, Request, Arc<WebSocket>),
    /// The state of a WebSocket has changed, and the application may wait for that.
    WebSocketChanged(Arc<WebSocket>),
}

/// The queue, as the threads of the server have it.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Readable while events wait.
    wake: OwnedFd,
    /// The wakes of connections. They are collected while a batch is handled.
    wakes: Arc<Wakes>,
}

#[derive(Default)]
struct State {
    events: Vec<Event>,
    /// When the descriptor was written, since the loop has looked.
    signalled: Option<Instant>,
}

impl Queue {
    /// Queues an event.
    pub(crate) fn push(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.events.push(event);
        let was_signalled = state.signalled.is_some();
        if !was_signalled {
            state.signalled = Some(Instant::now());
        }
        drop(state);
        if !was_signalled {
            // The write fails only if the counter is full, and the descriptor is readable then.
            let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        }
    }

    /// The wakes of the connections that have requests on the loop.
    pub(crate) fn wakes(&self) -> &Arc<Wakes> {
        &self.wakes
    }

    /// Moves all events to the end of `into`. Returns when the first of them was pushed.
    fn take(&self, into: &mut VecDeque<Event>) -> Option<Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        into.extend(state.events.drain(..));
        state.signalled.take()
    }
}

/// The queue, as Python has it.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct Crossing {
    queue: Arc<Queue>,
    /// `call_soon` of the loop.
    call_soon: Py<PyAny>,
    /// The events that were taken and are not handled yet.
    batch: Mutex<VecDeque<Event>>,
    /// The time that events may wait before the log says that the loop was blocked.
    stall_threshold: Duration,
}

impl Crossing {
    fn lock<'a>(&'a self, py: Python<'_>) -> MutexGuard<'a, VecDeque<Event>> {
        self.batch.lock_py_attached(py).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }
}

#[pymethods]
impl Crossing {
    /// `stall_threshold` is in seconds; 0 means that nothing is logged.
    #[new]
    fn new(call_soon: Py<PyAny>, stall_threshold: f64) -> PyResult<Crossing> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = eventfd(0, flags).map_err(|error| PyOSError::new_err(error.to_string()))?;
        let queue = Arc::new(Queue { state: Mutex::default(), wake, wakes: Arc::default() });
        let stall_threshold = Duration::try_from_secs_f64(stall_threshold).unwrap_or(Duration::MAX);
        Ok(Crossing { queue, call_soon, batch: Mutex::default(), stall_threshold })
    }

    /// The descriptor to watch.
    fn fileno(&self) -> i32 {
        self.queue.wake.as_raw_fd()
    }

    /// Lets the loop handle all events. Called when the descriptor is readable.
    ///
    /// The loop cannot call this again before it has returned, so no code of the application runs in here: it might
    /// run the loop.
    fn wake(this: &Bound<'_, Crossing>) -> PyResult<()> {
        let _ = rustix::io::read(&this.get().queue.wake, &mut [0; 8]);
        Crossing::drain_soon(this)
    }

    /// Handles all events.
    fn drain(this: &Bound<'_, Crossing>) -> PyResult<()> {
        let (py, crossing) = (this.py(), this.get());
        let mut batch = crossing.lock(py);
        if let Some(since) = crossing.queue.take(&mut batch) {
            crossing.report_stall(since.elapsed());
        }
        let len = batch.len();
        drop(batch);
        if len > 1 {
            // If the application runs the loop while it handles one of the events, the others go on there.
            Crossing::drain_soon(this)?;
        }
        if len >= MIN_BATCH {
            crossing.queue.wakes.collect_all();
        }
        loop {
            let Some(event) = crossing.lock(py).pop_front() else { break };
            // The exchange that a panic has left is answered with 500 when it is dropped.
            if catch_unwind(AssertUnwindSafe(|| handle(py, event))).is_err() {
                log::error!("a panic while an event was handled");
            }
        }
        crossing.queue.wakes.flush();
        Ok(())
    }
}

impl Crossing {
    /// Lets the loop call [`Crossing::drain`] in its next turn.
    fn drain_soon(this: &Bound<'_, Crossing>) -> PyResult<()> {
        let py = this.py();
        this.get().call_soon.bind(py).call1((this.getattr(intern!(py, "drain"))?,)).map(drop)
    }
}

impl Crossing {
    /// Logs that events have waited because the application has blocked the loop.
    fn report_stall(&self, waited: Duration) {
        if waited > self.stall_threshold && !self.stall_threshold.is_zero() {
            log::warn!(
                "the asyncio loop was blocked: new requests have waited {waited:.0?} for it; blocking code belongs in \
                 asyncio.to_thread(), or on the backend threadpool"
            );
        }
    }
}

fn handle(py: Python<'_>, event: Event) {
    match event {
        Event::Http(shared, request, exchange) => begin(py, &shared, request, &exchange),
        Event::HttpChanged(exchange) => exchange.changed(py),
        Event::WebSocket(shared, main, request, socket) => {
            websocket::begin(py, &shared, &main, request, &socket);
        }
        Event::WebSocketChanged(socket) => socket.changed(py),
    }
}
