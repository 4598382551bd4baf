//! What a handler asks of its backend, and what every part of a server shares: settings, time, shutdown, counters.
//!
//! [`handle::Runtime`] is the handle that applications see; [`handle::Engine`] is what a backend implements below it.

pub(crate) mod body_reader;
pub mod clock;
pub mod config;
pub(crate) mod counters;
pub(crate) mod endpoint;
pub(crate) mod handle;
pub(crate) mod offload;
pub mod park;
pub(crate) mod pool;
pub(crate) mod scope;
pub mod shutdown;
pub(crate) mod socket_stream;
pub(crate) mod stall;
pub(crate) mod stats;
pub(crate) mod task;
#[cfg(feature = "pools")]
pub mod threads;
