//! How a response says where it ends: each method and version with each kind of status and of body.

use gearshift_core::h1::{Connection, Event, WrongLength};
use gearshift_core::{HeaderMap, HeaderName, HeaderValue, Limits, Response, StatusCode, header};

/// Statuses whose responses may have content.
const ORDINARY: &[u16] = &[200, 201, 206, 299, 301, 400, 404, 426, 500, 599];
const SUCCESSFUL: &[u16] = &[200, 201, 204, 205, 206, 299];
const REFUSING: &[u16] = &[301, 400, 403, 426, 500, 502];
const INTERIM: &[u16] = &[100, 101, 102, 103, 199];

/// What the columns of [`TABLE`] stand for: the body, and the `Content-Length` that the handler has set.
const COLUMNS: [(Body, Option<&str>); 5] = [
    (Body::Empty, None),
    (Body::Empty, Some("9")),
    (Body::Known, Some("9")),
    (Body::Unknown, None),
    (Body::Unknown, Some("5")),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Body {
    Empty,
    /// `TEXT`.
    Known,
    /// `TEXT`, of which the connection does not know the length.
    Unknown,
}

const TEXT: &str = "text!";

/// The methods and versions, the statuses of the handler, the status on the wire unless it is that of the handler, and
/// the framing for each column: the value of `Content-Length`, `chunked`, or `-` for neither, and the text if it is
/// sent.
type Row = (&'static [&'static str], &'static [u16], Option<u16>, [&'static str; 5]);

const TABLE: &[Row] = &[
    // request                               body    none   none,9  text,9     stream           stream,5
    (
        &["GET 1.1", "POST 1.1", "OPTIONS 1.1"],
        ORDINARY,
        None,
        ["0", "0", "5 text!", "chunked text!", "5 text!"],
    ),
    (&["GET 1.0", "POST 1.0"], ORDINARY, None, ["0", "0", "5 text!", "- text!", "5 text!"]),
    // RFC 9110, 8.6 and 9.3.2: the length of the response to GET, or none.
    (&["HEAD 1.1"], ORDINARY, None, ["-", "9", "5", "chunked", "5"]),
    (&["HEAD 1.0"], ORDINARY, None, ["-", "9", "5", "-", "5"]),
    // RFC 9110, 9.3.6: a 2xx would be a tunnel.
    (&["CONNECT 1.1", "CONNECT 1.0"], SUCCESSFUL, Some(501), ["0", "0", "0", "0", "0"]),
    (&["CONNECT 1.1"], REFUSING, None, ["0", "0", "5 text!", "chunked text!", "5 text!"]),
    (&["CONNECT 1.0"], REFUSING, None, ["0", "0", "5 text!", "- text!", "5 text!"]),
    // RFC 9110, 8.6 and 15.3.5.
    (&["GET 1.1", "GET 1.0", "HEAD 1.1", "HEAD 1.0", "POST 1.1"], &[204], None, ["-", "-", "-", "-", "-"]),
    // RFC 9110, 15.3.6.
    (&["GET 1.1", "GET 1.0", "HEAD 1.1", "HEAD 1.0", "POST 1.1"], &[205], None, ["0", "0", "0", "0", "0"]),
    // RFC 9110, 8.6 and 15.4.5: the length of the 200 response, which only the handler knows, or none.
    (&["GET 1.1", "GET 1.0", "HEAD 1.1", "HEAD 1.0", "CONNECT 1.1"], &[304], None, ["-", "9", "9", "-", "5"]),
    // RFC 9110, 15.2: a 1xx is no final response.
    (&["GET 1.1", "GET 1.0", "POST 1.1", "CONNECT 1.1"], INTERIM, Some(500), ["0", "0", "0", "0", "0"]),
    (&["HEAD 1.1", "HEAD 1.0"], INTERIM, Some(500), ["-", "-", "-", "-", "-"]),
];

/// A connection that has received a request, after which the peer wants it to stay open.
fn asked(request: &str) -> Connection {
    let mut connection = Connection::new(Limits::default().into(), false, false);
    let (method, version) = request.split_once(' ').expect("a method and a version");
    let target = if method == "CONNECT" { "a:80" } else { "/" };
    let head = format!("{method} {target} HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    connection.read_buffer.extend(head.as_bytes());
    assert!(matches!(connection.next_event(), Event::Request(_)), "{request}");
    connection
}

fn fields(given_length: Option<&str>) -> Vec<(HeaderName, HeaderValue)> {
    // These are ignored, whatever the response.
    let mut fields = vec![
        (header::TRANSFER_ENCODING, HeaderValue::from_static("gzip")),
        (header::CONNECTION, HeaderValue::from_static("keep-alive")),
    ];
    if let Some(length) = given_length {
        fields.push((header::CONTENT_LENGTH, HeaderValue::from_str(length).expect("a value")));
    }
    fields
}

/// Answers in one call. Returns the number of bytes of the body that the connection reports.
fn answer_whole(
    connection: &mut Connection,
    status: StatusCode,
    body: Body,
    given_length: Option<&str>,
) -> u64 {
    let mut response = Response::new(if body == Body::Empty { "" } else { TEXT }).with_status(status);
    for (name, value) in fields(given_length) {
        response = response.with_header(name, value);
    }
    connection.respond_whole(&mut response, 0)
}

/// Answers in several calls, with `trailers` behind the body.
fn answer_in_pieces(
    connection: &mut Connection,
    status: StatusCode,
    body: Body,
    given_length: Option<&str>,
    trailers: Option<&HeaderMap>,
) {
    let length = match body {
        Body::Empty => Some(0),
        Body::Known => Some(TEXT.len() as u64),
        Body::Unknown => None,
    };
    if connection.respond(status, &fields(given_length), length, 0) {
        for piece in ["te", "xt!"] {
            connection.send(piece.into()).expect("the body is as long as announced");
        }
    }
    match trailers {
        None => connection.finish(),
        Some(trailers) => connection.finish_with_trailers(trailers),
    }
    .expect("the body is as long as announced");
}

/// The status on the wire, and the framing as a cell of the table.
fn written(connection: &mut Connection) -> (u16, String) {
    written_before(connection, "0\r\n\r\n")
}

/// As [`written`], of a response that ends with `last` if it is chunked.
fn written_before(connection: &mut Connection, last: &str) -> (u16, String) {
    let mut bytes = Vec::new();
    while !connection.write_queue.is_empty() {
        let chunk = connection.write_queue.front().to_vec();
        connection.write_queue.sent(chunk.len());
        bytes.extend(chunk);
    }
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let framing: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("Content-Length: ").or(line.strip_prefix("Transfer-Encoding: ")))
        .collect();
    assert!(framing.len() <= 1, "{head}");
    let body = match framing.first() {
        Some(&"chunked") if !body.is_empty() => {
            let data = body.strip_suffix(last).expect("a last chunk");
            data.split("\r\n").skip(1).step_by(2).collect()
        }
        _ => body.to_owned(),
    };
    let framing = framing.first().copied().unwrap_or("-");
    (status, format!("{framing} {body}").trim_end().to_owned())
}

