//! The deserialisation of request bodies according to their `Content-Type`: JSON and forms.

use std::fmt;

use http::StatusCode;

use crate::proto::BoxError;
use crate::proto::body::BodyError;
use crate::proto::into_response::IntoResponse;
use crate::proto::response::Response;

/// The error of `Request::json`, `Request::form` and `Request::json_or_form`. As a response it has the status of
/// [`ContentError::status`] and its text.
#[derive(Debug)]
pub enum ContentError {
    /// The `Content-Type` is missing or another one (RFC 9110, 8.3).
    Type {
        /// The expected `Content-Type`.
        expected: &'static str,
    },
    /// The body could not be read.
    Body(BodyError),
    /// The body could not be deserialised.
    Value(BoxError),
}

impl ContentError {
    /// The status of the response: 415 for [`ContentError::Type`], 400 for [`ContentError::Value`], else
    /// [`BodyError::status`].
    pub fn status(&self) -> StatusCode {
        match self {
            ContentError::Type { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ContentError::Body(error) => error.status(),
            ContentError::Value(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContentError::Type { expected } => write!(f, "the Content-Type of the body must be {expected}"),
            ContentError::Body(error) => error.fmt(f),
            ContentError::Value(error) => write!(f, "the body is not valid: {error}"),
        }
    }
}

impl std::error::Error for ContentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ContentError::Type { .. } => None,
            ContentError::Body(error) => Some(error),
            ContentError::Value(error) => Some(&**error),
        }
    }
}

impl IntoResponse for ContentError {
    fn into_response(self) -> Response {
        Response::text(self.to_string()).with_status(self.status())
    }
}

impl From<BodyError> for ContentError {
    fn from(error: BodyError) -> ContentError {
        ContentError::Body(error)
    }
}

#[cfg(any(feature = "json", feature = "form"))]
mod request {
    use bytes::Bytes;
    use http::header;
    use serde::de::DeserializeOwned;

    use super::ContentError;
    use crate::proto::request::Request;

    #[cfg(feature = "json")]
    const JSON: &str = "application/json";
    #[cfg(feature = "form")]
    const FORM: &str = "application/x-www-form-urlencoded";

    impl Request {
        /// Reads and deserialises a JSON body of at most `limit` bytes.
        ///
        /// Its `Content-Type` must be `application/json` or end in `+json` (RFC 6839). The check protects against
        /// cross-site requests: a form on another site can send other types without the browser asking the server.
        ///
        /// # Errors
        /// [`ContentError`] if the type is another one, the body cannot be read, or it is not a valid `T`.
        #[cfg(feature = "json")]
        pub async fn json<T: DeserializeOwned>(self, limit: usize) -> Result<T, ContentError> {
            let bytes = self.content(JSON, is_json, limit).await?;
            serde_json::from_slice(&bytes).map_err(|error| ContentError::Value(error.into()))
        }

        /// Reads and deserialises a form body of at most `limit` bytes. Its `Content-Type` must be
        /// `application/x-www-form-urlencoded` (WHATWG URL, 5).
        ///
        /// # Errors
        /// [`ContentError`] if the type is another one, the body cannot be read, or it is not a valid `T`.
        #[cfg(feature = "form")]
        pub async fn form<T: DeserializeOwned>(self, limit: usize) -> Result<T, ContentError> {
            let bytes = self.content(FORM, is_form, limit).await?;
            serde_urlencoded::from_bytes(&bytes).map_err(|error| ContentError::Value(error.into()))
        }

        /// Reads a body as [`json`](Request::json) or as a [`form`](Request::form) according to its `Content-Type`,
        /// for a route that serves programs and browsers. `limit` is in bytes.
        ///
        /// # Errors
        /// [`ContentError`] if the type is neither, the body cannot be read, or it is not a valid `T`.
        #[cfg(all(feature = "json", feature = "form"))]
        pub async fn json_or_form<T: DeserializeOwned>(self, limit: usize) -> Result<T, ContentError> {
            match self.essence() {
                essence if is_json(essence) => self.json(limit).await,
                essence if is_form(essence) => self.form(limit).await,
                _ => Err(ContentError::Type {
                    expected: "application/json or application/x-www-form-urlencoded",
                }),
            }
        }

