//! The PROXY protocol: a header at the start of a connection, in which a proxy names its client. The format
//! is the specification of HAProxy, <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>.
//!
//! A header of version 1 is a line of text, and one of version 2 is binary. Both are read strictly. Of the additional
//! values (TLVs) of version 2, only the one about TLS is read. Checksums are not checked: TCP has its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The largest header of version 1 in bytes, with its line end.
const MAX_V1: usize = 107;
/// The largest header of version 2 in bytes. The addresses have at most 216 bytes; a proxy may pass on a certificate.
const MAX_V2: usize = 4096;
/// The start of a header of version 1.
const V1: &[u8] = b"PROXY ";
/// The start of a header of version 2.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The bytes of version 2 before the addresses.
const V2_FIXED: usize = 16;
/// The type of the TLV about TLS.
const TYPE_SSL: u8 = 0x20;
/// The length of the part that each such TLV has.
const SSL_FIXED: usize = 5;
/// The bit of its first byte that says that the client speaks TLS.
const CLIENT_SSL: u8 = 0x01;

/// A header at the start of the received bytes.
///
/// ```
/// use gearshift_core::h1::{ProxyHeader, ProxySource};
///
/// let bytes = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\nGET / HTTP/1.1\r\n";
/// let header = ProxyHeader::parse(bytes).expect("a header").expect("all of it");
/// assert_eq!(header.source, ProxySource::Ip("192.0.2.1:4711".parse().expect("an address")));
/// assert_eq!(&bytes[header.len..], b"GET / HTTP/1.1\r\n");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The number of its bytes.
    pub len: usize,
    /// The client of the proxy.
    pub source: Source,
    /// Whether the client of the proxy speaks TLS, according to the header.
    pub is_https: bool,
}

/// The client of a proxy, from [`ProxyHeader::source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The address of the client.
    Ip(SocketAddr),
    /// A peer on a Unix socket.
    Unix,
    /// The proxy connects for itself, for example to check the server, or does not know the client.
    Proxy,
}

/// The bytes do not begin with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHeader;

impl ProxyHeader {
    /// Reads the header at the start of `bytes`. `None` if its end has not arrived.
    ///
    /// # Errors
    /// [`NoHeader`] if the bytes do not begin with a valid header, and no further bytes can complete one.
    pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
        let begins = |start: &[u8]| bytes.starts_with(start) || start.starts_with(bytes);
        match bytes {
            _ if begins(V1) => parse_v1(bytes),
            _ if begins(V2) => parse_v2(bytes),
            _ => Err(NoHeader),
        }
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let line = &bytes[..bytes.len().min(MAX_V1)];
    let Some(end) = line.iter().position(|byte| !matches!(byte, b' '..=b'~')) else {
        return if line.len() < MAX_V1 { Ok(None) } else { Err(NoHeader) };
    };
    match line[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if line.len() < MAX_V1 => return Ok(None),
        _ => return Err(NoHeader),
    }
    let line = std::str::from_utf8(&line[..end]).map_err(|_| NoHeader)?;
    let source = match line.split_once(' ') {
        // The rest of such a line is to be ignored.
        Some((_, rest)) if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") => Source::Proxy,
        Some((_, rest)) => Source::Ip(addresses_v1(rest).ok_or(NoHeader)?),
        None => return Err(NoHeader),
    };
    Ok(Some(ProxyHeader { len: end + 2, source, is_https: false }))
}

