//! Slow and simple parsers of requests, written from the grammar of RFC 9110, RFC 9112 and RFC 3986. The connection is
//! compared with them.
//!
//! Each rule of the grammar is a function, which reads the bytes from their start. The oracle shares no code with the
//! connection and keeps no state between two calls. Places where the server is stricter or more lenient than the
//! grammar are marked `policy`, and docs/strictness.md says why.

mod chunked;
mod cursor;
mod head;
mod target;

pub(crate) use chunked::{Body, chunked, trailer_section};
pub(crate) use cursor::{Stop, begins_no};
pub(crate) use head::{Framing, Head, Limit, asks_for_head_only, broken_limit, head};
