//! The progress of a response: which part of it the connection still expects from its caller.
//!
//! The head decides how the body is delimited (RFC 9112, 6.3). [`ResponseState`] holds the caller to that decision, so
//! that a body of another length never reaches the peer unnoticed.

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use crate::proto::encode::{self, BodyLength};
use crate::proto::framing::Facts;
use crate::proto::write_queue::WriteQueue;

/// The part of a response that was not queued yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseState {
    /// Head and body.
    Awaited,
    /// This many bytes of a body with a `Content-Length`.
    Length(u64),
    /// Chunks, then the last chunk.
    Chunked,
    /// A body that ends when the connection closes: the response to an HTTP/1.0 request.
    UntilClose,
    /// The end. Body data is accepted and dropped: the response to HEAD, 204, or 304.
    Bodiless,
    /// Nothing.
    Done,
}

impl ResponseState {
    /// The state after a head, and the length that the head announces. `length` is the length of the body in bytes,
    /// if it is known.
    pub(crate) fn after_head(
        status: StatusCode,
        fields: &[(HeaderName, HeaderValue)],
        length: Option<u64>,
        facts: Facts,
    ) -> (BodyLength, ResponseState) {
        let bodiless = !has_body(status);
        match length {
            _ if status == StatusCode::NO_CONTENT => (BodyLength::Omitted, ResponseState::Bodiless),
            Some(0) if bodiless || facts.is_head => {
                (declared_length(fields, facts.is_head), ResponseState::Bodiless)
            }
            _ if bodiless => (BodyLength::Omitted, ResponseState::Bodiless),
            Some(len) if facts.is_head => (BodyLength::Known(len), ResponseState::Bodiless),
            Some(len) => (BodyLength::Known(len), ResponseState::Length(len)),
            None if facts.is_http10 => (BodyLength::Omitted, ResponseState::UntilClose),
            None => (BodyLength::Chunked, ResponseState::Chunked),
        }
    }

    /// See [`Connection::send`](crate::h1::Connection::send).
    pub(crate) fn send(&mut self, data: Bytes, write_queue: &mut WriteQueue) -> Result<(), WrongLength> {
        match self {
            // An empty chunk would end the body (RFC 9112, 7.1).
            _ if data.is_empty() => {}
            ResponseState::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                write_queue.push(data);
            }
            ResponseState::Chunked => {
                encode::chunk_size(write_queue.tail(), data.len());
                write_queue.push(data);
                write_queue.tail().extend_from_slice(b"\r\n");
            }
            ResponseState::UntilClose => write_queue.push(data),
            ResponseState::Bodiless => {}
            ResponseState::Awaited | ResponseState::Done => return Err(WrongLength),
        }
        Ok(())
    }

    /// See [`Connection::finish`](crate::h1::Connection::finish).
    pub(crate) fn finish(&mut self, write_queue: &mut WriteQueue) -> Result<(), WrongLength> {
        match self {
            ResponseState::Awaited | ResponseState::Length(1..) => return Err(WrongLength),
            ResponseState::Chunked => write_queue.tail().extend_from_slice(b"0\r\n\r\n"),
            _ => {}
        }
        *self = ResponseState::Done;
        Ok(())
    }
}

/// The error of a response body whose length differs from the `Content-Length` in its head. The response cannot be
/// repaired: the connection must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response body is not as long as its head says")]
pub struct WrongLength;

/// Whether `status` is final and its responses have a body (RFC 9110, 6.4.1).
#[inline]
pub(crate) fn has_body(status: StatusCode) -> bool {
    status.as_u16() >= 200 && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// Whether the handler set `Connection: close`.
#[inline]
pub(crate) fn asks_to_close(fields: &[(HeaderName, HeaderValue)]) -> bool {
    fields
        .iter()
        .any(|(name, value)| *name == header::CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// The `Content-Length` that the handler set on a response without a body.
fn declared_length(fields: &[(HeaderName, HeaderValue)], is_head: bool) -> BodyLength {
    let given = fields.iter().find(|(name, _)| *name == header::CONTENT_LENGTH);
    match given.and_then(|(_, value)| value.to_str().ok()?.parse().ok()) {
        Some(len) => BodyLength::Known(len),
        None if is_head => BodyLength::Known(0),
        None => BodyLength::Omitted,
    }
}
