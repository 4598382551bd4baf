//! One HTTP/1.1 connection, seen from the server, without I/O: its states and the moves between them. The states of the
//! two sides of an exchange are in `request_body` and `response_state`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};

use crate::proto::body::{Body, BodyError, Inner as BodyInner};
use crate::proto::encode::{self, BodyLength, StandardFields};
use crate::proto::error::Error;
use crate::proto::framing::{Facts, Framing};
use crate::proto::head;
use crate::proto::limits::Limits;
use crate::proto::offer::Offer;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::request::Request;
use crate::proto::request_body::RequestBody;
use crate::proto::response::{Response, TEXT};
use crate::proto::response_state::{ResponseState, asks_to_close, has_body, status_instead};
use crate::proto::scan::Scan;
use crate::proto::write_queue::WriteQueue;

pub use crate::proto::request_body::{Buffered, Piece};
pub use crate::proto::response_state::WrongLength;

/// The interim response that asks the peer for the request body (RFC 9110, 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The result of [`Connection::next_event`].
///
/// ```
/// use gearshift_core::Limits;
/// use gearshift_core::h1::{Connection, Event};
///
/// let mut connection = Connection::new(Limits::default().into(), true, false);
/// connection.read_buffer.extend(b"GET / HTTP/1.1\r\nHost");
/// assert!(matches!(connection.next_event(), Event::NeedBytes));
/// connection.read_buffer.extend(b": a\r\n\r\n");
/// assert!(matches!(connection.next_event(), Event::Request(_)));
/// ```
#[derive(Debug)]
pub enum Event {
    /// The read buffer holds no complete head, or the rest of an unread body has not arrived. The caller appends
    /// received bytes and asks again.
    NeedBytes,
    /// A request. It contains its body if the body had arrived completely; otherwise
    /// [`Connection::is_body_pending`] is true and [`Connection::next_piece`] gives the body.
    Request(Request),
    /// The response to the current request is incomplete.
    AwaitResponse,
    /// The peer broke a rule or a limit. The caller tells the peer with [`Connection::refuse`]. Nothing more can be
    /// read.
    Refused(Error),
    /// The connection is over. The caller sends the rest of the write queue and closes the transport.
    Finished,
}

