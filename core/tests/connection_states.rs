//! The state tables in the documentation of [`Connection`]: each row is executed from each of its states.
//!
//! The tests read the rows from the documentation. If a row is added, removed or changed there, a test fails until the
//! code for the row is added, removed or checked.

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::{BodyError, Bytes, HeaderMap, HeaderValue, Limits, Response, StatusCode, header};

const SOURCE: &str = include_str!("../src/proto/connection.rs");

/// The heads that lead to the states `Done`, `Length` and `Chunked` of the request side.
const DONE: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LENGTH: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Makes the call of a row on a connection in the state `from`.
type Drive = fn(connection: &mut Connection, from: &str);

fn receive(connection: &mut Connection, bytes: &str) {
    connection.read_buffer.extend(bytes.as_bytes());
}

/// Receives `bytes` and calls `next_event`.
fn hear(connection: &mut Connection, bytes: &str) {
    receive(connection, bytes);
    let _ = connection.next_event();
}

/// Creates a connection that has received `bytes`, and calls `next_event`.
fn after(bytes: &str) -> Connection {
    let mut limits = Limits::default();
    (limits.body, limits.drain) = (100, 10);
    let mut connection = Connection::new(limits.into(), false, false);
    hear(&mut connection, bytes);
    connection
}

/// Creates a connection whose request side is in `state`. In an exchange the response is `Awaited`.
fn request_in(state: &str) -> Connection {
    let mut connection = after(match state {
        "Head" | "Closed" => "",
        "Done" => DONE,
        "Length" | "Broken" => LENGTH,
        "Chunked" => CHUNKED,
        "Rejected" => "\0",
        _ => panic!("{state} is no state of the request side"),
    });
    match state {
        "Closed" => connection.close(),
        "Broken" => drop(connection.break_body(BodyError::TimedOut)),
        _ => {}
    }
    assert_eq!(request_state(&connection), state);
    connection
}

/// Creates a connection whose response side is in `state`.
fn response_in(state: &str) -> Connection {
    let mut connection = after(match state {
        "None" => "",
        "UntilClose" => "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        _ => DONE,
    });
    match state {
        "None" | "Awaited" => {}
        "Length" => assert!(connection.respond(StatusCode::OK, &[], Some(3), 0)),
        "Chunked" | "UntilClose" => assert!(connection.respond(StatusCode::OK, &[], None, 0)),
        "Bodiless" => assert!(!connection.respond(StatusCode::NO_CONTENT, &[], None, 0)),
        "Done" => assert_eq!(connection.respond_whole(&mut Response::text("ok"), 0), 2),
        _ => panic!("{state} is no state of the response side"),
    }
    assert_eq!(response_state(&connection), state);
    connection
}

