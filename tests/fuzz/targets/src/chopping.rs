//! The same bytes give the same requests, bodies, refusals and responses, however they are chopped, and whether bodies
//! are buffered or not.

use std::sync::Arc;

use gearshift_core::h1::{Buffered, Connection, Error, Event, Piece};
use gearshift_core::{Body, BodyError, Limits, Request, Response, StatusCode};

use crate::chunked::Content;
use crate::input::{Choices, Input, forget};
use crate::pieces::{Cuts, Pieces};

/// Runs the wire of `input` through several connections, chopped in different ways.
pub fn chopping(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let mut limits = choices.limits();
    // A body that arrived with its head is never drained, so a limit of draining depends on the chopping.
    limits.drain = u64::MAX;
    let limits = Arc::new(limits);
    let run =
        |cuts, body_buffer| Run::new(Pieces::new(wire, cuts), choices.clone(), &limits, body_buffer).seen();
    forget();
    let whole = run(Cuts::None, 0);
    let some = Cuts::Some(choices.clone());
    let body_buffer = choices.clone().of(&[3, 1 << 20]);
    for (cuts, body_buffer) in [(Cuts::All, 0), (some.clone(), 0), (Cuts::None, 0), (some, body_buffer)] {
        let seen = run(cuts, body_buffer);
        assert_eq!(seen.events, whole.events);
        assert!(seen.output == whole.output, "other bytes were sent");
    }
}

/// What a connection did.
#[derive(Debug, Default)]
struct Seen {
    /// The events, as text.
    events: Vec<String>,
    output: Vec<u8>,
}

struct Run<'a> {
    connection: Connection,
    limits: Arc<Limits>,
    pieces: Pieces<'a>,
    choices: Choices<'a>,
    /// Bodies of at most this size are awaited before they are read; 0: none.
    body_buffer: usize,
    seen: Seen,
}

impl<'a> Run<'a> {
    fn new(pieces: Pieces<'a>, choices: Choices<'a>, limits: &Arc<Limits>, body_buffer: usize) -> Run<'a> {
        Run {
            connection: Connection::new(limits.clone(), false, false),
            limits: limits.clone(),
            pieces,
            choices,
            body_buffer,
            seen: Seen::default(),
        }
    }

    fn seen(mut self) -> Seen {
        loop {
            match self.connection.next_event() {
                Event::NeedBytes => self.receive(),
                Event::Request(request) => self.exchange(request),
                Event::AwaitResponse => panic!("every request was answered at once"),
                Event::Refused(error) => self.refuse(error),
                Event::Finished => break,
            }
        }
        self.send();
        self.seen
    }

    fn refuse(&mut self, error: Error) {
        self.connection.refuse(error, 0);
        self.seen.events.push(format!("refused: {error:?}"));
    }

    /// Receives the next piece of the wire.
    fn receive(&mut self) {
        match self.pieces.next() {
            Some(piece) => self.connection.read_buffer.extend(piece),
            None => {
                assert!(!self.connection.has_ended(), "bytes are wanted of a peer that sends no more");
                self.connection.received_end();
            }
        }
    }

    /// Moves the queued bytes to the output, without `100 Continue`, which depends on the chopping.
    fn send(&mut self) {
        let write_queue = &mut self.connection.write_queue;
        while !write_queue.is_empty() {
            let chunk = write_queue.front();
            if chunk != b"HTTP/1.1 100 Continue\r\n\r\n" {
                self.seen.output.extend_from_slice(chunk);
            }
            write_queue.sent(chunk.len());
        }
    }

    fn exchange(&mut self, request: Request) {
        let choice = self.choices.byte();
        let (method, target) = (request.method(), request.target());
        let mut seen = format!("{method} {target} {:?} {:?}", request.version(), request.headers());
        // A peer that waits for `100 Continue` and is answered without it may not send the body, unless the body is
        // here already. A fault in chunks is reported if they came with their head, or if they are read.
        let headers = request.headers();
        let reads = choice % 4 != 1 || headers.contains("expect") || headers.contains("transfer-encoding");
        let mut content = Content { data: Vec::new(), trailers: None };
        let buffered = self.buffer();
        if reads {
            let at_hand = buffered.unwrap_or_else(|| request.into_body());
            content = Content::at_hand(at_hand);
            let end = match self.read(&mut content) {
                Ok(()) => "whole".to_owned(),
                Err(BodyError::Malformed(error)) => return self.refuse(error),
                Err(BodyError::TooLarge { .. }) => return self.refuse(Error::BodyTooLarge),
                Err(error) => error.to_string(),
            };
            seen += &format!(" {:?} {:?} {end}", String::from_utf8_lossy(&content.data), content.trailers);
        }
        let Content { data: body, trailers } = content;
        self.seen.events.push(seen);
        self.send();
        let status = if choice % 8 == 2 { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        match choice % 3 {
            0 => {
                self.connection.respond_whole(&mut Response::new(body).with_status(status), 0);
            }
            _ => {
                let length = (choice % 3 == 1).then_some(body.len() as u64);
                if self.connection.respond(status, &[], length, 0) {
                    self.connection.send(body.into()).expect("it is as long as was said");
                }
                let finished = match trailers {
                    Some(trailers) => self.connection.finish_with_trailers(&trailers),
                    None => self.connection.finish(),
                };
                finished.expect("it is as long as was said");
            }
        }
        self.send();
    }

    /// Awaits a small body, as the driver does on a blocking backend. `None` if what is at hand came with the head.
    fn buffer(&mut self) -> Option<Body> {
        if self.body_buffer == 0 || !self.connection.is_body_pending() || self.connection.awaits_continue() {
            return None;
        }
        self.send();
        loop {
            match self.connection.buffer_body(self.body_buffer) {
                Buffered::Whole(body) => return Some(body),
                Buffered::Partial => return None,
                Buffered::NeedBytes => {
                    let held = self.connection.read_buffer.len();
                    let max = self.body_buffer.max(self.limits.head);
                    assert!(held <= max, "{held} bytes are held, and more are wanted");
                    self.receive();
                }
            }
        }
    }

    /// Reads the rest of a body as the driver does, which asks for it by `100 Continue`.
    fn read(&mut self, content: &mut Content) -> Result<(), BodyError> {
        loop {
            match self.connection.next_piece()? {
                Piece::Data(data) => content.data.extend_from_slice(&data),
                Piece::Trailers(trailers) => content.take(*trailers),
                Piece::End => return Ok(()),
                Piece::NeedBytes => {
                    self.send();
                    self.connection.send_continue();
                    self.send();
                    self.receive();
                }
            }
        }
    }
}
