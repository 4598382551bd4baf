//! The span in which code works, for the code that it starts elsewhere.

use std::future::Future;

use tracing::{Instrument, Span};

/// The same future, polled and dropped inside of the current span.
pub(crate) fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    future.instrument(Span::current())
}

/// The same job, run inside of the current span.
pub(crate) fn carry_job<R, F: FnOnce() -> R>(job: F) -> impl FnOnce() -> R + use<R, F> {
    let span = Span::current();
    move || span.in_scope(job)
}
