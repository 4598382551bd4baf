//! The response that a handler returns.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use smallvec::SmallVec;

use crate::proto::BoxFuture;
use crate::proto::body::Body;
use crate::proto::stream::Stream;

/// A response: a status, header fields, and a body.
///
/// The connection writes `Content-Length`, `Transfer-Encoding`, `Connection`, `Date` and `Server`. A handler may set
/// `Connection: close`, which closes the connection after the response, and its own `Server` and `Date`. The connection
/// ignores other values of these fields, with one exception:
///
/// The body of a 304 is never sent, and a handler may leave out the body of a response to HEAD. The connection does not
/// know the length of such a body. It sends the `Content-Length` that the handler has set, or none. A body that the
/// handler gives to a response to HEAD is not sent; the response has its length.
///
/// Some responses are replaced, because they cannot answer their request: an interim status (1xx) by 500, and to
/// CONNECT a 2xx other than [`Response::tunnel`] by 501. The content of 204 and 205 is dropped. The connection adds
/// `Connection: upgrade` to a response with `Upgrade`.
///
/// ```
/// use gearshift_core::{Response, StatusCode, header};
///
/// let response = Response::text("created\n")
///     .with_status(StatusCode::CREATED)
///     .with_header("location", "/items/1");
/// assert_eq!(response.status(), 201);
/// assert_eq!(response.header(&header::LOCATION).unwrap(), "/items/1");
/// assert_eq!(response.body().remaining(), Some(8));
/// ```
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) fields: FieldList,
    pub(crate) body: Body,
    pub(crate) extra: Option<Box<Extra>>,
}

/// A future to run after the response was sent, and the source location that added it.
pub(crate) type Later = (BoxFuture<()>, &'static Location<'static>);

/// The parts that few responses have.
#[derive(Default)]
pub(crate) struct Extra {
    /// The function that takes the connection over after the head.
    pub(crate) upgrade: Option<Upgrade>,
    /// The futures to run after the response was sent.
    pub(crate) after: Vec<Later>,
}

/// Field lines in the order in which they are sent. Two fit without an allocation.
pub(crate) type FieldList = SmallVec<[(HeaderName, HeaderValue); 2]>;

/// The function that takes the connection over once it is no longer HTTP, and the source location that added it.
pub(crate) type Upgrade = (Box<dyn FnOnce(Stream) -> BoxFuture<()> + Send>, &'static Location<'static>);

pub(crate) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

impl Response {
    /// Creates a response with status 200, `body` and no fields.
    #[inline]
    pub fn new(body: impl Into<Body>) -> Response {
        Response { status: StatusCode::OK, fields: FieldList::new(), body: body.into(), extra: None }
    }

    /// Creates a response with `status`, an empty body and no fields.
    #[inline]
    pub fn status_only(status: StatusCode) -> Response {
        Response::new(()).with_status(status)
    }

    /// Creates a response with status 200 and a `text/plain; charset=utf-8` body.
    #[inline]
    pub fn text(text: impl Into<Body>) -> Response {
        Response::new(text).with_value(header::CONTENT_TYPE, TEXT)
    }

    /// Creates a response with status 200 and a `text/html; charset=utf-8` body.
    pub fn html(html: impl Into<Body>) -> Response {
        Response::new(html).with_value(header::CONTENT_TYPE, HTML)
    }

