//! Trailers in both directions, however the body of the request arrives.

use gearshift_core::HeaderMap;
use http_body_util::BodyExt;

use super::*;

/// Chunks and trailers behind a head, in one piece and in several.
const PIECES: [&[&str]; 4] = [
    &["3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"],
    &["3\r\nabc\r\n", "0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n"],
    &["3\r\nabc\r\n0\r\nX-S", "um: 1\r\nX-Sum: 2\r\n", "\r", "\n"],
    &["3\r\na", "bc\r\n0\r\nX-Sum: 1\r", "\nX-Sum: 2\r\n\r\n"],
];

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
const SUMS: &str = "0\r\nX-Sum: 1\r\nX-Sum: 2\r\n\r\n";

fn echo(request: Request) -> Answer {
    Answer::Ready(Response::new(request.into_body()))
}

/// Reads the data and the trailers, and answers with both as text.
fn tell(request: Request) -> Answer {
    Answer::later(async {
        let (mut body, mut text) = (request.into_body(), String::new());
        while let Some(piece) = body.chunk().await {
            match piece {
                Ok(piece) => text += &String::from_utf8_lossy(&piece),
                Err(error) => return Response::text(error.to_string()).with_status(error.status()),
            }
        }
        match body.trailers().await {
            Ok(None) => Response::text(text + " without trailers"),
            Ok(Some(trailers)) => Response::text(format!("{text} {:?}", trailers.get_all("x-sum"))),
            Err(error) => Response::text(error.to_string()).with_status(error.status()),
        }
    })
}

/// Calls `handler` for a request in each way in which its body can arrive, with another request behind it. Calls
/// `check` with the responses.
fn each(
    handler: fn(Request) -> Answer,
    line: &str,
    fields: &str,
    bodies: &[&[&str]],
    check: impl Fn(&str, &str),
) {
    for blocks in [EVENT_LOOP, BLOCKING] {
        for body_buffer in [0, 1 << 16] {
            for pieces in bodies {
                for is_with_head in [true, false] {
                    let mut texts = vec![head(line, &format!("{CHUNKED}{fields}")).to_owned()];
                    texts.extend(pieces.iter().map(|&piece| piece.to_owned()));
                    texts.last_mut().expect("a head").push_str(GET);
                    if is_with_head {
                        let first = texts.remove(1);
                        texts[0].push_str(&first);
                    }
                    let reads: Vec<_> =
                        texts.into_iter().flat_map(|text| [Text(text.leak()), Nothing]).collect();
                    let set = |config: &mut Config| config.body_buffer = body_buffer;
                    let mut rig = Rig::calling(handler, blocks, set, reads);
                    let _ = (0..20).any(|_| rig.poll());
                    check(
                        &rig.written(),
                        &format!(
                            "blocks: {blocks}, buffer {body_buffer}, {pieces:?}, with head: {is_with_head}"
                        ),
                    );
                }
            }
        }
    }
}

#[test]
fn trailers_reach_the_handler_however_the_body_arrives() {
    each(tell, "POST /", "", &PIECES, |written, case| {
        assert!(written.contains("\r\n\r\nabc GetAll { "), "{case}: {written}");
        assert!(written.contains("\"1\"") && written.contains("\"2\""), "{case}: {written}");
        assert!(written.ends_with("\r\n\r\n without trailers"), "{case}, the request behind: {written}");
    });
}

#[test]
fn a_body_that_is_echoed_carries_its_trailers() {
    each(echo, "POST /", "", &PIECES, |written, case| {
        let (first, second) = written.split_once(SUMS).unwrap_or_else(|| panic!("{case}: {written}"));
        let (_, chunks) = first.split_once("Transfer-Encoding: chunked\r\n\r\n").expect("chunks");
        assert!(["3\r\nabc\r\n", "1\r\na\r\n2\r\nbc\r\n"].contains(&chunks), "{case}: {written}");
        assert!(second.contains("Content-Length: 0\r\n"), "{case}, the request behind: {written}");
    });
    let empty: [&[&str]; 2] = [&["0\r\nX: y\r\n\r\n"], &["0\r\n", "X: y\r\n\r\n"]];
    each(echo, "POST /", "", &empty, |written, case| {
        assert!(written.contains("chunked\r\n\r\n0\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\n"), "{case}: {written}");
    });
}

#[test]
fn trailers_are_drained_with_a_body_that_is_not_read() {
    let ignore = |_: Request| Answer::Ready(Response::text("ignored"));
    each(ignore, "POST /", "", &PIECES, |written, case| {
        assert_eq!(written.matches("\r\n\r\nignored").count(), 2, "{case}: {written}");
    });
}

#[test]
fn an_upgrade_begins_behind_the_trailers() {
    for pieces in PIECES {
        let begin = head("POST /upgrade", &format!("{OFFER}{CHUNKED}"));
        let reads = [begin].into_iter().chain(pieces.iter().copied()).flat_map(|text| [Nothing, Text(text)]);
        let mut rig = Rig::new(EVENT_LOOP, |_| {}, reads.chain([Text("early")]));
        let _ = (0..20).any(|_| rig.poll());
        assert!(rig.written().starts_with(SWITCHING), "{pieces:?}: {}", rig.written());
    }
}

