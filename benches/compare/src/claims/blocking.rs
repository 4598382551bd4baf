//! Claims about handlers that block their thread.

use super::{Check, Measured, closed, event_loop, finding, fits};
use crate::format::{number, time};
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// Requests per second of the other clients.
const NEIGHBOURS: f64 = 500.0;
/// A stall is a latency of at least this many µs and this many times the undisturbed one.
const STALL: (f64, f64) = (25_000.0, 10.0);
/// The other clients are undisturbed if their p99 is within this share of the time that the handler takes, or within
/// this multiple of their p99 without it.
const WELL_OFF: (f64, f64) = (0.1, 3.0);
/// How long the handler blocks, in µs.
const BLOCKED: f64 = 50_000.0;
/// Highest allowed latency of a hop to another thread and back, in µs.
const HOP: f64 = 100.0;

/// Clients at a fixed rate, and the traffic beside them.
pub(super) fn neighbours(app: Application, path: &str, beside: Option<Traffic>) -> Trial {
    let mut traffics = vec![Traffic::new(16, Request::get(path), Pacing::Open(NEIGHBOURS))];
    traffics.extend(beside);
    Trial { app, workload: Workload::Load(traffics), saturates: false }
}

/// The same beside as many clients as there are event loops, which keep requesting `path`.
fn beside(path: Option<&str>, cores: usize) -> Trial {
    let beside = path.map(|path| Traffic::new(cores, Request::get(path), Pacing::Closed));
    neighbours(Application::Demo, "/plaintext", beside)
}

/// The highest allowed p99 of the other clients, given their p99 alone and the time that the handler takes, in µs.
pub(crate) fn well_off(alone: f64, takes: f64) -> f64 {
    (takes * WELL_OFF.0).max(alone * WELL_OFF.1)
}

pub(super) const STALLS_THE_LOOP: Check = Check {
    statement: "A blocking call in an async handler stalls the event loop: the other clients wait for it",
    of: event_loop,
    trials: |cores| vec![beside(None, cores), beside(Some("/block/50"), cores)],
    judge: |measured, _| measured.iter().map(stall).collect(),
};

fn stall(one: &Measured<'_>) -> Finding {
    let [alone, blocked] = [0, 1].map(|trial: usize| one.measures[trial].latency.p99.median);
    let times = blocked / alone.max(1.0);
    let text = format!("other clients' p99 {} to {}, {} times", time(alone), time(blocked), number(times));
    let wanted = format!("at least {} and {} times", time(STALL.0), number(STALL.1));
    finding(one.subject, text, wanted, (blocked / STALL.0).min(times / STALL.1))
}

pub(super) const OFFLOADING_CURES: Check = Check {
    statement: "Offloading the blocking call avoids the stall, and the hop to another thread is cheap",
    of: event_loop,
    trials: |cores| {
        let hop = ["/block/0", "/offload/0"].map(|path| closed(1, path));
        [beside(None, cores), beside(Some("/offload/50"), cores)].into_iter().chain(hop).collect()
    },
    judge: |measured, _| measured.iter().flat_map(|one| [cure(one), hop(one)]).collect(),
};

fn cure(one: &Measured<'_>) -> Finding {
    let [alone, offloaded] = [0, 1].map(|trial: usize| one.measures[trial].latency.p99.median);
    let allowed = well_off(alone, BLOCKED);
    let text = format!("other clients' p99 {} to {}", time(alone), time(offloaded));
    finding(one.subject, text, format!("at most {}", time(allowed)), fits(offloaded, allowed))
}

fn hop(one: &Measured<'_>) -> Finding {
    let (in_place, offloaded) = (&one.measures[2], &one.measures[3]);
    let latency = offloaded.latency.p50.median - in_place.latency.p50.median;
    let cpu = offloaded.cpu().median - in_place.cpu().median;
    let text =
        format!("the hop costs {} of latency and {} of CPU", time(latency.max(0.0)), time(cpu.max(0.0)));
    finding(one.subject, text, format!("at most {}", time(HOP)), fits(latency, HOP))
}
