//! The oracle: slow and simple readers of requests, written from the grammar of RFC 9110, RFC 9112 and RFC 3986.
//!
//! Each rule of the grammar is a function here, which reads the bytes from the start. The oracle shares nothing with
//! the connection, has no optimisation, and keeps no state between two calls. `Policy` marks each place where the
//! server is stricter or more lenient than the grammar; docs/strictness.md says why.

mod chunked;
mod cursor;
mod head;
mod target;

pub(crate) use chunked::{Body, chunked, trailer_section};
pub(crate) use cursor::{Stop, begins_no};
pub(crate) use head::{Framing, Head, Limit, asks_for_head_only, broken_limit, head};
