//! `wsgi.input`: the body of a request as a Python file.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::Poll;
use std::thread::{self, ThreadId};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::task::AtomicWaker;
use gearshift::{Body, Runtime};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyBytes, PyList};

use crate::errors::body_error;

/// The body of a request. A read waits for bytes of the client and returns fewer than it is asked for only at the end
/// of the body. A body that breaks off, or breaks a rule, raises `RequestBodyError`.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct Input {
    state: Mutex<State>,
    request: Arc<RequestEnd>,
}

/// The end of the request, which ends the reads of other threads.
#[derive(Default)]
struct RequestEnd {
    has_ended: AtomicBool,
    /// The thread that reads. The lock of the state admits one.
    reader: AtomicWaker,
}

struct State {
    /// `None` at the end of the body, and after the request.
    body: Option<(Body, Runtime)>,
    request: Arc<RequestEnd>,
    /// The thread of the request.
    thread: ThreadId,
    /// The bytes that were received and not read.
    received: BytesMut,
}

impl Input {
    /// The body of a request that has none.
    pub(crate) fn empty() -> Input {
        Input::with(None)
    }

    pub(crate) fn new(body: Body, runtime: Runtime) -> Input {
        Input::with(Some((body, runtime)))
    }

    fn with(body: Option<(Body, Runtime)>) -> Input {
        let request = Arc::<RequestEnd>::default();
        let thread = thread::current().id();
        let state = State { body, request: request.clone(), thread, received: BytesMut::new() };
        Input { state: Mutex::new(state), request }
    }

    /// Ends the body, when its request has ended. An application that keeps the input reads nothing more. A read of
    /// another thread ends too, and is not waited for: on one backend it can only go on after this request.
    pub(crate) fn end(&self) {
        self.request.has_ended.store(true, Ordering::SeqCst);
        self.request.reader.wake();
        self.release();
    }

    /// Drops the body if the request has ended. Otherwise the thread that reads does it at the end of its read.
    fn release(&self) {
        let mut state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        (state.body, state.received) = (None, BytesMut::new());
    }

    /// Reads with `read`.
    fn reading<R>(&self, py: Python<'_>, read: impl FnOnce(&mut State) -> R) -> R {
        let result =
            read(&mut self.state.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner()));
        if self.request.has_ended.load(Ordering::SeqCst) {
            self.release();
        }
        result
    }
}

impl State {
    /// Receives more bytes. Returns whether there are any. The GIL is released during a wait.
    fn receive(&mut self, py: Python<'_>) -> PyResult<bool> {
        let Some((body, runtime)) = &mut self.body else { return Ok(false) };
        let piece = match body.chunk().now_or_never() {
            Some(piece) => piece,
            None if runtime.backend() == "sequential" && thread::current().id() != self.thread => {
                return Err(PyRuntimeError::new_err(
                    "on the backend sequential only the thread of the request can read its body",
                ));
            }
            None => {
                let (mut chunk, request) = (pin!(body.chunk()), &self.request);
                let wait = poll_fn(|cx| {
                    request.reader.register(cx.waker());
                    match request.has_ended.load(Ordering::SeqCst) {
                        true => Poll::Ready(None),
                        false => chunk.as_mut().poll(cx),
                    }
                });
                py.detach(|| runtime.block_on(wait))
            }
        };
        match piece {
            Some(Ok(piece)) => {
                match self.received.is_empty() {
                    // Without a copy if nothing else refers to the bytes.
                    true => self.received = BytesMut::from(piece),
                    false => self.received.extend_from_slice(&piece),
                }
                Ok(true)
            }
            Some(Err(error)) => {
                self.body = None;
                Err(body_error(py, &error))
            }
            None => {
                self.body = None;
                Ok(false)
            }
        }
    }

    /// Takes up to `len` bytes.
    fn take(&mut self, len: usize) -> Bytes {
        let len = len.min(self.received.len());
        self.received.split_to(len).freeze()
    }

    /// Reads `len` bytes, or up to the end of the body.
    fn read(&mut self, py: Python<'_>, len: usize) -> PyResult<Bytes> {
        while self.received.len() < len && self.receive(py)? {}
        Ok(self.take(len))
    }

    /// Reads a line of up to `len` bytes.
    fn read_line(&mut self, py: Python<'_>, len: usize) -> PyResult<Bytes> {
        let mut searched = 0;
        loop {
            let end = self.received[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                return Ok(self.take((searched + end + 1).min(len)));
            }
            searched = self.received.len();
            if searched >= len || !self.receive(py)? {
                return Ok(self.take(len));
            }
        }
    }
}

/// The number of bytes for the argument of a read: all of them for a negative one or `None`.
fn limit(size: Option<isize>) -> usize {
    size.and_then(|size| usize::try_from(size).ok()).unwrap_or(usize::MAX)
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None, /))]
    fn read<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.reading(py, |state| state.read(py, limit(size)))?;
        Ok(PyBytes::new(py, &bytes))
    }

    #[pyo3(signature = (size = None, /))]
    fn readline<'py>(&self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        let line = self.reading(py, |state| state.read_line(py, limit(size)))?;
        Ok(PyBytes::new(py, &line))
    }

    /// The lines up to the end of the body, or those that begin within the first `hint` bytes.
    #[pyo3(signature = (hint = None, /))]
    fn readlines<'py>(&self, py: Python<'py>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let lines = PyList::empty(py);
        let hint = match hint {
            Some(0) | None => usize::MAX,
            hint => limit(hint),
        };
        let mut total = 0;
        while total < hint {
            let line = self.reading(py, |state| state.read_line(py, usize::MAX))?;
            if line.is_empty() {
                break;
            }
            total += line.len();
            lines.append(PyBytes::new(py, &line))?;
        }
        Ok(lines)
    }

    fn __iter__(this: Py<Input>) -> Py<Input> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.reading(py, |state| state.read_line(py, usize::MAX))?;
        Ok((!line.is_empty()).then(|| PyBytes::new(py, &line)))
    }

    fn readable(&self) -> bool {
        true
    }

    fn seekable(&self) -> bool {
        false
    }

    fn writable(&self) -> bool {
        false
    }

    fn fileno(&self) -> PyResult<i32> {
        Err(PyValueError::new_err("the body of a request has no descriptor"))
    }
}
