//! The body of a message: bytes in memory, a lease on a connection that receives it, or a stream of the application.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::HeaderMap;
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
/// # Trailers
///
/// Fields may follow the data of a body with the chunked coding (RFC 9110, 6.5). [`Body::trailers`] returns those of a
/// request, and [`Body::with_trailers`] adds them to a response. Through [`http_body::Body`], trailers are the last
/// frame, and [`Body::from_http`] keeps them. A body that has trailers does not know its length, because a body with a
/// `Content-Length` has none.
///
/// The trailers of a request are limited like the fields of a head: by [`Limits::fields`](crate::Limits::fields),
/// [`Limits::field_line`](crate::Limits::field_line) and [`Limits::head`](crate::Limits::head). Fields that a recipient
/// needs before the content are no trailers: framing, connection, routing, authentication and cookies, modifiers of the
/// request such as `Range` and `If-Match`, and the format of the content (RFC 9110, 6.5.1). A request that has one of
/// them as a trailer is refused with 400. In a response such a trailer is not sent.
///
/// A response has its trailers on the wire if it has the chunked coding: the peer speaks HTTP/1.1, the method is not
/// HEAD, the status allows a body, and the length of the body is not known. Otherwise they are dropped. Over HTTP/2,
/// which has no chunks, they are sent with every response that has a body. A peer that has not sent `TE: trailers` gets
/// them, too, and may drop them (RFC 9110, 10.1.4): the application decides whether the response is of use without
/// them, and whether a field `Trailer` announces them.
///
/// # Example
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Body, BodyError};
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
    /// Bytes in memory, which may be empty, and the trailers that follow.
    Trailed(Box<Trailed>),
    Lease(Arc<dyn BodySource>),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
    /// A body of [`Body::holding_thread`], which is neither in memory nor another one of these.
    Holding(Box<Body>),
}

/// The end of a body that has trailers.
pub(crate) struct Trailed {
    data: Bytes,
    trailers: Box<HeaderMap>,
}

/// A part of a body.
pub(crate) enum Part {
    /// Bytes, at least one.
    Data(Bytes),
    /// The trailers. The body ends with them.
    Trailers(Box<HeaderMap>),
}

/// The connection from which a request body is read.
pub(crate) trait BodySource: Send + Sync {
    /// As [`Body::poll_part`].
    fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>>;
    /// As [`Body::remaining`].
    fn remaining(&self) -> Option<u64>;
}

impl Body {
    /// Creates an empty body.
    pub const fn empty() -> Body {
        Body(Inner::Empty)
    }

