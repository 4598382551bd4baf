//! Rounds: every load on every subject, again and again, so that an hour's noise is everybody's.

use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::load::{Ask, Pace, Traffic};
use crate::measure;
use crate::progress::Progress;
use crate::reading;
use crate::results::{self, Point, Results, Spread};
use crate::scenario::{Scenario, Spot};
use crate::serve::Served;
use crate::subject::Subject;
use crate::trial::{Bench, Taken, Trial, Work};
use crate::winners;
use crate::yardstick;

/// Connections that find out what a server can do at most.
const CAPACITY: usize = 64;
/// Rates are rounded to so many digits, as nobody needs more.
const DIGITS: i32 = 2;

/// A comparison on its way.
pub struct Run<'a> {
    /// Where it is made.
    pub bench: &'a Bench,
    /// What is compared.
    pub subjects: &'a [Subject],
    /// When all is to be over. Rounds for which there is no time then are left out, but for the first of each scenario.
    pub end: Instant,
    /// An earlier run, whose rates are taken so that figures can be compared.
    pub before: Option<&'a Results>,
    /// Who is told.
    pub progress: &'a Progress,
}

impl Run<'_> {
    /// What the slowest of all can do, in answers a second: what rates are parts of.
    pub fn capacity(&self, trial: &Trial) -> Result<f64, Failure> {
        self.progress.begin("capacity");
        let mut least = f64::INFINITY;
        for subject in self.subjects {
            self.progress.step(format!("what {} can do at most", subject.name));
            least = least.min(self.bench.take(subject, trial)?.rate);
        }
        Ok(if least.is_finite() { least } else { 0.0 })
    }

    /// Says whether there is so much time.
    pub fn has_time(&self, needed: Duration) -> bool {
        Instant::now().checked_add(needed).is_some_and(|then| then <= self.end)
    }

    /// Tells of rounds that there was no time for; gives their number.
    pub fn left_out(&self, made: usize) -> usize {
        let left_out = self.bench.plan.rounds - made;
        if let Some(said) = results::left_out(left_out, self.bench.plan.rounds) {
            self.progress.say(&said);
        }
        left_out
    }

    /// Measures a scenario, after which so much time is needed at least.
    pub fn scenario(
        &self,
        scenario: &Scenario,
        capacity: f64,
        after: Duration,
    ) -> Result<results::Scenario, Failure> {
        self.progress.begin(scenario.title);
        let points: Vec<Spot> = scenario
            .points
            .iter()
            .map(|point| resolved(point, capacity, self.earlier(scenario.id, point)))
            .collect();
        let mut taken: Vec<Vec<Vec<Taken>>> = vec![vec![Vec::new(); self.subjects.len()]; points.len()];
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
                // Whoever comes first in one round comes last in another.
                for turn in 0..self.subjects.len() {
                    let which = (turn + round) % self.subjects.len();
                    step(&self.subjects[which].name);
                    taken[index][which].push(self.bench.take(&self.subjects[which], &point.trial)?);
                }
            }
        }
        let points = points.iter().zip(&taken).zip(yardsticks);
        let points = points.map(|((spot, taken), yardstick)| Point {
            yardstick: Spread::of(yardstick),
            ..self.point(spot, taken)
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
        measured.reading = reading::of(&measured);
        Ok(measured)
    }

    /// The rate of the same point in an earlier run.
    fn earlier(&self, scenario: &str, spot: &Spot) -> Option<f64> {
        let earlier = self.before?.scenarios.iter().find(|earlier| earlier.id == scenario)?;
        earlier.points.iter().find(|point| point.label == spot.label)?.offered
    }

    fn point(&self, spot: &Spot, taken: &[Vec<Taken>]) -> Point {
        let (connections, offered, path) = match &spot.trial.work {
            Work::Idle { connections, ask } | Work::Burst { connections, ask } => {
                (*connections, None, ask.path.clone())
            }
            Work::Load(traffics) => described(traffics),
        };
        let each = self.subjects.iter().zip(taken);
        Point {
            label: spot.label.clone(),
            x: spot.x,
            connections,
            offered,
            path,
            measures: each.map(|(subject, rounds)| measure::of(&subject.name, rounds)).collect(),
            yardstick: Spread::default(),
        }
    }

    /// CPU µs for a request of the server that never changes, under the same load.
    fn yardstick(&self, of: &Trial) -> Result<Option<f64>, Failure> {
        let Some(trial) = yardstick::trial(of) else { return Ok(None) };
        let each = self.bench.take(&Subject::yardstick(), &trial)?.each;
        Ok(Some(each.user + each.system))
    }
}

