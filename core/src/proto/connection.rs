//! One HTTP/1.1 connection, seen from the server, sans-IO.
//!
//! A [`Connection`] owns no socket, reads no clock, spawns nothing and cannot block. Its user puts received bytes
//! into the [`read_buffer`](Connection::read_buffer_mut), asks [`next_event`](Connection::next_event) what follows from them, and sends
//! what is in the [`write_queue`](Connection::write_queue_mut):
//!
//! ```
//! use gearshift_core::h1::{Connection, Event};
//! use gearshift_core::{Limits, Response};
//!
//! let mut connection = Connection::new(Limits::default().into(), true, false);
//! connection.read_buffer_mut().extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
//! let Event::Request(request) = connection.next_event() else { panic!() };
//! assert_eq!(request.path(), "/");
//! connection.respond_whole(Response::text("hi"), 0);
//! assert!(connection.write_queue_mut().front().starts_with(b"HTTP/1.1 200 OK\r\n"));
//! assert!(matches!(connection.next_event(), Event::NeedBytes));
//! ```
//!
//! The parser never runs ahead of the responses: the next request is looked at once the one before was answered
//! and its body is behind. Work is linear in the bytes received, however they are chopped.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use crate::proto::body::{Body, BodyError, Inner as BodyInner};
use crate::proto::chunked::{Chunk, Decoder};
use crate::proto::encode::{self, Length, Persistence, Stamp};
use crate::proto::error::Error;
use crate::proto::framing::{Facts, Framing};
use crate::proto::head::{self, Scan};
use crate::proto::limits::Limits;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::proto::write_queue::WriteQueue;

/// The interim response that asks for a body (RFC 9110, 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What follows from the bytes received so far.
#[derive(Debug)]
pub enum Event {
    /// Nothing, without more bytes.
    NeedBytes,
    /// A request. Its body is in it if it had arrived whole; else see [`Connection::is_body_pending`].
    Request(Request),
    /// The request before has not been answered.
    AwaitResponse,
    /// The peer broke the rules. Tell it by [`Connection::refuse`]; nothing more can be read.
    Refused(Error),
    /// Nothing more will come of this connection: send what waits, and close it.
    Finished,
}

/// What there is of a request's body.
#[derive(Debug)]
pub enum Piece {
    /// Nothing more, without more bytes.
    NeedBytes,
    /// Some of it.
    Data(Bytes),
    /// Its end.
    End,
}

/// One connection, sans-IO; its file says how it is used.
pub struct Connection {
    limits: Arc<Limits>,
    read_buffer: ReadBuffer,
    write_queue: WriteQueue,
    state: State,
    /// No request will be read after the one at hand.
    closing: bool,
    /// The peer will send no more.
    ended: bool,
    /// The peer was refused, so that it may go on sending what nobody will read.
    refused: bool,
    server: bool,
    date: bool,
}

enum State {
    /// A head is awaited.
    Head(Scan),
    /// A request was handed out.
    Exchange(Exchange),
    /// The peer broke the rules, in a request that was no HEAD as far as is known, or was one.
    Broken { head_only: bool },
    /// Nothing will be read any more.
    Closed,
}

/// A request and its response, neither of which need be complete.
struct Exchange {
    incoming: Incoming,
    outgoing: Outgoing,
    facts: Facts,
    /// The peer waits for `100 Continue`, and has sent nothing of its body.
    awaits_continue: bool,
    /// Bytes of the body that were read and dropped.
    drained: u64,
    /// Why no more of the body will come. It is told once what has arrived was taken.
    failure: Option<Box<BodyError>>,
}

/// What is left of the request's body.
enum Incoming {
    Done,
    Length(u64),
    Chunked(Box<Chunks>),
    /// It cannot be read any more.
    Broken,
}

/// A chunked body that did not come whole with its head.
struct Chunks {
    decoder: Decoder,
    /// Decoded data that nobody has taken.
    arrived: BytesMut,
    /// What is wrong with the bytes behind that data.
    error: Option<Error>,
}

