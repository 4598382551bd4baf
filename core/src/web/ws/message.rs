//! The messages of a WebSocket.

use bytes::Bytes;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::frame::coding::CloseCode;

/// A message to or from the peer. The fragments of a message are joined.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::Message;
///
/// let message = Message::text("hello");
/// assert_eq!(message.as_text(), Some("hello"));
/// assert_eq!(Message::binary(vec![1, 2]).as_text(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text. A clone is cheap.
    Text(Utf8Bytes),
    /// Bytes. A clone is cheap.
    Binary(Bytes),
    /// A ping, with up to 125 bytes. The answer is sent without the application.
    Ping(Bytes),
    /// A pong, with up to 125 bytes: the answer to a ping, or a sign of life.
    Pong(Bytes),
    /// The close, with its code and reason if there are any. No message follows.
    Close(Option<CloseFrame>),
}

impl Message {
    /// Creates a text message.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::ws::Message;
    ///
    /// assert_eq!(Message::text("hello").as_text(), Some("hello"));
    /// ```
    pub fn text(text: impl Into<Utf8Bytes>) -> Message {
        Message::Text(text.into())
    }

    /// Creates a binary message.
    pub fn binary(bytes: impl Into<Bytes>) -> Message {
        Message::Binary(bytes.into())
    }

    /// The text of a text message; `None` for every other message.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Message::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Message {
        Message::text(text)
    }
}

impl From<String> for Message {
    fn from(text: String) -> Message {
        Message::text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Message {
        Message::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Message {
        Message::binary(bytes)
    }
}

/// Why a peer closes (RFC 6455, 7.1.5 and 7.1.6).
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::{CloseFrame, close_code};
///
/// let frame = CloseFrame::new(close_code::NORMAL, "bye");
/// assert_eq!((frame.code, frame.reason.as_str()), (1000, "bye"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code; see [`close_code`].
    pub code: u16,
    /// The reason, of up to 123 bytes.
    pub reason: Utf8Bytes,
}

impl CloseFrame {
    /// The longest reason in bytes: a control frame holds 125 bytes, and the code takes two.
    const MAX_REASON: usize = 123;

    /// Creates a close frame. A reason of more than 123 bytes is cut.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::ws::{CloseFrame, close_code};
    ///
    /// let frame = CloseFrame::new(close_code::POLICY, "no such room");
    /// assert_eq!((frame.code, frame.reason.as_str()), (1008, "no such room"));
    /// ```
    pub fn new(code: u16, reason: &str) -> CloseFrame {
        let mut lengths = (0..=reason.len().min(CloseFrame::MAX_REASON)).rev();
        let len = lengths.find(|len| reason.is_char_boundary(*len)).unwrap_or(0);
        CloseFrame { code, reason: reason[..len].into() }
    }
}

/// The codes of [`CloseFrame::code`] (RFC 6455, 7.4.1).
pub mod close_code {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server stops, or the browser leaves the page.
    pub const AWAY: u16 = 1001;
    /// The peer has violated the protocol.
    pub const PROTOCOL: u16 = 1002;
    /// The peer has sent a kind of data that is not accepted.
    pub const UNSUPPORTED: u16 = 1003;
    /// The peer has sent data that is not what its type says, for example text that is not UTF-8.
    pub const INVALID: u16 = 1007;
    /// The peer has sent a message that is against the policy of the application.
    pub const POLICY: u16 = 1008;
    /// The peer has sent a message that is too large.
    pub const TOO_LARGE: u16 = 1009;
    /// An unexpected condition prevents the server from going on.
    pub const ERROR: u16 = 1011;
    /// The server restarts.
    pub const RESTART: u16 = 1012;
    /// The server has too much to do.
    pub const AGAIN: u16 = 1013;
}

/// The part of a message that tungstenite sends or has received.
impl From<tungstenite::Message> for Message {
    fn from(message: tungstenite::Message) -> Message {
        match message {
            tungstenite::Message::Text(text) => Message::Text(text),
            tungstenite::Message::Binary(bytes) => Message::Binary(bytes),
            tungstenite::Message::Ping(bytes) => Message::Ping(bytes),
            tungstenite::Message::Pong(bytes) => Message::Pong(bytes),
            tungstenite::Message::Close(frame) => Message::Close(frame.map(CloseFrame::from)),
            tungstenite::Message::Frame(frame) => Message::Binary(frame.into_payload()),
        }
    }
}

impl From<tungstenite::protocol::CloseFrame> for CloseFrame {
    fn from(frame: tungstenite::protocol::CloseFrame) -> CloseFrame {
        CloseFrame { code: frame.code.into(), reason: frame.reason }
    }
}

impl From<CloseFrame> for tungstenite::protocol::CloseFrame {
    fn from(frame: CloseFrame) -> tungstenite::protocol::CloseFrame {
        let CloseFrame { code, reason } = CloseFrame::new(frame.code, &frame.reason);
        tungstenite::protocol::CloseFrame { code: CloseCode::from(code), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = CloseFrame::new(close_code::NORMAL, &"\u{e4}".repeat(100));
        assert_eq!(frame.reason.as_str(), "\u{e4}".repeat(61));
        let sent: tungstenite::protocol::CloseFrame =
            CloseFrame { code: 4000, reason: "x".repeat(200).into() }.into();
        assert_eq!((u16::from(sent.code), sent.reason.len()), (4000, 123));
    }
}
