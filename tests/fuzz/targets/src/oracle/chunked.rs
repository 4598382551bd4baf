//! `chunked-body = *chunk last-chunk trailer-section CRLF` (RFC 9112, 7.1).

use gearshift_core::Limits;

use super::cursor::{Cursor, Parse, Stop, blank, obs_text, tchar, vchar};
use super::head::{Lines, field_lines, keep};

/// Policy: bytes that nobody needs in one body: those of chunk extensions, and zeros before a size that has its digits
/// without them (docs/strictness.md, Framing). The first byte of an extension counts when the CR behind the last is
/// there.
const SPARE: usize = 4096;
/// Policy: digits of a chunk size that are not spare.
const DIGITS: usize = 16;
/// Policy: the largest length of anything, 63 bits (docs/strictness.md, Framing).
pub(super) const LONGEST: u64 = i64::MAX as u64;
/// Policy: what must not come in a trailer section (RFC 9110, 6.5.1: framing, routing, authentication, modifiers,
/// and what says how to read the content).
const NOT_IN_TRAILERS: [&str; 23] = [
    "content-length",
    "transfer-encoding",
    "host",
    "connection",
    "content-encoding",
    "content-type",
    "content-range",
    "trailer",
    "te",
    "upgrade",
    "expect",
    "authorization",
    "cookie",
    "cache-control",
    "keep-alive",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "www-authenticate",
];
/// Policy: the start of the names of conditions, which must not come in a trailer section either.
const CONDITION: &str = "if-";

/// The parts of a body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// The data of its chunks, up to the first fault.
    pub(crate) data: Vec<u8>,
    /// Whether its chunks announce more than the limit.
    pub(crate) is_too_large: bool,
    /// The start of the trailer section, once the last chunk was read.
    pub(crate) trailers: Option<usize>,
    /// The fields of the trailer section, once it was read.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a body into `body`, and returns the length of its coding.
pub(crate) fn chunked(bytes: &[u8], limits: &Limits, body: &mut Body) -> Parse<usize> {
    let mut cursor = Cursor::new(bytes);
    let (mut spare, mut announced) = (0, 0);
    loop {
        let (size, zeros) = chunk_size(&mut cursor)?;
        let start = cursor.at();
        let extended = chunk_extensions(&mut cursor);
        let len = cursor.at() - start;
        spare += zeros + if extended.is_ok() { len } else { len.saturating_sub(1) };
        if spare > SPARE {
            return Err(Stop::Wrong);
        }
        extended?;
        cursor.crlf()?;
        if size == 0 {
            break;
        }
        // Policy: refused when it is announced (docs/strictness.md, Framing).
        announced += u128::from(size);
        if announced > u128::from(limits.body) {
            body.is_too_large = true;
            return Err(Stop::Wrong);
        }
        let data = cursor.up_to(size);
        body.data.extend_from_slice(data);
        if (data.len() as u64) < size {
            return Err(Stop::Short);
        }
        cursor.crlf()?;
    }
    body.trailers = Some(cursor.at());
    let (fields, len) = trailer_section(&bytes[cursor.at()..], limits)?;
    body.fields = fields.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    Ok(cursor.at() + len)
}

/// `trailer-section CRLF`: its fields and its length.
pub(crate) fn trailer_section<'a>(bytes: &'a [u8], limits: &Limits) -> Parse<(Lines<'a>, usize)> {
    keep(bytes, None, limits)?;
    let mut cursor = Cursor::new(bytes);
    let fields = field_lines(&mut cursor)?;
    let forbidden = |name: &[u8]| {
        let name = name.to_ascii_lowercase();
        name.starts_with(CONDITION.as_bytes()) || NOT_IN_TRAILERS.iter().any(|other| name == other.as_bytes())
    };
    match fields.iter().any(|(name, _)| forbidden(name)) {
        true => Err(Stop::Wrong),
        false => Ok((fields, cursor.at())),
    }
}

/// `1*HEXDIG`: the size, and the number of spare zeros.
fn chunk_size(cursor: &mut Cursor<'_>) -> Parse<(u64, usize)> {
    let digits = cursor.some(|byte| byte.is_ascii_hexdigit())?;
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let significant = std::str::from_utf8(&digits[zeros..]).expect("digits are ASCII");
    let size = match significant {
        "" => 0,
        digits => u64::from_str_radix(digits, 16).map_err(|_| Stop::Wrong)?,
    };
    if size > LONGEST { Err(Stop::Wrong) } else { Ok((size, zeros.saturating_sub(DIGITS))) }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
fn chunk_extensions(cursor: &mut Cursor<'_>) -> Parse<()> {
    while cursor.peek()? != b'\r' {
        cursor.many(blank);
        cursor.text(b";")?;
        cursor.many(blank);
        cursor.some(tchar)?;
        // White space may precede a value or the next extension, but not the end of the line.
        let is_spaced = !cursor.many(blank).is_empty();
        match cursor.peek()? {
            b'=' => {
                cursor.text(b"=")?;
                cursor.many(blank);
                match cursor.peek()? {
                    b'"' => quoted_string(cursor)?,
                    _ => cursor.some(tchar).map(drop)?,
                }
            }
            b'\r' if is_spaced => return Err(Stop::Wrong),
            _ => {}
        }
    }
    Ok(())
}

/// `DQUOTE *( qdtext / quoted-pair ) DQUOTE` (RFC 9110, 5.6.4).
fn quoted_string(cursor: &mut Cursor<'_>) -> Parse<()> {
    let text = |byte| blank(byte) || vchar(byte) || obs_text(byte);
    cursor.text(b"\"")?;
    loop {
        cursor.many(|byte| text(byte) && byte != b'"' && byte != b'\\');
        match cursor.one(|byte| byte == b'"' || byte == b'\\')? {
            b'"' => return Ok(()),
            _ => cursor.one(text).map(drop)?,
        }
    }
}
