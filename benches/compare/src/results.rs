//! What a comparison found: the one value that the table, the page, `results.json`, `results.csv` and `results.md` are
//! made of.

use serde::{Deserialize, Serialize};

use crate::format::list;

/// Fewer ticks than this do not tell a server's own code from the kernel.
const ENOUGH_TICKS: u64 = 25;

/// One run of the program.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version that was measured.
    pub version: String,
    /// The command line, so that a reader can run it again.
    pub command: String,
    /// When it began, as RFC 3339 has it, in UTC.
    pub began: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Where it ran.
    pub machine: Machine,
    /// How often each point was measured, interleaved over the subjects.
    pub rounds: usize,
    /// How long each of these measurements took, in seconds.
    pub duration: f64,
    /// What made the load, with its version.
    pub generator: String,
    /// The servers that were compared, in the order they are shown.
    pub subjects: Vec<Subject>,
    /// What they were asked to do.
    pub scenarios: Vec<Scenario>,
    /// What is said of servers, and whether it holds; with `--claims`.
    pub claims: Vec<Claim>,
    /// What has changed since a baseline, or has not; with `--baseline`.
    #[serde(default)]
    pub changes: Vec<Change>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that this process may use.
    pub cores: usize,
    /// Memory, in KiB.
    pub memory_kib: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// Processors that the servers were pinned to; empty if they were not.
    pub server_cores: Vec<usize>,
    /// Processors that the generator was pinned to; empty if it was not.
    pub generator_cores: Vec<usize>,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// What it is called: a backend's name, or what `--against` calls it.
    pub name: String,
    /// Its model in a line, if it is one of ours.
    pub model: String,
    /// The command that started it.
    pub command: String,
}

/// One kind of work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The word that `--scenario` takes.
    pub id: String,
    /// Its title.
    pub title: String,
    /// What it answers, in a sentence.
    pub question: String,
    /// What [`Point::x`] counts, as "connections" or "requests per second".
    pub axis: String,
    /// What decides, as a name of a field of [`Measure`]: "rate", "p50", "p99", "cpu" or "idle_bytes".
    pub decides: String,
    /// The subjects that are best by that, within the noise; several if it does not tell them apart.
    pub winners: Vec<String>,
    /// Why the numbers say so, in a sentence or two.
    pub reading: String,
    /// What was measured.
    pub points: Vec<Point>,
    /// Rounds that there was no time for.
    #[serde(default)]
    pub left_out: usize,
}

/// One load, put on every subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// What it is called in tables, as "64 connections" or "1 neighbour of /block/50".
    pub label: String,
    /// Its place on the axis.
    pub x: f64,
    /// Connections of the generator.
    pub connections: usize,
    /// Requests per second that were sent whatever became of those before (open loop); `None` if each connection waits
    /// for its response before it asks again (closed loop).
    pub offered: Option<f64>,
    /// What was asked for.
    pub path: String,
    /// What came of it, one for each subject, in their order.
    pub measures: Vec<Measure>,
    /// CPU time for each request of a server that never changes, in µs, under the same load in the same rounds: what
    /// the machine and the system took for it at that moment. Empty if the load says nothing of CPU time.
    #[serde(default)]
    pub yardstick: Spread,
}

/// How one subject bore one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The subject's name.
    pub subject: String,
    /// Why it was not measured, if it was not. All else is then empty.
    pub skipped: Option<String>,
    /// Responses per second.
    pub rate: Spread,
    /// Latency from when a request was due, in µs.
    pub latency: Latency,
    /// Responses that were not what they should be, refused connections, time-outs; over all rounds.
    pub errors: u64,
    /// The part of all requests that had no answer when the measurement ended, over all rounds. They are in the
    /// latencies with what they had waited by then, so that percentiles above `100 * (1 - unanswered)` are at least
    /// what is said.
    #[serde(default)]
    pub unanswered: f64,
    /// The server's CPU time per request, in µs: in its own code.
    pub cpu_user: Spread,
    /// The same: in the kernel.
    pub cpu_system: Spread,
    /// In how many ticks of the system's clock the server was seen, over all rounds: by these alone its own code is
    /// told from the kernel.
    #[serde(default)]
    pub ticks: u64,
    /// Context switches of the server per request, voluntary or not.
    pub switches: Spread,
    /// Threads of the server, at most.
    pub threads: Spread,
    /// Its peak resident memory, in KiB.
    pub peak_rss: Spread,
    /// Bytes for each idle connection, where that is what is measured.
    pub idle_bytes: Option<Spread>,
    /// The part of the machine's processors that other programs had, at the most disturbed round.
    #[serde(default)]
    pub disturbed: f64,
    /// Whether the generator was the bottleneck, so that the rate is the least the server can do.
    pub generator_bound: bool,
}

