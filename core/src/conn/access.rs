//! The access log: one line for each response, and one for each request that was given up.
//!
//! An [`AccessLog`] belongs to a connection and makes its [`Record`]s. A record is complete once the last byte of its
//! response was handed to the operating system, or once the connection has ended. [`Line`] formats a record.
//!
//! A connection has no `AccessLog` unless [`Config::access_log`](crate::Config::access_log) is set.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};

use crate::conn::client::{Client, Origin};
use crate::conn::context::Peer;
use crate::proto::connection::{Connection, Event};
use crate::proto::encode;
use crate::proto::request::Request;
use crate::runtime::clock::Clock;

/// The facts about one request and its response.
#[derive(Debug)]
pub(crate) struct Record {
    from: From,
    /// The Unix time at which the head of the request began, in seconds.
    seconds: u64,
    /// `None` if the head was incomplete, malformed or too large, and for a connection that was refused.
    request: Option<RequestLine>,
    /// The status of the response. `None` if no byte of a response was sent.
    status: Option<StatusCode>,
    /// The number of bytes of the response body that were sent, without chunk sizes. For a chunked response that was
    /// cut, the framing of unsent chunks makes this a lower bound.
    bytes: u64,
    /// The time from the beginning of the head to the end of the response or of the connection.
    duration: Duration,
    /// Whether the response was sent to its end.
    is_whole: bool,
}

/// The client of a request.
#[derive(Clone, Copy, Debug)]
enum From {
    Address(IpAddr, Option<u16>),
    Unix,
    /// A trusted proxy hides the address.
    Hidden,
}

impl From {
    fn peer(peer: Peer) -> From {
        peer.map_or(From::Unix, |peer| From::Address(peer.ip(), Some(peer.port())))
    }

    fn client(client: Client<'_>, peer: Peer) -> From {
        match (client.address(), peer) {
            (Some(address), _) => From::Address(address, client.port()),
            (None, None) => From::Unix,
            (None, Some(_)) => From::Hidden,
        }
    }
}

/// The first line of a request.
#[derive(Debug)]
struct RequestLine {
    method: Method,
    target: Box<str>,
    version: Version,
}

impl Record {
    /// Creates the record of a connection that was refused when it was accepted, with `bytes` bytes of body.
    pub(crate) fn of_refusal(peer: Peer, status: StatusCode, bytes: u64, clock: &Clock) -> Record {
        Record {
            from: From::peer(peer),
            seconds: clock.unix_seconds(),
            request: None,
            status: Some(status),
            bytes,
            duration: Duration::ZERO,
            is_whole: true,
        }
    }

    /// Writes the line to the log, with the target `gearshift::access`.
    pub(crate) fn log(&self) {
        log::info!(target: "gearshift::access", "{}", Line(self));
    }
}

/// Shows a record as one line; [`Config::access_log`](crate::Config::access_log) documents the format.
struct Line<'a>(&'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { from, seconds, request, status, bytes, duration, is_whole } = self.0;
        match *from {
            From::Address(ip, Some(port)) => write!(f, "{}", SocketAddr::new(ip, port))?,
            From::Address(ip, None) => write!(f, "{ip}")?,
            From::Unix => f.write_str("unix")?,
            From::Hidden => f.write_char('-')?,
        }
        // `Sun, 06 Nov 1994 08:49:37 GMT`
        let date = encode::http_date(*seconds).to_string();
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        write!(f, " - - [{day}/{month}/{year}:{time} +0000] \"")?;
        match request {
            Some(RequestLine { method, target, version }) => {
                escape(f, method.as_str())?;
                f.write_char(' ')?;
                escape(f, target)?;
                write!(f, " {version:?}")?;
            }
            None => f.write_char('-')?,
        }
        f.write_str("\" ")?;
        match status {
            Some(status) => f.write_str(status.as_str())?,
            None => f.write_char('-')?,
        }
        write!(f, " {bytes} {:.6}", duration.as_secs_f64())?;
        match status.is_some() && !is_whole {
            true => f.write_str(" cut"),
            false => Ok(()),
        }
    }
}

