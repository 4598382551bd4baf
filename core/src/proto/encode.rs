//! The encoding of response heads (RFC 9112, 4) and of chunk sizes (RFC 9112, 7.1).

use std::cell::RefCell;
use std::io::Write;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};
use httpdate::HttpDate;

const SERVER: &[u8] = b"\r\nServer: gearshift";

/// How the head of a response announces the length of the body (RFC 9112, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// `Content-Length` in bytes.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Neither field.
    Omitted,
}

/// The fields that the server adds to every response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandardFields {
    pub(crate) server: bool,
    pub(crate) date: bool,
    /// The Unix time for `Date`, in seconds.
    pub(crate) seconds: u64,
}

/// Appends a head to `into`. `Content-Length`, `Transfer-Encoding` and `Connection` in `fields` are ignored: `length`
/// and `connection` decide them (RFC 9110, 7.6.1). `Server` and `Date` in `fields` replace those of `standard`.
/// `Upgrade` in `fields` adds its connection option (RFC 9110, 7.8).
///
/// Each line is written together with the line end of the line before it. The constant parts are then copied in few
/// pieces.
#[inline]
pub(crate) fn head(
    into: &mut Vec<u8>,
    status: StatusCode,
    mut fields: &[(HeaderName, HeaderValue)],
    length: BodyLength,
    connection: Option<&str>,
    mut standard: StandardFields,
) {
    into.reserve(256);
    match fields {
        // The most common beginning of a response.
        [(header::CONTENT_TYPE, value), rest @ ..] if status == StatusCode::OK => {
            into.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Type: ");
            into.extend_from_slice(value.as_bytes());
            fields = rest;
        }
        _ => status_line(into, status),
    }
    let mut upgrades = false;
    for (name, value) in fields {
        if *name == header::CONTENT_TYPE {
            into.extend_from_slice(b"\r\nContent-Type: ");
            into.extend_from_slice(value.as_bytes());
        } else {
            other_field(into, name, value, &mut standard);
            upgrades |= *name == header::UPGRADE;
        }
    }
    if standard.server || standard.date {
        standard_fields(into, standard);
    }
    match length {
        BodyLength::Known(len) => content_length(into, len),
        BodyLength::Chunked => into.extend_from_slice(b"\r\nTransfer-Encoding: chunked"),
        BodyLength::Omitted => {}
    }
    if let Some(option) = connection.or(upgrades.then_some("upgrade")) {
        into.extend_from_slice(b"\r\nConnection: ");
        into.extend_from_slice(option.as_bytes());
        if upgrades && connection.is_some() {
            into.extend_from_slice(b", upgrade");
        }
    }
    into.extend_from_slice(b"\r\n\r\n");
}

/// Appends the status line. The version is that of the server, also in a response to HTTP/1.0 (RFC 9110, 2.5).
fn status_line(into: &mut Vec<u8>, status: StatusCode) {
    into.extend_from_slice(b"HTTP/1.1 ");
    into.extend_from_slice(status.as_str().as_bytes());
    into.push(b' ');
    into.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
}

/// Appends a field, unless the connection decides its value.
fn other_field(into: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue, standard: &mut StandardFields) {
    match *name {
        header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION => return,
        header::SERVER => standard.server = false,
        header::DATE => standard.date = false,
        _ => {}
    }
    into.extend_from_slice(b"\r\n");
    field_name(into, name);
    into.extend_from_slice(b": ");
    into.extend_from_slice(value.as_bytes());
}

/// Appends the name of a field in `Title-Case`.
#[inline]
pub(crate) fn field_name(into: &mut Vec<u8>, name: &HeaderName) {
    let mut first = true;
    into.extend(name.as_str().bytes().map(|byte| {
        let written = if first { byte.to_ascii_uppercase() } else { byte };
        first = byte == b'-';
        written
    }));
}

/// The fields `Server` and `Date`, each after a line end, with the Unix time of `Date`.
struct Lines {
    seconds: u64,
    text: Vec<u8>,
}

thread_local! {
    static LINES: RefCell<Lines> = const { RefCell::new(Lines { seconds: u64::MAX, text: Vec::new() }) };
}

/// Appends the fields of `standard`, each after a line end (RFC 9110, 5.6.7). They are formatted once per second and
/// thread.
#[inline]
fn standard_fields(into: &mut Vec<u8>, StandardFields { server, date, seconds }: StandardFields) {
    LINES.with_borrow_mut(|lines| {
        if lines.seconds != seconds {
            lines.write(seconds);
        }
        let from = if server { 0 } else { SERVER.len() };
        let to = if date { lines.text.len() } else { SERVER.len() };
        into.extend_from_slice(&lines.text[from..to]);
    });
}

impl Lines {
    #[cold]
    fn write(&mut self, seconds: u64) {
        self.seconds = seconds;
        self.text.clear();
        self.text.extend_from_slice(SERVER);
        write!(self.text, "\r\nDate: {}", http_date(seconds)).expect("writing to a Vec succeeds");
    }
}

