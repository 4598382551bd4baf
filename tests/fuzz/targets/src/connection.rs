//! A whole connection, driven as the driver does it, and in other ways that are allowed: bodies read, half read or
//! left, responses of all kinds, changes of protocol, refusals at any time. Invariants are asserted at each step, and
//! a client reads the output at the end.

use std::sync::Arc;

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::header::{self, HeaderName, HeaderValue};
use gearshift_core::{BodyError, Bytes, HeaderMap, Limits, Method, Request, Response, StatusCode, Version};

use crate::answers::{self, Expected};
use crate::input::{Choices, Input, forget};
use crate::pieces::{Cuts, Pieces};

/// The `Content-Length` that a handler may set.
const PROMISED: usize = 7;

/// Drives a connection by the script of `input` until nothing more can come of it.
pub fn connection(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let limits = Arc::new(choices.limits());
    let cuts = match choices.byte() % 3 {
        0 => Cuts::None,
        1 => Cuts::All,
        _ => Cuts::Some(choices.clone()),
    };
    forget();
    let mut rig = Rig {
        connection: Connection::new(limits.clone(), choices.byte() % 2 == 1, choices.byte() % 2 == 1),
        pieces: Pieces::new(wire, cuts),
        limits,
        choices,
        output: Vec::new(),
        expected: Vec::new(),
        is_last: false,
        has_switched: false,
    };
    // Each turn takes a piece or an exchange, and each of those takes at least one byte.
    let mut turns = 4 * wire.len() + 8;
    while rig.turn() {
        turns = turns.checked_sub(1).expect("the connection goes round in circles");
    }
    rig.end();
}

struct Rig<'a> {
    connection: Connection,
    pieces: Pieces<'a>,
    limits: Arc<Limits>,
    choices: Choices<'a>,
    output: Vec<u8>,
    expected: Vec<Expected>,
    /// No request may come any more.
    is_last: bool,
    /// The connection is no longer HTTP.
    has_switched: bool,
}

/// The current request.
struct Asked {
    is_head: bool,
    is_connect: bool,
    is_old: bool,
    /// The length of its body by its fields. `None` if the body is chunked.
    length: Option<u64>,
    /// Bytes of its body that were taken.
    taken: u64,
    /// The value of its first field `Upgrade`.
    offer: Option<HeaderValue>,
    /// `100 Continue` has to be sent before 101.
    awaits_continue: bool,
}

impl Asked {
    /// The status that the peer gets instead of one that cannot answer the request.
    fn status_instead(&self, status: StatusCode) -> Option<StatusCode> {
        if status.is_informational() {
            return Some(StatusCode::INTERNAL_SERVER_ERROR);
        }
        (self.is_connect && status.is_success()).then_some(StatusCode::NOT_IMPLEMENTED)
    }
}

