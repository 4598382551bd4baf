//! The body of a request while it arrives. The bytes of a body with a `Content-Length` stay in the read buffer until
//! they are taken. Of a chunked body, the data that was decoded and not taken is kept here.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::proto::body::{Body, BodyError};
use crate::proto::chunked::Decoder;
use crate::proto::error::Error;
use crate::proto::framing::Framing;
use crate::proto::limits::Limits;
use crate::proto::read_buffer::ReadBuffer;

/// The result of [`Connection::next_piece`](crate::h1::Connection::next_piece).
///
/// ```
/// use gearshift_core::h1::{Connection, Event, Piece};
/// use gearshift_core::{BodyError, Limits};
///
/// let mut connection = Connection::new(Limits::default().into(), true, false);
/// connection.read_buffer.extend(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
/// assert!(matches!(connection.next_event(), Event::Request(_)));
/// assert!(matches!(connection.next_piece()?, Piece::Data(data) if data == "hel"));
/// assert!(matches!(connection.next_piece()?, Piece::NeedBytes));
/// # Ok::<(), BodyError>(())
/// ```
#[derive(Debug)]
pub enum Piece {
    /// The read buffer holds no more of the body. The caller appends received bytes and asks again.
    NeedBytes,
    /// The next bytes of the body, without chunk framing. Never empty.
    Data(Bytes),
    /// The trailer fields of a chunked body, of which there is at least one. They follow all data. Then the body is
    /// complete.
    Trailers(Box<HeaderMap>),
    /// The body is complete, including the trailer section of a chunked body.
    End,
}

/// The result of [`Connection::buffer_body`](crate::h1::Connection::buffer_body).
///
/// ```
/// use gearshift_core::Limits;
/// use gearshift_core::h1::{Buffered, Connection, Event};
///
/// let mut connection = Connection::new(Limits::default().into(), true, false);
/// connection.read_buffer.extend(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
/// assert!(matches!(connection.next_event(), Event::Request(_)));
/// assert!(matches!(connection.buffer_body(1000), Buffered::NeedBytes));
/// connection.read_buffer.extend(b"lo");
/// assert!(matches!(connection.buffer_body(1000), Buffered::Whole(_)));
/// ```
#[derive(Debug)]
pub enum Buffered {
    /// The complete body.
    Whole(Body),
    /// The body is incomplete and within the limit. The caller appends received bytes and asks again.
    NeedBytes,
    /// The body exceeds the limit or cannot be read to its end. The part that has arrived is still available from
    /// [`Connection::next_piece`](crate::h1::Connection::next_piece).
    Partial,
}

/// The part of a request body that was not taken yet.
pub(crate) enum RequestBody {
    /// Everything was taken, or the request has no body.
    Done,
    /// The number of bytes that remain of the `Content-Length`. Never 0.
    Length(u64),
    /// A chunked body whose last chunk or trailer section was not decoded.
    Chunked(Box<Chunks>),
    /// Reading failed. The rest of the body cannot be found in the input.
    Broken,
}

/// The decoding of a chunked body that was incomplete when its head was parsed.
pub(crate) struct Chunks {
    decoder: Decoder,
    /// Decoded data that was not taken.
    decoded: BytesMut,
    /// The error that the decoder found behind `decoded`. [`Chunks::next`] repeats it.
    error: Option<Error>,
}

impl Chunks {
    fn next(&mut self, read_buffer: &mut ReadBuffer, limits: &Limits) -> Result<Piece, Error> {
        match self.error {
            Some(error) => Err(error),
            None => self.decoder.next(read_buffer, limits),
        }
    }
}

impl RequestBody {
    /// Begins the body behind a head with this `framing`. A body that `read_buffer` holds completely is taken out of
    /// it and returned, with [`RequestBody::Done`]. Otherwise the returned [`Body`] is empty.
    ///
    /// A chunked body is decoded as far as it has arrived, so that its errors do not depend on whether a handler reads
    /// it.
    pub(crate) fn begin(
        framing: Framing,
        read_buffer: &mut ReadBuffer,
        limits: &Limits,
    ) -> Result<(RequestBody, Body), Error> {
        match framing {
            Framing::Length(len) if len > limits.body => Err(Error::BodyTooLarge),
            Framing::Length(len) if len <= read_buffer.len() as u64 => {
                Ok((RequestBody::Done, Body::from(read_buffer.take(len as usize))))
            }
            Framing::Length(len) => Ok((RequestBody::Length(len), Body::empty())),
            Framing::Chunked => RequestBody::begin_chunked(read_buffer, limits),
        }
    }

