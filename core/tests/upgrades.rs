//! The end of HTTP on a connection, without I/O: which responses a request allows, and the bytes around the switch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gearshift_core::h1::{Connection, Event, Piece};
use gearshift_core::{HeaderValue, Limits, Response, StatusCode, header};

const SWITCHING: StatusCode = StatusCode::SWITCHING_PROTOCOLS;
const OFFER: &str = "Connection: upgrade\r\nUpgrade: a/1, b\r\n";

/// Creates a connection whose current request has this line and these fields, and that has received `more`.
fn asked(line: &str, fields: &str, more: &str) -> Connection {
    let mut connection = Connection::new(Limits::default().into(), false, false);
    connection.read_buffer.extend(format!("{line}\r\nHost: a\r\n{fields}\r\n{more}").as_bytes());
    assert!(matches!(connection.next_event(), Event::Request(_)), "{line} {fields}");
    connection
}

fn chosen(protocol: &'static str) -> [(header::HeaderName, HeaderValue); 1] {
    [(header::UPGRADE, HeaderValue::from_static(protocol))]
}

fn written(connection: &mut Connection) -> String {
    let mut written = String::new();
    while !connection.write_queue.is_empty() {
        let front = connection.write_queue.front();
        written += std::str::from_utf8(front).expect("heads are ASCII");
        let len = front.len();
        connection.write_queue.sent(len);
    }
    written
}

#[test]
fn a_switch_needs_an_offer() {
    for (line, fields, protocol, may_switch) in [
        ("GET / HTTP/1.1", OFFER, "a/1", true),
        ("GET / HTTP/1.1", OFFER, "B", true),
        ("GET / HTTP/1.1", OFFER, "c", false),
        ("GET / HTTP/1.1", "", "a/1", false),
        ("POST / HTTP/1.1", OFFER, "b", true),
        ("GET / HTTP/1.7", OFFER, "b", true),
        ("GET / HTTP/1.0", OFFER, "b", false),
        ("CONNECT a:1 HTTP/1.1", OFFER, "b", false),
        ("GET / HTTP/1.1", "connection: UPGRADE\r\nupgrade: b\r\n", "b", true),
        ("GET / HTTP/1.1", "Connection: x, upgrade\r\nUpgrade: b\r\n", "b", true),
        ("GET / HTTP/1.1", "Connection: x\r\nConnection: upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n", "b", true),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade:\r\n", "b", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\n", "b", false),
        ("GET / HTTP/1.1", "Upgrade: b\r\n", "b", false),
        ("GET / HTTP/1.1", "Connection: upgrades\r\nUpgrade: b\r\n", "b", false),
        ("GET / HTTP/1.1", "Connection: upgrade, close\r\nUpgrade: b\r\n", "b", false),
        ("GET / HTTP/1.1", "Connection: close\r\nUpgrade: b\r\nConnection: upgrade\r\n", "b", false),
        ("GET / HTTP/1.1", "Connectors: upgrade\r\nUpgrade: b\r\n", "b", false),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpdates: b\r\n", "b", false),
    ] {
        let connection = asked(line, fields, "");
        assert_eq!(connection.may_switch(SWITCHING, &chosen(protocol)), may_switch, "{line} {fields}");
        assert!(!connection.may_switch(SWITCHING, &[]), "{line} {fields}");
        assert!(!connection.may_switch(StatusCode::CONTINUE, &chosen(protocol)), "{line} {fields}");
    }
}

#[test]
fn a_tunnel_needs_a_connect() {
    for status in [200, 204, 299] {
        let status = StatusCode::from_u16(status).expect("a status");
        for version in ["1.0", "1.1"] {
            let connection = asked(&format!("CONNECT a:1 HTTP/{version}"), "", "");
            assert!(connection.may_switch(status, &[]));
        }
        assert!(!asked("GET / HTTP/1.1", OFFER, "").may_switch(status, &chosen("b")));
    }
    for status in [SWITCHING, StatusCode::FOUND, StatusCode::FORBIDDEN] {
        assert!(!asked("CONNECT a:1 HTTP/1.1", "", "").may_switch(status, &[]));
    }
}

