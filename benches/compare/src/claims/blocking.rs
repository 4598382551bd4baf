//! Handlers that block where they must not, and where they may.

use super::{Check, Measured, closed, event_loop, finding, fits};
use crate::format::{number, time};
use crate::load::{Ask, Pace, Traffic};
use crate::results::Finding;
use crate::serve::Served;
use crate::trial::{Trial, Work};

/// Requests of the neighbours, a second.
const NEIGHBOURS: f64 = 500.0;
/// A stall is half of what blocks at least, in µs, and so many times what it is otherwise.
const STALL: (f64, f64) = (25_000.0, 10.0);
/// Neighbours are well off if their p99 is within this part of what others take, or within so many times what it is
/// when they are alone.
const WELL_OFF: (f64, f64) = (0.1, 3.0);
/// What blocks, in µs.
const BLOCKED: f64 = 50_000.0;
/// What a hop to another thread and back may take, in µs.
const HOP: f64 = 100.0;

/// Who asks at a fixed rate, on a server where others do something else.
pub(super) fn neighbours(app: Served, path: &str, beside: Option<Traffic>) -> Trial {
    let mut traffics = vec![Traffic::new(16, Ask::get(path), Pace::Open(NEIGHBOURS))];
    traffics.extend(beside);
    Trial { app, work: Work::Load(traffics), saturates: false }
}

/// Neighbours of as many clients as there are loops, each of which asks for the same again and again.
fn beside(path: Option<&str>, cores: usize) -> Trial {
    let beside = path.map(|path| Traffic::new(cores, Ask::get(path), Pace::Closed));
    neighbours(Served::Demo, "/plaintext", beside)
}

/// The most that neighbours' p99 may be beside what takes so long, if it is this when they are alone.
pub(super) fn well_off(alone: f64, takes: f64) -> f64 {
    (takes * WELL_OFF.0).max(alone * WELL_OFF.1)
}

pub(super) const STALLS_THE_LOOP: Check = Check {
    statement: "A call that blocks in an async handler stalls the whole loop: its neighbours wait for it",
    of: event_loop,
    trials: |cores| vec![beside(None, cores), beside(Some("/block/50"), cores)],
    judge: |measured, _| measured.iter().map(stall).collect(),
};

fn stall(one: &Measured<'_>) -> Finding {
    let [alone, blocked] = [0, 1].map(|trial: usize| one.measures[trial].latency.p99.median);
    let times = blocked / alone.max(1.0);
    let said = format!("neighbours' p99 {} to {}, {} times", time(alone), time(blocked), number(times));
    let wanted = format!("at least {} and {} times", time(STALL.0), number(STALL.1));
    finding(one.subject, said, wanted, (blocked / STALL.0).min(times / STALL.1))
}

pub(super) const OFFLOADING_CURES: Check = Check {
    statement: "Offloading the call cures that, and the hop to another thread is cheap",
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
    let said = format!("neighbours' p99 {} to {}", time(alone), time(offloaded));
    finding(one.subject, said, format!("at most {}", time(allowed)), fits(offloaded, allowed))
}

fn hop(one: &Measured<'_>) -> Finding {
    let (in_place, offloaded) = (&one.measures[2], &one.measures[3]);
    let latency = offloaded.latency.p50.median - in_place.latency.p50.median;
    let cpu = offloaded.cpu().median - in_place.cpu().median;
    let said =
        format!("the hop costs {} of latency and {} of CPU", time(latency.max(0.0)), time(cpu.max(0.0)));
    finding(one.subject, said, format!("at most {}", time(HOP)), fits(latency, HOP))
}
