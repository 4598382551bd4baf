//! The counterpart of `span` without the feature `tracing`: there are no spans.

/// Returns the future.
#[inline]
pub(crate) fn carry<F>(future: F) -> F {
    future
}

/// Returns the job.
#[inline]
pub(crate) fn carry_job<F>(job: F) -> F {
    job
}
