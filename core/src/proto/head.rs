//! From bytes to a request head.
//!
//! Most heads arrive whole, and most bring the fields that the one before had: [`memo`](super::memo) then has most of
//! it. Else [`read`] lets `httparse` at what is there. Whenever that does not give a head that is
//! right in every respect, [`Scan`] has the say: it takes the bytes line by line, looks at each byte once however
//! they are chopped, and so reports the same error at the same byte, whether a head came in one piece or in a
//! hundred.
//!
//! `httparse` is lenient about line ends; every line end is therefore checked again here to be CR LF.

use std::mem::MaybeUninit;

use http::{Method, Version};

use crate::proto::error::Error;
use crate::proto::fields::{FieldSpan, FieldSpans, Span};
use crate::proto::framing::{Facts, FieldFacts};
use crate::proto::limits::Limits;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::request::{Head, Request};
use crate::proto::{line, memo, target};

/// Empty lines before a request line that are passed over (RFC 9112, 2.2).
const EMPTY_LINES: u8 = 2;

/// Takes the next head out of `read_buffer`, or says that it is not complete.
///
/// `scan` must be a fresh one for each head, and the same until that head is complete.
///
/// # Errors
/// What is wrong with it. Nothing can be read after it then.
#[inline]
pub(crate) fn read(
    read_buffer: &mut ReadBuffer,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<(Request, Facts)>, Error> {
    if scan.is_fresh()
        && let Some((request, facts)) = recall(read_buffer, limits)
    {
        return Ok(Some((request, facts?)));
    }
    read_anew(read_buffer, scan, limits)
}

/// A head whose fields were read before, on this thread: the request line is all that is new. If the two together are
/// wrong, the head stays where it is.
#[inline]
fn recall(read_buffer: &mut ReadBuffer, limits: &Limits) -> Option<(Request, Result<Facts, Error>)> {
    let bytes = read_buffer.as_slice();
    let mut request = Request::blank();
    let head = &mut request.inner_mut().head;
    let end = memo::recall_line(bytes, limits, head).or_else(|| line::read(bytes, limits, head))?;
    let (facts, len) = memo::recall_fields(&bytes[end..], end, limits, &mut head.fields)?;
    let len = end + len;
    if len > limits.head {
        return None;
    }
    let facts = facts.with_line(&head.method, head.version);
    if facts.is_ok() {
        head.bytes = read_buffer.take(len);
    }
    Some((request, facts))
}

#[inline(never)]
fn read_anew(
    read_buffer: &mut ReadBuffer,
    scan: &mut Scan,
    limits: &Limits,
) -> Result<Option<(Request, Facts)>, Error> {
    if scan.is_fresh() {
        if !skip_empty_lines(read_buffer, scan)? {
            return Ok(None);
        }
        if let Some(parsed) = parse(read_buffer.as_slice(), limits) {
            return take(read_buffer, parsed, limits).map(Some);
        }
    }
    match scan.lines(read_buffer.as_slice(), limits)? {
        None => Ok(None),
        Some(len) => {
            let bytes = &read_buffer.as_slice()[..len];
            let parsed = parse(bytes, limits).or_else(|| parse(&in_known_version(bytes)?, limits));
            take(read_buffer, parsed.ok_or(Error::RequestLine)?, limits).map(Some)
        }
    }
}

/// A head of HTTP/1.2 or above is one of HTTP/1.1, the highest minor version that is known here (RFC 9110, 2.5).
fn in_known_version(head: &[u8]) -> Option<Vec<u8>> {
    let minor = memchr::memchr(b'\r', head)?.checked_sub(1)?;
    let mut head = head.to_vec();
    match &mut head[minor] {
        digit @ b'2'..=b'9' => *digit = b'1',
        _ => return None,
    }
    Some(head)
}

/// Passes over empty lines. False if more bytes are needed to tell.
fn skip_empty_lines(read_buffer: &mut ReadBuffer, scan: &mut Scan) -> Result<bool, Error> {
    loop {
        match *read_buffer.as_slice() {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] if scan.empty_lines < EMPTY_LINES => {
                scan.empty_lines += 1;
                read_buffer.discard(2);
            }
            [b'\r' | b'\n', ..] => return Err(Error::LineEnd),
            _ => return Ok(true),
        }
    }
}

