//! The ways in which a WebSocket ends without a closing handshake.

use std::io;

use tungstenite::error::ProtocolError;

use crate::web::ws::deflate::CannotInflate;
use crate::web::ws::message::close_code;

/// An error of a [`WebSocket`](crate::ws::WebSocket). After an error of a receive, the socket is at its end: the peer
/// has been sent a close with the code of the error, and the next receive returns `None`.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::ws::{Error, WebSocket};
///
/// /// Tells why the peer has gone.
/// async fn read(mut socket: WebSocket) {
///     while let Some(message) = socket.recv().await {
///         match message {
///             Ok(message) => println!("{message:?}"),
///             Err(Error::Left | Error::Silent) => println!("the peer is gone"),
///             Err(error) => println!("{error}; sent as {:?}", error.close_code()),
///         }
///     }
/// }
/// # drop(read);
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket is closed, or its closing handshake has begun, so that nothing more can be sent.
    #[error("the WebSocket is closed")]
    Closed,
    /// The peer has closed the connection without a closing handshake.
    #[error("the peer has left without a closing handshake")]
    Left,
    /// The peer has violated the protocol.
    #[error("the peer has violated the protocol: {0}")]
    Protocol(String),
    /// The peer has sent text that is not UTF-8.
    #[error("the peer has sent text that is not UTF-8")]
    NotText,
    /// The peer has sent a compressed message that cannot be decompressed.
    #[error("the peer has sent a compressed message that cannot be decompressed")]
    NotDeflated,
    /// A frame or a message of the peer is larger than the limit.
    #[error("a message of {size} bytes or more exceeds the limit of {limit}")]
    TooLarge {
        /// The size that is known, in bytes.
        size: usize,
        /// The limit that is exceeded, in bytes.
        limit: usize,
    },
    /// The peer was silent for the time of [`ping_timeout`](crate::ws::WebSocketUpgrade::ping_timeout) after a ping.
    #[error("the peer did not answer a ping")]
    Silent,
    /// The peer did not take a message within [`send_timeout`](crate::ws::WebSocketUpgrade::send_timeout).
    #[error("the peer did not read a message in time")]
    NotTaken,
    /// The connection has failed.
    #[error("the connection has failed: {0}")]
    Io(io::Error),
}

impl Error {
    /// The code of the close that the peer is sent because of this error; `None` if nothing can be sent.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Error::Protocol(_) => Some(close_code::PROTOCOL),
            Error::NotText | Error::NotDeflated => Some(close_code::INVALID),
            Error::TooLarge { .. } => Some(close_code::TOO_LARGE),
            Error::Silent => Some(close_code::AWAY),
            Error::Closed | Error::Left | Error::NotTaken | Error::Io(_) => None,
        }
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Error {
        match error {
            tungstenite::Error::ConnectionClosed
            | tungstenite::Error::AlreadyClosed
            | tungstenite::Error::Protocol(ProtocolError::SendAfterClosing) => Error::Closed,
            tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Error::Left,
            tungstenite::Error::Io(error) if CannotInflate::is_in(&error) => Error::NotDeflated,
            tungstenite::Error::Io(error) => Error::Io(error),
            tungstenite::Error::Utf8(_) => Error::NotText,
            tungstenite::Error::Capacity(tungstenite::error::CapacityError::MessageTooLong {
                size,
                max_size,
            }) => Error::TooLarge { size, limit: max_size },
            error => Error::Protocol(error.to_string()),
        }
    }
}
