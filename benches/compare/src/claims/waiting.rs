//! Claims about requests that wait.

use gearshift::Config;

use super::{Check, Measured, closed, every, finding, fits, waits_at_once};
use crate::format::{number, time};
use crate::load::{Pacing, Request, Traffic, at};
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// The length of a wait, in µs.
const WAIT: f64 = 50_000.0;
const PATH: &str = "/sleep/50";
/// More clients than a thread pool has threads.
const MANY: usize = 256;
/// Clients whose requests reach a sequential server at the same moment.
const BURST: usize = 8;

pub(super) const WITH_ONE_CLIENT_ALL_ARE_EQUAL: Check = Check {
    statement: "With one client no backend is faster: the median of a 50 ms wait differs by at most 2%",
    of: every,
    trials: |_| vec![closed(1, PATH)],
    judge: |measured, _| {
        let p50 = |one: &Measured<'_>| one.measures[0].latency.p50.median;
        let best = measured.iter().map(p50).fold(f64::INFINITY, f64::min);
        let wanted = best * 1.02;
        let judged = |one: &Measured<'_>| {
            let text = format!("p50 {:.2} ms", p50(one) / 1e3);
            finding(one.subject, text, format!("at most {:.2} ms", wanted / 1e3), fits(p50(one), wanted))
        };
        measured.iter().map(judged).collect()
    },
};

pub(super) const THREADS_BOUND_WAITS: Check = Check {
    statement: "Waits per second are bounded by the number of threads on sequential and threadpool, not on event loops",
    of: every,
    trials: |_| vec![closed(MANY, PATH)],
    judge: |measured, cores| measured.iter().map(|one| capacity(one, cores)).collect(),
};

fn capacity(one: &Measured<'_>, cores: usize) -> Finding {
    let measure = &one.measures[0];
    let (rate, threads) = (measure.rate.median, measure.threads.median);
    let text = format!("{} waits per second with {threads:.0} threads", number(rate));
    if let Some(workers) = waits_at_once(one.subject, threads_of_a_pool(cores)) {
        let expected = workers as f64 / WAIT * 1e6;
        let wanted = format!("{} per second within 10%: {workers} per 50 ms", number(expected));
        finding(one.subject, text, wanted, fits((rate / expected - 1.0).abs(), 0.1))
    } else {
        let least = (MANY as f64 / WAIT * 1e6 * 0.8).max(threads / WAIT * 1e6 * 2.0);
        finding(one.subject, text, format!("at least {}", number(least)), rate / least)
    }
}

/// The default number of pool threads on a machine with `cores` cores.
fn threads_of_a_pool(cores: usize) -> usize {
    let config = Config::default();
    config.threads_or_default() / config.workers_or_cores().max(1) * cores
}

pub(super) const CALLS_OVERLAP: Check = Check {
    statement: "Calls within a request overlap on all backends: ten calls of 50 ms at once take at most 60 ms",
    of: every,
    trials: |_| {
        let traffic = Traffic::new(1, Request::get("/fan/10/50"), Pacing::Closed);
        vec![Trial { app: Application::Gateway, workload: Workload::Load(vec![traffic]), saturates: false }]
    },
    judge: |measured, _| {
        let judged = |one: &Measured<'_>| {
            let p50 = one.measures[0].latency.p50.median;
            finding(one.subject, format!("p50 {}", time(p50)), "at most 60 ms".into(), fits(p50, 60_000.0))
        };
        measured.iter().map(judged).collect()
    },
};

pub(super) const THE_KTH_TAKES_K_TIMES: Check = Check {
    statement: "On a sequential server the k-th of several simultaneous requests takes k times as long",
    of: |subject| waits_at_once(subject, 2) == Some(1),
    trials: |_| {
        let workload = Workload::Burst { connections: BURST, request: Request::get(PATH) };
        vec![Trial { app: Application::Demo, workload, saturates: false }]
    },
    judge: |measured, _| measured.iter().flat_map(latency_of_each).collect(),
};

fn latency_of_each<'a>(one: &'a Measured<'_>) -> impl Iterator<Item = Finding> + 'a {
    (1..=BURST).map(|k| {
        let waited = at(&one.measures[0].latency.curve, k as f64);
        let times = waited / WAIT;
        let text = format!("no. {k}: {}, {times:.2} times", time(waited));
        finding(one.subject, text, format!("{k} times within 10%"), fits((times / k as f64 - 1.0).abs(), 0.1))
    })
}
