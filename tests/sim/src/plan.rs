//! The plan of one simulation, drawn from its seed: settings, clients, their faults, and the time of the stop.

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::{Config, OnDisconnect};

use crate::action::{Action, Kind};
use crate::ask::{Ask, Framing, pattern};

/// Everything that is decided before the first byte moves.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) clients: Vec<ClientPlan>,
    /// When a graceful stop begins, unless all clients have left before.
    pub(crate) graceful: Option<Duration>,
    /// How long after that the stop is forced.
    pub(crate) forced: Option<Duration>,
    /// When all clients send their next segment, just before or after the stop.
    pub(crate) rush: Option<Duration>,
    /// How many threads drive connections where they block.
    pub(crate) workers: usize,
    /// How late deadlines are noticed, at most.
    pub(crate) lateness: Duration,
}

/// What one client does on its connection.
#[derive(Debug)]
pub(crate) struct ClientPlan {
    pub(crate) opens: Duration,
    pub(crate) asks: Vec<Written>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) reading: Reading,
    pub(crate) ending: Ending,
    /// Whether the client's end comes together with its last segment.
    pub(crate) ends_with_last: bool,
    /// The number of bytes that fit between the server's writes and the client's reads.
    pub(crate) window: usize,
    /// Whether the client does nothing that would cost it a response.
    pub(crate) is_clean: bool,
    /// Whether the client's bytes are changed on their way.
    pub(crate) is_mangled: bool,
    /// Whether the client stays when the server has ended its side.
    pub(crate) is_rude: bool,
    pub(crate) nudges: bool,
}

/// A request, and its place among the bytes of its connection.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
    pub(crate) head_end: u64,
    pub(crate) end: u64,
}

/// Bytes that arrive together.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) bytes: Vec<u8>,
    /// The pause after the segment before.
    pub(crate) after: Duration,
    pub(crate) gate: Gate,
}

/// What a client waits for before it sends a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// This number of complete responses.
    Replies(usize),
    /// The same, for a body whose head was sent before.
    RepliesBeforeBody(usize),
    /// `100 Continue`, or the response with this number instead.
    Continue(usize),
}

/// How a client takes the bytes that it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Prompt,
    Slow {
        bytes: usize,
        every: Duration,
    },
    /// It takes no more after this number of bytes.
    Deaf {
        after: u64,
    },
}

/// What a client does when it has sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It waits for the server to close.
    Stay,
    /// It ends its side, and reads on.
    HalfClose,
    /// It ends its side, and leaves later, even if responses are missing.
    HalfCloseThenLeave { after: Duration },
    /// It leaves once it has all responses.
    Answered,
    /// It leaves at once.
    Leave,
    /// It resets the connection. If it purges, bytes that have arrived unread are lost.
    Reset { purges: bool },
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng, config: Option<&Config>, ask: Option<&dyn Fn(u64) -> Ask>) -> Plan {
        let config = config.cloned().unwrap_or_else(|| draw_config(rng));
        let is_calm = rng.u8(..4) == 0;
        let clients = (0..rng.u64(1..=4)).map(|at| draw_client(rng, at, is_calm, &config, ask)).collect();
        let stops = rng.u8(..3) == 0;
        let graceful = stops.then(|| match rng.bool() {
            true => Duration::from_micros(rng.u64(..100_000)),
            false => Duration::from_millis(rng.u64(..40_000)),
        });
        let forced = (rng.u8(..4) == 0).then(|| Duration::from_millis(rng.u64(..3) * rng.u64(..3_000)));
        let rush = graceful.filter(|_| rng.bool()).map(|at| {
            let around = Duration::from_micros(rng.u64(..400));
            (at + around).saturating_sub(Duration::from_micros(200))
        });
        let lateness = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..20) });
        Plan { config, clients, graceful, forced, rush, workers: rng.usize(1..=3), lateness }
    }
}

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
        Plan { config, clients, graceful: None, forced: None, rush: None, workers, lateness }
    }
}

