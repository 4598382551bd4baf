//! What applications use: the router, kinds of handlers, JSON and forms, and refusals.

pub(crate) mod content;
pub(crate) mod handlers;
#[cfg(feature = "hyper")]
pub mod hyper;
pub(crate) mod refusal;
pub(crate) mod router;
