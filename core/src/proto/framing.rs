//! The meaning of a request head for the connection: the length of the body (RFC 9112, 6), persistence (RFC 9112,
//! 9.3), expectations and upgrades.

use http::{Method, Version};

use crate::proto::error::Error;
use crate::proto::fields::FieldSpans;
use crate::proto::target;

/// How the body of a request is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A number of bytes; 0 if the head announces no body.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
}

/// The facts about a head that [`Connection`](crate::h1::Connection) needs until the response is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The peer wants the connection to stay open, and the method is not CONNECT: a peer that has sent the first bytes
    /// of its tunnel must not see them parsed as a request (RFC 9931, 8).
    pub(crate) keep_alive: bool,
    /// The request has version HTTP/1.0.
    pub(crate) is_http10: bool,
    /// The request has `Expect: 100-continue` (RFC 9110, 10.1.1), and no `100 Continue` was sent.
    pub(crate) expects_continue: bool,
    /// The request may offer other protocols: it has `Connection: upgrade` (RFC 9110, 7.8).
    pub(crate) offers_upgrade: bool,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
}

/// The facts that depend on the fields alone and not on the request line. [`memo`](super::memo) caches them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldFacts {
    host: bool,
    length: Option<u64>,
    encoding: Encoding,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    expects_continue: bool,
}

impl FieldFacts {
    /// Reads the field lines in `section`. A field that two parsers could understand differently is an error.
    pub(crate) fn of(section: &[u8], fields: &FieldSpans) -> Result<FieldFacts, Error> {
        let mut facts = FieldFacts::default();
        for field in fields {
            let (name, value) = (field.name.of(section), field.value.of(section));
            // The length of the name excludes most fields without a comparison.
            match name.len() {
                4 if name.eq_ignore_ascii_case(b"host") => {
                    if std::mem::replace(&mut facts.host, true) {
                        return Err(Error::HostRepeated);
                    }
                    if !target::is_host(value) {
                        return Err(Error::HostInvalid);
                    }
                }
                6 if name.eq_ignore_ascii_case(b"expect") => {
                    for expectation in list(value) {
                        if !expectation.eq_ignore_ascii_case(b"100-continue") {
                            return Err(Error::Expectation);
                        }
                        facts.expects_continue = true;
                    }
                }
                10 if name.eq_ignore_ascii_case(b"connection") => {
                    for option in list(value) {
                        facts.close |= option.eq_ignore_ascii_case(b"close");
                        facts.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                        facts.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                    }
                }
                14 if name.eq_ignore_ascii_case(b"content-length") => {
                    let repeated = facts.length.replace(parse_length(value)?).is_some();
                    if repeated {
                        return Err(Error::LengthRepeated);
                    }
                }
                17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                    facts.encoding = facts.encoding.and(value);
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Combines the fields with the method and the version of the request line. A combination that is not allowed is an
    /// error.
    #[inline]
    pub(crate) fn with_line(self, method: &Method, version: Version) -> Result<(Framing, Facts), Error> {
        let is_http10 = version == Version::HTTP_10;
        if !self.host && !is_http10 {
            return Err(Error::HostMissing);
        }
        let framing = match (self.encoding, self.length) {
            (Encoding::None, length) => Framing::Length(length.unwrap_or(0)),
            (_, Some(_)) => return Err(Error::LengthAndEncoding),
            (_, None) if is_http10 => return Err(Error::EncodingInOldVersion),
            (Encoding::Chunked, None) => Framing::Chunked,
            (Encoding::Unknown, None) => return Err(Error::EncodingUnknown),
            (Encoding::Other | Encoding::Invalid, None) => return Err(Error::EncodingInvalid),
        };
        let is_connect = *method == Method::CONNECT;
        let facts = Facts {
            keep_alive: !self.close && !is_connect && (!is_http10 || self.keep_alive),
            is_http10,
            expects_continue: self.expects_continue && !is_http10,
            // `close` says that nothing follows the request, so the peer cannot continue in another protocol.
            offers_upgrade: self.upgrade_option && !self.close && !is_http10,
            is_head: *method == Method::HEAD,
            is_connect,
        };
        Ok((framing, facts))
    }
}

/// The combined value of the `Transfer-Encoding` lines read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    None,
    /// `chunked` alone.
    Chunked,
    /// One or more other codings.
    Other,
    /// Other codings, then `chunked`.
    Unknown,
    /// A list with an empty member or with a coding after `chunked`.
    Invalid,
}

impl Encoding {
    /// Adds the value of another line.
    fn and(self, value: &[u8]) -> Encoding {
        value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).fold(self, |encoding, coding| {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            match encoding {
                Encoding::None if chunked => Encoding::Chunked,
                // A well-formed list that ends in `chunked`, with codings that the server does not support.
                Encoding::Other if chunked => Encoding::Unknown,
                Encoding::None | Encoding::Other if !coding.is_empty() => Encoding::Other,
                _ => Encoding::Invalid,
            }
        })
    }
}

/// The non-empty members of a comma-separated list, without the white space around them (RFC 9110, 5.6.1).
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Parses a `Content-Length`: `1*DIGIT` (RFC 9110, 8.6), at most 63 bits.
fn parse_length(value: &[u8]) -> Result<u64, Error> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse().ok()).map(i64::unsigned_abs).ok_or(Error::LengthInvalid)
}
