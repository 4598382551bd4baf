//! A response as a handler gives it.

use std::fmt;
use std::future::Future;
use std::panic::Location;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use smallvec::{SmallVec, smallvec};

use crate::proto::BoxFuture;
use crate::proto::body::Body;
use crate::proto::stream::Stream;

/// A response: a status, header fields, and a body.
///
/// Framing is the connection's business: `Content-Length`, `Transfer-Encoding`, `Connection`, `Date` and `Server`
/// are written by it. Of these a handler may set `Connection: close` to have the connection closed, and `Server`
/// and `Date` to its own values; a `Content-Length` is kept only where there is no body to measure (HEAD, 304).
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) fields: FieldList,
    pub(crate) body: Body,
    pub(crate) extra: Option<Box<Extra>>,
}

/// Work that begins once a response is on the wire, and the place in the source that asked for it.
pub(crate) type Later = (BoxFuture<()>, &'static Location<'static>);

/// What few responses have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) upgrade: Option<Upgrade>,
    /// To be done once the response is on the wire.
    pub(crate) after: Vec<Later>,
}

/// Field lines in the order they will be sent. Two fit without memory of their own.
pub(crate) type FieldList = SmallVec<[(HeaderName, HeaderValue); 2]>;

/// What to do with the connection once it is no longer HTTP.
pub(crate) type Upgrade = Box<dyn FnOnce(Stream) -> BoxFuture<()> + Send>;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

impl Response {
    /// 200 with the given body and no fields.
    #[inline]
    pub fn new(body: impl Into<Body>) -> Response {
        Response { status: StatusCode::OK, fields: FieldList::new(), body: body.into(), extra: None }
    }

    /// The given status with an empty body.
    #[inline]
    pub fn status_only(status: StatusCode) -> Response {
        Response { status, fields: FieldList::new(), body: Body::empty(), extra: None }
    }

    /// 200 with a body of some type.
    #[inline]
    pub(crate) fn typed(content_type: HeaderValue, body: Body) -> Response {
        let fields = smallvec![(header::CONTENT_TYPE, content_type)];
        Response { status: StatusCode::OK, fields, body, extra: None }
    }

    /// 200 with `text/plain`.
    #[inline]
    pub fn text(text: impl Into<Body>) -> Response {
        Response::typed(TEXT, text.into())
    }

    /// 200 with `text/html`.
    pub fn html(html: impl Into<Body>) -> Response {
        Response::typed(HTML, html.into())
    }

    /// 200 with `value` as `application/json`; 500 if it cannot be serialised.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        match serde_json::to_vec(value) {
            Ok(json) => Response::typed(JSON, json.into()),
            Err(error) => {
                log::error!("a response could not be serialised: {error}");
                Response::status_only(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// 101 (RFC 9110, 7.8): after it the connection is `protocol`'s. `then` gets it as a stream, and runs as a
    /// background task of the [`Runtime`](crate::Runtime).
    ///
    /// A request that did not ask for an upgrade is answered 426 with the same `Upgrade` field instead.
    pub fn upgrade<F, U>(protocol: HeaderValue, then: F) -> Response
    where
        F: FnOnce(Stream) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let mut response = Response::status_only(StatusCode::SWITCHING_PROTOCOLS);
        response.extra().upgrade = Some(Box::new(move |stream| Box::pin(then(stream))));
        response.with_value(header::UPGRADE, protocol)
    }

    /// The same response to a `CONNECT` that succeeded (RFC 9110, 9.3.6): 200, then a tunnel.
    pub fn tunnel<F, U>(then: F) -> Response
    where
        F: FnOnce(Stream) -> U + Send + 'static,
        U: Future<Output = ()> + Send + 'static,
    {
        let mut response = Response::status_only(StatusCode::OK);
        response.extra().upgrade = Some(Box::new(move |stream| Box::pin(then(stream))));
        response
    }

    /// The same response with something to do once it is on the wire.
    ///
    /// `then` becomes a background task when the last byte of the response was handed to the system, or when that has
    /// become impossible because the peer has left: once, in any case, and never before. It delays neither the next
    /// request of the connection nor its closing; a server that stops waits for it as for every
    /// [`Task`](crate::Task). Several are started in their order.
    #[track_caller]
    pub fn after(mut self, then: impl Future<Output = ()> + Send + 'static) -> Response {
        self.extra().after.push((Box::pin(then), Location::caller()));
        self
    }

    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    pub(crate) fn take_upgrade(&mut self) -> Option<Upgrade> {
        self.extra.as_mut()?.upgrade.take()
    }

    /// What is to be done once this is on the wire.
    pub(crate) fn take_after(&mut self) -> Vec<Later> {
        self.extra.as_mut().map(|extra| std::mem::take(&mut extra.after)).unwrap_or_default()
    }

    /// The same response with another status.
    #[inline]
    pub fn with_status(mut self, status: StatusCode) -> Response {
        self.status = status;
        self
    }

    /// The same response with one more field.
    #[inline]
    pub fn with_value(mut self, name: HeaderName, value: HeaderValue) -> Response {
        self.fields.push((name, value));
        self
    }

    /// The same response with one more field, given as text.
    ///
    /// # Panics
    /// If `name` is no field name, or `value` holds a control character: a fault of the program. Untrusted values
    /// go through [`HeaderValue::from_str`] and [`Response::with_value`].
    pub fn with_header(self, name: &str, value: &str) -> Response {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a valid field name");
        self.with_value(name, HeaderValue::from_str(value).expect("a valid field value"))
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The first field called `name`.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// All fields, in the order they will be sent.
    pub fn headers(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.fields.iter().map(|(name, value)| (name, value))
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The body, to change or replace it.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// The same response in the `http` crate's types. An upgrade is lost, and what was to be done afterwards.
    pub fn into_http(self) -> http::Response<Body> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = HeaderMap::from_iter(self.fields);
        response
    }

    /// A response from the `http` crate's types, with any body.
    pub fn from_http<B>(response: http::Response<B>) -> Response
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<crate::proto::BoxError>,
    {
        let (parts, body) = response.into_parts();
        let mut fields = FieldList::new();
        for (name, value) in &parts.headers {
            fields.push((name.clone(), value.clone()));
        }
        Response { status: parts.status, fields, body: Body::from_http(body), extra: None }
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
