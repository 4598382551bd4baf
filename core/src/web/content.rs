//! Bodies as values: text, and by the media type JSON and forms; the query as a value.

use std::fmt::Display;

use bytes::Bytes;
use http::StatusCode;
#[cfg(any(feature = "json", feature = "form"))]
use http::header;
#[cfg(any(feature = "json", feature = "form"))]
use serde::de::DeserializeOwned;

use crate::proto::body::Body;
use crate::proto::request::Request;
use crate::web::refusal::Refusal;

#[cfg(feature = "json")]
const JSON: &str = "application/json";
#[cfg(feature = "form")]
const FORM: &str = "application/x-www-form-urlencoded";

impl Request {
    /// Reads the whole body as text.
    ///
    /// The body has at most [`body_limit`](Request::body_limit) bytes.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Refusal, Request};
    ///
    /// async fn shout(request: Request) -> Result<String, Refusal> {
    ///     Ok(request.text().await?.to_uppercase())
    /// }
    /// # futures_lite::future::block_on(async {
    /// assert_eq!(shout(Request::post("/").with_body("hey")).await?, "HEY");
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Refusal`] with 400 if the body is not UTF-8, or with [`BodyError::status`](crate::BodyError::status) if it
    /// cannot be read: 413 if it is longer than the limit.
    pub async fn text(self) -> Result<String, Refusal> {
        text(self.bytes().await?)
    }

    /// Reads and deserialises a JSON body of at most [`body_limit`](Request::body_limit) bytes.
    ///
    /// Its `Content-Type` must be `application/json` or end in `+json` (RFC 6839). The check protects against
    /// cross-site requests: a form on another site can send other types without the browser asking the server.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Refusal, Request};
    ///
    /// async fn sum(request: Request) -> Result<String, Refusal> {
    ///     let numbers: Vec<i64> = request.json().await?;
    ///     Ok(numbers.iter().sum::<i64>().to_string())
    /// }
    /// # futures_lite::future::block_on(async {
    /// assert_eq!(sum(Request::post("/").with_json(&[1, 2, 3])).await?, "6");
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Refusal`] with 415 if the type is another one (RFC 9110, 8.3), with 400 if the body is not a valid `T`, or
    /// with [`BodyError::status`](crate::BodyError::status) if the body cannot be read: 413 if it is longer than the
    /// limit.
    #[cfg(feature = "json")]
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        if !is_json(self.essence()) {
            return Err(unsupported(JSON));
        }
        serde_json::from_slice(&self.bytes().await?).map_err(invalid)
    }

    /// Reads and deserialises a form body of at most [`body_limit`](Request::body_limit) bytes. Its `Content-Type` must
    /// be `application/x-www-form-urlencoded` (WHATWG URL, 5).
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Refusal, Request};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Login {
    ///     name: String,
    /// }
    ///
    /// async fn greet(request: Request) -> Result<String, Refusal> {
    ///     let login: Login = request.form().await?;
    ///     Ok(format!("Hello, {}!", login.name))
    /// }
    /// # futures_lite::future::block_on(async {
    /// assert_eq!(greet(Request::post("/").with_form(&[("name", "Ada")])).await?, "Hello, Ada!");
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`json`](Request::json).
    #[cfg(feature = "form")]
    pub async fn form<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        if !is_form(self.essence()) {
            return Err(unsupported(FORM));
        }
        serde_urlencoded::from_bytes(&self.bytes().await?).map_err(invalid)
    }

    /// Reads a body as [`json`](Request::json) or as a [`form`](Request::form) according to its `Content-Type`,
    /// for a route that serves programs and browsers.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use std::collections::HashMap;
    ///
    /// use gearshift::{Refusal, Request};
    ///
    /// async fn names(request: Request) -> Result<String, Refusal> {
    ///     let pairs: HashMap<String, String> = request.json_or_form().await?;
    ///     Ok(pairs.into_keys().collect())
    /// }
    /// # futures_lite::future::block_on(async {
    /// let pairs = HashMap::from([("a", "1")]);
    /// assert_eq!(names(Request::post("/").with_json(&pairs)).await?, "a");
    /// assert_eq!(names(Request::post("/").with_form(&pairs)).await?, "a");
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`json`](Request::json); 415 if the type is neither.
    #[cfg(all(feature = "json", feature = "form"))]
    pub async fn json_or_form<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        match self.essence() {
            essence if is_json(essence) => self.json().await,
            essence if is_form(essence) => self.form().await,
            _ => Err(unsupported("application/json or application/x-www-form-urlencoded")),
        }
    }

    /// Deserialises the query, whose pairs are decoded as `application/x-www-form-urlencoded`. Without a query, `T` is
    /// made of no pairs.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Refusal, Request, StatusCode};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Search {
    ///     q: String,
    ///     #[serde(default)]
    ///     page: u32,
    /// }
    ///
    /// let search: Search = Request::get("/search?q=hello+world").query()?;
    /// assert_eq!((search.q.as_str(), search.page), ("hello world", 0));
    /// let refusal = Request::get("/search?q=a&page=x").query::<Search>().err().unwrap();
    /// assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
    /// # Ok::<(), Refusal>(())
    /// ```
    ///
    /// # Errors
    /// [`Refusal`] with 400 if the query is not a valid `T`.
    #[cfg(feature = "form")]
    pub fn query<'q, T: serde::Deserialize<'q>>(&'q self) -> Result<T, Refusal> {
        serde_urlencoded::from_str(self.query_str().unwrap_or_default()).map_err(|error| {
            Refusal::new(StatusCode::BAD_REQUEST, format!("the query is not valid: {error}"))
        })
    }

    /// Sets the body to `value` as JSON, and `Content-Type` to `application/json`, for tests and for calls from one
    /// handler to another. See [`json`](Request::json) for an example.
    ///
    /// # Panics
    /// If `value` cannot be serialised, or as [`with_header`](Request::with_header).
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn with_json<T: serde::Serialize + ?Sized>(self, value: &T) -> Request {
        let body = serde_json::to_vec(value).expect("a value that can be serialised");
        self.with_header(header::CONTENT_TYPE, JSON).with_body(body)
    }

    /// Sets the body to `value` as a form, and `Content-Type` to `application/x-www-form-urlencoded`, for tests and for
    /// calls from one handler to another. `value` is a struct, a map, or pairs. See [`form`](Request::form) for an
    /// example.
    ///
    /// # Panics
    /// If `value` cannot be serialised as pairs, or as [`with_header`](Request::with_header).
    #[cfg(feature = "form")]
    #[track_caller]
    pub fn with_form<T: serde::Serialize + ?Sized>(self, value: &T) -> Request {
        let body = serde_urlencoded::to_string(value).expect("a value that can be serialised");
        self.with_header(header::CONTENT_TYPE, FORM).with_body(body)
    }

    /// The `Content-Type` without parameters (WHATWG MIME Sniffing, 4.1).
    #[cfg(any(feature = "json", feature = "form"))]
    fn essence(&self) -> &str {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        content_type.split(';').next().unwrap_or_default().trim()
    }
}

