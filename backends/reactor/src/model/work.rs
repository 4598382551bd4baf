//! What a task of a check runs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gearshift_core::{BoxFuture, Driving};

use crate::task::{Schedule, Task};
use crate::transport::ReactorTransport;

/// See the [module](self).
pub(crate) enum Work {
    #[allow(dead_code, reason = "a check accepts no connections")]
    Connection(Driving<ReactorTransport>),
    Acceptor(BoxFuture<()>),
    /// A connection whose handler is pending while the future is.
    Handler(BoxFuture<()>),
    Ended,
}

impl Work {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Work::Connection(driving) => Pin::new(driving).poll(cx),
            Work::Acceptor(future) | Work::Handler(future) => future.as_mut().poll(cx),
            Work::Ended => Poll::Ready(()),
        }
    }

    pub(crate) fn is_handling(&self) -> bool {
        matches!(self, Work::Handler(_))
    }
}

impl Task {
    /// Queues a task that leaves its thread while `future` is pending.
    pub fn start_idle(future: impl Future<Output = ()> + Send + 'static, schedule: &Arc<dyn Schedule>) {
        Task::start(Work::Acceptor(Box::pin(future)), schedule);
    }

    /// Queues a task that keeps its thread while `future` is pending.
    pub fn start_handler(future: impl Future<Output = ()> + Send + 'static, schedule: &Arc<dyn Schedule>) {
        Task::start(Work::Handler(Box::pin(future)), schedule);
    }
}
