//! The core of [gearshift](https://docs.rs/gearshift): an HTTP/1.1 server whose concurrency model is a gear you
//! shift.
//!
//! Data flows one way: bytes, [`h1::Connection`], [`Request`], [`Handler`], [`Response`], `h1::Connection`, bytes.
//! Three seams let a backend put its own concurrency model under that: [`transport`], [`runtime`] and [`backend`].
//! [`drive()`] joins them, and is written once.

mod accept;
mod access;
mod after;
pub mod backend;
mod block;
mod cancel;
pub mod clock;
pub mod config;
mod counters;
pub mod drive;
mod event_loop;
mod exchange;
pub mod h1;
pub mod handler;
#[cfg(feature = "hyper")]
pub mod hyper;
pub mod inbox;
mod io;
mod lease;
mod message;
pub mod net;
mod offload;
pub mod outbox;
mod pace;
mod pool;
mod refusal;
mod respond;
mod router;
pub mod runtime;
mod scope;
pub mod service;
pub mod shutdown;
mod stall;
mod stats;
mod stream;
mod tally;
mod task;
#[cfg(feature = "pools")]
pub mod threads;
pub mod transport;

use std::future::Future;
use std::pin::Pin;

pub use backend::{App, Backend, Report, ServeError, Server};
pub use bytes::Bytes;
pub use cancel::CancelToken;
pub use config::{Config, Limits, OnDisconnect, Overload};
pub use drive::{Drive, Driving, Wire, drive};
pub use handler::{Answer, Handler, blocking, compute, metrics, on_disconnect, sync};
pub use http::{self, HeaderName, HeaderValue, Method, StatusCode, Version, header};
pub use inbox::Inbox;
pub use message::{
    Body, BodyError, BodyReader, ContentError, Fields, FieldsIter, HeadTooLarge, ParamError, Request,
    Response,
};
pub use net::{Bind, Endpoint, Listener, Peer};
pub use offload::{Job, Offloaded, TryOffloaded};
pub use outbox::Outbox;
pub use pool::Busy;
pub use refusal::Refusal;
pub use respond::IntoResponse;
#[cfg(feature = "json")]
pub use respond::Json;
pub use router::Router;
pub use runtime::{Elapsed, Engine, Runtime, Vitals, Work};
pub use scope::Scope;
pub use service::Service;
pub use shutdown::{Phase, Shutdown};
pub use stats::{PoolStats, Stats};
pub use stream::Stream;
pub use task::{Task, TaskError};
pub use transport::{Look, Lookout, Transport};

/// A boxed future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
