//! HTTP/1.1 without I/O (RFC 9110, RFC 9112): what bytes mean, and which bytes answer.
//!
//! Nothing here owns a socket, reads a clock, spawns a task, knows of a shutdown or of the peer's address.

pub(crate) mod body;
mod chunked;
pub(crate) mod connection;
mod date;
mod encode;
pub(crate) mod error;
pub(crate) mod fields;
mod framing;
mod head;
pub(crate) mod into_response;
pub(crate) mod limits;
mod line;
mod memo;
pub(crate) mod params;
pub(crate) mod read_buffer;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod stream;
mod target;
pub mod write_queue;

use std::future::Future;
use std::pin::Pin;

/// A boxed future that can move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
