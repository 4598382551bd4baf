//! The Python state of a thread.
//!
//! Python keeps a state for each thread that calls it. Without a wrapper the state would begin and end with each
//! request, and with it all values of `threading.local`, such as the connections of a database.

use gearshift::ThreadWrapper;
use pyo3::prelude::*;

/// The size of the stack of a thread in bytes: the usual one of the threads that Python starts. A recursion in Python
/// that ends with `RecursionError` there would overflow the stack of a thread of Rust.
const STACK_SIZE: usize = 8 << 20;

/// Gives a thread its Python state for as long as it runs. The thread holds the GIL only while it calls Python.
#[derive(Debug)]
pub(crate) struct KeepAttached;

impl ThreadWrapper for KeepAttached {
    fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
        let mut thread = Some(thread);
        let attached = Python::try_attach(|py| py.detach(|| thread.take().into_iter().for_each(|run| run())));
        // Without an interpreter there is nothing to keep.
        if attached.is_none() {
            thread.into_iter().for_each(|run| run());
        }
    }

    fn stack_size(&self) -> Option<usize> {
        Some(STACK_SIZE)
    }
}
