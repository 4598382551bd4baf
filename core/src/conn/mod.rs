//! The life of one connection: the driver joins a transport, the HTTP/1.1 state and a handler.

pub(crate) mod access;
pub(crate) mod after;
pub(crate) mod cancel;
pub(crate) mod client;
pub(crate) mod context;
pub(crate) mod deadlines;
pub(crate) mod driver;
pub(crate) mod exchange;
pub(crate) mod handler;
pub(crate) mod io;
pub(crate) mod lease;
pub(crate) mod liveness;
pub(crate) mod min_rate;
pub(crate) mod service;
pub(crate) mod tally;
pub mod transport;
pub(crate) mod upgraded;
