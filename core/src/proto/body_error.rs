//! The error of reading a body, and the HTTP status and `io::Error` it becomes.

use std::error::Error;
use std::io;

use http::StatusCode;
use http_body_util::LengthLimitError;

use crate::proto::BoxError;
use crate::proto::error::Error as H1Error;

/// The reason why a body could not be read to its end.
///
/// A handler that returns it answers with [`BodyError::status`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{BodyError, Request, StatusCode};
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
    /// The error of the stream or the body from which an application has made a body. The error of a body of this crate
    /// that has passed through it stays what it is.
    pub(crate) fn of_source(error: impl Into<BoxError>) -> BodyError {
        error.into().downcast().map_or_else(BodyError::Source, |error| *error)
    }

    /// The status that tells the peer about the error: 4xx if the peer or the connection caused it, else 500.
    ///
    /// [`BodyError::Source`] has the status of the `BodyError` that it contains, and 413 if it contains the error of
    /// `http_body_util::Limited`, by which layers of tower limit a body.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Malformed(error) => error.status(),
            BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
            BodyError::Incomplete | BodyError::Io(_) | BodyError::Gone => StatusCode::BAD_REQUEST,
            BodyError::Source(error) => caused_by(&**error).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// The status of the first error among `error` and its causes that has one.
fn caused_by(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    let mut next = Some(error);
    while let Some(error) = next {
        // The cause of an `io::Error` is that of the error within.
        let within = error.downcast_ref().and_then(io::Error::get_ref);
        let error = within.map_or(error, |error| error as &(dyn Error + 'static));
        if let Some(error) = error.downcast_ref::<BodyError>() {
            return Some(error.status());
        }
        if error.is::<LengthLimitError>() {
            return Some(StatusCode::PAYLOAD_TOO_LARGE);
        }
        next = error.source();
    }
    None
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
