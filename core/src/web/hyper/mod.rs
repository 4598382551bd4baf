//! Adapters for [hyper](https://docs.rs/hyper) and the pooled client of
//! [hyper-util](https://docs.rs/hyper-util), on every backend.
//!
//! hyper knows no runtime. Its traits ask for four things, and this module provides each of them on a
//! [`Runtime`](crate::Runtime):
//!
//! | hyper asks for | adapter |
//! | --- | --- |
//! | [`hyper::rt::Executor`], to drive connections in the background | [`Executor`] |
//! | [`hyper::rt::Timer`], to close connections that are idle for too long | [`Timer`] |
//! | [`hyper::rt::Read`] and [`hyper::rt::Write`] | [`Io`], around a [`Stream`](crate::Stream) |
//! | `tower_service::Service<Uri>`, to connect | [`Connector`] |
//!
//! Together they make a pooled client:
//!
//! ```
//! # extern crate gearshift_core as gearshift;
//! use std::time::Duration;
//!
//! use gearshift::hyper::{Connector, Executor, Timer};
//! use gearshift::{Bytes, Runtime};
//! use http_body_util::Empty;
//! use hyper_util::client::legacy::Client;
//!
//! fn client(runtime: &Runtime) -> Client<Connector, Empty<Bytes>> {
//!     Client::builder(Executor::new(runtime))
//!         .pool_timer(Timer::new(runtime))
//!         .pool_idle_timeout(Duration::from_secs(30))
//!         .build(Connector::new(runtime).max_connections(64))
//! }
//! # drop(client);
//! ```
//!
//! The client has no deadline for a request; [`Runtime::timeout`](crate::Runtime::timeout) adds one. A request whose
//! future is dropped closes its connection.
//!
//! hyper-util sends a request again if the connection closed before any byte of the request was written. It does not
//! send a request again that was written, because it may have been processed. [`ConnectionInfo`] tells whether such a
//! request can be repeated under RFC 9112, section 9.3.1.
//!
//! [`hyper::rt::Executor`]: ::hyper::rt::Executor
//! [`hyper::rt::Timer`]: ::hyper::rt::Timer
//! [`hyper::rt::Read`]: ::hyper::rt::Read
//! [`hyper::rt::Write`]: ::hyper::rt::Write

mod connector;
mod io;
mod runtime;

pub use connector::Connector;
pub use io::{ConnectionInfo, Io};
pub use runtime::{Executor, Timer};
