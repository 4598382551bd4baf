//! `wsgi.errors`: what the application writes becomes lines of the log.

use std::sync::Mutex;

use pyo3::prelude::*;
use pyo3::sync::MutexExt;

/// The longest line in bytes. A longer one becomes several.
const MAX_LINE: usize = 8 * 1024;

/// A text stream whose lines are log lines with the level `error`.
#[pyclass(frozen, module = "gearshift")]
#[derive(Default)]
pub(crate) struct Errors {
    /// The beginning of a line.
    line: Mutex<String>,
}

#[pymethods]
impl Errors {
    fn write(&self, py: Python<'_>, text: &str) -> usize {
        let mut line = self.line.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner());
        for part in text.split_inclusive('\n') {
            line.push_str(part);
            if part.ends_with('\n') || line.len() >= MAX_LINE {
                log_line(&mut line);
            }
        }
        text.chars().count()
    }

    fn writelines(&self, py: Python<'_>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            self.write(py, line?.extract()?);
        }
        Ok(())
    }

    fn flush(&self, py: Python<'_>) {
        let mut line = self.line.lock_py_attached(py).unwrap_or_else(|poisoned| poisoned.into_inner());
        if !line.is_empty() {
            log_line(&mut line);
        }
    }
}

fn log_line(line: &mut String) {
    log::error!("{}", line.trim_end_matches(['\r', '\n']));
    line.clear();
}