    fn begin_chunked(read_buffer: &mut ReadBuffer, limits: &Limits) -> Result<(RequestBody, Body), Error> {
        let mut decoder = Decoder::new();
        let (mut first, mut rest) = (Bytes::new(), Vec::new());
        let mut trailers = None;
        let is_whole = loop {
            match decoder.next(read_buffer, limits)? {
                Piece::Data(data) if first.is_empty() => first = data,
                Piece::Data(data) => rest.extend_from_slice(&data),
                Piece::Trailers(fields) => trailers = Some(fields),
                Piece::NeedBytes => break false,
                Piece::End => break true,
            }
        };
        if !rest.is_empty() {
            first = Bytes::from([&first[..], &rest].concat());
        }
        if is_whole {
            return Ok((RequestBody::Done, Body::whole(first, trailers)));
        }
        let chunks = Chunks { decoder, decoded: BytesMut::from(first), error: None };
        Ok((RequestBody::Chunked(Box::new(chunks)), Body::empty()))
    }

    /// The name of the state, as in the documentation of [`Connection`](crate::h1::Connection).
    pub(crate) fn name(&self) -> &'static str {
        match self {
            RequestBody::Done => "Done",
            RequestBody::Length(_) => "Length",
            RequestBody::Chunked(_) => "Chunked",
            RequestBody::Broken => "Broken",
        }
    }

    /// The number of bytes that were not taken; `None` if only the end of the body will tell.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self {
            RequestBody::Done => Some(0),
            RequestBody::Length(left) => Some(*left),
            RequestBody::Chunked(_) | RequestBody::Broken => None,
        }
    }

    /// Takes the next piece out of `read_buffer`. After an error, the caller replaces the body with
    /// [`RequestBody::Broken`].
    pub(crate) fn next_piece(
        &mut self,
        read_buffer: &mut ReadBuffer,
        limits: &Limits,
    ) -> Result<Piece, BodyError> {
        match self {
            RequestBody::Done => Ok(Piece::End),
            RequestBody::Broken => Err(BodyError::Incomplete),
            RequestBody::Length(_) if read_buffer.is_empty() => Ok(Piece::NeedBytes),
            RequestBody::Length(left) => {
                let data = read_buffer.take_of(left);
                if *left == 0 {
                    *self = RequestBody::Done;
                }
                Ok(Piece::Data(data))
            }
            RequestBody::Chunked(chunks) if !chunks.decoded.is_empty() => {
                Ok(Piece::Data(chunks.decoded.split().freeze()))
            }
            RequestBody::Chunked(chunks) => match chunks.next(read_buffer, limits) {
                Ok(piece @ (Piece::Trailers(_) | Piece::End)) => {
                    *self = RequestBody::Done;
                    Ok(piece)
                }
                Ok(piece) => Ok(piece),
                Err(Error::BodyTooLarge) => Err(BodyError::TooLarge { limit: limits.body }),
                Err(error) => Err(BodyError::Malformed(error)),
            },
        }
    }

    /// Takes the whole body once `read_buffer` holds it. `max_len` is in bytes. `has_ended` says that the peer sends
    /// no more, so that an incomplete body stays incomplete.
    pub(crate) fn buffer(
        &mut self,
        read_buffer: &mut ReadBuffer,
        limits: &Limits,
        max_len: usize,
        has_ended: bool,
    ) -> Buffered {
        let body = match self {
            RequestBody::Done => Body::empty(),
            RequestBody::Broken => return Buffered::Partial,
            RequestBody::Length(left) => match usize::try_from(*left) {
                Ok(len) if len <= read_buffer.len() => Body::from(read_buffer.take(len)),
                Ok(len) if len <= max_len && !has_ended => return Buffered::NeedBytes,
                _ => return Buffered::Partial,
            },
            RequestBody::Chunked(chunks) => loop {
                match chunks.next(read_buffer, limits) {
                    Ok(Piece::Data(data)) => chunks.decoded.extend_from_slice(&data),
                    Ok(Piece::Trailers(trailers)) => {
                        break Body::whole(chunks.decoded.split().freeze(), Some(trailers));
                    }
                    Ok(Piece::End) => break Body::from(chunks.decoded.split().freeze()),
                    Ok(Piece::NeedBytes) if chunks.decoded.len() > max_len || has_ended => {
                        return Buffered::Partial;
                    }
                    Ok(Piece::NeedBytes) => return Buffered::NeedBytes,
                    Err(error) => {
                        chunks.error = Some(error);
                        return Buffered::Partial;
                    }
                }
            },
        };
        *self = RequestBody::Done;
        Buffered::Whole(body)
    }
}
