//! HTTP/1.1 without I/O (RFC 9110, RFC 9112): parsing of requests, encoding of responses, and the message types.
//!
//! No module here owns a socket, reads a clock, spawns a task, or knows about shutdown or the peer's address.

pub(crate) mod body;
pub(crate) mod body_error;
mod chunked;
pub(crate) mod connection;
pub(crate) mod encode;
pub(crate) mod error;
pub(crate) mod fields;
pub(crate) mod forwarded;
pub(crate) mod framing;
mod head;
pub(crate) mod into_response;
pub(crate) mod limits;
mod memo;
#[cfg(not(feature = "tracing"))]
mod no_span;
mod offer;
pub(crate) mod proxy_header;
pub(crate) mod read_buffer;
pub(crate) mod request;
mod request_body;
pub(crate) mod request_parts;
pub(crate) mod response;
pub(crate) mod response_state;
mod scan;
#[cfg(feature = "tracing")]
mod span;
pub(crate) mod stream;
pub(crate) mod target;
#[cfg(feature = "tracing")]
pub(crate) mod trace_context;
pub(crate) mod trailers;
pub(crate) mod write_queue;

use std::future::Future;
use std::pin::Pin;

#[cfg(not(feature = "tracing"))]
pub(crate) use no_span::{carry, carry_job};
#[cfg(feature = "tracing")]
pub(crate) use span::{carry, carry_job};

/// A boxed future that can be sent to another thread.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::BoxFuture;
///
/// fn answer() -> BoxFuture<u32> {
///     Box::pin(async { 42 })
/// }
/// # drop(answer);
/// ```
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A boxed error of any type.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{BoxError, Request};
///
/// /// An error of the handler is logged, and the response is 500.
/// async fn motd(request: Request) -> Result<String, BoxError> {
///     let text = request.runtime().blocking(|| std::fs::read_to_string("/etc/motd")).await?;
///     Ok(text.trim().to_owned())
/// }
/// # drop(motd);
/// ```
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
