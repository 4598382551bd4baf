//! `chunked-body = *chunk last-chunk trailer-section CRLF` (RFC 9112, 7.1).

use gearshift_core::Limits;

use super::cursor::{Cursor, Parse, Stop, blank, obs_text, tchar, vchar};
use super::head::{field_lines, keep};

/// Policy: bytes of chunk extensions in one body. The first one of a line counts when the CR behind the last is there.
const EXTENSIONS: usize = 4096;
/// Policy: digits of a chunk size.
const DIGITS: usize = 16;
/// Policy: what must not come in a trailer section (RFC 9110, 6.5.1: framing, routing, authentication, modifiers,
/// and what says how to read the content).
const NOT_IN_TRAILERS: [&str; 13] = [
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
];

/// What is read of a body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// Its data, as far as it goes.
    pub(crate) data: Vec<u8>,
    /// Where the trailer section begins, once that is known.
    pub(crate) trailers: Option<usize>,
}

/// Reads a body into `body`, and gives the length of its coding.
pub(crate) fn chunked(bytes: &[u8], limits: &Limits, body: &mut Body) -> Parse<usize> {
    let mut cursor = Cursor::new(bytes);
    let mut extensions = 0;
    loop {
        let size = chunk_size(&mut cursor)?;
        let start = cursor.at();
        let extended = chunk_extensions(&mut cursor);
        let len = cursor.at() - start;
        extensions += if extended.is_ok() { len } else { len.saturating_sub(1) };
        if extensions > EXTENSIONS {
            return Err(Stop::Wrong);
        }
        extended?;
        cursor.crlf()?;
        if size == 0 {
            break;
        }
        let data = cursor.up_to(size);
        body.data.extend_from_slice(data);
        if (data.len() as u64) < size {
            return Err(Stop::Short);
        }
        cursor.crlf()?;
    }
    body.trailers = Some(cursor.at());
    trailer_section(&bytes[cursor.at()..], limits).map(|len| cursor.at() + len)
}

/// `trailer-section CRLF`: its length.
pub(crate) fn trailer_section(bytes: &[u8], limits: &Limits) -> Parse<usize> {
    keep(bytes, None, limits)?;
    let mut cursor = Cursor::new(bytes);
    let fields = field_lines(&mut cursor)?;
    let forbidden =
        |name: &[u8]| NOT_IN_TRAILERS.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    match fields.iter().any(|(name, _)| forbidden(name)) {
        true => Err(Stop::Wrong),
        false => Ok(cursor.at()),
    }
}

/// `1*HEXDIG`.
fn chunk_size(cursor: &mut Cursor<'_>) -> Parse<u64> {
    let digits = cursor.some(|byte| byte.is_ascii_hexdigit())?;
    if digits.len() > DIGITS {
        return Err(Stop::Wrong);
    }
    let text = std::str::from_utf8(digits).expect("digits are ASCII");
    u64::from_str_radix(text, 16).map_err(|_| Stop::Wrong)
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
fn chunk_extensions(cursor: &mut Cursor<'_>) -> Parse<()> {
    while cursor.peek()? != b'\r' {
        cursor.many(blank);
        cursor.text(b";")?;
        cursor.many(blank);
        cursor.some(tchar)?;
        // The white space here may be that before a value, or that before the next extension; but not the line's end.
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
