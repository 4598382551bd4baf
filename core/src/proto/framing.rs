//! What the fields of a head say about the message: where its body ends, and what becomes of the connection.

use http::{Method, Version};

use crate::proto::error::Error;
use crate::proto::fields::FieldSpans;
use crate::proto::target;

/// How long a request's body is (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// This many bytes; 0 where the head announces no body.
    Length(u64),
    /// Chunks until one of size 0.
    Chunked,
}

/// All that the connection needs to know of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) framing: Framing,
    /// Whether the peer wants the connection to stay open.
    pub(crate) keep_alive: bool,
    /// Whether the peer speaks HTTP/1.0.
    pub(crate) old: bool,
    /// Whether the peer waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// Whether the peer offers to change the protocol.
    pub(crate) upgrade: bool,
    pub(crate) head_only: bool,
    pub(crate) connect: bool,
}

impl Facts {
    /// Whether a response to this request is like that to most: with a body, on a connection that stays open.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.keep_alive && !self.old && !self.head_only && !self.connect
    }
}

/// What the fields alone say, whatever the request line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FieldFacts {
    host: bool,
    length: Option<u64>,
    encoding: Encoding,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    expects_continue: bool,
}

impl FieldFacts {
    /// Judges the fields of a head. Anything that two parsers could read two ways is an error.
    pub(crate) fn of(bytes: &[u8], fields: &FieldSpans) -> Result<FieldFacts, Error> {
        let mut facts = FieldFacts::default();
        for field in fields {
            let (name, value) = (field.name.of(bytes), field.value.of(bytes));
            // The length tells most names apart.
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
                7 if name.eq_ignore_ascii_case(b"upgrade") => facts.upgrade_field = true,
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

    /// Judges them together with the request line.
    #[inline]
    pub(crate) fn with_line(self, method: &Method, version: Version) -> Result<Facts, Error> {
        let old = version == Version::HTTP_10;
        if !self.host && !old {
            return Err(Error::HostMissing);
        }
        let framing = match (self.encoding, self.length) {
            (Encoding::None, length) => Framing::Length(length.unwrap_or(0)),
            (_, Some(_)) => return Err(Error::LengthAndEncoding),
            (_, None) if old => return Err(Error::EncodingInOldVersion),
            (Encoding::Chunked, None) => Framing::Chunked,
            (Encoding::Unknown, None) => return Err(Error::EncodingUnknown),
            (Encoding::Other | Encoding::Invalid, None) => return Err(Error::EncodingInvalid),
        };
        Ok(Facts {
            framing,
            keep_alive: !self.close && (!old || self.keep_alive),
            old,
            expects_continue: self.expects_continue && !old && framing != Framing::Length(0),
            upgrade: self.upgrade_option && self.upgrade_field && !old,
            head_only: *method == Method::HEAD,
            connect: *method == Method::CONNECT,
        })
    }
}

/// What the `Transfer-Encoding` lines say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Encoding {
    #[default]
    None,
    /// `chunked` and nothing else.
    Chunked,
    /// Something else, so far.
    Other,
    /// Something else, then `chunked`.
    Unknown,
    /// An empty member, or something after `chunked`.
    Invalid,
}

impl Encoding {
    /// One more line.
    fn and(self, value: &[u8]) -> Encoding {
        value.split(|&byte| byte == b',').map(trim).fold(self, |encoding, coding| {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            match encoding {
                Encoding::None if chunked => Encoding::Chunked,
                // What came before was not chunked, so this may be the end of a chain that is merely unknown.
                Encoding::Other if chunked => Encoding::Unknown,
                Encoding::None | Encoding::Other if !coding.is_empty() => Encoding::Other,
                _ => Encoding::Invalid,
            }
        })
    }
}

/// The members of a comma-separated list, without the white space around them and the empty ones.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `1*DIGIT`, and nothing else. What has no room in 63 bits is the length of nothing.
fn parse_length(value: &[u8]) -> Result<u64, Error> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Error::LengthInvalid);
    }
    let digits = std::str::from_utf8(value).expect("digits are ASCII");
    digits.parse::<i64>().map(i64::unsigned_abs).map_err(|_| Error::LengthInvalid)
}
