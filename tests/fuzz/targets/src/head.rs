//! Request heads, compared with the oracle: both take a head and find the same parts, or both refuse it. Each head
//! begins where the body before it ends.

use std::sync::Arc;

use gearshift_core::h1::{Connection, Error, Event};
use gearshift_core::{Limits, Method, Request, Response, StatusCode, Version};

use crate::chunked::{self, Content};
use crate::input::{Input, forget};
use crate::oracle::{self, Framing, Head, Limit, Stop};
use crate::pieces::{Cuts, Pieces};

/// Reads heads from the wire of `input`, in one piece and in several.
pub fn head(input: &[u8]) {
    let Some(Input { mut choices, wire }) = Input::read(input) else { return };
    let limits = Arc::new(choices.limits());
    let others = Arc::new(choices.limits());
    forget();
    // The second run reads the heads that this thread has read last. A head within the limits of one server may be
    // beyond the limits of another.
    let cuts = [Cuts::None, Cuts::None, Cuts::None, Cuts::Some(choices.clone()), Cuts::All];
    for (cuts, limits) in cuts.into_iter().zip([&limits, &limits, &others, &limits, &others]) {
        compare(wire, cuts, limits);
    }
}

fn compare(wire: &[u8], cuts: Cuts<'_>, limits: &Arc<Limits>) {
    let mut connection = Connection::new(limits.clone(), false, false);
    let mut pieces = Pieces::new(wire, cuts);
    let mut wire = wire;
    loop {
        let event = loop {
            match connection.next_event() {
                Event::NeedBytes => match pieces.next() {
                    Some(piece) => connection.read_buffer.extend(piece),
                    None => break Event::NeedBytes,
                },
                event => break event,
            }
        };
        match (event, oracle::head(wire, limits)) {
            (Event::Request(request), Ok(expected)) => {
                check(&request, &expected);
                wire = &wire[expected.len..];
                let arrived = &wire[..wire.len() - pieces.rest().len()];
                assert_eq!(connection.awaits_continue(), expected.expects && arrived.is_empty());
                if expected.framing == Framing::Chunked {
                    chunked::check_taken(arrived, limits);
                }
                let is_head = *request.method() == Method::HEAD;
                let Some(len) = check_body(&mut connection, &mut pieces, request, &expected, limits, wire)
                else {
                    return;
                };
                wire = &wire[len..];
                check_answer(&mut connection, &expected, is_head);
                if expected.closes {
                    assert!(matches!(connection.next_event(), Event::Finished), "it should have closed");
                    return;
                }
            }
            (Event::Refused(error), Err(Stop::Wrong)) => {
                check_status(error.status(), wire, limits);
                return check_refusal(&mut connection, error, wire);
            }
            // Policy: the part of a chunked body that came with its head is judged with the head (docs/strictness.md,
            // Framing).
            (Event::Refused(error), Ok(expected)) if expected.framing == Framing::Chunked => {
                let arrived = &wire[expected.len..wire.len() - pieces.rest().len()];
                chunked::check_refused(error, arrived, limits);
                return check_refusal(&mut connection, error, wire);
            }
            (Event::NeedBytes, Err(Stop::Short)) => return,
            (Event::NeedBytes, Err(Stop::Wrong)) => {
                let is_unfinished = !oracle::begins_no(wire, |lines| oracle::head(lines, limits).map(drop));
                return assert!(is_unfinished, "a whole line that is wrong was not refused");
            }
            (event, expected) => panic!("the connection says {event:?}, the grammar {expected:?}"),
        }
    }
}

/// Checks that a refusal names a limit if the peer broke one, and only then.
fn check_status(status: StatusCode, wire: &[u8], limits: &Limits) {
    let broken = oracle::broken_limit(wire, limits);
    let mut lenient = limits.clone();
    lenient.body = u64::MAX;
    match status {
        StatusCode::URI_TOO_LONG => assert_eq!(broken, Some(Limit::RequestLine)),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => assert_eq!(broken, Some(Limit::Fields)),
        StatusCode::NOT_IMPLEMENTED if broken == Some(Limit::Method) => {}
        StatusCode::PAYLOAD_TOO_LARGE => {
            assert!(oracle::head(wire, &lenient).is_ok(), "the body is not all that is wrong");
        }
        _ => {
            (lenient.request_line, lenient.field_line) = (usize::MAX, usize::MAX);
            (lenient.fields, lenient.head) = (usize::MAX, usize::MAX);
            let is_wrong_anyway = matches!(oracle::head(wire, &lenient), Err(Stop::Wrong));
            assert!(is_wrong_anyway, "{status}, and something is too long");
        }
    }
}

/// Checks that the refusal is complete, without a body for HEAD (RFC 9110, 9.3.2), and that no event follows.
fn check_refusal(connection: &mut Connection, error: Error, wire: &[u8]) {
    let write_queue = &mut connection.write_queue;
    write_queue.sent(write_queue.len());
    connection.refuse(error, 0);
    assert!(matches!(connection.next_event(), Event::Finished), "there is an event after a refusal");
    let answer = connection.write_queue.front();
    let end = if oracle::asks_for_head_only(wire) { String::new() } else { error.to_string() };
    assert!(answer.ends_with(format!("\r\n\r\n{end}").as_bytes()), "a refusal ends in the wrong place");
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

/// Reads the body, which has to be at the start of `wire`. Returns its length there, if it is complete.
fn check_body(
    connection: &mut Connection,
    pieces: &mut Pieces<'_>,
    request: Request,
    expected: &Head<'_>,
    limits: &Limits,
    wire: &[u8],
) -> Option<usize> {
    let is_pending = connection.is_body_pending();
    let mut content = Content::at_hand(request.into_body());
    match expected.framing {
        Framing::Chunked => {
            assert_eq!(connection.body_remaining(), if is_pending { None } else { Some(0) });
            assert!(!is_pending || content.data.is_empty(), "a body is half taken");
            let end = chunked::read(connection, pieces, &mut content);
            chunked::check(connection, pieces, &content, &end, limits, wire)
        }
        Framing::Length(len) => {
            assert!(!is_pending || content.data.is_empty(), "a body is half taken");
            assert_eq!(connection.body_remaining(), Some(if is_pending { len } else { 0 }));
            let end = chunked::read(connection, pieces, &mut content);
            let here = usize::try_from(len).unwrap_or(usize::MAX).min(wire.len());
            assert_eq!((&*content.data, content.trailers), (&wire[..here], None));
            assert_eq!(end.expect("any bytes will do"), here as u64 == len);
            (here as u64 == len).then_some(here)
        }
    }
}

/// Answers, and checks that the response says whether the connection closes.
fn check_answer(connection: &mut Connection, expected: &Head<'_>, is_head: bool) {
    let write_queue = &mut connection.write_queue;
    write_queue.sent(write_queue.len());
    connection.respond_whole(&mut Response::text("hello"), 0);
    assert_eq!(connection.is_closing(), expected.closes);
    let answer = connection.write_queue.front();
    // A 200 to CONNECT would open a tunnel.
    let is_replaced = expected.method == b"CONNECT";
    assert_eq!(answer.starts_with(b"HTTP/1.1 501"), is_replaced);
    let has_body = !is_head && !is_replaced;
    assert_eq!(answer.ends_with(b"hello"), has_body, "a body was sent to HEAD, or none to another method");
    let says_close = answer.windows(17).any(|window| window == b"Connection: close");
    assert_eq!(says_close, expected.closes, "the response does not say whether the connection closes");
}
