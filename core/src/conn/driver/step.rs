//! The steps of a connection.
//!
//! | step | waits for | next step |
//! | --- | --- | --- |
//! | `ProxyHeader` | the header of the PROXY protocol; the first step of a connection that has one | `Next`; the end |
//! | `Next` | nothing: takes the next event of the [`Connection`](crate::h1::Connection) | any step but `ProxyHeader`, `Linger` and `Detached`; `Http2`, if the first bytes are its preface; the end, if the peer has left |
//! | `Prepare` | the reply to a probe of the peer, and the rest of a small body, on blocking backends | as for a request in `Next`; the end |
//! | `Handle` | the future of a handler | `Next`, `Exchange` or `Flush`; the end or `Detached`, if the peer has left |
//! | `Exchange` | pieces of a streamed response, the peer that receives them, and the rest of a request before an upgrade | `Next` or `Flush`; the end, also by an upgrade |
//! | `Flush` | the peer to receive the queued bytes | `Next`, `Read`, `Linger`, or the end |
//! | `Read` | bytes of the peer | `Next`, `Flush`, or the end |
//! | `Linger` | the peer to close after the last response | the end |
//! | `Http2` | the requests of a peer that speaks HTTP/2, with their handlers and responses; see `http2` | the end |
//! | `Detached` | a handler whose peer has left, on a blocking backend; the connection is closed | the end |

use crate::conn::exchange::Exchanged;
use crate::conn::io::Closed;
use crate::conn::maybe_http2::Http2;
use crate::proto::BoxFuture;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// What the connection does now; see the table in the [module](self).
pub(super) enum Step<T> {
    Next,
    Flush(AfterFlush),
    Read,
    /// The timer ends when the system of a closed peer would have answered the probe.
    Prepare(Request, Option<BoxFuture<()>>),
    /// `OnDisconnect` is the policy for a peer that leaves.
    Handle(BoxFuture<Response>, OnDisconnect),
    /// The future of an [`exchange`](crate::conn::exchange), which owns the transport, and whether it holds its thread:
    /// on a blocking backend, for a body of [`Body::holding_thread`](crate::Body::holding_thread).
    Exchange(BoxFuture<Result<Exchanged<T>, Closed>>, bool),
    /// The number of bytes that the lingering close may still read.
    Linger(u64),
    /// The future of a detached handler. It does not panic.
    Detached(BoxFuture<()>),
    ProxyHeader,
    /// The rest of the connection.
    Http2(Http2),
}

/// The continuation of `Step::Flush`.
#[derive(Clone, Copy)]
pub(super) enum AfterFlush {
    /// `Step::Next`.
    Next,
    /// `Step::Next` in a new turn, so that other connections run first.
    Yield,
    /// `Step::Read`.
    Read,
    /// `Step::Linger`, or the end of the connection.
    Close,
}