impl Rig<'_> {
    /// Handles one event. `false` if it was the last.
    fn turn(&mut self) -> bool {
        match self.connection.next_event() {
            Event::NeedBytes => {
                let held = self.connection.read_buffer.len();
                assert!(held <= self.limits.head, "{held} bytes are held, and more are wanted");
                let unread = self.connection.body_remaining();
                assert!(
                    unread.is_none_or(|unread| unread <= self.limits.drain),
                    "too much is read for nobody"
                );
                return self.receive();
            }
            Event::Request(request) => {
                assert!(!self.is_last, "a request is read after the last one");
                self.exchange(request);
            }
            Event::AwaitResponse => panic!("the request was answered"),
            Event::Refused(error) => {
                // The `head` target checks whether the refusal of a HEAD has a body.
                self.refuse(error, Some(None));
                assert!(
                    self.connection.must_linger() || self.connection.has_ended(),
                    "the refusal may be lost"
                );
            }
            Event::Finished => return false,
        }
        if self.choices.byte().is_multiple_of(4) {
            self.send();
        }
        true
    }

    /// Receives the next piece of the wire, or its end, or lets a deadline pass.
    fn receive(&mut self) -> bool {
        assert!(!self.connection.has_ended(), "bytes are wanted of a peer that sends no more");
        self.send();
        match self.pieces.next() {
            Some(piece) => {
                // Both ways to fill the buffer.
                match self.choices.byte() % 2 {
                    0 if piece.len() <= self.connection.read_buffer.spare_mut().len() => {
                        self.connection.read_buffer.spare_mut()[..piece.len()].copy_from_slice(piece);
                        self.connection.read_buffer.filled(piece.len());
                    }
                    _ => self.connection.read_buffer.extend(piece),
                }
            }
            None if self.choices.byte() % 4 == 1 && self.connection.is_head_begun() => {
                let is_head = self.connection.read_buffer.as_slice().starts_with(b"HEAD ");
                self.refuse(Error::HeadTimeout, Some(Some(is_head)));
            }
            None => self.connection.received_end(),
        }
        true
    }

    /// Moves the queued bytes to the output, in chunks or in writes of any length.
    fn send(&mut self) {
        let write_queue = &mut self.connection.write_queue;
        while !write_queue.is_empty() {
            let before = write_queue.len();
            let front = write_queue.front();
            let n = match self.choices.byte() {
                0 => front.len(),
                n => (usize::from(n) * 16).min(front.len()),
            };
            self.output.extend_from_slice(&front[..n]);
            write_queue.sent(n);
            assert!(n > 0 && write_queue.len() == before - n, "{n} of {before} bytes were taken");
        }
        write_queue.release();
        self.connection.read_buffer.release();
    }

    /// Refuses. `told`: whether the peer receives the refusal, and whether it has no body (`None`: that depends on the
    /// request).
    fn refuse(&mut self, error: Error, told: Option<Option<bool>>) {
        self.connection.refuse(error, 0);
        if let Some(is_bodiless) = told {
            self.expect(error.status(), error.to_string().into_bytes(), is_bodiless);
        }
        self.is_last = true;
    }

    fn expect(&mut self, status: StatusCode, body: Vec<u8>, is_bodiless: Option<bool>) {
        let is_never =
            matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
        let is_bodiless = is_bodiless.map(|is_bodiless| is_bodiless || is_never);
        let body = if is_bodiless == Some(true) { Vec::new() } else { body };
        // Recorded now, because later reads may end the connection, too.
        let closes =
            (!status.is_informational() && !self.has_switched).then_some(self.connection.is_closing());
        self.expected.push(Expected {
            status: status.as_u16(),
            body,
            trailers: "",
            is_bodiless,
            closes,
            is_cut: false,
        });
    }

    fn exchange(&mut self, request: Request) {
        let length = match request.header("transfer-encoding") {
            Some(_) => None,
            None => {
                Some(request.header("content-length").map_or(0, |digits| digits.parse().expect("a number")))
            }
        };
        let mut asked = Asked {
            is_head: *request.method() == Method::HEAD,
            is_connect: *request.method() == Method::CONNECT,
            is_old: request.version() == Version::HTTP_10,
            length,
            // Only trailers hide the length of a body in memory.
            taken: request.body().remaining().unwrap_or(0),
            offer: request.headers().value("upgrade"),
            awaits_continue: request.version() == Version::HTTP_11
                && request.headers().get_all("expect").any(|value| !value.trim_ascii().is_empty()),
        };
        assert!(length.is_none() || request.body().remaining().is_some(), "a length is lost");
        assert!(length.is_none_or(|length| length <= self.limits.body), "a body is taken that is too large");
        match length {
            Some(length) => assert_eq!(self.connection.is_body_pending(), length != asked.taken),
            None => assert!(!self.connection.is_body_pending() || asked.taken == 0, "a body is half taken"),
        }
        assert!(!self.connection.is_idle() && !self.connection.is_head_begun());
        assert!(matches!(self.connection.next_event(), Event::AwaitResponse));
        if self.choices.byte() % 16 == 1 {
            self.connection.close_after_this();
        }
        let broke = match self.choices.byte() % 4 {
            0 => self.read(&mut asked, u64::MAX),
            1 => self.read(&mut asked, 1),
            2 => self.read(&mut asked, 20),
            _ => Ok(()),
        };
        match broke {
            Err(error) if self.choices.byte().is_multiple_of(2) => {
                self.respond_whole(&asked, Response::text(error.to_string()).with_status(error.status()));
            }
            _ => self.answer(&mut asked),
        }
        self.is_last |= self.connection.is_closing();
    }

    /// Takes pieces of a body, up to `max` bytes.
    fn read(&mut self, asked: &mut Asked, max: u64) -> Result<(), BodyError> {
        while asked.taken < max {
            assert!(matches!(self.connection.next_event(), Event::AwaitResponse));
            match self.connection.next_piece() {
                Ok(Piece::Data(data)) => {
                    assert!(!data.is_empty(), "a piece is empty");
                    asked.taken += data.len() as u64;
                    assert!(
                        asked.taken <= asked.length.unwrap_or(self.limits.body),
                        "there is too much of a body"
                    );
                    let left = asked.length.map(|length| length - asked.taken);
                    assert_eq!(self.connection.body_remaining(), left);
                }
                Ok(Piece::Trailers(trailers)) => {
                    assert!(asked.length.is_none() && !trailers.is_empty(), "trailers without chunks");
                    assert!(!self.connection.is_body_pending(), "something follows the trailers");
                }
                Ok(Piece::End) => {
                    assert!(asked.length.is_none_or(|length| length == asked.taken), "a body ends too early");
                    assert!(!self.connection.is_body_pending());
                    break;
                }
                Ok(Piece::NeedBytes) => {
                    let held = self.connection.read_buffer.len();
                    assert!(held <= self.limits.head, "{held} bytes are held, and more are wanted");
                    let waited = self.connection.awaits_continue();
                    assert!(!waited || held == 0 && asked.taken == 0, "some of the body has come");
                    assert_eq!(self.connection.send_continue(), waited);
                    if waited {
                        asked.awaits_continue = false;
                        self.expect(StatusCode::CONTINUE, Vec::new(), Some(true));
                    }
                    assert!(!self.connection.send_continue(), "100 Continue is sent twice");
                    if self.pieces.rest().is_empty() && self.choices.byte() % 4 == 1 {
                        return Err(self.connection.break_body(BodyError::TimedOut));
                    }
                    self.receive();
                }
                Err(error) => {
                    assert!(matches!(self.connection.next_piece(), Err(BodyError::Incomplete)));
                    assert!(self.connection.is_closing());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn answer(&mut self, asked: &mut Asked) {
        match self.choices.byte() % 8 {
            0..=2 => {
                let (status, body) = (self.status(), self.body());
                let mut response = Response::new(body).with_status(status);
                for (name, value) in self.fields() {
                    response = response.append_header(name, value);
                }
                self.respond_whole(asked, response);
            }
            3 | 4 => self.stream(asked),
            5 => self.switch(asked),
            6 => self.refuse(Error::HeadTimeout, Some(Some(asked.is_head))),
            7 => {
                let may_send = self.connection.is_body_pending() && !self.connection.has_ended();
                self.connection.close();
                assert!(self.connection.must_linger() || !may_send, "what was sent may be lost");
                self.is_last = true;
            }
            _ => self.respond_whole(asked, Response::status_only(StatusCode::OK)),
        }
    }

    /// Changes the protocol, if the request allows it and its body was taken.
    fn switch(&mut self, asked: &Asked) {
        let status = self.choices.of(&[StatusCode::SWITCHING_PROTOCOLS, StatusCode::OK]);
        let fields: Vec<_> = asked.offer.iter().map(|offer| (header::UPGRADE, offer.clone())).collect();
        if self.connection.is_body_pending() || !self.connection.may_switch(status, &fields) {
            return self.respond_whole(asked, Response::status_only(StatusCode::OK));
        }
        self.connection.switch(status, &fields, 0);
        self.has_switched = true;
        if asked.awaits_continue && status.is_informational() {
            self.expect(StatusCode::CONTINUE, Vec::new(), Some(true));
        }
        self.expect(status, Vec::new(), Some(true));
        self.is_last = true;
    }

    fn respond_whole(&mut self, asked: &Asked, response: Response) {
        let status = response.status();
        let body = response.body().remaining().expect("it is not a stream");
        let bytes = vec![b'b'; body as usize];
        // The text of an error is other bytes, of which there are as many.
        let mut response = if body > 0 { replace_body(response, bytes.clone()) } else { response };
        let waits = self.connection.awaits_continue();
        self.connection.respond_whole(&mut response, 0);
        assert!(self.connection.is_closing() || !waits, "it is not known what the peer sends next");
        match asked.status_instead(status) {
            Some(instead) => self.expect(instead, Vec::new(), Some(asked.is_head)),
            None => self.expect(status, bytes, Some(asked.is_head)),
        }
    }

    /// A response in pieces, of a length that is said or not; sometimes it is not of that length, or the connection
    /// is refused meanwhile.
    fn stream(&mut self, asked: &mut Asked) {
        let (status, mut body, fields) = (self.status(), self.body(), self.fields());
        let mut length = (self.choices.byte().is_multiple_of(2)).then_some(body.len() as u64);
        let waits = self.connection.awaits_continue();
        let follows = self.connection.respond(status, &fields, length, 0);
        // A body of unknown length has the length that the fields say.
        if length.is_none() && fields.iter().any(|(name, _)| name == header::CONTENT_LENGTH) {
            body.resize(PROMISED, b'b');
            length = Some(PROMISED as u64);
        }
        assert!(self.connection.is_closing() || !waits, "it is not known what the peer sends next");
        assert!(matches!(self.connection.next_event(), Event::AwaitResponse));
        let (status, sends) = match asked.status_instead(status) {
            Some(instead) => (instead, false),
            None => (status, true),
        };
        self.expect(status, if sends { body.clone() } else { Vec::new() }, Some(asked.is_head));
        let is_bodiless = self.expected.last().is_some_and(|expected| expected.is_bodiless == Some(true));
        assert_eq!(follows, sends && !is_bodiless && length != Some(0));
        assert!(!asked.is_old || length.is_some() || is_bodiless || !sends || self.connection.is_closing());
        if follows {
            let fault = self.choices.byte() % 16;
            let mut sent = 0;
            for piece in body.chunks(1 + usize::from(self.choices.byte())) {
                if fault == 1 && sent > 0 {
                    return self.cut(sent, length);
                }
                self.connection.send(Bytes::copy_from_slice(piece)).expect("it is as long as was said");
                sent += piece.len();
                if self.choices.byte().is_multiple_of(4) {
                    self.send();
                }
                // The request's body may still be read while the response is sent.
                if self.choices.byte() % 8 == 1 {
                    let _ = self.connection.next_piece();
                }
            }
            if fault == 2 && length.is_some() {
                assert!(
                    self.connection.send(Bytes::from_static(b"more")).is_err(),
                    "more was sent than was said"
                );
            }
        }
        self.connection.send(Bytes::new()).expect("nothing is never too much");
        let finished = match self.choices.byte() % 4 {
            1 => {
                let mut trailers = HeaderMap::new();
                for name in ["x-a", "content-length", "te", "if-match", "x-b"] {
                    trailers.insert(name, HeaderValue::from_static("c"));
                }
                if let Some(expected) = self.expected.last_mut() {
                    expected.trailers = "X-A: c\r\nX-B: c\r\n";
                }
                self.connection.finish_with_trailers(&trailers)
            }
            _ => self.connection.finish(),
        };
        finished.expect("it is as long as was said");
    }

    /// Ends a response before its body does.
    fn cut(&mut self, sent: usize, length: Option<u64>) {
        if length.is_some() {
            assert!(self.connection.finish().is_err(), "a response is shorter than was said");
        }
        let expected = self.expected.last_mut().expect("a response has begun");
        expected.body.truncate(sent);
        expected.is_cut = true;
        match self.choices.byte() % 2 {
            0 => self.refuse(Error::HeadTimeout, None),
            _ => self.connection.close(),
        }
        self.is_last = true;
    }

    /// Nothing comes of a connection that has ended, whatever it receives.
    fn end(mut self) {
        self.send();
        self.connection.read_buffer.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(self.connection.next_event(), Event::Finished));
        assert!(matches!(self.connection.next_piece(), Err(BodyError::Gone)));
        assert!(!self.connection.is_body_pending() && !self.connection.awaits_continue());
        assert!(!self.connection.send_continue() && !self.connection.may_switch(StatusCode::OK, &[]));
        self.send();
        answers::check(&self.output, &self.expected);
    }

    fn status(&mut self) -> StatusCode {
        self.choices.of(&[
            StatusCode::OK,
            StatusCode::NOT_FOUND,
            StatusCode::NO_CONTENT,
            StatusCode::RESET_CONTENT,
            StatusCode::NOT_MODIFIED,
            StatusCode::CONTINUE,
            StatusCode::PAYLOAD_TOO_LARGE,
        ])
    }

    fn body(&mut self) -> Vec<u8> {
        let len = self.choices.of(&[0, 1, 9, 10, 100, 300, 4096, 4097, 20_000]);
        vec![b'b'; len]
    }

    fn fields(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let all = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            (header::CONNECTION, HeaderValue::from_static("Close")),
            (header::CONTENT_LENGTH, HeaderValue::from(PROMISED)),
            (header::TRANSFER_ENCODING, HeaderValue::from_static("chunked")),
            (header::DATE, HeaderValue::from_static("never")),
            (header::SERVER, HeaderValue::from_static("mine")),
            (header::UPGRADE, HeaderValue::from_static("x")),
        ];
        let choice = self.choices.byte();
        let chosen = all.into_iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1);
        chosen.map(|(_, field)| field).collect()
    }
}

fn replace_body(mut response: Response, body: Vec<u8>) -> Response {
    *response.body_mut() = body.into();
    response
}
