//! Reads responses as a client does, and compares them with the responses that the connection was asked to send.

/// A response that the connection was asked to send.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) status: u16,
    /// The part of its body that the peer receives.
    pub(crate) body: Vec<u8>,
    /// The lines of its trailers, which the peer receives if it is chunked.
    pub(crate) trailers: &'static str,
    /// Whether the response has no body, whatever its fields say, because it answers HEAD or changes the protocol.
    /// `None`: the response may answer HEAD, and is the last.
    pub(crate) is_bodiless: Option<bool>,
    /// Whether the response says that it is the last. `None`: it is not the final response to its request.
    pub(crate) closes: Option<bool>,
    /// Whether the connection is cut before its end.
    pub(crate) is_cut: bool,
}

/// Checks that `output` consists of these responses, and that nothing follows a response that says `close`.
pub(crate) fn check(mut output: &[u8], expected: &[Expected]) {
    let mut said_close = false;
    for (number, expected) in expected.iter().enumerate() {
        assert!(!said_close, "a response follows one that said it was the last");
        let end = find(output, b"\r\n\r\n").expect("a head has an end");
        let head = std::str::from_utf8(&output[..end]).expect("heads are sent in ASCII");
        output = &output[end + 4..];
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        assert_eq!(status, Some(expected.status), "{head:?} of response {number}");
        let fields: Vec<_> =
            lines.map(|line| line.split_once(": ").expect("a field line has a name")).collect();
        let one = |name: &str| {
            let mut values = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let value = values.next().map(|(_, value)| *value);
            assert!(values.next().is_none(), "{name} comes twice in {head:?}");
            value
        };
        let options: Vec<_> =
            one("connection").map(|options| options.split(", ").collect()).unwrap_or_default();
        said_close = options.contains(&"close");
        let upgrades = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        assert_eq!(options.contains(&"upgrade"), upgrades, "{head:?} of response {number}");
        assert!(expected.closes.is_none_or(|closes| closes == said_close), "{head:?} of response {number}");
        let length: Option<usize> = one("content-length").map(|digits| digits.parse().expect("a number"));
        let coding = one("transfer-encoding");
        assert!(length.is_none() || coding.is_none(), "two lengths in {head:?}");
        let has_none = matches!(expected.status, 100..200 | 204 | 304);
        assert!(!matches!(expected.status, 100..200 | 204) || length.is_none() && coding.is_none());
        assert!(expected.status != 205 || length == Some(0), "{head:?} has content");
        let is_bodiless = expected.is_bodiless.unwrap_or(output.is_empty());
        let body = if is_bodiless || has_none {
            Vec::new()
        } else if let Some(length) = length {
            let (body, rest) = output.split_at(length.min(output.len()));
            output = rest;
            body.to_vec()
        } else if coding.is_some() {
            unchunk(&mut output, expected.trailers)
        } else {
            assert!(said_close, "there is no way to tell where {head:?} ends");
            std::mem::take(&mut output).to_vec()
        };
        let seen = if is_bodiless { &[][..] } else { &expected.body };
        assert!(body == seen, "{body:?} is the body of {head:?}, not {seen:?}");
        assert!(!expected.is_cut || output.is_empty(), "something follows a response that was cut");
    }
    assert!(output.is_empty(), "{:?} was sent after the last response", String::from_utf8_lossy(output));
}

/// Takes a chunked body, or the beginning of one, from `output`. `trailers` have to follow its last chunk.
fn unchunk(output: &mut &[u8], trailers: &str) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(output, b"\r\n") {
        let digits = std::str::from_utf8(&output[..end]).expect("digits are ASCII");
        let size = usize::from_str_radix(digits, 16).expect("a size is hexadecimal");
        let mut chunk = &output[end + 2..];
        if size == 0 {
            chunk = chunk.strip_prefix(trailers.as_bytes()).expect("the trailers");
        }
        assert!(chunk[size..].starts_with(b"\r\n"), "a chunk has no end");
        body.extend_from_slice(&chunk[..size]);
        *output = &chunk[size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
