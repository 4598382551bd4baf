//! The messages of HTTP: those that `send` is called with as Rust values, and those that `receive` returns.

use std::cmp::Ordering;
use std::path::PathBuf;

use bytes::Bytes;
use gearshift::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use pyo3::exceptions::{PyKeyError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::fields::{add_field, bytes_of, type_name, with_bytes};

/// A message that `send` is called with.
pub(super) enum Message {
    /// `http.response.start`. The flag is whether trailers follow the body.
    Start(Response, bool),
    /// `http.response.body`. The flag is whether more of the body follows.
    Body(Bytes, bool),
    /// `http.response.trailers`. The flag is whether more trailers follow.
    Trailers(HeaderMap, bool),
    /// `http.response.pathsend`.
    PathSend(PathBuf),
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// `TypeError`, `KeyError` or `ValueError`, which say what is wrong with it.
    pub(super) fn read(message: &Bound<'_, PyDict>) -> PyResult<Message> {
        let py = message.py();
        let kind = required(message, intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        match kind {
            "http.response.start" => {
                Ok(Message::Start(head(message)?, flag(message, intern!(py, "trailers"))?))
            }
            "http.response.body" => {
                let body = match message.get_item(intern!(py, "body"))? {
                    Some(body) => bytes_of(&body, "the body of a message")?,
                    None => Bytes::new(),
                };
                Ok(Message::Body(body, flag(message, intern!(py, "more_body"))?))
            }
            "http.response.trailers" => {
                let mut trailers = HeaderMap::new();
                for_each_field(message, |name, value| {
                    let field = HeaderName::from_bytes(name).ok().zip(HeaderValue::from_bytes(value).ok());
                    let (name, value) = field.ok_or_else(|| {
                        PyValueError::new_err(format!("{:?} is not a trailer", String::from_utf8_lossy(name)))
                    })?;
                    trailers.append(name, value);
                    Ok(())
                })?;
                Ok(Message::Trailers(trailers, flag(message, intern!(py, "more_trailers"))?))
            }
            "http.response.pathsend" => {
                Ok(Message::PathSend(required(message, intern!(py, "path"))?.extract()?))
            }
            _ => Err(PyValueError::new_err(format!("a response has no message {kind:?}"))),
        }
    }
}

/// Checks that a response with this body has the length of its field `Content-Length`, if it has the field.
///
/// # Errors
/// `RuntimeError`, as uvicorn raises it.
pub(super) fn check_length(head: &Response, body: &[u8]) -> PyResult<()> {
    let field = head.header(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let relation = match field.map(|length: usize| body.len().cmp(&length)) {
        None | Some(Ordering::Equal) => return Ok(()),
        Some(Ordering::Less) => "shorter",
        Some(Ordering::Greater) => "longer",
    };
    Err(PyRuntimeError::new_err(format!("the body of the response is {relation} than its Content-Length")))
}

/// The head of a response, of the keys `status` and `headers`.
pub(super) fn head(message: &Bound<'_, PyDict>) -> PyResult<Response> {
    let status = required(message, intern!(message.py(), "status"))?.extract()?;
    let status = StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 200);
    let status = status
        .ok_or_else(|| PyValueError::new_err("the status of a response is a number from 200 to 999"))?;
    let mut response = Response::status_only(status);
    for_each_field(message, |name, value| add_field(&mut response, name, value))?;
    Ok(response)
}

/// A key that a message must have.
pub(super) fn required<'py>(
    message: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    message.get_item(key)?.ok_or_else(|| PyKeyError::new_err(key.clone().unbind()))
}

/// A truth value; false if it is missing.
pub(super) fn flag(message: &Bound<'_, PyDict>, key: &Bound<'_, PyString>) -> PyResult<bool> {
    message.get_item(key)?.map_or(Ok(false), |value| value.is_truthy())
}

/// Calls `take` with the names and the values of the key `headers`.
pub(super) fn for_each_field(
    message: &Bound<'_, PyDict>,
    mut take: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    const WHAT: &str = "the name and the value of a header";
    let Some(fields) = message.get_item(intern!(message.py(), "headers"))? else { return Ok(()) };
    for field in fields.try_iter()? {
        let field = field?;
        let (name, value) = if let Ok(field) = field.cast::<PyTuple>() {
            (field.get_item(0)?, field.get_item(1)?)
        } else if let Ok(field) = field.cast::<PyList>() {
            (field.get_item(0)?, field.get_item(1)?)
        } else if let Ok(pair) = field.extract() {
            pair
        } else {
            return Err(PyTypeError::new_err(format!("a header must be a pair, not {}", type_name(&field))));
        };
        with_bytes(&name, WHAT, |name| with_bytes(&value, WHAT, |value| take(name, value)))???;
    }
    Ok(())
}

/// `http.request`.
pub(super) fn request(py: Python<'_>, body: &[u8], more_body: bool) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.request"))?;
    message.set_item(intern!(py, "body"), PyBytes::new(py, body))?;
    message.set_item(intern!(py, "more_body"), PyBool::new(py, more_body))?;
    Ok(message.into_any().unbind())
}

/// `http.disconnect`.
pub(super) fn disconnect(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
    Ok(message.into_any().unbind())
}