#[test]
fn each_response_announces_the_body_that_follows() {
    for (requests, statuses, replaced, cells) in TABLE {
        for (request, status) in
            requests.iter().flat_map(|request| statuses.iter().map(move |status| (request, *status)))
        {
            for ((body, given_length), cell) in COLUMNS.into_iter().zip(cells) {
                let case = format!("{request}, {status}, {body:?}, length given: {given_length:?}");
                let on_wire = (replaced.unwrap_or(status), (*cell).to_owned());
                let status = StatusCode::from_u16(status).expect("a status");

                let mut connection = asked(request);
                answer_in_pieces(&mut connection, status, body, given_length, None);
                assert_eq!(written(&mut connection), on_wire, "{case}, in pieces");
                expect_persistence(connection, request, cell, &case);

                // Trailers are sent behind chunks, and dropped otherwise (RFC 9110, 6.5.1).
                let trailers = HeaderMap::from_iter([(header::ETAG, HeaderValue::from_static("\"a\""))]);
                let mut connection = asked(request);
                answer_in_pieces(&mut connection, status, body, given_length, Some(&trailers));
                let seen = written_before(&mut connection, "0\r\nEtag: \"a\"\r\n\r\n");
                assert_eq!(seen, on_wire, "{case}, with trailers");
                expect_persistence(connection, request, cell, &case);

                // A body in memory has a length.
                if body != Body::Unknown {
                    let mut connection = asked(request);
                    let queued = answer_whole(&mut connection, status, body, given_length);
                    assert_eq!(written(&mut connection), on_wire, "{case}, whole");
                    let sent = if cell.ends_with(TEXT) { TEXT.len() } else { 0 };
                    assert_eq!(queued, sent as u64, "{case}");
                    expect_persistence(connection, request, cell, &case);
                }
            }
        }
    }
}

#[test]
fn a_wrong_length_of_the_handler_is_noticed() {
    let ok = StatusCode::OK;
    let mut short = asked("GET 1.1");
    assert!(short.respond(ok, &fields(Some("6")), None, 0));
    assert_eq!((short.send(TEXT.into()), short.finish()), (Ok(()), Err(WrongLength)));
    let mut long = asked("GET 1.1");
    assert!(long.respond(ok, &fields(Some("4")), None, 0));
    assert_eq!(long.send(TEXT.into()), Err(WrongLength));
    // These are no lengths of a body that may have data.
    for given in ["0", "-5", "5, 5", "five", "18446744073709551616"] {
        let mut connection = asked("GET 1.1");
        answer_in_pieces(&mut connection, ok, Body::Unknown, Some(given), None);
        assert_eq!(written(&mut connection), (200, "chunked text!".to_owned()), "{given}");
    }
}

/// The connection closes after CONNECT, and after a body that ends with the connection, and stays open otherwise.
fn expect_persistence(mut connection: Connection, request: &str, cell: &str, case: &str) {
    let closes = request.starts_with("CONNECT") || cell == "- text!";
    assert_eq!(connection.is_closing(), closes, "{case}");
    connection.read_buffer.extend(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(matches!(connection.next_event(), Event::Request(_)), !closes, "{case}");
}

#[test]
fn trailers_are_written_as_fields_without_those_that_are_none() {
    const NONE: [&str; 26] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "if-match",
        "if-none-match",
        "if-range",
        "keep-alive",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "www-authenticate",
    ];
    let some = ["x-sum", "x-sum", "server-timing", "etag", "content-md5", "iffy"];
    let mut trailers = HeaderMap::new();
    for (nth, name) in NONE.into_iter().chain(some).enumerate() {
        trailers.append(name, HeaderValue::from(nth));
    }
    let mut connection = asked("GET 1.1");
    connection.respond(StatusCode::OK, &[], None, 0);
    connection.finish_with_trailers(&trailers).expect("the length is not announced");
    let mut seen = String::from_utf8_lossy(connection.write_queue.front()).into_owned();
    let fields = seen.split_off(seen.find("\r\n\r\n").expect("a head") + 4);
    assert_eq!(
        fields,
        "0\r\nX-Sum: 26\r\nX-Sum: 27\r\nServer-Timing: 28\r\nEtag: 29\r\nContent-Md5: 30\r\nIffy: 31\r\n\r\n"
    );
}