#[test]
fn no_switch_is_allowed_without_a_request() {
    let mut connection = Connection::new(Limits::default().into(), false, false);
    assert!(!connection.may_switch(StatusCode::OK, &[]));
    connection = asked("CONNECT a:1 HTTP/1.1", "", "");
    connection.switch(StatusCode::OK, &[], 0);
    assert!(!connection.may_switch(StatusCode::OK, &[]));
}

#[test]
fn the_bytes_after_the_request_belong_to_the_new_protocol() {
    let mut connection = asked("GET / HTTP/1.1", OFFER, "GET / HTTP/1.1\r\n\r\n");
    connection.switch(SWITCHING, &chosen("b"), 0);
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: b\r\nConnection: upgrade\r\n\r\n";
    assert_eq!(written(&mut connection), head);
    assert!(matches!(connection.next_event(), Event::Finished));
    assert_eq!(connection.read_buffer.as_slice(), b"GET / HTTP/1.1\r\n\r\n");

    let mut connection = asked("CONNECT a:1 HTTP/1.1", "Content-Length: 2\r\n", "abc");
    connection.switch(StatusCode::OK, &[], 0);
    assert_eq!(written(&mut connection), "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(connection.read_buffer.as_slice(), b"c");
}

#[test]
fn a_switch_in_the_middle_of_a_body_is_a_fault_of_the_caller() {
    for fields in ["Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut connection = asked("POST / HTTP/1.1", &format!("{OFFER}{fields}"), "");
        assert!(connection.may_switch(SWITCHING, &chosen("b")), "the body can still be read");
        let switch = AssertUnwindSafe(|| connection.switch(SWITCHING, &chosen("b"), 0));
        assert!(catch_unwind(switch).is_err(), "{fields}");
    }
}

#[test]
fn continue_is_sent_once_and_before_101() {
    const EXPECT: &str = "Expect: 100-continue\r\n";
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    let body = format!("{EXPECT}Content-Length: 3\r\n");
    for (line, fields, more, status, is_continued) in [
        ("GET / HTTP/1.1", "", "", SWITCHING, false),
        ("GET / HTTP/1.1", EXPECT, "", SWITCHING, true),
        ("POST / HTTP/1.1", &body, "abc", SWITCHING, true),
        ("POST / HTTP/1.1", &body, "", SWITCHING, true),
        ("CONNECT a:1 HTTP/1.1", EXPECT, "", StatusCode::OK, false),
        ("CONNECT a:1 HTTP/1.1", &body, "", StatusCode::OK, true),
    ] {
        let mut connection = asked(line, &format!("{OFFER}{fields}"), more);
        if connection.is_body_pending() {
            assert!(connection.send_continue());
            connection.read_buffer.extend(b"abc");
            assert!(matches!(connection.next_piece(), Ok(Piece::Data(data)) if data == "abc"));
        }
        connection.switch(status, &chosen("b"), 0);
        let written = written(&mut connection);
        let rest = written.strip_prefix(CONTINUE);
        assert_eq!(rest.is_some(), is_continued, "{line} {fields}");
        let rest = rest.unwrap_or(&written);
        assert!(rest.starts_with(&format!("HTTP/1.1 {}", status.as_str())), "{line} {fields}: {written}");
    }
}

#[test]
fn a_response_with_upgrade_has_its_connection_option() {
    for (line, fields, connection) in [
        ("GET / HTTP/1.1", "", "upgrade"),
        ("GET / HTTP/1.1", "Connection: close\r\n", "close, upgrade"),
        ("GET / HTTP/1.0", "Connection: keep-alive\r\n", "keep-alive, upgrade"),
        ("GET / HTTP/1.0", "", "close, upgrade"),
        ("HEAD / HTTP/1.1", "", "upgrade"),
    ] {
        for status in [StatusCode::OK, StatusCode::UPGRADE_REQUIRED] {
            let mut asked = asked(line, fields, "");
            let mut response = Response::text("x").with_status(status).with_header("upgrade", "b");
            asked.respond_whole(&mut response, 0);
            let written = written(&mut asked);
            assert!(
                written.contains(&format!("\r\nConnection: {connection}\r\n")),
                "{line} {fields}: {written}"
            );
            assert_eq!(written.matches("\r\nConnection: ").count(), 1, "{written}");
        }
    }
}
