//! The syntax of the request target (RFC 9112, 3.2) and of the `Host` field (RFC 9110, 7.2).

use std::net::Ipv6Addr;

use http::Method;

use crate::proto::error::Error;

/// The bits of a byte in [`CLASS`]: the components in which the byte is allowed.
const PATH: u8 = 1;
const QUERY: u8 = 2;
const HOST: u8 = 4;

/// The components in which each byte is allowed.
///
/// The table follows RFC 3986. It also allows `|`, `[` and `]` in paths and a few more bytes in queries, which
/// browsers send without encoding. It excludes `#`, which starts a fragment and is never sent to a server, and all
/// bytes other than visible ASCII, which must be percent-encoded.
static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => PATH | QUERY | HOST,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => PATH | QUERY | HOST,
            b',' | b':' | b'@' | b'/' | b'|' | b'[' | b']' => PATH | QUERY,
            b'%' => QUERY,
            b'?' | b'{' | b'}' | b'\\' | b'^' | b'`' => QUERY,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// Checks that `target` has a form that `method` allows: `*` for OPTIONS, `host:port` for CONNECT, or a path or an
/// `http` or `https` URL (RFC 9112, 3.2). Returns its path, a subslice of `target`, or [`Error::Target`]. The path of
/// `*` and of `host:port` is the whole target.
pub(crate) fn check<'a>(method: &Method, target: &'a [u8]) -> Result<&'a [u8], Error> {
    let path = match target {
        _ if *method == Method::CONNECT => is_authority_with_port(target).then_some(target),
        [b'/', ..] => path_of(target),
        b"*" => (*method == Method::OPTIONS).then_some(target),
        _ => path_of_absolute(target),
    };
    path.ok_or(Error::Target)
}

/// Measures a path and query at the start of `bytes`: returns the length of the path, and of both.
#[inline]
pub(crate) fn measure(bytes: &[u8]) -> (usize, usize) {
    let path = span::<PATH>(bytes, 0);
    let end = if bytes.get(path) == Some(&b'?') { span::<QUERY>(bytes, path) } else { path };
    (path, end)
}

/// The end of the bytes from `at` on that are allowed in `CLASSES`. Percent-encoded bytes are allowed in each.
#[inline]
fn span<const CLASSES: u8>(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let rest = &bytes[at..];
        at += rest.iter().take_while(|&&byte| CLASS[usize::from(byte)] & CLASSES != 0).count();
        if !is_percent_encoded(&bytes[at..]) {
            return at;
        }
        at += 3;
    }
}

/// The path of a target in origin form.
fn path_of(target: &[u8]) -> Option<&[u8]> {
    let (path, end) = measure(target);
    (end == target.len()).then_some(&target[..path])
}

