//! The steps of a connection.
//!
//! | step | waits for | next |
//! | --- | --- | --- |
//! | `Next` | nothing: asks the connection for its next event | `Handle`, `Flush`, `BufferBody` or `AwaitProbe` |
//! | `BufferBody` | the rest of a small body, on blocking backends | `Handle` |
//! | `AwaitProbe` | a peer that may have left while its request waited for a thread | `Handle`, or the end |
//! | `Handle` | the handler's future | `Next`, or `Exchange` |
//! | `Exchange` | pieces of a streamed response, and the peer that takes them | `Next`, or the end |
//! | `Flush` | the peer to take what is queued | `Next`, `Read`, `Linger`, or the end |
//! | `Read` | bytes | `Next`, or the end |
//! | `Linger` | the peer to see the last response | the end |

use crate::conn::access::AccessLine;
use crate::conn::io::Io;
use crate::proto::BoxFuture;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::config::OnDisconnect;

/// See the table at the top of this file.
pub(super) enum Step<T> {
    /// There is no room for the connection, and the peer is to be told.
    Refuse,
    Next,
    Flush(Then),
    Read,
    BufferBody(Request),
    AwaitProbe(Request, BoxFuture<()>),
    Handle(BoxFuture<Response>, OnDisconnect, Option<AccessLine>),
    Exchange(BoxFuture<Option<Io<T>>>),
    Linger,
}

/// What follows a flush.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Next,
    /// Other connections have their turn first.
    Yield,
    Read,
    Close,
}

/// What a step came to.
pub(super) enum Flow {
    Go,
    Close,
}
