//! A request head, whole: `request-line *( field-line CRLF ) CRLF` (RFC 9112, 2.1), and what it says of the body.

use gearshift_core::Limits;

use super::chunked::LONGEST;
use super::cursor::{Cursor, Parse, Stop, blank, members, obs_text, tchar, trimmed, vchar};
use super::target;

/// Field lines: names as they were sent, and values without the white space around them.
pub(crate) type Lines<'a> = Vec<(&'a [u8], &'a [u8])>;

/// How long the body is (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(u64),
    Chunked,
}

/// The meaning of a head.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) target: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) is_old: bool,
    pub(crate) fields: Lines<'a>,
    pub(crate) framing: Framing,
    /// Whether the connection ends after the response (RFC 9112, 9.3).
    pub(crate) closes: bool,
    /// Whether the peer waits for `100 Continue`.
    pub(crate) expects: bool,
    /// Its bytes, with the empty lines before it.
    pub(crate) len: usize,
}

/// Reads a head.
pub(crate) fn head<'a>(bytes: &'a [u8], limits: &Limits) -> Parse<Head<'a>> {
    let mut cursor = Cursor::new(bytes);
    empty_lines(&mut cursor)?;
    keep(&bytes[cursor.at()..], Some(limits.request_line), limits)?;
    let (method, target, is_old) = request_line(&mut cursor)?;
    let fields = field_lines(&mut cursor)?;
    judge(method, target, is_old, fields, cursor.at(), limits).ok_or(Stop::Wrong)
}

/// A limit of the lines of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Method,
    RequestLine,
    Fields,
}

/// The first limit that a head exceeds, whether it is valid or not.
pub(crate) fn broken_limit(bytes: &[u8], limits: &Limits) -> Option<Limit> {
    let mut cursor = Cursor::new(bytes);
    empty_lines(&mut cursor).ok()?;
    let bytes = &bytes[cursor.at()..];
    if keep(bytes, Some(limits.request_line), limits).is_ok() {
        return None;
    }
    let first = bytes.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
    if keep(first, Some(limits.request_line), limits).is_ok() {
        return Some(Limit::Fields);
    }
    // Policy: a method is too long that is all of what may come (docs/strictness.md, Request line).
    let within = &first[..first.len().min(limits.request_line).min(limits.head)];
    Some(if within.contains(&b' ') { Limit::RequestLine } else { Limit::Method })
}

/// Whether the bytes of a request that is refused begin as a HEAD request.
pub(crate) fn asks_for_head_only(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    empty_lines(&mut cursor).is_ok() && cursor.text(b"HEAD ").is_ok()
}

/// Policy: two empty lines are passed over, and not counted (docs/strictness.md, Request line; RFC 9112, 2.2 asks for
/// one at least).
fn empty_lines(cursor: &mut Cursor<'_>) -> Parse<()> {
    for _ in 0..2 {
        if cursor.peek()? == b'\r' {
            cursor.crlf()?;
        }
    }
    Ok(())
}

/// `*( field-line CRLF ) CRLF`.
pub(crate) fn field_lines<'a>(cursor: &mut Cursor<'a>) -> Parse<Lines<'a>> {
    let mut lines = Vec::new();
    while cursor.peek()? != b'\r' {
        lines.push(field_line(cursor)?);
    }
    cursor.crlf()?;
    Ok(lines)
}

/// Whether the lines at the start of `bytes`, up to an empty one, are within their limits. `first` is the limit of a
/// request line.
pub(crate) fn keep(bytes: &[u8], first: Option<usize>, limits: &Limits) -> Parse<()> {
    let (mut len, mut fields) = (0, 0);
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        len += line.len();
        let is_whole = line.ends_with(b"\n");
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let max = match first {
            Some(max) if number == 0 => max,
            _ => {
                fields += usize::from(is_whole && !text.is_empty());
                limits.field_line
            }
        };
        if text.len() > max || fields > limits.fields || len > limits.head {
            return Err(Stop::Wrong);
        }
        if is_whole && text.is_empty() {
            break;
        }
    }
    Ok(())
}

/// `method SP request-target SP HTTP-version CRLF` (RFC 9112, 3), the target being any visible characters as yet.
fn request_line<'a>(cursor: &mut Cursor<'a>) -> Parse<(&'a [u8], &'a [u8], bool)> {
    let method = cursor.some(tchar)?;
    cursor.text(b" ")?;
    let target = cursor.some(vchar)?;
    // A higher minor version is read as HTTP/1.1 (RFC 9110, 2.5; docs/strictness.md, Request line).
    cursor.text(b" HTTP/1.")?;
    let minor = cursor.one(|byte| byte.is_ascii_digit())?;
    cursor.crlf()?;
    Ok((method, target, minor == b'0'))
}

/// `field-name ":" OWS field-value OWS CRLF` (RFC 9112, 5). A line that begins with white space, `obs-fold`, is none.
fn field_line<'a>(cursor: &mut Cursor<'a>) -> Parse<(&'a [u8], &'a [u8])> {
    let name = cursor.some(tchar)?;
    cursor.text(b":")?;
    let value = cursor.many(|byte| vchar(byte) || obs_text(byte) || blank(byte));
    cursor.crlf()?;
    Ok((name, trimmed(value)))
}

/// The meaning of the lines of a head. `None` if they contradict each other or a rule.
fn judge<'a>(
    method: &'a [u8],
    target: &'a [u8],
    is_old: bool,
    fields: Lines<'a>,
    len: usize,
    limits: &Limits,
) -> Option<Head<'a>> {
    let all = |name: &str| -> Vec<&'a [u8]> {
        let named = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|&(_, value)| value).collect()
    };
    let path = target::path(method, target)?;
    // RFC 9112, 3.2: one in HTTP/1.1, at most one in HTTP/1.0, and a valid one.
    match all("host")[..] {
        [] if is_old => {}
        [host] if target::is_host_field(host) => {}
        _ => return None,
    }
    // Policy: `Transfer-Encoding` is `chunked` and nothing else; and `Content-Length` comes once (docs/strictness.md,
    // Framing).
    let framing = match (&all("transfer-encoding")[..], &all("content-length")[..]) {
        ([], []) => Framing::Length(0),
        ([], [digits]) => Framing::Length(content_length(digits, limits.body.min(LONGEST))?),
        ([coding], []) if !is_old && coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return None,
    };
    // RFC 9110, 10.1.1: `#expectation`. There is one, and HTTP/1.0 does not have it.
    let expectations: Vec<&[u8]> = all("expect").into_iter().flat_map(members).collect();
    if expectations.iter().any(|one| !one.eq_ignore_ascii_case(b"100-continue")) {
        return None;
    }
    let options = all("connection");
    let has_option = |name: &[u8]| {
        options.iter().any(|list| members(list).any(|option| option.eq_ignore_ascii_case(name)))
    };
    // RFC 9931, 8: a CONNECT that opens no tunnel is the last request.
    let closes = has_option(b"close") || method == b"CONNECT" || is_old && !has_option(b"keep-alive");
    let expects = !expectations.is_empty() && !is_old && framing != Framing::Length(0);
    Some(Head { method, target, path, is_old, fields, framing, closes, expects, len })
}

/// `1*DIGIT` (RFC 9110, 8.6) of at most `max`.
fn content_length(digits: &[u8], max: u64) -> Option<u64> {
    let mut length: u128 = 0;
    for byte in digits {
        length = length * 10 + u128::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
        if length > u128::from(max) {
            length = u128::from(max) + 1;
        }
    }
    if digits.is_empty() || length > u128::from(max) { None } else { u64::try_from(length).ok() }
}
