//! A thread that may block: how it says so, and how it drives a connection.

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gearshift_core::{Drive, Service, Wire, drive};

use crate::transport::BlockingTransport;

thread_local! {
    static WORKERS: Cell<usize> = const { Cell::new(0) };
}

/// Marks the calling thread as one that drives connections and may block, for as long as this lives: work that a
/// handler offloads runs in place on it.
#[derive(Debug)]
#[must_use = "the mark is taken off when this is dropped"]
pub struct Worker {
    /// The mark is on the thread, so it has to be taken off there.
    _not_send: PhantomData<*const ()>,
}

impl Worker {
    /// Marks the calling thread.
    pub fn mark() -> Worker {
        WORKERS.set(WORKERS.get() + 1);
        Worker { _not_send: PhantomData }
    }

    /// Whether the calling thread is marked.
    pub fn is_marked() -> bool {
        WORKERS.get() != 0
    }

    /// Drives a connection on this thread until it is idle, or has ended. A panic, which can only be a fault of the
    /// server's as the driver catches those of handlers, ends the connection alone.
    pub fn drive(&self, wire: Wire<BlockingTransport>, service: &Arc<Service>) -> Drive<BlockingTransport> {
        let driving = AssertUnwindSafe(|| finish(drive(wire, service.clone())));
        catch_unwind(driving).unwrap_or_else(|_| {
            log::error!("a connection was lost to a panic outside its handler");
            Drive::Closed
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        WORKERS.set(WORKERS.get() - 1);
    }
}

/// Runs `future` to its end on the calling thread.
///
/// Driving a connection with sync handlers never waits, so that it is ready when first polled, and costs nothing
/// more. Only a future that waits goes on in `async_io::block_on`, which watches its timers and sockets from this
/// very thread.
fn finish<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => async_io::block_on(future),
    }
}
