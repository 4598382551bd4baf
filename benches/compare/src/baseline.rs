//! Before and after: what has changed since a baseline, beyond the noise.
//!
//! Rates are not compared: they tell what else the machine did. What is compared is the server's CPU time for a
//! request, where requests keep it busy, as with a processor to spare it depends on who happens to be awake; how long
//! half of the requests take, where they take so long that it is a wait and not the machine; the bytes of an idle
//! connection; and failures.
//!
//! A figure is called a change if *no* round of one run lies within the rounds of the other, and the medians are further
//! apart than 15% and than the rounds of each run are among themselves. With three rounds each, chance alone makes
//! them disjoint once in ten times, which is why the second condition is there.
//!
//! Two runs are hours apart, and a machine is not the same at both. Beside each point the yardstick was measured, a
//! server that never changes, under the same load in the same round. By as many µs as a request became dearer there it
//! became dearer to everybody: what a machine becomes slower at is mostly the kernel's part, which is the same for all.
//! So these are taken off before figures are compared. It follows that small changes are not found; who looks for one
//! takes both programs into one run, with `--against 'before=...'`.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::results::{Change, Measure, Point, Results, Spread};

/// The verdict that it became worse.
pub const WORSE: &str = "worse";
/// The verdict that it became better.
pub const BETTER: &str = "better";
/// The verdict that nothing can be told.
pub const SAME: &str = "same";

/// The least change that is one, as a part.
const LEAST: f64 = 0.15;
/// The least change that is left if the machine's own part is not taken off.
const LEAST_RAW: f64 = 0.05;
/// The least part of a processor that requests keep busy, if their CPU time is compared.
const BUSY: f64 = 0.5;
/// What others leave of a processor at least, for all that is known of them.
const LEAST_LEFT: f64 = 0.1;
/// From this part of the processors on, others make latencies that prove nothing.
const DISTURBED: f64 = 0.2;
/// The shortest latency that is compared, in µs.
const A_WAIT: f64 = 5_000.0;
/// Latencies are compared if so large a part of the requests has an answer.
const ANSWERED: f64 = 0.6;
/// Failures in percent are compared with this added, so that few of them are not many times none.
const FEW_FAILURES: f64 = 1.0;

/// Reads a `results.json`.
///
/// # Errors
/// [`Failure::Baseline`].
pub fn read(file: &Path) -> Result<Results, Failure> {
    let refused = |why: String| Failure::Baseline { file: file.to_owned(), why };
    let bytes = fs::read(file).map_err(|error| refused(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))
}

/// Compares everything that is in both.
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
                let both = Both {
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

/// What has changed, and how much there is that has not: `2 worse, 1 better, 40 within the noise`.
pub fn summary(changes: &[Change]) -> String {
    let told = |verdict: &str| changes.iter().filter(|change| change.verdict == verdict).count();
    format!("{} worse, {} better, {} within the noise", told(WORSE), told(BETTER), told(SAME))
}

/// One subject at one point, in both runs.
struct Both<'a> {
    old: &'a Measure,
    new: &'a Measure,
    yardsticks: (&'a Spread, &'a Spread),
    /// Whether requests came at a fixed rate.
    open: bool,
}

impl Both<'_> {
    fn compare(&self) -> Vec<Change> {
        let (old, new) = (self.old, self.new);
        if old.skipped.is_some() && new.skipped.is_some() {
            return Vec::new();
        }
        let mut changes = vec![judged("failed, %", &failures(old), &failures(new), FEW_FAILURES)];
        if !self.open && is_busy(old) && is_busy(new) {
            changes.push(self.cpu());
        }
        if is_a_wait(old) && is_a_wait(new) {
            changes.push(judged("p50 µs", &old.latency.p50, &new.latency.p50, 0.0));
        }
        if let (Some(old), Some(new)) = (&old.idle_bytes, &new.idle_bytes) {
            changes.push(judged("bytes each", old, new, 1.0));
        }
        changes
    }

    /// CPU times, without what the machine itself became slower or quicker by.
    fn cpu(&self) -> Change {
        let (old, new) = (self.old.cpu(), self.new.cpu());
        let machine = self.yardsticks.1.values.iter().map(|now| now - self.yardsticks.0.median);
        let unknown = self.yardsticks.0.values.is_empty() || self.yardsticks.1.values.is_empty();
        let adjusted = match unknown {
            true => new.clone(),
            false => Spread::of(new.values.iter().zip(machine).map(|(cpu, more)| cpu - more).collect()),
        };
        let change = judged("CPU µs a request", &old, &adjusted, 0.0);
        let raw = if old.median > 0.0 { new.median / old.median } else { 1.0 };
        let confirmed = match change.verdict.as_str() {
            WORSE => raw > 1.0 + LEAST_RAW,
            BETTER => raw < 1.0 / (1.0 + LEAST_RAW),
            _ => true,
        };
        let verdict = if confirmed { change.verdict } else { SAME.into() };
        Change { after: new.median, verdict, ..change }
    }
}

/// Says whether requests keep it busy, as far as other programs let them.
fn is_busy(measure: &Measure) -> bool {
    let left = (1.0 - measure.disturbed).max(LEAST_LEFT);
    measure.rate.median * measure.cpu().median / 1e6 >= BUSY * left
}

/// What failed, in percent: everything if there were no answers at all.
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

/// Says whether half of the requests wait, for something else than a processor.
fn is_a_wait(measure: &Measure) -> bool {
    measure.disturbed <= DISTURBED
        && !is_busy(measure)
        && measure.latency.p50.median >= A_WAIT
        && 1.0 - measure.unanswered >= ANSWERED
}

