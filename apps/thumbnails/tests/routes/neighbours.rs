//! Who is answered while a picture is made smaller.

use std::io::{Read, Write};
use std::net::TcpStream;

use gearshift::{Backend, Config, TestServer};
use image::ImageFormat;

use crate::client::{PATIENCE, file, read, send_head};

/// How many neighbours are answered one after another in a small part of the time that a picture takes.
const SOME: usize = 20;

#[test]
fn on_the_compute_pool_a_picture_holds_up_nobody() {
    let large = large();
    // A sequential server runs requests strictly one after another, wherever their work is.
    for backend in Backend::available().iter().filter(|backend| backend.name() != "sequential") {
        let server = TestServer::start(*backend, thumbnails::app).expect("it starts");
        let answered = answered_meanwhile(&server, "/thumbnail", &large);
        assert!(answered >= SOME, "{backend}: {answered}");
    }
}

#[test]
fn in_place_a_picture_holds_up_all_others_of_its_event_loop() {
    let large = large();
    // The number of async-std's loops is the environment's.
    for backend in
        Backend::available().iter().filter(|backend| ["mio", "tokio", "smol"].contains(&backend.name()))
    {
        let mut config = Config::default();
        config.workers = Some(1);
        let server = TestServer::with_config(*backend, config, thumbnails::app).expect("it starts");
        let answered = answered_meanwhile(&server, "/thumbnail/in-place", &large);
        assert!(answered < SOME, "{backend}: {answered}");
        // The same loop, had it not been held up.
        let answered = answered_meanwhile(&server, "/thumbnail", &large);
        assert!(answered >= SOME, "{backend}: {answered}");
    }
}

/// Few bytes, and many pixels.
fn large() -> Vec<u8> {
    file(ImageFormat::Png, 2400, 1600)
}

/// Posts a picture, and counts whom a sync route answers until the answer is here.
fn answered_meanwhile(server: &TestServer, route: &str, file: &[u8]) -> usize {
    let mut neighbour = TcpStream::connect(server.addr()).expect("the server listens");
    neighbour.set_read_timeout(Some(PATIENCE)).expect("no zero");
    ask(&mut neighbour);

    let mut peer =
        send_head(server.addr(), &format!("{route}?w=300&h=300"), &format!("Content-Length: {}", file.len()));
    peer.write_all(file).expect("the server reads it");
    peer.set_nonblocking(true).expect("it is a socket");
    let mut answered = 0;
    loop {
        ask(&mut neighbour);
        match peer.peek(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => answered += 1,
            here => break assert_eq!(here.expect("the server answers"), 1),
        }
    }
    peer.set_nonblocking(false).expect("it is a socket");
    assert_eq!(read(peer).status, 200);
    answered
}

/// Asks for the page, on a connection that is kept.
fn ask(neighbour: &mut TcpStream) {
    neighbour.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads it");
    let mut answer = Vec::new();
    while !answer.ends_with(b"</html>\n") {
        let mut part = [0; 4096];
        let n = neighbour.read(&mut part).expect("the server answers");
        assert_ne!(n, 0, "the server keeps the connection");
        answer.extend_from_slice(&part[..n]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "));
}
