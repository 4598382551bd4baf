//! The requests of a client.

use fastrand::Rng;
use gearshift_core::Config;

use crate::action::{Action, Kind};
use crate::ask::{Ask, Framing, PROTOCOL, pattern};

/// A request for the simulation's own application.
pub(super) fn draw_ask(rng: &mut Rng, id: u64, config: &Config) -> Ask {
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
    if ask.is_head() && action.kind.upgrades() {
        action.kind = Kind::Now;
    }
    if action.kind.upgrades() {
        ask.offers = [None, Some("other"), Some("other, sim/1"), Some(PROTOCOL)][rng.usize(..8).min(3)];
    }
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
    if ask.switches() {
        ask.raw = pattern(id + 50, rng.usize(..3_000));
    }
    ask
}

/// Chooses how the request is written: its version, its framing, and whether it expects `100 Continue`.
pub(super) fn dress(rng: &mut Rng, mut ask: Ask) -> Ask {
    ask.old = rng.u8(..24) == 0;
    ask.close = rng.u8(..24) == 0;
    ask.empty_lines = if rng.u8(..24) == 0 { rng.usize(1..3) } else { 0 };
    if ask.framing != Framing::None {
        if rng.bool() && !ask.old {
            ask.framing = Framing::Chunked;
            ask.has_trailer = rng.u8(..4) == 0;
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
