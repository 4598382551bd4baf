//! Why a service did not answer.

use std::error::Error;
use std::fmt;
use std::io;

use gearshift_core::{BoxError, IntoResponse, Refusal, Response, StatusCode};

/// Why a service did not answer. As a response it is 502 (RFC 9110, 15.6.3).
#[derive(Debug)]
pub struct ClientError {
    pub(crate) authority: String,
    pub(crate) kind: ErrorKind,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There was no connection to be had.
    Connect(io::Error),
    /// The connection ended before there was an answer, or what came is none.
    Exchange(hyper::Error),
    /// The body of the answer was cut short, or is longer than [`Client::most_bytes`](crate::Client::most_bytes).
    Body(BoxError),
}

impl ClientError {
    /// Whom the request was for.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What went wrong.
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why: &dyn fmt::Display = match &self.kind {
            ErrorKind::Connect(error) => error,
            ErrorKind::Exchange(error) => error,
            ErrorKind::Body(error) => error,
        };
        write!(f, "{}: {why}", self.authority)
    }
}

impl Error for ClientError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ErrorKind::Connect(error) => Some(error),
            ErrorKind::Exchange(error) => Some(error),
            ErrorKind::Body(error) => Some(&**error),
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Refusal {
        Refusal::new(StatusCode::BAD_GATEWAY, error.to_string())
    }
}

impl IntoResponse for ClientError {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}
