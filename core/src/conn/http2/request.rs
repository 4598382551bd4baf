//! The head of a request on a stream (RFC 9113, 8.3.1), as a [`Request`].
//!
//! `h2` has checked the form of the fields. The rules of a head of HTTP/1.1 apply as well: its limits, one valid host,
//! and a target that its method allows. A head that breaks one of them is answered with the same status and text.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use crate::proto::error::Error;
use crate::proto::fields::{FieldSpan, FieldSpans, Span};
use crate::proto::framing::{Facts, list};
use crate::proto::limits::Limits;
use crate::proto::request::Request;
use crate::proto::request_parts::Head;
use crate::proto::target;

/// The bytes that HTTP/2 counts for each field beside its name and value (RFC 9113, 6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// The number of pseudo-header fields of a request.
const PSEUDO_FIELDS: usize = 4;

/// The limit of a field section that `h2` applies. It is above what [`convert`] accepts, so that a head which is too
/// large is answered as any other one, unless it is much too large.
pub(super) fn max_section(limits: &Limits) -> u32 {
    let fields = limits.fields.min(Limits::MAX_FIELDS) + PSEUDO_FIELDS;
    let bytes = limits.head.min(Limits::MAX_HEAD).saturating_add(FIELD_OVERHEAD * fields);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Why a request does not reach the handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The head breaks a rule that HTTP/1.1 has, too. The request is answered.
    Answered(Error),
    /// The request is malformed (RFC 9113, 8.1.1). Its stream is reset.
    Malformed,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused::Answered(error)
    }
}

/// Converts a head. The meaning is an error if the request is refused. There is no request then if the target is not
/// valid or a limit is exceeded, as for a head of HTTP/1.1. `has_body` is whether the stream has not ended with the
/// head.
pub(super) fn convert(
    parts: &Parts,
    has_body: bool,
    limits: &Limits,
) -> (Option<Request>, Result<Meaning, Refused>) {
    let mut writer = Writer::default();
    let converted = writer.head(parts, limits);
    let is_shaped = matches!(
        converted,
        Ok(()) | Err(Refused::Malformed | Refused::Answered(Error::HostMissing | Error::HostInvalid))
    );
    let Some(target) = writer.target.filter(|_| is_shaped) else {
        return (None, converted.and(Err(Error::Target.into())));
    };
    let (bytes, path) = (writer.bytes.freeze(), writer.path.unwrap_or(target));
    let mut request = Request::recycled();
    request.inner_mut().head = Head {
        bytes,
        method: parts.method.clone(),
        version: Version::HTTP_2,
        target,
        path,
        fields_start: 0,
        fields: writer.fields,
    };
    let meaning = converted.and_then(|()| Ok(Meaning::of(&parts.method, &parts.headers, has_body, limits)?));
    (Some(request), meaning)
}

/// The meaning of a head for its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    pub(super) facts: Facts,
    /// The length of the body, if the head tells it.
    pub(super) length: Option<u64>,
}

impl Meaning {
    fn of(method: &Method, fields: &HeaderMap, has_body: bool, limits: &Limits) -> Result<Meaning, Error> {
        let mut lengths = fields.get_all(header::CONTENT_LENGTH).iter();
        let length = match (lengths.next(), lengths.next()) {
            (None, _) => None,
            (Some(_), Some(_)) => return Err(Error::LengthRepeated),
            (Some(length), None) => {
                // `h2` compares the length with that of the frames.
                Some(
                    length
                        .to_str()
                        .ok()
                        .and_then(|length| length.parse().ok())
                        .ok_or(Error::LengthInvalid)?,
                )
            }
        };
        if length.is_some_and(|length| length > limits.body) {
            return Err(Error::BodyTooLarge);
        }
        let mut expects_continue = false;
        for expectation in fields.get_all(header::EXPECT).iter().flat_map(|value| list(value.as_bytes())) {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return Err(Error::Expectation);
            }
            expects_continue = has_body;
        }
        let facts = Facts {
            keep_alive: true,
            is_http10: false,
            expects_continue,
            offers_upgrade: false,
            is_head: *method == Method::HEAD,
            is_connect: false,
        };
        Ok(Meaning { facts, length })
    }
}

/// The bytes of a head, and the positions of its parts.
#[derive(Default)]
struct Writer {
    bytes: BytesMut,
    target: Option<Span>,
    path: Option<Span>,
    fields: FieldSpans,
}

