//! How the time is shared out: so many measurements in so much time.

use std::time::Duration;

use crate::load::{Times, wrk};
use crate::trial::Trial;

/// The part of the time that is kept for trials that have to be made again.
const SPARE: f64 = 0.12;
/// What a measurement takes beside its window: a server's start and end.
const BESIDE: Duration = Duration::from_millis(100);
/// What warming up and draining take, as a part of the window.
const AROUND: f64 = 0.2;
const A_DAY: Duration = Duration::from_secs(86_400);
/// Windows are whole multiples of the waits of most scenarios, so that none is cut off.
const WAIT: Duration = Duration::from_millis(50);
/// The shortest and the longest window, in such waits, that is chosen for want or for plenty of time.
const WINDOW: (u32, u32) = (2, 60);
/// Shorter windows than this are not stretched to what wrk needs.
const SHORT_FOR_WRK: Duration = Duration::from_millis(500);

/// What is wanted of a comparison, and how long it may take.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// What is measured once, before all else.
    pub first: Vec<&'a Trial>,
    /// What is measured in each round.
    pub round: Vec<&'a Trial>,
    /// Rounds.
    pub rounds: usize,
    /// How long each measurement takes, if that is given.
    pub window: Option<Duration>,
    /// What all may take.
    pub limit: Duration,
    /// Whether wrk is there and wanted.
    pub wrk: bool,
}

/// How often and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// What each measurement takes.
    pub times: Times,
    /// Whether wrk makes the load where it can.
    pub wrk: bool,
    /// What all may take.
    pub limit: Duration,
    /// What of that is for trials that others disturbed.
    pub spare: Duration,
    /// What all takes if nothing is disturbed.
    pub estimate: Duration,
}

impl Plan {
    /// The longest windows, unless they are given, with which everything is done in time.
    pub fn new(wish: &Wish<'_>) -> Plan {
        let kept = wish.limit.mul_f64(SPARE);
        let for_wrk = wish.wrk && wish.round.iter().any(|trial| trial.is_for_wrk());
        let planned = |window| {
            // Who says how long a measurement takes has as much time as that needs.
            let limit = if wish.window.is_some() { A_DAY } else { wish.limit };
            let plan = Plan {
                rounds: wish.rounds,
                times: times(window),
                wrk: for_wrk && window >= SHORT_FOR_WRK,
                limit,
                spare: Duration::ZERO,
                estimate: Duration::ZERO,
            };
            let rounds = u32::try_from(wish.rounds).unwrap_or(u32::MAX);
            let estimate = plan.all(&wish.first).saturating_add(plan.all(&wish.round).saturating_mul(rounds));
            Plan { spare: kept.min(estimate), estimate, ..plan }
        };
        if let Some(window) = wish.window {
            return planned(window);
        }
        let windows = (WINDOW.0..=WINDOW.1).rev().map(|waits| planned(WAIT * waits));
        let mut fitting = windows.skip_while(|plan| plan.estimate > wish.limit - kept);
        fitting.next().unwrap_or_else(|| planned(WAIT * WINDOW.0))
    }

    /// Whether wrk is left out for want of time.
    pub fn is_short_for_wrk(&self) -> bool {
        self.times.window < SHORT_FOR_WRK
    }

    /// What these measurements take in all, about.
    pub fn all<'t>(&self, trials: impl IntoIterator<Item = &'t &'t Trial>) -> Duration {
        trials.into_iter().map(|trial| self.each(trial)).sum()
    }

    /// What a measurement takes in all, about.
    fn each(&self, trial: &Trial) -> Duration {
        let Times { warm_up, window, drain } = self.times;
        if self.wrk && trial.is_for_wrk() {
            warm_up + wrk::takes(window) + BESIDE
        } else {
            warm_up + window + drain + BESIDE
        }
    }
}

/// Warming up has to see the first waits of 50 ms end, as well as has draining.
fn times(window: Duration) -> Times {
    let part = window.mul_f64(AROUND / 2.0);
    let bounded = |least, most| part.clamp(Duration::from_millis(least), Duration::from_millis(most));
    Times { warm_up: bounded(60, 300), window, drain: bounded(60, 250) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Ask, Pace, Traffic};
    use crate::serve::Served;
    use crate::trial::Work;

    fn trial(saturates: bool) -> Trial {
        let traffic = Traffic::new(1, Ask::get("/"), Pace::Closed);
        Trial { app: Served::Demo, work: Work::Load(vec![traffic]), saturates }
    }

    fn wish<'a>(trial: &'a Trial, measurements: usize, seconds: u64) -> Wish<'a> {
        let limit = Duration::from_secs(seconds);
        Wish {
            first: vec![trial],
            round: vec![trial; measurements],
            rounds: 2,
            window: None,
            limit,
            wrk: true,
        }
    }

    #[test]
    fn the_time_is_shared_out() {
        let plan = Plan::new(&wish(&trial(false), 100, 110));
        assert_eq!(plan.times.window, Duration::from_millis(250), "{plan:?}");
        assert!(plan.estimate + plan.spare <= plan.limit, "{plan:?}");
        // With 50 ms more it would be beyond that.
        assert!(plan.estimate + Duration::from_millis(50) * 201 + plan.spare > plan.limit, "{plan:?}");
    }

    #[test]
    fn plenty_of_time_is_not_wasted_and_want_of_it_leaves_something() {
        let window = |seconds| Plan::new(&wish(&trial(false), 1, seconds)).times.window;
        assert_eq!((window(600), window(0)), (WAIT * WINDOW.1, WAIT * WINDOW.0));
    }

    #[test]
    fn a_window_that_is_given_is_kept() {
        let (given, trial) = (Duration::from_secs(7), trial(false));
        let plan = Plan::new(&Wish { window: Some(given), ..wish(&trial, 100, 1) });
        assert_eq!((plan.times.window, plan.limit), (given, A_DAY));
        assert!(plan.estimate > given * 201, "{plan:?}");
    }

    #[test]
    fn wrk_takes_whole_seconds_and_is_left_out_if_there_is_no_time_for_that() {
        let (for_wrk, not) = (trial(true), trial(false));
        let plan = |trial, seconds| Plan::new(&wish(trial, 50, seconds));
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