/// Percentiles of latency, in µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Half are quicker.
    pub p50: Spread,
    /// Nine of ten.
    pub p90: Spread,
    /// 99 of 100.
    pub p99: Spread,
    /// 999 of 1,000.
    pub p999: Spread,
    /// The slowest.
    pub max: Spread,
    /// Pairs of percentile and µs, for curves; of the median round.
    pub curve: Vec<(f64, f64)>,
}

/// One figure over all rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
    /// Each round's, in order.
    pub values: Vec<f64>,
}

/// What is said of servers, and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Its number, from 1.
    pub number: usize,
    /// What is said.
    pub statement: String,
    /// Whether it holds on every subject that it speaks of.
    pub holds: bool,
    /// One for each subject that it speaks of.
    pub findings: Vec<Finding>,
    /// Rounds that there was no time for.
    #[serde(default)]
    pub left_out: usize,
}

/// A claim on one subject.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The subject's name.
    pub subject: String,
    /// What was measured, with its unit.
    pub measured: String,
    /// What the claim wants, with its unit.
    pub wanted: String,
    /// Whether it holds here.
    pub holds: bool,
    /// By how much it does or does not, as a ratio; above 1 is on the good side.
    pub margin: f64,
}

/// One figure of a subject, before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The scenario's id.
    pub scenario: String,
    /// The point's label.
    pub point: String,
    /// The subject's name.
    pub subject: String,
    /// What is compared, with its unit, as "CPU µs a request".
    pub figure: String,
    /// In the baseline.
    pub before: f64,
    /// Now.
    pub after: f64,
    /// `after` to `before`, with what the machine itself became slower by taken out; above 1 is worse.
    pub ratio: f64,
    /// What `ratio` has to be beyond, or below the inverse of, to be more than noise.
    pub threshold: f64,
    /// "worse", "better" or "same".
    pub verdict: String,
}

/// What is said of rounds that there was no time for, if there are any.
pub fn left_out(rounds: usize, of: usize) -> Option<String> {
    (rounds > 0).then(|| format!("left out for want of time: {rounds} of {of} rounds"))
}

impl Machine {
    /// Who had which processors.
    pub fn pinned(&self) -> String {
        let named = |cores: &[usize]| list(&cores.iter().map(usize::to_string).collect::<Vec<_>>());
        match (self.server_cores.as_slice(), self.generator_cores.as_slice()) {
            ([], _) | (_, []) => {
                "servers and generator share one processor, so that rates are what both can do".into()
            }
            (servers, generator) => {
                format!("servers on processor {}, generator on {}", named(servers), named(generator))
            }
        }
    }
}

impl Measure {
    /// CPU time per request of each round, in µs.
    pub fn cpu(&self) -> Spread {
        let both = self.cpu_user.values.iter().zip(&self.cpu_system.values);
        Spread::of(both.map(|(user, system)| user + system).collect())
    }

    /// The part of its CPU time that the server spent in its own code, if it can be told.
    pub fn user_part(&self) -> Option<f64> {
        let sum = |spread: &Spread| spread.values.iter().sum::<f64>();
        let (user, system) = (sum(&self.cpu_user), sum(&self.cpu_system));
        (self.ticks >= ENOUGH_TICKS && user + system > 0.0).then(|| user / (user + system))
    }
}

impl Spread {
    /// Half of what the rounds lie apart, as a part of their median.
    pub fn noise(&self) -> f64 {
        self.range() / 2.0
    }

    /// What the rounds lie apart, as a part of their median.
    pub fn range(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / self.median } else { 0.0 }
    }

    /// The spread of some figures; all 0 if there are none.
    pub fn of(values: Vec<f64>) -> Spread {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let median = match sorted.len() {
            0 => 0.0,
            n if n % 2 == 1 => sorted[n / 2],
            n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        };
        let (min, max) = (sorted.first().copied(), sorted.last().copied());
        Spread { median, min: min.unwrap_or(0.0), max: max.unwrap_or(0.0), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(Spread::of(vec![]).median, 0.0);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
        assert_eq!(even.values, [4.0, 1.0, 2.0, 3.0]);
    }
}
