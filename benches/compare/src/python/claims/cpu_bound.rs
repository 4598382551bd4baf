//! Claims about CPU-bound views.

use super::blocking::{neighbours, slow, undisturbed};
use super::{App, Check, every};
use crate::claims::{Measured, closed, finding, fits};
use crate::format::{number, time};
use crate::results::Finding;

/// Rounds of pure Python that take some milliseconds.
const WORK: &str = "/cpu/100000";
/// Rounds that take some tens of milliseconds, in a `def` view.
const LONG_WORK: &str = "/offload-cpu/1000000";
/// A lower bound of the time that the long work takes, in µs.
const LONG: f64 = 20_000.0;
/// Highest allowed deviation from the median CPU time, as a share.
const APART: f64 = 0.1;

pub(super) const FLASK: Check = Check {
    app: App::Flask,
    statement: "CPU-bound work costs the same CPU time on all servers, within 10%",
    wanted: None,
    of: every,
    package: None,
    trials: || vec![closed(16, WORK)],
    judge: |measured, _| equal(measured),
};

pub(super) const FASTAPI: Check = Check { app: App::FastApi, ..FLASK };

fn equal(measured: &[Measured<'_>]) -> Vec<Finding> {
    let cpu = |one: &Measured<'_>| one.measures[0].cpu().median;
    let mut sorted: Vec<f64> = measured.iter().map(cpu).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
    let judged = |one: &Measured<'_>| {
        let rate = number(one.measures[0].rate.median);
        let text = format!("{} of CPU time per request, {rate} requests per second", time(cpu(one)));
        let apart = (cpu(one) / middle.max(1e-9) - 1.0).abs();
        finding(one.subject, text, format!("{} within 10%", time(middle)), fits(apart, APART))
    };
    measured.iter().map(judged).collect()
}

pub(super) const IN_A_THREAD_STALLS_NOBODY: Check = Check {
    app: App::FastApi,
    statement: "CPU-bound work in a `def` view stalls no neighbour, because FastAPI runs it in a thread pool",
    wanted: Some(true),
    of: every,
    package: None,
    trials: || vec![neighbours("/plaintext", None), neighbours("/plaintext", slow(1, LONG_WORK))],
    judge: |measured, _| measured.iter().map(|one| undisturbed(one, LONG)).collect(),
};
