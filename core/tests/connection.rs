//! The sans-IO connection: the events and responses for given bytes, which do not depend on the sizes of the reads.

use std::sync::Arc;

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::{BodyError, Limits, Request, Response, StatusCode};
use http_body_util::BodyExt;
use proptest::prelude::*;

/// Feeds `pieces` to a connection and answers each request. Returns one line for each event, and the bytes of the
/// responses as the last line. `end` ends the peer's sending side after the pieces.
fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Arc<Limits>, end: bool) -> Vec<String> {
    let mut pieces = pieces.into_iter();
    let mut connection = connection(limits, "");
    // Returns false if the peer sends nothing more.
    let mut receive = |connection: &mut Connection| {
        match pieces.next() {
            Some(piece) => connection.read_buffer.extend(piece),
            None if end && !connection.has_ended() => connection.received_end(),
            None => return false,
        }
        true
    };
    let mut seen = Vec::new();
    let last = loop {
        let refusal = match connection.next_event() {
            Event::NeedBytes if receive(&mut connection) => continue,
            Event::NeedBytes => break "waits".to_owned(),
            Event::Request(request) => match read_body(&mut connection, request, &mut receive) {
                Ok(body) => {
                    seen.push(body);
                    connection.respond_whole(&mut Response::text("ok"), 0);
                    continue;
                }
                // A malformed body gets the same response before and after the call of a handler.
                Err(error) => error,
            },
            Event::AwaitResponse => unreachable!("every request is answered at once"),
            Event::Refused(error) => error,
            Event::Finished => break "finished".to_owned(),
        };
        connection.refuse(refusal, 0);
        break format!("refused: {refusal:?}");
    };
    seen.extend([last, String::from_utf8_lossy(connection.write_queue.front()).into_owned()]);
    seen
}

/// Reads the body of a request. Returns one line that describes the request.
fn read_body(
    connection: &mut Connection,
    request: Request,
    receive: &mut impl FnMut(&mut Connection) -> bool,
) -> Result<String, Error> {
    let head =
        format!("{} {} {:?} {:?}", request.method(), request.target(), request.version(), request.headers());
    let here = futures_lite::future::block_on(request.into_body().collect()).expect("the body is in memory");
    let mut trailers = here.trailers().cloned();
    let mut body = here.to_bytes().to_vec();
    let outcome = loop {
        match connection.next_piece() {
            Ok(Piece::Data(data)) => body.extend_from_slice(&data),
            Ok(Piece::Trailers(fields)) => trailers = Some(*fields),
            Ok(Piece::End) => break "whole".to_owned(),
            Ok(Piece::NeedBytes) if receive(connection) => {}
            Ok(Piece::NeedBytes) => break "unfinished".to_owned(),
            Err(BodyError::Malformed(error)) => return Err(error),
            Err(BodyError::TooLarge { .. }) => return Err(Error::BodyTooLarge),
            Err(error) => break error.to_string(),
        }
    };
    let trailers = trailers.map(|trailers| format!(" {trailers:?}")).unwrap_or_default();
    Ok(format!("{head} {:?}{trailers} {outcome}", String::from_utf8_lossy(&body)))
}

/// Creates a connection that has received `bytes`.
fn connection(limits: &Arc<Limits>, bytes: &str) -> Connection {
    let mut connection = Connection::new(limits.clone(), false, false);
    connection.read_buffer.extend(bytes.as_bytes());
    connection
}