/// Writes text of the peer. Quotes, backslashes, and everything but visible ASCII become `\xHH`, so that no peer can
/// end the quoted part or the line.
fn escape(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.bytes().try_for_each(|byte| match byte {
        b'"' | b'\\' => write!(f, "\\x{byte:02x}"),
        _ if byte.is_ascii_graphic() => f.write_char(byte.into()),
        _ => write!(f, "\\x{byte:02x}"),
    })
}

/// The access log of one connection. When it is dropped, it logs the requests that were given up.
#[derive(Debug)]
pub(crate) struct AccessLog {
    origin: Origin,
    clock: Clock,
    /// The number of bytes that the connection has handed to the operating system. Other positions count from the same
    /// start, which is the first byte of the connection.
    sent: u64,
    /// The beginning of a head that is incomplete.
    head: Option<Start>,
    /// The requests without a line, in their order.
    open: VecDeque<Open>,
}

/// The time at which a request began.
#[derive(Clone, Copy, Debug)]
struct Start {
    seconds: u64,
    at: Instant,
}

/// A request without a line.
#[derive(Debug)]
struct Open {
    from: From,
    start: Start,
    request: Option<RequestLine>,
    /// The response, once its head was queued.
    response: Option<Queued>,
}

impl Start {
    fn now(clock: &Clock) -> Start {
        Start { seconds: clock.unix_seconds(), at: clock.now() }
    }
}

impl Open {
    /// `request` is `None` if there is no head of a valid form.
    fn new(origin: &Origin, start: Start, request: Option<&Request>) -> Open {
        let from = match request {
            Some(request) if origin.is_trusted() => {
                From::client(origin.client(request.headers(), None), origin.peer)
            }
            _ => From::peer(origin.peer),
        };
        let request = request.map(|request| RequestLine {
            method: request.method().clone(),
            target: request.target().into(),
            version: request.version(),
        });
        Open { from, start, request, response: None }
    }
}

/// The record of a request on a stream of HTTP/2, whose response does not wait for others.
#[cfg(feature = "http2")]
pub(crate) struct StreamRecord {
    open: Open,
    clock: Clock,
}

#[cfg(feature = "http2")]
impl StreamRecord {
    /// Begins a record. `request` is `None` if there is no head of a valid form.
    pub(crate) fn begin(origin: &Origin, clock: &Clock, request: Option<&Request>) -> StreamRecord {
        StreamRecord { open: Open::new(origin, Start::now(clock), request), clock: clock.clone() }
    }

    /// Writes the line. `status` is `None` if no byte of a response was sent, and `bytes` is the number of bytes of its
    /// body.
    pub(crate) fn log(self, status: Option<StatusCode>, bytes: u64, is_whole: bool) {
        let Open { from, start, request, .. } = self.open;
        let duration = self.clock.now().saturating_duration_since(start.at);
        Record { from, seconds: start.seconds, request, status, bytes, duration, is_whole }.log();
    }
}

/// A response, or a part of one, that was queued.
#[derive(Debug)]
struct Queued {
    status: StatusCode,
    /// The position of its first byte.
    begin: u64,
    /// The position behind its last byte so far.
    end: u64,
    /// The number of body bytes so far, without chunk sizes.
    body: u64,
    is_whole: bool,
}

impl AccessLog {
    /// Creates the log of a connection that was accepted now.
    pub(crate) fn new(origin: &Origin, clock: &Clock) -> AccessLog {
        AccessLog { origin: origin.clone(), clock: clock.clone(), sent: 0, head: None, open: VecDeque::new() }
    }

    /// Replaces the origin, before the first request.
    pub(crate) fn set_origin(&mut self, origin: &Origin) {
        self.origin = origin.clone();
    }

    /// Records an event of the connection. A request begins when bytes of its head have arrived.
    #[cold]
    pub(crate) fn event(&mut self, event: &Event, connection: &Connection) {
        match event {
            Event::Request(request) => self.begin(Some(request)),
            Event::NeedBytes if connection.is_head_begun() && self.head.is_none() => {
                self.head = Some(self.now());
            }
            _ => {}
        }
    }

