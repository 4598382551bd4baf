//! The lines of the access log; [`AccessFormat`] documents their formats.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use crate::conn::access::{From, Record, RequestLine};
use crate::proto::encode;
use crate::runtime::access_log::AccessFormat;

/// The status of a request without a response in the formats that have a number there, as nginx writes it.
const GIVEN_UP: &str = "499";

/// Shows a record as one line, without its end.
pub(super) struct Line<'a>(pub(super) &'a Record, pub(super) AccessFormat);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            AccessFormat::Plain => self.plain(f),
            AccessFormat::Common => self.common(f, false),
            AccessFormat::Combined => self.common(f, true),
            AccessFormat::Json => self.json(f),
        }
    }
}

impl Line<'_> {
    fn plain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { from, status, bytes, duration, is_whole, .. } = self.0;
        match *from {
            From::Address(ip, Some(port)) => write!(f, "{}", SocketAddr::new(ip, port))?,
            from => client(f, from)?,
        }
        self.time_and_request(f)?;
        match status {
            Some(status) => f.write_str(status.as_str())?,
            None => f.write_char('-')?,
        }
        write!(f, " {bytes} {:.6}", duration.as_secs_f64())?;
        match status.is_some() && !is_whole {
            true => f.write_str(" cut"),
            false => Ok(()),
        }
    }

    fn common(&self, f: &mut fmt::Formatter<'_>, is_combined: bool) -> fmt::Result {
        let Record { from, request, status, bytes, duration, .. } = self.0;
        client(f, *from)?;
        self.time_and_request(f)?;
        write!(f, "{} {bytes}", status.as_ref().map_or(GIVEN_UP, |status| status.as_str()))?;
        if is_combined {
            let fields = request.as_ref().map(|request| [&request.referer, &request.user_agent]);
            for field in fields.unwrap_or([&None, &None]) {
                f.write_str(" \"")?;
                escape(f, field.as_deref().unwrap_or(b"-"), true)?;
                f.write_char('"')?;
            }
        }
        write!(f, " {:.6}", duration.as_secs_f64())
    }

    /// ` - - [06/Nov/1994:08:49:37 +0000] "GET / HTTP/1.1" `
    fn time_and_request(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { seconds, request, .. } = self.0;
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = encode::http_date(*seconds).to_string();
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        write!(f, " - - [{day}/{month}/{year}:{time} +0000] \"")?;
        match request {
            Some(RequestLine { method, target, version, .. }) => {
                escape(f, method.as_str().as_bytes(), false)?;
                f.write_char(' ')?;
                escape(f, target.as_bytes(), false)?;
                write!(f, " {version:?}")?;
            }
            None => f.write_char('-')?,
        }
        f.write_str("\" ")
    }

    fn json(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { from, seconds, request, status, bytes, duration, is_whole } = self.0;
        let date = encode::http_date(*seconds).to_string();
        let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(&date[8..11]).map_or(0, |at| at / 3 + 1);
        let (day, year, time) = (&date[5..7], &date[12..16], &date[17..25]);
        write!(f, "{{\"time\":\"{year}-{month:02}-{day}T{time}Z\"")?;
        match *from {
            From::Address(ip, port) => {
                write!(f, ",\"client\":\"{ip}\",\"port\":")?;
                match port {
                    Some(port) => write!(f, "{port}")?,
                    None => f.write_str("null")?,
                }
            }
            From::Unix => f.write_str(",\"client\":\"unix\",\"port\":null")?,
            From::Hidden => f.write_str(",\"client\":null,\"port\":null")?,
        }
        let request = request.as_ref();
        let version = request.map(|request| format!("{:?}", request.version));
        member(f, "method", request.map(|request| request.method.as_str().as_bytes()))?;
        member(f, "target", request.map(|request| request.target.as_bytes()))?;
        member(f, "protocol", version.as_deref().map(str::as_bytes))?;
        let status = status.as_ref().map_or("null", |status| status.as_str());
        write!(f, ",\"status\":{status},\"bytes\":{bytes},\"duration\":{:.6}", duration.as_secs_f64())?;
        write!(f, ",\"complete\":{is_whole}")?;
        member(f, "referer", request.and_then(|request| request.referer.as_deref()))?;
        member(f, "user_agent", request.and_then(|request| request.user_agent.as_deref()))?;
        f.write_char('}')
    }
}

/// Writes the client without its port.
fn client(f: &mut fmt::Formatter<'_>, from: From) -> fmt::Result {
    match from {
        From::Address(ip, _) => write!(f, "{ip}"),
        From::Unix => f.write_str("unix"),
        From::Hidden => f.write_char('-'),
    }
}

