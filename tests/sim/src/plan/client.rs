//! The plan of one client: its requests, and how it sends, reads and leaves.

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::Config;

use crate::ask::Ask;
use crate::plan::misbehaviour::misbehave;
use crate::plan::request::{draw_ask, dress};
use crate::plan::segment::{Gate, Segment, append_raw, draw_segments};

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

pub(super) fn draw_client(
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
        let over = ask.refused.is_some() || ask.switches();
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
    let last = asks.last().filter(|last| last.ask.switches());
    if let Some(last) = last {
        let may_be_early = last.ask.body.len() as u64 <= config.limits.drain;
        append_raw(rng, &mut segments, asks.len() - 1, &last.ask.raw, may_be_early);
    }
    let switches = last.is_some();
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
    if switches && rng.bool() {
        client.ending = Ending::HalfClose;
    }
    if (at_once || depth == 1) && rng.u8(..4) == 0 {
        client.ending = Ending::HalfClose;
        client.ends_with_last = true;
    }
    // What a body waits for may have to wait behind other responses, while the deadline of the body approaches.
    let gates = |segment: &Segment| matches!(segment.gate, Gate::Continue(_) | Gate::RepliesBeforeBody(_));
    let has_gates = segments.iter().any(gates);
    if has_gates {
        client.window = client.window.max(total);
    }
    if rng.u8(..4) == 0 && !has_gates {
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
    if rng.u8(..6) == 0
        && let Some(first) = segments.first_mut()
    {
        // It is silent when it has connected.
        first.after += config.header_timeout.mul_f64(rng.f64() / 2.0);
    }
    client.segments = segments;
    client
}
