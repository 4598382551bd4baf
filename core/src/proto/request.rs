//! A request as a handler sees it.

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Extensions, Method, Uri, Version};

use crate::proto::fields::FieldSpan;

use crate::proto::body::Body;
use crate::proto::fields::FieldSpans;
use crate::proto::fields::{Fields, Span};
use crate::proto::params::ParamError;
use crate::proto::params::Params;
use crate::proto::params::decode;

/// A request: its head, parsed once and borrowed for ever, and its body, which may still be on its way.
///
/// The head is one piece of shared memory, the very bytes that came off the wire; nothing of it is copied until
/// something is asked for that needs a copy. A `Request` itself is a pointer: its parts are recycled by the thread
/// that drops it.
pub struct Request(Parts);

/// What a request is made of.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) head: Head,
    pub(crate) params: Params,
    pub(crate) body: Body,
    /// What the layer above shares with the request, for example the address of its peer.
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    extensions: Extensions,
}

/// A head and where its parts are.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) bytes: Bytes,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) target: Span,
    pub(crate) path: Span,
    pub(crate) fields: FieldSpans,
}

/// An [`Inner`] that goes back to its thread's pool. Invariant: `Some` until it is dropped.
struct Parts(Option<Box<Inner>>);

/// Requests that one thread keeps the memory of.
const POOLED: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    static POOL: RefCell<Vec<Box<Inner>>> = const { RefCell::new(Vec::new()) };
}

impl Deref for Parts {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        self.0.as_deref().expect("a request has its parts until it is dropped")
    }
}

impl DerefMut for Parts {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        self.0.as_deref_mut().expect("a request has its parts until it is dropped")
    }
}

impl Drop for Parts {
    #[inline]
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        // Whatever holds memory or a connection goes now; vectors keep theirs.
        inner.head.bytes = Bytes::new();
        inner.body = Body::empty();
        inner.context = None;
        if inner.params.names.take().is_some() {
            inner.params.values.clear();
        }
        if !inner.extensions.is_empty() {
            inner.extensions = Extensions::new();
        }
        // `try_with`: requests may be dropped while the thread's own values are.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOLED {
                pool.push(inner);
            }
        });
    }
}

impl Request {
    /// A request of which nothing is said yet. What it held last is not all gone: every part is to be set.
    #[inline]
    pub(crate) fn blank() -> Request {
        Request(Parts(Some(POOL.with_borrow_mut(Vec::pop).unwrap_or_default())))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    #[inline]
    pub(crate) fn inner_mut(&mut self) -> &mut Inner {
        &mut self.0
    }

    fn from_head(head: Head, body: Body) -> Request {
        let mut request = Request::blank();
        let inner = request.inner_mut();
        (inner.head, inner.body) = (head, body);
        request
    }

    /// A request made by hand, for tests and for calling one handler from another.
    ///
    /// # Panics
    /// If `target` is longer than [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD), or holds anything but visible
    /// ASCII.
    pub fn new(method: Method, target: &str, body: impl Into<Body>) -> Request {
        assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "a target is visible ASCII");
        let bytes = Bytes::copy_from_slice(target.as_bytes());
        let target = Span::within(&bytes, &bytes).expect("the target is short enough for a head");
        let path = path_of(&bytes, target);
        let head = Head { bytes, method, version: Version::HTTP_11, target, path, fields: FieldSpans::new() };
        Request::from_head(head, body.into())
    }

    /// The method. `HEAD` reaches a `GET` route as `HEAD`.
    #[inline]
    pub fn method(&self) -> &Method {
        &self.0.head.method
    }

    /// The version the peer speaks: HTTP/1.0 or HTTP/1.1.
    #[inline]
    pub fn version(&self) -> Version {
        self.0.head.version
    }

    /// The request target as it was sent (RFC 9112, 3.2).
    #[inline]
    pub fn target(&self) -> &str {
        std::str::from_utf8(self.0.head.target.of(&self.0.head.bytes))
            .expect("a target is checked to be ASCII")
    }

    /// The path of the target, still percent-encoded: `/a%20b` of `/a%20b?c`. Of an absolute target
    /// (`http://host/a`) it is what follows the authority; `*` and the authority of a `CONNECT` stand for
    /// themselves.
    #[inline]
    pub fn path(&self) -> &str {
        std::str::from_utf8(self.path_bytes()).expect("a target is checked to be ASCII")
    }

    #[inline]
    pub(crate) fn path_bytes(&self) -> &[u8] {
        self.0.head.path.of(&self.0.head.bytes)
    }

