//! The conversion of a handler's return value into a [`Response`].

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Debug;
use std::io;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::proto::BoxError;
use crate::proto::body::{Body, BodyError};
use crate::proto::request::ParamError;
use crate::proto::response::{Response, field};

/// A value that a handler may return.
///
/// Text becomes `text/plain`, bytes become `application/octet-stream`, a status of 400 or above gets its reason phrase
/// as text, and `None` becomes 404. Fields alone, as an array or a [`HeaderMap`](http::HeaderMap), become an empty
/// response. Tuples set a status, fields, or both: a status or field of the tuple replaces the one of its last part.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{IntoResponse, StatusCode, header};
///
/// let response = (StatusCode::CREATED, [("content-type", "text/csv"), ("x-rows", "1")], "a,b\n").into_response();
/// assert_eq!(response.status(), StatusCode::CREATED);
/// assert_eq!(response.header(header::CONTENT_TYPE).unwrap(), "text/csv");
/// ```
///
/// Both variants of a `Result` are converted, so that an error type decides its own status:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{IntoResponse, Response, StatusCode};
///
/// enum Error {
///     SoldOut,
/// }
///
/// impl IntoResponse for Error {
///     fn into_response(self) -> Response {
///         match self {
///             Error::SoldOut => (StatusCode::CONFLICT, "sold out").into_response(),
///         }
///     }
/// }
///
/// fn buy(stock: u32) -> Result<String, Error> {
///     if stock == 0 { Err(Error::SoldOut) } else { Ok(format!("{} left", stock - 1)) }
/// }
///
/// assert_eq!(buy(3).into_response().status(), StatusCode::OK);
/// assert_eq!(buy(0).into_response().status(), StatusCode::CONFLICT);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a response",
    label = "not a response",
    note = "text, bytes, `StatusCode`, `Json(value)`, `Response` and tuples of a status, fields and one of them are responses",
    note = "an error of another type becomes a response by `.map_err(…)`, or by an implementation of `IntoResponse` for it"
)]
pub trait IntoResponse {
    /// Converts the value into a response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    #[inline]
    fn into_response(self) -> Response {
        self
    }
}

/// A function that fails with a response puts it into a `Box`, so that its `Result` stays small.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{IntoResponse, Request, Response, StatusCode};
///
/// fn checked(request: Request) -> Result<Request, Box<Response>> {
///     match request.header("x-key") {
///         Some("secret") => Ok(request),
///         _ => Err(StatusCode::UNAUTHORIZED.into_response().with_header("www-authenticate", "Key").into()),
///     }
/// }
/// # assert_eq!(checked(Request::get("/")).unwrap_err().into_response().status(), 401);
/// ```
impl IntoResponse for Box<Response> {
    fn into_response(self) -> Response {
        *self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::status_only(StatusCode::OK)
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl IntoResponse for &'static str {
    #[inline]
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

impl IntoResponse for Box<str> {
    fn into_response(self) -> Response {
        String::from(self).into_response()
    }
}

impl IntoResponse for &'static [u8] {
    fn into_response(self) -> Response {
        Bytes::from_static(self).into_response()
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");
        Response::new(self).with_header(header::CONTENT_TYPE, BINARY)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Bytes::from(self).into_response()
    }
}

/// The response has no `Content-Type`.
impl IntoResponse for Body {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        match self.canonical_reason() {
            Some(reason) if self.as_u16() >= 400 => Response::text(reason).with_status(self),
            _ => Response::status_only(self),
        }
    }
}

impl<R: IntoResponse> IntoResponse for (StatusCode, R) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

/// An empty response with status 200 and these fields.
///
/// # Panics
/// If a name or a value is not valid, as [`Response::with_header`] does.
impl<N, V, const COUNT: usize> IntoResponse for [(N, V); COUNT]
where
    N: TryInto<HeaderName, Error: Debug>,
    V: TryInto<HeaderValue, Error: Debug>,
{
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

/// The fields of the array replace the fields of the inner response with the same names. A name that is twice in the
/// array becomes two fields.
///
/// # Panics
/// If a name or a value is not valid, as [`Response::with_header`] does.
impl<R: IntoResponse, N, V, const COUNT: usize> IntoResponse for ([(N, V); COUNT], R)
where
    N: TryInto<HeaderName, Error: Debug>,
    V: TryInto<HeaderValue, Error: Debug>,
{
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        let fields = self.0.map(|(name, value)| field(name, value));
        response.fields.retain(|(name, _)| fields.iter().all(|(given, _)| given != name));
        response.fields.extend(fields);
        response
    }
}

/// # Panics
/// If a name or a value is not valid, as [`Response::with_header`] does.
impl<R: IntoResponse, N, V, const COUNT: usize> IntoResponse for (StatusCode, [(N, V); COUNT], R)
where
    N: TryInto<HeaderName, Error: Debug>,
    V: TryInto<HeaderValue, Error: Debug>,
{
    fn into_response(self) -> Response {
        (self.1, self.2).into_response().with_status(self.0)
    }
}

/// An empty response with status 200 and these fields.
impl IntoResponse for HeaderMap {
    fn into_response(self) -> Response {
        (self, ()).into_response()
    }
}

/// The fields of the map replace the fields of the inner response with the same names.
impl<R: IntoResponse> IntoResponse for (HeaderMap, R) {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        response.fields.retain(|(name, _)| !self.0.contains_key(&*name));
        response.fields.extend(self.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        response
    }
}

impl<R: IntoResponse> IntoResponse for (StatusCode, HeaderMap, R) {
    fn into_response(self) -> Response {
        (self.1, self.2).into_response().with_status(self.0)
    }
}

impl<R: IntoResponse, E: IntoResponse> IntoResponse for Result<R, E> {
    #[inline]
    fn into_response(self) -> Response {
        self.map_or_else(E::into_response, R::into_response)
    }
}

/// An error that contains a [`BodyError`], for example from a [`BodyReader`](crate::BodyReader), becomes the response
/// of the `BodyError`. Any other error is logged and becomes 500.
impl IntoResponse for io::Error {
    fn into_response(self) -> Response {
        match self.downcast::<BodyError>() {
            Ok(error) => error.into_response(),
            Err(error) => BoxError::from(error).into_response(),
        }
    }
}

impl<R: IntoResponse> IntoResponse for Option<R> {
    fn into_response(self) -> Response {
        self.map_or_else(|| StatusCode::NOT_FOUND.into_response(), R::into_response)
    }
}

impl<B> IntoResponse for http::Response<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    fn into_response(self) -> Response {
        Response::from_http(self)
    }
}

/// The status is [`BodyError::status`]; the body is the text of the error. An error with 500 is logged instead, and the
/// peer does not receive its text.
impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        match self.status() {
            StatusCode::INTERNAL_SERVER_ERROR => BoxError::from(self).into_response(),
            status => Response::text(self.to_string()).with_status(status),
        }
    }
}

/// The status is 404; the body is the text of the error.
impl IntoResponse for ParamError {
    fn into_response(self) -> Response {
        Response::text(self.to_string()).with_status(StatusCode::NOT_FOUND)
    }
}

/// The error is logged and becomes 500. The peer does not receive its text.
impl IntoResponse for BoxError {
    fn into_response(self) -> Response {
        log::error!("a handler failed: {self}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

/// A value to send as `application/json`; see [`Response::json`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{IntoResponse, Json};
///
/// let response = Json([1, 2, 3]).into_response();
/// assert_eq!(response.header("content-type").unwrap(), "application/json");
/// ```
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0)
    }
}
