//! The types that applications use: the router, kinds of handlers, JSON and forms, cookies, refusals, long streams, and
//! adapters.

pub(crate) mod app;
mod content;
#[cfg(feature = "cookies")]
mod cookies;
pub mod handlers;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod middleware;
#[cfg(feature = "multipart")]
pub(crate) mod multipart;
pub(crate) mod refusal;
pub(crate) mod router;
pub mod sse;
mod state;
#[cfg(feature = "tower")]
pub mod tower;
#[cfg(feature = "ws")]
pub mod ws;
