//! Claims about the work for clients that have left.

use super::{App, Check, every};
use crate::claims::{Measured, finding};
use crate::format::{number, time};
use crate::load::Request;
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// Number of clients that leave.
const CLIENTS: usize = 64;
/// The next client notices dead work if it waits at least this many µs and this many times as long as without it.
const NOTICED: (f64, f64) = (50_000.0, 5.0);

pub(super) const WAITS: Check = Check {
    app: App::Flask,
    statement: "A server works for clients that have left: after 64 of them, whose views wait 50 ms, the next client \
                notices it",
    wanted: Some(false),
    of: every,
    package: None,
    trials: || after("/wait/50"),
    judge: |measured, _| measured.iter().map(noticed).collect(),
};

pub(super) const CPU: Check = Check {
    app: App::FastApi,
    statement: "A server works for clients that have left: after 64 of them, whose views compute for some \
                milliseconds, the next client notices it",
    trials: || after("/cpu/200000"),
    ..WAITS
};

/// A client alone, and the same after others have left.
fn after(path: &str) -> Vec<Trial> {
    let trial = |connections| Trial {
        app: Application::Demo,
        workload: Workload::Abandoned {
            connections,
            request: Request::get(path),
            then: Request::get("/plaintext"),
        },
        saturates: false,
    };
    vec![trial(0), trial(CLIENTS)]
}

fn noticed(one: &Measured<'_>) -> Finding {
    let [alone, after] = [0, 1].map(|trial: usize| one.measures[trial].latency.p50.median);
    let times = after / alone.max(1.0);
    let text = format!("the next client waits {} instead of {}", time(after), time(alone));
    let wanted = format!("at least {} and {} times", time(NOTICED.0), number(NOTICED.1));
    finding(one.subject, text, wanted, (after / NOTICED.0).min(times / NOTICED.1))
}
