//! The life of a server: its listeners, how connections are accepted, and how a backend runs it.

pub(crate) mod accept;
pub mod backend;
pub mod latch;
pub mod lifecycle;
pub(crate) mod listener;
