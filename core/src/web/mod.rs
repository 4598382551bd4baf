//! The types that applications use: the router, kinds of handlers, JSON and forms, refusals, and the hyper adapters.

pub(crate) mod content;
pub(crate) mod handlers;
#[cfg(feature = "hyper")]
pub mod hyper;
pub(crate) mod refusal;
pub(crate) mod router;