        /// Reads a body of at most `limit` bytes whose type `is_expected` accepts.
        async fn content(
            self,
            expected: &'static str,
            is_expected: impl Fn(&str) -> bool,
            limit: usize,
        ) -> Result<Bytes, ContentError> {
            if !is_expected(self.essence()) {
                return Err(ContentError::Type { expected });
            }
            Ok(self.into_body().bytes(limit).await?)
        }

        /// The `Content-Type` without parameters (WHATWG MIME Sniffing, 4.1).
        fn essence(&self) -> &str {
            let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
            content_type.split(';').next().unwrap_or_default().trim()
        }
    }

    #[cfg(feature = "json")]
    fn is_json(essence: &str) -> bool {
        let suffix = essence.len().checked_sub("+json".len()).and_then(|at| essence.get(at..));
        essence.eq_ignore_ascii_case(JSON)
            || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("+json"))
    }

    #[cfg(feature = "form")]
    fn is_form(essence: &str) -> bool {
        essence.eq_ignore_ascii_case(FORM)
    }
}

#[cfg(all(test, feature = "json", feature = "form"))]
mod tests {
    use futures_lite::future::block_on;
    use http::{Request as HttpRequest, StatusCode};
    use serde::Deserialize;

    use super::ContentError;
    use crate::proto::body::Body;
    use crate::proto::request::Request;

    #[derive(Deserialize, Debug, PartialEq)]
    struct Pair {
        a: String,
        #[serde(default)]
        b: u8,
    }

    fn request(content_type: Option<&str>, body: &'static str) -> Request {
        let mut request = HttpRequest::post("/");
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        Request::from_http(request.body(Body::from(body)).expect("a request")).expect("a small one")
    }

    fn json(content_type: Option<&str>, body: &'static str) -> Result<Pair, ContentError> {
        block_on(request(content_type, body).json(20))
    }

    fn form(content_type: Option<&str>, body: &'static str) -> Result<Pair, ContentError> {
        block_on(request(content_type, body).form(20))
    }

    fn either(content_type: Option<&str>, body: &'static str) -> Result<Pair, ContentError> {
        block_on(request(content_type, body).json_or_form(20))
    }

    #[test]
    fn a_body_is_read_as_what_it_says_it_is() {
        let pair = Pair { a: "x y".into(), b: 1 };
        for content_type in
            ["application/json", "Application/JSON ; charset=utf-8", "application/problem+JSON"]
        {
            for read in [json, either] {
                assert_eq!(read(Some(content_type), r#"{"a":"x y","b":1}"#).expect(content_type), pair);
            }
        }
        let content_type = "application/x-www-form-urlencoded;charset=UTF-8";
        for read in [form, either] {
            assert_eq!(read(Some(content_type), "a=x+y&b=%31&c=").expect("a form"), pair);
        }
    }

    #[test]
    fn everything_else_is_refused_by_status() {
        let status = |outcome: Result<Pair, ContentError>| outcome.expect_err("it is refused").status();
        for content_type in
            [None, Some(""), Some("text/plain"), Some("+jso"), Some("é"), Some("application/jsonp")]
        {
            for outcome in [json(content_type, "{}"), form(content_type, "a=b"), either(content_type, "a=b")]
            {
                assert_eq!(status(outcome), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
            }
        }
        let json = |body| status(json(Some("application/json"), body));
        let form = |body| status(form(Some("application/x-www-form-urlencoded"), body));
        assert_eq!([json("{"), json("{}"), json(r#"{"a":1}"#)], [StatusCode::BAD_REQUEST; 3]);
        assert_eq!([form("b=1"), form("a=b&b=256"), form("a=b&a=c")], [StatusCode::BAD_REQUEST; 3]);
        assert_eq!(json(r#"{"a":"x y","b":100}  "#), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(form("a=aaaaaaaaaaaaaaaaaaa"), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
