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
//! * [`Task`] and [`Background`] are what the two blocking backends share on top of that.

mod accept;
#[cfg(feature = "blocking")]
mod background;
mod connect;
mod handle;
#[cfg(feature = "nested")]
mod nested;
mod reactor;
#[cfg(target_os = "linux")]
mod shared_reactor;
mod slot;
#[cfg(feature = "blocking")]
mod task;
mod timers;
mod transport;

pub use accept::{Acceptor, accept};
#[cfg(feature = "blocking")]
pub use background::Background;
pub use handle::Handle;
#[cfg(feature = "nested")]
pub use nested::turn_forever;
pub use reactor::Reactor;
#[cfg(target_os = "linux")]
pub use shared_reactor::{SharedEvents, SharedReactor};
#[cfg(feature = "blocking")]
pub use task::{Schedule, Task};
pub use timers::Sleep;
pub use transport::ReactorTransport;

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

/// A panic while a lock was held leaves nothing half done here, so poison means nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets whatever else is ready have its turn.
async fn yield_now() {
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
