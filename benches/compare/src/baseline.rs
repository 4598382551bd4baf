//! Compares a run with a baseline and reports the changes that exceed the noise.
//!
//! Four figures are compared. The server's CPU time per request counts where requests keep it busy; on a mostly idle
//! core it depends on which threads happen to be awake. The median latency counts where it is a wait rather than
//! computation. The memory per idle connection and the failures always count. Rates are not compared, because they
//! depend on what else the machine did.
//!
//! A figure has changed if the ranges of its rounds are disjoint, and the medians differ by more than 15% and by more
//! than the range of either run. Three rounds each are disjoint by chance once in ten times, hence the second
//! condition.
//!
//! The machine itself is not equally fast in two runs hours apart. Therefore each round also measures the reference
//! server (the yardstick), which never changes, under the same load. If its CPU time per request rose by some µs, these
//! are subtracted from the server's CPU time before the comparison, because such changes are mostly in the kernel's
//! part, which all servers share. Small changes are therefore not detected. To detect them, measure both programs in
//! one run with `--against 'before=...'`.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::results::{Change, Measure, Point, Results, Spread};

/// The verdict that a figure is worse.
pub const WORSE: &str = "worse";
/// The verdict that a figure is better.
pub const BETTER: &str = "better";
/// The verdict that a figure has not changed beyond the noise.
pub const SAME: &str = "same";

/// The smallest change that counts, as a share.
const MIN_CHANGE: f64 = 0.15;
/// The smallest change of the uncorrected CPU time that counts, as a share.
const MIN_RAW_CHANGE: f64 = 0.05;
/// CPU time is compared if requests keep a core busy for at least this share of the time.
const MIN_BUSY: f64 = 0.5;
/// Minimum share of the cores assumed to be left by other programs.
const MIN_AVAILABLE: f64 = 0.1;
/// Latencies are not compared if other programs use more than this share of the cores.
const DISTURBED: f64 = 0.2;
/// The shortest median latency that is compared, in µs.
const MIN_WAIT: f64 = 5_000.0;
/// Latencies are compared if at least this share of the requests was answered.
const MIN_ANSWERED: f64 = 0.6;
/// Added to failures in percent, so that a few failures are not many times none.
const FAILURE_OFFSET: f64 = 1.0;

/// Reads a `results.json`.
///
/// # Errors
/// [`Failure::Baseline`].
pub fn read(file: &Path) -> Result<Results, Failure> {
    let refused = |why: String| Failure::Baseline { file: file.to_owned(), why };
    let bytes = fs::read(file).map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))
}

/// Compares all figures that are in both runs.
pub fn changes(before: &Results, after: &Results) -> Vec<Change> {
    let mut changes = Vec::new();
    for scenario in &after.scenarios {
        let Some(earlier) = before.scenarios.iter().find(|earlier| earlier.id == scenario.id) else {
            continue;
        };
        for point in &scenario.points {
            let same = |old: &&Point| old.label == point.label && old.offered == point.offered;
            let Some(old) = earlier.points.iter().find(same) else { continue };
            for measure in &point.measures {
                let Some(counterpart) = old.measures.iter().find(|old| old.subject == measure.subject) else {
                    continue;
                };
                let both = Pair {
                    old: counterpart,
                    new: measure,
                    yardsticks: (&old.yardstick, &point.yardstick),
                    open: point.offered.is_some(),
                };
                changes.extend(both.compare().into_iter().map(|change| Change {
                    scenario: scenario.id.clone(),
                    point: point.label.clone(),
                    subject: measure.subject.clone(),
                    ..change
                }));
            }
        }
    }
    changes
}

/// Counts the verdicts: `2 worse, 1 better, 40 within the noise`.
pub fn summary(changes: &[Change]) -> String {
    let number = |verdict: &str| changes.iter().filter(|change| change.verdict == verdict).count();
    format!("{} worse, {} better, {} within the noise", number(WORSE), number(BETTER), number(SAME))
}

/// One server under one load, in both runs.
struct Pair<'a> {
    old: &'a Measure,
    new: &'a Measure,
    yardsticks: (&'a Spread, &'a Spread),
    /// Whether requests were sent at a fixed rate.
    open: bool,
}

