//! HTTP/1.1 (RFC 9112), sans-IO.
pub mod error;
pub use error::Error;
