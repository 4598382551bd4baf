//! The plan of one simulation, drawn from its seed: settings, clients, their faults, and the time of the stop.

mod client;
mod misbehaviour;
mod quiet;
mod request;
mod segment;

use std::time::Duration;

use fastrand::Rng;
use gearshift_core::{Config, OnDisconnect, Overload};

use crate::ask::Ask;
use crate::plan::client::draw_client;

pub(crate) use crate::plan::client::{ClientPlan, Ending, Reading};
pub(crate) use crate::plan::segment::{Gate, Segment};

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
    /// When the process of the server is stopped, and for how long.
    pub(crate) pauses: Vec<(Duration, Duration)>,
    /// After how many steps of the clients the process is stopped, and for how long.
    pub(crate) pause_after: Option<(u64, Duration)>,
    /// When the wall clock is set, and by how many seconds.
    pub(crate) clock_steps: Vec<(Duration, i64)>,
    /// How many threads drive connections where they block.
    pub(crate) workers: usize,
    /// How late deadlines are noticed, at most.
    pub(crate) lateness: Duration,
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng, config: Option<&Config>, ask: Option<&dyn Fn(u64) -> Ask>) -> Plan {
        let config = config.cloned().unwrap_or_else(|| draw_config(rng));
        let is_calm = rng.u8(..4) == 0;
        let clients = (0..rng.u64(1..=4)).map(|at| draw_client(rng, at, is_calm, &config, ask)).collect();
        let stops = rng.u8(..5) < 2;
        let pauses = draw_pauses(rng);
        let graceful = stops.then(|| match (rng.bool(), pauses.first()) {
            // Within the pause, so that the process finds the stop when it goes on.
            (_, Some((at, length))) if rng.bool() => *at + *length / 2,
            (true, _) => Duration::from_micros(rng.u64(..100_000)),
            (false, _) => Duration::from_millis(rng.u64(..40_000)),
        });
        let forced = (rng.u8(..4) == 0).then(|| Duration::from_millis(rng.u64(..3) * rng.u64(..3_000)));
        let rush = graceful.filter(|_| rng.u8(..4) > 0).map(|at| {
            let around = Duration::from_micros(rng.u64(..400));
            (at + around).saturating_sub(Duration::from_micros(200))
        });
        let lateness = Duration::from_millis(if rng.bool() { 0 } else { rng.u64(..20) });
        let count = if rng.u8(..4) == 0 { rng.usize(1..3) } else { 0 };
        let clock_steps = (0..count).map(|_| draw_clock_step(rng)).collect();
        let workers = rng.usize(1..=3);
        let pause_after = (rng.u8(..10) == 0).then(|| (rng.u64(..100), draw_pause(rng)));
        Plan { config, clients, graceful, forced, rush, pauses, pause_after, clock_steps, workers, lateness }
    }
}

/// The pauses of the process: none in most plans.
fn draw_pauses(rng: &mut Rng) -> Vec<(Duration, Duration)> {
    let count = if rng.u8(..5) == 0 { rng.usize(1..3) } else { 0 };
    let pause = |_| {
        let at = match rng.bool() {
            true => Duration::from_micros(rng.u64(..100_000)),
            false => Duration::from_millis(rng.u64(..20_000)),
        };
        (at, draw_pause(rng))
    };
    (0..count).map(pause).collect()
}

fn draw_pause(rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(..300) * rng.u64(..300))
}

fn draw_clock_step(rng: &mut Rng) -> (Duration, i64) {
    (Duration::from_millis(rng.u64(..20_000)), rng.i64(-10_000..10_000))
}

fn draw_config(rng: &mut Rng) -> Config {
    let mut seconds = |max: u64| Duration::from_millis(rng.u64(200..max * 1000));
    let mut config = Config::default();
    config.keep_alive = seconds(10);
    config.header_timeout = seconds(10);
    config.body_timeout = seconds(30);
    config.write_timeout = seconds(30);
    config.linger = seconds(3);
    config.half_closed_timeout = seconds(10);
    config.graceful_timeout = seconds(30);
    config.handler_timeout = Duration::from_millis(rng.u64(2_000..60_000));
    config.on_disconnect = [OnDisconnect::Cancel, OnDisconnect::Detach, OnDisconnect::Ignore][rng.usize(..3)];
    config.min_rate = if rng.bool() { 0 } else { rng.u32(1..300) };
    if rng.u8(..16) == 0 {
        config.keep_alive = Duration::ZERO;
    }
    if rng.u8(..4) == 0 {
        config.half_closed_timeout = Duration::MAX;
    }
    config.max_age = if rng.u8(..4) == 0 { Duration::from_millis(rng.u64(..20_000)) } else { Duration::MAX };
    config.max_requests = (rng.u8(..6) == 0).then(|| rng.u64(1..4));
    config.max_connections = if rng.u8(..6) == 0 { rng.usize(1..3) } else { 1000 };
    config.overload = if rng.bool() { Overload::Wait } else { Overload::Refuse };
    config.access_log = rng.u8(..16) == 0;
    config.body_buffer = [0, rng.usize(1..300), rng.usize(1..6_000), 64 * 1024][rng.usize(..4)];
    config.date_header = rng.bool();
    config.server_header = rng.bool();
    config.limits.pipeline = rng.usize(1..10);
    config.drain_idle = config.limits.pipeline.is_multiple_of(3);
    config.limits.output = if rng.bool() { rng.usize(1..4_000) } else { 256 * 1024 };
    config.limits.drain = if rng.bool() { rng.u64(..2_000) } else { 256 * 1024 };
    config.limits.head = rng.usize(700..32_000);
    config.limits.body = if rng.u8(..4) == 0 { rng.u64(1..3_000) } else { 2 << 30 };
    config
}
