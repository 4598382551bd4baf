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
//! * [`accept()`] accepts connections, [`ReactorTransport`] is one, and [`Sleep`] is a timer.
//! * [`EventLoops`] has the threads and the engine of a backend with event loops.
//! * `Task` and `Background` are what the two blocking backends share. They need the feature `blocking`.

mod accept;
#[cfg(feature = "blocking")]
mod background;
mod event_loops;
mod handle;
#[cfg(gearshift_model)]
mod model;
#[cfg(all(test, gearshift_model, feature = "blocking"))]
mod model_checks;
mod reactor;
#[cfg(target_os = "linux")]
mod shared_reactor;
mod slot;
#[cfg(all(target_os = "linux", not(gearshift_model)))]
mod system_timer;
#[cfg(feature = "blocking")]
mod task;
#[cfg(all(test, not(gearshift_model)))]
mod testing;
mod timers;
mod transport;
#[cfg(all(feature = "blocking", not(gearshift_model)))]
mod work;

pub use accept::accept;
#[cfg(feature = "blocking")]
pub use background::Background;
pub use event_loops::{EventLoop, EventLoops};
pub use handle::Handle;
pub use reactor::Reactor;
#[cfg(target_os = "linux")]
pub use shared_reactor::{SharedEvents, SharedReactor};
#[cfg(feature = "blocking")]
pub use task::{Schedule, Task};
pub use timers::Sleep;
pub use transport::ReactorTransport;
