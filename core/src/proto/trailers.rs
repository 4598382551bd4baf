//! Trailer fields (RFC 9110, 6.5): the fields behind a chunked body, of a request and of a response.
//!
//! Trailers never become header fields. A field that a recipient needs before the content is no trailer: a request with
//! such a trailer is refused, because software behind the server might merge it into the head, and such a trailer of
//! the application is not sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::proto::encode;
use crate::proto::error::Error;

/// The names that are no trailers: framing, connection, routing, authentication, modifiers of the request, and the
/// format of the content (RFC 9110, 6.5.1). The names that begin with `if-` are none either.
const FORBIDDEN: [&str; 23] = [
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Whether a field with this name may be a trailer.
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    let is_condition = name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"if-"));
    !is_condition && !FORBIDDEN.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Parses a trailer section whose lines [`Scan`](crate::proto::scan::Scan) has checked. The values share the memory of
/// `section`.
pub(super) fn parse(section: &Bytes) -> Result<HeaderMap, Error> {
    let mut trailers = HeaderMap::new();
    let lines = section.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end);
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line).ok_or(Error::FieldName)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if !is_allowed(name) {
            return Err(Error::Trailer);
        }
        let name = HeaderName::from_bytes(name).map_err(|_| Error::FieldName)?;
        let value =
            HeaderValue::from_maybe_shared(section.slice_ref(value)).map_err(|_| Error::FieldValue)?;
        trailers.append(name, value);
    }
    Ok(trailers)
}

/// Appends the lines of `trailers`, without the empty line behind them. Fields that are no trailers are left out.
pub(super) fn write(into: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers.iter().filter(|(name, _)| is_allowed(name.as_str().as_bytes())) {
        encode::field_name(into, name);
        into.extend_from_slice(b": ");
        into.extend_from_slice(value.as_bytes());
        into.extend_from_slice(b"\r\n");
    }
}