/// What [`Connection::buffer_body`] came to.
#[derive(Debug)]
pub enum Buffered {
    /// The whole body.
    Whole(Body),
    /// More bytes are needed, and there is room for them.
    NeedBytes,
    /// The body is beyond the limit, or cannot be read to its end. What has arrived of it is still to be taken by
    /// [`Connection::next_piece`].
    Partial,
}

/// What is left of the response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outgoing {
    /// All of it.
    Awaited,
    /// So many bytes of its body.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Whatever comes until the connection closes.
    UntilClose,
    /// Nothing, whatever its body is.
    Bodiless,
    Done,
}

impl Chunks {
    fn next(&mut self, read_buffer: &mut ReadBuffer, limits: &Limits) -> Result<Chunk, Error> {
        match self.error {
            Some(error) => Err(error),
            None => self.decoder.next(read_buffer, limits),
        }
    }
}

impl Connection {
    /// A connection on which nothing was received yet, with or without `Server` and `Date` in its responses. Limits
    /// above [`Limits::MAX_HEAD`] and [`Limits::MAX_FIELDS`] are taken for these.
    pub fn new(limits: Arc<Limits>, server: bool, date: bool) -> Connection {
        Connection {
            limits: limits.clamped(),
            read_buffer: ReadBuffer::new(),
            write_queue: WriteQueue::new(),
            state: State::Head(Scan::head()),
            closing: false,
            ended: false,
            refused: false,
            server,
            date,
        }
    }

    /// What was received.
    #[inline]
    pub fn read_buffer(&self) -> &ReadBuffer {
        &self.read_buffer
    }

    /// Where received bytes go.
    #[inline]
    pub fn read_buffer_mut(&mut self) -> &mut ReadBuffer {
        &mut self.read_buffer
    }

    /// What waits to be sent.
    #[inline]
    pub fn write_queue(&self) -> &WriteQueue {
        &self.write_queue
    }

    /// Where bytes to send come from.
    #[inline]
    pub fn write_queue_mut(&mut self) -> &mut WriteQueue {
        &mut self.write_queue
    }

    /// Announces that the peer will send no more.
    pub fn received_end(&mut self) {
        self.ended = true;
    }