    /// What follows the first `?` of the target.
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The pairs of the query, decoded (`application/x-www-form-urlencoded`).
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let pairs = self.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(name), decode_form(value))
        })
    }

    /// The first value called `name` in the query, decoded; without regard to the values of other names.
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The header fields.
    #[inline]
    pub fn headers(&self) -> Fields<'_> {
        Fields { head: &self.0.head.bytes, spans: &self.0.head.fields }
    }

    /// The first header field called `name`, without regard to case, if it is UTF-8.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.headers().get_str(name)
    }

    /// A parameter of the route's path, percent-decoded: `name` of `/hello/{name}`.
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.params.get(name).map(|span| decode(span.of(&self.0.head.bytes)))
    }

    /// A parameter of the route's path as a value of some type.
    ///
    /// # Errors
    /// [`ParamError`] if the route has no such parameter, or it is no such value; returned from a handler, that is
    /// a 404.
    pub fn parse_param<T: FromStr>(&self, name: &str) -> Result<T, ParamError> {
        ParamError::parse(name, self.0.params.get(name).map(|span| span.of(&self.0.head.bytes)))
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// The body, to read from while the head stays.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.0.body
    }

    /// The body alone.
    pub fn into_body(mut self) -> Body {
        std::mem::take(&mut self.0.body)
    }

    /// Values that middleware leaves for handlers.
    pub fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    /// Values that middleware leaves for handlers.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0.extensions
    }

    /// The same request in the `http` crate's types; values share the head's memory.
    ///
    /// # Errors
    /// If the target is none that the `http` crate can hold.
    pub fn into_http(mut self) -> Result<http::Request<Body>, http::Error> {
        let mut request = http::Request::builder()
            .method(self.0.head.method.clone())
            .version(self.0.head.version)
            .uri(Uri::try_from(self.target())?)
            .body(())?;
        *request.headers_mut() = self.headers().to_map();
        *request.extensions_mut() = std::mem::take(&mut self.0.extensions);
        Ok(request.map(|()| self.into_body()))
    }

    /// A request from the `http` crate's types.
    ///
    /// # Errors
    /// [`HeadTooLarge`] if its target and fields are beyond what a head may hold.
    pub fn from_http(request: http::Request<impl Into<Body>>) -> Result<Request, HeadTooLarge> {
        let (parts, body) = request.into_parts();
        let mut bytes = BytesMut::new();
        let mut place = |part: &[u8]| {
            let start = u16::try_from(bytes.len()).map_err(|_| HeadTooLarge)?;
            let len = u16::try_from(part.len()).map_err(|_| HeadTooLarge)?;
            bytes.put_slice(part);
            Ok(Span { start, len })
        };
        let target = place(parts.uri.to_string().as_bytes())?;
        let mut fields = FieldSpans::new();
        for (name, value) in &parts.headers {
            fields
                .push(FieldSpan { name: place(name.as_str().as_bytes())?, value: place(value.as_bytes())? });
        }
        if bytes.len() > crate::proto::limits::Limits::MAX_HEAD {
            return Err(HeadTooLarge);
        }
        let bytes = bytes.freeze();
        let path = path_of(&bytes, target);
        let head = Head { bytes, method: parts.method, version: parts.version, target, path, fields };
        let mut request = Request::from_head(head, body.into());
        request.0.extensions = parts.extensions;
        Ok(request)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", self.method())
            .field("target", &self.target())
            .field("version", &self.version())
            .field("headers", &self.headers())
            .field("body", &self.0.body)
            .finish_non_exhaustive()
    }
}

/// A request whose head is beyond [`Limits::MAX_HEAD`](crate::Limits::MAX_HEAD).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLarge;

impl fmt::Display for HeadTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a request head holds at most {} bytes", crate::proto::limits::Limits::MAX_HEAD)
    }
}

impl std::error::Error for HeadTooLarge {}

/// The path of a target made by hand, in any of its four forms (RFC 9112, 3.2).
fn path_of(bytes: &Bytes, target: Span) -> Span {
    let whole = target.of(bytes);
    let authority = match whole.windows(3).position(|three| three == b"://") {
        Some(at) if whole[0] != b'/' => at + 3,
        _ => 0,
    };
    let start = match whole[authority..].iter().position(|&byte| byte == b'/') {
        Some(at) if authority > 0 => authority + at,
        // One of the slashes before the authority serves as the path that is not written.
        None if authority > 0 => return Span { start: target.start + authority as u16 - 1, len: 1 },
        _ => 0,
    };
    let len = whole[start..].iter().position(|&byte| byte == b'?').unwrap_or(whole.len() - start);
    Span { start: target.start + start as u16, len: len as u16 }
}

fn decode_form(raw: &str) -> Cow<'_, str> {
    if raw.contains('+') {
        Cow::Owned(decode(raw.replace('+', " ").as_bytes()).into_owned())
    } else {
        decode(raw.as_bytes())
    }
}
