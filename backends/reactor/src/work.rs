//! What a task of a blocking backend runs.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use gearshift_core::{BoxFuture, Driving};

use crate::transport::ReactorTransport;

/// See the [module](self).
pub(crate) enum Work {
    Connection(Driving<ReactorTransport>),
    Acceptor(BoxFuture<()>),
    Ended,
}

impl Work {
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Work::Connection(driving) => Pin::new(driving).poll(cx),
            Work::Acceptor(future) => future.as_mut().poll(cx),
            Work::Ended => Poll::Ready(()),
        }
    }

    /// Whether the thread of the task waits for a handler while the task is pending.
    pub(crate) fn is_handling(&self) -> bool {
        matches!(self, Work::Connection(driving) if driving.is_handling())
    }
}