    /// Creates a response with status 200 and `value` as an `application/json` body. If `value` cannot be serialised,
    /// the error is logged and the status is 500.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        match serde_json::to_vec(value) {
            Ok(json) => Response::new(json).with_value(header::CONTENT_TYPE, JSON),
            Err(error) => {
                log::error!("a response could not be serialised: {error}");
                Response::status_only(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// Creates a response with status 101, after which the connection speaks `protocol` (RFC 9110, 7.8). `then`
    /// receives the connection as a stream, and its future runs in the background.
    ///
    /// The request must offer `protocol`: its `Upgrade` fields have a member with the same name, in any case, and the
    /// same version. Otherwise the peer receives 426 with the same `Upgrade` field, and `then` is dropped. A handler
    /// that speaks several protocols chooses from `request.headers().get_all("upgrade")`, where the peer has listed
    /// them in the order of its preference. The offer of an HTTP/1.0 request, and of one with `Connection: close`, is
    /// ignored.
    ///
    /// The new protocol begins after the body of the request. If the handler has not read the body, the server reads
    /// and drops it first, and sends `100 Continue` if the peer waits for it. If the body exceeds
    /// [`Limits::drain`](crate::Limits::drain) or cannot be read, the peer receives the response of the
    /// [`BodyError`](crate::BodyError), and `then` is dropped.
    ///
    /// The connection counts as open until the stream is dropped. A stop waits for it within the grace period, so
    /// `then` should end once [`Runtime::stopping`](crate::Runtime::stopping) is ready. A forced stop, and the end of
    /// the grace period, cut it: reads and writes of the stream fail with `ConnectionAborted`, and the future of
    /// `then` is dropped at its next wait. A future that continues without the stream is a background task.
    ///
    /// With another status than 101, for example after [`Response::with_status`], the response is an ordinary one,
    /// and `then` is dropped.
    ///
    /// ```
    /// use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
    /// use gearshift_core::{HeaderValue, Request, Response, Stream};
    ///
    /// // Echoes all bytes until the peer or the server ends.
    /// fn echo(request: Request) -> Response {
    ///     let runtime = request.runtime().clone();
    ///     Response::upgrade(HeaderValue::from_static("echo"), async move |mut stream: Stream| {
    ///         let mut bytes = [0; 1024];
    ///         loop {
    ///             let stop = async {
    ///                 runtime.stopping().await;
    ///                 Ok(0)
    ///             };
    ///             match stream.read(&mut bytes).or(stop).await {
    ///                 Ok(n @ 1..) if stream.write_all(&bytes[..n]).await.is_ok() => {}
    ///                 _ => break,
    ///             }
    ///         }
    ///     })
    /// }
    /// # drop(echo);
    /// ```
    #[track_caller]
    pub fn upgrade<F, U>(protocol: HeaderValue, then: F) -> Response
    where
        F: FnOnce(Stream) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        Response::tunnel(then)
            .with_status(StatusCode::SWITCHING_PROTOCOLS)
            .with_value(header::UPGRADE, protocol)
    }

    /// Creates the response to a successful CONNECT: status 200, after which the connection is a tunnel (RFC 9110,
    /// 9.3.6). `then` is used as in [`Response::upgrade`]. With another status than 2xx the response is an ordinary
    /// one, and `then` is dropped. For a request with another method the response is replaced by 500.
    #[track_caller]
    pub fn tunnel<F, U>(then: F) -> Response
    where
        F: FnOnce(Stream) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        Response::new(()).with_upgrade(then)
    }

    /// Sets the function that takes the connection over, if the status allows that.
    #[track_caller]
    pub(crate) fn with_upgrade<F, U>(mut self, then: F) -> Response
    where
        F: FnOnce(Stream) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let then = Box::new(move |stream| Box::pin(then(stream)) as BoxFuture<()>);
        self.extra().upgrade = Some((then, Location::caller()));
        self
    }

    /// Adds a future that runs after the response.
    ///
    /// `then` becomes a background task exactly once: when the last byte of the response was handed to the operating
    /// system, or when that is no longer possible because the peer has left. It delays neither the next request nor
    /// the closing of the connection. A server that stops waits for it as for every [`Task`](crate::Task). Several
    /// futures start in the order in which they were added.
    #[track_caller]
    pub fn after(mut self, then: impl Future<Output = ()> + Send + 'static) -> Response {
        self.extra().after.push((Box::pin(then), Location::caller()));
        self
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// Takes the function that takes the connection over.
    pub(crate) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.extra.as_mut()?.upgrade.take()
    }

    /// Takes the futures to run after the response.
    pub(crate) fn take_after(&mut self) -> Vec<Later> {
        self.extra.as_mut().map(|extra| std::mem::take(&mut extra.after)).unwrap_or_default()
    }

    /// Sets the status.
    #[inline]
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// Appends a field.
    #[inline]
    pub fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.fields.push((name, value));
        self
    }

    /// Appends a field whose name and value are given as text.
    ///
    /// # Panics
    /// If `name` is not a field name, or if `value` contains a control character. For an untrusted value, use
    /// [`HeaderValue::from_str`] and [`Response::with_value`].
    pub fn with_header(self, name: &str, value: &str) -> Response {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a valid field name");
        self.with_value(name, HeaderValue::from_str(value).expect("a valid field value"))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of the first field with this name.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// All fields, in the order in which they are sent.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to read or replace it.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// Drops the head and returns the body.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Converts the response to the type of the `http` crate. An upgrade and the futures of [`Response::after`] pass
    /// through the extensions: [`Response::from_http`] finds them there.
    pub fn into_http(self) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        if let Some(extra) = self.extra {
            response.extensions_mut().insert(Carried(Arc::new(Mutex::new(Some(extra)))));
        }
        *response.status_mut() = self.status;
        *response.headers_mut() = HeaderMap::from_iter(self.fields);
        response
    }

    /// Converts a response from the type of the `http` crate; see [`Body::from_http`] for its body. Other extensions
    /// than those of [`Response::into_http`] are dropped.
    pub fn from_http<B>(response: http::Response<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<crate::proto::BoxError>,
    {
        let (mut parts, body) = response.into_parts();
        let carried = parts.extensions.remove::<Carried>();
        let extra =
            carried.and_then(|carried| carried.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        let fields = parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Response { status: parts.status, fields, body: Body::from_http(body), extra }
    }
}

/// The parts that a response of the `http` crate has no place for. Extensions are cloned, and an upgrade is not.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Box<Extra>>>>);

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("fields", &self.fields)
            .field("body", &self.body)
            .field("upgrade", &self.extra.as_ref().is_some_and(|extra| extra.upgrade.is_some()))
            .finish_non_exhaustive()
    }
}
