//! Frames of HTTP/2, byte by byte, for peers that a client of HTTP/2 does not make (RFC 9113, 4 and 6).

use std::io;
use std::net::SocketAddr;

use test_support::client::Client;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// The setting of the window with which streams begin.
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The error code of `RST_STREAM` or `GOAWAY`.
    pub(super) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into().expect("four bytes");
        u32::from_be_bytes(code)
    }
}

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut bytes = len[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A field section with the pseudo-header fields of a request, and literal fields. Nothing is indexed.
pub(super) fn section(method: &str, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "test")];
    for (name, value) in pseudo.iter().chain(fields) {
        bytes.push(0);
        for text in [name, value] {
            let len = u8::try_from(text.len()).ok().filter(|len| *len < 127).expect("a short text");
            bytes.push(len);
            bytes.extend(text.bytes());
        }
    }
    bytes
}

/// A request without a body.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &section("GET", path, &[]))
}

pub(super) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

pub(super) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub(super) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<_> = settings
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

/// A connection on which the test sends and receives frames.
pub(super) struct Raw(pub(super) Client);

impl Raw {
    /// Sends the preface with these settings.
    pub(super) fn connect(to: SocketAddr, given: &[(u16, u32)]) -> Raw {
        let mut raw = Raw(Client::connect(to));
        raw.0.send([PREFACE, &settings(given)].concat());
        raw
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.send(bytes);
    }

    /// Sends bytes that the server may not take any more.
    pub(super) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.0.socket, bytes)
    }

    /// The next frame. An error if the connection has ended.
    pub(super) fn try_frame(&mut self) -> Result<Frame, String> {
        let head = self.0.exactly(9)?;
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let payload = self.0.exactly(len as usize)?;
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that `is` returns true for. Others are dropped, and `PING` and `SETTINGS` are acknowledged.
    pub(super) fn expect(&mut self, what: &str, is: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.try_frame().unwrap_or_else(|why| panic!("{what}: {why}"));
            if is(&frame) {
                return frame;
            }
            self.acknowledge(&frame);
        }
    }

    /// The next frame of one of these kinds. Others are dropped, and nothing is acknowledged.
    pub(super) fn try_frame_of(&mut self, kinds: &[u8]) -> Result<Frame, String> {
        loop {
            let frame = self.try_frame()?;
            if kinds.contains(&frame.kind) {
                return Ok(frame);
            }
        }
    }

    fn acknowledge(&mut self, received: &Frame) {
        if received.flags & ACK == 0 && matches!(received.kind, PING | SETTINGS) {
            let payload = if received.kind == PING { &received.payload[..] } else { &[] };
            let _ = self.try_send(&frame(received.kind, ACK, 0, payload));
        }
    }

    /// All frames until the connection ends. `PING` and `SETTINGS` are acknowledged. A connection that stays open fails
    /// the test.
    pub(super) fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Ok(frame) = self.try_frame() {
            self.acknowledge(&frame);
            frames.push(frame);
        }
        // A read that has timed out would time out again.
        if let Err(error) = io::Read::read(&mut self.0.socket, &mut [0]) {
            let is_open = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            assert!(!is_open, "the connection stays open after {frames:?}");
        }
        frames
    }
}

pub(super) fn is_goaway(frame: &Frame) -> bool {
    frame.kind == GOAWAY
}

/// The code of the last `GOAWAY`.
pub(super) fn last_goaway(frames: &[Frame]) -> Option<u32> {
    frames.iter().rev().find(|frame| is_goaway(frame)).map(Frame::code)
}
