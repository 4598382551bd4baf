//! What the fields of a head say about the message: where its body ends, and what becomes of the connection.

use http::{Method, Version};

use super::error::Error;
use super::target;
use crate::message::FieldSpans;

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

/// Judges the fields of a head. Anything that two parsers could read two ways is an error.
#[inline]
pub(crate) fn facts(bytes: &[u8], method: &Method, version: Version, fields: &FieldSpans) -> Result<Facts, Error> {
    let old = version == Version::HTTP_10;
    let mut hosts = 0;
    let mut length = None;
    let mut encoding = Encoding::None;
    let (mut close, mut keep_alive, mut upgrade_option, mut upgrade_field) = (false, false, false, false);
    let mut expects_continue = false;

    for field in fields {
        let name = field.name.of(bytes);
        // The length tells most names apart.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                if hosts > 1 {
                    return Err(Error::HostRepeated);
                }
                if !target::is_host(field.value.of(bytes)) {
                    return Err(Error::HostInvalid);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !field.value.of(bytes).eq_ignore_ascii_case(b"100-continue") {
                    return Err(Error::Expectation);
                }
                expects_continue = !old;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => upgrade_field = true,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in list(field.value.of(bytes)) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if length.replace(parse_length(field.value.of(bytes))?).is_some() {
                    return Err(Error::LengthRepeated);
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                encoding = encoding.and(field.value.of(bytes));
            }
            _ => {}
        }
    }

    if hosts == 0 && !old {
        return Err(Error::HostMissing);
    }
    let framing = match (encoding, length) {
        (Encoding::None, length) => Framing::Length(length.unwrap_or(0)),
        (_, Some(_)) => return Err(Error::LengthAndEncoding),
        (_, None) if old => return Err(Error::EncodingInOldVersion),
        (Encoding::Chunked, None) => Framing::Chunked,
        (Encoding::Unknown, None) => return Err(Error::EncodingUnknown),
        (Encoding::Other | Encoding::Invalid, None) => return Err(Error::EncodingInvalid),
    };
    Ok(Facts {
        framing,
        keep_alive: !close && (!old || keep_alive),
        old,
        expects_continue: expects_continue && framing != Framing::Length(0),
        upgrade: upgrade_option && upgrade_field && !old,
        head_only: *method == Method::HEAD,
        connect: *method == Method::CONNECT,
    })
}

/// What the `Transfer-Encoding` lines say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
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

/// `1*DIGIT`, and nothing else. More than fits is more than any limit.
fn parse_length(value: &[u8]) -> Result<u64, Error> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Error::LengthInvalid);
    }
    let digits = std::str::from_utf8(value).expect("digits are ASCII");
    digits.parse().map_err(|_| Error::BodyTooLarge)
}
