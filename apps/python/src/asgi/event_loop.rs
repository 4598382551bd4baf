//! An asyncio loop, with what a request needs of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::asgi::crossing::{Crossing, Event, Queue};
use crate::asgi::first_step::{self, FirstSteps};
use crate::asgi::message::required;
use crate::wakes::Wakes;

/// The turns of a loop that end an asynchronous generator: one makes a task, one runs it, and one is for its callbacks.
const SETTLING_TURNS: usize = 3;

/// The longest time that a loop of a blocking backend does not run while requests come, because each ends in its first
/// step. Timers and files of the application wait, and the clock of the loop stands still.
const MAX_PAUSE: Duration = Duration::from_millis(1);

/// See the [module](self). It has the methods that requests call, so that no request looks them up.
pub(crate) struct EventLoop {
    first_steps: FirstSteps,
    create_future: Py<PyAny>,
    call_later: Py<PyAny>,
    run_forever: Py<PyAny>,
    stop: Py<PyAny>,
    is_closed: Py<PyAny>,
    /// The state of the lifespan, which each request gets a copy of.
    state: Option<Py<PyDict>>,
    /// The queue to the loop of the main thread; `None` for a loop of a blocking backend.
    queue: Option<Arc<Queue>>,
    /// Whether a task has scheduled something in its first step, since the loop ran.
    has_ready: AtomicBool,
    /// When the loop ran last.
    last_run: Mutex<Instant>,
}

impl EventLoop {
    /// `event_loop` has the attributes of the Python class `gearshift.asgi.EventLoop`.
    ///
    /// # Errors
    /// An exception of Python.
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<EventLoop> {
        let asyncio = event_loop.getattr("loop")?;
        let method = |name: &str| asyncio.getattr(name).map(Bound::unbind);
        let crossing: Option<Bound<'_, Crossing>> = event_loop.getattr("crossing")?.extract()?;
        let state: Option<Bound<'_, PyDict>> = event_loop.getattr("state")?.extract()?;
        Ok(EventLoop {
            first_steps: FirstSteps::new(event_loop, crossing.is_some())?,
            create_future: method("create_future")?,
            call_later: method("call_later")?,
            run_forever: method("run_forever")?,
            stop: method("stop")?,
            is_closed: method("is_closed")?,
            state: state.map(Bound::unbind),
            queue: crossing.map(|crossing| crossing.get().queue()),
            has_ready: AtomicBool::new(false),
            last_run: Mutex::new(Instant::now()),
        })
    }

    /// Queues an event. Only for the loop of the main thread.
    pub(crate) fn push(&self, event: Event) {
        if let Some(queue) = &self.queue {
            queue.push(event);
        }
    }

    /// The wakes of the connections that have requests on the loop. `None` for a loop of a blocking backend.
    pub(crate) fn wakes(&self) -> Option<&Arc<Wakes>> {
        self.queue.as_ref().map(|queue| queue.wakes())
    }

    /// Whether the application has closed the loop.
    pub(crate) fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        self.is_closed.bind(py).call0()?.is_truthy()
    }

    /// Whether requests run on the thread that calls [`EventLoop::run`].
    pub(crate) fn is_in_place(&self) -> bool {
        self.queue.is_none()
    }

    /// The state of the lifespan for a request.
    pub(crate) fn state<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.state.as_ref().map(|state| state.bind(py).copy()).transpose()
    }

    /// Makes a task for a coroutine, and its first step. The task has the name of the path in `scope`. Called on the
    /// thread of the loop.
    ///
    /// # Errors
    /// An exception of Python, such as one that ends the process.
    pub(crate) fn begin<'py>(
        &self,
        py: Python<'py>,
        coroutine: Bound<'py, PyAny>,
        scope: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = required(scope, intern!(py, "path"))?;
        let (task, has_ready) = self.first_steps.begin(py, coroutine, name)?;
        if has_ready {
            self.has_ready.store(true, Ordering::Relaxed);
        }
        Ok(task)
    }

    pub(crate) fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.create_future.bind(py).call0()
    }

    /// Calls a function without arguments after `seconds`.
    pub(crate) fn call_later(
        &self,
        py: Python<'_>,
        seconds: f64,
        function: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.call_later.bind(py).call1((seconds, function)).map(drop)
    }

    /// Whether the last request has made something ready, which the loop has not run yet.
    pub(crate) fn has_ready(&self) -> bool {
        self.has_ready.load(Ordering::Relaxed)
    }

    /// Whether the loop has not run for long.
    pub(crate) fn has_paused(&self) -> bool {
        self.last_run.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > MAX_PAUSE
    }

    /// Runs what is ready.
    pub(crate) fn turn(&self, py: Python<'_>) -> PyResult<()> {
        self.stop(py)?;
        self.run(py)
    }

    /// Runs what is ready, and what that makes ready, such as the end of an asynchronous generator that was left.
    pub(crate) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        for _ in 0..SETTLING_TURNS {
            self.call_later(py, 0.0, self.stop.bind(py).clone())?;
            self.run(py)?;
        }
        Ok(())
    }

    /// Runs the loop until [`EventLoop::stop`] is called on it.
    pub(crate) fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.has_ready.store(false, Ordering::Relaxed);
        first_step::leave(py)?;
        let ran = self.run_forever.bind(py).call0();
        *self.last_run.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        ran.map(drop)
    }

    /// Ends the run at the end of the current iteration. In the first step of a task, the loop does not run.
    pub(crate) fn stop(&self, py: Python<'_>) -> PyResult<()> {
        match self.first_steps.is_in_step() {
            true => Ok(()),
            false => self.stop.bind(py).call0().map(drop),
        }
    }
}
