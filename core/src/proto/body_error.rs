//! The error of reading a body, and the HTTP status and `io::Error` it becomes.

use std::io;

use http::StatusCode;

use crate::proto::BoxError;
use crate::proto::error::Error as H1Error;

/// The reason why a body could not be read to its end.
///
/// A handler that returns it answers with [`BodyError::status`].
///
/// ```
/// use gearshift_core::{BodyError, Request, StatusCode};
///
/// /// The length of the body. A body over 1,000 bytes is answered with 413.
/// async fn length(request: Request) -> Result<String, BodyError> {
///     let bytes = request.into_body().bytes(1000).await?;
///     Ok(bytes.len().to_string())
/// }
///
/// let error = BodyError::TooLarge { limit: 1000 };
/// assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
/// # drop(length);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The body is larger than a limit.
    // The same text as for a body that is rejected by its `Content-Length`.
    #[error("{}", H1Error::BodyTooLarge)]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The chunked coding of the body is malformed (RFC 9112, 7.1).
    #[error("{0}")]
    Malformed(#[source] H1Error),
    /// The peer stopped sending before the end of the body.
    #[error("the body was cut short")]
    Incomplete,
    /// The peer sent nothing for too long, or sent too slowly.
    #[error("the body came too slowly")]
    TimedOut,
    /// The response was sent, or the connection was closed, before the body was read to its end. See
    /// [the life of a request body](crate::Body#the-life-of-a-request-body).
    #[error("the response was sent, or the connection was closed, before the body was read")]
    Gone,
    /// Reading from the connection failed.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
    /// The stream behind a body of the application failed.
    #[error("the body's source failed: {0}")]
    Source(#[source] BoxError),
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