/// The server side of one HTTP/1.1 connection, without I/O (RFC 9112).
///
/// A `Connection` owns no socket, reads no clock, spawns no task and never blocks. The caller appends received bytes
/// to the [`read_buffer`](Connection::read_buffer), calls [`next_event`](Connection::next_event), responds, and
/// sends the bytes of the [`write_queue`](Connection::write_queue):
///
/// ```
/// use gearshift_core::h1::{Connection, Event};
/// use gearshift_core::{Limits, Response};
///
/// let mut connection = Connection::new(Limits::default().into(), true, false);
/// connection.read_buffer.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// let Event::Request(request) = connection.next_event() else { panic!() };
/// assert_eq!(request.path(), "/");
/// connection.respond_whole(&mut Response::text("hi"), 0);
/// assert!(connection.write_queue.front().starts_with(b"HTTP/1.1 200 OK\r\n"));
/// assert!(matches!(connection.next_event(), Event::NeedBytes));
/// ```
///
/// # Rules
///
/// 1. **The parser never runs ahead of the responses.** [`next_event`](Connection::next_event) parses the next head
///    only after the response to the request before it is complete and the body of that request was read or drained.
/// 2. **Chopping changes nothing.** The requests, their bodies, the errors and the responses are the same however the
///    input is divided into reads. There is one exception: body bytes that arrive together with their head prove that
///    the peer does not wait for `100 Continue`. The work is linear in the number of bytes.
///
/// # States
///
/// The request side is always in one of the states of the first table. The response side exists during an exchange:
/// while the request side is in `Done`, `Length`, `Chunked` or `Broken`. Calls that a table does not list change no
/// state. `next_event` moves from state to state until it reaches an event.
///
/// The request side. `Length` and `Chunked` are bodies that were not taken completely; `Broken` is a body that
/// cannot be read to its end; `Rejected` is a request that broke a rule before it became an exchange:
///
/// | From | Event or call | To |
/// | --- | --- | --- |
/// | `Head` | `next_event`, the head is incomplete | `Head` |
/// | `Head` | `next_event`, the head has no body, or its body has arrived | `Done` |
/// | `Head` | `next_event`, the head has a `Content-Length` and more of its body is to come | `Length` |
/// | `Head` | `next_event`, the head is chunked and more of its body is to come | `Chunked` |
/// | `Head` | `next_event`, the bytes break a rule or a limit | `Rejected` |
/// | `Head` | `next_event` after `received_end`, the head is incomplete | `Closed` |
/// | `Head` | `next_event` while closing | `Closed` |
/// | `Length` | `next_piece` or `buffer_body` takes the last byte | `Done` |
/// | `Chunked` | `next_piece` or `buffer_body` takes the last chunk and the trailer section | `Done` |
/// | `Chunked` | `next_piece`, the coding is malformed or the body exceeds `Limits::body` | `Broken` |
/// | `Length`, `Chunked` | `next_piece` after `received_end` or `time_out_body`, nothing is left to take | `Broken` |
/// | `Done`, `Length`, `Chunked`, `Broken` | `break_body` | `Broken` |
/// | `Done` | `next_event`, the response is `Done` | `Head` |
/// | `Length`, `Chunked` | `next_event`, the response is `Done`, the rest arrives within `Limits::drain` | `Head` |
/// | `Length`, `Chunked` | `next_event`, the response is `Done`, the rest exceeds `Limits::drain` or fails | `Closed` |
/// | `Length`, `Chunked`, `Broken` | `next_event` while closing, the response is `Done` | `Closed` |
/// | `Done` | `switch`, the response is `Awaited` | `Closed` |
/// | every state | `close`, `refuse` | `Closed` |
///
/// The connection is *closing* after [`close_after_this`](Connection::close_after_this), after a response with
/// `Connection: close`, and once the body is `Broken`. During an exchange whose response is not `Done`, `next_event`
/// returns [`Event::AwaitResponse`]. In `Rejected` and `Closed` it returns [`Event::Finished`].
///
/// The response side:
///
/// | From | Event or call | To |
/// | --- | --- | --- |
/// | (none) | `next_event` returns a request | `Awaited` |
/// | `Awaited` | `respond_whole` | `Done` |
/// | `Awaited` | `respond` to HEAD, or with 204, 205 or 304 | `Bodiless` |
/// | `Awaited` | `respond` with a length | `Length` |
/// | `Awaited` | `respond` without a length, to HTTP/1.1 | `Chunked` |
/// | `Awaited` | `respond` without a length, to HTTP/1.0 | `UntilClose` |
/// | `Length` | `send` within the length | `Length` |
/// | `Length` | `send` beyond the length, or `finish` before its end: `WrongLength` | `Length` |
/// | `Chunked`, `UntilClose`, `Bodiless` | `send` | unchanged |
/// | `Length`, `Chunked`, `UntilClose`, `Bodiless`, `Done` | `finish` | `Done` |
/// | `Awaited`, `Done` | `send`: `WrongLength` | unchanged |
/// | `Awaited` | `finish`: `WrongLength` | `Awaited` |
/// | every state | the request side moves to `Head` or `Closed` | (none) |
///
/// `respond`, `respond_whole` and `switch` panic if the response is not `Awaited`, and `switch` also if the request is
/// not `Done`. `send` ignores an empty piece in every state. `finish_with_trailers` changes the state as `finish` does.
pub struct Connection {
    /// The received bytes that were not consumed. The caller appends to them.
    pub read_buffer: ReadBuffer,
    /// The bytes to send. The caller takes them out.
    pub write_queue: WriteQueue,
    limits: Arc<Limits>,
    state: State,
    /// No head is read after the current exchange.
    closing: bool,
    /// The peer sends no more bytes.
    has_ended: bool,
    /// The connection stopped reading although the peer may still be sending.
    input_abandoned: bool,
    /// The request that was rejected although its head has a valid form. A field, because dropping `state` takes part
    /// of the time of each request.
    rejected: Option<Request>,
    /// The fields of each response, without the time.
    standard: StandardFields,
}

enum State {
    /// The next head is incomplete.
    Head(Scan),
    /// A request was returned. Its body, its response, or both may be incomplete.
    Exchange(Exchange),
    /// A request was rejected before it was returned. `is_head` is whether its method is HEAD, as far as is known.
    Rejected { is_head: bool },
    /// Nothing more is read.
    Closed,
}

