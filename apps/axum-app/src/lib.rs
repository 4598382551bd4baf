//! An ordinary application of axum: state, extractors, JSON, uploads, events, WebSockets, compression, static files,
//! request ids, CORS, timeouts. Its main program runs it on any backend of Gearshift.

mod app;
mod peer;

pub use app::app;
pub use peer::with_connect_info;
