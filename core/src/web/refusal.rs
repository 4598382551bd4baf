//! The error type of handlers in which several operations can fail.

use std::borrow::Cow;
use std::fmt;
use std::io;

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::proto::body::BodyError;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::{ParamError, Request};
use crate::proto::response::{Response, field};
use crate::runtime::config::Overload;
use crate::runtime::handle::Elapsed;
use crate::runtime::pool::Busy;

/// The error of a handler that does not serve a request: a status, and a reason for the peer.
///
/// The operator `?` converts the errors of this crate, and a [`StatusCode`], into a `Refusal`. As a response it is the
/// reason as text, with `Retry-After` if the status is 503.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{IntoResponse, Refusal, Request, StatusCode};
///
/// async fn halve(request: Request) -> Result<String, Refusal> {
///     let n: u32 = request.parse_param("n")?;
///     if n % 2 == 1 {
///         return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "n must be even"));
///     }
///     Ok((n / 2).to_string())
/// }
/// # let refusal = Refusal::from(StatusCode::CONFLICT);
/// # assert_eq!(refusal.why(), "Conflict");
/// # assert_eq!(refusal.into_response().status(), StatusCode::CONFLICT);
/// # drop(halve);
/// ```
///
/// # Errors of an application
///
/// An application that formats its errors in another way, for example as JSON, has another error type. It makes
/// that type of every `Refusal`, by [`status`](Refusal::status), [`headers`](Refusal::headers) and
/// [`why`](Refusal::why). One implementation of `From` serves all errors of this crate:
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// # #[cfg(feature = "json")]
/// # mod example {
/// use gearshift::{IntoResponse, Json, Refusal, Request, Response, StatusCode};
/// use serde_json::json;
///
/// enum ApiError {
///     SoldOut,
///     Refused(Refusal),
/// }
///
/// impl<E: Into<Refusal>> From<E> for ApiError {
///     fn from(error: E) -> ApiError {
///         ApiError::Refused(error.into())
///     }
/// }
///
/// impl IntoResponse for ApiError {
///     fn into_response(self) -> Response {
///         match self {
///             ApiError::SoldOut => (StatusCode::CONFLICT, Json(json!({ "error": "sold out" }))).into_response(),
///             ApiError::Refused(refusal) => {
///                 let body = Json(json!({ "error": refusal.why() }));
///                 (refusal.status(), refusal.headers(), body).into_response()
///             }
///         }
///     }
/// }
///
/// async fn buy(request: Request) -> Result<String, ApiError> {
///     let item: u32 = request.parse_param("item")?;
///     let count: u32 = request.json().await?;
///     if count > 3 { Err(ApiError::SoldOut) } else { Ok(format!("{count} of {item}")) }
/// }
/// # pub fn check() {
/// #     let error = ApiError::from(gearshift::Busy);
/// #     assert!(error.into_response().header("retry-after").is_some());
/// #     drop(buy);
/// # }
/// # }
/// # #[cfg(feature = "json")]
/// # example::check();
/// ```
///
/// An error of another library, such as `rusqlite::Error`, then becomes a variant by `.map_err(ApiError::Database)`. An
/// application that prefers an implementation of `From` for it writes one for each type instead of the generic one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    status: StatusCode,
    why: Cow<'static, str>,
    /// The fields of the response that were set, without `Retry-After`.
    fields: Option<Box<HeaderMap>>,
}

impl Refusal {
    /// Creates a refusal. The peer receives `status`, and `why` as text.
    pub fn new(status: StatusCode, why: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status, why: why.into(), fields: None }
    }

    /// Sets a field of the response: `value` replaces the values of all fields with this name.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{IntoResponse, Refusal, StatusCode, header};
    ///
    /// let refusal = Refusal::from(StatusCode::UNAUTHORIZED).with_header("www-authenticate", "Bearer");
    /// assert_eq!(refusal.into_response().header(header::WWW_AUTHENTICATE).unwrap(), "Bearer");
    /// ```
    ///
    /// # Panics
    /// As [`Response::with_header`].
    #[track_caller]
    pub fn with_header<N, V>(mut self, name: N, value: V) -> Refusal
    where
        N: TryInto<HeaderName, Error: fmt::Debug>,
        V: TryInto<HeaderValue, Error: fmt::Debug>,
    {
        let (name, value) = field(name, value);
        self.fields.get_or_insert_default().insert(name, value);
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason that the peer receives.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The fields of the response, apart from those of its body: those of [`with_header`](Refusal::with_header), those
    /// that the status requires, such as `Upgrade` of a 426 from [`HandshakeError`](crate::ws::HandshakeError), and
    /// `Retry-After` if the status is 503.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Refusal, StatusCode};
    ///
    /// assert!(Refusal::from(StatusCode::CONFLICT).headers().is_empty());
    /// assert!(Refusal::from(StatusCode::SERVICE_UNAVAILABLE).headers().contains_key("retry-after"));
    /// ```
    pub fn headers(&self) -> HeaderMap {
        let mut fields = self.fields.as_deref().cloned().unwrap_or_default();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            fields.entry(header::RETRY_AFTER).or_insert(HeaderValue::from(Overload::RETRY_AFTER));
        }
        fields
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status.as_u16(), self.why)
    }
}