/// Returns the name of the state that the debug output has for `field`.
fn debug_state(connection: &Connection, field: &str) -> String {
    let text = format!("{connection:?}");
    let (_, value) = text.split_once(&format!(" {field}: ")).expect("the field");
    let value = value.strip_prefix("Some(").unwrap_or(value);
    value.chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn request_state(connection: &Connection) -> String {
    debug_state(connection, "request")
}

fn response_state(connection: &Connection) -> String {
    debug_state(connection, "response")
}

/// Completes the response.
fn answer(connection: &mut Connection) {
    connection.respond_whole(&mut Response::text("ok"), 0);
    assert_eq!(response_state(connection), "Done");
}

fn expect_need_of_bytes(connection: &mut Connection) {
    assert!(matches!(connection.next_event(), Event::NeedBytes));
}

fn expect_finish(connection: &mut Connection) {
    assert!(matches!(connection.next_event(), Event::Finished));
}

/// Receives the bytes that complete the body of a request whose state is `from`.
fn receive_rest(connection: &mut Connection, from: &str) {
    receive(connection, if from == "Length" { "abc" } else { "3\r\nabc\r\n0\r\nA: b\r\n\r\n" });
}

fn buffer_rest(connection: &mut Connection, from: &str) {
    receive_rest(connection, from);
    connection.buffer_body(100);
}

/// The rows of the request side: the second column of the table, and a function for each call that it names.
const REQUEST_ROWS: &[(&str, &[Drive])] = &[
    ("`next_event`, the head is incomplete", &[|connection, _| hear(connection, "GET / HTTP/1.1\r\n")]),
    (
        "`next_event`, the head has no body, or its body has arrived",
        &[
            |connection, _| hear(connection, DONE),
            |connection, _| hear(connection, &format!("{LENGTH}abc")),
            |connection, _| hear(connection, &format!("{CHUNKED}3\r\nabc\r\n0\r\n\r\n")),
        ],
    ),
    (
        "`next_event`, the head has a `Content-Length` and more of its body is to come",
        &[|connection, _| hear(connection, LENGTH), |connection, _| hear(connection, &format!("{LENGTH}ab"))],
    ),
    (
        "`next_event`, the head is chunked and more of its body is to come",
        &[
            |connection, _| hear(connection, CHUNKED),
            |connection, _| hear(connection, &format!("{CHUNKED}3\r\nab")),
        ],
    ),
    (
        "`next_event`, the bytes break a rule or a limit",
        &[
            |connection, _| hear(connection, "GET\0"),
            |connection, _| hear(connection, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n"),
            |connection, _| hear(connection, &format!("{CHUNKED}x\r\n")),
        ],
    ),
    (
        "`next_event` after `received_end`, the head is incomplete",
        &[|connection, _| {
            hear(connection, "GET / HTTP/1.1\r\n");
            connection.received_end();
            expect_finish(connection);
        }],
    ),
    (
        "`next_event` while closing",
        &[|connection, _| {
            connection.close_after_this();
            receive(connection, DONE);
            expect_finish(connection);
        }],
    ),
    (
        "`next_piece` or `buffer_body` takes the last byte",
        &[
            |connection, from| {
                receive_rest(connection, from);
                assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "abc"));
            },
            buffer_rest,
        ],
    ),
    (
        "`next_piece` or `buffer_body` takes the last chunk and the trailer section",
        &[
            |connection, from| {
                receive_rest(connection, from);
                while let Ok(Piece::Data(_)) = connection.next_piece() {}
                assert_eq!(request_state(connection), "Done", "the trailers were taken");
                assert!(matches!(connection.next_piece(), Ok(Piece::End)));
            },
            |connection, _| {
                receive(connection, "0\r\nA: b\r\n\r\n");
                let piece = connection.next_piece();
                assert!(matches!(piece, Ok(Piece::Trailers(trailers)) if trailers["a"] == "b"));
            },
            buffer_rest,
        ],
    ),
    (
        "`next_piece`, the coding is malformed or the body exceeds `Limits::body`",
        &[
            |connection, _| {
                receive(connection, "x\r\n");
                assert!(matches!(connection.next_piece(), Err(BodyError::Malformed(Error::ChunkSize))));
            },
            |connection, _| {
                receive(connection, "65\r\n");
                assert!(matches!(connection.next_piece(), Err(BodyError::TooLarge { limit: 100 })));
            },
        ],
    ),
    (
        "`next_piece` after `received_end` or `time_out_body`, nothing is left to take",
        &[
            |connection, _| {
                connection.received_end();
                assert!(matches!(connection.next_piece(), Err(BodyError::Incomplete)));
            },
            |connection, from| {
                receive(connection, if from == "Length" { "a" } else { "1\r\na" });
                connection.time_out_body();
                assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "a"));
                assert_eq!(request_state(connection), from, "the state changes only when no byte is left");
                assert!(matches!(connection.next_piece(), Err(BodyError::TimedOut)));
            },
        ],
    ),
    (
        "`break_body`",
        &[|connection, _| {
            connection.break_body(BodyError::TimedOut);
            assert!(connection.is_closing());
        }],
    ),
    (
        "`next_event`, the response is `Done`",
        &[|connection, _| {
            answer(connection);
            expect_need_of_bytes(connection);
        }],
    ),
    (
        "`next_event`, the response is `Done`, the rest arrives within `Limits::drain`",
        &[|connection, from| {
            answer(connection);
            expect_need_of_bytes(connection);
            assert_eq!(request_state(connection), from);
            receive_rest(connection, from);
            expect_need_of_bytes(connection);
        }],
    ),
    (
        "`next_event`, the response is `Done`, the rest exceeds `Limits::drain` or fails",
        &[
            |connection, from| {
                if from == "Length" {
                    *connection = after("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
                }
                answer(connection);
                if from == "Chunked" {
                    receive(connection, "b\r\n01234567890");
                }
                expect_finish(connection);
            },
            |connection, _| {
                answer(connection);
                connection.received_end();
                expect_finish(connection);
            },
        ],
    ),
    (
        "`next_event` while closing, the response is `Done`",
        &[|connection, _| {
            connection.close_after_this();
            answer(connection);
            expect_finish(connection);
        }],
    ),
    (
        "`switch`, the response is `Awaited`",
        &[|connection, _| connection.switch(StatusCode::SWITCHING_PROTOCOLS, &[], 0)],
    ),
    (
        "`close`, `refuse`",
        &[
            |connection, _| connection.close(),
            |connection, _| {
                connection.refuse(Error::HeadTimeout, 0);
            },
        ],
    ),
];

