//! Edge-triggered readiness and timers for gearshift's event loops, and the transport that uses them.
//!
//! A socket is registered once, for reading and writing. The reactor keeps the readiness that the system reports as
//! bits in the socket's slot, and a read or a write looks at these bits first. A request therefore costs one receive
//! and one send, and the wait is one system call for all connections that became ready together. A reactor that
//! registers a socket again for each wait, as async-io does, needs one more call for each request.
//!
//! * [`Reactor`] collects events for one thread, which calls [`Reactor::turn`] or [`Reactor::block_on`].
//! * `SharedReactor` collects events for several threads, which wait in it at once. Linux only.
//! * [`Handle`] registers sockets and timers with either reactor, from any thread.
//! * [`ReactorTransport`] is a connection, [`Acceptor`] a listener, [`Sleep`] a timer.
//! * [`Workers`] is the list of a server's event loops.
//! * [`supervise()`] runs a server from the start of its application to the end of its last connection. It waits
//!   with [`Latch`] and [`park`] for what runs on other threads.

mod accept;
mod connect;
mod handle;
mod latch;
pub mod park;
mod reactor;
#[cfg(target_os = "linux")]
mod shared_reactor;
mod slot;
mod supervise;
mod timers;
mod transport;
mod workers;

pub use accept::Acceptor;
pub use handle::Handle;
pub use latch::{Guard, Latch};
pub use reactor::Reactor;
#[cfg(target_os = "linux")]
pub use shared_reactor::{SharedEvents, SharedReactor};
pub use supervise::{LAST_WAIT, supervise};
pub use timers::Sleep;
pub use transport::ReactorTransport;
pub use workers::{Worker, Workers, share};

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// Locks a mutex whose data is complete even after a panic under the lock, so that poison has no meaning.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the other tasks that are ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
