//! Other requests are answered while a picture is made smaller, unless it is made in place.

use std::io::ErrorKind;

use gearshift::{Backend, Config, TestServer};
use image::ImageFormat;
use test_support::backend::{blocks, concurrency};

use crate::client::{connect, file, last_answer, send_head};

/// The number of requests that are answered one after another in a small part of the time that a picture takes.
const SOME: usize = 20;

#[test]
fn on_the_compute_pool_a_picture_holds_up_nobody() {
    let large = large();
    // A server with one thread runs requests strictly one after another, also those that offload their work.
    for backend in Backend::available().iter().filter(|backend| concurrency(**backend) != Some(1)) {
        let server = TestServer::start(*backend, thumbnails::app()).expect("it starts");
        let answered = answered_meanwhile(&server, "/thumbnail", &large);
        assert!(answered >= SOME, "{backend}: {answered}");
    }
}

#[test]
fn in_place_a_picture_holds_up_all_others_of_its_event_loop() {
    let large = large();
    for backend in Backend::available().iter().filter(|backend| !blocks(**backend)) {
        let mut config = Config::default();
        config.workers = Some(1);
        // The environment may set the number of loops, and to more than one.
        if backend.check(&config).is_err() {
            continue;
        }
        let server = TestServer::with_config(*backend, config, thumbnails::app()).expect("it starts");
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

/// Posts a picture, and counts the requests on a sync route that are answered before it is.
fn answered_meanwhile(server: &TestServer, route: &str, file: &[u8]) -> usize {
    let mut neighbour = connect(server);
    assert_eq!(neighbour.get("/").status, 200);

    let length = format!("Content-Length: {}", file.len());
    let mut client = send_head(server, &format!("{route}?w=300&h=300"), &length);
    client.send(file);
    client.socket.set_nonblocking(true).expect("a socket can be nonblocking");
    let mut answered = 0;
    loop {
        assert_eq!(neighbour.get("/").status, 200);
        match client.socket.peek(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => answered += 1,
            received => break assert_eq!(received.expect("the server answers"), 1),
        }
    }
    client.socket.set_nonblocking(false).expect("a socket can be blocking");
    assert_eq!(last_answer(client).status, 200);
    answered
}
