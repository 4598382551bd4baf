//! The services of a backend to a handler: timers, tasks, offloaded work, outgoing connections; and the state that all
//! parts of a server share: settings, clock, shutdown, counters.
//!
//! Applications use [`handle::Runtime`]. A backend implements [`handle::Engine`].

pub(crate) mod access_log;
pub(crate) mod body_reader;
pub mod clock;
pub mod config;
pub(crate) mod connect;
pub(crate) mod contained;
pub(crate) mod counters;
pub(crate) mod endpoint;
pub(crate) mod handle;
pub(crate) mod histograms;
#[cfg(feature = "http2")]
pub(crate) mod http2_config;
#[cfg(feature = "pools")]
pub(crate) mod job_threads;
pub mod latch;
pub(crate) mod lookup;
#[cfg(all(test, gearshift_model))]
mod model_checks;
pub(crate) mod networks;
#[cfg(not(feature = "http2"))]
pub(crate) mod no_http2_config;
#[cfg(not(feature = "tls"))]
pub(crate) mod no_tls_config;
pub(crate) mod offload;
pub mod park;
pub(crate) mod pool;
pub(crate) mod scope;
pub mod shutdown;
pub(crate) mod stall;
pub(crate) mod starter;
pub(crate) mod stats;
pub mod sync;
pub(crate) mod task;
pub(crate) mod thread_wrapper;
#[cfg(feature = "pools")]
pub mod threads;
#[cfg(feature = "tls")]
pub(crate) mod tls_config;
