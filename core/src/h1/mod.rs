//! HTTP/1.1 (RFC 9112) without any input or output: [`Connection`] turns received bytes into requests, and
//! responses into bytes to send.

mod chunked;
mod connection;
mod date;
mod encode;
pub mod error;
mod framing;
mod head;
mod line;
mod memo;
mod target;

pub use connection::{Connection, Event, Piece, WrongLength};
pub use error::Error;