/// Whether `bytes` begin with `%` and two hexadecimal digits.
fn is_percent_encoded(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// The path of a target in absolute form. A URL without a path has the path `/`.
fn path_of_absolute(target: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', target)?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://")?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, local) = rest.split_at(end);
    if authority.is_empty() || !is_host(authority) {
        return None;
    }
    match local {
        [b'/', ..] => path_of(local),
        [b'?', query @ ..] if span::<QUERY>(query, 0) != query.len() => None,
        // The path must be a subslice of the target. A slash of `://` provides the byte `/`.
        _ => Some(&target[colon + 1..colon + 2]),
    }
}

/// Whether `target` is in authority form: a host and a port.
fn is_authority_with_port(target: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', target) else { return false };
    let port = &target[colon + 1..];
    // `is_host` checks the brackets of an IPv6 address: the last colon of `[::1` does not begin a port.
    !port.is_empty() && is_port(port) && is_host(target)
}

/// Whether `value` is `uri-host [":" port]` (RFC 9110, 7.2). An empty value is not: an `http` URL has a host (RFC
/// 9110, 4.2.1).
#[inline]
pub(crate) fn is_host(value: &[u8]) -> bool {
    if let [b'[', address @ ..] = value {
        return is_literal_address(address);
    }
    let mut at = 0;
    while at < value.len() {
        let byte = value[at];
        at += match byte {
            _ if CLASS[usize::from(byte)] & HOST != 0 => 1,
            b':' => return at > 0 && is_port(&value[at + 1..]),
            b'%' if is_percent_encoded(&value[at..]) => 3,
            _ => return false,
        };
    }
    at > 0
}

/// Whether `value`, which follows a `[`, is an IPv6 address or an `IPvFuture` with its `]` and an optional port (RFC
/// 3986, 3.2.2).
fn is_literal_address(value: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b']', value) else { return false };
    let is_address = match &value[..end] {
        [b'v' | b'V', rest @ ..] => is_future_address(rest),
        address => std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
    };
    let rest = &value[end + 1..];
    is_address && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

/// Whether `value`, without its leading `v`, is `1*HEXDIG "." 1*( unreserved / sub-delims / ":" )` (RFC 3986, 3.2.2).
fn is_future_address(value: &[u8]) -> bool {
    let Some(dot) = memchr::memchr(b'.', value) else { return false };
    let (version, address) = (&value[..dot], &value[dot + 1..]);
    let is_part = |&byte: &u8| byte == b':' || byte == b',' || CLASS[usize::from(byte)] & HOST != 0;
    !version.is_empty()
        && version.iter().all(u8::is_ascii_hexdigit)
        && !address.is_empty()
        && address.iter().all(is_part)
}

/// Whether `digits` are an empty port or a number up to 65535.
#[inline]
fn is_port(digits: &[u8]) -> bool {
    let mut port = 0;
    for &byte in digits {
        port = port * 10 + u32::from(byte.wrapping_sub(b'0'));
        if !byte.is_ascii_digit() || port > u32::from(u16::MAX) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_fits_its_method_has_a_path() {
        let table: [(Method, &[(&str, &str)], &[&str]); 4] = [
            (
                Method::GET,
                &[("/", "/"), ("/a%20b?c=d/?&%zz", "/a%20b"), ("/a?{b}", "/a"), ("/aa%20?", "/aa%20")],
                &["/a%2", "/a%zz", "/a%20#b", "/a#b", "/a?b#c", "/a\\b", "a", "*"],
            ),
            (
                Method::GET,
                &[
                    ("http://a/b", "/b"),
                    ("HTTPS://a:1?b", "/"),
                    ("http://a", "/"),
                    ("https://a/b/c?d", "/b/c"),
                ],
                &[
                    "http:///b",
                    "http://u@a/b",
                    "ftp://a/b",
                    "a:80",
                    "http:/a",
                    "http://a?b#c",
                    "http://a/b#c",
                ],
            ),
            (Method::OPTIONS, &[("*", "*"), ("/a", "/a")], &["**"]),
            (
                Method::CONNECT,
                &[("a:80", "a:80"), ("[::1]:80", "[::1]:80")],
                &["[::1]", "[::1]:", "a", "a:", ":80", "/", "a:b", "a,b:80"],
            ),
        ];
        for (method, fitting, others) in table {
            for (target, path) in fitting {
                assert_eq!(check(&method, target.as_bytes()), Ok(path.as_bytes()), "{method} {target}");
            }
            for target in others {
                assert_eq!(check(&method, target.as_bytes()), Err(Error::Target), "{method} {target}");
            }
        }
    }

    #[test]
    fn tells_hosts() {
        for value in ["a", "a:", "a:80", "127.0.0.1:65535", "[::1]", "[::1]:80", "a%41", "[v1.a:b]:80"] {
            assert!(is_host(value.as_bytes()), "'{value}'");
        }
        for value in [
            "", "a:65536", "a:b", "a:+1", ":80", "a b", "a,b", "a/b", "u@a", "[::1", "[::1]x", "[zz]",
            "[v.a]", "[v1.]", "[v1a]", "[vg.a]", "[v1.a/]", "a:1:2", "::1", "a%zz", "a%4", "a[::1]",
        ] {
            assert!(!is_host(value.as_bytes()), "'{value}'");
        }
    }
}
