//! Chooses the length of the measurements so that the whole comparison fits into its time limit.

use std::time::Duration;

use crate::load::{Times, wrk};
use crate::trial::Trial;

/// Share of the time limit reserved for repeating disturbed trials.
const RESERVE: f64 = 0.12;
/// Time per measurement for starting and stopping a server that is part of this program.
pub const OVERHEAD: Duration = Duration::from_millis(100);
/// Warm-up and drain together, as a share of the window.
const WARM_UP_AND_DRAIN: f64 = 0.2;
const NO_LIMIT: Duration = Duration::from_secs(86_400);
/// Windows are multiples of the wait in most scenarios, so that the end of a window cuts off no wait.
const WAIT: Duration = Duration::from_millis(50);
/// Bounds of the chosen window, in multiples of [`WAIT`].
const WINDOW: (u32, u32) = (2, 60);
/// wrk runs for whole seconds. If the chosen window is shorter than this, wrk is not used.
const SHORT_FOR_WRK: Duration = Duration::from_millis(500);

/// The measurements to plan and the limits on them.
#[derive(Clone, Debug)]
pub struct PlanInput<'a> {
    /// Trials that run once, before the first round.
    pub first: Vec<&'a Trial>,
    /// Trials of each round.
    pub round: Vec<&'a Trial>,
    /// Number of rounds.
    pub rounds: usize,
    /// Length of each measurement, if the user chose it.
    pub window: Option<Duration>,
    /// Time limit of the whole comparison.
    pub limit: Duration,
    /// Whether wrk is installed and allowed.
    pub wrk: bool,
    /// Time per measurement for starting and stopping the server.
    pub overhead: Duration,
}

/// How often and how long to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Number of rounds.
    pub rounds: usize,
    /// Length of each measurement.
    pub times: Times,
    /// Whether wrk generates the loads that it is suitable for.
    pub wrk: bool,
    /// Time limit of the whole comparison.
    pub limit: Duration,
    /// Part of the limit that may be used for repeating disturbed trials.
    pub spare: Duration,
    /// Expected time of the whole comparison without repeated trials.
    pub estimate: Duration,
    /// Time per measurement for starting and stopping the server.
    pub overhead: Duration,
}

impl Plan {
    /// Plans with the longest window that fits into the limit, unless the user chose the window.
    pub fn new(input: &PlanInput<'_>) -> Plan {
        let kept = input.limit.mul_f64(RESERVE);
        let for_wrk = input.wrk && input.round.iter().any(|trial| trial.is_for_wrk());
        let planned = |window| {
            // A window chosen by the user overrides the time limit.
            let limit = if input.window.is_some() { NO_LIMIT } else { input.limit };
            let plan = Plan {
                rounds: input.rounds,
                times: times(window),
                wrk: for_wrk && window >= SHORT_FOR_WRK,
                limit,
                spare: Duration::ZERO,
                estimate: Duration::ZERO,
                overhead: input.overhead,
            };
            let rounds = u32::try_from(input.rounds).unwrap_or(u32::MAX);
            let estimate =
                plan.all(&input.first).saturating_add(plan.all(&input.round).saturating_mul(rounds));
            Plan { spare: kept.min(estimate), estimate, ..plan }
        };
        if let Some(window) = input.window {
            return planned(window);
        }
        let windows = (WINDOW.0..=WINDOW.1).rev().map(|waits| planned(WAIT * waits));
        let mut fitting = windows.skip_while(|plan| plan.estimate > input.limit - kept);
        fitting.next().unwrap_or_else(|| planned(WAIT * WINDOW.0))
    }

    /// Whether the window is too short for wrk.
    pub fn is_short_for_wrk(&self) -> bool {
        self.times.window < SHORT_FOR_WRK
    }

    /// Approximate time that `trials` take.
    pub fn all<'t>(&self, trials: impl IntoIterator<Item = &'t &'t Trial>) -> Duration {
        trials.into_iter().map(|trial| self.each(trial)).sum()
    }

    /// Approximate time that one trial takes.
    fn each(&self, trial: &Trial) -> Duration {
        let Times { warm_up, window, drain } = self.times;
        if self.wrk && trial.is_for_wrk() {
            warm_up + wrk::takes(window) + self.overhead
        } else {
            warm_up + window + drain + self.overhead
        }
    }
}

/// The warm-up and the drain are at least as long as one wait of 50 ms.
fn times(window: Duration) -> Times {
    let part = window.mul_f64(WARM_UP_AND_DRAIN / 2.0);
    let bounded = |least, most| part.clamp(Duration::from_millis(least), Duration::from_millis(most));
    Times { warm_up: bounded(60, 300), window, drain: bounded(60, 250) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Pacing, Request, Traffic};
    use crate::serve::Application;
    use crate::trial::Workload;

    fn trial(saturates: bool) -> Trial {
        let traffic = Traffic::new(1, Request::get("/"), Pacing::Closed);
        Trial { app: Application::Demo, workload: Workload::Load(vec![traffic]), saturates }
    }

    fn input<'a>(trial: &'a Trial, measurements: usize, seconds: u64) -> PlanInput<'a> {
        let limit = Duration::from_secs(seconds);
        PlanInput {
            first: vec![trial],
            round: vec![trial; measurements],
            rounds: 2,
            window: None,
            limit,
            wrk: true,
            overhead: OVERHEAD,
        }
    }

    #[test]
    fn the_window_fills_the_time_limit() {
        let plan = Plan::new(&input(&trial(false), 100, 110));
        assert_eq!(plan.times.window, Duration::from_millis(250), "{plan:?}");
        assert!(plan.estimate + plan.spare <= plan.limit, "{plan:?}");
        // A window longer by 50 ms would exceed the limit.
        assert!(plan.estimate + Duration::from_millis(50) * 201 + plan.spare > plan.limit, "{plan:?}");
    }

    #[test]
    fn the_window_has_a_minimum_and_a_maximum() {
        let window = |seconds| Plan::new(&input(&trial(false), 1, seconds)).times.window;
        assert_eq!((window(600), window(0)), (WAIT * WINDOW.1, WAIT * WINDOW.0));
    }

    #[test]
    fn a_window_chosen_by_the_user_is_kept() {
        let (given, trial) = (Duration::from_secs(7), trial(false));
        let plan = Plan::new(&PlanInput { window: Some(given), ..input(&trial, 100, 1) });
        assert_eq!((plan.times.window, plan.limit), (given, NO_LIMIT));
        assert!(plan.estimate > given * 201, "{plan:?}");
    }

    #[test]
    fn wrk_is_used_only_if_whole_seconds_fit() {
        let (for_wrk, not) = (trial(true), trial(false));
        let plan = |trial, seconds| Plan::new(&input(trial, 50, seconds));
        assert_eq!(
            [plan(&for_wrk, 80).wrk, plan(&for_wrk, 150).wrk, plan(&not, 150).wrk],
            [false, true, false]
        );
        assert!(plan(&for_wrk, 80).is_short_for_wrk());
        let plan = plan(&for_wrk, 150);
        assert!(plan.times.window < Duration::from_secs(2), "{plan:?}");
        assert!(
            plan.estimate > Duration::from_secs(101) && plan.estimate + plan.spare <= plan.limit,
            "{plan:?}"
        );
    }
}
