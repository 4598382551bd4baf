//! Claims about requests that wait.

use super::{App, Check, Context, every};
use crate::claims::{Measured, closed, finding, fits};
use crate::format::{number, time};
use crate::load::{Request, at};
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// The length of a wait, in µs.
const WAIT: f64 = 50_000.0;
const PATH: &str = "/wait/50";
/// More clients than a server has threads.
const MANY: usize = 256;
/// Clients whose requests reach a server at the same moment.
const BURST: usize = 8;

pub(super) const FLASK_WITH_ONE_CLIENT: Check = Check {
    app: App::Flask,
    statement: "With one client no server is faster: the median of a 50 ms wait differs by at most 2%",
    wanted: None,
    of: every,
    package: None,
    trials: || vec![closed(1, PATH)],
    judge: |measured, _| near_the_best(measured),
};

pub(super) const FASTAPI_WITH_ONE_CLIENT: Check = Check { app: App::FastApi, ..FLASK_WITH_ONE_CLIENT };

fn near_the_best(measured: &[Measured<'_>]) -> Vec<Finding> {
    let p50 = |one: &Measured<'_>| one.measures[0].latency.p50.median;
    let wanted = measured.iter().map(p50).fold(f64::INFINITY, f64::min) * 1.02;
    let judged = |one: &Measured<'_>| {
        let text = format!("p50 {:.2} ms", p50(one) / 1e3);
        finding(one.subject, text, format!("at most {:.2} ms", wanted / 1e3), fits(p50(one), wanted))
    };
    measured.iter().map(judged).collect()
}

pub(super) const FLASK_IS_BOUNDED_BY_THREADS: Check = Check {
    app: App::Flask,
    statement: "Waits per second are bounded by the number of threads",
    wanted: None,
    of: every,
    package: None,
    trials: || vec![closed(MANY, PATH)],
    judge: |measured, context| measured.iter().map(|one| bounded(one, context)).collect(),
};

fn bounded(one: &Measured<'_>, context: &Context<'_>) -> Finding {
    let rate = one.measures[0].rate.median;
    let threads = context.waits_at_once(one.subject).unwrap_or(context.threads);
    let bound = threads as f64 / WAIT * 1e6;
    let text = format!("{} waits per second with {threads} at once", number(rate));
    finding(one.subject, text, format!("at most {}", number(bound)), fits(rate, bound * 1.02))
}

pub(super) const FASTAPI_IS_NOT_BOUNDED: Check = Check {
    app: App::FastApi,
    statement: "Waits in `async def` views need no threads: there are more per second than the same number of threads \
                would allow",
    wanted: Some(true),
    of: every,
    package: None,
    trials: || vec![closed(MANY, PATH)],
    judge: |measured, context| measured.iter().map(|one| unbounded(one, context)).collect(),
};

fn unbounded(one: &Measured<'_>, context: &Context<'_>) -> Finding {
    let rate = one.measures[0].rate.median;
    let least = context.threads as f64 / WAIT * 1e6 * 1.1;
    let text = format!("{} waits per second", number(rate));
    finding(one.subject, text, format!("at least {}", number(least)), rate / least)
}

pub(super) const FLASK_CALLS_OVERLAP: Check = Check {
    app: App::Flask,
    statement: "Calls within an `async def` view overlap: ten of 50 ms at once take at most 60 ms",
    wanted: Some(true),
    of: every,
    package: Some("asgiref"),
    trials: || vec![closed(1, "/fan/10/50")],
    judge: |measured, _| {
        let judged = |one: &Measured<'_>| {
            let p50 = one.measures[0].latency.p50.median;
            finding(one.subject, format!("p50 {}", time(p50)), "at most 60 ms".into(), fits(p50, 60_000.0))
        };
        measured.iter().map(judged).collect()
    },
};

pub(super) const FASTAPI_CALLS_OVERLAP: Check =
    Check { app: App::FastApi, package: None, ..FLASK_CALLS_OVERLAP };

pub(super) const THE_KTH_TAKES_K_TIMES: Check = Check {
    app: App::Flask,
    statement: "The last of eight simultaneous requests that wait takes eight times as long",
    wanted: Some(false),
    of: every,
    package: None,
    trials: || {
        let workload = Workload::Burst { connections: BURST, request: Request::get(PATH) };
        vec![Trial { app: Application::Demo, workload, saturates: false }]
    },
    judge: |measured, _| measured.iter().map(last_of_a_burst).collect(),
};

fn last_of_a_burst(one: &Measured<'_>) -> Finding {
    let times = at(&one.measures[0].latency.curve, BURST as f64) / WAIT;
    let text = format!("no. {BURST} takes {times:.2} times as long");
    let wanted = format!("at least {BURST} times, within 10%");
    finding(one.subject, text, wanted, times / (BURST as f64 * 0.9))
}
