//! The requests of simulated clients, and how each is written on the wire.

use fastrand::Rng;

use crate::action::Action;

/// One request that a simulated client makes.
///
/// ```
/// use gearshift_sim::Ask;
/// let ask = Ask::post("/upload", "some bytes").with_header("X-Tag", "blue");
/// ```
#[derive(Clone, Debug)]
pub struct Ask {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    /// Whether a chunked body has a trailer.
    pub(crate) has_trailer: bool,
    /// Whether the request is of HTTP/1.0.
    pub(crate) old: bool,
    pub(crate) close: bool,
    pub(crate) expect: bool,
    /// The protocols to which the client is ready to switch.
    pub(crate) offers: Option<&'static str>,
    /// The number of empty lines before the request.
    pub(crate) empty_lines: usize,
    /// What the client sends after the switch.
    pub(crate) raw: Vec<u8>,
    /// What the simulation's own application does for this request.
    pub(crate) action: Option<Action>,
    /// The status with which the server has to refuse the request.
    pub(crate) refused: Option<u16>,
}

/// The protocol to which the simulation's own application switches.
pub(crate) const PROTOCOL: &str = "sim/1";

/// The name of the trailer of requests and of responses. Its value is the number of the request.
pub(crate) const TRAILER: &str = "Sim-Trailer";

/// How the end of a body is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
}

impl Ask {
    /// A `GET`.
    pub fn get(target: impl Into<String>) -> Ask {
        Ask::new("GET", target.into(), Vec::new())
    }

    /// A `HEAD`.
    pub fn head(target: impl Into<String>) -> Ask {
        Ask::new("HEAD", target.into(), Vec::new())
    }

    /// A `POST` of `body`. The simulation chooses between a `Content-Length` and the chunked coding.
    pub fn post(target: impl Into<String>, body: impl Into<Vec<u8>>) -> Ask {
        Ask { framing: Framing::Length, ..Ask::new("POST", target.into(), body.into()) }
    }

    /// The same request with one more field line.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Ask {
        self.fields.push((name.into(), value.into()));
        self
    }

    fn new(method: &'static str, target: String, body: Vec<u8>) -> Ask {
        Ask {
            method,
            target,
            fields: Vec::new(),
            body,
            framing: Framing::None,
            has_trailer: false,
            old: false,
            close: false,
            expect: false,
            offers: None,
            empty_lines: 0,
            raw: Vec::new(),
            action: None,
            refused: None,
        }
    }

    /// Whether the response has no body.
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// The value of the trailer [`TRAILER`] that follows the body of request `id`.
    pub(crate) fn trailer(&self, id: u64) -> Option<String> {
        (self.framing == Framing::Chunked && self.has_trailer).then(|| id.to_string())
    }

    /// Whether the connection leaves HTTP with the response.
    pub(crate) fn switches(&self) -> bool {
        let is_offered = self.offers.is_some_and(|offers| offers.contains(PROTOCOL));
        is_offered && !self.old && !self.close && self.action.is_some_and(|action| action.kind.upgrades())
    }

    /// The bytes of the head, and the bytes of the body with its framing.
    pub(crate) fn write(&self, id: u64, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut head = "\r\n".repeat(self.empty_lines);
        head += &format!("{} {} HTTP/{version}\r\nHost: sim\r\nSim-Id: {id}\r\n", self.method, self.target);
        let mut framed = Vec::new();
        match self.framing {
            Framing::None => {}
            Framing::Length => {
                head += &format!("Content-Length: {}\r\n", self.body.len());
                framed.extend_from_slice(&self.body);
            }
            Framing::Chunked => {
                head += "Transfer-Encoding: chunked\r\n";
                let mut rest = &self.body[..];
                while !rest.is_empty() {
                    let n = rng.usize(1..=rest.len());
                    let (chunk, after) = rest.split_at(n);
                    let extension = if rng.u8(..8) == 0 { ";a=\"b\"" } else { "" };
                    framed.extend_from_slice(format!("{n:x}{extension}\r\n").as_bytes());
                    framed.extend_from_slice(chunk);
                    framed.extend_from_slice(b"\r\n");
                    rest = after;
                }
                framed.extend_from_slice(b"0\r\n");
                if let Some(trailer) = self.trailer(id) {
                    framed.extend_from_slice(format!("{TRAILER}: {trailer}\r\n").as_bytes());
                }
                framed.extend_from_slice(b"\r\n");
            }
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        if self.expect {
            head += "Expect: 100-continue\r\n";
        }
        if let Some(offers) = self.offers {
            head += &format!("Connection: Upgrade\r\nUpgrade: {offers}\r\n");
        }
        if self.close {
            head += "Connection: close\r\n";
        }
        head += "\r\n";
        (head.into_bytes(), framed)
    }
}

/// The body of request or response `id`: no other has the same, and neighbouring bytes differ mostly.
pub(crate) fn pattern(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| pattern_at(id, at)).collect()
}

pub(crate) fn pattern_at(id: u64, at: usize) -> u8 {
    let mixed = (id.wrapping_mul(0x9e37_79b9) ^ (at as u64)).wrapping_mul(0x2545_f491_4f6c_dd1d);
    b'a' + ((mixed >> 32) % 26) as u8
}
