//! The response that a handler returns.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use smallvec::SmallVec;

use crate::proto::body::Body;
use crate::proto::stream::Stream;
use crate::proto::{BoxFuture, carry};

/// A response: a status, header fields, and a body.
///
/// The connection writes `Content-Length`, `Transfer-Encoding`, `Connection`, `Date` and `Server`. A handler may set
/// `Connection: close`, which closes the connection after the response, and its own `Server` and `Date`. The connection
/// ignores other values of these fields, with two exceptions. Over HTTP/2 there are no chunks, and `Connection: close`
/// ends the connection after the requests that have arrived:
///
/// A body that does not know its length, such as [`Body::from_stream`], is sent with the `Content-Length` that the
/// handler has set. Another number of bytes cuts the connection, and trailers are dropped. Without the field, or with
/// 0, the body is sent in chunks.
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
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Response, StatusCode, header};
///
/// let response = Response::text("created\n")
///     .with_status(StatusCode::CREATED)
///     .with_header("location", "/items/1");
/// assert_eq!(response.status(), 201);
/// assert_eq!(response.header(header::LOCATION).unwrap(), "/items/1");
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
        Response::new(text).with_header(header::CONTENT_TYPE, TEXT)
    }

    /// Creates a response with status 200 and a `text/html; charset=utf-8` body.
    pub fn html(html: impl Into<Body>) -> Response {
        Response::new(html).with_header(header::CONTENT_TYPE, HTML)
    }

    /// Creates a response with status 200 and `value` as an `application/json` body. If `value` cannot be serialised,
    /// the error is logged and the status is 500.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        match serde_json::to_vec(value) {
            Ok(json) => Response::new(json).with_header(header::CONTENT_TYPE, JSON),
            Err(error) => {
                log::error!("a response could not be serialised: {error}");
                Response::status_only(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// Creates a redirect with status 303 (See Other): the client requests `location` with GET. It is the answer to a
    /// form that was processed.
    ///
    /// `location` is a URI reference (RFC 9110, 10.2.2), for example `/notes/1` or `https://example.com/`. Characters
    /// that a URI does not have, such as spaces, `\` and letters beyond ASCII, are percent-encoded. Its `%` stays as it
    /// is. A control character is refused: an error is logged, and the status is 500. Whether `location` is on this
    /// site is not checked: an untrusted `//example.com` leads to another one.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Response, header};
    ///
    /// let response = Response::redirect("/notes/über uns?a=%31");
    /// assert_eq!(response.status(), 303);
    /// assert_eq!(response.header(header::LOCATION).unwrap(), "/notes/%C3%BCber%20uns?a=%31");
    /// ```
    pub fn redirect(location: impl AsRef<str>) -> Response {
        redirect(StatusCode::SEE_OTHER, location.as_ref())
    }

    /// Creates a redirect with status 307 (Temporary Redirect): the client repeats its request, with the same method
    /// and body, at `location`, and uses the first target again the next time. `location` is treated as by
    /// [`redirect`](Response::redirect).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Response::temporary_redirect("/busy").status(), 307);
    /// ```
    pub fn temporary_redirect(location: impl AsRef<str>) -> Response {
        redirect(StatusCode::TEMPORARY_REDIRECT, location.as_ref())
    }

    /// Creates a redirect with status 308 (Permanent Redirect): the client repeats its request, with the same method
    /// and body, at `location`, and may go there at once the next time. `location` is treated as by
    /// [`redirect`](Response::redirect).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Response::permanent_redirect("/new").status(), 308);
    /// ```
    pub fn permanent_redirect(location: impl AsRef<str>) -> Response {
        redirect(StatusCode::PERMANENT_REDIRECT, location.as_ref())
    }

    /// Creates a redirect with status 302 (Found). The client may change POST to GET (RFC 9110, 15.4.3), so
    /// [`redirect`](Response::redirect) and [`temporary_redirect`](Response::temporary_redirect) are clearer.
    /// `location` is treated as by `redirect`.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Response::found("/here").status(), 302);
    /// ```
    pub fn found(location: impl AsRef<str>) -> Response {
        redirect(StatusCode::FOUND, location.as_ref())
    }

    /// Creates a redirect with status 301 (Moved Permanently). The client may change POST to GET (RFC 9110, 15.4.2);
    /// [`permanent_redirect`](Response::permanent_redirect) keeps the method. `location` is treated as by
    /// [`redirect`](Response::redirect).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Response::moved_permanently("/new").status(), 301);
    /// ```
    pub fn moved_permanently(location: impl AsRef<str>) -> Response {
        redirect(StatusCode::MOVED_PERMANENTLY, location.as_ref())
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
    /// # extern crate gearshift_core as gearshift;
    /// use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
    /// use gearshift::{HeaderValue, Request, Response, Stream};
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
            .with_header(header::UPGRADE, protocol)
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
        self.extra().after.push((Box::pin(carry(then)), Location::caller()));
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

    /// Sets a field: `value` replaces the values of all fields with this name.
    ///
    /// Constants of [`header`] and [`HeaderValue::from_static`] cost no allocation. Text is checked and copied. A field
    /// that may occur several times, such as `Set-Cookie`, is added by [`append_header`](Response::append_header).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{HeaderValue, Response, header};
    ///
    /// let response = Response::text("a,b\n")
    ///     .with_header("content-type", "text/csv")
    ///     .with_header(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    ///     .with_header(header::AGE, 60);
    /// assert_eq!(response.header(header::CONTENT_TYPE).unwrap(), "text/csv");
    /// assert_eq!(response.headers().count(), 3);
    /// ```
    ///
    /// # Panics
    /// If `name` is not a field name, or if `value` contains a control character. For an untrusted value, use
    /// [`HeaderValue::from_str`] and handle its error.
    #[inline]
    #[track_caller]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Response
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let (name, value) = field(name, value);
        self.fields.retain(|(other, _)| *other != name);
        self.fields.push((name, value));
        self
    }

    /// Adds a field behind the other ones, also if the response has a field with this name.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Response, header};
    ///
    /// let response = Response::new(())
    ///     .append_header(header::VARY, "accept")
    ///     .append_header(header::VARY, "origin");
    /// assert_eq!(response.headers().count(), 2);
    /// ```
    ///
    /// # Panics
    /// As [`with_header`](Response::with_header).
    #[inline]
    #[track_caller]
    pub fn append_header<N, V>(mut self, name: N, value: V) -> Response
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        self.fields.push(field(name, value));
        self
    }

    /// Removes all fields with this name, which is compared without regard to case. The connection still adds the
    /// fields that it writes itself.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Response;
    ///
    /// let response = Response::text("unknown").remove_header("Content-Type");
    /// assert_eq!(response.headers().count(), 0);
    /// ```
    pub fn remove_header(mut self, name: impl AsRef<str>) -> Response {
        let name = name.as_ref();
        self.fields.retain(|(other, _)| !other.as_str().eq_ignore_ascii_case(name));
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The value of the first field with this name. Names are compared without regard to case.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Response, header};
    ///
    /// let response = Response::text("hello");
    /// assert_eq!(response.header("Content-Type").unwrap(), "text/plain; charset=utf-8");
    /// assert_eq!(response.header(header::LOCATION), None);
    /// ```
    pub fn header(&self, name: impl AsRef<str>) -> Option<&HeaderValue> {
        let name = name.as_ref();
        self.fields
            .iter()
            .find(|(other, _)| other.as_str().eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
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
        let mut fields = FieldList::with_capacity(parts.headers.len());
        let mut last = None;
        for (name, value) in parts.headers {
            // A name comes once, with the first of its values.
            last = name.or(last);
            fields.extend(last.clone().map(|name| (name, value)));
        }
        Response { status: parts.status, fields, body: Body::from_http(body), extra }
    }
}

/// The parts that a response of the `http` crate has no place for. Extensions are cloned, and an upgrade is not.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Box<Extra>>>>);

/// The characters that a URI reference does not have (RFC 3986, 2). `%` is not among them: it begins the encoding of
/// another character.
const NOT_IN_A_LOCATION: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Creates a redirect; see [`Response::redirect`].
fn redirect(status: StatusCode, location: &str) -> Response {
    // Browsers remove tabs and line ends, so that their percent-encoding would mean another location.
    if location.bytes().any(|byte| byte.is_ascii_control()) {
        log::error!("a redirect was not sent: its location has a control character: {location:?}");
        return Response::status_only(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let location = Cow::from(utf8_percent_encode(location, NOT_IN_A_LOCATION));
    Response::status_only(status).with_header(header::LOCATION, &*location)
}

/// Converts the parts of a field.
///
/// # Panics
/// As [`Response::with_header`].
#[inline]
#[track_caller]
pub(crate) fn field<N, V>(name: N, value: V) -> (HeaderName, HeaderValue)
where
    N: TryInto<HeaderName, Error: fmt::Debug>,
    V: TryInto<HeaderValue, Error: fmt::Debug>,
{
    match name.try_into() {
        Err(error) => panic!("the name of a field is not valid: {error:?}"),
        Ok(name) => match value.try_into() {
            Ok(value) => (name, value),
            Err(error) => panic!("the value of the field `{name}` is not valid: {error:?}"),
        },
    }
}

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
