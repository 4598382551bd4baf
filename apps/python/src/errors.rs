//! The exceptions that applications see, and the log lines for exceptions that they leave.

use gearshift::{BodyError, StatusCode};
use pyo3::create_exception;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PySystemExit};
use pyo3::prelude::*;

create_exception!(
    gearshift,
    RequestBodyError,
    PyOSError,
    "The body of a request cannot be read: it breaks a rule, it came too slowly, or the client has left. The attribute \
     `status` is the status of the response that says so: 400, 408 or 413."
);
create_exception!(
    gearshift,
    ClientDisconnected,
    PyOSError,
    "The client has left, and nothing more can be sent to it."
);

/// The exception for a body that cannot be read.
pub(crate) fn body_error(py: Python<'_>, error: &BodyError) -> PyErr {
    let raised = RequestBodyError::new_err(error.to_string());
    match raised.value(py).setattr("status", error.status().as_u16()) {
        Ok(()) => raised,
        Err(error) => error,
    }
}

/// The status of the response to a request whose application has raised `error`.
pub(crate) fn status_of(py: Python<'_>, error: &PyErr) -> StatusCode {
    let status = error.is_instance_of::<RequestBodyError>(py).then(|| error.value(py).getattr("status"));
    let status = status.and_then(|status| status.and_then(|status| status.extract::<u16>()).ok());
    status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Logs an exception that the application has left, with its traceback. `what` says where it was left.
pub(crate) fn log_exception(py: Python<'_>, what: &str, error: &PyErr) {
    log::error!("{what}:\n{}", traceback(py, error).trim_end());
}

/// Logs that the application asks for the end of the process, by `SystemExit` or `KeyboardInterrupt`. `what` says what
/// has raised it.
pub(crate) fn log_exit(py: Python<'_>, what: &str, error: &PyErr) {
    let place = || -> PyResult<String> {
        let frames = py.import("traceback")?.call_method1("extract_tb", (error.traceback(py),))?;
        let last = frames.get_item(frames.len()?.saturating_sub(1))?;
        Ok(format!(" at {}:{}", last.getattr("filename")?, last.getattr("lineno")?))
    };
    let shown = error.value(py).repr().map_or_else(|_| "an exception".to_owned(), |shown| shown.to_string());
    let place = place().unwrap_or_default();
    log::warn!("{what}: the application asks for the end of the process with {shown}{place}");
}

/// As `log_exit`, for the Python side.
#[pyfunction]
pub(crate) fn log_exit_of(py: Python<'_>, what: &str, error: Bound<'_, PyAny>) {
    log_exit(py, what, &PyErr::from_value(error));
}

/// Logs an error of the Python side.
#[pyfunction]
pub(crate) fn log_error(text: &str) {
    log::error!("{}", text.trim_end());
}

/// Logs a message of the Python side.
#[pyfunction]
pub(crate) fn log_info(text: &str) {
    log::info!("{text}");
}

/// The traceback of an exception, as Python prints it.
fn traceback(py: Python<'_>, error: &PyErr) -> String {
    let format = || -> PyResult<String> {
        let lines = py
            .import("traceback")?
            .call_method1("format_exception", (error.get_type(py), error.value(py), error.traceback(py)))?;
        Ok(lines.extract::<Vec<String>>()?.concat())
    };
    format().unwrap_or_else(|_| error.to_string())
}

/// Whether the exception asks for the end of the process.
pub(crate) fn asks_to_exit(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}
