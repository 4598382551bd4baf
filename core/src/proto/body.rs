//! The body of a message: bytes in memory, a lease on a connection that receives it, or a stream of the application.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use crate::proto::BoxError;

pub use crate::proto::body_error::BodyError;

/// The body of a request or of a response.
///
/// A request body that has arrived with its head is bytes in memory. Any other request body is read from the
/// connection while the handler reads it: a handler that does not read stops the peer through TCP flow control. A
/// request body as the body of a response is streamed back.
///
/// # The life of a request body
///
/// A body that is read from the connection can be read until the response to its request is complete: until all of the
/// response is queued for the peer, or until the connection is handed to an upgrade. The read of a task that continues
/// after that fails with [`BodyError::Gone`], also if further bytes of the body have arrived. It fails in the same way
/// when the connection closes, and after a forced stop.
///
/// A body that was complete before the handler was called is in memory, and has no such end. These are the bodies that
/// have arrived with their head. On a blocking backend they also are the bodies of up to
/// [`Config::body_buffer`](crate::Config::body_buffer) bytes, except for requests with `Expect: 100-continue`. A task
/// that reads the body after the response works with such bodies only. To be independent of that, the handler reads the
/// body and passes the bytes to the task.
///
/// ```
/// use gearshift_core::{Body, BodyError};
///
/// let body = Body::from("hello");
/// assert_eq!(body.remaining(), Some(5));
/// # futures_lite::future::block_on(async {
/// assert_eq!(body.bytes(1024).await?, "hello");
/// # Ok::<(), BodyError>(())
/// # }).unwrap();
/// ```
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

/// The connection from which a request body is read.
pub(crate) trait BodySource: Send + Sync {
    /// As [`Body::chunk`].
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;
    /// As [`Body::remaining`].
    fn remaining(&self) -> Option<u64>;
}

impl Body {
    /// Creates an empty body.
    pub const fn empty() -> Body {
        Body(Inner::Empty)
    }

    /// Creates a body from a stream of chunks. Its length is not known: it is sent with the chunked coding, or to an
    /// HTTP/1.0 peer until the connection closes.
    ///
    /// An error from the stream cuts the connection, so that the peer does not mistake a part for the whole.
    ///
    /// While the stream is pending, a peer that has closed the connection looks like one that has ended its sending
    /// side alone; [`Config::half_closed_timeout`](crate::Config::half_closed_timeout) limits such a wait.
    pub fn from_stream<S, E>(stream: S) -> Body
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Body(Inner::Stream(Box::pin(FromStream(Box::pin(stream)))))
    }

    /// Creates a body from any `http_body::Body`. If the size hint is exact, the body is sent with that
    /// `Content-Length`, and another number of bytes cuts the connection. Trailers are dropped.
    pub fn from_http<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // A body of this type that was passed through another one stays what it is.
        let mut body = Some(body);
        if let Some(own) = (&mut body as &mut dyn Any).downcast_mut::<Option<Body>>().and_then(Option::take) {
            return own;
        }
        let Some(body) = body.filter(|body| !body.is_end_stream()) else { return Body::empty() };
        Body(Inner::Stream(Box::pin(body.map_err(|error| BodyError::Source(error.into())))))
    }

    /// Waits for the next piece of the body; returns `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`] if reading fails. A body that was cut short is [`BodyError::Incomplete`] and never an end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Waits for the whole body, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] if the body is longer than `limit`, before anything is read if the length is known;
    /// any other [`BodyError`] if reading fails.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let too_large = || BodyError::TooLarge { limit: limit as u64 };
        if self.remaining().is_some_and(|len| len > limit as u64) {
            return Err(too_large());
        }
        let Some(first) = self.chunk().await.transpose()? else { return Ok(Bytes::new()) };
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

    /// The number of bytes that were not read; `None` if only the end of the body will tell.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Lease(source) => source.remaining(),
            Inner::Stream(body) => body.size_hint().exact(),
        }
    }

    /// Whether the body is known to have no more bytes. False if the length is not known.
    pub fn is_empty(&self) -> bool {
        self.remaining() == Some(0)
    }

    /// Polls for the next piece; see [`Body::chunk`].
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
                let Some(frame) = ready!(body.as_mut().poll_frame(cx)?) else { return Poll::Ready(None) };
                match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(Ok(data))),
                    _ => continue,
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

/// The adapter behind [`Body::from_stream`].
struct FromStream<S>(Pin<Box<S>>);

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
        let chunk = self.0.as_mut().poll_next(cx);
        chunk.map_ok(Frame::data).map_err(|error| BodyError::Source(error.into()))
    }
}
