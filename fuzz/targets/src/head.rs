//! One request head, held to the oracle: taken by both or by neither, and then the same.

use std::sync::Arc;

use gearshift_core::h1::{Connection, Event};
use gearshift_core::{Limits, Method, Request, Response, Version};

use crate::input::{Input, forget};
use crate::oracle::{self, Framing, Head, Stop};
use crate::pieces::{Cuts, Pieces};

/// Takes a head out of the wire of `input`, in one piece and in several.
pub fn head(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let limits = Arc::new(choices.limits());
    forget();
    // The second time it is the head that this thread has read last.
    for cuts in [Cuts::None, Cuts::None, Cuts::Some(choices.clone()), Cuts::All] {
        compare(wire, cuts, &limits);
    }
}

fn compare(wire: &[u8], cuts: Cuts<'_>, limits: &Arc<Limits>) {
    let mut connection = Connection::new(limits.clone(), false, false);
    let mut pieces = Pieces::new(wire, cuts);
    let event = loop {
        match (connection.next_event(), pieces.next()) {
            (Event::NeedBytes, Some(piece)) => connection.inbox_mut().extend(piece),
            (event, Some(piece)) => {
                connection.inbox_mut().extend(piece);
                break event;
            }
            (event, None) => break event,
        }
    };
    connection.inbox_mut().extend(pieces.rest());
    match (event, oracle::head(wire, limits)) {
        (Event::Request(request), Ok(expected)) => {
            check(&request, &expected);
            check_body(connection, request, &expected, &wire[expected.len..]);
        }
        (Event::Refused(error), Err(Stop::Wrong)) => {
            connection.refuse(error, 0);
            assert!(matches!(connection.next_event(), Event::Finished), "there is an event after a refusal");
        }
        (Event::NeedBytes, Err(Stop::Short)) => {}
        (Event::NeedBytes, Err(Stop::Wrong)) => assert!(
            !oracle::begins_no(wire, |lines| oracle::head(lines, limits).map(drop)),
            "a whole line that is wrong was not refused"
        ),
        (event, expected) => panic!("the connection says {event:?}, the grammar {expected:?}"),
    }
}

fn check(request: &Request, expected: &Head<'_>) {
    assert_eq!(request.method().as_str().as_bytes(), expected.method);
    assert_eq!(request.target().as_bytes(), expected.target);
    assert_eq!(request.path().as_bytes(), expected.path);
    assert_eq!(request.version(), if expected.is_old { Version::HTTP_10 } else { Version::HTTP_11 });
    let fields: Vec<_> =
        request.headers().into_iter().map(|(name, value)| (name.as_bytes(), value)).collect();
    assert_eq!(fields, expected.fields);
}

/// Compares what the connection makes of the head: how long the body is, and whether it stays open.
fn check_body(mut connection: Connection, request: Request, expected: &Head<'_>, rest: &[u8]) {
    let is_pending = connection.is_body_pending();
    match expected.framing {
        Framing::Chunked => {
            assert!(is_pending && connection.body_remaining().is_none(), "the body is not chunked");
        }
        Framing::Length(len) => {
            let taken = request.body().remaining().expect("it is not a stream");
            assert_eq!(if is_pending { connection.body_remaining() } else { Some(taken) }, Some(len));
            assert_eq!(connection.inbox().as_slice(), &rest[taken as usize..]);
            assert!(!is_pending || taken == 0, "a body is half taken");
        }
    }
    assert_eq!(connection.awaits_continue(), expected.expects && is_pending);
    let is_head = *request.method() == Method::HEAD;
    drop(request);
    connection.respond_whole(Response::text("hello"), 0);
    assert_eq!(connection.is_closing(), expected.closes || connection.awaits_continue());
    let answer = connection.outbox().front();
    assert_eq!(answer.ends_with(b"hello"), !is_head, "a body was sent to HEAD, or none to another method");
    let says_close = answer.windows(17).any(|window| window == b"Connection: close");
    assert_eq!(says_close, connection.is_closing(), "the peer is not told what becomes of the connection");
}
