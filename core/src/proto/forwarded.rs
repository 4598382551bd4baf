//! The fields in which proxies name the client of a request: `Forwarded` (RFC 7239), and `X-Forwarded-For`,
//! `X-Forwarded-Proto` and `X-Forwarded-Host`.
//!
//! Each proxy adds an element at the end, so the elements on the left may come from any peer. An element
//! that cannot be read is therefore [`Node::Malformed`], and does not hide the elements on its right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::proto::target::is_host;

/// The peer of a proxy, as the proxy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// An address, and its port if it is given.
    Address(IpAddr, Option<u16>),
    /// `unknown`, or an obfuscated identifier (RFC 7239, 6.3).
    Hidden,
    /// The proxy does not name its peer.
    Omitted,
    /// The element cannot be read.
    Malformed,
}

/// The facts about a request that one proxy sends. The values are not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) node: Node,
    pub(crate) proto: Option<&'a [u8]>,
    pub(crate) host: Option<&'a [u8]>,
}

impl Element<'_> {
    const MALFORMED: Element<'static> = Element { node: Node::Malformed, proto: None, host: None };
}

/// The elements of a field line of `Forwarded`. The rest of the line is one malformed element if it has no valid form,
/// because a comma may be within a quoted string.
pub(crate) fn forwarded(line: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            return None;
        }
        let element = take_element(&mut rest);
        if element.is_none() {
            rest = &[];
        }
        Some(element.unwrap_or(Element::MALFORMED))
    })
}

/// Takes an element from the start of `rest`, which then begins with a comma or is empty.
fn take_element<'a>(rest: &mut &'a [u8]) -> Option<Element<'a>> {
    let (mut node, mut by, mut proto, mut host) = (None, None, None, None);
    loop {
        skip_space(rest);
        if let Some((name, value)) = take_pair(rest)? {
            let slot = match name {
                _ if name.eq_ignore_ascii_case(b"for") => Some(&mut node),
                _ if name.eq_ignore_ascii_case(b"by") => Some(&mut by),
                _ if name.eq_ignore_ascii_case(b"proto") => Some(&mut proto),
                _ if name.eq_ignore_ascii_case(b"host") => Some(&mut host),
                _ => None,
            };
            // A parameter occurs once (RFC 7239, 4).
            if slot.is_some_and(|slot| slot.replace(value).is_some()) {
                return None;
            }
        }
        skip_space(rest);
        match rest {
            [b';', after @ ..] => *rest = after,
            [] | [b',', ..] => break,
            _ => return None,
        }
    }
    let node = node.map_or(Node::Omitted, |node| Node::parse(node, false));
    Some(Element { node, proto, host })
}

/// Takes `token "=" ( token / quoted-string )` (RFC 7239, 4). `Some(None)` if the pair is empty.
#[expect(clippy::option_option, reason = "a pair may be malformed, or absent")]
fn take_pair<'a>(rest: &mut &'a [u8]) -> Option<Option<(&'a [u8], &'a [u8])>> {
    let name = take_token(rest);
    if name.is_empty() {
        return Some(None);
    }
    *rest = rest.strip_prefix(b"=")?;
    let value = match rest.strip_prefix(b"\"") {
        Some(quoted) => take_quoted(rest, quoted)?,
        None => Some(take_token(rest)).filter(|value| !value.is_empty())?,
    };
    Some(Some((name, value)))
}

/// Takes the rest of a quoted string. A backslash stays in the value. No address and no host has one.
fn take_quoted<'a>(rest: &mut &'a [u8], quoted: &'a [u8]) -> Option<&'a [u8]> {
    let mut at = 0;
    loop {
        match quoted.get(at)? {
            b'"' => break,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    *rest = &quoted[at + 1..];
    Some(&quoted[..at])
}

fn take_token<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let (token, after) = rest.split_at(rest.iter().position(|byte| !is_token(byte)).unwrap_or(rest.len()));
    *rest = after;
    token
}

fn skip_space(rest: &mut &[u8]) {
    *rest = rest.trim_ascii_start();
}

/// The elements of a field line that is a list without parameters, such as `X-Forwarded-For`.
pub(crate) fn list(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

impl Node {
    /// Reads an IP address with or without a port, `unknown`, or an obfuscated identifier (RFC 7239, 6).
    /// An IPv6 address is in brackets, unless `allows_bare` and there is no port.
    pub(crate) fn parse(text: &[u8], allows_bare: bool) -> Node {
        Node::try_parse(text, allows_bare).unwrap_or(Node::Malformed)
    }

    fn try_parse(text: &[u8], allows_bare: bool) -> Option<Node> {
        let text = std::str::from_utf8(text).ok()?;
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return allows_bare.then(|| Node::address(address.into(), None));
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let port = match port {
                "" => None,
                _ => Port::parse(port.strip_prefix(':')?)?.number(),
            };
            return Some(Node::address(address.parse::<Ipv6Addr>().ok()?.into(), port));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Port::parse(port)?.number()),
            None => (text, None),
        };
        if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
            return Some(Node::Hidden);
        }
        Some(Node::address(name.parse::<Ipv4Addr>().ok()?.into(), port))
    }

    fn address(address: IpAddr, port: Option<u16>) -> Node {
        Node::Address(address.to_canonical(), port)
    }
}

/// The port of a node.
enum Port {
    Number(u16),
    Hidden,
}