impl Pair<'_> {
    fn compare(&self) -> Vec<Change> {
        let (old, new) = (self.old, self.new);
        if old.skipped.is_some() && new.skipped.is_some() {
            return Vec::new();
        }
        let mut changes = vec![judged("failed, %", &failures(old), &failures(new), FAILURE_OFFSET)];
        if !self.open && is_busy(old) && is_busy(new) {
            changes.push(self.cpu());
        }
        if is_a_wait(old) && is_a_wait(new) {
            changes.push(judged("p50 µs", &old.latency.p50, &new.latency.p50, 0.0));
        }
        if let (Some(old), Some(new)) = (&old.idle_bytes, &new.idle_bytes) {
            changes.push(judged("bytes per connection", old, new, 1.0));
        }
        changes
    }

    /// Compares CPU times, corrected by the change of the yardstick.
    fn cpu(&self) -> Change {
        let (old, new) = (self.old.cpu(), self.new.cpu());
        let machine = self.yardsticks.1.values.iter().map(|now| now - self.yardsticks.0.median);
        let unknown = self.yardsticks.0.values.is_empty() || self.yardsticks.1.values.is_empty();
        let adjusted = match unknown {
            true => new.clone(),
            false => Spread::of(new.values.iter().zip(machine).map(|(cpu, more)| cpu - more).collect()),
        };
        let change = judged("CPU µs per request", &old, &adjusted, 0.0);
        let raw = if old.median > 0.0 { new.median / old.median } else { 1.0 };
        let confirmed = match change.verdict.as_str() {
            WORSE => raw > 1.0 + MIN_RAW_CHANGE,
            BETTER => raw < 1.0 / (1.0 + MIN_RAW_CHANGE),
            _ => true,
        };
        let verdict = if confirmed { change.verdict } else { SAME.into() };
        Change { after: new.median, verdict, ..change }
    }
}

/// Whether requests keep a core busy, as far as other programs allow it.
fn is_busy(measure: &Measure) -> bool {
    let left = (1.0 - measure.disturbed).max(MIN_AVAILABLE);
    measure.rate.median * measure.cpu().median / 1e6 >= MIN_BUSY * left
}

/// Failures in percent; 100 if there was no response at all.
fn failures(measure: &Measure) -> Spread {
    let idle = measure.idle_bytes.is_some();
    let answers: f64 = measure.rate.values.iter().sum();
    let failed = match measure.errors as f64 {
        _ if measure.skipped.is_some() => 100.0,
        _ if idle => 0.0,
        errors if answers > 0.0 => (errors / answers * 100.0).min(100.0),
        _ => 100.0,
    };
    Spread::of(vec![failed])
}

/// Whether half of the requests wait for something other than a core.
fn is_a_wait(measure: &Measure) -> bool {
    measure.disturbed <= DISTURBED
        && !is_busy(measure)
        && measure.latency.p50.median >= MIN_WAIT
        && 1.0 - measure.unanswered >= MIN_ANSWERED
}

