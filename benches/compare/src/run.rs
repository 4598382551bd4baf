//! Runs scenarios in rounds. Each round applies each load to each server, so that disturbances affect all servers
//! alike.

use std::time::{Duration, Instant};

use crate::explanation;
use crate::failure::Failure;
use crate::load::{Pacing, Request, Traffic};
use crate::measure;
use crate::progress::Progress;
use crate::results::{self, Point, Results, Spread};
use crate::scenario::{LoadPoint, Scenario};
use crate::serve::Application;
use crate::subject::Subject;
use crate::trial::{Bench, Sample, Trial, Workload};
use crate::winners;
use crate::yardstick;

/// Number of connections for measuring a server's capacity.
const CAPACITY: usize = 64;
/// Number of significant digits of offered rates.
const DIGITS: i32 = 2;

/// A comparison in progress.
pub struct Run<'a> {
    /// Measures single trials.
    pub bench: &'a Bench,
    /// The servers to compare.
    pub subjects: &'a [Subject],
    /// Deadline of the comparison. Later rounds are left out, except the first of each scenario.
    pub end: Instant,
    /// An earlier run whose offered rates are reused, so that figures are comparable.
    pub before: Option<&'a Results>,
    /// Shows progress to the user.
    pub progress: &'a Progress,
}

impl Run<'_> {
    /// The capacity of the slowest server, in responses per second. Offered rates are shares of it.
    pub fn capacity(&self, trial: &Trial) -> Result<f64, Failure> {
        self.progress.begin("capacity");
        let mut least = f64::INFINITY;
        for subject in self.subjects {
            self.progress.step(format!("capacity of {}", subject.name));
            least = least.min(self.bench.measure(subject, trial)?.rate);
        }
        Ok(if least.is_finite() { least } else { 0.0 })
    }

    /// Whether `needed` fits before the deadline.
    pub fn has_time(&self, needed: Duration) -> bool {
        Instant::now().checked_add(needed).is_some_and(|then| then <= self.end)
    }

    /// Returns the number of rounds that were left out after `made` rounds, and reports it to the user.
    pub fn left_out(&self, made: usize) -> usize {
        let left_out = self.bench.plan.rounds - made;
        if let Some(note) = results::left_out(left_out, self.bench.plan.rounds) {
            self.progress.print(&note);
        }
        left_out
    }

    /// Measures a scenario. Rounds are left out if less than `after` would remain for the rest of the comparison.
    pub fn scenario(
        &self,
        scenario: &Scenario,
        capacity: f64,
        after: Duration,
    ) -> Result<results::Scenario, Failure> {
        self.progress.begin(scenario.title);
        let points: Vec<LoadPoint> = scenario
            .points
            .iter()
            .map(|point| resolved(point, capacity, self.earlier(scenario.id, point)))
            .collect();
        let mut samples: Vec<Vec<Vec<Sample>>> = vec![vec![Vec::new(); self.subjects.len()]; points.len()];
        let mut yardsticks: Vec<Vec<f64>> = vec![Vec::new(); points.len()];
        let here = self.bench.plan.all(&round(std::slice::from_ref(scenario), self.subjects.len()));
        let mut made = 0;
        for round in 0..self.bench.plan.rounds {
            if round > 0 && !self.has_time(here + after) {
                break;
            }
            made += 1;
            for (index, point) in points.iter().enumerate() {
                let (title, label) = (scenario.title, &point.label);
                let step = |name: &str| {
                    self.progress.step(format!("{title}, {label}, {name}, round {}", round + 1));
                };
                step("yardstick");
                yardsticks[index].extend(self.yardstick(&point.trial)?);
                // The order rotates, so that no server is always first.
                for turn in 0..self.subjects.len() {
                    let which = (turn + round) % self.subjects.len();
                    step(&self.subjects[which].name);
                    samples[index][which].push(self.bench.measure(&self.subjects[which], &point.trial)?);
                }
            }
        }
        let points = points.iter().zip(&samples).zip(yardsticks);
        let points = points.map(|((load_point, samples), yardstick)| Point {
            yardstick: Spread::of(yardstick),
            ..self.point(load_point, samples)
        });
        let mut measured = results::Scenario {
            id: scenario.id.into(),
            title: scenario.title.into(),
            question: scenario.question.into(),
            axis: scenario.axis.into(),
            decides: scenario.decides.into(),
            points: points.collect(),
            left_out: self.left_out(made),
            ..results::Scenario::default()
        };
        measured.winners = winners::of(&measured);
        measured.reading = explanation::of(&measured);
        Ok(measured)
    }

    /// The offered rate of the same point in the earlier run.
    fn earlier(&self, scenario: &str, load_point: &LoadPoint) -> Option<f64> {
        let earlier = self.before?.scenarios.iter().find(|earlier| earlier.id == scenario)?;
        earlier.points.iter().find(|point| point.label == load_point.label)?.offered
    }

    fn point(&self, load_point: &LoadPoint, samples: &[Vec<Sample>]) -> Point {
        let (connections, offered, path) = match &load_point.trial.workload {
            Workload::Idle { connections, request }
            | Workload::Burst { connections, request }
            | Workload::Abandoned { connections, request, .. } => (*connections, None, request.path.clone()),
            Workload::Load(traffics) => describe_load(traffics),
        };
        let each = self.subjects.iter().zip(samples);
        Point {
            label: load_point.label.clone(),
            x: load_point.x,
            connections,
            offered,
            path,
            measures: each.map(|(subject, rounds)| measure::of(&subject.name, rounds)).collect(),
            yardstick: Spread::default(),
        }
    }

    /// CPU time per request of the reference server under the same load, in µs.
    fn yardstick(&self, of: &Trial) -> Result<Option<f64>, Failure> {
        let Some(trial) = yardstick::trial(of) else { return Ok(None) };
        let each = self.bench.measure(&Subject::yardstick(), &trial)?.each;
        Ok(Some(each.user + each.system))
    }
}

