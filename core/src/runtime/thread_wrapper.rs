//! Threads that need something for life: see [`ThreadWrapper`].

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What is around the life of each thread that calls the application, for
/// [`Config::thread_wrapper`](crate::Config::thread_wrapper): a value of another runtime that a thread needs for life.
/// Examples are the thread state of Python, the attachment of a thread to a Java virtual machine, and COM.
///
/// The wrapper is called on these threads:
///
/// * the threads of the backend that drive connections, accept them, or run background tasks. The threads of tokio's
///   work-stealing runtime and of async-std are those of the runtime, and have no wrapper;
/// * the threads of jobs ([`Runtime::blocking`](crate::Runtime::blocking), [`Runtime::compute`](crate::Runtime::compute)
///   and the handlers of these names), on every backend.
///
/// A handler that blocks therefore runs inside the wrapper on every backend, if it is a
/// [`blocking()`](crate::blocking()) one.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::sync::Arc;
/// use std::thread;
///
/// use gearshift::{Config, ThreadWrapper};
///
/// /// Tells the log about each thread.
/// #[derive(Debug)]
/// struct Announced;
///
/// impl ThreadWrapper for Announced {
///     fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
///         println!("{:?} begins", thread::current().name());
///         thread();
///         println!("{:?} ends", thread::current().name());
///     }
/// }
///
/// let mut config = Config::default();
/// config.thread_wrapper = Some(Arc::new(Announced));
/// ```
pub trait ThreadWrapper: fmt::Debug + Send + Sync + 'static {
    /// Runs a thread, on that thread. The call prepares the thread, calls `thread` once, which returns when the thread
    /// has nothing more to do, and releases what belongs to the thread. `thread` does not panic.
    ///
    /// A thread whose wrapper does not call `thread`, or panics, has failed: the server stops by force.
    fn run(&self, thread: Box<dyn FnOnce() + Send + '_>);

    /// The size of the stack of each thread in bytes. `None`, the default, is the default size of Rust.
    ///
    /// A language whose calls need more stack than those of Rust sets it:
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::ThreadWrapper;
    ///
    /// #[derive(Debug)]
    /// struct Deep;
    ///
    /// impl ThreadWrapper for Deep {
    ///     fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
    ///         thread();
    ///     }
    ///
    ///     fn stack_size(&self) -> Option<usize> {
    ///         Some(8 << 20)
    ///     }
    /// }
    ///
    /// assert_eq!(Deep.stack_size(), Some(8_388_608));
    /// ```
    fn stack_size(&self) -> Option<usize> {
        None
    }
}

/// Runs a thread inside a wrapper, if there is one.
///
/// # Errors
/// The error of the thread. The wrapper has not called it.
///
/// # Panics
/// The thread has panicked, or the wrapper.
pub(crate) fn run_in(
    wrapper: Option<&dyn ThreadWrapper>,
    thread: impl FnOnce() -> io::Result<()> + Send,
) -> io::Result<()> {
    let Some(wrapper) = wrapper else { return thread() };
    // The panic does not pass through the wrapper, which may have called it from another language.
    let mut ended: Option<Result<io::Result<()>, Box<dyn Any + Send>>> = None;
    wrapper.run(Box::new(|| ended = Some(catch_unwind(AssertUnwindSafe(thread)))));
    match ended {
        Some(Ok(ended)) => ended,
        Some(Err(panic)) => resume_unwind(panic),
        None => Err(io::Error::other("the wrapper of a thread has not called it")),
    }
}