/// A request and its response.
struct Exchange {
    request: RequestBody,
    response: ResponseState,
    facts: Facts,
    /// The protocols that the request offers, if it offers any. Boxed, because few requests do.
    offer: Option<Box<Offer>>,
    /// The peer expects `100 Continue` and has sent nothing of the body.
    awaits_continue: bool,
    /// No more of the body will arrive. The reader gets [`BodyError::TimedOut`] after the data that has arrived.
    body_timed_out: bool,
    /// The number of body bytes that were read and dropped after the response.
    drained: u64,
}

impl Connection {
    /// Creates a connection that has received nothing. `server` and `date` say whether its responses have these
    /// fields. Values above [`Limits::MAX_HEAD`] and [`Limits::MAX_FIELDS`] are reduced to these.
    pub fn new(limits: Arc<Limits>, server: bool, date: bool) -> Connection {
        Connection {
            limits: limits.clamped(),
            read_buffer: ReadBuffer::new(),
            write_queue: WriteQueue::new(),
            state: State::Head(Scan::default()),
            closing: false,
            has_ended: false,
            input_abandoned: false,
            rejected: None,
            standard: StandardFields { server, date, seconds: 0 },
        }
    }

    /// Records that the peer sends no more bytes: a read returned 0.
    pub fn received_end(&mut self) {
        self.has_ended = true;
    }

