//! What is said of concurrency models, checked one by one: the statement, what was measured on each backend that it
//! speaks of, whether it holds, and by how much.

mod background;
mod blocking;
mod burning;
mod mixing;
mod pictures;
mod waiting;

use crate::failure::Failure;
use crate::load::{Ask, Pace, Traffic};
use crate::measure;
use crate::results::{Claim, Finding, Measure};
use crate::run::Run;
use crate::serve::Served;
use crate::subject::Subject;
use crate::trial::{Taken, Trial, Work};

/// The backends on which a request has a thread while it runs.
const BLOCKING: [&str; 2] = ["sequential", "threadpool"];
/// More than this is not told apart, nor is less than its inverse.
const MOST_MARGIN: f64 = 99.0;

/// A statement, and how it is checked.
struct Check {
    statement: &'static str,
    /// The backends that it speaks of.
    of: fn(&str) -> bool,
    /// What is measured on each of them.
    trials: fn(usize) -> Vec<Trial>,
    /// What follows from the measures: for each subject, one for each trial. The number is that of processors.
    judge: fn(&[Measured<'_>], usize) -> Vec<Finding>,
}

/// A subject, and what came of each trial on it.
struct Measured<'a> {
    subject: &'a str,
    measures: Vec<Measure>,
}

fn every(_: &str) -> bool {
    true
}

fn event_loop(subject: &str) -> bool {
    !BLOCKING.contains(&subject)
}

fn checks() -> [Check; 10] {
    [
        waiting::NOBODY_IS_FASTER_ALONE,
        waiting::CAPACITY_IS_WORKERS_BY_WAIT,
        burning::EQUAL_PER_CORE,
        blocking::STALLS_THE_LOOP,
        blocking::OFFLOADING_CURES,
        mixing::MIXING_COSTS_NOTHING,
        waiting::CALLS_OVERLAP,
        waiting::THE_KTH_WAITS_K_TIMES,
        background::DELAYS_NOBODY,
        pictures::BELONG_ON_THE_COMPUTE_POOL,
    ]
}

/// How many measurements a round takes.
pub fn measurements(subjects: &[Subject]) -> usize {
    measurements_of(&checks(), subjects)
}

fn measurements_of(checks: &[Check], subjects: &[Subject]) -> usize {
    let of = |check: &Check| subjects.iter().filter(|subject| (check.of)(&subject.name)).count();
    checks.iter().map(|check| of(check) * (check.trials)(1).len()).sum()
}

/// Checks them all. Those that speak of none of the subjects are left out.
///
/// # Errors
/// What keeps anything from being measured.
pub fn check(run: &Run<'_>) -> Result<Vec<Claim>, Failure> {
    let mut claims = Vec::new();
    let checks = checks();
    for (index, check) in checks.iter().enumerate() {
        let of: Vec<&Subject> = run.subjects.iter().filter(|subject| (check.of)(&subject.name)).collect();
        if of.is_empty() {
            continue;
        }
        run.progress.begin(check.statement);
        let cores = run.bench.cores.server.len();
        let after = measurements_of(&checks[index + 1..], run.subjects);
        let measured = measure(run, &of, &(check.trials)(cores), index + 1, after)?;
        let findings = (check.judge)(&measured, cores);
        let holds = findings.iter().all(|finding| finding.holds);
        claims.push(Claim { number: index + 1, statement: check.statement.into(), holds, findings });
    }
    Ok(claims)
}

fn measure<'a>(
    run: &Run<'_>,
    of: &[&'a Subject],
    trials: &[Trial],
    number: usize,
    after: usize,
) -> Result<Vec<Measured<'a>>, Failure> {
    let mut taken: Vec<Vec<Vec<Taken>>> = vec![vec![Vec::new(); trials.len()]; of.len()];
    for round in 0..run.rounds {
        if round > 0 && !run.has_time(of.len() * trials.len() + after) {
            break;
        }
        for (which, trial) in trials.iter().enumerate() {
            for turn in 0..of.len() {
                let at = (turn + round) % of.len();
                let name = &of[at].name;
                run.progress.step(format!("claim {number}, {name}, round {}", round + 1));
                taken[at][which].push(run.bench.take(of[at], trial)?);
            }
        }
    }
    let each = of.iter().zip(&taken).map(|(subject, taken)| {
        let measures = taken.iter().map(|rounds| measure::of(&subject.name, rounds)).collect();
        Measured { subject: &subject.name, measures }
    });
    Ok(each.collect())
}

/// One kind of traffic on the demo.
fn demo(traffic: Traffic) -> Trial {
    Trial { app: Served::Demo, work: Work::Load(vec![traffic]), saturates: false }
}

/// Clients that ask the demo for a path in a closed loop.
fn closed(connections: usize, path: &str) -> Trial {
    demo(Traffic::new(connections, Ask::get(path), Pace::Closed))
}

/// A finding whose figure is to be at most, or if `margin` was turned over at least, what is wanted.
fn finding(subject: &str, measured: String, wanted: String, margin: f64) -> Finding {
    let margin = margin.clamp(1.0 / MOST_MARGIN, MOST_MARGIN);
    Finding { subject: subject.into(), measured, wanted, holds: margin >= 1.0, margin }
}

/// How many times a figure fits into what is allowed.
fn fits(figure: f64, allowed: f64) -> f64 {
    if figure > 0.0 { allowed / figure } else { MOST_MARGIN }
}

#[cfg(test)]
#[path = "claims/tests.rs"]
mod tests;
