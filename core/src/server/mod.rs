//! The life of a server: listeners, the accept policy, and the lifecycle from start to stop.

pub(crate) mod accept;
pub mod backend;
pub mod inherited;
pub mod lifecycle;
pub(crate) mod listener;
mod unix_socket;