/// A head that is right as far as its grammar and the limits go.
struct Parsed {
    len: usize,
    fields_start: usize,
    method: Method,
    version: Version,
    target: Span,
    fields: FieldSpans,
}

/// Reads a whole head at the start of `bytes`; `None` if it is not whole, or wrong in any way.
#[inline]
fn parse(bytes: &[u8], limits: &Limits) -> Option<Parsed> {
    let mut room = [const { MaybeUninit::uninit() }; Limits::MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut room[..limits.fields.min(Limits::MAX_FIELDS)]);
    let Ok(httparse::Status::Complete(len)) = parsed else { return None };
    let (method, target, version) = (request.method?, request.path?, request.version?);
    let version = if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let target = Span::within(bytes, target.as_bytes())?;

    // Where the request line ends: after the target come a space, the version and the line end.
    let fields_start = usize::from(target.start) + usize::from(target.len) + " HTTP/1.1\r\n".len();
    if len > limits.head || fields_start - "\r\n".len() > limits.request_line {
        return None;
    }
    // Where the next line has to begin, or at least the last one began.
    let mut line = fields_start;
    let mut fields = FieldSpans::new();
    for field in request.headers.iter() {
        let name = Span::within(bytes, field.name.as_bytes())?;
        let start = usize::from(name.start);
        // `httparse` gives an empty value any address.
        let value = if field.value.is_empty() {
            Span { start: name.start + name.len, len: 0 }
        } else {
            Span::within(bytes, field.value)?
        };
        if !is_line_end(bytes, start, line, fields_start, limits) {
            return None;
        }
        line = start;
        fields.push(FieldSpan { name, value });
    }
    let last = len - "\r\n".len();
    if bytes[last] != b'\r' || !is_line_end(bytes, last, line, fields_start, limits) {
        return None;
    }
    Some(Parsed {
        len,
        fields_start,
        method: Method::from_bytes(method.as_bytes()).ok()?,
        version,
        target,
        fields,
    })
}

/// Whether the line that began at `line` ends in CR LF right before `next`, and is not too long. The first field line
/// has the request line before it.
#[inline]
fn is_line_end(bytes: &[u8], next: usize, line: usize, fields_start: usize, limits: &Limits) -> bool {
    let len = next.wrapping_sub(line).wrapping_sub("\r\n".len());
    next >= fields_start && bytes[next - 2] == b'\r' && (next == fields_start || len <= limits.field_line)
}

/// Judges what the fields say, and takes the head out of the read_buffer.
fn take(read_buffer: &mut ReadBuffer, parsed: Parsed, limits: &Limits) -> Result<(Request, Facts), Error> {
    let bytes = read_buffer.as_slice();
    let Parsed { len, fields_start, method, version, target, fields } = parsed;
    let path = target::check(&method, target.of(bytes))?;
    let path = Span::within(bytes, path).expect("the path is within the target");
    let facts = FieldFacts::of(bytes, &fields)?;
    memo::remember_fields(&bytes[fields_start..len], fields_start, &fields, facts, limits);
    let facts = facts.with_line(&method, version)?;
    let mut request = Request::blank();
    let head = &mut request.inner_mut().head;
    // The vector that was there goes; heads that are not new take the other way.
    *head = Head { bytes: read_buffer.take(len), method, version, target, path, fields };
    Ok((request, facts))
}

/// How far the lines of an incomplete head, or trailer section, were looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    /// Bytes looked at, for line ends.
    looked: usize,
    /// Where the line begins that has no end yet.
    line: usize,
    /// Field lines seen.
    fields: usize,
    /// Whether the method is behind.
    past_method: bool,
    /// Whether the request line is behind.
    in_fields: bool,
    empty_lines: u8,
}

impl Scan {
    /// A scan of a head, request line first.
    pub(crate) fn head() -> Scan {
        Scan::default()
    }

    /// A scan of field lines alone: a trailer section.
    pub(crate) fn trailers() -> Scan {
        Scan { past_method: true, in_fields: true, ..Scan::default() }
    }

    fn is_fresh(&self) -> bool {
        self.looked == 0
    }

