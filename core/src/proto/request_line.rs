//! The fast parser for common request lines: GET, POST, PUT or HEAD, a path, and a version (RFC 9112, 3).
//!
//! The parser reads each byte once. It leaves other lines, and all errors, to [`head`](super::head).

use http::{Method, Version};

use crate::proto::fields::Span;
use crate::proto::limits::Limits;
use crate::proto::request_parts::Head;
use crate::proto::{memo, target};

/// Reads the request line at the start of `bytes` into `head` and returns its length with its line end. Returns `None`
/// if the line is incomplete, uncommon, or malformed.
pub(crate) fn read(bytes: &[u8], limits: &Limits, head: &mut Head) -> Option<usize> {
    let (method, start) = match bytes {
        [b'G', b'E', b'T', b' ', b'/', ..] => (Method::GET, 4),
        [b'P', b'O', b'S', b'T', b' ', b'/', ..] => (Method::POST, 5),
        [b'P', b'U', b'T', b' ', b'/', ..] => (Method::PUT, 4),
        [b'H', b'E', b'A', b'D', b' ', b'/', ..] => (Method::HEAD, 5),
        _ => return None,
    };
    let (path, target) = target::measure(&bytes[start..]);
    let (name, rest) = bytes[start + target..].split_first_chunk::<8>()?;
    let version = match rest {
        [b'1', b'\r', b'\n', ..] if name == b" HTTP/1." => Version::HTTP_11,
        [b'0', b'\r', b'\n', ..] if name == b" HTTP/1." => Version::HTTP_10,
        _ => return None,
    };
    let end = start + target + " HTTP/1.1\r\n".len();
    if end - "\r\n".len() > limits.request_line || end > Limits::MAX_HEAD {
        return None;
    }
    // The casts lose nothing: positions up to `MAX_HEAD` fit into 16 bits.
    let span = |len: usize| Span { start: start as u16, len: len as u16 };
    (head.method, head.version, head.target, head.path) = (method, version, span(target), span(path));
    memo::remember_line(&bytes[..end], head);
    Some(end)
}