#[test]
fn valid_requests_are_answered() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\n";
    for (wire, expected) in [
        (&[GET][..], &["GET", "waits"][..]),
        (&["\r\n", GET], &["GET", "waits"]),
        (&[GET, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"], &["GET", "GET", "waits"]),
        (
            &["GET / HTTP/1.1\r\nHost: a\r\nConnection: a, close\r\n\r\n", "GET / HTTP/1.1"],
            &["GET", "finished"],
        ),
        (&["GET / HTTP/1.0\r\n\r\n"], &["GET", "finished"]),
        (&["GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"], &["GET", "waits"]),
        (&[POST, "Content-Length: 3\r\n\r\nabc", GET], &["POST", "GET", "waits"]),
        (&[POST, "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", GET], &["POST", "GET", "waits"]),
        (&["GET / HTTP/1.1\r\nX: \t y \t\r\nHost: a\r\n\r\n"], &["GET / HTTP/1.1 {\"X\": \"y\"", "waits"]),
        (&["GET / HTTP/1.1\r\nX:\r\nHost: a\r\n\r\n"], &["GET / HTTP/1.1 {\"X\": \"\"", "waits"]),
    ] {
        let wire = wire.concat();
        let seen = run([wire.as_bytes()], &Arc::default(), false);
        assert_eq!(seen.len(), expected.len() + 1, "{wire:?} gave {seen:?}");
        for (seen, expected) in seen.iter().zip(expected) {
            assert!(seen.starts_with(expected), "{wire:?}: {seen:?} should begin with {expected:?}");
        }
    }
}

#[test]
fn few_empty_lines_may_precede_a_request() {
    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (before, outcome) in [
        ("\r\n", "GET / HTTP/1.1"),
        ("\r\n\r\n", "GET / HTTP/1.1"),
        ("\r\n\r\n\r\n", "refused: LineEnd"),
        ("\n", "refused: LineEnd"),
        ("\r", "refused: LineEnd"),
        ("\r\n\n", "refused: LineEnd"),
    ] {
        let wire = format!("{before}{GET}");
        for step in [1, 2, wire.len()] {
            let seen = run(wire.as_bytes().chunks(step), &Arc::default(), false);
            assert!(seen[0].starts_with(outcome), "{wire:?} in reads of {step} bytes: {seen:?}");
        }
    }
}

#[test]
fn a_request_line_may_have_exactly_the_length_of_its_limit() {
    for method in ["GET", "DELETE"] {
        let line = format!("{method} /abc HTTP/1.1");
        for (limit, outcome) in
            [(line.len(), line.as_str()), (line.len() - 1, "refused: RequestLineTooLong"), (14, "refused: ")]
        {
            let mut limits = Limits::default();
            limits.request_line = limit;
            let wire = format!("{line}\r\nHost: a\r\n\r\n");
            for step in [1, wire.len()] {
                let seen = run(wire.as_bytes().chunks(step), &Arc::new(limits.clone()), false);
                assert!(seen[0].starts_with(outcome), "{wire:?}, limit {limit}, step {step}: {seen:?}");
            }
        }
    }
}

#[test]
fn a_field_has_a_meaning_by_its_whole_name() {
    for (field, value) in [
        ("Post", "a b"),
        ("Exceed", "200-ok"),
        ("Uplifts", "a"),
        ("Connectors", "close"),
        ("Content-Strong", "x"),
        ("Transfer-Enjoying", "gzip"),
    ] {
        let wire = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}: {value}\r\n\r\nGET");
        let seen = run([wire.as_bytes()], &Arc::default(), false);
        assert!(seen[0].ends_with("\"\" whole"), "{seen:?}");
        assert_eq!(seen[1], "waits", "{field}");
    }
}

