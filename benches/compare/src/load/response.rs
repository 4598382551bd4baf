//! A reader of responses, for one request at a time, that takes them as they come. It keeps no body.

/// The longest head that is read.
const MOST_HEAD: usize = 64 << 10;
/// The most header fields.
const MOST_FIELDS: usize = 64;

/// Reads one response after another.
#[derive(Debug, Default)]
pub struct Reader {
    state: State,
    /// The line or the head that is not complete yet.
    held: Vec<u8>,
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
    /// With the line end behind it.
    Chunk {
        left: u64,
    },
    Trailers,
    ToEnd,
}

/// A response that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the connection is of no use any more.
    pub close: bool,
}

impl Answer {
    /// Whether it is what was asked for.
    pub fn is_success(self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Reader {
    /// Takes what was received; gives the response that it completes, if any. Nothing may follow that.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<Option<Answer>, Malformed> {
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

    /// The peer is done: gives the response that had no other end, if there is one.
    pub fn end(&mut self) -> Option<Answer> {
        matches!(self.state, State::ToEnd).then(|| self.complete())
    }

    fn complete(&mut self) -> Answer {
        self.state = State::Head;
        self.held.clear();
        Answer { status: self.status, close: self.close }
    }

    fn head<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let held = self.held.len();
        self.held.extend_from_slice(bytes);
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(&self.held) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.held.len() <= MOST_HEAD => return Ok(&[]),
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
        self.held.clear();
        Ok(&bytes[length - held..])
    }

    /// The size of a chunk, or a trailer.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.held.extend_from_slice(bytes);
            return if self.held.len() <= MOST_HEAD { Ok(&[]) } else { Err(Malformed) };
        };
        self.held.extend_from_slice(&bytes[..=end]);
        let line = std::str::from_utf8(&self.held).map_err(|_| Malformed)?.trim_end();
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
        self.held.clear();
        Ok(&bytes[end + 1..])
    }
}

/// Skips what is left of something; gives what is then left of it, and of the bytes.
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

    /// Reads a response whole, and byte by byte; both are to give the same.
    fn check(bytes: &str, expected: Result<Option<(u16, bool)>, Malformed>) {
        let expected = expected.map(|answer| answer.map(|(status, close)| Answer { status, close }));
        assert_eq!(Reader::default().take(bytes.as_bytes()), expected, "{bytes:?}");
        let mut reader = Reader::default();
        let last = bytes.bytes().map(|byte| reader.take(&[byte])).find(|outcome| *outcome != Ok(None));
        assert_eq!(last.unwrap_or(Ok(None)), expected, "{bytes:?}, byte by byte");
    }

    #[test]
    fn reads_whatever_its_end_is() {
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
    fn interim_responses_are_none() {
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
            Ok(Some((200, false))),
        );
    }

    #[test]
    fn refuses_what_is_no_response() {
        check("SSH-2.0-x\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(Malformed));
        let more = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab";
        assert_eq!(Reader::default().take(more), Err(Malformed));
    }

    #[test]
    fn a_response_without_length_ends_with_its_connection() {
        let mut reader = Reader::default();
        assert_eq!(reader.take(b"HTTP/1.1 200 OK\r\n\r\nwhatever"), Ok(None));
        assert_eq!(reader.end(), Some(Answer { status: 200, close: true }));
        assert_eq!(reader.end(), None);
    }

    #[test]
    fn reads_one_after_another() {
        let mut reader = Reader::default();
        for _ in 0..3 {
            let answer = reader.take(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
            assert_eq!(answer, Ok(Some(Answer { status: 200, close: false })));
        }
    }
}
