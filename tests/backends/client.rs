//! The other side of the wire: a client that blocks, with a deadline on everything, and believes nothing.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long anything may take that should happen. Nothing that these tests wait for takes so long, and no timeout
/// of a server under test is as short unless the test is about it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What every date is taken for: it is as long as any (RFC 9110, 5.6.7).
pub(crate) const DATE: &str = "Day, 00 Mon 0000 00:00:00 GMT";

/// A connection to a server under test.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: S,
    /// What was received and not looked at.
    received: Vec<u8>,
}

/// A response as it came.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// In order, as they were written.
    pub(crate) fields: Vec<(String, String)>,
    /// Without its chunks.
    pub(crate) body: Vec<u8>,
    /// All of it, with [`DATE`] as its date.
    pub(crate) raw: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Client {
        let socket = TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        socket.set_write_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        socket.set_nodelay(true).expect("TCP can do without delay");
        Client::new(socket)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&self) {
        self.socket.shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn new(socket: S) -> Client<S> {
        Client { socket, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a GET request on a connection that stays open.
    pub(crate) fn send_get(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send_get(path);
        self.answer()
    }

    /// Reads the next answer, to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(false).unwrap_or_else(|why| panic!("no whole answer: {why}"))
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// What came instead.
    pub(crate) fn try_answer(&mut self, to_head: bool) -> Result<Answer, String> {
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
        let fields: Option<Vec<_>> = lines
            .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())))
            .collect();
        let fields = fields.ok_or_else(|| format!("no field lines: {head:?}"))?;
        let mut answer = Answer { status, fields, body: Vec::new(), raw: Vec::new() };
        let bodiless = to_head || status < 200 || status == 204 || status == 304;
        let mut len = end;
        if bodiless {
        } else if answer.field("Transfer-Encoding").is_some() {
            len = self.chunks(end, &mut answer.body)?;
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

    /// Reads so many bytes.
    ///
    /// # Errors
    /// What came instead.
    pub(crate) fn exactly(&mut self, len: usize) -> Result<Vec<u8>, String> {
        self.fill_to(len)?;
        Ok(self.received.drain(..len).collect())
    }

    /// Waits for the end of the connection, before which nothing may come.
    pub(crate) fn expect_end(&mut self) {
        self.try_end().unwrap_or_else(|why| panic!("no clean end: {why}"));
    }

    /// Waits for the end of the connection, before which nothing may come.
    ///
    /// # Errors
    /// What came instead; a reset is no end.
    pub(crate) fn try_end(&mut self) -> Result<(), String> {
        match self.fill() {
            _ if !self.received.is_empty() => Err(self.describe("not the end")),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Reads all that comes until the connection ends, cleanly or not.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
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

    /// Reads a chunked body that begins at `at`, and gives where it ends. What the server sends is what it says:
    /// no extensions, no trailers.
    fn chunks(&mut self, mut at: usize, body: &mut Vec<u8>) -> Result<usize, String> {
        loop {
            let line = loop {
                match self.received[at..].windows(2).position(|bytes| bytes == b"\r\n") {
                    Some(len) => break at..at + len,
                    None => self.fill_to(self.received.len() + 1)?,
                }
            };
            let digits = String::from_utf8_lossy(&self.received[line.clone()]).into_owned();
            let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
            let data = line.end + 2;
            self.fill_to(data + size + 2)?;
            body.extend_from_slice(&self.received[data..data + size]);
            at = data + size + 2;
            if &self.received[data + size..at] != b"\r\n" {
                return Err(format!(
                    "a chunk of {size} is followed by {:?}",
                    &self.received[data + size..at]
                ));
            }
            if size == 0 {
                return Ok(at);
            }
        }
    }

    fn describe(&self, why: &str) -> String {
        let shown = &self.received[..self.received.len().min(600)];
        format!("{why}, after {:?}", String::from_utf8_lossy(shown))
    }
}

impl Answer {
    /// The first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields_called(name).next()
    }

    pub(crate) fn fields_called(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its status and its body, for assertions.
    pub(crate) fn said(&self) -> (u16, String) {
        (self.status, self.text())
    }

    pub(crate) fn closes(&self) -> bool {
        self.field("Connection") == Some("close")
    }
}

/// The same bytes with [`DATE`] for each date.
pub(crate) fn masked(bytes: &[u8]) -> Vec<u8> {
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

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
