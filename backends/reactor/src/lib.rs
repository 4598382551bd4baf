//! Edge-triggered readiness for gearshift's event loops, and the transport on it.
//!
//! A socket is registered once, for reading and writing, and never again: what the system then reports is kept as
//! bits in the connection's own slot, and reading or writing looks at the bits. So a request costs one read and
//! one write; the wait for readiness is one system call for all connections that became ready together.
//! Registering anew for each wait, as async-io does it, would cost one more for each request, and that is why the
//! smol and async-std backends share this crate with the mio backend.
//!
//! * [`Reactor`] collects what the system reports; one thread or task owns it and calls [`Reactor::turn`].
//! * [`Handle`] registers sockets with it, from any thread.
//! * [`ReactorTransport`] is a connection, [`Acceptor`] a listener.
//! * [`supervise()`] takes a server through its life, from the start of its application to its last connection,
//!   with [`Latch`] and [`park`] to wait for what runs elsewhere.

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
