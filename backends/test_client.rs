//! The client of [`TestServer`]: `ureq` without redirects and proxies. It adds only `Host` and the framing of the body.
//!
//! `ureq` knows the framing of responses and keeps connections open. A [`Request`] is sent as it is given, so that one
//! request serves a unit test of a handler and a test of the whole server.

#[cfg(not(feature = "tls"))]
mod no_tls;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::io::Read;
use std::time::Duration;

use gearshift_core::http::{HeaderMap, StatusCode, Uri};
use gearshift_core::{Config, Request, http};
#[cfg(not(feature = "tls"))]
use no_tls::trust;
#[cfg(feature = "tls")]
use tls::trust;
use ureq::config::AutoHeaderValue;
use ureq::{Agent, Body};

use crate::TestServer;

/// The time for the head of a response, and for each piece of its body.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Creates the client of one server, which has these settings.
pub(crate) fn agent(config: &Config) -> Agent {
    trust(Agent::config_builder(), config)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .allow_non_standard_methods(true)
        .user_agent(AutoHeaderValue::None)
        .accept(AutoHeaderValue::None)
        .accept_encoding(AutoHeaderValue::None)
        .timeout_recv_response(Some(TIMEOUT))
        .timeout_per_read(Some(TIMEOUT))
        .build()
        .new_agent()
}

impl TestServer {
    /// Sends a GET request and returns the response once its head has arrived; see [`TestServer::send`].
    ///
    /// # Panics
    /// As [`TestServer::send`].
    #[track_caller]
    pub fn get(&self, target: &str) -> TestResponse {
        self.send(Request::get(target))
    }

    /// Sends a request and returns the response once its head has arrived. Each status is a response, and a redirect is
    /// not followed.
    ///
    /// A connection is used again after its response was read to the end. The client adds `Host`, and the framing of a
    /// body; a streamed body is collected before it is sent. If the server speaks TLS, the client trusts the
    /// certificates of the server alone, and the first of them must be valid for 127.0.0.1. The call blocks, so it must
    /// not run on a thread of a server.
    ///
    /// ```
    /// use gearshift::{Backend, Refusal, Request, Router, TestServer};
    ///
    /// async fn shout(request: Request) -> Result<String, Refusal> {
    ///     Ok(request.text().await?.to_uppercase())
    /// }
    ///
    /// # fn main() -> Result<(), gearshift::ServeError> {
    /// for backend in Backend::available() {
    ///     let server = TestServer::start(*backend, Router::new().post("/shout", shout))?;
    ///     let response = server.send(Request::post("/shout").with_body("hello"));
    ///     assert_eq!((response.status().as_u16(), response.text()), (200, "HELLO".to_owned()));
    ///     assert_eq!(server.get("/shout").header("allow"), Some("POST, OPTIONS"));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    /// If the server does not respond within 30 seconds, or if the response is malformed.
    #[track_caller]
    pub fn send(&self, request: Request) -> TestResponse {
        let target = format!("{}{}", self.url(), request.target());
        let mut request = request.into_http().expect("a target that the http crate accepts");
        *request.uri_mut() = Uri::try_from(target).expect("a target that begins with a slash");
        // `ureq` does not know the type of the runtime in the extensions, nor needs it.
        request.extensions_mut().clear();
        let (head, body) = request.into_parts();
        let body = self.running.runtime.block_on(body.bytes(usize::MAX)).expect("a body that can be read");
        let outcome = match body.is_empty() {
            true => self.client.run(http::Request::from_parts(head, ())),
            false => self.client.run(http::Request::from_parts(head, &*body)),
        };
        TestResponse(outcome.unwrap_or_else(|error| panic!("the server does not respond: {error}")))
    }
}

/// A response to the client of a [`TestServer`]. Its body arrives while it is read.
///
/// ```
/// use gearshift::{Backend, Router, TestResponse, TestServer, sync};
///
/// let app = Router::new().get("/", sync(|_| "hello"));
/// let server = TestServer::start(Backend::available()[0], app)?;
/// let response: TestResponse = server.get("/");
/// assert_eq!(response.status(), 200);
/// assert_eq!(response.text(), "hello");
/// # Ok::<(), gearshift::ServeError>(())
/// ```
pub struct TestResponse(http::Response<Body>);

impl TestResponse {
    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }

    /// The value of the first field with this name; `None` if there is no such field, or if its value is not text.
    pub fn header(&self, name: impl AsRef<str>) -> Option<&str> {
        self.0.headers().get(name.as_ref())?.to_str().ok()
    }

    /// All fields.
    pub fn headers(&self) -> &HeaderMap {
        self.0.headers()
    }

    /// The body, to read while it arrives, as from a stream that does not end.
    pub fn into_reader(self) -> impl Read {
        self.0.into_body().into_reader()
    }

    /// Reads the whole body.
    ///
    /// # Panics
    /// If the body is cut short, or malformed, or if nothing of it arrives for 30 seconds.
    #[track_caller]
    pub fn bytes(self) -> Vec<u8> {
        let mut body = Vec::new();
        let outcome = self.into_reader().read_to_end(&mut body);
        outcome.unwrap_or_else(|error| panic!("the body cannot be read: {error}"));
        body
    }

    /// Reads the whole body as text.
    ///
    /// # Panics
    /// As [`bytes`](TestResponse::bytes), and if the body is not UTF-8.
    #[track_caller]
    pub fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("a body of UTF-8")
    }

    /// Reads the whole body and deserialises it from JSON.
    ///
    /// # Panics
    /// As [`bytes`](TestResponse::bytes), and if the body is not a valid `T`.
    #[cfg(feature = "json")]
    #[track_caller]
    pub fn json<T: serde::de::DeserializeOwned>(self) -> T {
        let body = self.bytes();
        serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!("the body is not valid: {error}: {:?}", String::from_utf8_lossy(&body))
        })
    }
}

impl fmt::Debug for TestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestResponse")
            .field("status", &self.status())
            .field("headers", self.headers())
            .finish_non_exhaustive()
    }
}