/// A request with a body, for a handler that says what it read.
fn draw_posted(rng: &mut Rng, id: u64, len: usize) -> Ask {
    let kinds =
        [Kind::Read, Kind::LateRead, Kind::ReadLate, Kind::ReadSlow, Kind::Reader, Kind::Hand, Kind::Echo];
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

fn draw_config(rng: &mut Rng) -> Config {
    let mut seconds = |max: u64| Duration::from_millis(rng.u64(200..max * 1000));
    let mut config = Config::default();
    config.keep_alive = seconds(10);
    config.header_timeout = seconds(10);
    config.body_timeout = seconds(30);
    config.write_timeout = seconds(30);
    config.linger = seconds(3);
    config.graceful_timeout = seconds(30);
    config.handler_timeout = Duration::from_millis(rng.u64(2_000..60_000));
    config.on_disconnect = [OnDisconnect::Cancel, OnDisconnect::Detach, OnDisconnect::Ignore][rng.usize(..3)];
    config.min_rate = if rng.bool() { 0 } else { rng.u32(1..300) };
    // The rules do not know the age of a connection.
    config.max_age = Duration::MAX;
    config.max_requests = (rng.u8(..6) == 0).then(|| rng.u64(1..4));
    config.max_connections = if rng.u8(..6) == 0 { rng.usize(1..3) } else { 1000 };
    config.access_log = rng.u8(..16) == 0;
    config.body_buffer = [0, rng.usize(1..300), rng.usize(1..6_000), 64 * 1024][rng.usize(..4)];
    config.date_header = rng.bool();
    config.server_header = rng.bool();
    config.limits.pipeline = rng.usize(1..10);
    config.limits.output = if rng.bool() { rng.usize(1..4_000) } else { 256 * 1024 };
    config.limits.drain = if rng.bool() { rng.u64(..2_000) } else { 256 * 1024 };
    config.limits.head = rng.usize(700..32_000);
    config.limits.body = if rng.u8(..4) == 0 { rng.u64(1..3_000) } else { 2 << 30 };
    config
}

fn draw_client(
    rng: &mut Rng,
    at: u64,
    is_calm: bool,
    config: &Config,
    ask: Option<&dyn Fn(u64) -> Ask>,
) -> ClientPlan {
    let mut asks = Vec::new();
    let mut pieces = Vec::new();
    let mut offset = 0;
    for n in 0..rng.u64(1..=5) {
        let id = at * 100 + n;
        let ask = match ask {
            None => draw_ask(rng, id, config),
            Some(ask) => {
                let random = rng.u64(..);
                dress(rng, ask(random))
            }
        };
        let (head, body) = ask.write(id, rng);
        let head_end = offset + head.len() as u64;
        offset = head_end + body.len() as u64;
        let over = ask.refused.is_some();
        asks.push(Written { id, ask, head_end, end: offset });
        pieces.push((head, body));
        if over {
            break;
        }
    }
    let depth = if rng.bool() { 1 } else { rng.usize(1..8) };
    let at_once = rng.u8(..4) == 0 && !asks.iter().any(|written| written.ask.expect);
    let mut segments = match at_once {
        true => vec![Segment {
            bytes: pieces.into_iter().flat_map(|(head, body)| [head, body].concat()).collect(),
            after: Duration::ZERO,
            gate: Gate::Open,
        }],
        false => draw_segments(rng, &asks, &pieces, depth, config),
    };
    let total =
        asks.iter().filter_map(|written| written.ask.action).map(|action| action.size).sum::<usize>() + 500;
    let total = total + asks.iter().map(|written| written.ask.body.len() + 300).sum::<usize>();
    let window = match rng.u8(..3) {
        0 => 64 * 1024,
        1 => rng.usize(total / 50..=total) + 1,
        _ => rng.usize(1..=total / 20) + total / 100,
    };
    let mut client = ClientPlan {
        opens: Duration::from_micros(if rng.bool() { 0 } else { rng.u64(..3_000_000) }),
        reading: Reading::Prompt,
        ending: [Ending::Stay, Ending::Answered, Ending::Answered][rng.usize(..3)],
        ends_with_last: false,
        window,
        is_clean: true,
        is_mangled: false,
        is_rude: false,
        nudges: rng.bool(),
        asks,
        segments: Vec::new(),
    };
    if (at_once || depth == 1) && rng.u8(..4) == 0 {
        client.ending = Ending::HalfClose;
        client.ends_with_last = true;
    }
    // What a body waits for may have to wait behind other responses, while the deadline of the body approaches.
    let gates = |segment: &Segment| matches!(segment.gate, Gate::Continue(_) | Gate::RepliesBeforeBody(_));
    if rng.u8(..4) == 0 && !segments.iter().any(gates) {
        let bytes = rng.usize(1..=window);
        let rounds = u32::try_from(window / bytes + 2).unwrap_or(u32::MAX);
        let patience = config.keep_alive.min(config.write_timeout).min(config.body_timeout) / 4;
        client.reading = Reading::Slow { bytes, every: patience / rounds };
        // A client that is slow within the time limits may still be slower than the minimum rate.
        client.is_clean = config.min_rate == 0;
    }
    if !is_calm && rng.bool() {
        misbehave(rng, &mut client, &mut segments, config);
    }
    client.segments = segments;
    client
}

/// A request for the simulation's own application.
fn draw_ask(rng: &mut Rng, id: u64, config: &Config) -> Ask {
    if rng.u8(..40) == 0 {
        return draw_refused(rng);
    }
    let mut action = Action::draw(rng);
    let max = usize::try_from(config.limits.body).unwrap_or(usize::MAX);
    let len = match rng.u8(..16) {
        0 => rng.usize(..100_000),
        1..4 => rng.usize(..5_000),
        _ => rng.usize(..200),
    };
    let mut ask = match rng.u8(..8) {
        0 => Ask::head(""),
        1..4 => Ask::get(""),
        _ => Ask::post("", pattern(id, len.min(max))),
    };
    if ask.is_head() {
        action.size = action.size.min(1000);
    }
    ask.action = Some(action);
    ask.target = action.target();
    if rng.bool() {
        let filler = rng.usize(..300);
        ask = ask.with_header("Filler", String::from_utf8(pattern(id + 1, filler)).unwrap_or_default());
    }
    let mut ask = dress(rng, ask);
    if ask.old && ask.framing == Framing::Chunked {
        ask.framing = Framing::Length;
    }
    ask
}

/// Chooses how the request is written: its version, its framing, and whether it expects `100 Continue`.
fn dress(rng: &mut Rng, mut ask: Ask) -> Ask {
    ask.old = rng.u8(..24) == 0;
    ask.close = rng.u8(..24) == 0;
    if ask.framing != Framing::None {
        if rng.bool() && !ask.old {
            ask.framing = Framing::Chunked;
        }
        ask.expect = rng.u8(..6) == 0 && !ask.old && !ask.body.is_empty();
    }
    ask
}

/// A request that the server has to refuse.
fn draw_refused(rng: &mut Rng) -> Ask {
    let (ask, status) = match rng.u8(..5) {
        0 => (Ask::get("/").with_header("A b", "c"), 400),
        1 => (Ask::get("/").with_header("Host", "again"), 400),
        2 => (Ask::get(format!("/{}", "a".repeat(9_000))), 414),
        3 => (Ask::get("/").with_header("Transfer-Encoding", "gzip, chunked"), 501),
        _ => (Ask::get("/").with_header("Expect", "wonders"), 417),
    };
    Ask { refused: Some(status), ..ask }
}

/// The segments of a client: chopped, with pauses, and held back until enough requests were answered.
fn draw_segments(
    rng: &mut Rng,
    asks: &[Written],
    pieces: &[(Vec<u8>, Vec<u8>)],
    depth: usize,
    config: &Config,
) -> Vec<Segment> {
    let mut segments = Vec::new();
    let chop = Chop { way: rng.u8(..4), is_slow: rng.u8(..4) == 0 };
    for (n, (head, body)) in pieces.iter().enumerate() {
        let first = segments.len();
        if rng.bool() && !asks[n].ask.expect {
            let limit = config.header_timeout.min(config.body_timeout);
            chop.append(rng, &mut segments, &[&head[..], body].concat(), limit);
        } else {
            chop.append(rng, &mut segments, head, config.header_timeout);
            let at = segments.len();
            chop.append(rng, &mut segments, body, config.body_timeout);
            if asks[n].ask.expect && segments.len() > at {
                segments[at].gate = Gate::Continue(n);
            } else if n > 0 && segments.len() > at && rng.u8(..4) == 0 {
                segments[at].gate = Gate::RepliesBeforeBody(n);
            }
        }
        if n >= depth && segments.len() > first {
            segments[first].gate = Gate::Replies(n + 1 - depth);
            let gap = if chop.is_slow { config.keep_alive } else { Duration::from_micros(200) };
            segments[first].after = gap.min(config.keep_alive / 4).mul_f64(rng.f64());
        }
    }
    segments
}

/// How the bytes of one connection are chopped.
struct Chop {
    way: u8,
    is_slow: bool,
}

impl Chop {
    /// Appends `bytes` in pieces that together take no more than a third of `limit`.
    fn append(&self, rng: &mut Rng, into: &mut Vec<Segment>, bytes: &[u8], limit: Duration) {
        let max = match self.way {
            0 => bytes.len(),
            1 if bytes.len() < 1_000 => 1,
            2 => bytes.len() / 2,
            _ => bytes.len() / 8,
        };
        let mut cut = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let n = rng.usize(1..=max.max(1).max(bytes.len() / 1_000)).min(rest.len());
            cut.push(rest[..n].to_vec());
            rest = &rest[n..];
        }
        let share = limit / 3 / u32::try_from(cut.len()).unwrap_or(u32::MAX).max(1);
        into.extend(cut.into_iter().map(|bytes| {
            let after = match self.is_slow {
                true => share.mul_f64(rng.f64()),
                false => Duration::from_micros(rng.u64(..4) * rng.u64(..300)).min(share),
            };
            Segment { bytes, after, gate: Gate::Open }
        }));
    }
}

