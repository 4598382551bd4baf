//! A peer that posts pictures: one request on a connection of its own, its answer in bytes.

use std::io::{Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use gearshift::{Backend, TestServer};
use image::{DynamicImage, ImageFormat, RgbaImage};

/// How long anything may take that is tested, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) kind: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// What a refusal says.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn each_backend(check: impl Fn(&TestServer)) {
    for backend in Backend::available() {
        eprintln!("on {backend}");
        let server = TestServer::start(*backend, thumbnails::app).expect("it starts");
        check(&server);
        server.stop().expect("it stops");
    }
}

/// Posts a file with its length.
pub(crate) fn post(server: &TestServer, target: &str, file: &[u8]) -> Answer {
    let mut peer = send_head(server.addr(), target, &format!("Content-Length: {}", file.len()));
    peer.write_all(file).expect("the server reads it");
    read(peer)
}

/// Connects, and sends all of a request but its body.
pub(crate) fn send_head(addr: SocketAddr, target: &str, framing: &str) -> TcpStream {
    let mut peer = TcpStream::connect(addr).expect("the server listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("no zero");
    peer.set_write_timeout(Some(PATIENCE)).expect("no zero");
    write!(peer, "POST {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{framing}\r\n\r\n")
        .expect("the server reads it");
    peer
}

/// Reads an answer that ends with the connection.
pub(crate) fn read(mut peer: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).expect("the server answers and closes");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head in ASCII");
    let field = |line: &str| {
        line.split_once(": ")
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-type"))
            .map(|(_, value)| value.to_owned())
    };
    Answer {
        status: head[9..12].parse().expect("a status"),
        kind: head.lines().find_map(field).unwrap_or_default(),
        body: bytes[end + 4..].to_vec(),
    }
}

/// A picture with red on its left and blue on its right.
pub(crate) fn picture(width: u32, height: u32) -> DynamicImage {
    let pixel = |x, _| if x < width / 2 { [255, 0, 0, 255] } else { [0, 0, 255, 255] };
    RgbaImage::from_fn(width, height, |x, y| image::Rgba(pixel(x, y))).into()
}

/// The same, without alpha, as a file.
pub(crate) fn file(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
    encode(&picture(width, height).into_rgb8().into(), format)
}

pub(crate) fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).expect("a format that is compiled in");
    file.into_inner()
}
