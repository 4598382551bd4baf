//! WebSocket connections (RFC 6455), with compression (RFC 7692).
//!
//! A handler asks the request for the upgrade and answers with a function that receives the [`WebSocket`]:
//!
//! ```
//! # extern crate gearshift_core as gearshift;
//! use gearshift::ws::{HandshakeError, Message, WebSocket};
//! use gearshift::{Request, Response};
//!
//! fn chat(request: Request) -> Result<Response, HandshakeError> {
//!     let upgrade = request.websocket()?.protocols(&["chat.v2", "chat"]).max_message_size(64 << 10);
//!     Ok(upgrade.on_upgrade(async |mut socket: WebSocket| {
//!         while let Some(Ok(message)) = socket.recv().await {
//!             if let Message::Text(text) = message
//!                 && socket.send(Message::text(format!("you said {text}"))).await.is_err()
//!             {
//!                 return;
//!             }
//!         }
//!     }))
//! }
//! # drop(chat);
//! ```
//!
//! # What happens without the application
//!
//! * A ping of the peer is answered while the application waits in [`WebSocket::recv`].
//! * A close of the peer is answered. When the application drops the socket, the peer receives 1000; when it violates
//!   the protocol, 1002; for text that is not UTF-8, 1007; for a message above a limit, 1009.
//! * When the server begins to stop, the peer receives 1001, and [`WebSocket::recv`] ends with the peer's answer. See
//!   [`WebSocketUpgrade::close_on_stop`].
//! * A peer that is silent is asked with pings; see [`WebSocketUpgrade::ping_interval`].
//!
//! A socket that waits holds no thread, on any backend.
//!
//! # Limits
//!
//! | limit | default | consequence |
//! | --- | --- | --- |
//! | [`max_message_size`](WebSocketUpgrade::max_message_size) | [`MAX_MESSAGE_SIZE`] | close with 1009 |
//! | [`max_frame_size`](WebSocketUpgrade::max_frame_size) | [`MAX_FRAME_SIZE`] | close with 1009 |
//! | answers to pings that the peer does not read | [`MAX_QUEUED`] | further pings are not answered |
//! | [`send_timeout`](WebSocketUpgrade::send_timeout) | [`SEND_TIMEOUT`] | the connection is cut |
//! | [`ping_interval`](WebSocketUpgrade::ping_interval) | [`PING_INTERVAL`] | a ping |
//! | [`ping_timeout`](WebSocketUpgrade::ping_timeout) | the interval | close with 1001 |
//! | [`close_timeout`](WebSocketUpgrade::close_timeout) | [`CLOSE_TIMEOUT`] | the connection is cut |
//!
//! A socket queues one message at most: [`WebSocket::send`] waits until the operating system has taken the message, so
//! that a slow reader slows the application down.

mod deflate;
mod error;
mod handshake;
mod io;
mod message;
mod protocol;
mod socket;
mod upgrade;

use std::time::Duration;

pub use self::error::Error;
pub use self::handshake::HandshakeError;
pub use self::message::{CloseFrame, Message, close_code};
pub use self::socket::{WebSocket, WebSocketReceiver, WebSocketSender};
pub use self::upgrade::WebSocketUpgrade;
pub use tungstenite::Utf8Bytes;

/// The default of [`WebSocketUpgrade::max_message_size`]: 1 MiB.
pub const MAX_MESSAGE_SIZE: usize = 1 << 20;
/// The default of [`WebSocketUpgrade::max_frame_size`]: 1 MiB.
pub const MAX_FRAME_SIZE: usize = 1 << 20;
/// The bytes that a socket queues, beside one message of the application, for a peer that does not read: 64 KiB.
pub const MAX_QUEUED: usize = 64 << 10;
/// The default of [`WebSocketUpgrade::ping_interval`]: 30 seconds.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// The default of [`WebSocketUpgrade::send_timeout`]: 60 seconds.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// The default of [`WebSocketUpgrade::close_timeout`]: 5 seconds.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings of one socket.
#[derive(Clone, Copy, Debug)]
struct Settings {
    max_message_size: usize,
    max_frame_size: usize,
    ping_interval: Option<Duration>,
    /// `None` if it is the interval.
    ping_timeout: Option<Duration>,
    send_timeout: Duration,
    close_timeout: Duration,
    close_on_stop: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_message_size: MAX_MESSAGE_SIZE,
            max_frame_size: MAX_FRAME_SIZE,
            ping_interval: Some(PING_INTERVAL),
            ping_timeout: None,
            send_timeout: SEND_TIMEOUT,
            close_timeout: CLOSE_TIMEOUT,
            close_on_stop: true,
        }
    }
}