/// Makes a client do something that may cost it a response.
fn misbehave(rng: &mut Rng, client: &mut ClientPlan, segments: &mut Vec<Segment>, config: &Config) {
    client.is_clean = false;
    client.is_rude = rng.bool();
    let total: usize = segments.iter().map(|segment| segment.bytes.len()).sum();
    let at = rng.usize(..=total);
    match rng.u8(..8) {
        // It falls silent, for a long time or until the end.
        0 | 1 => {
            let rest = cut(segments, at);
            client.ending = Ending::Stay;
            if rng.bool() {
                let longest = config.header_timeout.max(config.body_timeout).max(config.keep_alive);
                let pause = longest.mul_f64(rng.f64() * 2.0);
                segments.push(Segment { bytes: rest, after: pause, gate: Gate::Open });
            }
        }
        // It sends very slowly.
        2 => {
            let rest = cut(segments, at.min(rng.usize(..=total)));
            let limit = if rng.bool() { config.header_timeout } else { config.body_timeout };
            let every = limit.mul_f64(0.02 + rng.f64());
            segments.extend(rest.chunks(rng.usize(1..20)).take(200).map(|bytes| Segment {
                bytes: bytes.to_vec(),
                after: every,
                gate: Gate::Open,
            }));
        }
        // It leaves, even within a request.
        3 => {
            cut(segments, if rng.bool() { at } else { total });
            client.ending = Ending::Leave;
        }
        4 => {
            cut(segments, at);
            client.ending = Ending::Reset { purges: rng.bool() };
        }
        5 => {
            cut(segments, at);
            client.ending = match rng.bool() {
                true => Ending::HalfClose,
                false => Ending::HalfCloseThenLeave {
                    after: Duration::from_micros(rng.u64(..3_000) * rng.u64(..3_000)),
                },
            };
            client.ends_with_last = rng.bool();
        }
        // It does not read its responses.
        // A HEAD whose bytes are changed may be answered with a body or without.
        _ if rng.bool() || client.asks.iter().any(|written| written.ask.is_head()) => {
            client.reading = Reading::Deaf { after: rng.u64(..2_000) };
        }
        _ => {
            client.is_mangled = true;
            let mut bytes = segments.iter_mut().flat_map(|segment| &mut segment.bytes);
            if let Some(byte) = bytes.nth(at.min(total.saturating_sub(1))) {
                *byte = rng.u8(..);
            }
        }
    }
    if rng.u8(..4) == 0 {
        client.reading = Reading::Deaf { after: rng.u64(..5_000) };
    }
    if rng.u8(..4) == 0 {
        // A pause before the end, so that the end comes in any state of the server.
        segments.push(Segment {
            bytes: Vec::new(),
            after: Duration::from_micros(rng.u64(..2_000) * rng.u64(..2_000)),
            gate: Gate::Open,
        });
    }
}

/// Removes the bytes after the first `at`, and returns them.
fn cut(segments: &mut Vec<Segment>, mut at: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    segments.retain_mut(|segment| {
        let kept = segment.bytes.len().min(at);
        at -= kept;
        rest.extend(segment.bytes.drain(kept..));
        kept > 0
    });
    rest
}