impl Writer {
    fn head(&mut self, parts: &Parts, limits: &Limits) -> Result<(), Refused> {
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
        if parts.method.as_str().len() + target.len() + "  HTTP/1.1".len() > limits.request_line {
            return Err(Error::RequestLineTooLong.into());
        }
        if parts.method == Method::CONNECT {
            let has_authority = parts.uri.authority().is_some();
            return Err(if has_authority { Error::Tunnel.into() } else { Refused::Malformed });
        }
        let span = self.place(target, limits)?;
        self.target = Some(span);
        let path = target::check(&parts.method, span.of(&self.bytes))?;
        self.path = Span::within(&self.bytes, path);
        self.host(parts, limits)?;
        for (name, value) in &parts.headers {
            // RFC 9113, 8.2.1.
            if let [b' ' | b'\t', ..] | [.., b' ' | b'\t'] = value.as_bytes() {
                return Err(Refused::Malformed);
            }
            if name == header::HOST || name == header::COOKIE {
                continue;
            }
            self.field(name, &[value.as_bytes()], limits)?;
        }
        // A cookie may come in several fields (RFC 9113, 8.2.3).
        let crumbs: Vec<_> =
            parts.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes()).collect();
        match crumbs.is_empty() {
            true => Ok(()),
            false => self.field(&header::COOKIE, &crumbs, limits),
        }
    }

    /// The field `Host`, which `:authority` replaces. Two hosts are ambiguous (RFC 9113, 8.3.1).
    fn host(&mut self, parts: &Parts, limits: &Limits) -> Result<(), Refused> {
        let mut hosts = parts.headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
        let (host, other) = (hosts.next(), hosts.next());
        if other.is_some() {
            return Err(Refused::Malformed);
        }
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = match (authority, host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Refused::Malformed);
            }
            (authority, host) => authority.or(host).ok_or(Error::HostMissing)?,
        };
        if !target::is_host(host) {
            return Err(Error::HostInvalid.into());
        }
        self.field(&header::HOST, &[host], limits)
    }

    /// Appends a field. The parts of its value are joined as those of a cookie.
    fn field(&mut self, name: &HeaderName, value: &[&[u8]], limits: &Limits) -> Result<(), Refused> {
        let name = name.as_str().as_bytes();
        let joined;
        let value = match value {
            [value] => value,
            _ => {
                joined = value.join(&b"; "[..]);
                &joined[..]
            }
        };
        if self.fields.len() >= limits.fields.min(Limits::MAX_FIELDS) {
            return Err(Error::TooManyFields.into());
        }
        if name.len() + ": ".len() + value.len() > limits.field_line {
            return Err(Error::FieldsTooLarge.into());
        }
        let (name, value) = (self.place(name, limits)?, self.place(value, limits)?);
        self.fields.push(FieldSpan { name, value });
        Ok(())
    }

    fn place(&mut self, part: &[u8], limits: &Limits) -> Result<Span, Error> {
        if self.bytes.len() + part.len() > limits.head.min(Limits::MAX_HEAD) {
            return Err(Error::FieldsTooLarge);
        }
        // `MAX_HEAD` has 16 bits.
        let span = Span { start: self.bytes.len() as u16, len: part.len() as u16 };
        self.bytes.put_slice(part);
        Ok(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("valid parts").into_parts().0
    }

    fn refused(uri: &str, fields: &[(&str, &str)], limits: &Limits) -> Option<Refused> {
        convert(&parts(Method::GET, uri, fields), true, limits).1.err()
    }

    #[test]
    fn a_head_has_the_fields_of_its_stream_and_one_host() {
        let fields =
            [("accept", "a/b"), ("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("te", "trailers")];
        let (request, meaning) =
            convert(&parts(Method::GET, "https://a:1/b%20c?d", &fields), false, &Limits::default());
        assert!(meaning.is_ok());
        let request = request.expect("the head is valid");
        assert_eq!(
            (request.target(), request.path(), request.version()),
            ("/b%20c?d", "/b%20c", Version::HTTP_2)
        );
        let fields: Vec<_> = request.headers().into_iter().collect();
        let expected: [(&str, &[u8]); 5] =
            [("host", b"a:1"), ("accept", b"a/b"), ("x", b"y"), ("te", b"trailers"), ("cookie", b"a=b; c=d")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn heads_are_refused_as_in_http_1() {
        let limits =
            Limits { request_line: 40, field_line: 30, fields: 4, head: 100, body: 10, ..Limits::default() };
        let long = "x".repeat(30);
        for (uri, fields, expected) in [
            ("http://a/", vec![], None),
            ("http://a/", vec![("host", "A")], None),
            ("/", vec![("host", "a")], None),
            ("/", vec![], Some(Error::HostMissing)),
            ("/", vec![("host", "a b")], Some(Error::HostInvalid)),
            ("http://u@a/", vec![], Some(Error::HostInvalid)),
            ("http://a/%zz", vec![], Some(Error::Target)),
            ("*", vec![("host", "a")], Some(Error::Target)),
            ("http://a/012345678901234567890123456789", vec![], Some(Error::RequestLineTooLong)),
            ("http://a/", vec![("x", &long[..28])], Some(Error::FieldsTooLarge)),
            ("http://a/", vec![("x", &long[..27])], None),
            ("http://a/", vec![("a", ""), ("b", ""), ("c", "")], None),
            ("http://a/", vec![("a", ""), ("b", ""), ("c", ""), ("d", "")], Some(Error::TooManyFields)),
            (
                "http://a/0123456789012345678",
                vec![("x", &long[..27]), ("y", &long[..27]), ("z", &long[..27])],
                Some(Error::FieldsTooLarge),
            ),
            ("http://a/", vec![("expect", "100-continue")], None),
            ("http://a/", vec![("expect", "tea")], Some(Error::Expectation)),
            ("http://a/", vec![("content-length", "10")], None),
            ("http://a/", vec![("content-length", "11")], Some(Error::BodyTooLarge)),
            (
                "http://a/",
                vec![("content-length", "1"), ("content-length", "1")],
                Some(Error::LengthRepeated),
            ),
        ] {
            assert_eq!(refused(uri, &fields, &limits), expected.map(Refused::from), "{uri} {fields:?}");
        }
    }

    #[test]
    fn malformed_requests_are_not_answered() {
        for fields in [&[("host", "b")][..], &[("host", "a"), ("host", "a")], &[("x", " a")], &[("x", "a\t")]]
        {
            let refused = refused("http://a/", fields, &Limits::default());
            assert_eq!(refused, Some(Refused::Malformed), "{fields:?}");
        }
    }
}
