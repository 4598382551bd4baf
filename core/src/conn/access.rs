//! The records of requests, for the access log and the histograms: one for each response, and one for each request that
//! was given up.
//!
//! An [`AccessLog`] belongs to a connection and makes its [`Record`]s. A record is complete once the last byte of its
//! response was handed to the operating system, or once the connection has ended. [`Line`] formats a record.
//!
//! A record is also counted in the histogram of its route.
//!
//! A connection has no `AccessLog` unless [`Config::access_log`](crate::Config::access_log) or
//! [`Config::route_histograms`](crate::Config::route_histograms) is set. Without these settings, a request costs
//! nothing here.

mod line;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode, Version};

use crate::conn::access::line::Line;
use crate::conn::client::{Client, Origin};
use crate::conn::context::Peer;
use crate::conn::service::Service;
use crate::proto::connection::{Connection, Event};
use crate::proto::request::Request;
use crate::runtime::access_log::{AccessFormat, AccessSink};
use crate::runtime::clock::Clock;
use crate::runtime::config::Config;
use crate::runtime::contained::contain;
use crate::runtime::handle::Runtime;
use crate::runtime::stall::RouteName;

/// The target of the access log where it is a part of the log.
const TARGET: &str = "gearshift::access";

thread_local! {
    /// The line that is being formatted.
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Where the lines go, and their format.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    format: AccessFormat,
    sink: Option<Arc<dyn AccessSink>>,
}

impl Destination {
    /// The destination in these settings; `None` without an access log.
    pub(crate) fn of(config: &Config) -> Option<Destination> {
        let of = || Destination { format: config.access_log_format, sink: config.access_log_to.clone() };
        config.access_log.then(of)
    }

    /// Logs a record.
    pub(crate) fn log(&self, record: &Record) {
        let line = Line(record, self.format);
        let Some(sink) = &self.sink else { return log::info!(target: TARGET, "{line}") };
        // A thread that ends has no buffer any more.
        let mut buffer = LINE.try_with(Cell::take).unwrap_or_default();
        buffer.clear();
        // A write to memory does not fail.
        let _ = writeln!(buffer, "{line}");
        let _ = contain("the sink of the access log", || sink.write(&buffer));
        let _ = LINE.try_with(|line| line.set(buffer));
    }
}

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
    /// The fields `Referer` and `User-Agent`, if the format has them.
    referer: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
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
}

/// The access log of one connection. When it is dropped, it logs the requests that were given up.
pub(crate) struct AccessLog {
    /// `None` if there are histograms alone.
    destination: Option<Destination>,
    /// The server, whose histograms count the records.
    runtime: Runtime,
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
    /// Only lines have the time of day.
    fn now(clock: &Clock, destination: Option<&Destination>) -> Start {
        Start { seconds: destination.map_or(0, |_| clock.unix_seconds()), at: clock.now() }
    }
}

impl Open {
    /// `request` is `None` if there is no head of a valid form.
    fn new(
        origin: &Origin,
        start: Start,
        request: Option<&Request>,
        destination: Option<&Destination>,
    ) -> Open {
        let from = match request {
            Some(request) if destination.is_some() && origin.is_trusted() => {
                From::client(origin.client(request.headers(), None), origin.peer)
            }
            _ => From::peer(origin.peer),
        };
        let format = destination.map(|destination| destination.format);
        let has_fields = matches!(format, Some(AccessFormat::Combined | AccessFormat::Json));
        let request = request.filter(|_| format.is_some()).map(|request| {
            let field = |name| request.headers().get(name).filter(|_| has_fields).map(Box::from);
            RequestLine {
                method: request.method().clone(),
                target: request.target().into(),
                version: request.version(),
                referer: field("referer"),
                user_agent: field("user-agent"),
            }
        });
        Open { from, start, request, response: None }
    }
}

/// The record of a request on a stream of HTTP/2, whose response does not wait for others.
#[cfg(feature = "http2")]
pub(crate) struct StreamRecord {
    open: Open,
    destination: Option<Destination>,
    runtime: Runtime,
    clock: Clock,
}

