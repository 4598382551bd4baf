//! The segments in which the bytes of a client arrive.

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::Config;

use crate::plan::client::Written;

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
    /// The switch to another protocol with the response of this number.
    Switch(usize),
    /// `100 Continue`, or the response with this number instead.
    Continue(usize),
}

/// The segments of a client: chopped, with pauses, and held back until enough requests were answered.
pub(super) fn draw_segments(
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

/// Appends what a client sends after the switch to another protocol with response `n`. If it `may_be_early`, it may not
/// wait for the switch.
pub(super) fn append_raw(
    rng: &mut Rng,
    segments: &mut Vec<Segment>,
    n: usize,
    raw: &[u8],
    may_be_early: bool,
) {
    let first = segments.len();
    let max = raw.len().div_ceil(rng.usize(1..6)).max(1);
    segments.extend(raw.chunks(max).map(|bytes| Segment {
        bytes: bytes.to_vec(),
        after: Duration::from_micros(rng.u64(..3_000) * rng.u64(..3_000)),
        gate: Gate::Open,
    }));
    if let Some(first) = segments.get_mut(first) {
        let is_early = may_be_early && rng.u8(..4) == 0;
        first.gate = if is_early { Gate::Open } else { Gate::Switch(n) };
    }
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

/// Removes the bytes after the first `at`, and returns them.
pub(super) fn cut(segments: &mut Vec<Segment>, mut at: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    segments.retain_mut(|segment| {
        let kept = segment.bytes.len().min(at);
        at -= kept;
        rest.extend(segment.bytes.drain(kept..));
        kept > 0
    });
    rest
}
