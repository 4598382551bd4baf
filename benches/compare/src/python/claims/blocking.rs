//! Claims about views that block their thread.

use super::{App, Check, every};
use crate::claims::blocking::well_off;
use crate::claims::{Measured, finding, fits};
use crate::format::{number, time};
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// Requests per second of the neighbours, and their connections. Each server can answer them with a small part of its
/// core.
const NEIGHBOURS: (f64, usize) = (200.0, 16);
/// A stall is a latency of at least this many µs and this many times the undisturbed one.
const STALL: (f64, f64) = (25_000.0, 3.0);
/// How long a view blocks, in µs.
const BLOCKED: f64 = 50_000.0;
/// Clients of slow `def` views: fewer and more than the 40 threads of the pool that Starlette runs them in.
const BELOW_AND_ABOVE_40: [usize; 2] = [30, 80];

/// Clients that request `path` at a fixed rate, and the traffic beside them.
pub(super) fn neighbours(path: &str, beside: Option<Traffic>) -> Trial {
    let (rate, connections) = NEIGHBOURS;
    let mut traffics = vec![Traffic::new(connections, Request::get(path), Pacing::Open(rate))];
    traffics.extend(beside);
    Trial { app: Application::Demo, workload: Workload::Load(traffics), saturates: false }
}

/// Clients that keep requesting a path.
pub(super) fn slow(clients: usize, path: &str) -> Option<Traffic> {
    Some(Traffic::new(clients, Request::get(path), Pacing::Closed))
}

/// The neighbours' p99 in each trial, in µs.
pub(super) fn p99<const N: usize>(one: &Measured<'_>) -> [f64; N] {
    std::array::from_fn(|trial| one.measures[trial].latency.p99.median)
}

pub(super) const STALLS_THE_NEIGHBOURS: Check = Check {
    app: App::FastApi,
    statement: "A blocking call of 50 ms in an `async def` view stalls the neighbours",
    wanted: Some(false),
    of: every,
    package: None,
    trials: || vec![neighbours("/plaintext", None), neighbours("/plaintext", slow(1, "/block/50"))],
    judge: |measured, _| measured.iter().map(stall).collect(),
};

fn stall(one: &Measured<'_>) -> Finding {
    let [alone, blocked] = p99(one);
    let text = format!("neighbours' p99 {} to {}", time(alone), time(blocked));
    stalled(one.subject, text, alone, blocked)
}

/// A finding that holds if the neighbours' p99 rises from `alone` to a stall.
fn stalled(subject: &str, text: String, alone: f64, beside: f64) -> Finding {
    let times = beside / alone.max(1.0);
    let wanted = format!("at least {} and {} times", time(STALL.0), number(STALL.1));
    let text = format!("{text}, {} times", number(times));
    finding(subject, text, wanted, (beside / STALL.0).min(times / STALL.1))
}

pub(super) const A_DEF_VIEW_STALLS_NOBODY: Check = Check {
    app: App::FastApi,
    statement: "The same call in a `def` view stalls no neighbour, because FastAPI runs it in a thread pool",
    wanted: Some(true),
    of: every,
    package: None,
    trials: || vec![neighbours("/plaintext", None), neighbours("/plaintext", slow(1, "/offload/50"))],
    judge: |measured, _| measured.iter().map(|one| undisturbed(one, BLOCKED)).collect(),
};

/// Whether the neighbours of work that takes `takes` µs do not notice it.
pub(super) fn undisturbed(one: &Measured<'_>, takes: f64) -> Finding {
    let [alone, beside] = p99(one);
    let allowed = well_off(alone, takes);
    let text = format!("neighbours' p99 {} to {}", time(alone), time(beside));
    finding(one.subject, text, format!("at most {}", time(allowed)), fits(beside, allowed))
}

pub(super) const A_POOL_OF_40_STARVES: Check = Check {
    app: App::FastApi,
    statement: "The thread pool of 40 starves quick `def` views: 80 clients of a slow `def` view stall them",
    wanted: Some(false),
    of: every,
    package: None,
    trials: || {
        let [below, above] =
            BELOW_AND_ABOVE_40.map(|clients| neighbours("/def", slow(clients, "/offload/50")));
        vec![neighbours("/def", None), below, above]
    },
    judge: |measured, _| measured.iter().map(starved).collect(),
};

fn starved(one: &Measured<'_>) -> Finding {
    let [alone, below, above] = p99(one);
    let [fewer, more] = BELOW_AND_ABOVE_40;
    let text = format!(
        "neighbours' p99 {}, beside {fewer} clients {}, beside {more} {}",
        time(alone),
        time(below),
        time(above)
    );
    stalled(one.subject, text, alone, above)
}

pub(super) const ONE_SLOW_REQUEST_BLOCKS_ALL: Check = Check {
    app: App::Flask,
    statement: "One slow request blocks all others: a client of a view that waits 50 ms stalls the neighbours",
    wanted: Some(false),
    of: every,
    package: None,
    trials: || vec![neighbours("/plaintext", None), neighbours("/plaintext", slow(1, "/wait/50"))],
    judge: |measured, _| measured.iter().map(stall).collect(),
};
