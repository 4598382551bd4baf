//! Every way to chop the bytes of a peer leads to the same requests, bodies, refusals and responses.

use std::io::Read;
use std::sync::Arc;

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::{BodyError, Limits, Request, Response, StatusCode};

use crate::input::{Choices, Input, forget};
use crate::pieces::{Cuts, Pieces};

/// Runs the wire of `input` through four connections, chopped in different ways.
pub fn chopping(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let mut limits = choices.limits();
    // A body that arrived with its head is never drained, so the limit on draining depends on the chopping.
    limits.drain = u64::MAX;
    let limits = Arc::new(limits);
    let run = |cuts| Run::new(Pieces::new(wire, cuts), choices.clone(), &limits).seen();
    forget();
    let whole = run(Cuts::None);
    for cuts in [Cuts::All, Cuts::Some(choices.clone()), Cuts::None] {
        let seen = run(cuts);
        assert_eq!(seen.events, whole.events);
        assert!(seen.output == whole.output, "other bytes were sent");
    }
}

/// The behaviour of a connection.
#[derive(Debug, Default)]
struct Seen {
    /// The events as text.
    events: Vec<String>,
    output: Vec<u8>,
}

struct Run<'a> {
    connection: Connection,
    pieces: Pieces<'a>,
    choices: Choices<'a>,
    seen: Seen,
}

impl<'a> Run<'a> {
    fn new(pieces: Pieces<'a>, choices: Choices<'a>, limits: &Arc<Limits>) -> Run<'a> {
        Run {
            connection: Connection::new(limits.clone(), false, false),
            pieces,
            choices,
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

    /// Delivers the next piece of the wire.
    fn receive(&mut self) {
        match self.pieces.next() {
            Some(piece) => self.connection.read_buffer_mut().extend(piece),
            None => {
                assert!(!self.connection.has_ended(), "bytes are wanted of a peer that sends no more");
                self.connection.received_end();
            }
        }
    }

    /// Moves queued bytes to the output, except `100 Continue`, which depends on whether the peer waited for it.
    fn send(&mut self) {
        while let Some(chunk) = self.connection.write_queue_mut().take_chunk() {
            if chunk != "HTTP/1.1 100 Continue\r\n\r\n" {
                self.seen.output.extend_from_slice(&chunk);
            }
        }
    }

    fn exchange(&mut self, request: Request) {
        let choice = self.choices.byte();
        let (method, target) = (request.method(), request.target());
        let mut seen = format!("{method} {target} {:?} {:?}", request.version(), request.headers());
        // A peer that is answered without `100 Continue` may omit the body, unless the body has arrived already. An
        // error in a chunk is reported if the chunk came with its head, or if it is read.
        let headers = request.headers();
        let reads = choice % 4 != 1 || headers.contains("expect") || headers.contains("transfer-encoding");
        let mut body = Vec::new();
        if reads {
            request.into_body().reader().read_to_end(&mut body).expect("bytes at hand can be read");
            let end = match self.read(&mut body) {
                Ok(()) => "whole".to_owned(),
                Err(BodyError::Malformed(error)) => return self.refuse(error),
                Err(BodyError::TooLarge { .. }) => return self.refuse(Error::BodyTooLarge),
                Err(error) => error.to_string(),
            };
            seen += &format!(" {:?} {end}", String::from_utf8_lossy(&body));
        }
        self.seen.events.push(seen);
        self.send();
        let status = if choice % 8 == 2 { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        match choice % 3 {
            0 => self.connection.respond_whole(Response::new(body).with_status(status), 0),
            _ => {
                let length = (choice % 3 == 1).then_some(body.len() as u64);
                if self.connection.respond(status, &[], length, 0) {
                    self.connection.send(body.into()).expect("it is as long as was said");
                }
                self.connection.finish().expect("it is as long as was said");
            }
        }
        self.send();
    }

    /// Reads the rest of a body as the driver does.
    fn read(&mut self, body: &mut Vec<u8>) -> Result<(), BodyError> {
        loop {
            match self.connection.next_piece()? {
                Piece::Data(data) => body.extend_from_slice(&data),
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
