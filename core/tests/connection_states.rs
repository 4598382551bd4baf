//! The state tables in the documentation of [`Connection`]: each row is executed from each of its states.
//!
//! The tests read the rows from the documentation. If a row is added, removed or changed there, a test fails until the
//! code for the row is added, removed or checked.

use gearshift_core::h1::{Connection, Error, Event, Piece};
use gearshift_core::{BodyError, Bytes, HeaderValue, Limits, Response, StatusCode, header};

const SOURCE: &str = include_str!("../src/proto/connection.rs");

/// The input that leads to each state of the request side in which the response is `Awaited`.
const REQUESTS: [(&str, &str); 4] = [
    ("Done", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("Length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
    ("Chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("Broken", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"),
];

/// A function that creates a connection in the state `from` and makes the call of a row.
type Drive = fn(from: &str) -> Connection;

fn connection() -> Connection {
    let mut limits = Limits::default();
    (limits.body, limits.drain) = (100, 10);
    Connection::new(limits.into(), false, false)
}

fn receive(connection: &mut Connection, bytes: &str) {
    connection.read_buffer_mut().extend(bytes.as_bytes());
}

/// Creates a connection that has received `bytes`, and calls `next_event`.
fn after(bytes: &str) -> Connection {
    let mut connection = connection();
    receive(&mut connection, bytes);
    let _ = connection.next_event();
    connection
}

/// Creates a connection whose request side is in `state`. In an exchange the response is `Awaited`.
fn request_in(state: &str) -> Connection {
    let mut connection = match state {
        "Head" => connection(),
        "Rejected" => after("\0"),
        "Closed" => {
            let mut connection = connection();
            connection.close();
            connection
        }
        _ => after(REQUESTS.iter().find(|(name, _)| *name == state).expect("a state of an exchange").1),
    };
    if state == "Broken" {
        connection.break_body(BodyError::TimedOut);
    }
    assert_eq!(request_state(&connection), state);
    connection
}

/// Creates a connection whose request side is in `state` and whose response is `Done`.
fn answered_in(state: &str) -> Connection {
    let mut connection = request_in(state);
    connection.respond_whole(&mut Response::text("ok"), 0);
    assert_eq!(response_state(&connection), "Done");
    connection
}

/// Creates a connection whose response side is in `state`.
fn response_in(state: &str) -> Connection {
    let head = |version| after(&format!("GET / HTTP/1.{version}\r\nHost: a\r\n\r\n"));
    let mut connection = head(if state == "UntilClose" { 0 } else { 1 });
    match state {
        "Awaited" => {}
        "Length" => assert!(connection.respond(StatusCode::OK, &[], Some(3), 0)),
        "Chunked" | "UntilClose" => assert!(connection.respond(StatusCode::OK, &[], None, 0)),
        "Bodiless" => assert!(!connection.respond(StatusCode::NO_CONTENT, &[], None, 0)),
        "Done" => connection.respond_whole(&mut Response::text("ok"), 0),
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

/// Takes the pieces of the body that have arrived. Returns the result after them.
fn read_body(connection: &mut Connection) -> Result<Piece, BodyError> {
    loop {
        match connection.next_piece() {
            Ok(Piece::Data(_)) => {}
            other => return other,
        }
    }
}

/// The bytes that complete the body of a request in `REQUESTS`.
fn rest(state: &str) -> &'static str {
    if state == "Length" { "abc" } else { "3\r\nabc\r\n0\r\nA: b\r\n\r\n" }
}

/// The rows of the request side: the second column of the table, and a function for each call that it names.
const REQUEST_ROWS: &[(&str, &[Drive])] = &[
    ("`next_event`, the head is incomplete", &[|_| after("GET / HTTP/1.1\r\n")]),
    (
        "`next_event`, the head has no body, or its body has arrived",
        &[
            |_| after(REQUESTS[0].1),
            |_| after(&format!("{}abc", REQUESTS[1].1)),
            |_| after(&format!("{}3\r\nabc\r\n0\r\n\r\n", REQUESTS[2].1)),
        ],
    ),
    (
        "`next_event`, the head has a `Content-Length` and more of its body is to come",
        &[|_| after(REQUESTS[1].1), |_| after(&format!("{}ab", REQUESTS[1].1))],
    ),
    (
        "`next_event`, the head is chunked and more of its body is to come",
        &[|_| after(REQUESTS[2].1), |_| after(&format!("{}3\r\nab", REQUESTS[2].1))],
    ),
    (
        "`next_event`, the bytes break a rule or a limit",
        &[
            |_| after("GET\0"),
            |_| after("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n"),
            |_| after(&format!("{}x\r\n", REQUESTS[2].1)),
        ],
    ),
    (
        "`next_event` after `received_end`, the head is incomplete",
        &[|_| {
            let mut connection = after("GET / HTTP/1.1\r\n");
            connection.received_end();
            assert!(matches!(connection.next_event(), Event::Finished));
            connection
        }],
    ),
    (
        "`next_event` while closing",
        &[|_| {
            let mut connection = connection();
            connection.close_after_this();
            receive(&mut connection, REQUESTS[0].1);
            assert!(matches!(connection.next_event(), Event::Finished));
            connection
        }],
    ),
    (
        "`next_piece` or `buffer_body` takes the last byte",
        &[
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, rest(from));
                assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "abc"));
                connection
            },
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, rest(from));
                connection.buffer_body(100);
                connection
            },
        ],
    ),
    (
        "`next_piece` or `buffer_body` takes the last chunk and the trailer section",
        &[
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, rest(from));
                assert!(matches!(read_body(&mut connection), Ok(Piece::End)));
                connection
            },
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, rest(from));
                connection.buffer_body(100);
                connection
            },
        ],
    ),
    (
        "`next_piece`, the coding is malformed or the body exceeds `Limits::body`",
        &[
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, "x\r\n");
                assert!(matches!(connection.next_piece(), Err(BodyError::Malformed(Error::ChunkSize))));
                connection
            },
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, "65\r\n");
                assert!(matches!(connection.next_piece(), Err(BodyError::TooLarge { limit: 100 })));
                connection
            },
        ],
    ),
    (
        "`next_piece` after `received_end` or `fail_body`, nothing is left to take",
        &[
            |from| {
                let mut connection = request_in(from);
                connection.received_end();
                assert!(matches!(connection.next_piece(), Err(BodyError::Incomplete)));
                connection
            },
            |from| {
                let mut connection = request_in(from);
                receive(&mut connection, if from == "Length" { "a" } else { "1\r\na" });
                connection.fail_body(BodyError::TimedOut);
                assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "a"));
                assert_eq!(request_state(&connection), from, "the state changes only when no byte is left");
                assert!(matches!(connection.next_piece(), Err(BodyError::TimedOut)));
                connection
            },
        ],
    ),
    (
        "`break_body`",
        &[|from| {
            let mut connection = request_in(from);
            connection.break_body(BodyError::TimedOut);
            assert!(connection.is_closing());
            connection
        }],
    ),
    (
        "`next_event`, the response is `Done`",
        &[|from| {
            let mut connection = answered_in(from);
            assert!(matches!(connection.next_event(), Event::NeedBytes));
            connection
        }],
    ),
    (
        "`next_event`, the response is `Done`, the rest arrives within `Limits::drain`",
        &[|from| {
            let mut connection = answered_in(from);
            assert!(matches!(connection.next_event(), Event::NeedBytes));
            assert_eq!(request_state(&connection), from);
            receive(&mut connection, rest(from));
            assert!(matches!(connection.next_event(), Event::NeedBytes));
            connection
        }],
    ),
    (
        "`next_event`, the response is `Done`, the rest exceeds `Limits::drain` or fails",
        &[
            |from| {
                let mut connection = match from {
                    "Length" => after("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"),
                    _ => request_in(from),
                };
                connection.respond_whole(&mut Response::text("ok"), 0);
                if from == "Chunked" {
                    receive(&mut connection, "b\r\n01234567890");
                }
                assert!(matches!(connection.next_event(), Event::Finished));
                connection
            },
            |from| {
                let mut connection = answered_in(from);
                connection.received_end();
                assert!(matches!(connection.next_event(), Event::Finished));
                connection
            },
        ],
    ),
    (
        "`next_event` while closing, the response is `Done`",
        &[|from| {
            let mut connection = request_in(from);
            connection.close_after_this();
            connection.respond_whole(&mut Response::text("ok"), 0);
            assert!(matches!(connection.next_event(), Event::Finished));
            connection
        }],
    ),
    (
        "`switch`, the response is `Awaited`",
        &[|from| {
            let mut connection = request_in(from);
            connection.switch(StatusCode::SWITCHING_PROTOCOLS, &[], 0);
            connection
        }],
    ),
    (
        "`close`, `refuse`",
        &[
            |from| {
                let mut connection = request_in(from);
                connection.close();
                connection
            },
            |from| {
                let mut connection = request_in(from);
                connection.refuse(Error::HeadTimeout, 0);
                connection
            },
        ],
    ),
];

