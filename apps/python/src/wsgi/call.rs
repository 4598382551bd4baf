//! The call of the application, and the iterable that it returns.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gearshift::{Body, Method, Request, Response, StatusCode, header};
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
    shared: Arc<Shared>,
    /// The piece that was made before the head was sent.
    first: Option<Bytes>,
    /// The number of bytes that may follow, if the head has a `Content-Length`.
    left: Option<u64>,
    iterator: Option<Py<PyIterator>>,
    /// The iterable that the application has returned.
    iterable: Option<Py<PyAny>>,
    start: Py<StartResponse>,
    input: Option<Py<Input>>,
    /// The exception that the application has left after `write` was called.
    error: Option<PyErr>,
}

/// Calls the application. `job` is where pieces go; `None` on a blocking backend.
///
/// # Errors
/// The exception that the application has left.
pub(super) fn call(
    py: Python<'_>,
    shared: &Arc<Shared>,
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
    let mut items = Items {
        shared: shared.clone(),
        first: None,
        left: None,
        iterator: None,
        iterable: None,
        start,
        input,
        error: None,
    };
    let result = match shared.app.bind(py).call1((environ, &items.start)) {
        Ok(result) => result,
        Err(error) => return items.broken_off(py, error),
    };
    if let Some(list) = in_memory(&result)
        && !items.start.get().is_sent(py)
    {
        return items.whole(py, request, list).map(Called::Whole);
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
    let first = match (written.is_empty(), first) {
        (true, first) => first,
        (false, None) => Some(written),
        (false, Some(first)) => Some([written, first].concat().into()),
    };
    let Some(first) = first else {
        // The iterable was empty.
        check_length(request, &head, 0)?;
        items.close(py);
        return Ok(Called::Whole(head));
    };
    items.left = content_length(&head);
    items.first = Some(items.limited(first));
    Ok(Called::Streamed(Some(head), items))
}

/// The `Content-Length` that the application has set.
fn content_length(head: &Response) -> Option<u64> {
    head.header(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Checks that a body of `len` bytes is not shorter than the `Content-Length`. A response to HEAD, and one without
/// content, may have the length of another one (RFC 9110, 8.6).
fn check_length(request: &Request, head: &Response, len: u64) -> PyResult<()> {
    let has_none = matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_short = content_length(head).is_some_and(|length| length > len);
    match is_short && request.method() != Method::HEAD && !has_none {
        true => Err(PyRuntimeError::new_err("the response is shorter than its Content-Length")),
        false => Ok(()),
    }
}

/// The items of a list or a tuple, which has no `close()`.
fn in_memory<'a, 'py>(result: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, PyAny>> {
    (result.is_exact_instance_of::<PyList>() || result.is_exact_instance_of::<PyTuple>()).then_some(result)
}

impl Items {
    /// The response with a body that is a list.
    fn whole(&mut self, py: Python<'_>, request: &Request, list: &Bound<'_, PyAny>) -> PyResult<Response> {
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
        check_length(request, &response, body.len() as u64)?;
        self.left = content_length(&response);
        *response.body_mut() = Body::from(self.limited(body));
        Ok(response)
    }

    /// What follows from an exception: if `write` was called, its data is sent before the response is cut.
    fn broken_off(mut self, py: Python<'_>, error: PyErr) -> PyResult<Called> {
        if !self.start.get().has_written(py) {
            return Err(error);
        }
        match self.start.get().take_head(py) {
            Some((head, written)) => {
                (self.first, self.error) = (Some(written), Some(error));
                Ok(Called::Streamed(Some(head), self))
            }
            None => Err(error),
        }
    }

    /// The next piece that has bytes; `None` at the end.
    pub(super) fn next(&mut self, py: Python<'_>) -> PyResult<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let Some(iterator) = &self.iterator else { return Ok(None) };
        let mut iterator = iterator.bind(py).clone();
        loop {
            let Some(item) = iterator.next() else { return Ok(None) };
            let piece = bytes_of(&item?, "an item of the response")?;
            if piece.is_empty() {
                continue;
            }
            let piece = self.limited(piece);
            return Ok(Some(piece).filter(|piece| !piece.is_empty()));
        }
    }

    /// The part of a piece that the `Content-Length` of the head allows.
    fn limited(&mut self, mut piece: Bytes) -> Bytes {
        let Some(left) = &mut self.left else { return piece };
        let len = piece.len() as u64;
        if len > *left {
            log::error!("the response of the application is longer than its Content-Length");
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        }
        *left -= piece.len() as u64;
        piece
    }

    /// Takes the piece that was made before the head, if it has this length.
    pub(super) fn take_first_of(&mut self, length: Option<usize>) -> Option<Bytes> {
        self.first.take_if(|first| Some(first.len()) == length)
    }

    /// Logs the exception that ends a streamed response.
    pub(super) fn cut(&self, py: Python<'_>, request: &Request, error: &PyErr) {
        if asks_to_exit(py, error) {
            return self.shared.process.exit(py, error, &route(request));
        }
        let route = route(request);
        log_exception(py, &format!("an exception in a response of the application, for {route}"), error);
    }

    /// Calls `close()` of the iterable, and ends the input.
    pub(super) fn close(&mut self, py: Python<'_>) {
        self.iterator = None;
        if let Some(iterable) = self.iterable.take()
            && let Ok(Some(close)) = iterable.bind(py).getattr_opt(intern!(py, "close"))
            && let Err(error) = close.call0()
        {
            match asks_to_exit(py, &error) {
                true => self.shared.process.exit(py, &error, "close() of a response"),
                false => log_exception(py, "an exception in close() of a response", &error),
            }
        }
        if let Some(input) = self.input.take() {
            input.get().end();
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
        shared.process.exit(py, error, &route(request));
    } else if error.is_instance_of::<RequestBodyError>(py) {
        // The fault of the client.
        log::info!("{}: {}", route(request), error.value(py));
    } else if !error.is_instance_of::<ClientDisconnected>(py) {
        log_exception(py, &format!("an exception in the application, for {}", route(request)), error);
    }
    failed(status_of(py, error))
}

/// The method and the path of a request, for the log.
fn route(request: &Request) -> String {
    format!("{} {}", request.method(), request.path())
}