/// Compares figures of which less is better, with something added to each that makes little of what is small.
fn judged(figure: &str, old: &Spread, new: &Spread, added: f64) -> Change {
    let before = old.median + added;
    let ratio = if before > 0.0 { (new.median + added) / before } else { 1.0 };
    let apart = new.min > old.max || new.max < old.min;
    let noise = old.range().max(new.range());
    let threshold = 1.0 + noise.max(LEAST);
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

/// What rounds lie apart, as a part of their median.
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

    /// The verdict on a figure.
    fn verdict(figure: &str, before: (f64, Measure), after: (f64, Measure)) -> Option<String> {
        let changes = changes(&results(before.0, before.1), &results(after.0, after.1));
        changes.into_iter().find(|change| change.figure == figure).map(|change| change.verdict)
    }

    fn cpu_verdict(before: (f64, &[f64]), after: (f64, &[f64])) -> String {
        let both = ((before.0, cpu(before.1)), (after.0, cpu(after.1)));
        verdict("CPU µs a request", both.0, both.1).expect("there is enough of it")
    }

    #[test]
    fn a_change_beyond_the_noise_is_one() {
        let before = (5.0, &[10.0, 10.1, 10.2][..]);
        assert_eq!(cpu_verdict(before, (5.0, &[13.0, 13.1, 13.2])), WORSE);
        assert_eq!(cpu_verdict(before, (5.0, &[8.0, 8.1, 8.2])), BETTER);
        assert_eq!(cpu_verdict(before, (5.0, &[10.3, 10.4, 10.5])), SAME);
    }

    #[test]
    fn what_overlaps_or_is_less_than_the_noise_is_none() {
        let before = (5.0, &[10.0, 11.0, 13.0][..]);
        assert_eq!(cpu_verdict(before, (5.0, &[12.9, 15.0, 16.0])), SAME);
        assert_eq!(cpu_verdict(before, (5.0, &[13.1, 14.0, 15.0])), SAME);
        assert_eq!(cpu_verdict(before, (5.0, &[20.0, 20.5, 21.0])), WORSE);
    }

    #[test]
    fn a_machine_that_became_slower_is_not_held_against_a_server() {
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
    fn little_cpu_is_not_compared_and_waits_are() {
        let waiting = |ms: f64| Measure {
            rate: Spread::of(vec![20.0; 2]),
            latency: Latency { p50: Spread::of(vec![ms * 1e3, ms * 1e3 + 100.0]), ..Latency::default() },
            ..cpu(&[300.0, 310.0])
        };
        let verdict = |figure, after| verdict(figure, (5.0, waiting(50.0)), (5.0, after));
        assert_eq!(verdict("CPU µs a request", waiting(50.0)), None);
        assert_eq!(verdict("p50 µs", waiting(51.0)).as_deref(), Some(SAME));
        assert_eq!(verdict("p50 µs", waiting(60.0)).as_deref(), Some(WORSE));
        assert_eq!(verdict("p50 µs", Measure { unanswered: 0.9, ..waiting(60.0) }), None);
        assert_eq!(verdict("p50 µs", Measure { disturbed: 0.5, ..waiting(60.0) }), None);
        let queue = Measure { latency: waiting(60.0).latency, ..cpu(&[10.0, 10.1]) };
        assert_eq!(verdict("p50 µs", queue), None, "they queue for the processor");
    }

    #[test]
    fn failures_are_worse_and_so_is_a_server_that_answers_nothing() {
        let with = |errors, rate: f64| Measure { errors, rate: Spread::of(vec![rate]), ..cpu(&[10.0]) };
        let verdict =
            |after| verdict("failed, %", (5.0, with(0, 1000.0)), (5.0, after)).expect("it is compared");
        assert_eq!(verdict(with(0, 1000.0)), SAME);
        assert_eq!(verdict(with(1, 1000.0)), SAME);
        assert_eq!(verdict(with(50, 1000.0)), WORSE);
        assert_eq!(verdict(with(0, 0.0)), WORSE);
        assert_eq!(verdict(Measure { skipped: Some("no".into()), ..with(0, 0.0) }), WORSE);
    }

    #[test]
    fn idle_bytes_are_compared() {
        let idle = |bytes: f64| Measure { idle_bytes: Some(Spread::of(vec![bytes])), ..cpu(&[]) };
        let verdict = |after| verdict("bytes each", (5.0, idle(800.0)), (5.0, idle(after)));
        assert_eq!(verdict(820.0).as_deref(), Some(SAME));
        assert_eq!(verdict(1800.0).as_deref(), Some(WORSE));
    }

    #[test]
    fn what_is_in_one_run_only_is_not_compared() {
        let mut other = results(5.0, cpu(&[10.0]));
        other.scenarios[0].points[0].offered = Some(100.0);
        assert!(changes(&results(5.0, cpu(&[10.0])), &other).is_empty());
        assert!(changes(&Results::default(), &other).is_empty());
    }

    #[test]
    fn a_baseline_that_is_none_says_why() {
        let failure = read(Path::new("/nowhere/results.json")).expect_err("it is not there");
        assert_eq!(failure.status(), 7);
        let file = tempfile::NamedTempFile::new().expect("there is room for it");
        fs::write(file.path(), "{}").expect("it is ours");
        assert!(read(file.path()).expect_err("it is empty").to_string().contains("missing field"));
    }
}
