//! What a peer can do wrong, one variant each, with the status that tells it.

use std::fmt;

use http::StatusCode;

/// A violation of RFC 9112 or of a limit. The peer is told the status, and its connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Error {
    /// The request line is not `method SP target SP version`.
    RequestLine,
}

impl Error {
    /// The status that tells the peer.
    pub fn status(self) -> StatusCode {
        StatusCode::BAD_REQUEST
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bad request line")
    }
}

impl std::error::Error for Error {}