/// The rows of the response side, like [`REQUEST_ROWS`].
const RESPONSE_ROWS: &[(&str, &[Drive])] = &[
    ("`next_event` returns a request", &[|connection, _| hear(connection, DONE)]),
    ("`respond_whole`", &[|connection, _| answer(connection)]),
    (
        "`respond` to HEAD, or with 204, 205 or 304",
        &[
            |connection, _| {
                *connection = after("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert!(!connection.respond(StatusCode::OK, &[], Some(3), 0));
            },
            |connection, _| assert!(!connection.respond(StatusCode::NO_CONTENT, &[], Some(3), 0)),
            |connection, _| assert!(!connection.respond(StatusCode::RESET_CONTENT, &[], Some(3), 0)),
            |connection, _| assert!(!connection.respond(StatusCode::NOT_MODIFIED, &[], None, 0)),
        ],
    ),
    (
        "`respond` with a length",
        &[|connection, _| assert!(connection.respond(StatusCode::OK, &[], Some(3), 0))],
    ),
    (
        "`respond` without a length, to HTTP/1.1",
        &[|connection, _| {
            assert!(connection.respond(StatusCode::OK, &[], None, 0));
            assert!(!connection.is_closing());
        }],
    ),
    (
        "`respond` without a length, to HTTP/1.0",
        &[|connection, _| {
            *connection = after("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            assert!(connection.respond(StatusCode::OK, &[], None, 0));
            assert!(connection.is_closing());
        }],
    ),
    ("`send` within the length", &[|connection, _| assert!(connection.send("abc".into()).is_ok())]),
    (
        "`send` beyond the length, or `finish` before its end: `WrongLength`",
        &[
            |connection, _| assert!(connection.send("abcd".into()).is_err()),
            |connection, _| assert!(connection.finish().is_err()),
        ],
    ),
    ("`send`", &[|connection, _| assert!(connection.send("abc".into()).is_ok())]),
    (
        "`finish`",
        &[
            |connection, from| {
                if from == "Length" {
                    assert!(connection.send("abc".into()).is_ok());
                }
                assert!(connection.finish().is_ok());
            },
            |connection, from| {
                if from == "Length" {
                    assert!(connection.send("abc".into()).is_ok());
                }
                assert!(connection.finish_with_trailers(&HeaderMap::new()).is_ok());
            },
        ],
    ),
    ("`send`: `WrongLength`", &[|connection, _| assert!(connection.send("abc".into()).is_err())]),
    (
        "`finish`: `WrongLength`",
        &[
            |connection, _| assert!(connection.finish().is_err()),
            |connection, _| assert!(connection.finish_with_trailers(&HeaderMap::new()).is_err()),
        ],
    ),
    (
        "the request side moves to `Head` or `Closed`",
        &[
            |connection, _| {
                *connection = response_in("Done");
                expect_need_of_bytes(connection);
            },
            |connection, _| connection.close(),
        ],
    ),
];

/// Returns the cells of each row of the table that follows `title` in the documentation.
fn documented(title: &str) -> Vec<[&'static str; 3]> {
    let (_, table) = SOURCE.split_once(title).expect("the title of the table");
    let lines = table.lines().map(|line| line.trim_start_matches("/// "));
    let rows = lines.skip_while(|line| !line.starts_with("| ---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            cells.try_into().expect("three cells")
        })
        .collect()
}

/// Compares the rows with the documentation and executes them from each of their states. `start` creates a connection
/// in a state, and `state` returns its state.
fn check(
    title: &str,
    states: &[&str],
    rows: &[(&str, &[Drive])],
    start: fn(&str) -> Connection,
    state: fn(&Connection) -> String,
) {
    let documented = documented(title);
    let described: Vec<_> = documented.iter().map(|row| row[1]).collect();
    let executed: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(described, executed, "the rows of the documentation and of the test");
    let name = |cell: &'static str| if cell == "(none)" { "None" } else { cell.trim_matches('`') };
    for ([from, call, to], (_, drives)) in documented.into_iter().zip(rows) {
        let from = match from {
            "every state" => states.to_vec(),
            from => from.split(", ").map(name).collect(),
        };
        for from in from {
            for (n, drive) in drives.iter().enumerate() {
                let mut connection = start(from);
                drive(&mut connection, from);
                let to = if to == "unchanged" { from } else { name(to) };
                assert_eq!(state(&connection), to, "{from}: {call}, drive {n}");
            }
        }
    }
}

#[test]
fn the_request_side_moves_as_documented() {
    let states = ["Head", "Done", "Length", "Chunked", "Broken", "Rejected", "Closed"];
    check("/// The request side. ", &states, REQUEST_ROWS, request_in, request_state);
}

#[test]
fn the_response_side_moves_as_documented() {
    let states = ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless", "Done"];
    check("/// The response side:", &states, RESPONSE_ROWS, response_in, response_state);
}

#[test]
fn next_event_waits_for_the_response_in_every_exchange() {
    let requests = ["Done", "Length", "Chunked", "Broken"].map(|state| (state, request_in(state)));
    let responses =
        ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless"].map(|state| (state, response_in(state)));
    for (state, mut connection) in requests.into_iter().chain(responses) {
        let before = (request_state(&connection), response_state(&connection));
        receive(&mut connection, DONE);
        assert!(matches!(connection.next_event(), Event::AwaitResponse), "{state}");
        assert_eq!((request_state(&connection), response_state(&connection)), before);
    }
    for state in ["Rejected", "Closed"] {
        let mut connection = request_in(state);
        receive(&mut connection, DONE);
        expect_finish(&mut connection);
        assert_eq!(request_state(&connection), state);
    }
}

#[test]
fn a_connection_is_closing_after_a_response_with_connection_close() {
    let values = [
        ("close", true),
        ("keep-alive, Close", true),
        ("CLOSE ,x", true),
        ("keep-alive", false),
        ("closed", false),
    ];
    for (value, is_closing) in values {
        let mut connection = response_in("Awaited");
        let fields = [(header::CONNECTION, HeaderValue::from_static(value))];
        connection.respond(StatusCode::OK, &fields, Some(0), 0);
        assert_eq!(connection.is_closing(), is_closing, "{value}");
    }
}

#[test]
fn an_empty_piece_is_ignored_in_every_state() {
    for state in ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless", "Done"] {
        let mut connection = response_in(state);
        let queued = connection.write_queue.len();
        assert!(connection.send(Bytes::new()).is_ok(), "{state}");
        assert_eq!((response_state(&connection).as_str(), connection.write_queue.len()), (state, queued));
    }
}
