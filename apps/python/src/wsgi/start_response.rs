//! `start_response`, and the `write` that it returns (PEP 3333, "The start_response() Callable").

use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use gearshift::{Response, StatusCode};
use pyo3::exceptions::{PyAssertionError, PyBufferError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;
use pyo3::types::{PyList, PyString, PyTuple};

use crate::fields::{add_field, to_latin_1, type_name, with_bytes};
use crate::wsgi::on_pool::Job;

/// The largest number of bytes that `write` keeps on a blocking backend until the application returns.
const MAX_WRITTEN: usize = 16 * 1024 * 1024;

/// The callable of one request.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct StartResponse(Mutex<State>);

struct State {
    /// The head, until it is sent.
    head: Option<Response>,
    is_sent: bool,
    /// The data that `write` was called with, until the response begins.
    written: BytesMut,
    /// Where pieces go; `None` on a blocking backend.
    job: Option<Arc<Job>>,
}

impl StartResponse {
    pub(crate) fn new(job: Option<Arc<Job>>) -> StartResponse {
        let state = State { head: None, is_sent: false, written: BytesMut::new(), job };
        StartResponse(Mutex::new(state))
    }

    fn lock<'a>(&'a self, py: Python<'_>) -> std::sync::MutexGuard<'a, State> {
        self.0.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes the head, which is sent now, and the data that was written before. `None` if the application has not
    /// called `start_response`.
    pub(crate) fn take_head(&self, py: Python<'_>) -> Option<(Response, Bytes)> {
        let mut state = self.lock(py);
        let head = state.head.take()?;
        state.is_sent = true;
        Some((head, std::mem::take(&mut state.written).freeze()))
    }

    /// Whether `write` has kept data.
    pub(crate) fn has_written(&self, py: Python<'_>) -> bool {
        !self.lock(py).written.is_empty()
    }

    /// Whether the head was sent, by `write`.
    pub(crate) fn is_sent(&self, py: Python<'_>) -> bool {
        self.lock(py).is_sent
    }
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn __call__<'py>(
        this: &Bound<'py, StartResponse>,
        status: &Bound<'py, PyString>,
        headers: &Bound<'py, PyList>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let head = head(status, headers)?;
        let mut state = this.get().lock(py);
        match exc_info.filter(|exc_info| !exc_info.is_none()) {
            Some(exc_info) if state.is_sent || !state.written.is_empty() => return Err(raised(exc_info)?),
            None if state.is_sent || state.head.is_some() => {
                return Err(PyAssertionError::new_err(
                    "start_response was called before, and exc_info is not set",
                ));
            }
            _ => state.head = Some(head),
        }
        drop(state);
        this.getattr(intern!(py, "write"))
    }

    /// Sends data. On a blocking backend it is sent when the application returns.
    fn write(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = with_bytes(data, "the argument of write()", Bytes::copy_from_slice)?;
        if data.is_empty() {
            return Ok(());
        }
        let mut state = self.lock(py);
        let Some(job) = state.job.clone() else {
            if state.written.len() + data.len() > MAX_WRITTEN {
                return Err(PyBufferError::new_err(
                    "write() was called with more than 16 MiB, which this backend sends when the application returns; \
                     return an iterable instead",
                ));
            }
            state.written.extend_from_slice(&data);
            return Ok(());
        };
        let head = state.head.take();
        state.is_sent = true;
        drop(state);
        if let Some(head) = head {
            job.begin(head);
        }
        match py.detach(|| job.send(data)) {
            true => Ok(()),
            false => Err(crate::errors::ClientDisconnected::new_err("the client has left")),
        }
    }
}

/// The exception of `exc_info`, which a response that was sent in part ends with.
fn raised(exc_info: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let exc_info = exc_info.cast::<PyTuple>()?;
    Ok(PyErr::from_value(exc_info.get_item(1)?))
}

/// The head of a response.
fn head(status: &Bound<'_, PyString>, headers: &Bound<'_, PyList>) -> PyResult<Response> {
    let mut response = Response::status_only(code_of(status.to_str()?)?);
    for field in headers {
        let field = field.cast_into::<PyTuple>().map_err(|error| {
            PyTypeError::new_err(format!("a header must be a tuple, not {}", type_name(&error.into_inner())))
        })?;
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = field.extract()?;
        let (name, value) = (text_of(&name)?, text_of(&value)?);
        let name = name.to_str()?;
        let value = value.to_str()?;
        let value = to_latin_1(value)
            .ok_or_else(|| PyValueError::new_err(format!("{name}: {value:?} is not in ISO 8859-1")))?;
        add_field(&mut response, name.as_bytes(), &value)?;
    }
    Ok(response)
}

fn text_of<'a, 'py>(value: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!(
            "the name and the value of a header must be str, not {}",
            type_name(value)
        ))
    })
}

/// The code of a status line such as `404 Not Found`.
fn code_of(status: &str) -> PyResult<StatusCode> {
    let (code, reason) = status.split_at_checked(3).unwrap_or((status, ""));
    let is_reason = reason.is_empty() || reason.starts_with(' ') && !reason.contains(char::is_control);
    let code = code.parse().ok().filter(|_| is_reason);
    let code = code.and_then(|code: u16| StatusCode::from_u16(code).ok());
    code.filter(|code| code.as_u16() >= 200)
        .ok_or_else(|| PyValueError::new_err(format!("{status:?} is not a status, such as \"200 OK\"")))
}
