//! A blocking client that has a deadline on every operation and checks every byte of the framing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::PATIENCE;

/// The placeholder that [`masked`] puts in place of every date. It has the length of a date (RFC 9110, 5.6.7).
pub const DATE: &str = "Day, 00 Mon 0000 00:00:00 GMT";

/// A connection to a server under test.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    /// The socket, whose timeouts are [`PATIENCE`] unless the test changes them.
    pub socket: S,
    /// Received bytes that no answer has used yet.
    received: Vec<u8>,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The fields, in their order on the wire, with names as they were written.
    pub fields: Vec<(String, String)>,
    /// The content, without chunked framing.
    pub body: Vec<u8>,
    /// The trailer fields behind a chunked body, in their order on the wire, with names as they were written.
    pub trailers: Vec<(String, String)>,
    /// All bytes of the response, with [`DATE`] as its date.
    pub raw: Vec<u8>,
}

impl Client {
    /// Connects to a server. Each read and each write may take [`PATIENCE`].
    ///
    /// # Panics
    /// If nothing listens at the address.
    pub fn connect(to: SocketAddr) -> Client {
        Client::connect_with(to, PATIENCE)
    }

    /// Connects to a server. Each read and each write may take `timeout`.
    ///
    /// # Panics
    /// As [`Client::connect`].
    pub fn connect_with(to: SocketAddr, timeout: Duration) -> Client {
        let socket = TcpStream::connect_timeout(&to, timeout).expect("the server listens");
        socket.set_read_timeout(Some(timeout)).expect("a socket has a read timeout");
        socket.set_write_timeout(Some(timeout)).expect("a socket has a write timeout");
        socket.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
        Client::new(socket)
    }