/// Writes text of the peer. Quotes, backslashes, and everything but visible ASCII become `\xHH`, so that no peer can
/// end the quoted part or the line. A space stays if `keeps_spaces` is set.
fn escape(f: &mut fmt::Formatter<'_>, text: &[u8], keeps_spaces: bool) -> fmt::Result {
    text.iter().try_for_each(|&byte| match byte {
        b'"' | b'\\' => write!(f, "\\x{byte:02x}"),
        b' ' if keeps_spaces => f.write_char(' '),
        _ if byte.is_ascii_graphic() => f.write_char(byte.into()),
        _ => write!(f, "\\x{byte:02x}"),
    })
}

/// Writes a member of a JSON object that is not the first one. Everything but printable ASCII is escaped.
fn member(f: &mut fmt::Formatter<'_>, name: &str, text: Option<&[u8]>) -> fmt::Result {
    write!(f, ",\"{name}\":")?;
    let Some(text) = text else { return f.write_str("null") };
    f.write_char('"')?;
    for char in String::from_utf8_lossy(text).chars() {
        match char {
            '"' | '\\' => write!(f, "\\{char}")?,
            ' '..='~' => f.write_char(char)?,
            _ => char.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode, Version};

    use super::*;

    fn request(target: &str, fields: Option<&str>) -> Option<RequestLine> {
        let field = || fields.map(|text| text.as_bytes().into());
        let (referer, user_agent) = (field(), field());
        let (method, version) = (Method::GET, Version::HTTP_11);
        Some(RequestLine { method, target: target.into(), version, referer, user_agent })
    }

    fn record(from: From, request: Option<RequestLine>, status: Option<u16>, is_whole: bool) -> Record {
        Record {
            from,
            seconds: 784_111_777,
            request,
            status: status.map(|status| StatusCode::from_u16(status).expect("a status")),
            bytes: 13,
            duration: Duration::from_micros(1_500_000),
            is_whole,
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let (peer, unix) = (From::peer("[::1]:80".parse().ok()), From::peer(None));
        let without_port = From::Address([192, 0, 2, 1].into(), None);
        for (record, expected) in [
            (
                record(peer, request("/a?b=c", None), Some(200), true),
                [
                    "[::1]:80 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 13 1.500000",
                    "::1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 13 \"-\" \"-\" 1.500000",
                    r#"{"time":"1994-11-06T08:49:37Z","client":"::1","port":80,"method":"GET","target":"/a?b=c","protocol":"HTTP/1.1","status":200,"bytes":13,"duration":1.500000,"complete":true,"referer":null,"user_agent":null}"#,
                ],
            ),
            (
                record(unix, request("/\"\\\n\u{e9} ", Some("\" 200 \\ \r\u{1f600}")), Some(200), false),
                [
                    r#"unix - - [06/Nov/1994:08:49:37 +0000] "GET /\x22\x5c\x0a\xc3\xa9\x20 HTTP/1.1" 200 13 1.500000 cut"#,
                    r#"unix - - [06/Nov/1994:08:49:37 +0000] "GET /\x22\x5c\x0a\xc3\xa9\x20 HTTP/1.1" 200 13 "\x22 200 \x5c \x0d\xf0\x9f\x98\x80" "\x22 200 \x5c \x0d\xf0\x9f\x98\x80" 1.500000"#,
                    r#"{"time":"1994-11-06T08:49:37Z","client":"unix","port":null,"method":"GET","target":"/\"\\\u000a\u00e9 ","protocol":"HTTP/1.1","status":200,"bytes":13,"duration":1.500000,"complete":false,"referer":"\" 200 \\ \u000d\ud83d\ude00","user_agent":"\" 200 \\ \u000d\ud83d\ude00"}"#,
                ],
            ),
            (
                record(without_port, None, None, false),
                [
                    "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"-\" - 13 1.500000",
                    "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"-\" 499 13 \"-\" \"-\" 1.500000",
                    r#"{"time":"1994-11-06T08:49:37Z","client":"192.0.2.1","port":null,"method":null,"target":null,"protocol":null,"status":null,"bytes":13,"duration":1.500000,"complete":false,"referer":null,"user_agent":null}"#,
                ],
            ),
            (
                record(From::Hidden, None, Some(400), true),
                [
                    "- - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 13 1.500000",
                    "- - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 13 \"-\" \"-\" 1.500000",
                    r#"{"time":"1994-11-06T08:49:37Z","client":null,"port":null,"method":null,"target":null,"protocol":null,"status":400,"bytes":13,"duration":1.500000,"complete":true,"referer":null,"user_agent":null}"#,
                ],
            ),
        ] {
            let formats = [AccessFormat::Plain, AccessFormat::Combined, AccessFormat::Json];
            assert_eq!(formats.map(|format| Line(&record, format).to_string()), expected);
        }
    }

    #[test]
    fn the_common_format_is_the_combined_one_without_fields() {
        let record = record(From::peer(None), request("/", Some("an agent")), Some(200), true);
        let expected = "unix - - [06/Nov/1994:08:49:37 +0000] \"GET / HTTP/1.1\" 200 13 1.500000";
        assert_eq!(Line(&record, AccessFormat::Common).to_string(), expected);
    }
}
