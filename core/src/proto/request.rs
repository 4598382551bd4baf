//! The request that a handler receives.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Extensions, HeaderName, HeaderValue, Method, Uri, Version};

use crate::proto::body::{Body, BodyError};
use crate::proto::fields::{FieldSpan, FieldSpans, Fields, Span};
use crate::proto::limits::Limits;
use crate::proto::request_parts::{self, Head, RequestParts};
use crate::proto::response::field;

/// A request: a parsed head, and a body that may still be arriving.
///
/// The head is one piece of shared memory with the bytes from the wire. Accessors borrow from it and copy only where
/// decoding requires it. A `Request` has the size of a pointer; the thread that drops it recycles its memory.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Method, Request};
///
/// let request = Request::new(Method::GET, "/search?q=hello+world&page=2", "");
/// assert_eq!(request.path(), "/search");
/// assert_eq!(request.query_str(), Some("q=hello+world&page=2"));
/// assert_eq!(request.query_param("q").as_deref(), Some("hello world"));
/// assert_eq!(request.header("host"), None);
/// ```
// Invariant: the field is `Some` until the drop.
pub struct Request(Option<Box<RequestParts>>);

impl Request {
    /// Creates a request with recycled memory. The caller must set its head: it is that of an earlier request.
    #[inline]
    pub(crate) fn recycled() -> Request {
        Request(Some(request_parts::take()))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &RequestParts {
        self.0.as_deref().expect("a request has its parts until it is dropped")
    }

    #[inline]
    pub(crate) fn inner_mut(&mut self) -> &mut RequestParts {
        self.0.as_deref_mut().expect("a request has its parts until it is dropped")
    }

    fn from_head(head: Head, body: Body) -> Request {
        let mut request = Request::recycled();
        let inner = request.inner_mut();
        (inner.head, inner.body) = (head, body);
        request
    }

    /// Creates an HTTP/1.1 request without header fields, for tests and for calls from one handler to another.
    ///
    /// # Panics
    /// If `target` is longer than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD), or contains a character other than
    /// visible ASCII.
    pub fn new(method: Method, target: &str, body: impl Into<Body>) -> Request {
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "a target is visible ASCII");
        let bytes = Bytes::copy_from_slice(target.as_bytes());
        let target = Span::within(&bytes, &bytes).expect("the target is short enough for a head");
        let path = path_of(&bytes, target);
        let head = Head { bytes, method, version: Version::HTTP_11, target, path, ..Head::default() };
        Request::from_head(head, body.into())
    }