    /// Begins a record. `request` is `None` if there is no head of a valid form.
    pub(crate) fn begin(&mut self, request: Option<&Request>) {
        let start = self.head.take().unwrap_or_else(|| self.now());
        self.open.push_back(Open::new(&self.origin, start, request));
    }

    fn now(&self) -> Start {
        Start::now(&self.clock)
    }

    /// Records that the head of a response was queued. `before` is the length of the write queue before that.
    pub(crate) fn responds(&mut self, status: StatusCode, before: usize) {
        let begin = self.sent + before as u64;
        if let Some(open) = self.open.back_mut() {
            open.response = Some(Queued { status, begin, end: begin, body: 0, is_whole: false });
        }
    }

    /// Records that `bytes` bytes of a response body were queued. `len` is the length of the write queue after that.
    pub(crate) fn queued(&mut self, bytes: u64, len: usize, is_whole: bool) {
        if let Some(response) = self.open.back_mut().and_then(|open| open.response.as_mut()) {
            response.body += bytes;
            response.end = self.sent + len as u64;
            response.is_whole = is_whole;
        }
    }

    /// Records that bytes were handed to the operating system, and logs the responses that end with them.
    #[cold]
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
        let is_sent = |response: &Queued| response.is_whole && response.end <= self.sent;
        while self.open.front().and_then(|open| open.response.as_ref()).is_some_and(is_sent)
            && let Some(open) = self.open.pop_front()
        {
            self.record(open).log();
        }
    }

    /// The record of a request whose response was sent, or never will be.
    fn record(&self, Open { from, start, request, response }: Open) -> Record {
        let response = response.filter(|response| response.begin < self.sent);
        let (status, bytes, is_whole) = response.map_or((None, 0, false), |response| {
            let unsent = response.end.saturating_sub(self.sent);
            let bytes = response.body.saturating_sub(unsent);
            (Some(response.status), bytes, response.is_whole && unsent == 0)
        });
        let duration = self.clock.now().saturating_duration_since(start.at);
        Record { from, seconds: start.seconds, request, status, bytes, duration, is_whole }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        while let Some(open) = self.open.pop_front() {
            self.record(open).log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line() {
        let line = |target: &str| {
            Some(RequestLine { method: Method::GET, target: target.into(), version: Version::HTTP_11 })
        };
        let (peer, unix) = (From::peer("[::1]:80".parse().ok()), From::peer(None));
        let record = |from, request, status, bytes, is_whole| Record {
            from,
            seconds: 784_111_777,
            request,
            status,
            bytes,
            duration: Duration::from_micros(1_500_000),
            is_whole,
        };
        let ok = Some(StatusCode::OK);
        for (record, expected) in [
            (
                record(peer, line("/a?b=c"), ok, 13, true),
                "[::1]:80 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b=c HTTP/1.1\" 200 13 1.500000",
            ),
            (
                record(unix, line("/\"\\\n\u{e9} "), ok, 5, false),
                r#"unix - - [06/Nov/1994:08:49:37 +0000] "GET /\x22\x5c\x0a\xc3\xa9\x20 HTTP/1.1" 200 5 1.500000 cut"#,
            ),
            (
                record(unix, None, Some(StatusCode::BAD_REQUEST), 0, true),
                "unix - - [06/Nov/1994:08:49:37 +0000] \"-\" 400 0 1.500000",
            ),
            (
                record(unix, line("/"), None, 0, false),
                "unix - - [06/Nov/1994:08:49:37 +0000] \"GET / HTTP/1.1\" - 0 1.500000",
            ),
            (
                record(From::Address([192, 0, 2, 1].into(), None), None, None, 0, false),
                "192.0.2.1 - - [06/Nov/1994:08:49:37 +0000] \"-\" - 0 1.500000",
            ),
            (
                record(From::Hidden, None, None, 0, false),
                "- - - [06/Nov/1994:08:49:37 +0000] \"-\" - 0 1.500000",
            ),
        ] {
            assert_eq!(Line(&record).to_string(), expected);
        }
    }
}
