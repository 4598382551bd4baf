//! What gearshift's two blocking backends share: everything around a thread that may wait.
//!
//! A blocking backend keeps idle connections in a poller, where they cost a descriptor and no thread, and gives a
//! thread to a connection only once bytes have arrived on it. That thread then drives it with
//! [`BlockingTransport`], which waits inside its reads and writes, until the connection is idle again.
//!
//! This crate has the parts of that which are the same on one thread and on many: the transport, the engine
//! behind `Runtime`, the poller with the listeners, the table of connections, the deadlines of the parked ones,
//! and the end of a server. What a backend adds is who drives a connection that has news.

mod connections;
mod deadlines;
mod door;
mod grace;
mod poller;
mod pulse;
mod runtime;
mod serve;
mod transport;
mod worker;

pub use connections::Connections;
pub use deadlines::Deadlines;
pub use door::Door;
pub use grace::Grace;
pub use poller::{News, Poller};
pub use pulse::Pulse;
pub use runtime::BlockingEngine;
pub use serve::{Opened, serve};
pub use transport::{BlockingTransport, Ground};
pub use worker::Worker;
