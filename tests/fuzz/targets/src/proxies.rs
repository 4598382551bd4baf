//! What proxies tell about clients: the header of the PROXY protocol, and the fields of requests.

use std::net::{IpAddr, SocketAddr};

use gearshift_core::h1::{NoProxyHeader, ProxyHeader, ProxySource};
use gearshift_core::{Client, Config, ForwardedField, HeaderMap, HeaderValue};

use crate::input::{Choices, Input};

/// The largest headers of version 1 and 2.
const MAX: [usize; 2] = [107, 4096];

/// Reads the wire of `input` as a header of the PROXY protocol, and its lines as the values of fields.
pub fn proxies(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    header(wire);
    for start in
        [&b"PROXY TCP4 192.0.2.1 "[..], b"PROXY TCP6 ::1 ", b"PROXY UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n"]
    {
        header(&[start, wire].concat());
    }
    // A header of version 2 whose length is that of its bytes.
    if let Ok(len) = u16::try_from(wire.len()) {
        let (command, family) = (choices.of(&[0x21, 0x20]), choices.of(&[0x11, 0x21, 0x31, 0, 0x12]));
        let [high, low] = len.to_be_bytes();
        header(&[b"\r\n\r\n\0\r\nQUIT\n", &[command, family, high, low][..], wire].concat());
    }
    fields(&mut choices, wire);
}

/// Checks the reader of headers: bytes that arrive later change no result, and the end of the header is found.
fn header(bytes: &[u8]) {
    let whole = ProxyHeader::parse(bytes);
    let near = |end: usize| matches!(whole, Ok(Some(header)) if end.abs_diff(header.len) < 2);
    let most = bytes.len().min(MAX[0] + MAX[1]);
    for end in (0..most).filter(|end| *end < 2 * MAX[0] || end % 127 == 0 || near(*end)) {
        let part = ProxyHeader::parse(&bytes[..end]);
        match whole {
            Ok(Some(ProxyHeader { len, .. })) => {
                let expected = if end < len { Ok(None) } else { whole };
                assert_eq!(part, expected, "{end} bytes of a header of {len}");
            }
            Ok(None) => assert_eq!(part, Ok(None)),
            Err(NoProxyHeader) => assert!(!matches!(part, Ok(Some(_))), "{end} bytes are a header: {part:?}"),
        }
    }
    let version = usize::from(!bytes.starts_with(b"PROXY "));
    assert!(
        bytes.len() < MAX[version] || whole != Ok(None),
        "the reader waits for more than the largest header"
    );
    let Ok(Some(header)) = whole else { return };
    assert!(header.len <= MAX[version]);
    if version == 0 {
        let line = std::str::from_utf8(&bytes[..header.len]).expect("a header of version 1 is text");
        let words: Vec<_> = line.strip_suffix("\r\n").expect("a line").split(' ').collect();
        match header.source {
            ProxySource::Ip(address) => {
                let told: IpAddr = words[2].parse().expect("an address");
                assert_eq!(address, SocketAddr::new(told.to_canonical(), words[4].parse().expect("a port")));
                assert_eq!(words.len(), 6);
            }
            source => assert_eq!((source, words[1]), (ProxySource::Proxy, "UNKNOWN")),
        }
        assert!(!header.is_https);
    }
}

/// Checks that nothing that a client has sent changes what the trusted proxy behind it tells.
fn fields(choices: &mut Choices<'_>, wire: &[u8]) {
    const PEER: &str = "10.0.0.1:4711";
    let peer = Some(PEER.parse().expect("an address"));
    let read = choices.of(&[ForwardedField::XForwarded, ForwardedField::Forwarded]);
    let mut config = Config::default();
    config.forwarded_field = read;
    let names: [&'static str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];
    let mut made_up = HeaderMap::new();
    for line in wire.split(|byte| *byte == b'\n') {
        // The reader of heads takes no other values.
        if let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) {
            made_up.append(names[usize::from(choices.byte()) % 4], value);
        }
    }
    let told = |config: &Config, fields: &HeaderMap| {
        let client = Client::of(config, peer, fields);
        (client.address(), client.port(), client.scheme(), client.host().map(str::to_owned))
    };
    let direct = told(&config, &HeaderMap::new());
    assert_eq!(direct, (Some("10.0.0.1".parse().expect("an address")), Some(4711), "http", None));
    assert_eq!(told(&config, &made_up), direct, "no peer is trusted");

    config.forwarded_from =
        choices.of(&["10.0.0.0/8", "10.0.0.1", "10.0.0.1,192.0.2.0/25"]).parse().expect("networks");
    // The fields of the other kind change nothing.
    let is_read = |name: &str| (name == "forwarded") == (read == ForwardedField::Forwarded);
    let mut of_one_kind = made_up.clone();
    names.into_iter().filter(|name| !is_read(name)).for_each(|name| drop(of_one_kind.remove(name)));
    assert_eq!(told(&config, &made_up), told(&config, &of_one_kind));

    // The trusted proxy adds its elements: in separate lines, or at the end of the last lines.
    let own: &[(&'static str, &str)] = match read {
        ForwardedField::XForwarded => &[
            ("x-forwarded-for", "192.0.2.200:99"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "outer"),
        ],
        ForwardedField::Forwarded => &[("forwarded", "for=\"192.0.2.200:99\";proto=https;host=outer")],
    };
    let expected =
        (Some("192.0.2.200".parse().expect("an address")), Some(99), "https", Some("outer".to_owned()));
    let mut extended = made_up.clone();
    for (name, value) in own {
        extended.append(*name, HeaderValue::from_static(value));
    }
    assert_eq!(told(&config, &extended), expected);
    if read == ForwardedField::XForwarded {
        let mut joined = made_up.clone();
        for (name, value) in own {
            let lines = made_up.get_all(*name).iter().map(HeaderValue::as_bytes).chain([value.as_bytes()]);
            let line = lines.collect::<Vec<_>>().join(&b", "[..]);
            joined.insert(*name, HeaderValue::from_bytes(&line).expect("the parts are values"));
        }
        assert_eq!(told(&config, &joined), expected);
    }
}
