//! The steps of a connection.
//!
//! | step | waits for | next step |
//! | --- | --- | --- |
//! | `Next` | nothing: takes the next event of the [`Connection`](crate::h1::Connection) | `Handle`, `Exchange`, `Flush`, `BufferBody` or `AwaitProbe` |
//! | `BufferBody` | the rest of a small body, on blocking backends | `Handle` |
//! | `AwaitProbe` | the reply to a probe of the peer, on blocking backends | `Handle`, `BufferBody`, or the end |
//! | `Handle` | the handler's future | `Next` or `Exchange` |
//! | `Exchange` | pieces of a streamed response, and the peer that receives them | `Next`, or the end |
//! | `Flush` | the peer to receive the queued bytes | `Next`, `Read`, `Linger`, or the end |
//! | `Read` | bytes of the peer | `Next`, `Flush`, or the end |
//! | `Linger` | the peer to close after the last response | the end |
//! | `Refuse` | nothing: queues a refusal | `Flush` |

use crate::conn::access::AccessLine;
use crate::conn::io::Io;
use crate::proto::BoxFuture;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// What the connection does now; see the table in the [module](self).
pub(super) enum Step<T> {
    /// The server has too many connections: the peer is sent a refusal.
    Refuse,
    /// The connection is asked for its next event.
    Next,
    /// The queued bytes are written.
    Flush(AfterFlush),
    /// Bytes are read, mostly those of a head.
    Read,
    /// A small body is buffered before the handler is called.
    BufferBody(Request),
    /// The request begins when the timer is ready, unless the peer is found to have left.
    AwaitProbe(Request, BoxFuture<()>),
    /// The future of a handler is polled. `OnDisconnect` is the policy for a peer that leaves.
    Handle(BoxFuture<Response>, OnDisconnect, Option<AccessLine>),
    /// The future of an [`exchange`](crate::conn::exchange) is polled. It owns the transport.
    Exchange(BoxFuture<Option<Box<Io<T>>>>),
    /// Bytes are read and dropped until the peer closes.
    Linger,
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

/// The result of a step.
pub(super) enum Flow {
    /// The connection continues with its current step.
    Go,
    /// The connection has ended.
    Close,
}
