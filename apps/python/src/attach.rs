//! The Python state of a thread.
//!
//! Python keeps a state for each thread that calls it. Without a wrapper the state would begin and end with each
//! request, and with it all values of `threading.local`, such as the connections of a database.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use gearshift::ThreadWrapper;
use pyo3::prelude::*;

/// The size of the stack of a thread in bytes: the usual one of the threads that Python starts. A recursion in Python
/// that ends with `RecursionError` there would overflow the stack of a thread of Rust.
const STACK_SIZE: usize = 8 << 20;

/// The number of threads of the server that may call Python.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Whether threads of the server may still call Python, such as one that runs a request which has not ended in time.
/// The end of the interpreter would abort the process: it ends such a thread inside its Rust functions.
#[pyfunction]
pub(crate) fn has_threads() -> bool {
    THREADS.load(Ordering::SeqCst) > 0
}

/// A thread that may call Python, until it is dropped.
pub(crate) struct Counted(());

impl Counted {
    pub(crate) fn new() -> Counted {
        THREADS.fetch_add(1, Ordering::SeqCst);
        Counted(())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives this thread the name that it has in the system also in Python, for `threading.current_thread()`.
///
/// The module `threading` then knows the thread. Before Python 3.12.2, a process that such a thread forks with
/// `multiprocessing` fails at its end (CPython issue 102512). Those versions therefore do not get the name.
fn name_thread(py: Python<'_>) -> PyResult<()> {
    let thread = thread::current();
    match thread.name() {
        Some(name) if py.version_info() >= (3, 12, 2) => {
            py.import("threading")?.call_method0("current_thread")?.setattr("name", name)
        }
        _ => Ok(()),
    }
}

/// Gives a thread its Python state for as long as it runs. The thread holds the GIL only while it calls Python.
#[derive(Debug)]
pub(crate) struct KeepAttached;

impl ThreadWrapper for KeepAttached {
    fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
        let _counted = Counted::new();
        let mut thread = Some(thread);
        let attached = Python::try_attach(|py| {
            if let Err(error) = name_thread(py) {
                crate::errors::log_exception(py, "a thread of the server has no name in Python", &error);
            }
            py.detach(|| thread.take().into_iter().for_each(|run| run()));
        });
        // Without an interpreter there is nothing to keep.
        if attached.is_none() {
            thread.into_iter().for_each(|run| run());
        }
    }

    fn stack_size(&self) -> Option<usize> {
        Some(STACK_SIZE)
    }
}
