//! Checks common claims about concurrency models. Each check measures the backends that the claim is about, and tells
//! whether the claim holds and by what margin.

mod background;
pub(crate) mod blocking;
mod cpu_bound;
mod mixing;
pub(crate) mod pictures;
mod waiting;

use std::time::Duration;

use gearshift::{Backend, Config};

use crate::failure::Failure;
use crate::load::{Pacing, Request, Traffic};
use crate::measure;
use crate::results::{Claim, Finding, Measure};
use crate::run::Run;
use crate::serve::Application;
use crate::subject::Subject;
use crate::trial::{Sample, Trial, Workload};

/// Margins are clamped to this value and to its inverse.
const MAX_MARGIN: f64 = 99.0;

/// A claim and how to check it.
struct Check {
    statement: &'static str,
    /// Whether the claim is about this backend.
    of: fn(&str) -> bool,
    /// The trials on each backend, given the number of cores.
    trials: fn(usize) -> Vec<Trial>,
    /// Derives the findings from the measures of each backend, one per trial, and the number of cores.
    judge: fn(&[Measured<'_>], usize) -> Vec<Finding>,
}

/// The measures of one server, one per trial.
pub(crate) struct Measured<'a> {
    pub(crate) subject: &'a str,
    pub(crate) measures: Vec<Measure>,
}

fn every(_: &str) -> bool {
    true
}

fn event_loop(subject: &str) -> bool {
    waits_at_once(subject, 1).is_none()
}

/// How many requests can wait at once on a backend whose pool, if it has one, has `threads` threads. `None` if their
/// number has no limit, which is the case on every event loop.
fn waits_at_once(subject: &str, threads: usize) -> Option<usize> {
    let backend: Backend = subject.parse().ok().filter(|backend: &Backend| backend.threads_block())?;
    let mut pool = Config::default();
    pool.threads = Some(threads);
    Some(if backend.check(&pool).is_ok() { threads } else { 1 })
}

fn checks() -> [Check; 10] {
    [
        waiting::WITH_ONE_CLIENT_ALL_ARE_EQUAL,
        waiting::THREADS_BOUND_WAITS,
        cpu_bound::EQUAL_PER_CORE,
        blocking::STALLS_THE_LOOP,
        blocking::OFFLOADING_CURES,
        mixing::MIXING_COSTS_NOTHING,
        waiting::CALLS_OVERLAP,
        waiting::THE_KTH_TAKES_K_TIMES,
        background::DELAYS_NO_CLIENT,
        pictures::BELONG_ON_THE_COMPUTE_POOL,
    ]
}

/// A check on the backends that its claim is about.
pub struct Prepared<'a> {
    number: usize,
    check: Check,
    of: Vec<&'a Subject>,
    trials: Vec<Trial>,
}

/// The checks whose claim is about at least one of the subjects, on a machine with `cores` cores.
pub fn prepared(subjects: &[Subject], cores: usize) -> Vec<Prepared<'_>> {
    let prepare = |(index, check): (usize, Check)| {
        let of: Vec<&Subject> = subjects.iter().filter(|subject| (check.of)(&subject.name)).collect();
        let trials = (check.trials)(cores);
        (!of.is_empty()).then_some(Prepared { number: index + 1, check, of, trials })
    };
    checks().into_iter().enumerate().filter_map(prepare).collect()
}

/// The trials of one round.
pub fn round<'p>(checks: &'p [Prepared<'_>]) -> Vec<&'p Trial> {
    let trials = |check: &'p Prepared<'_>| check.of.iter().flat_map(|_| &check.trials);
    checks.iter().flat_map(trials).collect()
}

/// Runs all checks.
///
/// # Errors
/// Any failure that prevents a measurement.
pub fn check(run: &Run<'_>, checks: &[Prepared<'_>]) -> Result<Vec<Claim>, Failure> {
    let mut claims = Vec::new();
    let cores = run.bench.cores.server.len();
    for (index, prepared) in checks.iter().enumerate() {
        let Prepared { number, check, .. } = prepared;
        run.progress.begin(&format!("claim {number}: {}", check.statement));
        let here = run.bench.plan.all(&round(std::slice::from_ref(prepared)));
        let after = run.bench.plan.all(&round(&checks[index + 1..]));
        let (measured, made) = measure(run, *number, &prepared.of, &prepared.trials, here + after)?;
        let findings = (check.judge)(&measured, cores);
        let holds = findings.iter().all(|finding| finding.holds);
        let (statement, left_out) = (check.statement.into(), run.left_out(made));
        claims.push(Claim { number: *number, statement, holds, findings, left_out, ..Claim::default() });
    }
    Ok(claims)
}

/// Measures the trials of a check in rounds, until less than `needed` would remain. Returns the number of rounds.
pub(crate) fn measure<'a>(
    run: &Run<'_>,
    number: usize,
    of: &[&'a Subject],
    trials: &[Trial],
    needed: Duration,
) -> Result<(Vec<Measured<'a>>, usize), Failure> {
    let mut samples: Vec<Vec<Vec<Sample>>> = vec![vec![Vec::new(); trials.len()]; of.len()];
    let mut made = 0;
    for round in 0..run.bench.plan.rounds {
        if round > 0 && !run.has_time(needed) {
            break;
        }
        made += 1;
        for (which, trial) in trials.iter().enumerate() {
            for turn in 0..of.len() {
                let at = (turn + round) % of.len();
                let name = &of[at].name;
                run.progress.step(format!("claim {number}, {name}, round {}", round + 1));
                samples[at][which].push(run.bench.measure(of[at], trial)?);
            }
        }
    }
    let each = of.iter().zip(&samples).map(|(subject, samples)| {
        let measures = samples.iter().map(|rounds| measure::of(&subject.name, rounds)).collect();
        Measured { subject: &subject.name, measures }
    });
    Ok((each.collect(), made))
}

/// One traffic on the demo.
pub(crate) fn demo(traffic: Traffic) -> Trial {
    Trial { app: Application::Demo, workload: Workload::Load(vec![traffic]), saturates: false }
}

/// Clients that request a path of the demo in a closed loop.
pub(crate) fn closed(connections: usize, path: &str) -> Trial {
    demo(Traffic::new(connections, Request::get(path), Pacing::Closed))
}

/// A finding that holds if `margin` is at least 1.
pub(crate) fn finding(subject: &str, measured: String, wanted: String, margin: f64) -> Finding {
    let margin = margin.clamp(1.0 / MAX_MARGIN, MAX_MARGIN);
    Finding { subject: subject.into(), measured, wanted, holds: margin >= 1.0, margin }
}

/// How many times `figure` fits into `allowed`.
pub(crate) fn fits(figure: f64, allowed: f64) -> f64 {
    if figure > 0.0 { allowed / figure } else { MAX_MARGIN }
}

#[cfg(test)]
mod tests;