    /// Whether the peer said that it will send no more.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether no request is at hand, nor any byte of one.
    #[inline]
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head(_)) && self.read_buffer.is_empty()
    }

    /// Whether a part of a head has arrived.
    pub fn is_head_begun(&self) -> bool {
        matches!(self.state, State::Head(_)) && !self.read_buffer.is_empty()
    }

    /// Makes the request at hand, or else the next one, the last.
    pub fn close_after_this(&mut self) {
        self.closing = true;
    }

    /// Whether no request will be read after the one at hand.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether closing now might destroy what was sent, as the peer may still be sending (RFC 9112, 9.6).
    pub fn must_linger(&self) -> bool {
        !self.ended && (self.refused || !self.read_buffer.is_empty() || !self.read_buffer.is_drained())
    }

    /// Whether some of the request's body has not arrived.
    #[inline]
    pub fn is_body_pending(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if !matches!(exchange.incoming, Incoming::Done))
    }

    /// How much of the request's body is still to be taken; `None` if only its end will tell.
    pub fn body_remaining(&self) -> Option<u64> {
        match &self.state {
            State::Exchange(exchange) => match exchange.incoming {
                Incoming::Done => Some(0),
                Incoming::Length(left) => Some(left),
                Incoming::Chunked(_) | Incoming::Broken => None,
            },
            _ => Some(0),
        }
    }

    /// What follows from the bytes received so far.
    #[inline]
    pub fn next_event(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Closed | State::Broken { .. } => return Event::Finished,
                State::Head(scan) => {
                    if self.closing {
                        self.state = State::Closed;
                        return Event::Finished;
                    }
                    match head::read(&mut self.read_buffer, scan, &self.limits) {
                        Ok(Some((mut request, facts))) => match self.begin(facts, &mut request) {
                            Ok(()) => return Event::Request(request),
                            Err(error) => return Event::Refused(error),
                        },
                        Ok(None) if self.ended => {
                            self.state = State::Closed;
                            return Event::Finished;
                        }
                        Ok(None) => return Event::NeedBytes,
                        Err(error) => return self.broken(error),
                    }
                }
                State::Exchange(exchange) if exchange.outgoing != Outgoing::Done => {
                    return Event::AwaitResponse;
                }
                State::Exchange(exchange) => match exchange.incoming {
                    Incoming::Done => self.state = State::Head(Scan::head()),
                    _ => match self.drain() {
                        Some(event) => return event,
                        None => continue,
                    },
                },
            }
        }
    }

    /// Takes what there is of the request's body.
    ///
    /// # Errors
    /// [`BodyError`], from then on.
    pub fn next_piece(&mut self) -> Result<Piece, BodyError> {
        let State::Exchange(exchange) = &mut self.state else { return Err(BodyError::Gone) };
        // Who has sent some of it is not waiting to be asked for it (RFC 9110, 10.1.1).
        exchange.awaits_continue &= self.read_buffer.is_empty();
        let piece = match &mut exchange.incoming {
            Incoming::Done => return Ok(Piece::End),
            Incoming::Broken => Err(BodyError::Incomplete),
            Incoming::Length(_) if self.read_buffer.is_empty() => Ok(Piece::NeedBytes),
            Incoming::Length(left) => {
                let n = usize::try_from(*left)
                    .map_or(self.read_buffer.len(), |left| left.min(self.read_buffer.len()));
                *left -= n as u64;
                if *left == 0 {
                    exchange.incoming = Incoming::Done;
                }
                return Ok(Piece::Data(self.read_buffer.take(n)));
            }
            Incoming::Chunked(chunks) if !chunks.arrived.is_empty() => {
                return Ok(Piece::Data(chunks.arrived.split().freeze()));
            }
            Incoming::Chunked(chunks) => match chunks.next(&mut self.read_buffer, &self.limits) {
                Ok(Chunk::NeedBytes) => Ok(Piece::NeedBytes),
                Ok(Chunk::Data(data)) => return Ok(Piece::Data(data)),
                Ok(Chunk::End) => {
                    exchange.incoming = Incoming::Done;
                    return Ok(Piece::End);
                }
                Err(Error::BodyTooLarge) => Err(BodyError::TooLarge { limit: self.limits.body }),
                Err(error) => Err(BodyError::Malformed(error)),
            },
        };
        let failure = exchange.failure.take_if(|_| matches!(piece, Ok(Piece::NeedBytes)));
        match piece {
            Ok(Piece::NeedBytes) if failure.is_some() => {
                Err(self.break_body(failure.map_or(BodyError::Incomplete, |failure| *failure)))
            }
            Ok(Piece::NeedBytes) if self.ended => Err(self.break_body(BodyError::Incomplete)),
            Ok(piece) => Ok(piece),
            Err(error) => Err(self.break_body(error)),
        }
    }

    /// Waits for the whole of the request's body, of at most `limit` bytes, before anybody takes a piece of it.
    pub fn buffer_body(&mut self, limit: usize) -> Buffered {
        let State::Exchange(exchange) = &mut self.state else { return Buffered::Partial };
        let body = match &mut exchange.incoming {
            Incoming::Done => Body::empty(),
            Incoming::Broken => return Buffered::Partial,
            Incoming::Length(left) => match usize::try_from(*left) {
                Ok(len) if len <= self.read_buffer.len() => Body::from(self.read_buffer.take(len)),
                Ok(len) if len <= limit && !self.ended => return Buffered::NeedBytes,
                _ => return Buffered::Partial,
            },
            Incoming::Chunked(chunks) => loop {
                match chunks.next(&mut self.read_buffer, &self.limits) {
                    Ok(Chunk::Data(data)) => chunks.arrived.extend_from_slice(&data),
                    Ok(Chunk::End) => break Body::from(chunks.arrived.split().freeze()),
                    Ok(Chunk::NeedBytes) if chunks.arrived.len() > limit || self.ended => {
                        return Buffered::Partial;
                    }
                    Ok(Chunk::NeedBytes) => return Buffered::NeedBytes,
                    Err(error) => {
                        chunks.error = Some(error);
                        return Buffered::Partial;
                    }
                }
            },
        };
        exchange.incoming = Incoming::Done;
        Buffered::Whole(body)
    }

    /// Records why no more of the request's body will come. Whoever reads the body takes what has arrived, then gets
    /// `error`.
    pub fn fail_body(&mut self, error: BodyError) {
        if let State::Exchange(exchange) = &mut self.state {
            exchange.failure = Some(Box::new(error));
        }
    }

    /// Gives up the rest of the request's body, because reading it failed. Gives `error` back.
    pub fn break_body(&mut self, error: BodyError) -> BodyError {
        self.closing = true;
        self.refused = true;
        if let State::Exchange(exchange) = &mut self.state {
            exchange.incoming = Incoming::Broken;
        }
        error
    }

    /// Queues `100 Continue` if the peer waits for it (RFC 9110, 10.1.1). Says whether it did.
    pub fn send_continue(&mut self) -> bool {
        match &mut self.state {
            State::Exchange(exchange)
                if exchange.awaits_continue && exchange.outgoing == Outgoing::Awaited =>
            {
                exchange.awaits_continue = false;
                if self.read_buffer.is_empty() {
                    self.write_queue.tail().extend_from_slice(CONTINUE);
                }
                true
            }
            _ => false,
        }
    }

    /// Whether an interim response may be sent: the peer knows them (RFC 9110, 15.2), and its response has not begun.
    pub fn may_probe(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange)
            if !exchange.facts.old && !exchange.awaits_continue && exchange.outgoing == Outgoing::Awaited)
    }

    /// Queues an interim response, to learn whether the peer is still there.
    pub fn send_probe(&mut self) {
        self.write_queue.tail().extend_from_slice(CONTINUE);
    }

    /// Whether the peer waits for `100 Continue`, or for a final response instead of it.
    pub fn awaits_continue(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if exchange.awaits_continue)
    }

    /// Whether the request at hand offers to change the protocol, or is a CONNECT.
    pub fn offers_upgrade(&self) -> bool {
        matches!(&self.state, State::Exchange(exchange) if exchange.facts.upgrade || exchange.facts.connect)
    }

    /// Queues a response whose body is at hand: head and body at once. `seconds` since the Unix epoch is what its
    /// `Date` says.
    ///
    /// # Panics
    /// If no response is owed, or the body is not at hand.
    #[inline]
    pub fn respond_whole(&mut self, response: Response, seconds: u64) {
        let Response { status, fields, body, extra } = response;
        // Few have any, and the others need not look for what there is to drop.
        if let Some(extra) = extra {
            drop(extra);
        }
        let bytes = match body.0 {
            BodyInner::Empty => Bytes::new(),
            BodyInner::Full(bytes) => bytes,
            _ => panic!("the body is not at hand"),
        };
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        let plain =
            exchange.facts.is_plain() && exchange.outgoing == Outgoing::Awaited && !exchange.awaits_continue;
        if plain && !self.closing && has_body(status) && !asks_to_close(&fields) {
            // What `respond` would come to, without asking again.
            let length = Length::Known(bytes.len() as u64);
            let stamp = Stamp { server: self.server, date: self.date, seconds };
            let tail = self.write_queue.tail();
            encode::head(tail, status, &fields, length, Persistence::Default, stamp);
            self.write_queue.push(bytes);
            exchange.outgoing = Outgoing::Done;
            return;
        }
        self.respond(status, &fields, Some(bytes.len() as u64), seconds);
        if let State::Exchange(exchange) = &mut self.state {
            if exchange.outgoing == Outgoing::Length(bytes.len() as u64) {
                self.write_queue.push(bytes);
            }
            exchange.outgoing = Outgoing::Done;
        }
    }

    /// Queues a response's head. `length` is its body's, if that is known. Says whether the body is to follow, by
    /// [`Connection::send`] and [`Connection::finish`]; `finish` is due in any case.
    ///
    /// # Panics
    /// If no response is owed.
    pub fn respond(
        &mut self,
        mut status: StatusCode,
        mut fields: &[(HeaderName, HeaderValue)],
        mut length: Option<u64>,
        seconds: u64,
    ) -> bool {
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        assert!(exchange.outgoing == Outgoing::Awaited, "the request was answered already");
        if status.is_informational() {
            log::error!("a handler answered with the interim status {status}");
            (status, fields, length) = (StatusCode::INTERNAL_SERVER_ERROR, &[], Some(0));
        }
        let facts = exchange.facts;
        if !facts.keep_alive || exchange.awaits_continue || asks_to_close(fields) {
            self.closing = true;
        }
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let (said, outgoing) = match length {
            _ if status == StatusCode::NO_CONTENT => (Length::Unsaid, Outgoing::Bodiless),
            Some(0) if bodiless || facts.head_only => {
                (content_length(fields, facts.head_only), Outgoing::Bodiless)
            }
            _ if bodiless => (Length::Unsaid, Outgoing::Bodiless),
            Some(len) if facts.head_only => (Length::Known(len), Outgoing::Bodiless),
            Some(len) => (Length::Known(len), Outgoing::Length(len)),
            None if facts.old => {
                self.closing = true;
                (Length::Unsaid, Outgoing::UntilClose)
            }
            None => (Length::Chunked, Outgoing::Chunked),
        };
        exchange.outgoing = if facts.head_only { Outgoing::Bodiless } else { outgoing };
        let persistence = match (self.closing, facts.old) {
            (true, _) => Persistence::Close,
            (false, true) => Persistence::KeepAlive,
            (false, false) => Persistence::Default,
        };
        let stamp = Stamp { server: self.server, date: self.date, seconds };
        encode::head(self.write_queue.tail(), status, fields, said, persistence, stamp);
        !matches!(self.outgoing(), Outgoing::Bodiless | Outgoing::Length(0))
    }

    /// Queues the head after which the connection is no longer HTTP: 101, or 200 for a CONNECT. The transport can be
    /// handed over once the write_queue is empty; what the peer sent early is in the read_buffer.
    ///
    /// # Panics
    /// If no response is owed.
    pub fn switch(&mut self, status: StatusCode, fields: &[(HeaderName, HeaderValue)], seconds: u64) {
        let State::Exchange(exchange) = &mut self.state else { panic!("there is no request to answer") };
        assert!(exchange.outgoing == Outgoing::Awaited, "the request was answered already");
        let persistence = match status {
            StatusCode::SWITCHING_PROTOCOLS => Persistence::Upgrade,
            _ => Persistence::Default,
        };
        let stamp = Stamp { server: self.server, date: self.date, seconds };
        encode::head(self.write_queue.tail(), status, fields, Length::Unsaid, persistence, stamp);
        self.state = State::Closed;
    }

    /// Queues a piece of the response's body.
    ///
    /// # Errors
    /// [`WrongLength`] if that is more than the head said; the connection can only be cut then.
    pub fn send(&mut self, data: Bytes) -> Result<(), WrongLength> {
        let State::Exchange(exchange) = &mut self.state else { return Err(WrongLength) };
        match &mut exchange.outgoing {
            // An empty chunk would be the last.
            _ if data.is_empty() => {}
            Outgoing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                self.write_queue.push(data);
            }
            Outgoing::Chunked => {
                encode::chunk_size(self.write_queue.tail(), data.len());
                self.write_queue.push(data);
                self.write_queue.tail().extend_from_slice(b"\r\n");
            }
            Outgoing::UntilClose => self.write_queue.push(data),
            Outgoing::Bodiless => {}
            Outgoing::Awaited | Outgoing::Done => return Err(WrongLength),
        }
        Ok(())
    }

    /// Ends the response.
    ///
    /// # Errors
    /// [`WrongLength`] if its body is shorter than the head said; the connection can only be cut then.
    pub fn finish(&mut self) -> Result<(), WrongLength> {
        let State::Exchange(exchange) = &mut self.state else { return Err(WrongLength) };
        match exchange.outgoing {
            Outgoing::Awaited => return Err(WrongLength),
            Outgoing::Length(left) if left > 0 => return Err(WrongLength),
            Outgoing::Chunked => self.write_queue.tail().extend_from_slice(b"0\r\n\r\n"),
            _ => {}
        }
        exchange.outgoing = Outgoing::Done;
        Ok(())
    }

    /// Queues the response that tells the peer what it did wrong, and ends the connection. Nothing is queued if a
    /// response has begun already.
    pub fn refuse(&mut self, error: Error, seconds: u64) {
        let (begun, head_only) = match &self.state {
            State::Exchange(Exchange { outgoing, facts, .. }) => {
                (!matches!(outgoing, Outgoing::Awaited | Outgoing::Done), facts.head_only)
            }
            State::Broken { head_only } => (false, *head_only),
            State::Head(_) | State::Closed => (false, self.read_buffer.as_slice().starts_with(b"HEAD ")),
        };
        if !begun {
            const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
            let text = error.to_string();
            let stamp = Stamp { server: self.server, date: self.date, seconds };
            let length = Length::Known(text.len() as u64);
            let fields =
                [(header::CONTENT_TYPE, TEXT), (header::RETRY_AFTER, HeaderValue::from(Error::RETRY_AFTER))];
            let said = if error == Error::Overload { &fields[..] } else { &fields[..1] };
            let tail = self.write_queue.tail();
            encode::head(tail, error.status(), said, length, Persistence::Close, stamp);
            if !head_only {
                tail.extend_from_slice(text.as_bytes());
            }
        }
        self.close();
        self.refused = true;
    }

    /// Ends the connection: nothing more is read from it.
    pub fn close(&mut self) {
        self.refused |= self.is_body_pending();
        self.closing = true;
        self.state = State::Closed;
    }

    /// A request begins.
    #[inline]
    fn begin(&mut self, facts: Facts, request: &mut Request) -> Result<(), Error> {
        if facts.framing != Framing::Length(0) {
            return self.begin_with_body(facts, request);
        }
        self.state = State::Exchange(Exchange {
            incoming: Incoming::Done,
            outgoing: Outgoing::Awaited,
            facts,
            awaits_continue: false,
            drained: 0,
            failure: None,
        });
        Ok(())
    }

    /// A request begins that has a body, as far as it is here.
    fn begin_with_body(&mut self, facts: Facts, request: &mut Request) -> Result<(), Error> {
        // Unless it turns out to be fine.
        self.state = State::Broken { head_only: facts.head_only };
        let has_begun = !self.read_buffer.is_empty();
        let (incoming, body) = match facts.framing {
            Framing::Length(len) if len > self.limits.body => return Err(Error::BodyTooLarge),
            Framing::Length(len) if len <= self.read_buffer.len() as u64 => {
                (Incoming::Done, Body::from(self.read_buffer.take(len as usize)))
            }
            Framing::Length(len) => (Incoming::Length(len), Body::empty()),
            Framing::Chunked => self.begin_chunked()?,
        };
        let awaits_continue = facts.expects_continue && !has_begun;
        self.state = State::Exchange(Exchange {
            incoming,
            outgoing: Outgoing::Awaited,
            facts,
            awaits_continue,
            drained: 0,
            failure: None,
        });
        request.inner_mut().body = body;
        Ok(())
    }

    /// What there is of a chunked body: most are here as a whole, and what is wrong with one that is must not depend
    /// on whether a handler looks.
    fn begin_chunked(&mut self) -> Result<(Incoming, Body), Error> {
        let mut decoder = Decoder::new();
        let (mut first, mut rest) = (Bytes::new(), Vec::new());
        let is_whole = loop {
            match decoder.next(&mut self.read_buffer, &self.limits)? {
                Chunk::Data(data) if first.is_empty() => first = data,
                Chunk::Data(data) => rest.extend_from_slice(&data),
                Chunk::NeedBytes => break false,
                Chunk::End => break true,
            }
        };
        if !rest.is_empty() {
            first = Bytes::from([&first[..], &rest].concat());
        }
        Ok(match is_whole {
            true => (Incoming::Done, Body::from(first)),
            false => {
                let chunks = Chunks { decoder, arrived: BytesMut::from(first), error: None };
                (Incoming::Chunked(Box::new(chunks)), Body::empty())
            }
        })
    }

    /// Reads on in a body that its handler left unread. `None` once it is behind.
    fn drain(&mut self) -> Option<Event> {
        loop {
            if self.closing {
                self.close();
                return Some(Event::Finished);
            }
            let piece = self.next_piece();
            let State::Exchange(exchange) = &mut self.state else { return Some(Event::Finished) };
            match piece {
                Ok(Piece::End) => return None,
                Ok(Piece::Data(ref data)) => exchange.drained += data.len() as u64,
                Ok(Piece::NeedBytes) => {}
                Err(_) => self.closing = true,
            }
            let coming = match exchange.incoming {
                Incoming::Length(left) => left,
                _ => 0,
            };
            if exchange.drained.saturating_add(coming) > self.limits.drain {
                self.closing = true;
            } else if matches!(piece, Ok(Piece::NeedBytes)) {
                return Some(Event::NeedBytes);
            }
        }
    }

    /// What is in the read_buffer is no head.
    fn broken(&mut self, error: Error) -> Event {
        self.state = State::Broken { head_only: self.read_buffer.as_slice().starts_with(b"HEAD ") };
        Event::Refused(error)
    }

    fn outgoing(&self) -> Outgoing {
        match &self.state {
            State::Exchange(exchange) => exchange.outgoing,
            _ => Outgoing::Done,
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Head(_) => "head",
            State::Exchange(_) => "exchange",
            State::Broken { .. } => "broken",
            State::Closed => "closed",
        };
        f.debug_struct("Connection")
            .field("state", &state)
            .field("closing", &self.closing)
            .field("read_buffer", &self.read_buffer.len())
            .field("write_queue", &self.write_queue.len())
            .finish_non_exhaustive()
    }
}

/// A response's body was not as long as its head said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response body is not as long as its head says")
    }
}

impl std::error::Error for WrongLength {}

/// Whether a response of this status has a body, and is final.
#[inline]
fn has_body(status: StatusCode) -> bool {
    status.as_u16() >= 200 && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// Whether a handler wants the connection closed.
#[inline]
fn asks_to_close(fields: &[(HeaderName, HeaderValue)]) -> bool {
    fields
        .iter()
        .any(|(name, value)| *name == header::CONNECTION && value.as_bytes().eq_ignore_ascii_case(b"close"))
}

/// The length that a handler gave where there is no body to measure.
fn content_length(fields: &[(HeaderName, HeaderValue)], head_only: bool) -> Length {
    let given = fields.iter().find(|(name, _)| *name == header::CONTENT_LENGTH);
    match given.and_then(|(_, value)| value.to_str().ok()?.parse().ok()) {
        Some(len) => Length::Known(len),
        None if head_only => Length::Known(0),
        None => Length::Unsaid,
    }
}