/// Reads `TCP4 SOURCE DESTINATION PORT PORT`, or the same with `TCP6`. Returns the source.
fn addresses_v1(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let mut word = || words.next();
    let is_v6 = match word()? {
        "TCP4" => false,
        "TCP6" => true,
        _ => return None,
    };
    let address = |text: &str| -> Option<IpAddr> {
        match is_v6 {
            false => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            true => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    };
    let port = |text: &str| -> Option<u16> {
        let is_canonical = text == "0" || !text.starts_with(['0', '+']);
        text.parse().ok().filter(|_| is_canonical)
    };
    let (source, _) = (address(word()?)?, address(word()?)?);
    let (source_port, _) = (port(word()?)?, port(word()?)?);
    word().is_none().then(|| SocketAddr::new(source.to_canonical(), source_port))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, NoHeader> {
    let Some(&[version_and_command, family, high, low]) = bytes.get(V2.len()..V2_FIXED) else {
        // The version is known to be wrong before the length arrives.
        return match bytes.get(V2.len()) {
            Some(version) if !matches!(version, 0x20 | 0x21) => Err(NoHeader),
            _ => Ok(None),
        };
    };
    let len = V2_FIXED + usize::from(u16::from_be_bytes([high, low]));
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(NoHeader),
    };
    // The lengths of the addresses, for streams and for datagrams.
    let addresses = match family {
        _ if is_local => 0,
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(NoHeader),
    };
    if len > MAX_V2 || len < V2_FIXED + addresses {
        return Err(NoHeader);
    }
    let Some(rest) = bytes.get(V2_FIXED..len) else { return Ok(None) };
    if is_local || family == 0x00 {
        return Ok(Some(ProxyHeader { len, source: Source::Proxy, is_https: false }));
    }
    let (addresses, values) = rest.split_at(addresses);
    let source = match addresses.len() {
        12 => ip::<4>(addresses, 8)?,
        36 => ip::<16>(addresses, 32)?,
        _ => Source::Unix,
    };
    Ok(Some(ProxyHeader { len, source, is_https: tells_tls(values)? }))
}

/// The source of `addresses`, whose port is at `port`.
fn ip<const N: usize>(addresses: &[u8], port: usize) -> Result<Source, NoHeader>
where
    IpAddr: From<[u8; N]>,
{
    let (Some(address), Some(port)) = (addresses.first_chunk::<N>(), addresses[port..].first_chunk()) else {
        return Err(NoHeader);
    };
    let address = IpAddr::from(*address).to_canonical();
    Ok(Source::Ip(SocketAddr::new(address, u16::from_be_bytes(*port))))
}

/// Whether one of the TLVs says that the client speaks TLS.
fn tells_tls(mut values: &[u8]) -> Result<bool, NoHeader> {
    let mut is_https = false;
    while let Some((&[kind, high, low], rest)) = values.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(NoHeader)?;
        if kind == TYPE_SSL {
            let [client, ..] = value.first_chunk::<SSL_FIXED>().ok_or(NoHeader)?;
            is_https |= client & CLIENT_SSL != 0;
        }
        values = rest;
    }
    if values.is_empty() { Ok(is_https) } else { Err(NoHeader) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let len = u16::try_from(rest.len()).expect("a short header").to_be_bytes();
        [V2, &[command, family], &len, rest].concat()
    }

    const V4_ADDRESSES: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];

    fn v6_addresses() -> Vec<u8> {
        let (from, to) = ("2001:db8::1", "2001:db8::2");
        let octets = |text: &str| text.parse::<Ipv6Addr>().expect("an address").octets();
        [&octets(from)[..], &octets(to), &[0x12, 0x67, 0, 80]].concat()
    }

    fn tls_value(client: u8) -> Vec<u8> {
        // With a sub-value, the version of TLS.
        [&[TYPE_SSL, 0, 15, client, 0, 0, 0, 0, 0x21, 0, 7][..], b"TLSv1.3"].concat()
    }

    fn ip(text: &str) -> Source {
        Source::Ip(text.parse().expect("an address"))
    }

    fn valid() -> Vec<(Vec<u8>, Source, bool)> {
        let mut all: Vec<_> = [
            ("PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n", ip("192.0.2.1:4711")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ip("255.255.255.255:65535")),
            ("PROXY TCP6 2001:db8::1 ::1 0 0\r\n", ip("[2001:db8::1]:0")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", ip("192.0.2.1:1")),
            ("PROXY UNKNOWN\r\n", Source::Proxy),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 \
                 65535\r\n",
                Source::Proxy,
            ),
        ]
        .into_iter()
        .map(|(line, source)| (line.into(), source, false))
        .collect();
        let v4 = ip("192.0.2.1:4711");
        let with = |addresses: &[u8], values: &[u8]| [addresses, values].concat();
        all.extend([
            (v2(0x21, 0x11, &V4_ADDRESSES), v4, false),
            (v2(0x21, 0x12, &V4_ADDRESSES), v4, false),
            (v2(0x21, 0x21, &v6_addresses()), ip("[2001:db8::1]:4711"), false),
            (v2(0x21, 0x31, &[b'a'; 216]), Source::Unix, false),
            (v2(0x21, 0x00, b""), Source::Proxy, false),
            (v2(0x21, 0x00, b"any bytes"), Source::Proxy, false),
            (v2(0x20, 0x00, b""), Source::Proxy, false),
            (v2(0x20, 0xff, b"any bytes"), Source::Proxy, false),
            (v2(0x21, 0x11, &with(&V4_ADDRESSES, &tls_value(1))), v4, true),
            (v2(0x21, 0x11, &with(&V4_ADDRESSES, &tls_value(0))), v4, false),
            (v2(0x21, 0x11, &with(&V4_ADDRESSES, &with(&[4, 0, 3, 1, 2, 3], &tls_value(7)))), v4, true),
            (v2(0x21, 0x21, &with(&v6_addresses(), &tls_value(1))), ip("[2001:db8::1]:4711"), true),
        ]);
        // The largest header.
        let noop = |len: usize| {
            [&[4][..], &u16::try_from(len).expect("short").to_be_bytes(), &vec![0; len]].concat()
        };
        let filled = with(&V4_ADDRESSES, &noop(MAX_V2 - V2_FIXED - 12 - 3));
        all.push((v2(0x21, 0x11, &filled), v4, false));
        all
    }

    #[test]
    fn a_header_is_read_however_it_is_chopped() {
        for (header, source, is_https) in valid() {
            let expected = Ok(Some(ProxyHeader { len: header.len(), source, is_https }));
            let shown = String::from_utf8_lossy(&header[..header.len().min(80)]).into_owned();
            for end in 0..header.len() {
                assert_eq!(ProxyHeader::parse(&header[..end]), Ok(None), "{end} bytes of {shown:?}");
            }
            for rest in ["", "GET / HTTP/1.1\r\n", "\r\n", "\0"] {
                assert_eq!(
                    ProxyHeader::parse(&[&header, rest.as_bytes()].concat()),
                    expected,
                    "{shown:?}{rest:?}"
                );
            }
        }
    }

    #[test]
    fn other_bytes_are_no_header() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY\r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWN\t\r\n",
            "PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWN \u{e9}\r\n",
        ] {
            assert_eq!(ProxyHeader::parse(line.as_bytes()), Err(NoHeader), "{line:?}");
        }
        let long = |len: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(len - "PROXY UNKNOWN \r\n".len()));
        assert!(matches!(ProxyHeader::parse(long(MAX_V1).as_bytes()), Ok(Some(_))));
        assert_eq!(ProxyHeader::parse(long(MAX_V1 + 1).as_bytes()), Err(NoHeader));
        assert_eq!(ProxyHeader::parse(&long(MAX_V1 + 1).as_bytes()[..MAX_V1 - 1]), Ok(None));
        assert_eq!(ProxyHeader::parse(&long(MAX_V1 + 1).as_bytes()[..MAX_V1]), Err(NoHeader));

        let with = |values: &[u8]| v2(0x21, 0x11, &[&V4_ADDRESSES, values].concat());
        for header in [
            v2(0x11, 0x11, &V4_ADDRESSES),
            v2(0x22, 0x11, &V4_ADDRESSES),
            v2(0x21, 0x13, &V4_ADDRESSES),
            v2(0x21, 0x10, &V4_ADDRESSES),
            v2(0x21, 0x41, &V4_ADDRESSES),
            v2(0x21, 0x11, &V4_ADDRESSES[1..]),
            v2(0x21, 0x21, &V4_ADDRESSES),
            v2(0x21, 0x31, &[0; 215]),
            with(&[1]),
            with(&[1, 0]),
            with(&[1, 0, 1]),
            with(&[TYPE_SSL, 0, 4, 1, 0, 0, 0]),
            v2(0x20, 0x00, &[0; MAX_V2 - V2_FIXED + 1]),
        ] {
            assert_eq!(ProxyHeader::parse(&header), Err(NoHeader), "{header:02x?}");
        }
        // The length is judged before the bytes arrive.
        let too_long = v2(0x20, 0x00, &[0; MAX_V2]);
        assert_eq!(ProxyHeader::parse(&too_long[..V2_FIXED]), Err(NoHeader));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic_and_more_bytes_change_no_result(
            which in 0..32usize,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let valid = valid();
            let mut bytes = valid[which % valid.len()].0.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.extend(rest);
            let whole = ProxyHeader::parse(&bytes);
            if let Ok(Some(header)) = whole {
                prop_assert!(header.len <= bytes.len());
            }
            prop_assert!(bytes.len() < MAX_V2 || whole != Ok(None));
            for end in 0..bytes.len() {
                let part = ProxyHeader::parse(&bytes[..end]);
                prop_assert!(part == Ok(None) || part == whole, "{} bytes: {:?}, all: {:?}", end, part, whole);
            }
        }
    }
}