#[test]
fn malformed_trailers_are_an_error_of_the_body() {
    for (section, status) in [
        ("Host: b\r\n\r\n", 400),
        ("A b: c\r\n\r\n", 400),
        ("A: b\n\r\n", 400),
        (&*format!("A: {}\r\n\r\n", "a".repeat(200)), 431),
        (&*"A: b\r\n".repeat(5), 431),
    ] {
        let set = |config: &mut Config| {
            (config.limits.field_line, config.limits.fields, config.body_buffer) = (100, 4, 0);
        };
        let begin = head("POST /", CHUNKED);
        for blocks in [EVENT_LOOP, BLOCKING] {
            let section = String::from(section).leak();
            let reads =
                [Text(begin), Nothing, Text("3\r\nabc\r\n"), Nothing, Text("0\r\n"), Nothing, Text(section)];
            let mut rig = Rig::calling(tell, blocks, set, reads);
            let _ = (0..10).any(|_| rig.poll());
            let expected = format!("HTTP/1.1 {status} ");
            assert!(rig.written().starts_with(&expected), "{section}: {}", rig.written());
            // An echo has begun, and is cut before its last chunk.
            let mut rig = Rig::calling(echo, blocks, set, reads);
            let _ = (0..10).any(|_| rig.poll());
            assert!(rig.written().ends_with("chunked\r\n\r\n3\r\nabc\r\n"), "{section}: {}", rig.written());
            assert!(rig.script().is_shut, "{section}");
        }
    }
}

/// A response with trailers of one kind of body for each path.
fn trailed(request: Request) -> Answer {
    let trailers = async {
        yield_now().await;
        Some(Ok(HeaderMap::from_iter([
            ("x-sum".parse().expect("a name"), HeaderValue::from_static("1")),
            ("content-length".parse().expect("a name"), HeaderValue::from_static("9")),
        ])))
    };
    let body = match request.path() {
        "/memory" => Body::from("abc"),
        "/stream" => Body::from_stream(stream::iter([Piece::Ok("a".into()), Piece::Ok("bc".into())])),
        "/sized" => {
            let body = http_body_util::Full::<Bytes>::from("abc");
            return Answer::Ready(Response::new(Body::from_http(body.with_trailers(async {
                Some(Ok(HeaderMap::from_iter([(
                    "x-sum".parse().expect("a name"),
                    HeaderValue::from_static("1"),
                )])))
            }))));
        }
        "/broken" => Body::from_stream(stream::iter([Piece::Ok("abc".into()), Piece::Err("broken")])),
        "/failing" => {
            let fails = async { Some(Err(BodyError::Source("no sum".into()))) };
            return Answer::Ready(Response::new(Body::from("abc").with_trailers(fails)));
        }
        path => panic!("{path}"),
    };
    Answer::Ready(Response::new(body.with_trailers(trailers)))
}

#[test]
fn trailers_of_a_response_follow_its_chunks_or_are_dropped() {
    let end = "\r\n0\r\nX-Sum: 1\r\n\r\n";
    for (line, framing, ends) in [
        ("GET /memory HTTP/1.1", "Transfer-Encoding: chunked", &*format!("\r\n\r\n3\r\nabc{end}")),
        ("GET /stream HTTP/1.1", "Transfer-Encoding: chunked", &format!("\r\n\r\n1\r\na\r\n2\r\nbc{end}")),
        ("HEAD /memory HTTP/1.1", "Transfer-Encoding: chunked", "chunked\r\n\r\n"),
        ("HEAD /stream HTTP/1.1", "Transfer-Encoding: chunked", "chunked\r\n\r\n"),
        ("GET /memory HTTP/1.0", "Connection: close", "\r\n\r\nabc"),
        ("GET /stream HTTP/1.0", "Connection: close", "\r\n\r\nabc"),
        // The length that a body knows is announced, as for all bodies.
        ("GET /sized HTTP/1.1", "Content-Length: 3", "\r\n\r\nabc"),
        // An error cuts the response: it has no last chunk.
        ("GET /broken HTTP/1.1", "Transfer-Encoding: chunked", "\r\n\r\n3\r\nabc\r\n"),
        ("GET /failing HTTP/1.1", "Transfer-Encoding: chunked", "\r\n\r\n3\r\nabc\r\n"),
    ] {
        for te in ["", "TE: trailers\r\n"] {
            for blocks in [EVENT_LOOP, BLOCKING] {
                let request = format!("{line}\r\nHost: a\r\n{te}\r\n").leak();
                let mut rig = Rig::calling(trailed, blocks, |_| {}, [Text(request)]);
                let _ = (0..10).any(|_| rig.poll());
                let written = rig.written();
                assert!(written.contains(&format!("{framing}\r\n")), "{line} {te}: {written}");
                assert!(written.ends_with(ends), "{line} {te}: {written}");
            }
        }
    }
}
