//! What is said of concurrency models, checked one by one: the statement, what was measured on each backend that it
//! speaks of, whether it holds, and by how much.

mod background;
mod blocking;
mod burning;
mod mixing;
mod pictures;
mod waiting;

use std::time::Duration;

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

/// A check on those subjects that it speaks of.
pub struct Prepared<'a> {
    number: usize,
    check: Check,
    of: Vec<&'a Subject>,
    trials: Vec<Trial>,
}

/// Everything that is checked, on so many processors. What speaks of none of the subjects is left out.
pub fn prepared(subjects: &[Subject], cores: usize) -> Vec<Prepared<'_>> {
    let prepare = |(index, check): (usize, Check)| {
        let of: Vec<&Subject> = subjects.iter().filter(|subject| (check.of)(&subject.name)).collect();
        let trials = (check.trials)(cores);
        (!of.is_empty()).then_some(Prepared { number: index + 1, check, of, trials })
    };
    checks().into_iter().enumerate().filter_map(prepare).collect()
}

/// What is measured in a round.
pub fn round<'p>(checks: &'p [Prepared<'_>]) -> Vec<&'p Trial> {
    let trials = |check: &'p Prepared<'_>| check.of.iter().flat_map(|_| &check.trials);
    checks.iter().flat_map(trials).collect()
}

/// Checks them all.
///
/// # Errors
/// What keeps anything from being measured.
pub fn check(run: &Run<'_>, checks: &[Prepared<'_>]) -> Result<Vec<Claim>, Failure> {
    let mut claims = Vec::new();
    let cores = run.bench.cores.server.len();
    for (index, prepared) in checks.iter().enumerate() {
        let Prepared { number, check, .. } = prepared;
        run.progress.begin(&format!("claim {number}: {}", check.statement));
        let here = run.bench.plan.all(&round(std::slice::from_ref(prepared)));
        let after = run.bench.plan.all(&round(&checks[index + 1..]));
        let (measured, made) = measure(run, prepared, here + after)?;
        let findings = (check.judge)(&measured, cores);
        let holds = findings.iter().all(|finding| finding.holds);
        let (statement, left_out) = (check.statement.into(), run.left_out(made));
        claims.push(Claim { number: *number, statement, holds, findings, left_out });
    }
    Ok(claims)
}

/// Measures all that a check wants, and again as long as there is so much time; says how often it was done.
fn measure<'a>(
    run: &Run<'_>,
    Prepared { number, of, trials, .. }: &Prepared<'a>,
    needed: Duration,
) -> Result<(Vec<Measured<'a>>, usize), Failure> {
    let mut taken: Vec<Vec<Vec<Taken>>> = vec![vec![Vec::new(); trials.len()]; of.len()];
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
                taken[at][which].push(run.bench.take(of[at], trial)?);
            }
        }
    }
    let each = of.iter().zip(&taken).map(|(subject, taken)| {
        let measures = taken.iter().map(|rounds| measure::of(&subject.name, rounds)).collect();
        Measured { subject: &subject.name, measures }
    });
    Ok((each.collect(), made))
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
mod tests;
