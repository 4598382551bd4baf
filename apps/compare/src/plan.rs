//! How the time is shared out: so many measurements in so much time.

use std::time::Duration;

use crate::load::Times;

/// The part of the time that is kept for trials that have to be made again.
const SPARE: f64 = 0.12;
/// What a measurement takes beside its window: a server's start and end.
const BESIDE: f64 = 0.1;
/// What warming up and draining take, as a part of the window.
const AROUND: f64 = 0.2;
const A_DAY: Duration = Duration::from_secs(86_400);
/// Windows are whole multiples of the waits of most scenarios, in seconds, so that none is cut off.
const WAIT: f64 = 0.05;
/// The shortest and the longest window, in seconds, that is chosen for want or for plenty of time.
const WINDOW: (f64, f64) = (0.1, 3.0);

/// How often and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Rounds.
    pub rounds: usize,
    /// What each measurement takes.
    pub times: Times,
    /// What all may take.
    pub limit: Duration,
    /// What of that is for trials that others disturbed.
    pub spare: Duration,
}

impl Plan {
    /// Shares `limit` out to so many measurements a round, unless the window is given.
    pub fn new(measurements: usize, rounds: usize, window: Option<Duration>, limit: Duration) -> Plan {
        let kept = limit.mul_f64(SPARE);
        let share = (limit - kept).as_secs_f64() / (measurements * rounds).max(1) as f64;
        let fits = ((share - BESIDE) / (1.0 + AROUND)).clamp(WINDOW.0, WINDOW.1);
        let whole = ((fits / WAIT).floor() * WAIT * 1e3).round() / 1e3;
        // Who says how long a measurement takes has as much time as that needs.
        let limit = if window.is_some() { A_DAY } else { limit };
        let window = window.unwrap_or(Duration::from_secs_f64(whole));
        let all = window.mul_f64((measurements * rounds) as f64);
        Plan { rounds, times: times(window), limit, spare: kept.min(all) }
    }
}

impl Plan {
    /// What a measurement takes in all, about.
    pub fn each(&self) -> Duration {
        let Times { warm_up, window, drain } = self.times;
        warm_up + window + drain + Duration::from_secs_f64(BESIDE)
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

    #[test]
    fn the_time_is_shared_out() {
        let plan = Plan::new(100, 2, None, Duration::from_secs(110));
        let each = plan.times.warm_up + plan.times.window + plan.times.drain;
        assert!(each.as_secs_f64() * 200.0 < 110.0, "{plan:?}");
        assert_eq!(plan.times.window, Duration::from_millis(300), "{plan:?}");
    }

    #[test]
    fn plenty_of_time_is_not_wasted_and_want_of_it_leaves_something() {
        let window = |limit| Plan::new(1, 1, None, Duration::from_secs(limit)).times.window.as_secs_f64();
        assert_eq!((window(600), window(0)), (WINDOW.1, WINDOW.0));
    }

    #[test]
    fn a_window_that_is_given_is_kept() {
        let given = Duration::from_secs(7);
        let plan = Plan::new(100, 2, Some(given), Duration::from_secs(1));
        assert_eq!((plan.times.window, plan.limit), (given, A_DAY));
    }
}
