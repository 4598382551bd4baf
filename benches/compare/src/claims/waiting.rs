//! Requests that wait, and who waits for whom.

use gearshift::Config;

use super::{BLOCKING, Check, Measured, closed, every, finding, fits};
use crate::format::{number, time};
use crate::load::{Ask, Pace, Traffic, at};
use crate::results::Finding;
use crate::serve::Served;
use crate::trial::{Trial, Work};

/// What is waited for, in µs.
const WAIT: f64 = 50_000.0;
const PATH: &str = "/sleep/50";
/// Clients that are more than a pool has threads.
const MANY: usize = 256;
/// Clients that come to a sequential server at the same moment.
const BURST: usize = 8;

pub(super) const NOBODY_IS_FASTER_ALONE: Check = Check {
    statement: "With one client no backend is faster: half of the waits of 50 ms end within 2% of each other",
    of: every,
    trials: |_| vec![closed(1, PATH)],
    judge: |measured, _| {
        let p50 = |one: &Measured<'_>| one.measures[0].latency.p50.median;
        let best = measured.iter().map(p50).fold(f64::INFINITY, f64::min);
        let wanted = best * 1.02;
        let judged = |one: &Measured<'_>| {
            let said = format!("p50 {:.2} ms", p50(one) / 1e3);
            finding(one.subject, said, format!("at most {:.2} ms", wanted / 1e3), fits(p50(one), wanted))
        };
        measured.iter().map(judged).collect()
    },
};

pub(super) const CAPACITY_IS_WORKERS_BY_WAIT: Check = Check {
    statement: "Waiting work: capacity is workers by wait on sequential and threadpool; threads do not bound it on \
                event loops",
    of: every,
    trials: |_| vec![closed(MANY, PATH)],
    judge: |measured, cores| measured.iter().map(|one| capacity(one, cores)).collect(),
};

fn capacity(one: &Measured<'_>, cores: usize) -> Finding {
    let measure = &one.measures[0];
    let (rate, threads) = (measure.rate.median, measure.threads.median);
    let said = format!("{} a second on {threads:.0} threads", number(rate));
    if BLOCKING.contains(&one.subject) {
        let workers = if one.subject == "sequential" { 1 } else { threads_of_a_pool(cores) };
        let expected = workers as f64 / WAIT * 1e6;
        let wanted = format!("{} a second within 10%: {workers} by 50 ms", number(expected));
        finding(one.subject, said, wanted, fits((rate / expected - 1.0).abs(), 0.1))
    } else {
        let least = (MANY as f64 / WAIT * 1e6 * 0.8).max(threads / WAIT * 1e6 * 2.0);
        finding(one.subject, said, format!("at least {}", number(least)), rate / least)
    }
}

/// What the pool takes by default, on so many processors.
fn threads_of_a_pool(cores: usize) -> usize {
    let config = Config::default();
    config.threads_or_default() / config.workers_or_cores().max(1) * cores
}

pub(super) const CALLS_OVERLAP: Check = Check {
    statement: "Concurrency within a request works on blocking backends, too: ten calls of 50 ms at once take 60 ms \
                at most",
    of: every,
    trials: |_| {
        let traffic = Traffic::new(1, Ask::get("/fan/10/50"), Pace::Closed);
        vec![Trial { app: Served::Gateway, work: Work::Load(vec![traffic]), saturates: false }]
    },
    judge: |measured, _| {
        let judged = |one: &Measured<'_>| {
            let p50 = one.measures[0].latency.p50.median;
            finding(one.subject, format!("p50 {}", time(p50)), "at most 60 ms".into(), fits(p50, 60_000.0))
        };
        measured.iter().map(judged).collect()
    },
};

pub(super) const THE_KTH_WAITS_K_TIMES: Check = Check {
    statement: "On a sequential server the k-th of those who come at once waits k times",
    of: |subject| subject == "sequential",
    trials: |_| {
        let work = Work::Burst { connections: BURST, ask: Ask::get(PATH) };
        vec![Trial { app: Served::Demo, work, saturates: false }]
    },
    judge: |measured, _| measured.iter().flat_map(kth).collect(),
};

fn kth<'a>(one: &'a Measured<'_>) -> impl Iterator<Item = Finding> + 'a {
    (1..=BURST).map(|k| {
        let waited = at(&one.measures[0].latency.curve, k as f64);
        let times = waited / WAIT;
        let said = format!("no. {k}: {}, {times:.2} times", time(waited));
        finding(one.subject, said, format!("{k} times within 10%"), fits((times / k as f64 - 1.0).abs(), 0.1))
    })
}