    /// Creates a GET request without header fields and without a body, for tests and for calls from one handler to
    /// another. Methods such as [`with_header`](Request::with_header) complete it.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use futures_lite::future::block_on;
    /// use gearshift::{Handler, Request, Router, sync};
    ///
    /// let router = Router::new().get("/hello/{name}", sync(|request| {
    ///     format!("Hello, {}!", request.param("name").unwrap_or_default())
    /// }));
    /// let request = Request::get("/hello/Ada").with_header("accept", "text/plain");
    /// let response = block_on(router.call(request).response());
    /// assert_eq!(response.status(), 200);
    /// assert_eq!(block_on(response.into_body().text()).unwrap(), "Hello, Ada!");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn get(target: &str) -> Request {
        Request::new(Method::GET, target, ())
    }

    /// Creates a HEAD request; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Request::head("/").method(), "HEAD");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn head(target: &str) -> Request {
        Request::new(Method::HEAD, target, ())
    }

    /// Creates a POST request without a body; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let request = Request::post("/upload").with_body("some bytes");
    /// assert_eq!((request.method().as_str(), request.body().remaining()), ("POST", Some(10)));
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn post(target: &str) -> Request {
        Request::new(Method::POST, target, ())
    }

    /// Creates a PUT request without a body; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Request::put("/").method(), "PUT");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn put(target: &str) -> Request {
        Request::new(Method::PUT, target, ())
    }

    /// Creates a PATCH request without a body; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Request::patch("/").method(), "PATCH");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn patch(target: &str) -> Request {
        Request::new(Method::PATCH, target, ())
    }

    /// Creates a DELETE request without a body; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Request::delete("/").method(), "DELETE");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn delete(target: &str) -> Request {
        Request::new(Method::DELETE, target, ())
    }

    /// Creates an OPTIONS request without a body; see [`Request::get`].
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// assert_eq!(gearshift::Request::options("*").method(), "OPTIONS");
    /// ```
    ///
    /// # Panics
    /// As [`Request::new`].
    #[track_caller]
    pub fn options(target: &str) -> Request {
        Request::new(Method::OPTIONS, target, ())
    }

    /// Sets a header field: `value` replaces the values of all fields with this name. The head is copied, so this is
    /// for tests and for middleware, not for every request of a hot route.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Request, header};
    ///
    /// let request = Request::get("/").with_header("x-id", "1").with_header(header::ACCEPT, "*/*");
    /// assert_eq!(request.header("X-Id"), Some("1"));
    /// assert_eq!(request.with_header("X-ID", "2").headers().len(), 2);
    /// ```
    ///
    /// # Panics
    /// If the name or the value is not valid, as [`Response::with_header`](crate::Response::with_header), or if the
    /// head becomes larger than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD).
    #[track_caller]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Request
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let (name, value) = field(name, value);
        let Head { bytes, fields_start, fields, .. } = &mut self.inner_mut().head;
        let section = &bytes[*fields_start..];
        fields.retain(|other| !other.name.of(section).eq_ignore_ascii_case(name.as_str().as_bytes()));
        self.push_field(&name, &value);
        self
    }

    /// Adds a header field behind the other ones, also if the request has a field with this name. The head is copied,
    /// as by [`with_header`](Request::with_header).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let request = Request::get("/").append_header("accept", "a/b").append_header("accept", "c/d");
    /// assert_eq!(request.headers().get_all("accept").count(), 2);
    /// ```
    ///
    /// # Panics
    /// As [`with_header`](Request::with_header).
    #[track_caller]
    pub fn append_header<N, V>(mut self, name: N, value: V) -> Request
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let (name, value) = field(name, value);
        self.push_field(&name, &value);
        self
    }

    #[track_caller]
    fn push_field(&mut self, name: &HeaderName, value: &HeaderValue) {
        let Head { bytes, fields_start, fields, .. } = &mut self.inner_mut().head;
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        let len = bytes.len() + name.len() + value.len();
        assert!(len <= Limits::MAX_HEAD, "{HeadTooLarge}");
        let mut head = BytesMut::with_capacity(len);
        head.put_slice(bytes);
        // Each length is at most `MAX_HEAD`, which has 16 bits.
        let mut place = |part: &[u8]| {
            let start = (head.len() - *fields_start) as u16;
            head.put_slice(part);
            Span { start, len: part.len() as u16 }
        };
        fields.push(FieldSpan { name: place(name), value: place(value) });
        *bytes = head.freeze();
    }

    /// Sets the body.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// assert_eq!(Request::post("/").with_body("abc").body().remaining(), Some(3));
    /// ```
    pub fn with_body(mut self, body: impl Into<Body>) -> Request {
        self.inner_mut().body = body.into();
        self
    }

    /// The default of [`body_limit`](Request::body_limit): 2 MiB.
    pub const DEFAULT_BODY_LIMIT: usize = 2_097_152;

    /// The largest body in bytes that [`bytes`](Request::bytes), [`text`](Request::text) and their relatives collect
    /// in memory. A longer one is answered with 413.
    ///
    /// A body that is read in pieces, through [`body_mut`](Request::body_mut) or [`into_body`](Request::into_body), has
    /// another limit, [`Limits::body`](crate::Limits::body), which applies to every body.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let request = Request::post("/");
    /// assert_eq!(request.body_limit(), Request::DEFAULT_BODY_LIMIT);
    /// assert_eq!(request.with_body_limit(10_000).body_limit(), 10_000);
    /// ```
    pub fn body_limit(&self) -> usize {
        self.inner().body_limit.unwrap_or(Request::DEFAULT_BODY_LIMIT)
    }

    /// Sets [`body_limit`](Request::body_limit), for middleware.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::Request;
    ///
    /// let mut request = Request::post("/");
    /// request.set_body_limit(64 << 20);
    /// assert_eq!(request.body_limit(), 64 << 20);
    /// ```
    #[inline]
    pub fn set_body_limit(&mut self, bytes: usize) {
        self.inner_mut().body_limit = Some(bytes);
    }

    /// Sets [`body_limit`](Request::body_limit), for one call: `request.with_body_limit(100).text()`.
    #[inline]
    pub fn with_body_limit(mut self, bytes: usize) -> Request {
        self.set_body_limit(bytes);
        self
    }

    /// Reads the whole body, of at most [`body_limit`](Request::body_limit) bytes.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{BodyError, Request};
    ///
    /// async fn count(request: Request) -> Result<String, BodyError> {
    ///     Ok(request.bytes().await?.len().to_string())
    /// }
    /// # futures_lite::future::block_on(async {
    /// assert_eq!(count(Request::post("/").with_body("abc")).await?, "3");
    /// let refused = count(Request::post("/").with_body("abc").with_body_limit(2)).await;
    /// assert!(matches!(refused, Err(BodyError::TooLarge { limit: 2 })));
    /// # Ok::<(), BodyError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Body::bytes`]. A handler that returns the error answers with [`BodyError::status`].
    pub async fn bytes(self) -> Result<Bytes, BodyError> {
        let limit = self.body_limit();
        self.into_body().bytes(limit).await
    }

    /// The method (RFC 9110, 9). A HEAD request that a GET route answers keeps the method HEAD.
    #[inline]
    pub fn method(&self) -> &Method {
        &self.inner().head.method
    }

    /// The version of the request: HTTP/1.0, HTTP/1.1 or HTTP/2. A higher minor version counts as HTTP/1.1 (RFC 9110,
    /// 2.5).
    #[inline]
    pub fn version(&self) -> Version {
        self.inner().head.version
    }

    /// The request target as the peer sent it (RFC 9112, 3.2).
    #[inline]
    pub fn target(&self) -> &str {
        std::str::from_utf8(self.inner().head.target.of(&self.inner().head.bytes))
            .expect("a target is checked to be ASCII")
    }

    /// The path of the target, percent-encoded: `/a%20b` for the target `/a%20b?c`, and `/a` for `http://host/a`. The
    /// path of `*` and of the authority in a CONNECT request is the whole target.
    #[inline]
    pub fn path(&self) -> &str {
        std::str::from_utf8(self.path_bytes()).expect("a target is checked to be ASCII")
    }

    /// [`Request::path`] as bytes.
    #[inline]
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.inner().head.path.of(&self.inner().head.bytes)
    }

    /// The query: the part of the target after the first `?`, percent-encoded. `None` without a `?`.
    pub fn query_str(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The names and values in the query, decoded as `application/x-www-form-urlencoded`. Bytes that are not UTF-8 are
    /// replaced by U+FFFD.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query_str().unwrap_or_default().as_bytes())
    }

    /// The first value with the name `name` in the query, decoded as in [`Request::query_pairs`].
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The header fields, in the order in which the peer sent them.
    #[inline]
    pub fn headers(&self) -> Fields<'_> {
        let head = &self.inner().head;
        Fields { head: &head.bytes, start: head.fields_start, spans: &head.fields }
    }

    /// The value of the first header field with this name, which is compared without regard to case. `None` if there
    /// is no such field, or if its value is not UTF-8.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers().get_str(name)
    }

    /// A parameter of the route's path, percent-decoded: the value of `name` for a route `/hello/{name}`. Bytes that
    /// are not UTF-8 are replaced by U+FFFD.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        let RequestParts { params, head, .. } = self.inner();
        let raw = params.get(name)?.of(params.head.as_ref().unwrap_or(&head.bytes));
        Some(percent_encoding::percent_decode(raw).decode_utf8_lossy())
    }

    /// A parameter of the route's path, percent-decoded and parsed as `T`.
    ///
    /// # Errors
    /// [`ParamError`] if the route has no such parameter, or if its value is not a `T`. A handler that returns the
    /// error answers with 404.
    pub fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, ParamError> {
        let value = self.param(name).ok_or_else(|| ParamError::Missing { name: name.to_owned() })?;
        value.parse().map_err(|_| ParamError::Invalid { name: name.to_owned(), value: value.into_owned() })
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.inner().body
    }

    /// The body, to read while the head stays available.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.inner_mut().body
    }

    /// Drops the head and returns the body.
    pub fn into_body(mut self) -> Body {
        std::mem::take(&mut self.inner_mut().body)
    }

    /// The values that middleware has attached to the request.
    pub fn extensions(&self) -> &Extensions {
        &self.inner().extensions
    }

    /// The values attached to the request, to add values for handlers.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.inner_mut().extensions
    }

    /// Converts the request to the type of the `http` crate. Field values share the memory of the head.
    ///
    /// The peer, the runtime, the state and the parameters of the route pass through the extensions:
    /// [`Request::from_http`] finds them there.
    ///
    /// # Errors
    /// If the `http` crate rejects the target.
    pub fn into_http(mut self) -> Result<http::Request<Body>, http::Error> {
        let bytes = &self.inner().head.bytes;
        let uri = Uri::from_maybe_shared(bytes.slice_ref(self.inner().head.target.of(bytes)))?;
        let body = std::mem::take(&mut self.inner_mut().body);
        let mut request = http::Request::new(body);
        let head = &self.inner().head;
        *request.method_mut() = head.method.clone();
        *request.version_mut() = head.version;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers().to_map();
        *request.extensions_mut() = std::mem::take(&mut self.inner_mut().extensions);
        request.extensions_mut().insert(self.inner().carried());
        Ok(request)
    }

    /// Converts a request from the type of the `http` crate. The target, field names and field values are copied.
    ///
    /// # Errors
    /// [`HeadTooLarge`] if these have more than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD) bytes together.
    pub fn from_http(request: http::Request<impl Into<Body>>) -> Result<Request, HeadTooLarge> {
        let (http::request::Parts { method, uri, version, headers, mut extensions, .. }, body) =
            request.into_parts();
        let mut bytes = BytesMut::new();
        let mut place = |part: &[u8]| {
            let start = u16::try_from(bytes.len()).map_err(|_| HeadTooLarge)?;
            let len = u16::try_from(part.len()).map_err(|_| HeadTooLarge)?;
            bytes.put_slice(part);
            Ok(Span { start, len })
        };
        let target = place(uri.to_string().as_bytes())?;
        let mut fields = FieldSpans::new();
        for (name, value) in &headers {
            let (name, value) = (place(name.as_str().as_bytes())?, place(value.as_bytes())?);
            fields.push(FieldSpan { name, value });
        }
        if bytes.len() > Limits::MAX_HEAD {
            return Err(HeadTooLarge);
        }
        let bytes = bytes.freeze();
        let path = path_of(&bytes, target);
        let head = Head { bytes, method, version, target, path, fields_start: 0, fields };
        let mut request = Request::from_head(head, body.into());
        if let Some(carried) = extensions.remove() {
            request.inner_mut().set_carried(carried);
        }
        request.inner_mut().extensions = extensions;
        Ok(request)
    }
}