/// Checks that each server answers every request of the scenarios, before anything is measured.
///
/// # Errors
/// The failure of the first server that does not.
pub fn preflight(bench: &Bench, subjects: &[Subject], scenarios: &[Scenario]) -> Result<(), Failure> {
    for subject in subjects {
        let mut checked = Vec::new();
        for trial in scenarios.iter().flat_map(|scenario| &scenario.points).map(|point| &point.trial) {
            let requests = trial.requests();
            if !checked.contains(&(trial.app, requests.clone())) {
                bench.check(subject, trial.app, &requests)?;
                checked.push((trial.app, requests));
            }
        }
    }
    Ok(())
}

/// The trial that measures a server's capacity.
pub fn capacity(path: &str) -> Trial {
    let traffic = Traffic::new(CAPACITY, Request::get(path), Pacing::Closed);
    Trial { app: Application::Demo, workload: Workload::Load(vec![traffic]), saturates: false }
}

/// The trials of one round: each point on each server and on the reference server.
pub fn round(scenarios: &[Scenario], subjects: usize) -> Vec<&Trial> {
    let points = scenarios.iter().flat_map(|scenario| &scenario.points);
    points.flat_map(|point| std::iter::repeat_n(&point.trial, subjects + 1)).collect()
}

/// Whether any offered rate is a share of the capacity.
pub fn wants_capacity(scenarios: &[Scenario]) -> bool {
    let share = |traffic: &Traffic| matches!(traffic.pacing, Pacing::CapacityShare(_));
    scenarios.iter().flat_map(|scenario| &scenario.points).any(|point| match &point.trial.workload {
        Workload::Load(traffics) => traffics.iter().any(share),
        Workload::Idle { .. } | Workload::Burst { .. } | Workload::Abandoned { .. } => false,
    })
}

/// The load point with each capacity share replaced by a rate, which is that of the earlier run if there is one.
fn resolved(load_point: &LoadPoint, capacity: f64, earlier: Option<f64>) -> LoadPoint {
    let mut load_point = load_point.clone();
    if let Workload::Load(traffics) = &mut load_point.trial.workload {
        for traffic in traffics {
            if let Pacing::CapacityShare(share) = traffic.pacing {
                traffic.pacing = Pacing::Open(earlier.unwrap_or(rounded(capacity * share).max(1.0)));
            }
        }
    }
    load_point
}

fn rounded(rate: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi(rate.log10().floor() as i32 + 1 - DIGITS);
    (rate / unit).round() * unit
}

fn describe_load(traffics: &[Traffic]) -> (usize, Option<f64>, String) {
    let Some(first) = traffics.first() else { return (0, None, String::new()) };
    let offered = match first.pacing {
        Pacing::Open(rate) => Some(rate),
        _ => None,
    };
    let paths: Vec<&str> = first.mix.iter().map(|(_, request)| request.path.as_str()).collect();
    (first.connections, offered, paths.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_rates_have_two_significant_digits() {
        assert_eq!(
            [rounded(12_345.0), rounded(996.0), rounded(7.46), rounded(0.0)],
            [12_000.0, 1000.0, 7.5, 0.0]
        );
    }

    #[test]
    fn a_capacity_share_becomes_a_rate() {
        let traffic = Traffic::new(4, Request::get("/"), Pacing::CapacityShare(0.01));
        let trial =
            Trial { app: Application::Demo, workload: Workload::Load(vec![traffic]), saturates: false };
        let load_point = LoadPoint { label: String::new(), x: 0.0, quick: true, trial };
        let pacing = |earlier| match resolved(&load_point, 51_234.0, earlier).trial.workload {
            Workload::Load(traffics) => traffics[0].pacing,
            other => unreachable!("not a load: {other:?}"),
        };
        assert_eq!([pacing(None), pacing(Some(480.0))], [Pacing::Open(510.0), Pacing::Open(480.0)]);
    }
}