    /// Looks at the bytes that are new, and gives the length of the whole once its empty line is there.
    pub(crate) fn lines(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Error> {
        loop {
            let Some(end) = line_end(bytes, self.looked) else {
                let unfinished = &bytes[self.line..];
                self.judge_beginning(unfinished, limits)?;
                self.judge_length(unfinished, limits)?;
                if bytes.len() > limits.head {
                    return Err(self.too_large());
                }
                // A CR is judged once it is known what follows it.
                self.looked = bytes.len() - usize::from(unfinished.ends_with(b"\r"));
                return Ok(None);
            };
            let line = &bytes[self.line..end];
            self.judge_beginning(line, limits)?;
            self.judge_length(line, limits)?;
            if end + 1 > limits.head {
                return Err(self.too_large());
            }
            let (Some(line), b'\n') = (line.strip_suffix(b"\r"), bytes[end]) else {
                return Err(Error::LineEnd);
            };
            self.looked = end + 1;
            self.line = end + 1;
            if !self.in_fields {
                judge_request_line(line)?;
                self.in_fields = true;
            } else if line.is_empty() {
                return Ok(Some(end + 1));
            } else {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Error::TooManyFields);
                }
                judge_field_line(line)?;
            }
        }
    }

    fn too_large(&self) -> Error {
        match self.in_fields {
            true => Error::FieldsTooLarge,
            false if self.past_method => Error::RequestLineTooLong,
            false => Error::MethodTooLong,
        }
    }

    /// What can be said before a line has ended: that it is no request line at all (someone speaks TLS to us).
    fn judge_beginning(&mut self, line: &[u8], limits: &Limits) -> Result<(), Error> {
        if self.past_method {
            return Ok(());
        }
        let from = self.looked.min(line.len());
        // What is beyond a limit is too long, whatever it is.
        let until = line.len().min(limits.request_line).min(limits.head);
        let end = line[from..until.max(from)].iter().position(|&byte| !is_token(byte)).map(|at| from + at);
        match end {
            None => Ok(()),
            Some(at) if at > 0 && line[at] == b' ' => {
                self.past_method = true;
                Ok(())
            }
            // It may be half of the line's end, which is for the whole line to judge.
            Some(at) if at > 0 && line[at] == b'\r' && at + 1 == line.len() => Ok(()),
            Some(_) => Err(Error::Method),
        }
    }

    /// `line` is without LF, and may end in the CR of its end.
    fn judge_length(&self, line: &[u8], limits: &Limits) -> Result<(), Error> {
        let len = line.strip_suffix(b"\r").unwrap_or(line).len();
        let limit = if self.in_fields { limits.field_line } else { limits.request_line };
        if len > limit { Err(self.too_large()) } else { Ok(()) }
    }
}

/// Where, from `at` on, a line ends: at a LF, or at a CR that no LF follows, which must not be waited behind.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let found = at + memchr::memchr2(b'\r', b'\n', &bytes[at..])?;
    match bytes[found..] {
        [b'\r'] => None,
        [b'\r', b'\n', ..] => Some(found + 1),
        _ => Some(found),
    }
}

fn judge_request_line(line: &[u8]) -> Result<(), Error> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Error::RequestLine);
    };
    if method.is_empty() || !method.iter().copied().all(is_token) {
        return Err(Error::Method);
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Error::Target);
    }
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9'] => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Error::Version)
        }
        _ => Err(Error::RequestLine),
    }
}

/// `line` is not empty, and without its end.
pub(crate) fn judge_field_line(line: &[u8]) -> Result<(), Error> {
    if matches!(line[0], b' ' | b'\t') {
        return Err(Error::Folding);
    }
    let colon = memchr::memchr(b':', line).ok_or(Error::FieldName)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Error::FieldName);
    }
    match value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        true => Ok(()),
        false => Err(Error::FieldValue),
    }
}

