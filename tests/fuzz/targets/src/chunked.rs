//! The chunked coding, compared with the oracle: the same bytes and the same end. The bytes after the end are not
//! touched.

use std::io::Read;
use std::sync::Arc;

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::{BodyError, HeaderMap, Limits};

use crate::input::Input;
use crate::oracle::{self, Body, Stop};
use crate::pieces::{Cuts, Pieces};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Reads a chunked body from the wire of `input`, in one piece and in several.
pub fn chunked(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let mut limits = choices.limits();
    // The head has to be taken. The limits hold for trailers, too.
    limits.request_line = limits.request_line.max(HEAD.len());
    limits.field_line = limits.field_line.max(HEAD.len());
    limits.fields = limits.fields.max(2);
    limits.head = limits.head.max(HEAD.len());
    let limits = Arc::new(limits);
    for cuts in [Cuts::None, Cuts::Some(choices.clone()), Cuts::All] {
        compare(wire, cuts.clone(), &limits, false);
        compare(wire, cuts, &limits, true);
    }
}

/// Compares one way to chop the body. `is_with_head`: its first piece comes with the head.
fn compare(wire: &[u8], cuts: Cuts<'_>, limits: &Arc<Limits>, is_with_head: bool) {
    let mut connection = Connection::new(limits.clone(), false, false);
    let mut pieces = Pieces::new(wire, cuts);
    connection.read_buffer.extend(HEAD);
    if is_with_head && let Some(piece) = pieces.next() {
        connection.read_buffer.extend(piece);
    }
    let arrived = &wire[..wire.len() - pieces.rest().len()];
    let request = match connection.next_event() {
        Event::Request(request) => request,
        Event::Refused(error) => return check_refused(error, arrived, limits),
        event => panic!("a plain head was not taken: {event:?}"),
    };
    check_taken(arrived, limits);
    let mut content = Content::at_hand(request.into_body());
    let end = read(&mut connection, &mut pieces, &mut content);
    check(&connection, &pieces, &content, &end, limits, wire);
    check_end(connection, end);
}

/// The part of a body that was read.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Content {
    /// Reads a body that is in memory.
    pub(crate) fn at_hand(body: gearshift_core::Body) -> Content {
        let (mut reader, mut data) = (body.reader(), Vec::new());
        reader.read_to_end(&mut data).expect("bytes at hand can be read");
        Content { data, trailers: reader.trailers().expect("trailers at hand can be read") }
    }

    /// Takes trailers, which come once.
    pub(crate) fn take(&mut self, trailers: HeaderMap) {
        assert!(!trailers.is_empty(), "there are no trailers");
        assert_eq!(self.trailers.replace(trailers), None, "trailers come twice");
    }

    /// The trailers, by name and in the order of their lines.
    fn fields(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let fields = self.trailers.iter().flatten();
        sorted(fields.map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect())
    }
}

/// Sorts fields by their names. Those with the same name stay in order.
fn sorted(mut fields: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}

/// Reads a body to its end. `false`: the wire ended before.
pub(crate) fn read(
    connection: &mut Connection,
    pieces: &mut Pieces<'_>,
    content: &mut Content,
) -> Result<bool, BodyError> {
    loop {
        match connection.next_piece()? {
            Piece::NeedBytes => {
                connection.send_continue();
                match pieces.next() {
                    Some(piece) => connection.read_buffer.extend(piece),
                    None => return Ok(false),
                }
            }
            Piece::Data(piece) => {
                assert!(!piece.is_empty(), "a piece is empty");
                assert_eq!(content.trailers, None, "data follows trailers");
                content.data.extend_from_slice(&piece);
            }
            Piece::Trailers(trailers) => content.take(*trailers),
            Piece::End => return Ok(true),
        }
    }
}

/// Compares what was read with what the grammar finds in `wire`. Returns the length of the coding, if it is complete.
pub(crate) fn check(
    connection: &Connection,
    pieces: &Pieces<'_>,
    content: &Content,
    end: &Result<bool, BodyError>,
    limits: &Limits,
    wire: &[u8],
) -> Option<usize> {
    let mut body = Body::default();
    let expected = oracle::chunked(wire, limits, &mut body);
    assert_eq!(content.data, body.data);
    assert_eq!(content.fields(), sorted(body.fields.clone()));
    if body.is_too_large {
        assert!(matches!(end, Err(BodyError::TooLarge { .. })), "the body is too large, and {end:?}");
        return None;
    }
    match (end, expected) {
        (Ok(true), Ok(len)) => {
            assert_eq!(connection.read_buffer.len() + pieces.rest().len(), wire.len() - len);
            return Some(len);
        }
        (Ok(false), Err(Stop::Short)) | (Err(BodyError::Malformed(_)), Err(Stop::Wrong)) => {}
        (Ok(false), Err(Stop::Wrong)) => check_unfinished(&body, wire, limits),
        (end, expected) => panic!("the connection says {end:?}, the grammar {expected:?}"),
    }
    None
}

/// Checks that the fault is in a trailer line whose end has not arrived.
fn check_unfinished(body: &Body, wire: &[u8], limits: &Limits) {
    let trailers = &wire[body.trailers.expect("only trailers are judged by the line")..];
    let is_unfinished =
        !oracle::begins_no(trailers, |lines| oracle::trailer_section(lines, limits).map(drop));
    assert!(is_unfinished, "a whole line that is wrong was not refused");
}

/// Checks a request that was taken: nothing is wrong with the part of its body that had `arrived`.
pub(crate) fn check_taken(arrived: &[u8], limits: &Limits) {
    let mut body = Body::default();
    if oracle::chunked(arrived, limits, &mut body) == Err(Stop::Wrong) {
        check_unfinished(&body, arrived, limits);
    }
}

/// Checks a request that was refused for the part of its body that had `arrived`: something is wrong with it.
pub(crate) fn check_refused(error: Error, arrived: &[u8], limits: &Limits) {
    let mut body = Body::default();
    let end = oracle::chunked(arrived, limits, &mut body);
    assert_eq!(end, Err(Stop::Wrong), "{error:?}, and nothing is wrong");
    assert_eq!(error == Error::BodyTooLarge, body.is_too_large, "{error:?}");
}

/// Checks that another read gives the same result, and that a body that was cut is never complete.
fn check_end(mut connection: Connection, end: Result<bool, BodyError>) {
    connection.received_end();
    let again = connection.next_piece();
    match end {
        Ok(true) => {
            assert!(matches!(again, Ok(Piece::End)));
            assert!(!connection.is_body_pending() && connection.body_remaining() == Some(0));
        }
        _ => {
            assert!(matches!(again, Err(BodyError::Incomplete)), "a body that was cut gives {again:?}");
            assert!(connection.is_closing() && connection.is_body_pending());
        }
    }
}
