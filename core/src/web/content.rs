//! The deserialisation of request bodies according to their `Content-Type`: JSON and forms.

use std::fmt::Display;

use http::{StatusCode, header};
use serde::de::DeserializeOwned;

use crate::proto::request::Request;
use crate::web::refusal::Refusal;

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
    /// [`Refusal`] with 415 if the type is another one (RFC 9110, 8.3), with 400 if the body is not a valid `T`, or
    /// with [`BodyError::status`](crate::BodyError::status) if the body cannot be read.
    #[cfg(feature = "json")]
    pub async fn json<T: DeserializeOwned>(self, limit: usize) -> Result<T, Refusal> {
        if !is_json(self.essence()) {
            return Err(unsupported(JSON));
        }
        let bytes = self.into_body().bytes(limit).await?;
        serde_json::from_slice(&bytes).map_err(invalid)
    }

    /// Reads and deserialises a form body of at most `limit` bytes. Its `Content-Type` must be
    /// `application/x-www-form-urlencoded` (WHATWG URL, 5).
    ///
    /// # Errors
    /// As [`json`](Request::json).
    #[cfg(feature = "form")]
    pub async fn form<T: DeserializeOwned>(self, limit: usize) -> Result<T, Refusal> {
        if !is_form(self.essence()) {
            return Err(unsupported(FORM));
        }
        let bytes = self.into_body().bytes(limit).await?;
        serde_urlencoded::from_bytes(&bytes).map_err(invalid)
    }

    /// Reads a body as [`json`](Request::json) or as a [`form`](Request::form) according to its `Content-Type`,
    /// for a route that serves programs and browsers. `limit` is in bytes.
    ///
    /// # Errors
    /// As [`json`](Request::json); 415 if the type is neither.
    #[cfg(all(feature = "json", feature = "form"))]
    pub async fn json_or_form<T: DeserializeOwned>(self, limit: usize) -> Result<T, Refusal> {
        match self.essence() {
            essence if is_json(essence) => self.json(limit).await,
            essence if is_form(essence) => self.form(limit).await,
            _ => Err(unsupported("application/json or application/x-www-form-urlencoded")),
        }
    }

    /// The `Content-Type` without parameters (WHATWG MIME Sniffing, 4.1).
    fn essence(&self) -> &str {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        content_type.split(';').next().unwrap_or_default().trim()
    }
}

#[cfg(feature = "json")]
fn is_json(essence: &str) -> bool {
    let suffix = essence.rsplit_once('+').map(|(_, suffix)| suffix);
    essence.eq_ignore_ascii_case(JSON) || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"))
}

#[cfg(feature = "form")]
fn is_form(essence: &str) -> bool {
    essence.eq_ignore_ascii_case(FORM)
}

fn unsupported(expected: &str) -> Refusal {
    let why = format!("the Content-Type of the body must be {expected}");
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, why)
}

fn invalid(error: impl Display) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, format!("the body is not valid: {error}"))
}

#[cfg(all(test, feature = "json", feature = "form"))]
mod tests {
    use futures_lite::future::block_on;
    use http::{Request as HttpRequest, StatusCode};
    use serde::Deserialize;

    use super::Refusal;
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

    type Read = fn(Option<&str>, &'static str) -> Result<Pair, Refusal>;
    const JSON: Read = |content_type, body| block_on(request(content_type, body).json(20));
    const FORM: Read = |content_type, body| block_on(request(content_type, body).form(20));
    const EITHER: Read = |content_type, body| block_on(request(content_type, body).json_or_form(20));

    #[test]
    fn a_body_is_read_as_what_it_says_it_is() {
        let pair = Pair { a: "x y".into(), b: 1 };
        for content_type in
            ["application/json", "Application/JSON ; charset=utf-8", "application/problem+JSON"]
        {
            for read in [JSON, EITHER] {
                assert_eq!(read(Some(content_type), r#"{"a":"x y","b":1}"#).expect(content_type), pair);
            }
        }
        let content_type = "application/x-www-form-urlencoded;charset=UTF-8";
        for read in [FORM, EITHER] {
            assert_eq!(read(Some(content_type), "a=x+y&b=%31&c=").expect("a form"), pair);
        }
    }

    #[test]
    fn everything_else_is_refused_by_status() {
        let status = |outcome: Result<Pair, Refusal>| outcome.expect_err("it is refused").status();
        for content_type in
            [None, Some(""), Some("text/plain"), Some("+jso"), Some("é"), Some("application/jsonp")]
        {
            for (read, body) in [(JSON, "{}"), (FORM, "a=b"), (EITHER, "a=b")] {
                let refused = status(read(content_type, body));
                assert_eq!(refused, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type:?}");
            }
        }
        let json = |body| status(JSON(Some("application/json"), body));
        let form = |body| status(FORM(Some("application/x-www-form-urlencoded"), body));
        assert_eq!([json("{"), json("{}"), json(r#"{"a":1}"#)], [StatusCode::BAD_REQUEST; 3]);
        assert_eq!([form("b=1"), form("a=b&b=256"), form("a=b&a=c")], [StatusCode::BAD_REQUEST; 3]);
        assert_eq!(json(r#"{"a":"x y","b":100}  "#), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(form("a=aaaaaaaaaaaaaaaaaaa"), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
