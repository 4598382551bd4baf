//! One comparison: planned, foretold, and made.

use std::time::{Duration, Instant};

use crate::claims;
use crate::cores::Cores;
use crate::failure::Failure;
use crate::format::{duration, several};
use crate::machine;
use crate::plan::{Plan, Wish};
use crate::progress::Progress;
use crate::results::{self, Results};
use crate::run::{self, Run};
use crate::scenario::Scenario;
use crate::subject::Subject;
use crate::trial::Bench;

/// What is to be compared, and how.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The servers.
    pub subjects: &'a [Subject],
    /// What they are asked to do.
    pub scenarios: &'a [Scenario],
    /// Whether claims are checked, too.
    pub claims: bool,
    /// What is asked for to find out what each can do at most.
    pub path: &'a str,
    /// Whether it is seen first that each server answers everything.
    pub preflight: bool,
    /// How often each measurement is made.
    pub rounds: usize,
    /// How long each measurement takes, if that is given.
    pub window: Option<Duration>,
    /// How long all may take, if that is not given.
    pub limit: Duration,
    /// What wrk is called, if it is there and wanted.
    pub wrk: Option<String>,
    /// An earlier run, whose rates are taken.
    pub before: Option<&'a Results>,
}

impl Comparison<'_> {
    /// Makes it.
    ///
    /// # Errors
    /// What keeps anything from being measured.
    pub fn make(&self) -> Result<Results, Failure> {
        let begin = Instant::now();
        let Comparison { subjects, scenarios, .. } = *self;
        let cores = Cores::share()?;
        let checks = if self.claims { claims::prepared(subjects, cores.server.len()) } else { Vec::new() };
        let capacity = run::capacity(self.path);
        let first = if run::wants_capacity(scenarios) { subjects.len() } else { 0 };
        let wish = Wish {
            first: vec![&capacity; first],
            round: [run::round(scenarios, subjects.len()), claims::round(&checks)].concat(),
            rounds: self.rounds,
            window: self.window,
            limit: self.limit,
            wrk: self.wrk.is_some(),
        };
        let plan = Plan::new(&wish);
        let bench = Bench::new(cores, plan)?;
        if self.preflight {
            run::preflight(&bench, subjects, scenarios)?;
        }
        let mut results = self.described(&plan);
        results.machine = machine::this(&bench.cores);
        let progress = Progress::new(first + wish.round.len() * plan.rounds);
        progress.say(&foretold(&plan, &wish));
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

    /// What is known before anything is measured.
    fn described(&self, plan: &Plan) -> Results {
        let version = env!("CARGO_PKG_VERSION");
        let own = format!("built in, {version}");
        let describe = |subject: &Subject| results::Subject {
            name: subject.name.clone(),
            model: subject.model.clone(),
            command: subject.describe(),
        };
        Results {
            version: version.into(),
            began: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            rounds: plan.rounds,
            duration: plan.times.window.as_secs_f64(),
            generator: match &self.wrk {
                Some(wrk) if plan.wrk => format!("{wrk} where answers come at once; {own} elsewhere"),
                Some(wrk) if plan.is_short_for_wrk() => {
                    format!("{own}; measurements are too short for {wrk}")
                }
                _ => own,
            },
            subjects: self.subjects.iter().map(describe).collect(),
            ..Results::default()
        }
    }
}

/// What is going to be done, and how long that takes.
fn foretold(plan: &Plan, wish: &Wish<'_>) -> String {
    let words = |time: Duration| duration(time.as_secs_f64().round());
    let limit = match wish.window {
        Some(_) => String::new(),
        None if plan.estimate > plan.limit => {
            format!("; as {} is all the time there is, rounds will be left out", words(plan.limit))
        }
        None => format!(", {} at most", words(plan.limit)),
    };
    format!(
        "{} of {} each, {}: about {}{limit}",
        several(wish.first.len() + wish.round.len() * plan.rounds, "measurement"),
        duration(plan.times.window.as_secs_f64()),
        several(plan.rounds, "round"),
        words(plan.estimate),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_long_it_takes_and_if_that_is_too_long() {
        let trial = run::capacity("/");
        let said = |rounds, window| {
            let limit = Duration::from_secs(100);
            let wish = Wish { first: Vec::new(), round: vec![&trial; 10], rounds, window, limit, wrk: false };
            foretold(&Plan::new(&wish), &wish)
        };
        assert_eq!(said(1, None), "10 measurements of 3 s each, 1 round: about 37 s, 1 min 40 s at most");
        assert_eq!(
            said(100, None),
            "1,000 measurements of 0.1 s each, 100 rounds: about 5 min 20 s; as 1 min 40 s is all the time there is, \
             rounds will be left out"
        );
        let given = said(1, Some(Duration::from_secs(20)));
        assert_eq!(given, "10 measurements of 20 s each, 1 round: about 3 min 27 s");
    }
}