/// Compares a figure of which less is better. `added` is added to both sides, so that small values do not count.
fn judged(figure: &str, old: &Spread, new: &Spread, added: f64) -> Change {
    let before = old.median + added;
    let ratio = if before > 0.0 { (new.median + added) / before } else { 1.0 };
    let apart = new.min > old.max || new.max < old.min;
    let noise = old.range().max(new.range());
    let threshold = 1.0 + noise.max(MIN_CHANGE);
    let verdict = match ratio {
        ratio if apart && ratio > threshold => WORSE,
        ratio if apart && ratio < 1.0 / threshold => BETTER,
        _ => SAME,
    };
    Change {
        figure: figure.into(),
        before: old.median,
        after: new.median,
        ratio,
        threshold,
        verdict: verdict.into(),
        ..Change::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Latency, Scenario};

    fn results(yardstick: f64, measure: Measure) -> Results {
        let yardstick = Spread::of(vec![yardstick; measure.rate.values.len()]);
        let point = Point { label: "here".into(), measures: vec![measure], yardstick, ..Point::default() };
        let scenario = Scenario { id: "plain".into(), points: vec![point], ..Scenario::default() };
        Results { duration: 1.0, scenarios: vec![scenario], ..Results::default() }
    }

    fn cpu(us: &[f64]) -> Measure {
        let rate = Spread::of(vec![100_000.0; us.len()]);
        let (cpu_user, cpu_system) = (Spread::of(us.to_vec()), Spread::of(vec![0.0; us.len()]));
        Measure { subject: "mio".into(), rate, cpu_user, cpu_system, ..Measure::default() }
    }

    /// The verdict on one figure.
    fn verdict(figure: &str, before: (f64, Measure), after: (f64, Measure)) -> Option<String> {
        let changes = changes(&results(before.0, before.1), &results(after.0, after.1));
        changes.into_iter().find(|change| change.figure == figure).map(|change| change.verdict)
    }

    fn cpu_verdict(before: (f64, &[f64]), after: (f64, &[f64])) -> String {
        let both = ((before.0, cpu(before.1)), (after.0, cpu(after.1)));
        verdict("CPU µs per request", both.0, both.1).expect("the server is busy")
    }

    #[test]
    fn a_change_beyond_the_noise_is_reported() {
        let before = (5.0, &[10.0, 10.1, 10.2][..]);
        assert_eq!(cpu_verdict(before, (5.0, &[13.0, 13.1, 13.2])), WORSE);
        assert_eq!(cpu_verdict(before, (5.0, &[8.0, 8.1, 8.2])), BETTER);
        assert_eq!(cpu_verdict(before, (5.0, &[10.3, 10.4, 10.5])), SAME);
    }

    #[test]
    fn a_change_within_the_noise_is_not_reported() {
        let before = (5.0, &[10.0, 11.0, 13.0][..]);
        assert_eq!(cpu_verdict(before, (5.0, &[12.9, 15.0, 16.0])), SAME);
        assert_eq!(cpu_verdict(before, (5.0, &[13.1, 14.0, 15.0])), SAME);
        assert_eq!(cpu_verdict(before, (5.0, &[20.0, 20.5, 21.0])), WORSE);
    }

    #[test]
    fn a_slower_machine_is_not_a_worse_server() {
        let before = (5.0, &[10.0, 10.1, 10.2][..]);
        assert_eq!(cpu_verdict(before, (7.5, &[12.0, 12.5, 12.8])), SAME);
        assert_eq!(
            cpu_verdict(before, (7.5, &[10.0, 10.1, 10.2])),
            SAME,
            "the yardstick alone proves nothing"
        );
        assert_eq!(cpu_verdict(before, (7.5, &[15.0, 15.1, 15.2])), WORSE);
    }

    #[test]
    fn waits_are_compared_and_the_cpu_time_of_an_idle_server_is_not() {
        let waiting = |ms: f64| Measure {
            rate: Spread::of(vec![20.0; 2]),
            latency: Latency { p50: Spread::of(vec![ms * 1e3, ms * 1e3 + 100.0]), ..Latency::default() },
            ..cpu(&[300.0, 310.0])
        };
        let verdict = |figure, after| verdict(figure, (5.0, waiting(50.0)), (5.0, after));
        assert_eq!(verdict("CPU µs per request", waiting(50.0)), None);
        assert_eq!(verdict("p50 µs", waiting(51.0)).as_deref(), Some(SAME));
        assert_eq!(verdict("p50 µs", waiting(60.0)).as_deref(), Some(WORSE));
        assert_eq!(verdict("p50 µs", Measure { unanswered: 0.9, ..waiting(60.0) }), None);
        assert_eq!(verdict("p50 µs", Measure { disturbed: 0.5, ..waiting(60.0) }), None);
        let queue = Measure { latency: waiting(60.0).latency, ..cpu(&[10.0, 10.1]) };
        assert_eq!(verdict("p50 µs", queue), None, "the requests queue for the core");
    }

    #[test]
    fn failures_and_missing_responses_are_worse() {
        let with = |errors, rate: f64| Measure { errors, rate: Spread::of(vec![rate]), ..cpu(&[10.0]) };
        let verdict = |after| {
            verdict("failed, %", (5.0, with(0, 1000.0)), (5.0, after)).expect("failures are compared")
        };
        assert_eq!(verdict(with(0, 1000.0)), SAME);
        assert_eq!(verdict(with(1, 1000.0)), SAME);
        assert_eq!(verdict(with(50, 1000.0)), WORSE);
        assert_eq!(verdict(with(0, 0.0)), WORSE);
        assert_eq!(verdict(Measure { skipped: Some("no".into()), ..with(0, 0.0) }), WORSE);
    }

    #[test]
    fn idle_bytes_are_compared() {
        let idle = |bytes: f64| Measure { idle_bytes: Some(Spread::of(vec![bytes])), ..cpu(&[]) };
        let verdict = |after| verdict("bytes per connection", (5.0, idle(800.0)), (5.0, idle(after)));
        assert_eq!(verdict(820.0).as_deref(), Some(SAME));
        assert_eq!(verdict(1800.0).as_deref(), Some(WORSE));
    }

    #[test]
    fn points_of_only_one_run_are_not_compared() {
        let mut other = results(5.0, cpu(&[10.0]));
        other.scenarios[0].points[0].offered = Some(100.0);
        assert!(changes(&results(5.0, cpu(&[10.0])), &other).is_empty());
        assert!(changes(&Results::default(), &other).is_empty());
    }

    #[test]
    fn an_unreadable_baseline_is_an_error() {
        let failure = read(Path::new("/nowhere/results.json")).expect_err("a missing file");
        assert_eq!(failure.status(), 7);
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), "{}").expect("a writable file");
        assert!(read(file.path()).expect_err("an empty object").to_string().contains("missing field"));
    }
}
