//! Plans in which no two events race, so that both flavours have to give the same responses.

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::Config;

use crate::action::{Action, Kind};
use crate::ask::{Ask, Framing, pattern};
use crate::plan::Plan;
use crate::plan::client::{ClientPlan, Ending, Reading, Written};
use crate::plan::segment::{Gate, Segment};

impl Plan {
    /// A plan in which no two events race: both flavours have to give the same responses. Bodies are whole, cut by the
    /// end of the client's side or by its silence, malformed or too large.
    pub(crate) fn draw_without_races(rng: &mut Rng) -> Plan {
        let mut config = Config::default();
        config.header_timeout = Duration::from_secs(60);
        config.keep_alive = Duration::from_secs(60);
        config.body_timeout = Duration::from_secs(10);
        config.handler_timeout = Duration::from_secs(600);
        config.min_rate = 0;
        config.date_header = false;
        config.body_buffer = [0, rng.usize(1..300), rng.usize(1..6_000), 64 * 1024][rng.usize(..4)];
        let clients = match rng.u8(..4) {
            // If such a body is read together with its head, it is refused without a handler.
            0 => vec![draw_broken_body(rng, &mut config)],
            _ => (0..rng.u64(1..=3)).map(|at| draw_body(rng, at, config.body_buffer)).collect(),
        };
        let (workers, lateness) = (rng.usize(1..=3), Duration::ZERO);
        Plan {
            config,
            clients,
            graceful: None,
            forced: None,
            rush: None,
            pauses: Vec::new(),
            pause_after: None,
            clock_steps: Vec::new(),
            workers,
            lateness,
        }
    }
}

/// A request with a body, for a handler that says what it read.
fn draw_posted(rng: &mut Rng, id: u64, len: usize) -> Ask {
    let kinds = [
        Kind::Read,
        Kind::LateRead,
        Kind::ReadLate,
        Kind::ReadSlow,
        Kind::Reader,
        Kind::Hand,
        Kind::Echo,
        Kind::LateEcho,
    ];
    let pause = Duration::from_micros(rng.u64(..50_000));
    let action = Action { kind: kinds[rng.usize(..kinds.len())], pause, size: rng.usize(..200), pieces: 1 };
    let mut ask = Ask::post(action.target(), pattern(id, len));
    ask.action = Some(action);
    if rng.bool() {
        ask.framing = Framing::Chunked;
    }
    ask
}

/// A client that sends one request, whose body is whole or cut.
fn draw_body(rng: &mut Rng, at: u64, body_buffer: usize) -> ClientPlan {
    let len = match rng.u8(..3) {
        0 => rng.usize(..300),
        1 => rng.usize(..8_000),
        _ => (body_buffer + rng.usize(..20)).saturating_sub(10),
    };
    let mut ask = draw_posted(rng, at * 100, len);
    let way = rng.u8(..4);
    ask.expect = way > 1 && rng.u8(..4) == 0 && len > 0;
    let (head, mut body) = ask.write(at * 100, rng);
    let (head_end, end) = (head.len() as u64, (head.len() + body.len()) as u64);
    let is_cut = way <= 1 && !body.is_empty();
    if is_cut {
        body.truncate(rng.usize(..body.len()));
    }
    let gate = if ask.expect { Gate::Continue(0) } else { Gate::Open };
    let ending = if way == 0 { Ending::HalfClose } else { Ending::Stay };
    let mut segments = vec![Segment { bytes: head, after: Duration::ZERO, gate: Gate::Open }];
    segments.extend(spaced(rng, &body));
    if let Some(first) = segments.get_mut(1) {
        first.gate = gate;
    }
    let asks = vec![Written { id: at * 100, ask, head_end, end }];
    quiet(asks, segments, ending, !is_cut)
}

/// A client that sends one request, whose chunked body is malformed or too large.
fn draw_broken_body(rng: &mut Rng, config: &mut Config) -> ClientPlan {
    let len = rng.usize(1..8_000);
    let mut ask = draw_posted(rng, 0, len);
    ask.framing = Framing::Chunked;
    let (head, body) = ask.write(0, rng);
    let (head_end, end) = (head.len() as u64, (head.len() + body.len()) as u64);
    let mut segments = vec![Segment { bytes: head, after: Duration::ZERO, gate: Gate::Open }];
    let mut rest = &ask.body[..];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(rng.usize(1..=rest.len()));
        let coded = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        segments.extend(spaced(rng, &coded));
        rest = after;
    }
    match rng.bool() {
        true => config.limits.body = rng.u64(..len as u64),
        false => segments.extend(spaced(rng, b"no size\r\n")),
    }
    let mut client = quiet(vec![Written { id: 0, ask, head_end, end }], segments, Ending::Stay, false);
    client.is_mangled = true;
    client
}

/// `bytes` in a few segments, so far apart that each is read before the next arrives.
fn spaced(rng: &mut Rng, bytes: &[u8]) -> Vec<Segment> {
    let max = bytes.len().div_ceil(rng.usize(1..6)).max(1);
    let segment = |bytes: &[u8], rng: &mut Rng| Segment {
        bytes: bytes.to_vec(),
        after: Duration::from_micros(rng.u64(20_000..60_000)),
        gate: Gate::Open,
    };
    bytes.chunks(max).map(|bytes| segment(bytes, rng)).collect()
}

/// A client that connects at once and takes everything that it is sent.
fn quiet(asks: Vec<Written>, segments: Vec<Segment>, ending: Ending, is_clean: bool) -> ClientPlan {
    ClientPlan {
        opens: Duration::ZERO,
        asks,
        segments,
        reading: Reading::Prompt,
        ending,
        ends_with_last: false,
        window: 64 * 1024,
        is_clean,
        is_mangled: false,
        is_rude: false,
        nudges: false,
    }
}
