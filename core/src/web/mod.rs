//! The types that applications use: the router, kinds of handlers, JSON and forms, refusals, long streams, and
//! the hyper adapters.

pub(crate) mod app;
#[cfg(any(feature = "json", feature = "form"))]
mod content;
pub(crate) mod handlers;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod middleware;
pub(crate) mod refusal;
pub(crate) mod router;
pub mod sse;
mod state;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "ws")]
pub mod ws;
