//! What clients do that may cost them a response.

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::Config;

use crate::plan::client::{ClientPlan, Ending, Reading};
use crate::plan::segment::{Gate, Segment, cut};

/// Makes a client do something that may cost it a response.
pub(super) fn misbehave(
    rng: &mut Rng,
    client: &mut ClientPlan,
    segments: &mut Vec<Segment>,
    config: &Config,
) {
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
