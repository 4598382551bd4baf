//! What `receive` and `send` return: an awaitable that is ready, or a future of asyncio.

use std::sync::Mutex;

use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::{MutexExt, PyOnceLock};

/// An awaitable that is ready, so that `await` does not return to the loop.
#[pyclass(frozen, module = "gearshift")]
pub(crate) struct Ready(Mutex<Option<Py<PyAny>>>);

#[pymethods]
impl Ready {
    fn __await__(this: Py<Ready>) -> Py<Ready> {
        this
    }

    fn __iter__(this: Py<Ready>) -> Py<Ready> {
        this
    }

    /// Ends at once, with the value.
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let value = self.0.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        value.map_or(Ok(None), |value| Err(PyStopIteration::new_err((value,))))
    }
}

/// An awaitable of a value.
pub(crate) fn ready(py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
    Ok(Py::new(py, Ready(Mutex::new(Some(value))))?.into_any())
}

/// An awaitable of `None`.
pub(crate) fn done(py: Python<'_>) -> PyResult<Py<PyAny>> {
    static DONE: PyOnceLock<Py<Ready>> = PyOnceLock::new();
    let done = DONE.get_or_try_init(py, || Py::new(py, Ready(Mutex::new(None))))?;
    Ok(done.clone_ref(py).into_any())
}

/// Sets the result of a future, unless it was cancelled.
pub(crate) fn resolve(future: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) {
    let py = future.py();
    let set = || -> PyResult<()> {
        if is_done(future)? {
            return Ok(());
        }
        match result {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))?,
        };
        Ok(())
    };
    if let Err(error) = set() {
        crate::errors::log_exception(py, "an exception in a wait of the application", &error);
    }
}

/// Whether a future is done or was cancelled.
pub(crate) fn is_done(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    future.call_method0(intern!(future.py(), "done"))?.extract()
}