impl std::error::Error for Refusal {}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let fields = self.headers();
        let text = match self.why {
            Cow::Borrowed(why) => Response::text(why),
            Cow::Owned(why) => Response::text(why),
        };
        (self.status, fields, text).into_response()
    }
}

impl Request {
    /// Checks that the request was not sent by a page of another site. A handler that changes state on behalf of a
    /// logged-in user calls it first.
    ///
    /// The check reads `Sec-Fetch-Site` (Fetch Metadata, 2.4), which all browsers have sent since 2023. A request
    /// without the field comes from another kind of client and passes.
    ///
    /// # Errors
    /// A [`Refusal`] with status 403 if the field has a value other than `same-origin` and `none`.
    pub fn check_site(&self) -> Result<(), Refusal> {
        match self.header("Sec-Fetch-Site") {
            None | Some("same-origin" | "none") => Ok(()),
            Some(_) => Err(Refusal::new(StatusCode::FORBIDDEN, "the request was sent by another site")),
        }
    }
}

/// The reason is the reason phrase of the status.
impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Refusal {
        Refusal::new(status, status.canonical_reason().unwrap_or_default())
    }
}

/// The status is [`BodyError::status`]. An error with 500 is logged, and the peer does not receive its text.
impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Refusal {
        match error.status() {
            StatusCode::INTERNAL_SERVER_ERROR => failed(&error),
            status => Refusal::new(status, error.to_string()),
        }
    }
}

/// The status is 503: the queue of a pool is full.
impl From<Busy> for Refusal {
    fn from(busy: Busy) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, busy.to_string())
    }
}

/// The status is 404: no resource has this path.
impl From<ParamError> for Refusal {
    fn from(error: ParamError) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, error.to_string())
    }
}

/// The status is 504: a service that the handler waited for did not answer in time.
impl From<Elapsed> for Refusal {
    fn from(late: Elapsed) -> Refusal {
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, late.to_string())
    }
}

/// An error that contains a [`BodyError`] becomes the refusal of the `BodyError`. Any other error is logged, and the
/// status is 500. The peer does not receive its text.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Refusal, StatusCode};
///
/// fn page() -> Result<String, Refusal> {
///     Ok(std::fs::read_to_string("/no/such/file")?)
/// }
/// assert_eq!(page().unwrap_err().status(), StatusCode::INTERNAL_SERVER_ERROR);
/// ```
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        match error.downcast::<BodyError>() {
            Ok(error) => error.into(),
            Err(error) => failed(&error),
        }
    }
}

/// Logs the error. The refusal does not have its text.
fn failed(error: &dyn std::error::Error) -> Refusal {
    log::error!("a handler failed: {error}");
    StatusCode::INTERNAL_SERVER_ERROR.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_made_of_what_calls_answer_and_says_the_same() {
        let missing = || ParamError::Missing { name: "n".into() };
        let late = || Elapsed(std::time::Duration::from_secs(1));
        let failed = || BodyError::Source("a secret".into());
        let large = || BodyError::TooLarge { limit: 8 };
        let status = StatusCode::CONFLICT;
        let secret = || io::Error::other("/secret/path");
        for (refusal, response) in [
            (Refusal::from(missing()), missing().into_response()),
            (Refusal::from(large()), large().into_response()),
            (Refusal::from(failed()), failed().into_response()),
            (Refusal::from(late()), late().into_response()),
            (Refusal::from(Busy), Busy.into_response()),
            (Refusal::from(status), status.into_response()),
            (Refusal::from(io::Error::other(large())), large().into_response()),
            (Refusal::from(secret()), secret().into_response()),
        ] {
            assert!(!refusal.why().is_empty() && !refusal.why().contains("secret"));
            assert_eq!(refusal.to_string(), format!("{}: {}", response.status().as_u16(), refusal.why()));
            let after = |response: &Response| response.header(header::RETRY_AFTER).cloned();
            let answer = refusal.clone().into_response();
            assert_eq!((refusal.status(), after(&answer)), (response.status(), after(&response)));
        }
    }

    #[test]
    fn is_text_as_a_response() {
        let why = "not today".to_owned();
        let response = Refusal::new(StatusCode::IM_A_TEAPOT, why.clone()).into_response();
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        let body = futures_lite::future::block_on(response.into_body().bytes(100)).expect("it is at hand");
        assert_eq!(body, why);
    }

    #[test]
    fn is_what_a_page_of_another_site_gets() {
        let check_site = |site: Option<&str>| {
            let mut request = http::Request::post("/");
            if let Some(site) = site {
                request = request.header("Sec-Fetch-Site", site);
            }
            let request = request.body(crate::proto::body::Body::empty()).expect("a request");
            let outcome = Request::from_http(request).expect("a small one").check_site();
            outcome.map_err(|refusal| refusal.status())
        };
        for site in [None, Some("none"), Some("same-origin")] {
            assert_eq!(check_site(site), Ok(()));
        }
        for site in [Some("same-site"), Some("cross-site"), Some("")] {
            assert_eq!(check_site(site), Err(StatusCode::FORBIDDEN));
        }
    }
}