    /// Whether the system has put all sent bytes into the socket of the server. On a busy machine that takes a while,
    /// also on the loopback interface.
    ///
    /// # Panics
    /// If the connection is not one of TCP over IPv4.
    pub fn is_delivered(&self) -> bool {
        let local = self.socket.local_addr().expect("a connected socket").port();
        let connections = std::fs::read_to_string("/proc/net/tcp").expect("the system lists its connections");
        let queue = connections.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let port = fields.get(1)?.rsplit_once(':')?.1;
            // The bytes that the peer has not acknowledged, then those that this side has not read.
            let (sending, _) = fields.get(4)?.split_once(':')?;
            (u16::from_str_radix(port, 16) == Ok(local)).then(|| sending.bytes().all(|digit| digit == b'0'))
        });
        queue.expect("the connection is in the list")
    }

    /// Closes the sending side of the connection.
    ///
    /// # Panics
    /// If the connection is closed already.
    pub fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl<S: Read + Write> Client<S> {
    /// A client on a connected socket, whose timeouts it leaves as they are.
    pub fn new(socket: S) -> Client<S> {
        Client { socket, received: Vec::new() }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If the server does not read them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a GET request on a connection that stays open.
    pub fn send_get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    /// Sends a GET request as [`Client::send_get`] does, and reads the answer.
    ///
    /// # Panics
    /// As [`Client::answer`].
    pub fn get(&mut self, path: &str) -> Answer {
        self.send_get(path);
        self.answer()
    }

    /// Reads the answer to a request whose method is not HEAD.
    ///
    /// # Panics
    /// If anything but a complete answer is received.
    pub fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap_or_else(|why| panic!("no complete answer: {why}"))
    }

    /// Reads the answer as [`Client::answer`] does. Interim answers before it, which ask whether the client is still
    /// there, are skipped.
    ///
    /// # Panics
    /// As [`Client::answer`].
    pub fn final_answer(&mut self) -> Answer {
        let mut answer = self.answer();
        while answer.status == 100 {
            answer = self.answer();
        }
        answer
    }

    /// Reads the next answer. An answer to HEAD has no body.
    ///
    /// # Errors
    /// A description of the bytes that were received instead.
    pub fn try_answer(&mut self, to_head: bool) -> Result<Answer, String> {
        let mut scan = 0;
        let end = loop {
            match self.received[scan..].windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) => break scan + at + 4,
                None => scan = self.received.len().saturating_sub(3),
            }
            if self.fill().map_err(|error| self.describe(&error.to_string()))? == 0 {
                return Err(self.describe("the connection ended"));
            }
        };
        let head = std::str::from_utf8(&self.received[..end - 4]).map_err(|error| error.to_string())?;
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| format!("no status line: {line:?}"))?;
        let fields: Option<Vec<_>> = lines.map(field).collect();
        let fields = fields.ok_or_else(|| format!("no field lines: {head:?}"))?;
        let mut answer = Answer { status, fields, body: Vec::new(), trailers: Vec::new(), raw: Vec::new() };
        let bodiless = to_head || status < 200 || status == 204 || status == 304;
        let mut len = end;
        if bodiless {
        } else if answer.field("Transfer-Encoding").is_some() {
            len = self.chunks(end, &mut answer)?;
        } else if let Some(length) = answer.field("Content-Length") {
            len += length.parse::<usize>().map_err(|error| error.to_string())?;
            self.fill_to(len)?;
            answer.body.extend_from_slice(&self.received[end..len]);
        } else {
            while self.fill().map_err(|error| self.describe(&error.to_string()))? > 0 {}
            len = self.received.len();
            answer.body.extend_from_slice(&self.received[end..]);
        }
        answer.raw = masked(&self.received[..len]);
        self.received.drain(..len);
        Ok(answer)
    }

    /// Reads the head of an answer whose body is a stream, which [`Client::chunk`] reads.
    ///
    /// # Panics
    /// If anything but a head is received.
    pub fn expect_head(&mut self) -> Answer {
        self.try_answer(true).unwrap_or_else(|why| panic!("no head of an answer: {why}"))
    }

    /// Reads one chunk of a chunked body as text. The text is empty at the end of the body.
    ///
    /// # Panics
    /// If anything but a chunk of text is received.
    pub fn chunk(&mut self) -> String {
        let mut line = String::new();
        while !line.ends_with("\r\n") {
            line.push(self.exactly(1).expect("a chunk")[0].into());
        }
        let len = usize::from_str_radix(line.trim_end(), 16).expect("the size of a chunk");
        let mut data = self.exactly(len + 2).expect("the data of a chunk");
        assert_eq!(data.split_off(len), b"\r\n");
        String::from_utf8(data).expect("text")
    }

    /// Reads `len` bytes.
    ///
    /// # Errors
    /// A description of the bytes that were received instead.
    pub fn exactly(&mut self, len: usize) -> Result<Vec<u8>, String> {
        self.fill_to(len)?;
        Ok(self.received.drain(..len).collect())
    }

    /// Takes the bytes that were read from the socket and that no answer has used.
    pub fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Waits for the server to close the connection, in order and without sending another byte.
    ///
    /// # Panics
    /// If the server sends a byte, resets the connection, or leaves it open.
    pub fn expect_end(&mut self) {
        self.try_end().unwrap_or_else(|why| panic!("no clean end: {why}"));
    }

    /// Waits for the server to close the connection, in order and without sending another byte.
    ///
    /// # Errors
    /// A description of what happened instead, which may be a reset.
    pub fn try_end(&mut self) -> Result<(), String> {
        match self.fill() {
            _ if !self.received.is_empty() => Err(self.describe("not the end")),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads all bytes until the connection ends, in order or by a reset.
    ///
    /// # Panics
    /// If the connection does not end.
    pub fn rest(&mut self) -> Vec<u8> {
        loop {
            match self.fill() {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_timeout(&error) => panic!("the connection does not end"),
                Err(_) => break,
            }
        }
        std::mem::take(&mut self.received)
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut room = [0; 16 * 1024];
        let n = self.socket.read(&mut room)?;
        self.received.extend_from_slice(&room[..n]);
        Ok(n)
    }

    fn fill_to(&mut self, len: usize) -> Result<(), String> {
        while self.received.len() < len {
            if self.fill().map_err(|error| self.describe(&error.to_string()))? == 0 {
                return Err(self.describe("the connection ended"));
            }
        }
        Ok(())
    }

    /// Reads a chunked body that begins at `at` in the received bytes into `answer`, and returns where it ends. The
    /// server sends no chunk extensions, so they are errors.
    fn chunks(&mut self, mut at: usize, answer: &mut Answer) -> Result<usize, String> {
        loop {
            let (digits, data) = self.line(at)?;
            let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
            if size == 0 {
                return self.trailers(data, &mut answer.trailers);
            }
            self.fill_to(data + size + 2)?;
            answer.body.extend_from_slice(&self.received[data..data + size]);
            at = data + size + 2;
            if &self.received[data + size..at] != b"\r\n" {
                return Err(format!(
                    "a chunk of {size} is followed by {:?}",
                    &self.received[data + size..at]
                ));
            }
        }
    }

    /// Reads a trailer section that begins at `at` in the received bytes, and returns where it ends.
    fn trailers(&mut self, mut at: usize, trailers: &mut Vec<(String, String)>) -> Result<usize, String> {
        loop {
            let (line, end) = self.line(at)?;
            if line.is_empty() {
                return Ok(end);
            }
            trailers.push(field(&line).ok_or_else(|| format!("trailer line {line:?}"))?);
            at = end;
        }
    }

    /// Reads a line that begins at `at` in the received bytes. Returns it without its end, and where the next one
    /// begins.
    fn line(&mut self, at: usize) -> Result<(String, usize), String> {
        loop {
            match self.received[at..].windows(2).position(|bytes| bytes == b"\r\n") {
                Some(len) => {
                    let line = String::from_utf8_lossy(&self.received[at..at + len]).into_owned();
                    return Ok((line, at + len + 2));
                }
                None => self.fill_to(self.received.len() + 1)?,
            }
        }
    }

    fn describe(&self, why: &str) -> String {
        let shown = &self.received[..self.received.len().min(600)];
        format!("{why}, after {:?}", String::from_utf8_lossy(shown))
    }
}

/// The name and the value of a field line.
fn field(line: &str) -> Option<(String, String)> {
    line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()))
}

impl Answer {
    /// The value of the first field with this name, compared without regard to case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields_called(name).next()
    }

    /// The values of all fields with this name, in their order.
    pub fn fields_called(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The status and the body, for one assertion on both.
    pub fn said(&self) -> (u16, String) {
        (self.status, self.text())
    }

    /// Whether the response announces that the server closes the connection.
    pub fn closes(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

/// The same bytes with [`DATE`] in place of each date, so that two transcripts can be compared.
pub fn masked(bytes: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\r\nDate: ";
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(NAME.len() + DATE.len()) {
        let value = at + NAME.len();
        if bytes[at..].starts_with(NAME) && bytes[value..value + DATE.len()].ends_with(b" GMT") {
            bytes[value..value + DATE.len()].copy_from_slice(DATE.as_bytes());
        }
    }
    bytes
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
