//! The parser of request heads (RFC 9112, 2 to 5).
//!
//! [`read`] has three stages:
//!
//! 1. [`memo`](super::memo) recognises field sections that the thread has parsed before.
//! 2. `httparse` parses a complete head. It accepts line ends other than CR LF, so this file checks every line end.
//! 3. [`Scan`] decides about incomplete and malformed heads. It reports the same error at the same byte, in however
//!    many pieces a head arrives.

use std::mem::MaybeUninit;

use http::{Method, Version};

use crate::proto::error::Error;
use crate::proto::fields::{FieldSpan, FieldSpans, Span};
use crate::proto::framing::{Facts, FieldFacts, Framing};
use crate::proto::limits::Limits;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::request::Request;
use crate::proto::request_parts::Head;
use crate::proto::scan::Scan;
use crate::proto::{memo, target};

/// The largest number of empty lines before a request line (RFC 9112, 2.2).
const MAX_EMPTY_LINES: u8 = 2;

/// A complete head, and its meaning. The meaning is an error if the head has a valid form, and its fields break a rule.
type Read = (Request, Result<(Framing, Facts), Error>);

/// Parses the next head and removes it from `read_buffer`. Returns `None` if the head is incomplete, and an error if it
/// is malformed or exceeds a limit. The caller passes a new `scan` for each head, and the same one until that head is
/// complete. It must not read on after either error.
#[inline]
pub(crate) fn read(
    read_buffer: &mut ReadBuffer,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<Read>, Error> {
    if scan.is_fresh()
        && let Some(read) = recall(read_buffer, limits)
    {
        return Ok(Some(read));
    }
    read_uncached(read_buffer, scan, limits)
}

/// Reads a head whose request line is common and whose field section is cached. Returns `None` for any other head.
#[inline]
fn recall(read_buffer: &mut ReadBuffer, limits: &Limits) -> Option<Read> {
    let bytes = read_buffer.as_slice();
    let mut request = Request::recycled();
    let head = &mut request.inner_mut().head;
    let end = memo::recall_line(bytes, limits, head).or_else(|| read_line(bytes, limits, head))?;
    let (facts, len) = memo::recall_fields(&bytes[end..], limits, &mut head.fields)?;
    let len = end + len;
    if len > limits.head {
        return None;
    }
    head.fields_start = end;
    let facts = facts.with_line(&head.method, head.version);
    head.bytes = read_buffer.take(len);
    Some((request, facts))
}

/// Reads a common request line at the start of `bytes` into `head`: GET, POST, PUT or HEAD, a path, and a version (RFC
/// 9112, 3). Returns its length with its line end, or `None` for any other line. Each byte is read once.
fn read_line(bytes: &[u8], limits: &Limits, head: &mut Head) -> Option<usize> {
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

/// Reads a head without the cache.
#[inline(never)]
fn read_uncached(
    read_buffer: &mut ReadBuffer,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<Read>, Error> {
    if scan.is_fresh() {
        if !skip_empty_lines(read_buffer, scan)? {
            return Ok(None);
        }
        if let Some(parsed) = parse(read_buffer.as_slice(), limits) {
            return accept(read_buffer, parsed, limits).map(Some);
        }
    }
    let Some(len) = scan.lines(read_buffer.as_slice(), limits)? else { return Ok(None) };
    let bytes = &read_buffer.as_slice()[..len];
    let parsed = parse(bytes, limits).or_else(|| parse(&with_known_version(bytes)?, limits));
    accept(read_buffer, parsed.ok_or(Error::RequestLine)?, limits).map(Some)
}

/// Copies a head of HTTP/1.2 or above as a head of HTTP/1.1, the highest minor version that the server implements (RFC
/// 9110, 2.5). `httparse` rejects other versions.
fn with_known_version(head: &[u8]) -> Option<Vec<u8>> {
    let minor = memchr::memchr(b'\r', head)?.checked_sub(1)?;
    let mut head = head.to_vec();
    match &mut head[minor] {
        digit @ b'2'..=b'9' => *digit = b'1',
        _ => return None,
    }
    Some(head)
}

/// Removes empty lines before the request line. Returns false if more bytes are needed to find its start.
fn skip_empty_lines(read_buffer: &mut ReadBuffer, scan: &mut Scan) -> Result<bool, Error> {
    loop {
        match *read_buffer.as_slice() {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] if scan.empty_lines < MAX_EMPTY_LINES => {
                scan.empty_lines += 1;
                read_buffer.discard(2);
            }
            [b'\r' | b'\n', ..] => return Err(Error::LineEnd),
            _ => return Ok(true),
        }
    }
}

/// Parses a complete head at the start of `bytes`. Returns its length and its parts without [`Head::bytes`] and
/// [`Head::path`]. Returns `None` if the head is incomplete or malformed, or exceeds a limit.
#[inline]
fn parse(bytes: &[u8], limits: &Limits) -> Option<(usize, Head)> {
    let mut room = [const { MaybeUninit::uninit() }; Limits::MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut room[..limits.fields.min(Limits::MAX_FIELDS)]);
    let Ok(httparse::Status::Complete(len)) = parsed else { return None };
    let (method, target, version) = (request.method?, request.path?, request.version?);
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let target = Span::within(bytes, target.as_bytes())?;

    // A space, the version and the line end follow the target.
    let fields_start = usize::from(target.start) + usize::from(target.len) + " HTTP/1.1\r\n".len();
    if len > limits.head || fields_start - "\r\n".len() > limits.request_line {
        return None;
    }
    let section = bytes.get(fields_start..len)?;
    let lines = section.strip_suffix(b"\r\n")?;
    if !bytes[..fields_start].ends_with(b"\r\n") {
        return None;
    }
    // Whether the field line from `start` to `end` ends in CR LF and is within its limit. No line ends at 0.
    let is_line = |start: usize, end: usize| {
        end == 0
            || lines[start..end].strip_suffix(b"\r\n").is_some_and(|line| line.len() <= limits.field_line)
    };
    // The start of the line before the current field.
    let mut line = 0;
    let mut fields = FieldSpans::new();
    for field in request.headers.iter() {
        let name = Span::within(section, field.name.as_bytes())?;
        let start = usize::from(name.start);
        // The address of an empty value from `httparse` is arbitrary.
        let value = if field.value.is_empty() {
            Span { start: name.start + name.len, len: 0 }
        } else {
            Span::within(section, field.value)?
        };
        if !is_line(line, start) {
            return None;
        }
        line = start;
        fields.push(FieldSpan { name, value });
    }
    if !is_line(line, lines.len()) {
        return None;
    }
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    Some((len, Head { method, version, target, fields_start, fields, ..Head::default() }))
}

/// Interprets the target and the fields of a parsed head, caches the field section, and removes the head from the read
/// buffer.
fn accept(
    read_buffer: &mut ReadBuffer,
    (len, mut head): (usize, Head),
    limits: &Limits,
) -> Result<Read, Error> {
    let bytes = read_buffer.as_slice();
    let path = target::check(&head.method, head.target.of(bytes))?;
    head.path = Span::within(bytes, path).expect("the path is within the target");
    let section = &bytes[head.fields_start..len];
    let facts = FieldFacts::of(section, &head.fields).and_then(|facts| {
        memo::remember_fields(section, &head.fields, facts, limits);
        facts.with_line(&head.method, head.version)
    });
    head.bytes = read_buffer.take(len);
    let mut request = Request::recycled();
    // This drops the recycled vector of spans. Heads with cached fields reuse it in `recall`.
    request.inner_mut().head = head;
    Ok((request, facts))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The method, the target, the path and the version that `read_line` finds.
    fn read_line_of(line: &str, limits: &Limits) -> Option<(Method, String, String, Version)> {
        let bytes = format!("{line}\r\n");
        let mut head = Head::default();
        let len = read_line(bytes.as_bytes(), limits, &mut head)?;
        assert_eq!(len, bytes.len());
        let text =
            |span: Span| String::from_utf8(span.of(bytes.as_bytes()).to_vec()).expect("a line is ASCII");
        Some((head.method, text(head.target), text(head.path), head.version))
    }

    #[test]
    fn common_request_lines_are_read_without_the_parser() {
        for (method, name) in
            [(Method::GET, "GET"), (Method::POST, "POST"), (Method::PUT, "PUT"), (Method::HEAD, "HEAD")]
        {
            for (version, digit) in [(Version::HTTP_11, '1'), (Version::HTTP_10, '0')] {
                let line = format!("{name} /a%20b?c HTTP/1.{digit}");
                let expected = (method.clone(), "/a%20b?c".to_owned(), "/a%20b".to_owned(), version);
                assert_eq!(read_line_of(&line, &Limits::default()), Some(expected), "{line}");
            }
        }
        for line in [
            "DELETE / HTTP/1.1",
            "get / HTTP/1.1",
            "GET * HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET /# HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.1",
            "GET / HTTP/2.0",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
        ] {
            assert_eq!(read_line_of(line, &Limits::default()), None, "{line}");
        }
    }

    #[test]
    fn a_common_request_line_is_within_its_limits() {
        let max_target = Limits::MAX_HEAD - "GET  HTTP/1.1\r\n".len();
        for (target, request_line, is_read) in [
            (1, 14, true),
            (1, 13, false),
            (100, 113, true),
            (100, 112, false),
            (max_target, usize::MAX, true),
            (max_target + 1, usize::MAX, false),
        ] {
            let line = format!("GET /{} HTTP/1.1", "a".repeat(target - 1));
            let limits = Limits { request_line, ..Limits::default() };
            assert_eq!(read_line_of(&line, &limits).is_some(), is_read, "{target}, {request_line}");
        }
    }

    #[test]
    fn a_head_that_was_read_is_recalled_within_its_limits() {
        let head = "PUT /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        let limits = |head| Limits { head, ..Limits::default() };
        let mut read_buffer = ReadBuffer::new();
        read_buffer.extend(head.as_bytes());
        assert!(recall(&mut read_buffer, &limits(head.len())).is_none(), "no field section is cached");
        assert!(matches!(read(&mut read_buffer, &mut Scan::default(), &limits(head.len())), Ok(Some(_))));
        read_buffer.extend(head.as_bytes());
        assert!(recall(&mut read_buffer, &limits(head.len() - 1)).is_none(), "the head is too long");
        let (request, facts) = recall(&mut read_buffer, &limits(head.len())).expect("the section is cached");
        assert_eq!(facts.map(|(framing, _)| framing), Ok(Framing::Length(3)));
        assert_eq!((request.method(), request.target(), request.path()), (&Method::PUT, "/a?b", "/a"));
        assert_eq!(request.header("content-length"), Some("3"));
        assert!(read_buffer.is_empty());
    }
}