/// Has each subject answer everything that it will be asked, so that who cannot is known before anything is measured.
///
/// # Errors
/// What is wrong with the first that does not.
pub fn preflight(bench: &Bench, subjects: &[Subject], scenarios: &[Scenario]) -> Result<(), Failure> {
    for subject in subjects {
        let mut asked = Vec::new();
        for trial in scenarios.iter().flat_map(|scenario| &scenario.points).map(|point| &point.trial) {
            let asks = trial.asks();
            if !asked.contains(&(trial.app, asks.clone())) {
                bench.check(subject, trial.app, &asks)?;
                asked.push((trial.app, asks));
            }
        }
    }
    Ok(())
}

/// What finds out what a server can do at most.
pub fn capacity(path: &str) -> Trial {
    let traffic = Traffic::new(CAPACITY, Ask::get(path), Pace::Closed);
    Trial { app: Served::Demo, work: Work::Load(vec![traffic]), saturates: false }
}

/// What is measured in a round: each point on each subject, and on the yardstick.
pub fn round(scenarios: &[Scenario], subjects: usize) -> Vec<&Trial> {
    let points = scenarios.iter().flat_map(|scenario| &scenario.points);
    points.flat_map(|point| std::iter::repeat_n(&point.trial, subjects + 1)).collect()
}

/// Says whether any rate is a part of what the slowest can do.
pub fn wants_capacity(scenarios: &[Scenario]) -> bool {
    let share = |traffic: &Traffic| matches!(traffic.pace, Pace::Share(_));
    scenarios.iter().flat_map(|scenario| &scenario.points).any(|point| match &point.trial.work {
        Work::Load(traffics) => traffics.iter().any(share),
        Work::Idle { .. } | Work::Burst { .. } => false,
    })
}

/// A point whose rates are known: as they were in an earlier run, or parts of what the slowest can do.
fn resolved(spot: &Spot, capacity: f64, earlier: Option<f64>) -> Spot {
    let mut spot = spot.clone();
    if let Work::Load(traffics) = &mut spot.trial.work {
        for traffic in traffics {
            if let Pace::Share(share) = traffic.pace {
                traffic.pace = Pace::Open(earlier.unwrap_or(rounded(capacity * share).max(1.0)));
            }
        }
    }
    spot
}

fn rounded(rate: f64) -> f64 {
    if rate <= 0.0 {
        return 0.0;
    }
    let unit = 10f64.powi(rate.log10().floor() as i32 + 1 - DIGITS);
    (rate / unit).round() * unit
}

fn described(traffics: &[Traffic]) -> (usize, Option<f64>, String) {
    let Some(first) = traffics.first() else { return (0, None, String::new()) };
    let offered = match first.pace {
        Pace::Open(rate) => Some(rate),
        _ => None,
    };
    let paths: Vec<&str> = first.mix.iter().map(|(_, ask)| ask.path.as_str()).collect();
    (first.connections, offered, paths.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_to_what_can_be_remembered() {
        assert_eq!(
            [rounded(12_345.0), rounded(996.0), rounded(7.46), rounded(0.0)],
            [12_000.0, 1000.0, 7.5, 0.0]
        );
    }

    #[test]
    fn a_share_becomes_a_rate() {
        let traffic = Traffic::new(4, Ask::get("/"), Pace::Share(0.01));
        let trial = Trial { app: Served::Demo, work: Work::Load(vec![traffic]), saturates: false };
        let spot = Spot { label: String::new(), x: 0.0, quick: true, trial };
        let pace = |earlier| match resolved(&spot, 51_234.0, earlier).trial.work {
            Work::Load(traffics) => traffics[0].pace,
            other => unreachable!("it was load: {other:?}"),
        };
        assert_eq!([pace(None), pace(Some(480.0))], [Pace::Open(510.0), Pace::Open(480.0)]);
    }
}
