//! Slow and simple readers of requests, written from the grammar of RFC 9110, RFC 9112 and RFC 3986, to hold the
//! connection to.
//!
//! Each rule of the grammar is a function here, which goes over the bytes from the start. Nothing is shared with the
//! connection, no byte is looked at twice for speed, and there is no state between two calls. Where the server is
//! stricter than the grammar, or kinder, that is marked `policy`; docs/strictness.md says why.

mod chunked;
mod cursor;
mod head;
mod target;

pub(crate) use chunked::{Body, chunked, trailer_section};
pub(crate) use cursor::{Stop, begins_no};
pub(crate) use head::{Framing, Head, Limit, asks_for_head_only, broken_limit, head};
