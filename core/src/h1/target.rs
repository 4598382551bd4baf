//! The request target (RFC 9112, 3.2) and the `Host` field: which characters may stand where.

use std::net::Ipv6Addr;

use http::Method;

use super::error::Error;

/// What a byte may be part of.
const PATH: u8 = 1;
const QUERY: u8 = 2;
const HOST: u8 = 4;

/// By RFC 3986, and `|`, `[`, `]` in paths and a few more in queries, which browsers send as they are. `#` never
/// reaches a server, and what is not visible ASCII has to be percent-encoded.
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

/// Whether `target` is one for `method`: `*` for OPTIONS, `host:port` for CONNECT, else a path, or a whole URL.
pub(crate) fn check(method: &Method, target: &[u8]) -> Result<(), Error> {
    let fine = match target {
        _ if *method == Method::CONNECT => is_authority_with_port(target),
        [b'/', ..] => is_path_and_query(target),
        b"*" => *method == Method::OPTIONS,
        _ => is_absolute(target),
    };
    if fine { Ok(()) } else { Err(Error::Target) }
}

fn is_path_and_query(target: &[u8]) -> bool {
    let mut rest = target;
    loop {
        let Some(at) = rest.iter().position(|&byte| CLASS[usize::from(byte)] & PATH == 0) else { return true };
        match rest[at] {
            b'?' => return rest[at + 1..].iter().all(|&byte| CLASS[usize::from(byte)] & QUERY != 0),
            b'%' if is_percent_encoded(&rest[at..]) => rest = &rest[at + 3..],
            _ => return false,
        }
    }
}

fn is_percent_encoded(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn is_absolute(target: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', target) else { return false };
    let (scheme, rest) = target.split_at(colon);
    let Some(rest) = rest.strip_prefix(b"://") else { return false };
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return false;
    }
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, local) = rest.split_at(end);
    let local_is_fine = match local {
        [] => true,
        [b'/', ..] => is_path_and_query(local),
        query => query[1..].iter().all(|&byte| CLASS[usize::from(byte)] & QUERY != 0),
    };
    !authority.is_empty() && is_host(authority) && local_is_fine
}

fn is_authority_with_port(target: &[u8]) -> bool {
    let Some(colon) = memchr::memrchr(b':', target) else { return false };
    colon > 0 && colon + 1 < target.len() && is_host(target)
}

/// Whether a value is `uri-host [":" port]` (RFC 9110, 7.2). An empty one is: the target then has no authority.
pub(crate) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let address = std::str::from_utf8(&rest[..end]).unwrap_or_default();
            if address.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            match &rest[end + 1..] {
                [] => return true,
                [b':', port @ ..] => (&b""[..], port),
                _ => return false,
            }
        }
        _ => match memchr::memchr(b':', value) {
            Some(0) => return false,
            Some(colon) => (&value[..colon], &value[colon + 1..]),
            None => (value, &b""[..]),
        },
    };
    is_name(host) && is_port(port)
}

fn is_name(mut host: &[u8]) -> bool {
    loop {
        let Some(at) = host.iter().position(|&byte| CLASS[usize::from(byte)] & HOST == 0) else { return true };
        if !is_percent_encoded(&host[at..]) {
            return false;
        }
        host = &host[at + 3..];
    }
}

fn is_port(port: &[u8]) -> bool {
    let digits = std::str::from_utf8(port).unwrap_or("-");
    digits.is_empty() || (digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_targets_that_fit_their_method() {
        for (method, target, fine) in [
            (Method::GET, "/", true),
            (Method::GET, "/a%20b?c=d/?&%zz", true),
            (Method::GET, "/a%2", false),
            (Method::GET, "/a%zz", false),
            (Method::GET, "/a#b", false),
            (Method::GET, "/a\\b", false),
            (Method::GET, "/a?{b}", true),
            (Method::GET, "a", false),
            (Method::GET, "*", false),
            (Method::OPTIONS, "*", true),
            (Method::OPTIONS, "**", false),
            (Method::GET, "http://a/b", true),
            (Method::GET, "HTTPS://a:1?b", true),
            (Method::GET, "http://a", true),
            (Method::GET, "http:///b", false),
            (Method::GET, "http://u@a/b", false),
            (Method::GET, "ftp://a/b", false),
            (Method::GET, "a:80", false),
            (Method::CONNECT, "a:80", true),
            (Method::CONNECT, "[::1]:80", true),
            (Method::CONNECT, "a", false),
            (Method::CONNECT, "a:", false),
            (Method::CONNECT, ":80", false),
            (Method::CONNECT, "/", false),
        ] {
            assert_eq!(check(&method, target.as_bytes()).is_ok(), fine, "{method} {target}");
        }
    }

    #[test]
    fn tells_hosts() {
        for (value, fine) in [
            ("", true),
            ("a", true),
            ("a:", true),
            ("a:80", true),
            ("127.0.0.1:65535", true),
            ("[::1]", true),
            ("[::1]:80", true),
            ("a%41", true),
            ("a:65536", false),
            ("a:b", false),
            ("a:+1", false),
            (":80", false),
            ("a b", false),
            ("a,b", false),
            ("a/b", false),
            ("u@a", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[zz]", false),
            ("a:1:2", false),
            ("::1", false),
        ] {
            assert_eq!(is_host(value.as_bytes()), fine, "'{value}'");
        }
    }
}
