//! A body: bytes that are here, a lease on the connection they are still arriving on, or a stream of the
//! program's own.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::StatusCode;
use http_body::{Frame, SizeHint};

use crate::proto::BoxError;
use crate::proto::error::Error as H1Error;

/// The body of a request or of a response.
///
/// A request body that had arrived with its head is plain bytes. Otherwise it is pulled from the connection as the
/// handler reads, which is all the flow control there is: no channel, no task, no second copy. A body can be given
/// back as a response's: that streams.
#[derive(Default)]
pub struct Body(pub(crate) Inner);

#[derive(Default)]
pub(crate) enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    Lease(Arc<dyn BodySource>),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

/// Where a body comes from that is still on the wire.
pub(crate) trait BodySource: Send + Sync {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;
    /// Bytes still to come; `None` if only the end will tell.
    fn remaining(&self) -> Option<u64>;
}

impl Body {
    /// No body.
    pub const fn empty() -> Body {
        Body(Inner::Empty)
    }

    pub(crate) fn lease(source: Arc<dyn BodySource>) -> Body {
        Body(Inner::Lease(source))
    }

    /// A body from a stream of chunks. Its length is not known, so it is sent chunked (to an HTTP/1.0 peer, until
    /// the connection closes).
    ///
    /// An error ends the connection, so that the peer does not take a part for the whole.
    pub fn from_stream<S, E>(stream: S) -> Body
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Body(Inner::Stream(Box::pin(FromStream { stream: Box::pin(stream) })))
    }

    /// A body from any `http_body::Body`. If its size hint is exact, it is sent with that length; giving another
    /// number of bytes then ends the connection. Trailers are dropped.
    pub fn from_http<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Body::empty();
        }
        Body(Inner::Stream(Box::pin(FromHttp { body: Box::pin(body) })))
    }

    /// The next piece, as it arrives; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`]; a body that was cut short is an error, never an end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// All of it, if that is no more than `limit` bytes.
    ///
    /// # Errors
    /// [`BodyError`]; beyond `limit` it is [`BodyError::TooLarge`], before reading if the length is known.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let too_large = || BodyError::TooLarge { limit: limit as u64 };
        if self.remaining().is_some_and(|len| len > limit as u64) {
            return Err(too_large());
        }
        let first = match self.chunk().await {
            Some(chunk) => chunk?,
            None => return Ok(Bytes::new()),
        };
        if first.len() > limit {
            return Err(too_large());
        }
        let Some(second) = self.chunk().await else { return Ok(first) };
        let mut all = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            let chunk = chunk?;
            if all.len() + chunk.len() > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
            next = self.chunk().await;
        }
        Ok(all.freeze())
    }

    /// How many bytes are left; `None` if only the end will tell.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Lease(source) => source.remaining(),
            Inner::Stream(body) => body.size_hint().exact(),
        }
    }

    /// Whether there is nothing to read, for certain.
    pub fn is_empty(&self) -> bool {
        self.remaining() == Some(0)
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Ok))
            }
            Inner::Lease(source) => source.poll_chunk(cx),
            Inner::Stream(body) => loop {
                match ready!(body.as_mut().poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                        _ => continue,
                    },
                }
            },
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Empty => f.write_str("Body(empty)"),
            Inner::Full(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Inner::Lease(_) => write!(f, "Body(arriving, {:?} left)", self.remaining()),
            Inner::Stream(_) => write!(f, "Body(stream, {:?} left)", self.remaining()),
        }
    }
}

impl From<Bytes> for Body {
    #[inline]
    fn from(bytes: Bytes) -> Body {
        Body(if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) })
    }
}

impl From<&'static str> for Body {
    #[inline]
    fn from(text: &'static str) -> Body {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Body {
        Bytes::from_static(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Bytes::from(bytes).into()
    }
}

impl From<()> for Body {
    fn from((): ()) -> Body {
        Body::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_chunk(cx).map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Stream for Body {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx)
    }
}

/// Why a body could not be read to its end.
#[derive(Debug)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than the limit.
    TooLarge {
        /// The limit that was passed, in bytes.
        limit: u64,
    },
    /// The peer broke the rules of framing.
    Malformed(H1Error),
    /// The peer stopped sending before the end.
    Incomplete,
    /// The peer paused for too long.
    TimedOut,
    /// The request is over: its response was sent, or its connection closed.
    Gone,
    /// The connection failed.
    Io(io::Error),
    /// The body's own source failed.
    Source(BoxError),
}

impl BodyError {
    /// The status that tells the peer.
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
            // As it is said of a body that was not even begun.
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

struct FromStream<S> {
    stream: Pin<Box<S>>,
}

impl<S, E> http_body::Body for FromStream<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let next = ready!(self.stream.as_mut().poll_next(cx));
        Poll::Ready(next.map(|chunk| chunk.map(Frame::data).map_err(|error| BodyError::Source(error.into()))))
    }
}

struct FromHttp<B> {
    body: Pin<Box<B>>,
}

impl<B> http_body::Body for FromHttp<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.body.as_mut().poll_frame(cx).map_err(|error| BodyError::Source(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