/// The rows of the response side, like [`REQUEST_ROWS`].
const RESPONSE_ROWS: &[(&str, &[Drive])] = &[
    ("`next_event` returns a request", &[|_| after(REQUESTS[0].1)]),
    (
        "`respond_whole`",
        &[|from| {
            let mut connection = response_in(from);
            connection.respond_whole(&mut Response::text("ok"), 0);
            connection
        }],
    ),
    (
        "`respond` to HEAD, or with 204 or 304",
        &[
            |_| {
                let mut connection = after("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
                assert!(!connection.respond(StatusCode::OK, &[], Some(3), 0));
                connection
            },
            |from| {
                let mut connection = response_in(from);
                assert!(!connection.respond(StatusCode::NO_CONTENT, &[], Some(3), 0));
                connection
            },
            |from| {
                let mut connection = response_in(from);
                assert!(!connection.respond(StatusCode::NOT_MODIFIED, &[], None, 0));
                connection
            },
        ],
    ),
    (
        "`respond` with a length",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.respond(StatusCode::OK, &[], Some(3), 0));
            connection
        }],
    ),
    (
        "`respond` without a length, to HTTP/1.1",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.respond(StatusCode::OK, &[], None, 0));
            assert!(!connection.is_closing());
            connection
        }],
    ),
    (
        "`respond` without a length, to HTTP/1.0",
        &[|_| {
            let mut connection = after("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            assert!(connection.respond(StatusCode::OK, &[], None, 0));
            assert!(connection.is_closing());
            connection
        }],
    ),
    (
        "`send` within the length",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.send(Bytes::from_static(b"abc")).is_ok());
            connection
        }],
    ),
    (
        "`send` beyond the length, or `finish` before its end: `WrongLength`",
        &[
            |from| {
                let mut connection = response_in(from);
                assert!(connection.send(Bytes::from_static(b"abcd")).is_err());
                connection
            },
            |from| {
                let mut connection = response_in(from);
                assert!(connection.finish().is_err());
                connection
            },
        ],
    ),
    (
        "`send`",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.send(Bytes::from_static(b"abc")).is_ok());
            connection
        }],
    ),
    (
        "`finish`",
        &[|from| {
            let mut connection = response_in(from);
            if from == "Length" {
                assert!(connection.send(Bytes::from_static(b"abc")).is_ok());
            }
            assert!(connection.finish().is_ok());
            connection
        }],
    ),
    (
        "`send`: `WrongLength`",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.send(Bytes::from_static(b"abc")).is_err());
            connection
        }],
    ),
    (
        "`finish`: `WrongLength`",
        &[|from| {
            let mut connection = response_in(from);
            assert!(connection.finish().is_err());
            connection
        }],
    ),
    (
        "the request side moves to `Head` or `Closed`",
        &[
            |_| {
                let mut connection = response_in("Done");
                assert!(matches!(connection.next_event(), Event::NeedBytes));
                connection
            },
            |from| {
                let mut connection = response_in(from);
                connection.close();
                connection
            },
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

/// Compares the rows with the documentation and executes them from each of their states.
fn check(title: &str, states: &[&str], rows: &[(&str, &[Drive])], state: fn(&Connection) -> String) {
    let documented = documented(title);
    let described: Vec<_> = documented.iter().map(|row| row[1]).collect();
    let executed: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(described, executed, "the rows of the documentation and of the test");
    for ([from, call, to], (_, drives)) in documented.into_iter().zip(rows) {
        let from = match from {
            "every state" => states.to_vec(),
            from => from.split(", ").map(|state| state.trim_matches('`')).collect(),
        };
        for from in from {
            for (n, drive) in drives.iter().enumerate() {
                let to = match to {
                    "unchanged" => from,
                    "(none)" => "None",
                    to => to.trim_matches('`'),
                };
                assert_eq!(state(&drive(from)), to, "{from}: {call}, drive {n}");
            }
        }
    }
}

#[test]
fn the_request_side_moves_as_documented() {
    let states = ["Head", "Done", "Length", "Chunked", "Broken", "Rejected", "Closed"];
    check("/// The request side. ", &states, REQUEST_ROWS, request_state);
}

#[test]
fn the_response_side_moves_as_documented() {
    let states = ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless", "Done"];
    check("/// The response side:", &states, RESPONSE_ROWS, response_state);
}

#[test]
fn next_event_waits_for_the_response_in_every_exchange() {
    for state in ["Done", "Length", "Chunked", "Broken"] {
        let mut connection = request_in(state);
        receive(&mut connection, REQUESTS[0].1);
        assert!(matches!(connection.next_event(), Event::AwaitResponse), "{state}");
        assert_eq!(request_state(&connection), state);
    }
    for state in ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless"] {
        let mut connection = response_in(state);
        receive(&mut connection, REQUESTS[0].1);
        assert!(matches!(connection.next_event(), Event::AwaitResponse), "{state}");
        assert_eq!(response_state(&connection), state);
    }
    for state in ["Rejected", "Closed"] {
        let mut connection = request_in(state);
        receive(&mut connection, REQUESTS[0].1);
        assert!(matches!(connection.next_event(), Event::Finished), "{state}");
        assert_eq!(request_state(&connection), state);
    }
}

#[test]
fn a_connection_is_closing_after_a_response_with_connection_close() {
    let mut connection = response_in("Awaited");
    connection.respond(
        StatusCode::OK,
        &[(header::CONNECTION, HeaderValue::from_static("close"))],
        Some(0),
        0,
    );
    assert!(connection.is_closing());
}

#[test]
fn an_empty_piece_is_ignored_in_every_state() {
    for state in ["Awaited", "Length", "Chunked", "UntilClose", "Bodiless", "Done"] {
        let mut connection = response_in(state);
        let queued = connection.write_queue().len();
        assert!(connection.send(Bytes::new()).is_ok(), "{state}");
        assert_eq!((response_state(&connection).as_str(), connection.write_queue().len()), (state, queued));
    }
}
