//! An incremental reader of responses to one request at a time. It discards bodies.

/// Longest head, and longest line in a chunked body, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Highest number of header fields.
const MAX_FIELDS: usize = 64;

/// Reads responses one after another.
#[derive(Debug, Default)]
pub struct ResponseReader {
    state: State,
    /// The incomplete line or head.
    buffer: Vec<u8>,
    status: u16,
    close: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Body {
        left: u64,
    },
    ChunkSize,
    /// The rest of a chunk, including the line end after it.
    Chunk {
        left: u64,
    },
    Trailers,
    ToEnd,
}

/// A complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Whether the connection cannot be used again.
    pub close: bool,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The bytes are not a valid response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl ResponseReader {
    /// Takes received bytes and returns the response that they complete, if any. No bytes may follow it.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Option<Response>, Malformed> {
        while !bytes.is_empty() {
            bytes = match self.state {
                State::Head => self.head(bytes)?,
                State::Body { left } => {
                    let (left, rest) = skip(left, bytes);
                    self.state = State::Body { left };
                    rest
                }
                State::Chunk { left } => {
                    let (left, rest) = skip(left, bytes);
                    self.state = if left == 0 { State::ChunkSize } else { State::Chunk { left } };
                    rest
                }
                State::ChunkSize | State::Trailers => self.line(bytes)?,
                State::ToEnd => &[],
            };
            if matches!(self.state, State::Body { left: 0 }) {
                return if bytes.is_empty() { Ok(Some(self.complete())) } else { Err(Malformed) };
            }
        }
        Ok(None)
    }

    /// The end of the stream. Returns the response that ends with it, if any.
    pub fn end(&mut self) -> Option<Response> {
        matches!(self.state, State::ToEnd).then(|| self.complete())
    }

    fn complete(&mut self) -> Response {
        self.state = State::Head;
        self.buffer.clear();
        Response { status: self.status, close: self.close }
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let before = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(&self.buffer) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_HEAD => return Ok(&[]),
            _ => return Err(Malformed),
        };
        self.status = head.code.ok_or(Malformed)?;
        self.close = head.version == Some(0) || has(head.headers, "connection", "close");
        self.state = match self.status {
            100..200 => State::Head,
            204 | 304 => State::Body { left: 0 },
            _ if has(head.headers, "transfer-encoding", "chunked") => State::ChunkSize,
            _ => match length_of(head.headers)? {
                Some(left) => State::Body { left },
                None => State::ToEnd,
            },
        };
        self.close |= matches!(self.state, State::ToEnd);
        self.buffer.clear();
        Ok(&bytes[length - before..])
    }

    /// Takes a chunk size or a trailer field.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.buffer.extend_from_slice(bytes);
            return if self.buffer.len() <= MAX_HEAD { Ok(&[]) } else { Err(Malformed) };
        };
        self.buffer.extend_from_slice(&bytes[..=end]);
        let line = std::str::from_utf8(&self.buffer).map_err(|_| Malformed)?.trim_end();
        self.state = match self.state {
            State::Trailers if line.is_empty() => State::Body { left: 0 },
            State::Trailers => State::Trailers,
            _ => {
                let size = line.split(';').next().unwrap_or_default().trim_end();
                match u64::from_str_radix(size, 16).map_err(|_| Malformed)? {
                    0 => State::Trailers,
                    size => State::Chunk { left: size.checked_add(2).ok_or(Malformed)? },
                }
            }
        };
        self.buffer.clear();
        Ok(&bytes[end + 1..])
    }
}

/// Skips up to `left` bytes. Returns the rest of both.
fn skip(left: u64, bytes: &[u8]) -> (u64, &[u8]) {
    let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
    (left - here as u64, &bytes[here..])
}

fn has(fields: &[httparse::Header<'_>], name: &str, token: &str) -> bool {
    let values = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    values
        .flat_map(|field| field.value.split(|byte| *byte == b','))
        .any(|member| member.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

fn length_of(fields: &[httparse::Header<'_>]) -> Result<Option<u64>, Malformed> {
    let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
    let Some(field) = field else { return Ok(None) };
    std::str::from_utf8(field.value).ok().and_then(|text| text.parse().ok()).map(Some).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a response at once and byte by byte, with the same result.
    fn check(bytes: &str, expected: Result<Option<(u16, bool)>, Malformed>) {
        let expected = expected.map(|response| response.map(|(status, close)| Response { status, close }));
        assert_eq!(ResponseReader::default().feed(bytes.as_bytes()), expected, "{bytes:?}");
        let mut reader = ResponseReader::default();
        let last = bytes.bytes().map(|byte| reader.feed(&[byte])).find(|outcome| *outcome != Ok(None));
        assert_eq!(last.unwrap_or(Ok(None)), expected, "{bytes:?}, byte by byte");
    }

    #[test]
    fn reads_every_framing() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(Some((200, false))));
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", Ok(None));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok(Some((204, false))));
        check("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Ok(Some((202, false))));
        check("HTTP/1.1 503 No\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", Ok(Some((503, true))));
        check("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(Some((200, true))));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(
            &format!("{chunked}3;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"),
            Ok(Some((200, false))),
        );
        check(&format!("{chunked}3\r\nabc\r\n0\r\nA: b\r\n\r\n"), Ok(Some((200, false))));
        check(&format!("{chunked}3\r\nabc\r\n0\r\nA: b\r\n"), Ok(None));
    }

    #[test]
    fn interim_responses_are_skipped() {
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            Ok(Some((200, false))),
        );
    }

    #[test]
    fn invalid_responses_are_refused() {
        check("SSH-2.0-x\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(Malformed));
        let more = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(ResponseReader::default().feed(more), Err(Malformed));
    }

    #[test]
    fn a_response_without_length_ends_with_its_connection() {
        let mut reader = ResponseReader::default();
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nwhatever"), Ok(None));
        assert_eq!(reader.end(), Some(Response { status: 200, close: true }));
        assert_eq!(reader.end(), None);
    }

    #[test]
    fn reads_one_after_another() {
        let mut reader = ResponseReader::default();
        for _ in 0..3 {
            let response = reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
            assert_eq!(response, Ok(Some(Response { status: 200, close: false })));
        }
    }
}