impl Body {
    /// Reads the whole body, of at most [`Request::DEFAULT_BODY_LIMIT`] bytes, as text. [`Body::bytes`] takes another
    /// limit.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Body, Refusal};
    /// # futures_lite::future::block_on(async {
    /// assert_eq!(Body::from("hello").text().await?, "hello");
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Request::text`].
    pub async fn text(self) -> Result<String, Refusal> {
        text(self.bytes(Request::DEFAULT_BODY_LIMIT).await?)
    }

    /// Reads the whole body, of at most [`Request::DEFAULT_BODY_LIMIT`] bytes, and deserialises it from JSON. The body
    /// does not know its `Content-Type`.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Body, Refusal};
    /// # futures_lite::future::block_on(async {
    /// let numbers: Vec<u8> = Body::from("[1, 2]").json().await?;
    /// assert_eq!(numbers, [1, 2]);
    /// # Ok::<(), Refusal>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Refusal`] with 400 if the body is not a valid `T`, or with the status of the
    /// [`BodyError`](crate::BodyError) if it cannot be read.
    #[cfg(feature = "json")]
    pub async fn json<T: DeserializeOwned>(self) -> Result<T, Refusal> {
        serde_json::from_slice(&self.bytes(Request::DEFAULT_BODY_LIMIT).await?).map_err(invalid)
    }
}

/// Converts the bytes of a body to text.
pub(crate) fn text(bytes: Bytes) -> Result<String, Refusal> {
    String::from_utf8(bytes.into()).map_err(invalid)
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

#[cfg(any(feature = "json", feature = "form", feature = "multipart"))]
pub(crate) fn unsupported(expected: &str) -> Refusal {
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
    const JSON: Read = |content_type, body| block_on(request(content_type, body).with_body_limit(20).json());
    const FORM: Read = |content_type, body| block_on(request(content_type, body).with_body_limit(20).form());
    const EITHER: Read =
        |content_type, body| block_on(request(content_type, body).with_body_limit(20).json_or_form());

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