#[test]
fn a_body_may_have_exactly_the_size_of_its_limit() {
    let mut limits = Limits::default();
    limits.body = 3;
    let limits = Arc::new(limits);
    for (framing, body) in [
        ("Content-Length: 3", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"),
    ] {
        let wire = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let seen = run([wire.as_bytes()], &limits, false);
        assert!(seen[0].ends_with("\"abc\" whole"), "{seen:?}");
    }
}

#[test]
fn a_body_is_buffered_if_it_is_within_the_limit_or_has_arrived() {
    const FIVE: &str = "Content-Length: 5";
    const CHUNKED: &str = "Transfer-Encoding: chunked";
    for (framing, arrived, limit, has_ended, expected) in [
        (FIVE, "abc", 5, false, "NeedBytes"),
        (FIVE, "abc", 4, false, "Partial"),
        (FIVE, "abc", 5, true, "Partial"),
        (FIVE, "abcde", 0, false, "Whole(Body(5 bytes))"),
        (CHUNKED, "3\r\nabc\r\n", 3, false, "NeedBytes"),
        (CHUNKED, "3\r\nabc\r\n", 2, false, "Partial"),
        (CHUNKED, "3\r\nabc\r\n", 1, false, "Partial"),
        (CHUNKED, "3\r\nabc\r\n", 3, true, "Partial"),
        (CHUNKED, "3\r\nabc\r\nx", 3, false, "Partial"),
        (CHUNKED, "3\r\nabc\r\n0\r\n\r\n", 0, false, "Whole(Body(3 bytes))"),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
        let mut connection = connection(&Arc::default(), &head);
        assert!(matches!(connection.next_event(), Event::Request(_)));
        connection.read_buffer.extend(arrived.as_bytes());
        if has_ended {
            connection.received_end();
        }
        let buffered = format!("{:?}", connection.buffer_body(limit));
        assert_eq!(buffered, expected, "{framing}, {arrived:?}, limit {limit}, has ended: {has_ended}");
        if expected == "Partial" {
            let piece = connection.next_piece();
            assert!(matches!(&piece, Ok(Piece::Data(data)) if data == "abc"), "{piece:?}");
        }
    }
}

#[test]
fn each_head_has_the_time_of_its_response() {
    const SECONDS: u64 = 784_111_777;
    let answers: &[(&str, fn(&mut Connection))] = &[
        ("respond_whole", |connection| {
            connection.respond_whole(&mut Response::text("ok"), SECONDS);
        }),
        ("respond_whole, the last", |connection| {
            connection.close_after_this();
            connection.respond_whole(&mut Response::text("ok"), SECONDS);
        }),
        ("respond", |connection| {
            connection.respond(StatusCode::OK, &[], None, SECONDS);
        }),
        ("switch", |connection| connection.switch(StatusCode::SWITCHING_PROTOCOLS, &[], SECONDS)),
        ("refuse", |connection| {
            connection.refuse(Error::HeadTimeout, SECONDS);
        }),
    ];
    for (call, answer) in answers {
        let mut connection = Connection::new(Arc::default(), true, true);
        connection.read_buffer.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(connection.next_event(), Event::Request(_)));
        answer(&mut connection);
        let head = String::from_utf8_lossy(connection.write_queue.front());
        assert!(head.contains("\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{call}: {head}");
    }
}

#[test]
fn only_a_refusal_because_of_overload_asks_the_peer_to_return() {
    for (error, asks) in [(Error::Overload, true), (Error::HeadTimeout, false)] {
        let mut connection = connection(&Arc::default(), "");
        connection.refuse(error, 0);
        let head = String::from_utf8_lossy(connection.write_queue.front());
        assert_eq!(head.contains("\r\nRetry-After: 1\r\n"), asks, "{head}");
    }
}

#[test]
fn a_response_that_cannot_answer_its_request_is_replaced() {
    for (line, status, instead) in [
        ("GET / HTTP/1.1", 100, Some(500)),
        ("GET / HTTP/1.1", 200, None),
        ("CONNECT a:1 HTTP/1.1", 200, Some(501)),
        ("CONNECT a:1 HTTP/1.1", 403, None),
    ] {
        let mut connection = connection(&Arc::default(), &format!("{line}\r\nHost: a\r\n\r\n"));
        assert!(matches!(connection.next_event(), Event::Request(_)));
        let mut response = Response::text("ok").with_status(StatusCode::from_u16(status).expect("a status"));
        connection.replace_invalid(&mut response);
        assert_eq!(response.status(), instead.unwrap_or(status), "{line}, {status}");
        assert_eq!(
            (response.headers().count(), response.body().is_empty()),
            match instead {
                Some(_) => (0, true),
                None => (1, false),
            }
        );
    }
}

#[test]
fn a_request_is_answered_once() {
    for respond in [
        |connection: &mut Connection| {
            connection.respond_whole(&mut Response::text("ok"), 0);
        },
        |connection: &mut Connection| {
            connection.respond(StatusCode::OK, &[], None, 0);
        },
    ] {
        let mut connection = connection(&Arc::default(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(matches!(connection.next_event(), Event::Request(_)));
        respond(&mut connection);
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| respond(&mut connection)));
        assert!(again.is_err(), "a second response is a fault of the caller");
    }
}

#[test]
fn ambiguous_and_malformed_heads_are_refused() {
    let mut limits = Limits::default();
    limits.body = 1000;
    let limits = Arc::new(limits);
    for (fields, error) in [
        ("", "HostMissing"),
        ("Host: a\r\nHost: a\r\n", "HostRepeated"),
        ("Host: a b\r\n", "HostInvalid"),
        ("Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n", "LengthAndEncoding"),
        ("Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n", "LengthRepeated"),
        ("Host: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n", "LengthRepeated"),
        ("Host: a\r\nContent-Length: 3, 3\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length: +3\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length: -3\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length: 0x3\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length:\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length: 1001\r\n", "BodyTooLarge"),
        ("Host: a\r\nContent-Length: 9223372036854775807\r\n", "BodyTooLarge"),
        ("Host: a\r\nContent-Length: 9223372036854775808\r\n", "LengthInvalid"),
        ("Host: a\r\nContent-Length: 99999999999999999999999\r\n", "LengthInvalid"),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", "EncodingUnknown"),
        ("Host: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "EncodingUnknown"),
        ("Host: a\r\nTransfer-Encoding: chunked, gzip\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: gzip, br\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: xchunked\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: chunked,\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: \"chunked\"\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding:\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: ,chunked\r\n", "EncodingInvalid"),
        ("Host: a\r\nTransfer-Encoding: gzip,, chunked\r\n", "EncodingInvalid"),
        ("Host: a\r\nExpect: 200-ok\r\n", "Expectation"),
        ("Host : a\r\n", "FieldName"),
        (" Host: a\r\n", "Folding"),
        ("Host: a\r\nX: a\r\n b\r\n", "Folding"),
        ("Host: a\r\nX: a\rb\r\n", "LineEnd"),
        ("Host: a\r\nX: a\x00\r\n", "FieldValue"),
        ("Host: a\r\nX: a\x7f\r\n", "FieldValue"),
        ("Host: a\nX: b\r\n", "LineEnd"),
    ] {
        let wire = format!("POST / HTTP/1.1\r\n{fields}\r\nabc");
        for step in [1, 2, 7, wire.len()] {
            let seen = run(wire.as_bytes().chunks(step), &limits, true);
            assert_eq!(seen[0], format!("refused: {error}"), "{wire:?} in reads of {step} bytes");
            assert!(seen[1].contains("\r\nConnection: close\r\n"), "{seen:?}");
        }
    }
    let old = run([&b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"[..]], &limits, true);
    assert_eq!(old[0], "refused: EncodingInOldVersion");
}

#[test]
fn a_body_that_was_cut_is_an_error() {
    for (framing, body) in [("Content-Length: 5", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n")] {
        let wire = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let seen = run([wire.as_bytes()], &Arc::default(), true);
        assert!(seen[0].ends_with("\"abc\" the body was cut short"), "{seen:?}");
        assert_eq!(seen[1], "finished");
    }
}

#[test]
fn the_connection_stays_open_if_a_body_arrives_before_100_continue() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut connection = connection(&Arc::default(), &format!("{head}3\r\nabc\r\n"));
    assert!(matches!(connection.next_event(), Event::Request(_)));
    assert!(!connection.awaits_continue(), "the peer has sent part of the body");
    assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "abc"));
    assert!(matches!(connection.next_piece(), Ok(Piece::NeedBytes)));
    assert!(!connection.send_continue(), "100 Continue is not sent once the body has begun");
    connection.read_buffer.extend(b"0\r\n\r\n");
    assert!(matches!(connection.next_piece(), Ok(Piece::End)));
    connection.respond_whole(&mut Response::text("ok"), 0);
    assert!(!connection.is_closing());
    assert!(!connection.write_queue.front().windows(5).any(|window| window == b"close"));
}

#[test]
fn an_unread_body_that_arrives_before_100_continue_is_drained() {
    for (framing, pieces) in [
        ("Content-Length: 3", &["", "abc"][..]),
        ("Content-Length: 3", &["a", "bc"]),
        ("Transfer-Encoding: chunked", &["", "3\r\nabc\r\n0\r\n\r\n"]),
        ("Transfer-Encoding: chunked", &["3\r", "\nabc\r\n0\r\n\r\n"]),
        ("Transfer-Encoding: chunked", &["3\r\nabc\r\n", "0\r\n\r\n"]),
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
        let mut connection = connection(&Arc::default(), &format!("{head}{framing}\r\n\r\n{}", pieces[0]));
        assert!(matches!(connection.next_event(), Event::Request(_)));
        connection.respond_whole(&mut Response::text("ok"), 0);
        let has_begun = !pieces[0].is_empty();
        assert_eq!(connection.is_closing(), !has_begun, "{framing}, {pieces:?}");
        if has_begun {
            assert!(matches!(connection.next_event(), Event::NeedBytes));
            connection.read_buffer.extend(pieces[1].as_bytes());
            connection.read_buffer.extend(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
            assert!(matches!(connection.next_event(), Event::Request(request) if request.path() == "/next"));
        }
    }
}

#[test]
fn the_rest_of_a_body_beyond_the_drain_limit_is_not_awaited() {
    let mut limits = Limits::default();
    limits.drain = 10;
    let limits = Arc::new(limits);
    for (length, is_drained) in [(10, true), (11, false), (1_000_000, false)] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let mut connection = connection(&limits, &head);
        assert!(matches!(connection.next_event(), Event::Request(_)));
        connection.respond_whole(&mut Response::text("ok"), 0);
        match connection.next_event() {
            Event::NeedBytes => assert!(is_drained, "{length} bytes are awaited"),
            Event::Finished => assert!(!is_drained && connection.must_linger()),
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn a_response_is_the_last_if_the_abandoned_rest_of_the_body_is_too_large_or_late() {
    let mut limits = Limits::default();
    limits.drain = 10;
    let limits = Arc::new(limits);
    for (framing, arrived, taken, is_late, is_last) in [
        ("Content-Length: 0", "", false, false, false),
        ("Content-Length: 10", "", false, false, false),
        ("Content-Length: 11", "", false, false, true),
        ("Content-Length: 11", "a", true, false, false),
        ("Content-Length: 13", "a", true, false, true),
        ("Content-Length: 10", "", false, true, true),
        ("Content-Length: 11", "0123456789a", false, false, false),
        ("Transfer-Encoding: chunked", "", false, false, false),
        ("Transfer-Encoding: chunked", "ff\r\na", false, false, false),
        ("Transfer-Encoding: chunked", "", false, true, true),
    ] {
        let case = format!("{framing}, {arrived:?}");
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{arrived}");
        let mut connection = connection(&limits, &head);
        assert!(matches!(connection.next_event(), Event::Request(_)), "{case}");
        if taken {
            assert!(matches!(connection.next_piece(), Ok(Piece::Data(_))), "{case}");
        }
        if is_late {
            connection.time_out_body();
        }
        connection.abandon_body();
        assert_eq!(connection.is_closing(), is_last, "{case}");
        connection.respond_whole(&mut Response::text("ok"), 0);
        let says_close =
            connection.write_queue.front().windows(17).any(|window| window == b"Connection: close");
        assert_eq!(says_close, is_last, "{case}");
    }
}

#[test]
fn only_bytes_that_are_no_empty_line_are_more() {
    for (head, rest, has_more) in [
        ("", "", false),
        ("", "\r\n\r\n", false),
        ("", "\r", false),
        ("", "G", true),
        ("", "\r\nG", true),
        ("Content-Length: 3\r\n", "ab", false),
        ("Content-Length: 3\r\n", "abc", false),
        ("Content-Length: 3\r\n", "abcG", true),
    ] {
        let mut connection =
            connection(&Arc::default(), &format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n{rest}"));
        assert!(matches!(connection.next_event(), Event::Request(_)));
        assert_eq!(connection.has_more(), has_more, "{head:?}, {rest:?}");
    }
}

#[test]
fn a_request_that_is_refused_because_of_its_fields_or_its_body_is_known() {
    let mut limits = Limits::default();
    limits.body = 10;
    let limits = Arc::new(limits);
    for (wire, path, text) in [
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", Some("/a"), "the body is too large"),
        (
            "PUT /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx",
            Some("/b"),
            "a chunk size is not valid",
        ),
        ("GET /c HTTP/1.1\r\n\r\n", Some("/c"), "there is no Host"),
        // The section of fields is known from the row before, so the head is read in another way.
        (
            "GET /d HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some("/d"),
            "HTTP/1.0 has no Transfer-Encoding",
        ),
        ("GET /e HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", Some("/e"), "the expectation cannot be met"),
        ("GET /f HTTP/1.1\r\nHost : a\r\n\r\n", None, "a field line has no valid name"),
        ("GET f HTTP/1.1\r\nHost: a\r\n\r\n", None, "the request target is not valid for its method"),
    ] {
        let mut connection = connection(&limits, wire);
        assert!(connection.rejected_request().is_none());
        let Event::Refused(error) = connection.next_event() else { panic!("{wire} is not refused") };
        assert_eq!(connection.rejected_request().map(Request::path), path);
        assert_eq!(connection.refuse(error, 0), Some(text.len() as u64));
        assert!(connection.rejected_request().is_none());
    }
}

#[test]
fn a_refusal_tells_the_number_of_bytes_of_its_body() {
    let text = Error::HeadTimeout.to_string().len() as u64;
    for (wire, responds, bytes) in [
        ("GET / HTTP/1.1\r\n", false, Some(text)),
        ("HEAD / HTTP/1.1\r\n", false, Some(0)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false, Some(text)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, None),
    ] {
        let mut connection = connection(&Arc::default(), wire);
        let _ = connection.next_event();
        if responds {
            assert!(connection.respond(StatusCode::OK, &[], None, 0));
        }
        assert_eq!(connection.refuse(Error::HeadTimeout, 0), bytes, "{wire:?}");
    }
}

#[test]
fn a_response_is_whole_once_the_peer_can_see_its_end() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (length, is_whole) in [(Some(3), true), (None, false)] {
        let mut connection = connection(&Arc::default(), request);
        assert!(matches!(connection.next_event(), Event::Request(_)));
        assert!(!connection.is_response_whole());
        connection.respond(StatusCode::OK, &[], length, 0);
        for (piece, is_whole) in [("a", false), ("bc", is_whole)] {
            connection.send(piece.into()).expect("the body is as long as announced");
            assert_eq!(connection.is_response_whole(), is_whole, "{length:?}, {piece}");
        }
        connection.finish().expect("the body is as long as announced");
        assert!(connection.is_response_whole());
    }
}

#[test]
fn limits_above_the_maximum_count_as_the_maximum() {
    let mut limits = Limits::default();
    (limits.request_line, limits.field_line) = (usize::MAX, usize::MAX);
    (limits.fields, limits.head) = (usize::MAX, usize::MAX);
    let limits = Arc::new(limits);
    let of_length = |len: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(len - rest))
    };
    let of_fields = |fields| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a:\r\n".repeat(fields - 1));
    for (head, refusal) in [
        (of_length(Limits::MAX_HEAD), None),
        (of_length(Limits::MAX_HEAD + 1), Some(Error::FieldsTooLarge)),
        (of_fields(Limits::MAX_FIELDS), None),
        (of_fields(Limits::MAX_FIELDS + 1), Some(Error::TooManyFields)),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(Limits::MAX_HEAD)), Some(Error::RequestLineTooLong)),
    ] {
        match connection(&limits, &head).next_event() {
            Event::Request(_) => assert_eq!(refusal, None, "{} bytes", head.len()),
            Event::Refused(error) => assert_eq!(refusal, Some(error), "{} bytes", head.len()),
            event => panic!("{event:?}"),
        }
    }
}

/// Generates the bytes of valid and invalid requests, sometimes with one changed byte.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => Just("GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        2 => Just("GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n".to_owned()),
        2 => "[a-z]{0,20}".prop_map(|body| format!(
            "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())),
        2 => prop::collection::vec("[a-z]{1,20}", 0..4).prop_map(|chunks| {
            let body: String = chunks.iter().map(|chunk| format!("{:x};x=\"y\"\r\n{chunk}\r\n", chunk.len())).collect();
            format!("PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\nT: u\r\n\r\n")
        }),
        1 => Just("\r\n".to_owned()),
        1 => Just("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_owned()),
        1 => Just("HEAD / HTTP/1.3\r\nHost: [v1.a]\r\nExpect: ,100-continue\r\n\r\n".to_owned()),
        1 => (0_usize..20, "[0-9a-fA-F]{0,17}").prop_map(|(zeros, size)| format!(
            "POST /z HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}{size}\r\nabc\r\n0\r\n\r\n", "0".repeat(zeros))),
        1 => "[ -~\r\n\t]{0,12}",
    ];
    let change = prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(part, 1..6), change).prop_map(|(parts, change)| {
        let mut bytes = parts.concat().into_bytes();
        if let (Some((at, byte)), false) = (change, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_sizes_of_the_reads_change_nothing(
        wire in wire(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        end in any::<bool>(),
        tight in any::<bool>(),
    ) {
        let mut limits = Limits::default();
        if tight {
            (limits.request_line, limits.field_line, limits.fields, limits.head) = (30, 20, 3, 64);
            (limits.body, limits.drain) = (40, 10);
        }
        let limits = Arc::new(limits);
        let whole = run([&wire[..]], &limits, end);
        prop_assert_eq!(&run(wire.chunks(1), &limits, end), &whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]);
        prop_assert_eq!(&run(pieces, &limits, end), &whole);
    }
}
