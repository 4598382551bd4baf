//! The progress of a response: which part of it the connection still expects from its caller.
//!
//! The head decides how the body is delimited (RFC 9112, 6.3). [`ResponseState`] holds the caller to that decision, so
//! that a body of another length never reaches the peer unnoticed.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::proto::encode::{self, BodyLength};
use crate::proto::framing::Facts;
use crate::proto::trailers;
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
    /// The end. Body data is accepted and dropped: the response to HEAD, 204, 205, or 304.
    Bodiless,
    /// Nothing.
    Done,
}

impl ResponseState {
    /// The state after a head, and the length that the head announces. `length` is the length of the body in bytes,
    /// if it is known.
    ///
    /// | response | announced length | body |
    /// | --- | --- | --- |
    /// | 204 | none (RFC 9110, 8.6) | dropped |
    /// | 205 | 0 (RFC 9110, 15.3.6) | dropped |
    /// | 304 | that of the handler's field `Content-Length`, or none (RFC 9110, 8.6) | dropped |
    /// | to HEAD, the body is empty | the same: the handler may have made no body for HEAD | none |
    /// | to HEAD, any other body | as for GET | dropped |
    /// | a body of known length | its length | sent |
    /// | a body of unknown length, the handler has set `Content-Length` | that of the handler | sent |
    /// | any other body of unknown length, to HTTP/1.1 | `Transfer-Encoding: chunked` | sent in chunks |
    /// | any other body of unknown length, to HTTP/1.0 | none | sent until the connection closes |
    pub(crate) fn after_head(
        status: StatusCode,
        fields: &[(HeaderName, HeaderValue)],
        length: Option<u64>,
        facts: Facts,
    ) -> (BodyLength, ResponseState) {
        let length = length.or_else(|| promised_length(fields));
        let (announced, state) = match (status, length) {
            (StatusCode::NO_CONTENT, _) => (BodyLength::Omitted, ResponseState::Bodiless),
            (StatusCode::RESET_CONTENT, _) => (BodyLength::Known(0), ResponseState::Bodiless),
            (StatusCode::NOT_MODIFIED, _) => (given_length(fields), ResponseState::Bodiless),
            (_, Some(0)) if facts.is_head => (given_length(fields), ResponseState::Bodiless),
            (_, Some(len)) => (BodyLength::Known(len), ResponseState::Length(len)),
            (_, None) if facts.is_http10 => (BodyLength::Omitted, ResponseState::UntilClose),
            (_, None) => (BodyLength::Chunked, ResponseState::Chunked),
        };
        (announced, if facts.is_head { ResponseState::Bodiless } else { state })
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

    /// See [`Connection::finish_with_trailers`](crate::h1::Connection::finish_with_trailers).
    pub(crate) fn finish_with_trailers(
        &mut self,
        fields: &HeaderMap,
        write_queue: &mut WriteQueue,
    ) -> Result<(), WrongLength> {
        if *self != ResponseState::Chunked {
            return self.finish(write_queue);
        }
        let tail = write_queue.tail();
        tail.extend_from_slice(b"0\r\n");
        trailers::write(tail, fields);
        tail.extend_from_slice(b"\r\n");
        *self = ResponseState::Done;
        Ok(())
    }
}

/// The error of a response body whose length differs from the `Content-Length` in its head. The response cannot be
/// repaired: the connection must be cut.
///
/// ```
/// use gearshift_core::h1::WrongLength;
///
/// assert_eq!(WrongLength.to_string(), "the response body is not as long as its head says");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response body is not as long as its head says")]
pub struct WrongLength;

/// Whether `status` is final and its responses have a body (RFC 9110, 6.4.1).
#[inline]
pub(crate) fn has_body(status: StatusCode) -> bool {
    status.as_u16() >= 200 && !matches!(status.as_u16(), 204 | 205 | 304)
}

/// The status to send if the status of the handler cannot answer the request: 500 for an interim status, which is no
/// answer (RFC 9110, 15.2), and 501 for a 2xx to CONNECT, which would open a tunnel (RFC 9110, 9.3.6). `None` for any
/// other status.
pub(crate) fn status_instead(status: StatusCode, facts: Facts) -> Option<StatusCode> {
    if status.is_informational() {
        log::error!("a handler answered with the interim status {status}");
        return Some(StatusCode::INTERNAL_SERVER_ERROR);
    }
    (facts.is_connect && status.is_success()).then_some(StatusCode::NOT_IMPLEMENTED)
}

/// Whether the handler set `Connection: close`, alone or in a list (RFC 9110, 7.6.1).
#[inline]
pub(crate) fn asks_to_close(fields: &[(HeaderName, HeaderValue)]) -> bool {
    let has_close = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|&byte| byte == b',')
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    };
    fields.iter().any(|(name, value)| *name == header::CONNECTION && has_close(value))
}

/// The `Content-Length` of the handler, for the body that it did not make.
fn given_length(fields: &[(HeaderName, HeaderValue)]) -> BodyLength {
    content_length(fields).map_or(BodyLength::Omitted, BodyLength::Known)
}

/// The `Content-Length` of the handler, for a body that does not know its length, such as a stream or a file. With 0
/// the body would be dropped unread, so that nothing would notice a wrong value.
fn promised_length(fields: &[(HeaderName, HeaderValue)]) -> Option<u64> {
    content_length(fields).filter(|&length| length > 0)
}

/// The value of the field `Content-Length` that the handler has set.
fn content_length(fields: &[(HeaderName, HeaderValue)]) -> Option<u64> {
    let (_, value) = fields.iter().find(|(name, _)| *name == header::CONTENT_LENGTH)?;
    value.to_str().ok()?.parse().ok()
}
