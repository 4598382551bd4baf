//! One comparison from the plan to the results.

use std::time::{Duration, Instant};

use crate::claims;
use crate::cores::Cores;
use crate::failure::Failure;
use crate::format::{duration, several};
use crate::machine;
use crate::plan::{self, Plan, PlanInput};
use crate::progress::Progress;
use crate::results::{self, Results};
use crate::run::{self, Run};
use crate::scenario::Scenario;
use crate::subject::Subject;
use crate::trial::Bench;

/// The parameters of a comparison.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The servers.
    pub subjects: &'a [Subject],
    /// The scenarios to run.
    pub scenarios: &'a [Scenario],
    /// Whether to check the claims.
    pub claims: bool,
    /// The path for measuring each server's capacity.
    pub path: &'a str,
    /// Whether to check first that each server answers every request.
    pub preflight: bool,
    /// Number of rounds.
    pub rounds: usize,
    /// Length of each measurement, if the user chose it.
    pub window: Option<Duration>,
    /// Time limit of the comparison, unless `window` is given.
    pub limit: Duration,
    /// Name and version of wrk, if it is installed and allowed.
    pub wrk: Option<String>,
    /// An earlier run whose offered rates are reused.
    pub before: Option<&'a Results>,
}

impl Comparison<'_> {
    /// Runs the comparison.
    ///
    /// # Errors
    /// Any failure that prevents a measurement.
    pub fn measure(&self) -> Result<Results, Failure> {
        let begin = Instant::now();
        let Comparison { subjects, scenarios, .. } = *self;
        let cores = Cores::split()?;
        let checks = if self.claims { claims::prepared(subjects, cores.server.len()) } else { Vec::new() };
        let capacity = run::capacity(self.path);
        let first = if run::wants_capacity(scenarios) { subjects.len() } else { 0 };
        let input = PlanInput {
            first: vec![&capacity; first],
            round: [run::round(scenarios, subjects.len()), claims::round(&checks)].concat(),
            rounds: self.rounds,
            window: self.window,
            limit: self.limit,
            wrk: self.wrk.is_some(),
            overhead: plan::OVERHEAD,
        };
        let plan = Plan::new(&input);
        let bench = Bench::new(cores, plan)?;
        if self.preflight {
            run::preflight(&bench, subjects, scenarios)?;
        }
        let mut results = metadata(&plan, self.wrk.as_deref(), subjects.iter().map(described).collect());
        results.machine = machine::this(&bench.cores);
        let progress = Progress::new(first + input.round.len() * plan.rounds);
        progress.print(&announcement(&plan, &input));
        let end = begin + plan.limit;
        let run = Run { bench: &bench, subjects, end, before: self.before, progress: &progress };
        let capacity = if first > 0 { run.capacity(&capacity)? } else { 0.0 };
        let claims = plan.all(&claims::round(&checks));
        for (index, scenario) in scenarios.iter().enumerate() {
            let after = claims + plan.all(&run::round(&scenarios[index + 1..], subjects.len()));
            results.scenarios.push(run.scenario(scenario, capacity, after)?);
        }
        results.claims = claims::check(&run, &checks)?;
        Ok(results)
    }
}

/// A server for the report.
fn described(subject: &Subject) -> results::Subject {
    results::Subject { name: subject.name.clone(), model: subject.model.clone(), command: subject.describe() }
}

/// The results without any measurement.
pub(crate) fn metadata(plan: &Plan, wrk: Option<&str>, subjects: Vec<results::Subject>) -> Results {
    let version = env!("CARGO_PKG_VERSION");
    let own = format!("built-in generator {version}");
    Results {
        version: version.into(),
        began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        rounds: plan.rounds,
        duration: plan.times.window.as_secs_f64(),
        generator: match wrk {
            Some(wrk) if plan.wrk => format!("{wrk} for loads that saturate the server, {own} for others"),
            Some(wrk) if plan.is_short_for_wrk() => {
                format!("{own}; the measurements are too short for {wrk}")
            }
            _ => own,
        },
        subjects,
        ..Results::default()
    }
}

/// Tells the user what will be measured and how long it takes.
pub(crate) fn announcement(plan: &Plan, input: &PlanInput<'_>) -> String {
    let words = |time: Duration| duration(time.as_secs_f64().round());
    let limit = match input.window {
        Some(_) => String::new(),
        None if plan.estimate > plan.limit => {
            format!("; the time limit is {}, so rounds will be left out", words(plan.limit))
        }
        None => format!(", at most {}", words(plan.limit)),
    };
    format!(
        "{} of {} each, {}: about {}{limit}",
        several(input.first.len() + input.round.len() * plan.rounds, "measurement"),
        duration(plan.times.window.as_secs_f64()),
        several(plan.rounds, "round"),
        words(plan.estimate),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_announcement_names_the_time_and_whether_it_exceeds_the_limit() {
        let trial = run::capacity("/");
        let text = |rounds, window| {
            let limit = Duration::from_secs(100);
            let input = PlanInput {
                first: Vec::new(),
                round: vec![&trial; 10],
                rounds,
                window,
                limit,
                wrk: false,
                overhead: plan::OVERHEAD,
            };
            announcement(&Plan::new(&input), &input)
        };
        assert_eq!(text(1, None), "10 measurements of 3 s each, 1 round: about 37 s, at most 1 min 40 s");
        assert_eq!(
            text(100, None),
            "1,000 measurements of 0.1 s each, 100 rounds: about 5 min 20 s; the time limit is 1 min 40 s, so rounds \
             will be left out"
        );
        let given = text(1, Some(Duration::from_secs(20)));
        assert_eq!(given, "10 measurements of 20 s each, 1 round: about 3 min 27 s");
    }
}
