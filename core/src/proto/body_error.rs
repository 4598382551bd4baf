//! The error of reading a body, and the HTTP status and `io::Error` it becomes.

use std::fmt;
use std::io;

use http::StatusCode;

use crate::proto::BoxError;
use crate::proto::error::Error as H1Error;

/// The reason why a body could not be read to its end.
///
/// A handler that returns it answers with [`BodyError::status`].
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is larger than a limit.
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The chunked coding of the body is malformed (RFC 9112, 7.1).
    Malformed(H1Error),
    /// The peer stopped sending before the end of the body.
    Incomplete,
    /// The peer sent nothing for too long, or sent too slowly.
    TimedOut,
    /// The exchange is over: the response was sent, or the connection was closed.
    Gone,
    /// Reading from the connection failed.
    Io(io::Error),
    /// The stream behind a body of the application failed.
    Source(BoxError),
}

impl BodyError {
    /// The status that tells the peer about the error: 4xx if the peer or the connection caused it, else 500.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Malformed(error) => error.status(),
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Incomplete | BodyError::Io(_) | BodyError::Gone => StatusCode::BAD_REQUEST,
            BodyError::Source(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The same text as for a body that is rejected by its `Content-Length`.
            BodyError::TooLarge { .. } => H1Error::BodyTooLarge.fmt(f),
            BodyError::Malformed(error) => error.fmt(f),
            BodyError::Incomplete => f.write_str("the body was cut short"),
            BodyError::TimedOut => f.write_str("the body paused for too long"),
            BodyError::Gone => f.write_str("the request is over"),
            BodyError::Io(error) => write!(f, "the connection failed: {error}"),
            BodyError::Source(error) => write!(f, "the body's source failed: {error}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BodyError::Malformed(error) => Some(error),
            BodyError::Io(error) => Some(error),
            BodyError::Source(error) => Some(&**error),
            _ => None,
        }
    }
}

/// The `BodyError` stays available through [`io::Error::downcast`].
impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> io::Error {
        let kind = match &error {
            BodyError::TimedOut => io::ErrorKind::TimedOut,
            BodyError::Incomplete => io::ErrorKind::UnexpectedEof,
            BodyError::Gone => io::ErrorKind::NotConnected,
            BodyError::Io(error) => error.kind(),
            BodyError::Source(_) => io::ErrorKind::Other,
            BodyError::TooLarge { .. } | BodyError::Malformed(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
