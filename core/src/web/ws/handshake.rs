//! The opening handshake (RFC 6455, 4.2): the checks of the request.

use http::header::{self, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

use crate::proto::framing::list;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::web::refusal::Refusal;
use crate::web::ws::upgrade::WebSocketUpgrade;

/// The only version of the protocol (RFC 6455, 4.1).
const VERSION: &str = "13";

/// Why a request does not open a WebSocket. As a response it tells the peer what to send instead.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::HandshakeError;
/// use gearshift::{Request, Response, StatusCode};
///
/// /// `?` answers a request that opens no WebSocket.
/// async fn open(request: Request) -> Result<Response, HandshakeError> {
///     Ok(request.websocket()?.on_upgrade(async |_| ()))
/// }
///
/// assert_eq!(HandshakeError::NotUpgrade.status(), StatusCode::UPGRADE_REQUIRED);
/// # drop(open);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The method is not GET. The status is 405.
    #[error("a WebSocket is opened by GET")]
    NotGet,
    /// The request offers no upgrade to `websocket`, or is an HTTP/1.0 request. The status is 426.
    #[error("this is a WebSocket endpoint: the request must upgrade to websocket")]
    NotUpgrade,
    /// The version is not 13, or there are several. The status is 426.
    #[error("the version of WebSocket is 13")]
    WrongVersion,
    /// `Sec-WebSocket-Key` is missing, or is not 16 bytes in Base64. The status is 400.
    #[error("Sec-WebSocket-Key must be 16 bytes in Base64")]
    InvalidKey,
}

impl HandshakeError {
    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            HandshakeError::NotGet => StatusCode::METHOD_NOT_ALLOWED,
            HandshakeError::NotUpgrade | HandshakeError::WrongVersion => StatusCode::UPGRADE_REQUIRED,
            HandshakeError::InvalidKey => StatusCode::BAD_REQUEST,
        }
    }
}

/// The response has `Allow`, or `Upgrade` and `Sec-WebSocket-Version` (RFC 6455, 4.2.2), where they help the peer.
impl IntoResponse for HandshakeError {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}

/// The refusal has the status, the text and the fields of the response.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::WebSocket;
/// use gearshift::{Refusal, Request, Response};
///
/// fn watch(request: Request) -> Result<Response, Refusal> {
///     let room: u32 = request.parse_param("room")?;
///     Ok(request.websocket()?.on_upgrade(async move |mut socket: WebSocket| {
///         let _ = socket.send(format!("this is room {room}").into()).await;
///     }))
/// }
/// # drop(watch);
/// ```
impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Refusal {
        let refusal = Refusal::new(error.status(), error.to_string());
        match error {
            HandshakeError::NotGet => refusal.with_header(header::ALLOW, HeaderValue::from_static("GET")),
            HandshakeError::NotUpgrade | HandshakeError::WrongVersion => refusal
                .with_header(header::UPGRADE, PROTOCOL)
                .with_header(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION)),
            HandshakeError::InvalidKey => refusal,
        }
    }
}

/// The name of the protocol in `Upgrade`.
pub(super) const PROTOCOL: HeaderValue = HeaderValue::from_static("websocket");

impl Request {
    /// Checks that the request opens a WebSocket, and returns the upgrade with its options.
    ///
    /// A page of any site can open a WebSocket to any other, and the browser sends the cookies of the other one. A
    /// handler that trusts cookies therefore compares [`Request::header`] `origin` with its own site first.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::ws::{HandshakeError, WebSocket};
    /// use gearshift::{Request, Response};
    ///
    /// fn greet(request: Request) -> Result<Response, HandshakeError> {
    ///     Ok(request.websocket()?.on_upgrade(async |mut socket: WebSocket| {
    ///         let _ = socket.send("hello".into()).await;
    ///     }))
    /// }
    /// # drop(greet);
    /// ```
    ///
    /// # Errors
    /// [`HandshakeError`] if the request is another one. A handler that returns the error answers with 400, 405 or 426.
    ///
    /// # Panics
    /// If no server has received the request and [`Request::with_runtime`] was not called.
    pub fn websocket(&self) -> Result<WebSocketUpgrade, HandshakeError> {
        if self.method() != Method::GET {
            return Err(HandshakeError::NotGet);
        }
        let has = |name: HeaderName, member: &[u8]| {
            let values = self.headers().get_all(name.as_str());
            values.flat_map(list).any(|value| value.eq_ignore_ascii_case(member))
        };
        if self.version() < Version::HTTP_11
            || !has(header::UPGRADE, b"websocket")
            || !has(header::CONNECTION, b"upgrade")
        {
            return Err(HandshakeError::NotUpgrade);
        }
        // Both fields must not be there twice (RFC 6455, 11.3).
        let mut versions = self.headers().get_all(header::SEC_WEBSOCKET_VERSION.as_str());
        if (versions.next(), versions.next()) != (Some(VERSION.as_bytes()), None) {
            return Err(HandshakeError::WrongVersion);
        }
        let mut keys = self.headers().get_all(header::SEC_WEBSOCKET_KEY.as_str());
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) if is_key(key) => key,
            _ => return Err(HandshakeError::InvalidKey),
        };
        let accept = HeaderValue::try_from(derive_accept_key(key)).expect("Base64 is visible ASCII");
        Ok(WebSocketUpgrade::new(self, accept))
    }
}

/// Whether `key` is the Base64 encoding of 16 bytes: 22 characters, the last of which has four bits that are 0, and
/// `==`.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == 24
        && key[..22].iter().all(is_digit)
        && matches!(key[21], b'A' | b'Q' | b'g' | b'w')
        && key.ends_with(b"==")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        for (key, valid) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("dGhlIHNhbXBsZSBub25jZR==", false),
            ("dGhlIHNhbXBsZSBub25jZQ=", false),
            ("dGhlIHNhbXBsZSBub25jZQQ=", false),
            ("dGhlIHNhbXBsZSBub25j-Q==", false),
            ("dGhlIHNhbXBsZSBub25jZQ== ", false),
            ("", false),
        ] {
            assert_eq!(is_key(key.as_bytes()), valid, "{key:?}");
        }
    }

    #[test]
    fn each_refusal_says_what_is_wanted() {
        for (error, status, field) in [
            (HandshakeError::NotGet, 405, Some((header::ALLOW, "GET"))),
            (HandshakeError::NotUpgrade, 426, Some((header::UPGRADE, "websocket"))),
            (HandshakeError::WrongVersion, 426, Some((header::SEC_WEBSOCKET_VERSION, "13"))),
            (HandshakeError::InvalidKey, 400, None),
        ] {
            let refusal = Refusal::from(error);
            assert_eq!((refusal.status().as_u16(), refusal.why()), (status, &*error.to_string()));
            let response = error.into_response();
            assert_eq!(response.status(), status);
            if let Some((name, value)) = field {
                assert_eq!(response.header(&name).expect("the field"), value);
            }
        }
    }
}