/// The date of a Unix time in seconds, as in the field `Date` (RFC 9110, 5.6.7). A time after the year 9999 counts as
/// its last second, because an HTTP date has four digits for the year.
pub(crate) fn http_date(seconds: u64) -> HttpDate {
    const LAST: u64 = 253_402_300_799;
    HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(LAST)))
}

#[inline]
fn content_length(into: &mut Vec<u8>, len: u64) {
    into.extend_from_slice(b"\r\nContent-Length: ");
    match len {
        0..10 => into.push(b'0' + len as u8),
        10..100 => into.extend_from_slice(&[b'0' + (len / 10) as u8, b'0' + (len % 10) as u8]),
        _ => into.extend_from_slice(itoa::Buffer::new().format(len).as_bytes()),
    }
}

/// Appends the line before a chunk of `len` bytes.
pub(crate) fn chunk_size(into: &mut Vec<u8>, len: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut shift = usize::BITS - len.max(1).leading_zeros();
    shift = shift.div_ceil(4) * 4;
    while shift > 0 {
        shift -= 4;
        into.push(DIGITS[len >> shift & 15]);
    }
    into.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: StandardFields = StandardFields { server: true, date: true, seconds: 784_111_777 };

    #[test]
    fn writes_heads() {
        let table: &[(StatusCode, &[(&str, &str)], BodyLength, Option<&str>, &str)] = &[
            (
                StatusCode::OK,
                &[("content-type", "text/plain"), ("x-a-bc", "d")],
                BodyLength::Known(13),
                None,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A-Bc: d\r\nServer: gearshift\r\n\
                 Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 13\r\n\r\n",
            ),
            (
                StatusCode::NOT_FOUND,
                &[("server", "mine"), ("date", "never"), ("content-length", "9"), ("connection", "x")],
                BodyLength::Chunked,
                Some("close"),
                "HTTP/1.1 404 Not Found\r\nServer: mine\r\nDate: never\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\n",
            ),
            (
                StatusCode::from_u16(599).unwrap(),
                &[("server", "s"), ("date", "d")],
                BodyLength::Omitted,
                Some("keep-alive"),
                "HTTP/1.1 599 \r\nServer: s\r\nDate: d\r\nConnection: keep-alive\r\n\r\n",
            ),
            (
                StatusCode::UPGRADE_REQUIRED,
                &[("server", "s"), ("upgrade", "a"), ("date", "d")],
                BodyLength::Known(0),
                None,
                "HTTP/1.1 426 Upgrade Required\r\nServer: s\r\nUpgrade: a\r\nDate: d\r\nContent-Length: 0\r\n\
                 Connection: upgrade\r\n\r\n",
            ),
            (
                StatusCode::OK,
                &[
                    ("content-type", "text/plain"),
                    ("upgrade", "a"),
                    ("upgrade", "b"),
                    ("server", "s"),
                    ("date", "d"),
                ],
                BodyLength::Omitted,
                Some("close"),
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nUpgrade: a\r\nUpgrade: b\r\nServer: s\r\n\
                 Date: d\r\nConnection: close, upgrade\r\n\r\n",
            ),
        ];
        for (status, fields, length, connection, expected) in table {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value)))
                .collect();
            let mut text = Vec::new();
            head(&mut text, *status, &fields, *length, *connection, STANDARD);
            assert_eq!(String::from_utf8_lossy(&text), *expected);
        }
        for (server, date, expected) in [
            (true, false, "HTTP/1.1 200 OK\r\nServer: gearshift\r\n\r\n"),
            (false, true, "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"),
            (false, false, "HTTP/1.1 200 OK\r\n\r\n"),
        ] {
            let mut text = Vec::new();
            let standard = StandardFields { server, date, ..STANDARD };
            head(&mut text, StatusCode::OK, &[], BodyLength::Omitted, None, standard);
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }

    #[test]
    fn writes_numbers() {
        for number in [0, 1, 9, 10, 15, 16, 255, 256, 65_535, 1 << 40] {
            let (mut text, mut size) = (Vec::new(), Vec::new());
            content_length(&mut text, number);
            assert_eq!(text, format!("\r\nContent-Length: {number}").as_bytes());
            chunk_size(&mut size, number as usize);
            assert_eq!(size, format!("{number:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn writes_the_standard_fields_that_are_wanted() {
        for (seconds, server, date, expected) in [
            (784_111_777, true, true, "\r\nServer: gearshift\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_778, false, true, "\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT"),
            (784_111_778, true, false, "\r\nServer: gearshift"),
            (784_111_778, false, false, ""),
            (u64::MAX, false, true, "\r\nDate: Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            let mut text = Vec::new();
            standard_fields(&mut text, StandardFields { server, date, seconds });
            assert_eq!(String::from_utf8_lossy(&text), expected);
        }
    }
}