impl Port {
    fn parse(text: &str) -> Option<Port> {
        if is_obfuscated(text) {
            return Some(Port::Hidden);
        }
        let is_number = !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse().ok().map(Port::Number)).flatten()
    }

    fn number(self) -> Option<u16> {
        match self {
            Port::Number(number) => Some(number),
            Port::Hidden => None,
        }
    }
}

/// Whether `text` is `"_" 1*( ALPHA / DIGIT / "." / "_" / "-" )` (RFC 7239, 6.3).
fn is_obfuscated(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(is_part))
}

/// Whether the scheme is encrypted. `None` if it is not one of HTTP. The schemes of WebSockets stand for those of HTTP.
pub(crate) fn is_https(scheme: &[u8]) -> Option<bool> {
    let is = |name: &str| scheme.eq_ignore_ascii_case(name.as_bytes());
    match scheme {
        _ if is("https") || is("wss") => Some(true),
        _ if is("http") || is("ws") => Some(false),
        _ => None,
    }
}

/// The host, if it is a valid one.
pub(crate) fn host(value: &[u8]) -> Option<&str> {
    is_host(value).then(|| std::str::from_utf8(value).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str, port: Option<u16>) -> Node {
        Node::Address(text.parse().expect("an address"), port)
    }

    #[test]
    fn nodes_are_read_or_malformed() {
        for (text, expected) in [
            ("192.0.2.1", ip("192.0.2.1", None)),
            ("192.0.2.1:80", ip("192.0.2.1", Some(80))),
            ("192.0.2.1:_p", ip("192.0.2.1", None)),
            ("[2001:db8::1]", ip("2001:db8::1", None)),
            ("[2001:db8::1]:4711", ip("2001:db8::1", Some(4711))),
            ("[::ffff:192.0.2.1]", ip("192.0.2.1", None)),
            ("unknown", Node::Hidden),
            ("Unknown:80", Node::Hidden),
            ("_a.b-c", Node::Hidden),
        ] {
            for allows_bare in [false, true] {
                assert_eq!(Node::parse(text.as_bytes(), allows_bare), expected, "{text}");
            }
        }
        assert_eq!(Node::parse(b"2001:db8::1", true), ip("2001:db8::1", None));
        assert_eq!(Node::parse(b"2001:db8::1", false), Node::Malformed);
        for text in [
            "",
            "a",
            "_",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "1.2.3.4:+80",
            "1.2.3.4:000080",
            "[::1",
            "[::1]x",
            "[::1]:",
            "[1.2.3.4]",
            "1.2.3.4 ",
            "\u{e9}",
            "1.2.3.4:80:80",
        ] {
            assert_eq!(Node::parse(text.as_bytes(), true), Node::Malformed, "'{text}'");
        }
    }

    #[test]
    fn elements_of_forwarded_are_read_or_malformed() {
        let element = |node, proto: Option<&'static str>, host: Option<&'static str>| Element {
            node,
            proto: proto.map(str::as_bytes),
            host: host.map(str::as_bytes),
        };
        let one = element(ip("192.0.2.1", None), None, None);
        for (line, expected) in [
            ("", vec![]),
            (" , ,", vec![]),
            ("for=192.0.2.1", vec![one]),
            ("For=192.0.2.1,,FOR=192.0.2.1 ,", vec![one, one]),
            (
                "for=\"[2001:db8::1]:80\";proto=https; host=\"a:1\" ;by=_x;a=b",
                vec![element(ip("2001:db8::1", Some(80)), Some("https"), Some("a:1"))],
            ),
            ("proto=http;;", vec![element(Node::Omitted, Some("http"), None)]),
            ("a=\"\\\",for=192.0.2.9,\", for=192.0.2.1", vec![element(Node::Omitted, None, None), one]),
            ("for=nonsense, for=192.0.2.1", vec![Element::MALFORMED, one]),
            ("for=192.0.2.1, for=\"", vec![one, Element::MALFORMED]),
            ("for=192.0.2.1, for=\"\\", vec![one, Element::MALFORMED]),
            ("for, for=192.0.2.1", vec![Element::MALFORMED]),
            ("for=192.0.2.1;for=192.0.2.1", vec![Element::MALFORMED]),
            ("for=192.0.2.1:80", vec![Element::MALFORMED]),
            ("for= 192.0.2.1", vec![Element::MALFORMED]),
            ("for=\"192.0.2.1\"x", vec![Element::MALFORMED]),
            ("for=\"\"", vec![Element::MALFORMED]),
        ] {
            assert_eq!(forwarded(line.as_bytes()).collect::<Vec<_>>(), expected, "{line}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parsers_panic(line in "[ -~\t\u{80}-\u{ff}]{0,40}", pick in 0..8usize) {
            let words = ["for=", "\"", "\\", ";", ",", "[::1]", "proto=https", "192.0.2.1"];
            let at = line.char_indices().nth(pick).map_or(line.len(), |(at, _)| at);
            for line in [line.clone(), format!("{}{}{}", &line[..at], words[pick], &line[at..])] {
                // Each step consumes a byte.
                prop_assert!(forwarded(line.as_bytes()).count() <= line.len());
                for element in list(line.as_bytes()) {
                    Node::parse(element, true);
                    let _ = (is_https(element), host(element));
                }
            }
        }
    }
}
