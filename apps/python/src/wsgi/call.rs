//! The call of the application, and the iterable that it returns.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gearshift::{Body, Request, Response};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyTuple};

use crate::errors::{ClientDisconnected, RequestBodyError, asks_to_exit, log_exception, status_of};
use crate::fields::{bytes_of, with_bytes};
use crate::wsgi::input::Input;
use crate::wsgi::on_pool::Job;
use crate::wsgi::start_response::StartResponse;
use crate::wsgi::{Shared, failed};

/// What an application has returned.
pub(super) enum Called {
    /// A response in memory.
    Whole(Response),
    /// A head, unless `write` has sent it, and the pieces that follow.
    Streamed(Option<Response>, Items),
}

/// The pieces of a response, and what ends with them. Dropping the value calls `close()`.
pub(super) struct Items {
    /// The piece that was made before the head was sent.
    first: Option<Bytes>,
    iterator: Option<Py<PyIterator>>,
    /// The iterable that the application has returned.
    iterable: Option<Py<PyAny>>,
    start: Py<StartResponse>,
    input: Option<Py<Input>>,
}

/// Calls the application. `job` is where pieces go; `None` on a blocking backend.
///
/// # Errors
/// The exception that the application has left.
pub(super) fn call(
    py: Python<'_>,
    shared: &Shared,
    request: &mut Request,
    job: Option<Arc<Job>>,
) -> PyResult<Called> {
    let body = std::mem::take(request.body_mut());
    let input = match body.is_empty() {
        true => None,
        false => Some(Py::new(py, Input::new(body, shared.runtime.clone()))?),
    };
    let environ = shared.template.environ(py, request, input.as_ref())?;
    let start = Py::new(py, StartResponse::new(job))?;
    let mut items = Items { first: None, iterator: None, iterable: None, start, input };
    let result = shared.app.bind(py).call1((environ, &items.start))?;
    if let Some(list) = in_memory(&result)
        && !items.start.get().is_sent(py)
    {
        return items.whole(py, list).map(Called::Whole);
    }
    items.iterable = Some(result.clone().unbind());
    items.iterator = Some(result.try_iter()?.unbind());
    // `start_response` may be called by the first step of a generator.
    let first = items.next(py)?;
    let Some((head, written)) = items.start.get().take_head(py) else {
        items.first = first;
        return match items.start.get().is_sent(py) {
            true => Ok(Called::Streamed(None, items)),
            false => Err(PyRuntimeError::new_err("the application has not called start_response")),
        };
    };
    items.first = match (written.is_empty(), first) {
        (true, first) => first,
        (false, None) => Some(written),
        (false, Some(first)) => Some([written, first].concat().into()),
    };
    Ok(Called::Streamed(Some(head), items))
}

/// The items of a list or a tuple, which has no `close()`.
fn in_memory<'a, 'py>(result: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyAny>> {
    (result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>()).then_some(result)
}

impl Items {
    /// The response with a body that is a list.
    fn whole(&mut self, py: Python<'_>, list: &Bound<'_, PyAny>) -> PyResult<Response> {
        const WHAT: &str = "an item of the response";
        let Some((mut response, written)) = self.start.get().take_head(py) else {
            return Err(PyRuntimeError::new_err("the application has not called start_response"));
        };
        let body = match list.len()? {
            0 => written,
            1 if written.is_empty() => bytes_of(&list.get_item(0)?, WHAT)?,
            _ => {
                let mut body = BytesMut::from(written);
                for item in list.try_iter()? {
                    with_bytes(&item?, WHAT, |bytes| body.extend_from_slice(bytes))?;
                }
                body.freeze()
            }
        };
        *response.body_mut() = Body::from(body);
        Ok(response)
    }

    /// The next piece that has bytes; `None` at the end.
    pub(super) fn next(&mut self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let mut iterator = iterator.bind(py).clone();
        loop {
            let Some(item) = iterator.next() else { return Ok(None) };
            let piece = bytes_of(&item?, "an item of the response")?;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }

    /// Takes the piece that was made before the head, if it has this length.
    pub(super) fn take_first_of(&mut self, length: Option<usize>) -> Option<Bytes> {
        self.first.take_if(|first| Some(first.len()) == length)
    }

    /// Calls `close()` of the iterable, and ends the input.
    pub(super) fn close(&mut self, py: Python<'_>) {
        self.iterator = None;
        if let Some(iterable) = self.iterable.take()
            && let Ok(Some(close)) = iterable.bind(py).getattr_opt(intern!(py, "close"))
            && let Err(error) = close.call0()
        {
            log_exception(py, "an exception in close() of a response", &error);
        }
        if let Some(input) = self.input.take() {
            input.get().end(py);
        }
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        if self.iterable.is_some() || self.input.is_some() {
            Python::try_attach(|py| self.close(py));
        }
    }
}

/// Logs the exception that an application has left, and returns the response for it.
pub(super) fn raised(py: Python<'_>, shared: &Shared, request: &Request, error: &PyErr) -> Response {
    if asks_to_exit(py, error) {
        shared.process.exit(py, error);
    } else if error.is_instance_of::<RequestBodyError>(py) {
        // The fault of the client.
        log::info!("{}: {}", route(request), error.value(py));
    } else if !error.is_instance_of::<ClientDisconnected>(py) {
        log_exception(py, &format!("an exception in the application, for {}", route(request)), error);
    }
    failed(status_of(py, error))
}

/// Logs the exception that ends a streamed response.
pub(super) fn cut(py: Python<'_>, request: &Request, error: &PyErr) {
    log_exception(
        py,
        &format!("an exception in a response of the application, for {}", route(request)),
        error,
    );
}

/// The method and the path of a request, for the log.
fn route(request: &Request) -> String {
    format!("{} {}", request.method(), request.path())
}