    /// Whether [`Connection::received_end`] was called.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether no exchange is in progress and no byte of the next request has arrived.
    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(&self.state, State::Head(scan) if scan.empty_lines == 0) && self.read_buffer.is_empty()
    }

    /// Whether bytes behind the current request have arrived that may belong to another request. Empty lines do not
    /// (RFC 9112, 2.2).
    pub fn has_more(&self) -> bool {
        !self.is_body_pending()
            && self.read_buffer.as_slice().iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Whether the next head has arrived in part.
    pub fn is_head_begun(&self) -> bool {
        matches!(self.state, State::Head(_)) && !self.read_buffer.is_empty()
    }

    /// Makes the current request the last one. Before the first request and between two requests, no further request
    /// is read.
    pub fn close_after_this(&mut self) {
        self.closing = true;
    }

    /// Whether no request is read after the current one.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the transport must be closed in stages, because the peer may still be sending. An immediate close
    /// could reset the connection and destroy a response that the peer has not read (RFC 9112, 9.6).
    pub fn must_linger(&self) -> bool {
        !self.has_ended
            && (self.input_abandoned || !self.read_buffer.is_empty() || !self.read_buffer.is_drained())
    }

    /// Whether a part of the current request's body was not taken.
    #[inline]
    pub fn is_body_pending(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if !matches!(exchange.request, RequestBody::Done))
    }

    /// The number of bytes of the current request's body that were not taken; `None` if the body is chunked or
    /// cannot be read. 0 without a current request.
    pub fn body_remaining(&self) -> Option<u64> {
        match &self.state {
            State::Exchange(exchange) => exchange.request.remaining(),
            _ => Some(0),
        }
    }

    /// Reads the received bytes up to the next event. The caller repeats the call after it has handled the event.
    #[inline]
    pub fn next_event(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Closed | State::Rejected { .. } => return Event::Finished,
                State::Head(scan) => {
                    if self.closing {
                        self.state = State::Closed;
                        return Event::Finished;
                    }
                    match head::read(&mut self.read_buffer, scan, &self.limits) {
                        Ok(Some((mut request, facts))) => {
                            let begun =
                                facts.and_then(|(framing, facts)| self.begin(framing, facts, &mut request));
                            return match begun {
                                Ok(()) => Event::Request(request),
                                Err(error) => {
                                    self.reject(*request.method() == Method::HEAD, Some(request), error)
                                }
                            };
                        }
                        Ok(None) if self.has_ended => {
                            self.state = State::Closed;
                            return Event::Finished;
                        }
                        Ok(None) => return Event::NeedBytes,
                        Err(error) => return self.reject(self.is_head_request(), None, error),
                    }
                }
                State::Exchange(exchange) if exchange.response != ResponseState::Done => {
                    return Event::AwaitResponse;
                }
                State::Exchange(exchange) => match exchange.request {
                    RequestBody::Done => self.state = State::Head(Scan::default()),
                    _ => {
                        if let Some(event) = self.drain() {
                            return event;
                        }
                    }
                },
            }
        }
    }

    /// Takes the next piece of the current request's body.
    ///
    /// # Errors
    /// [`BodyError`] if the body cannot be read to its end, and [`BodyError::Gone`] without a current request. The
    /// connection is then closing, and every later call returns an error.
    pub fn next_piece(&mut self) -> Result<Piece, BodyError> {
        let State::Exchange(exchange) = &mut self.state else { return Err(BodyError::Gone) };
        // A peer that has sent body bytes does not wait for `100 Continue` (RFC 9110, 10.1.1).
        exchange.awaits_continue &= self.read_buffer.is_empty();
        let error = match exchange.request.next_piece(&mut self.read_buffer, &self.limits) {
            Ok(Piece::NeedBytes) if exchange.body_timed_out => BodyError::TimedOut,
            Ok(Piece::NeedBytes) if self.has_ended => BodyError::Incomplete,
            Ok(piece) => return Ok(piece),
            Err(error) => error,
        };
        Err(self.break_body(error))
    }

    /// Takes the whole body of the current request once it has arrived. A body of more than `limit` bytes is only
    /// taken if it has arrived already. Pieces that were taken before are missing in the result.
    pub fn buffer_body(&mut self, limit: usize) -> Buffered {
        let State::Exchange(exchange) = &mut self.state else { return Buffered::Partial };
        exchange.request.buffer(&mut self.read_buffer, &self.limits, limit, self.has_ended)
    }

    /// Records that no more of the current request's body will arrive. [`Connection::next_piece`] returns the data
    /// that has arrived, then [`BodyError::TimedOut`].
    pub fn time_out_body(&mut self) {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.body_timed_out = true;
        }
    }

    /// Gives up the rest of the current request's body after reading it has failed, and makes the connection
    /// closing. Returns `error` for the caller to pass on.
    pub fn break_body(&mut self, error: BodyError) -> BodyError {
        self.closing = true;
        self.input_abandoned = true;
        if let State::Exchange(exchange) = &mut self.state {
            exchange.request = RequestBody::Broken;
        }
        error
    }

    /// Records that nothing takes the rest of the current request's body any more, before the response. The response is
    /// the last if the rest exceeds [`Limits::drain`] or is late. The size of the rest of a chunked body is not known,
    /// so that the connection may still close while it drains that body.
    pub fn abandon_body(&mut self) {
        let State::Exchange(exchange) = &self.state else { return };
        let is_too_large = exchange.request.remaining().is_some_and(|rest| rest > self.limits.drain);
        self.closing |= is_too_large || exchange.body_timed_out;
    }

    /// Queues `100 Continue` if the peer waits for it (RFC 9110, 10.1.1). Nothing is queued if body bytes have
    /// arrived since. Returns whether the peer was waiting.
    pub fn send_continue(&mut self) -> bool {
        let State::Exchange(exchange) = &mut self.state else { return false };
        if !exchange.awaits_continue || exchange.response != ResponseState::Awaited {
            return false;
        }
        exchange.awaits_continue = false;
        if self.read_buffer.is_empty() {
            self.send_probe();
        }
        true
    }

    /// Whether [`Connection::send_probe`] is allowed: the peer speaks HTTP/1.1, which has interim responses
    /// (RFC 9110, 15.2), it does not wait for `100 Continue`, and the response has not begun.
    pub fn may_probe(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange)
            if !exchange.facts.is_http10
                && !exchange.awaits_continue
                && exchange.response == ResponseState::Awaited)
    }

    /// Queues an interim response. Sending it fails if the peer has closed the connection.
    pub fn send_probe(&mut self) {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.facts.expects_continue = false;
        }
        self.write_queue.tail().extend_from_slice(CONTINUE);
    }

    /// Whether the peer waits for `100 Continue` or for a final response before it sends the body.
    pub fn awaits_continue(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if exchange.awaits_continue)
    }

    /// Whether the current request allows a response with this head to end HTTP on the connection: 101 with protocols
    /// that the request offers (RFC 9110, 7.8), or 2xx to CONNECT (RFC 9110, 9.3.6).
    pub fn may_switch(&self, status: StatusCode, fields: &[(HeaderName, HeaderValue)]) -> bool {
        let State::Exchange(exchange) = &self.state else { return false };
        match &exchange.offer {
            _ if exchange.facts.is_connect => status.is_success(),
            Some(offer) => status == StatusCode::SWITCHING_PROTOCOLS && offer.includes(fields),
            None => false,
        }
    }

    /// Queues a complete response and takes the body out of it. `seconds` is the Unix time for its `Date` field.
    /// Returns the number of bytes of the body that were queued: 0 if the response has no body on the wire.
    ///
    /// A response that cannot answer the request is replaced, see [`Connection::replace_invalid`].
    ///
    /// # Panics
    /// If the response is not awaited, or if the body is neither empty nor made of bytes.
    #[inline]
    pub fn respond_whole(&mut self, response: &mut Response, seconds: u64) -> u64 {
        let Response { status, fields, body, .. } = response;
        let status = *status;
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        let facts = exchange.facts;
        let plain = facts.keep_alive && !facts.is_http10 && !facts.is_head && !exchange.awaits_continue;
        let awaited = exchange.response == ResponseState::Awaited;
        if plain && awaited && !self.closing && has_body(status) && !asks_to_close(fields) {
            // `respond` comes to the same result, with more checks.
            let bytes = take_bytes(body);
            let length = bytes.len() as u64;
            let standard = StandardFields { seconds, ..self.standard };
            let tail = self.write_queue.tail();
            encode::head(tail, status, fields, BodyLength::Known(length), None, standard);
            self.write_queue.push(bytes);
            exchange.response = ResponseState::Done;
            return length;
        }
        self.respond_whole_checked(response, seconds)
    }

    #[inline(never)]
    fn respond_whole_checked(&mut self, response: &mut Response, seconds: u64) -> u64 {
        self.replace_invalid(response);
        let bytes = take_bytes(&mut response.body);
        let length = bytes.len() as u64;
        let expects_body = self.respond(response.status, &response.fields, Some(length), seconds);
        if expects_body {
            self.write_queue.push(bytes);
        }
        if let State::Exchange(exchange) = &mut self.state {
            exchange.response = ResponseState::Done;
        }
        if expects_body { length } else { 0 }
    }

    /// Replaces a response that cannot answer the current request: an interim response (1xx) by 500, and a 2xx to
    /// CONNECT, which would open a tunnel (RFC 9110, 9.3.6), by 501. The replacement has neither fields nor a body.
    pub fn replace_invalid(&self, response: &mut Response) {
        let State::Exchange(exchange) = &self.state else { return };
        if let Some(status) = status_instead(response.status, exchange.facts) {
            *response = Response::status_only(status);
        }
    }

    /// Queues the head of a response. `length` is the length of the body in bytes, if it is known; `seconds` is the
    /// Unix time for the `Date` field. A status that [`Connection::replace_invalid`] replaces is replaced here, too.
    ///
    /// Returns whether a body must follow with [`Connection::send`]. [`Connection::finish`] must follow in any case.
    ///
    /// # Panics
    /// If the response is not awaited.
    pub fn respond(
        &mut self,
        mut status: StatusCode,
        mut fields: &[(HeaderName, HeaderValue)],
        mut length: Option<u64>,
        seconds: u64,
    ) -> bool {
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        assert!(exchange.response == ResponseState::Awaited, "the request was answered already");
        let facts = exchange.facts;
        if let Some(instead) = status_instead(status, facts) {
            (status, fields, length) = (instead, &[], Some(0));
        }
        let (announced, response) = ResponseState::after_head(status, fields, length, facts);
        self.closing |= !facts.keep_alive
            || exchange.awaits_continue
            || asks_to_close(fields)
            || response == ResponseState::UntilClose;
        exchange.response = response;
        let expects_body = !matches!(response, ResponseState::Bodiless | ResponseState::Length(0));
        let connection = match (self.closing, facts.is_http10) {
            (true, _) => Some("close"),
            (false, true) => Some("keep-alive"),
            (false, false) => None,
        };
        let standard = StandardFields { seconds, ..self.standard };
        encode::head(self.write_queue.tail(), status, fields, announced, connection, standard);
        expects_body
    }

    /// Queues the head after which the connection is no longer HTTP: 101 (RFC 9110, 7.8), or 2xx for a CONNECT
    /// (RFC 9110, 9.3.6). [`Connection::may_switch`] says whether the request allows it. If the peer expects
    /// `100 Continue` before a 101, and nothing has sent it, it is queued first. `seconds` is the Unix time for the
    /// `Date` field.
    ///
    /// The caller hands the transport over once the write queue is empty. The read buffer then holds bytes that
    /// belong to the new protocol.
    ///
    /// # Panics
    /// If the response is not awaited, or if a part of the request's body was not taken: the new protocol begins after
    /// the body.
    pub fn switch(&mut self, status: StatusCode, fields: &[(HeaderName, HeaderValue)], seconds: u64) {
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        assert!(exchange.response == ResponseState::Awaited, "the request was answered already");
        assert!(matches!(exchange.request, RequestBody::Done), "the body of the request was not read");
        let tail = self.write_queue.tail();
        if status.is_informational() && exchange.facts.expects_continue {
            tail.extend_from_slice(CONTINUE);
        }
        let standard = StandardFields { seconds, ..self.standard };
        encode::head(tail, status, fields, BodyLength::Omitted, None, standard);
        self.state = State::Closed;
    }

    /// Queues a piece of the response body.
    ///
    /// # Errors
    /// [`WrongLength`] if the body becomes longer than the head announced, or if no response body is due.
    pub fn send(&mut self, data: Bytes) -> Result<(), WrongLength> {
        let State::Exchange(exchange) = &mut self.state else { return Err(WrongLength) };
        exchange.response.send(data, &mut self.write_queue)
    }

    /// Ends the response.
    ///
    /// # Errors
    /// [`WrongLength`] if the body is shorter than the head announced, or if no response has begun.
    pub fn finish(&mut self) -> Result<(), WrongLength> {
        let State::Exchange(exchange) = &mut self.state else { return Err(WrongLength) };
        exchange.response.finish(&mut self.write_queue)
    }

    /// Ends the response as [`Connection::finish`] does, with trailer fields behind a chunked body (RFC 9112, 7.1.2).
    ///
    /// The trailers are dropped if the response is not chunked: if its length was known, if it has no body, or if the
    /// request is an HTTP/1.0 one. Of the other trailers those are left out that a recipient needs before the content
    /// (RFC 9110, 6.5.1).
    ///
    /// # Errors
    /// As [`Connection::finish`].
    pub fn finish_with_trailers(&mut self, trailers: &HeaderMap) -> Result<(), WrongLength> {
        let State::Exchange(exchange) = &mut self.state else { return Err(WrongLength) };
        exchange.response.finish_with_trailers(trailers, &mut self.write_queue)
    }

    /// Whether the peer needs no more bytes to see the end of the current response: it was ended by
    /// [`Connection::finish`], or its body has the announced length.
    pub fn is_response_whole(&self) -> bool {
        matches!(&self.state, State::Exchange(Exchange { response, .. })
            if matches!(response, ResponseState::Done | ResponseState::Length(0)))
    }

    /// Whether a part of the current response was queued, and the peer needs more bytes to see its end.
    pub(crate) fn is_response_begun(&self) -> bool {
        !self.is_response_whole()
            && matches!(&self.state, State::Exchange(exchange) if exchange.response != ResponseState::Awaited)
    }

    /// Queues the response that tells the peer about `error`, and closes the connection. `seconds` is the Unix time
    /// for the `Date` field. Nothing is queued while another response is incomplete.
    ///
    /// Returns the number of bytes of the body that were queued; `None` if no response was queued.
    pub fn refuse(&mut self, error: Error, seconds: u64) -> Option<u64> {
        let (is_response_begun, is_head) = match &self.state {
            State::Exchange(Exchange { response, facts, .. }) => {
                (!matches!(response, ResponseState::Awaited | ResponseState::Done), facts.is_head)
            }
            State::Rejected { is_head } => (false, *is_head),
            State::Head(_) | State::Closed => (false, self.is_head_request()),
        };
        let queued = (!is_response_begun).then(|| {
            let text = error.to_string();
            let standard = StandardFields { seconds, ..self.standard };
            let length = BodyLength::Known(text.len() as u64);
            let fields =
                [(header::CONTENT_TYPE, TEXT), (header::RETRY_AFTER, HeaderValue::from(Error::RETRY_AFTER))];
            let fields = if error == Error::Overload { &fields[..] } else { &fields[..1] };
            let tail = self.write_queue.tail();
            encode::head(tail, error.status(), fields, length, Some("close"), standard);
            if is_head {
                return 0;
            }
            tail.extend_from_slice(text.as_bytes());
            text.len() as u64
        });
        self.close_unread();
        queued
    }

    /// Closes the connection: nothing more is read. The write queue keeps its bytes.
    pub fn close(&mut self) {
        self.input_abandoned |= self.is_body_pending();
        self.closing = true;
        self.state = State::Closed;
        self.rejected = None;
    }

    /// Closes the connection like [`Connection::close`]. The peer may still be sending.
    pub(crate) fn close_unread(&mut self) {
        self.close();
        self.input_abandoned = true;
    }

    /// Begins the exchange of a request whose head was parsed. The body goes into `request` if it has arrived
    /// completely.
    #[inline]
    fn begin(&mut self, framing: Framing, facts: Facts, request: &mut Request) -> Result<(), Error> {
        let mut exchange = Exchange {
            request: RequestBody::Done,
            response: ResponseState::Awaited,
            facts,
            offer: facts.offers_upgrade.then(|| Box::new(Offer::of(request))),
            awaits_continue: false,
            body_timed_out: false,
            drained: 0,
        };
        if framing != Framing::Length(0) {
            exchange.awaits_continue = facts.expects_continue && self.read_buffer.is_empty();
            (exchange.request, request.inner_mut().body) =
                RequestBody::begin(framing, &mut self.read_buffer, &self.limits)?;
        }
        self.state = State::Exchange(exchange);
        Ok(())
    }

    #[cold]
    fn reject(&mut self, is_head: bool, request: Option<Request>, error: Error) -> Event {
        (self.state, self.rejected) = (State::Rejected { is_head }, request);
        Event::Refused(error)
    }

    /// The request that was rejected because of its fields or its body, between [`Event::Refused`] and
    /// [`Connection::refuse`]. `None` if the head was malformed, incomplete, or exceeded a limit.
    pub fn rejected_request(&self) -> Option<&Request> {
        self.rejected.as_ref()
    }

    /// Reads and drops the rest of a request body after the response, so that the next head can be read. Returns
    /// `None` at the end of the body.
    ///
    /// The connection closes instead if the body exceeds [`Limits::drain`]. If its length is known, this is decided
    /// before any further byte arrives.
    fn drain(&mut self) -> Option<Event> {
        loop {
            if self.closing {
                self.close();
                return Some(Event::Finished);
            }
            let piece = self.next_piece();
            let State::Exchange(exchange) = &mut self.state else { return Some(Event::Finished) };
            if let Ok(Piece::Data(data)) = &piece {
                exchange.drained += data.len() as u64;
            }
            let remaining = exchange.request.remaining().unwrap_or(0);
            match piece {
                Ok(Piece::End) => return None,
                _ if exchange.drained.saturating_add(remaining) > self.limits.drain => self.closing = true,
                Ok(Piece::NeedBytes) => return Some(Event::NeedBytes),
                Ok(Piece::Data(_) | Piece::Trailers(_)) | Err(_) => {}
            }
        }
    }

    /// Whether the read buffer begins with a HEAD request, complete or not. Its response must not have a body.
    fn is_head_request(&self) -> bool {
        self.read_buffer.as_slice().starts_with(b"HEAD ")
    }
}

/// Takes a body that is in memory.
///
/// # Panics
/// If it is not.
#[inline]
fn take_bytes(body: &mut Body) -> Bytes {
    match std::mem::take(body).0 {
        BodyInner::Empty => Bytes::new(),
        BodyInner::Full(bytes) => bytes,
        _ => panic!("the body of a whole response is a stream"),
    }
}

/// Shows the states of the two sides by the names in the tables of [`Connection`].
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (request, response) = match &self.state {
            State::Head(_) => ("Head", None),
            State::Exchange(exchange) => (exchange.request.name(), Some(exchange.response)),
            State::Rejected { .. } => ("Rejected", None),
            State::Closed => ("Closed", None),
        };
        f.debug_struct("Connection")
            .field("request", &format_args!("{request}"))
            .field("response", &response)
            .field("closing", &self.closing)
            .field("read_buffer", &self.read_buffer.len())
            .field("write_queue", &self.write_queue.len())
            .finish_non_exhaustive()
    }
}