impl Drop for Request {
    #[inline]
    fn drop(&mut self) {
        if let Some(parts) = self.0.take() {
            request_parts::recycle(parts);
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &self.target())
            .field("version", &self.version())
            .field("headers", &self.headers())
            .field("body", &self.inner().body)
            .finish_non_exhaustive()
    }
}

/// The error of [`Request::parse_param`](crate::Request::parse_param). As a response it is 404: a path whose
/// parameter cannot be parsed names no resource.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{ParamError, Request, Router};
///
/// /// `/posts/7` is answered, and `/posts/seven` is 404.
/// async fn post(request: Request) -> Result<String, ParamError> {
///     let id: u32 = request.parse_param("id")?;
///     Ok(format!("post {id}"))
/// }
///
/// let app = Router::new().get("/posts/{id}", post);
/// # drop(app);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// The route has no parameter with this name.
    #[error("the route has no parameter '{name}'")]
    Missing {
        /// The requested name.
        name: String,
    },
    /// The value of the parameter is not of the requested type.
    #[error("'{value}' is no valid {name}")]
    Invalid {
        /// The requested name.
        name: String,
        /// The value in the path, percent-decoded.
        value: String,
    },
}

/// The error of a request whose head is larger than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD).
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Body, HeadTooLarge, Request, http};
///
/// let long = "x".repeat(70_000);
/// let request = http::Request::get("/").header("X-Long", long).body(Body::empty()).unwrap();
/// assert_eq!(Request::from_http(request).unwrap_err(), HeadTooLarge);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request head holds at most {} bytes", Limits::MAX_HEAD)]
pub struct HeadTooLarge;

/// The path of a target in any of the four forms (RFC 9112, 3.2). The target is not validated.
fn path_of(bytes: &Bytes, target: Span) -> Span {
    let whole = target.of(bytes);
    let start = match memchr::memmem::find(whole, b"://") {
        Some(at) if whole[0] != b'/' => match memchr::memchr(b'/', &whole[at + 3..]) {
            Some(slash) => at + 3 + slash,
            // An absolute target without a path has the path `/`. A slash of `://` provides the byte.
            None => return Span { start: target.start + at as u16 + 2, len: 1 },
        },
        _ => 0,
    };
    let len = memchr::memchr(b'?', &whole[start..]).unwrap_or(whole.len() - start);
    Span { start: target.start + start as u16, len: len as u16 }
}