/// `tchar` (RFC 9110, 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*'
        | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(text: &str, step: usize, limits: &Limits) -> Result<Option<usize>, Error> {
        let mut scan = Scan::head();
        let mut end = 0;
        while end < text.len() {
            end = (end + step).min(text.len());
            if let Some(len) = scan.lines(&text.as_bytes()[..end], limits)? {
                return Ok(Some(len));
            }
        }
        Ok(None)
    }

    #[test]
    fn says_the_same_however_a_head_is_chopped() {
        let mut limits = Limits::default();
        (limits.request_line, limits.field_line, limits.fields, limits.head) = (20, 12, 3, 60);
        for (text, expected) in [
            ("GET / HTTP/1.1\r\n\r\n", Ok(Some(18))),
            ("GET / HTTP/1.1\r\nA: b\r\n\r\nrest", Ok(Some(24))),
            ("GET / HTTP/1.1\r\nA: b\r\n", Ok(None)),
            ("GET", Ok(None)),
            ("GET\r", Ok(None)),
            ("GET\r\n", Err(Error::RequestLine)),
            ("GET / HTTP/1.1\n", Err(Error::LineEnd)),
            ("GET / HTTP/1.1\r\nA: b\n\r\n", Err(Error::LineEnd)),
            ("\x16\x03\x01", Err(Error::Method)),
            (" GET", Err(Error::Method)),
            ("GE(T", Err(Error::Method)),
            ("GET  / HTTP/1.1\r\n", Err(Error::RequestLine)),
            ("GET / HTTP/1.1 \r\n", Err(Error::RequestLine)),
            ("GET /\r\n", Err(Error::RequestLine)),
            ("GET / http/1.1\r\n", Err(Error::RequestLine)),
            ("GET / HTTP/2.0\r\n", Err(Error::Version)),
            ("GET / HTTP/1.2\r\n\r\n", Ok(Some(18))),
            ("GET / HTTP/1.1\rA: b", Err(Error::LineEnd)),
            ("GET / HTTP/1.1\r\nA: b\rC", Err(Error::LineEnd)),
            ("GET / HTTP/1.1\r\nA: b\r\n\rC", Err(Error::LineEnd)),
            ("GET /\u{e9} HTTP/1.1\r\n", Err(Error::Target)),
            ("GET /123456789 HTTP/1.1\r\n", Err(Error::RequestLineTooLong)),
            ("GETGETGETGETGETGETGETGETGET", Err(Error::MethodTooLong)),
            ("GET / HTTP/1.1\r\nA: 3456789ab\r\n", Ok(None)),
            ("GET / HTTP/1.1\r\nA: 3456789abcd\r\n", Err(Error::FieldsTooLarge)),
            ("GET / HTTP/1.1\r\nA: 3456789abcde", Err(Error::FieldsTooLarge)),
            ("GET / HTTP/1.1\r\na:\r\nb:\r\nc:\r\nd:\r\n", Err(Error::TooManyFields)),
            (
                "GET / HTTP/1.1\r\nA: 3456789a\r\nA: 3456789a\r\nA: 3456789a\r\nBBBBBB",
                Err(Error::FieldsTooLarge),
            ),
            ("GET / HTTP/1.1\r\nA : b\r\n", Err(Error::FieldName)),
            ("GET / HTTP/1.1\r\nA\r\n", Err(Error::FieldName)),
            ("GET / HTTP/1.1\r\n: b\r\n", Err(Error::FieldName)),
            ("GET / HTTP/1.1\r\nA: b\r\n c\r\n", Err(Error::Folding)),
            ("GET / HTTP/1.1\r\nA: \0\r\n", Err(Error::FieldValue)),
            ("GET / HTTP/1.1\r\nA: \rb\r\n", Err(Error::LineEnd)),
        ] {
            for step in [1, 2, 3, 5, text.len()] {
                assert_eq!(scan(text, step, &limits), expected, "{text:?} by {step}");
            }
        }
    }

    #[test]
    fn a_head_shorter_than_its_first_line_may_be_is_too_long_however_it_is_chopped() {
        let limits = Limits { head: 8, ..Limits::default() };
        for (text, expected) in [
            ("GETGETG(GETGET", Err(Error::Method)),
            ("GETGETG\r\n", Err(Error::MethodTooLong)),
            ("GETGETGE(GETGET", Err(Error::MethodTooLong)),
            ("GETGETGE GETGET", Err(Error::MethodTooLong)),
            ("GETGETGETGETGET(", Err(Error::MethodTooLong)),
            ("GETGETG /GETGET", Err(Error::RequestLineTooLong)),
        ] {
            for step in [1, 2, 3, 5, text.len()] {
                assert_eq!(scan(text, step, &limits), expected, "{text:?} by {step}");
            }
        }
    }
}
