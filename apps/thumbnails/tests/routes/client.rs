//! Pictures, and a client that posts them.

use std::io::Cursor;
use std::time::Duration;

use gearshift::{Backend, TestServer};
use image::{DynamicImage, ImageFormat, RgbaImage};
use test_support::client::{Answer, Client};

/// How long one read of a client may take while the server computes.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn each_backend(check: impl Fn(&TestServer)) {
    for backend in Backend::available() {
        eprintln!("on {backend}");
        let server = TestServer::start(*backend, thumbnails::app()).expect("it starts");
        check(&server);
        server.stop().expect("it stops");
    }
}

/// Connects to a server.
pub(crate) fn connect(server: &TestServer) -> Client {
    Client::connect_with(server.addr(), PATIENCE)
}

/// Posts a file with its length, and reads the answer.
pub(crate) fn post(server: &TestServer, target: &str, file: &[u8]) -> Answer {
    let mut client = send_head(server, target, &format!("Content-Length: {}", file.len()));
    client.send(file);
    last_answer(client)
}

/// Connects, and sends a request without its body.
pub(crate) fn send_head(server: &TestServer, target: &str, framing: &str) -> Client {
    let mut client = connect(server);
    client.send(format!("POST {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{framing}\r\n\r\n"));
    client
}

/// Reads an answer, after which the server closes the connection.
pub(crate) fn last_answer(mut client: Client) -> Answer {
    let answer = client.answer();
    client.expect_end();
    answer
}

/// A picture with red on its left and blue on its right.
pub(crate) fn picture(width: u32, height: u32) -> DynamicImage {
    let pixel = |x, _| if x < width / 2 { [255, 0, 0, 255] } else { [0, 0, 255, 255] };
    RgbaImage::from_fn(width, height, |x, y| image::Rgba(pixel(x, y))).into()
}

/// The same picture without alpha, as a file.
pub(crate) fn file(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    encode(&picture(width, height).into_rgb8().into(), format)
}

pub(crate) fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).expect("a format that is compiled in");
    file.into_inner()
}