#[cfg(feature = "http2")]
impl StreamRecord {
    /// Begins a record. `request` is `None` if there is no head of a valid form. Returns `None` if the settings ask for
    /// no record.
    pub(crate) fn begin(
        origin: &Origin,
        service: &Service,
        request: Option<&Request>,
    ) -> Option<StreamRecord> {
        let destination = destination(service)?;
        let start = Start::now(&service.clock, destination.as_ref());
        let open = Open::new(origin, start, request, destination.as_ref());
        let (runtime, clock) = (service.runtime.clone(), service.clock.clone());
        Some(StreamRecord { open, destination, runtime, clock })
    }

    /// Logs and counts the request. `status` is `None` if no byte of a response was sent, `route` is the one whose
    /// handler has answered, and `bytes` is the number of bytes of the body.
    pub(crate) fn end(self, route: RouteName, status: Option<StatusCode>, bytes: u64, is_whole: bool) {
        let Open { from, start, request, .. } = self.open;
        let duration = self.clock.now().saturating_duration_since(start.at);
        if status.is_some() {
            self.runtime.counters().observe(route, duration);
        }
        if let Some(destination) = &self.destination {
            let seconds = start.seconds;
            destination.log(&Record { from, seconds, request, status, bytes, duration, is_whole });
        }
    }
}

/// The destination of the lines of a connection: none if there are histograms alone. `None` if the settings ask for no
/// record.
fn destination(service: &Service) -> Option<Option<Destination>> {
    let destination = Destination::of(&service.config);
    (destination.is_some() || service.counters().has_histograms()).then_some(destination)
}

/// A response, or a part of one, that was queued.
#[derive(Debug)]
struct Queued {
    /// The route whose handler has answered.
    route: RouteName,
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
    /// Creates the log of a connection that was accepted now. `None` if the settings ask for no record.
    pub(crate) fn new(origin: &Origin, service: &Service) -> Option<Box<AccessLog>> {
        Some(Box::new(AccessLog {
            destination: destination(service)?,
            runtime: service.runtime.clone(),
            origin: origin.clone(),
            clock: service.clock.clone(),
            sent: 0,
            head: None,
            open: VecDeque::new(),
        }))
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
        self.open.push_back(Open::new(&self.origin, start, request, self.destination.as_ref()));
    }

    fn now(&self) -> Start {
        Start::now(&self.clock, self.destination.as_ref())
    }

    /// Records that the head of a response of the current route was queued. `before` is the length of the write queue
    /// before that.
    pub(crate) fn responds(&mut self, status: StatusCode, before: usize) {
        let begin = self.sent + before as u64;
        if let Some(open) = self.open.back_mut() {
            let route = RouteName::current();
            open.response = Some(Queued { route, status, begin, end: begin, body: 0, is_whole: false });
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
        let mut now = None;
        while self.open.front().and_then(|open| open.response.as_ref()).is_some_and(is_sent)
            && let Some(open) = self.open.pop_front()
        {
            self.end(open, *now.get_or_insert_with(|| self.clock.now()));
        }
    }

    /// Logs and counts a request whose response was sent, or never will be.
    fn end(&self, Open { from, start, request, response }: Open, now: Instant) {
        let response = response.filter(|response| response.begin < self.sent);
        let duration = now.saturating_duration_since(start.at);
        if let Some(response) = &response {
            self.runtime.counters().observe(response.route, duration);
        }
        let Some(destination) = &self.destination else { return };
        let (status, bytes, is_whole) = response.map_or((None, 0, false), |response| {
            let unsent = response.end.saturating_sub(self.sent);
            let bytes = response.body.saturating_sub(unsent);
            (Some(response.status), bytes, response.is_whole && unsent == 0)
        });
        let seconds = start.seconds;
        destination.log(&Record { from, seconds, request, status, bytes, duration, is_whole });
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        while let Some(open) = self.open.pop_front() {
            self.end(open, self.clock.now());
        }
    }
}