    /// Creates a body from a stream of chunks. Its length is not known: it is sent with the chunked coding, or to an
    /// HTTP/1.0 peer until the connection closes. A handler that knows the length sets `Content-Length`; see
    /// [`Response`](crate::Response).
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
    /// `Content-Length`, and another number of bytes cuts the connection. Trailers are kept; see
    /// [trailers](Body#trailers).
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
        Body(Inner::Stream(Box::pin(body.map_err(BodyError::of_source))))
    }

    /// Creates a body from data in memory and trailers.
    pub(crate) fn whole(data: Bytes, trailers: Option<Box<HeaderMap>>) -> Body {
        match trailers {
            Some(trailers) => Body(Inner::Trailed(Box::new(Trailed { data, trailers }))),
            None => Body::from(data),
        }
    }

    /// Adds trailers to the body. `trailers` is polled once the data has ended, so that it can depend on the data.
    /// `None` adds none. Trailers that the body has already stay, and the new ones replace those with the same names.
    ///
    /// The length of the returned body is not known, as that of [`Body::from_stream`]. An error cuts the connection.
    /// See [trailers](Body#trailers) for the responses that have their trailers on the wire.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Body, HeaderValue, Response};
    /// use http::HeaderMap;
    ///
    /// fn report() -> Response {
    ///     let body = Body::from("a,b\n1,2\n").with_trailers(async {
    ///         let mut trailers = HeaderMap::new();
    ///         trailers.insert("server-timing", HeaderValue::from_static("total;dur=12"));
    ///         Some(Ok(trailers))
    ///     });
    ///     Response::new(body).with_header("trailer", "server-timing")
    /// }
    /// # futures_lite::future::block_on(async {
    /// # let mut body = report().into_body();
    /// # assert_eq!(body.trailers().await.unwrap().unwrap()["server-timing"], "total;dur=12");
    /// # });
    /// ```
    pub fn with_trailers<F>(self, trailers: F) -> Body
    where
        F: Future<Output = Option<Result<HeaderMap, BodyError>>> + Send + 'static,
    {
        let (body, holds_thread) = self.into_parts();
        let with_trailers = Body(Inner::Stream(Box::pin(WithTrailers {
            body,
            has_body_ended: false,
            earlier: None,
            trailers: Some(Box::pin(trailers)),
        })));
        if holds_thread { with_trailers.holding_thread() } else { with_trailers }
    }

    /// Makes the response with this body hold the thread of its request on a blocking backend, as its handler has done,
    /// until the body has ended or the connection has ended. The thread that has called the handler polls and drops the
    /// body, and begins no other request before that. The body may therefore block in its poll: in
    /// [`Runtime::block_on`](crate::Runtime::block_on), for example to read the body of the request, or in foreign code.
    /// Work that it offloads runs on this thread, and [`CancelToken::is_cancelled`](crate::CancelToken::is_cancelled)
    /// looks for the peer, as in a handler.
    ///
    /// On every backend each piece is written before the next one is polled. While the peer receives nothing, the body
    /// is not polled. The head leaves with the first piece, or when the body is pending for the first time.
    ///
    /// The threads of an event loop drive other connections while the body is pending. The poll must not block there.
    /// Over HTTP/2 the pieces are passed on as they come. A body in memory holds no thread.
    ///
    /// A slow peer holds the thread, too: for [`Config::write_timeout`](crate::Config::write_timeout) without progress,
    /// and no longer than [`Config::min_rate`](crate::Config::min_rate) allows for each piece. A body that another type
    /// wraps, such as a layer of tower, holds no thread, so this is the last step of a response.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use std::io::{BufRead, BufReader};
    /// use std::fs::File;
    ///
    /// use futures_lite::stream;
    /// use gearshift::{Body, Request, Response};
    ///
    /// /// Sends the lines of a file, which are read by blocking calls on the thread of the request.
    /// fn lines(_: Request) -> std::io::Result<Response> {
    ///     let lines = BufReader::new(File::open("/etc/services")?).lines();
    ///     let body = Body::from_stream(stream::iter(lines.map(|line| line.map(|line| (line + "\n").into()))));
    ///     Ok(Response::new(body.holding_thread()))
    /// }
    /// # drop(lines);
    /// ```
    #[must_use]
    pub fn holding_thread(self) -> Body {
        match self.0 {
            Inner::Lease(_) | Inner::Stream(_) => Body(Inner::Holding(Box::new(self))),
            Inner::Empty | Inner::Full(_) | Inner::Trailed(_) | Inner::Holding(_) => self,
        }
    }

    /// Whether this is a body of [`Body::holding_thread`].
    pub(crate) fn holds_thread(&self) -> bool {
        matches!(self.0, Inner::Holding(_))
    }

    /// The body itself, and whether it holds the thread.
    pub(crate) fn into_parts(self) -> (Body, bool) {
        match self.0 {
            Inner::Holding(body) => (*body, true),
            _ => (self, false),
        }
    }

    /// Whether this is the body of a request that is read from its connection.
    pub(crate) fn is_lease(&self) -> bool {
        match &self.0 {
            Inner::Holding(body) => body.is_lease(),
            body => matches!(body, Inner::Lease(_)),
        }
    }

    /// Waits for the next piece of the body; returns `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`] if reading fails. A body that was cut short is [`BodyError::Incomplete`] and never an end.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Waits for the trailers, which follow the data. Data that was not read is read and dropped. Returns `None` if the
    /// body has no trailers, and after they were returned.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{BodyError, Request};
    ///
    /// // The sum of all bytes, and the sum that the peer has calculated.
    /// async fn sums(request: Request) -> Result<String, BodyError> {
    ///     let (mut body, mut sum) = (request.into_body(), 0);
    ///     while let Some(piece) = body.chunk().await {
    ///         sum += piece?.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    ///     }
    ///     let trailers = body.trailers().await?.unwrap_or_default();
    ///     Ok(format!("{sum} {:?}", trailers.get("x-sum")))
    /// }
    /// # drop(sums);
    /// ```
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn trailers(&mut self) -> Result<Option<HeaderMap>, BodyError> {
        poll_fn(|cx| self.poll_trailers(cx)).await
    }

    /// Waits for the whole body, of at most `limit` bytes. Trailers are dropped; see [`Body::trailers`].
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

    /// The number of bytes that were not read; `None` if only the end of the body will tell, and for a body that has
    /// trailers.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Inner::Empty => Some(0),
            Inner::Full(bytes) => Some(bytes.len() as u64),
            Inner::Trailed(_) => None,
            Inner::Lease(source) => source.remaining(),
            Inner::Stream(body) => body.size_hint().exact(),
            Inner::Holding(body) => body.remaining(),
        }
    }

    /// Whether the body is known to have no more bytes and no trailers. False if the length is not known.
    pub fn is_empty(&self) -> bool {
        self.remaining() == Some(0)
    }

    /// Polls for the next piece; see [`Body::chunk`]. The trailers stay for [`Body::poll_part`]. The body can be polled
    /// after its end.
    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => return Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                return Poll::Ready(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Ok));
            }
            Inner::Trailed(end) if end.data.is_empty() => return Poll::Ready(None),
            _ => {}
        }
        let trailers = match ready!(self.poll_part(cx)?) {
            Some(Part::Data(data)) => return Poll::Ready(Some(Ok(data))),
            Some(Part::Trailers(trailers)) => Some(trailers),
            None => None,
        };
        *self = Body::whole(Bytes::new(), trailers);
        Poll::Ready(None)
    }

    /// Polls for the trailers; see [`Body::trailers`].
    pub(crate) fn poll_trailers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<HeaderMap>, BodyError>> {
        let trailers = loop {
            match ready!(self.poll_part(cx)).transpose()? {
                Some(Part::Data(_)) => {}
                Some(Part::Trailers(trailers)) => break Some(*trailers),
                None => break None,
            }
        };
        *self = Body::empty();
        Poll::Ready(Ok(trailers))
    }

    /// Polls for the next piece or the trailers. This must not be called after the end of the body or its trailers.
    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        match &mut self.0 {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.0 = Inner::Empty;
                Poll::Ready(Some(bytes).filter(|bytes| !bytes.is_empty()).map(Part::Data).map(Ok))
            }
            Inner::Trailed(end) if !end.data.is_empty() => {
                Poll::Ready(Some(Ok(Part::Data(std::mem::take(&mut end.data)))))
            }
            Inner::Trailed(_) => match std::mem::take(&mut self.0) {
                Inner::Trailed(end) => Poll::Ready(Some(Ok(Part::Trailers(end.trailers)))),
                _ => Poll::Ready(None),
            },
            Inner::Lease(source) => source.poll_part(cx),
            Inner::Holding(body) => body.poll_part(cx),
            Inner::Stream(body) => loop {
                let Some(frame) = ready!(body.as_mut().poll_frame(cx)?) else { return Poll::Ready(None) };
                match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Poll::Ready(Some(Ok(Part::Data(data)))),
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) if !trailers.is_empty() => {
                            return Poll::Ready(Some(Ok(Part::Trailers(Box::new(trailers)))));
                        }
                        _ => {}
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
            Inner::Trailed(end) => write!(f, "Body({} bytes and trailers)", end.data.len()),
            Inner::Lease(_) => write!(f, "Body(arriving, {:?} left)", self.remaining()),
            Inner::Stream(_) => write!(f, "Body(stream, {:?} left)", self.remaining()),
            Inner::Holding(body) => body.fmt(f),
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
        self.poll_part(cx).map_ok(|part| match part {
            Part::Data(data) => Frame::data(data),
            Part::Trailers(trailers) => Frame::trailers(*trailers),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    /// The hint is exact if [`Body::remaining`] knows the length. It is not for a body that has trailers, because a
    /// sender gives a body of exact length a `Content-Length`, and drops its trailers.
    fn size_hint(&self) -> SizeHint {
        let mut hint = self.remaining().map_or_else(SizeHint::default, SizeHint::with_exact);
        if let Inner::Trailed(end) = &self.0 {
            hint.set_lower(end.data.len() as u64);
        }
        hint
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
        chunk.map_ok(Frame::data).map_err(BodyError::of_source)
    }
}

/// The adapter behind [`Body::with_trailers`]. It does not tell its length.
struct WithTrailers<F> {
    body: Body,
    has_body_ended: bool,
    /// The trailers of `body`.
    earlier: Option<Box<HeaderMap>>,
    /// `None` once the future has ended.
    trailers: Option<Pin<Box<F>>>,
}

impl<F> http_body::Body for WithTrailers<F>
where
    F: Future<Output = Option<Result<HeaderMap, BodyError>>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if !this.has_body_ended {
            match ready!(this.body.poll_part(cx)?) {
                Some(Part::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Part::Trailers(trailers)) => this.earlier = Some(trailers),
                None => {}
            }
            this.has_body_ended = true;
        }
        let Some(trailers) = &mut this.trailers else { return Poll::Ready(None) };
        let later = ready!(trailers.as_mut().poll(cx));
        this.trailers = None;
        let mut all = this.earlier.take();
        if let Some(later) = later {
            all.get_or_insert_default().extend(later?);
        }
        Poll::Ready(all.map(|all| Ok(Frame::trailers(*all))))
    }
}
