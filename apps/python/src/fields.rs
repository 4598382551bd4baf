//! Header fields and paths as Python values, and back.

use std::borrow::Cow;

use bytes::Bytes;
use gearshift::{HeaderName, HeaderValue, Response};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView, PyString};

/// The string of the bytes in ISO 8859-1, as WSGI has them (PEP 3333, "Unicode Issues").
pub(crate) fn latin_1<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => PyString::new(py, text),
        _ => PyString::new(py, &bytes.iter().map(|byte| char::from(*byte)).collect::<String>()),
    }
}

/// The bytes of a string in ISO 8859-1. `None` if a character is not in it.
pub(crate) fn to_latin_1(text: &str) -> Option<Cow<'_, [u8]>> {
    if text.is_ascii() {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>().map(Cow::Owned)
}

/// The path without percent-encoding.
pub(crate) fn decoded(path: &str) -> Cow<'_, [u8]> {
    match path.as_bytes().contains(&b'%') {
        false => Cow::Borrowed(path.as_bytes()),
        true => percent_encoding::percent_decode_str(path).into(),
    }
}

/// Adds a field of an application to its response. The server writes the framing of the message, so the fields that
/// describe it to the next hop are left out.
///
/// # Errors
/// `ValueError` for a name or a value that is not allowed (RFC 9110, 5).
pub(crate) fn add_field(response: &mut Response, name: &[u8], value: &[u8]) -> PyResult<()> {
    let name = HeaderName::from_bytes(name)
        .map_err(|_| PyValueError::new_err(format!("{:?} is not the name of a field", text_of(name))))?;
    let value = HeaderValue::from_bytes(trimmed(value)).map_err(|_| {
        PyValueError::new_err(format!(
            "the value of {name} has characters that are not allowed: {:?}",
            text_of(value)
        ))
    })?;
    if !is_hop_by_hop(&name) {
        let without = Response::status_only(response.status());
        *response = std::mem::replace(response, without).append_header(name, value);
    }
    Ok(())
}

/// The value without the white space around it, which is not a part of it (RFC 9110, 5.5).
fn trimmed(value: &[u8]) -> &[u8] {
    let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(is_content) else { return &[] };
    let end = value.iter().rposition(is_content).map_or(start, |last| last + 1);
    &value[start..end]
}

fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// Whether a field is for the next hop alone. `Connection` stays, because `close` closes the connection.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(name.as_str(), "transfer-encoding" | "keep-alive" | "te" | "proxy-connection" | "upgrade")
}

/// The bytes of a message: `bytes`, or a `bytearray` or `memoryview`, which is copied.
///
/// # Errors
/// `TypeError`, which names `what`.
pub(crate) fn with_bytes<R>(
    value: &Bound<'_, PyAny>,
    what: &str,
    use_bytes: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(use_bytes(bytes.as_bytes()));
    }
    if value.is_instance_of::<PyByteArray>() || value.is_instance_of::<PyMemoryView>() {
        let bytes = value.py().get_type::<PyBytes>().call1((value,))?.cast_into::<PyBytes>()?;
        return Ok(use_bytes(bytes.as_bytes()));
    }
    Err(PyTypeError::new_err(format!("{what} must be bytes, not {}", type_name(value))))
}

/// The name of the type of a value, for messages.
pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// Bytes from which a message refers to the memory of Python instead of a copy.
const MIN_SHARED: usize = 16 * 1024;

/// The bytes of a message, as [`with_bytes`] has them. The memory of large ones is shared with Python.
///
/// # Errors
/// As [`with_bytes`].
pub(crate) fn bytes_of(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Bytes> {
    match value.cast::<PyBytes>() {
        Ok(bytes) if bytes.as_bytes().len() >= MIN_SHARED => {
            Ok(Bytes::from_owner(PyBackedBytes::from(bytes.clone())))
        }
        _ => with_bytes(value, what, Bytes::copy_from_slice),
    }
}
