//! The results of a comparison. The table, the page, `results.json`, `results.csv` and `results.md` are made from them.

use serde::{Deserialize, Serialize};

use crate::format::list;

/// Minimum number of ticks for separating user from kernel time.
const ENOUGH_TICKS: u64 = 25;

/// The results of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// The version of this program and of Gearshift.
    pub version: String,
    /// The command line.
    pub command: String,
    /// The start of the run in UTC, in the form of RFC 3339.
    pub began: String,
    /// The length of the run, in seconds.
    pub seconds: f64,
    /// The machine.
    pub machine: Machine,
    /// Number of rounds. The servers take turns within a round.
    pub rounds: usize,
    /// Length of each measurement, in seconds.
    pub duration: f64,
    /// The load generator and its version.
    pub generator: String,
    /// The servers in the order of the report.
    pub subjects: Vec<Subject>,
    /// The scenarios in the order of the report.
    pub scenarios: Vec<Scenario>,
    /// The claims; empty without `--claims`.
    pub claims: Vec<Claim>,
    /// The changes since the baseline; empty without `--baseline`.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// The interpreter and the packages with their versions; empty without `--python`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Servers and applications that were left out, with the reason; empty without `--python`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// The best backend of Gearshift in relation to other servers; empty without `--python`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<Ratio>,
}

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The name of the CPU.
    pub cpu: String,
    /// Number of cores that this process may use.
    pub cores: usize,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Name and release of the kernel.
    pub kernel: String,
    /// Cores that the servers were pinned to; empty if they were not pinned.
    pub server_cores: Vec<usize>,
    /// Cores that the generator was pinned to; empty if it was not pinned.
    pub generator_cores: Vec<usize>,
}

/// A server under comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name: a backend's name, or the name given by `--against`.
    pub name: String,
    /// One line about its concurrency model; empty if unknown.
    pub model: String,
    /// The command that starts it.
    pub command: String,
}

/// The results of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// The name that `--scenario` takes.
    pub id: String,
    /// The title.
    pub title: String,
    /// The question that the scenario answers.
    pub question: String,
    /// The unit of [`Point::x`], such as "connections".
    pub axis: String,
    /// The figure that decides, as the name of a field of [`Measure`]: "rate", "p50", "p99", "cpu" or "idle_bytes".
    pub decides: String,
    /// The best servers by that figure. There are several if they do not differ by more than the noise.
    pub winners: Vec<String>,
    /// An explanation of the figures, in one or two sentences.
    pub reading: String,
    /// The loads and their figures.
    pub points: Vec<Point>,
    /// Number of rounds that were left out because of the time limit.
    #[serde(default)]
    pub left_out: usize,
}

/// One load and the figures of all servers under it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its name, such as "64 connections" or "beside /block/50".
    pub label: String,
    /// Its position on the axis.
    pub x: f64,
    /// Number of connections of the generator.
    pub connections: usize,
    /// Requests per second at a fixed rate, whether or not earlier requests were answered (open loop). `None` if each
    /// connection sends its next request after a response (closed loop).
    pub offered: Option<f64>,
    /// The requested path.
    pub path: String,
    /// The figures, one per server in the order of the servers.
    pub measures: Vec<Measure>,
    /// CPU time per request of the reference server under the same load in the same rounds, in µs. It tells how fast
    /// the machine was at that time. Empty for loads that do not measure CPU time.
    #[serde(default)]
    pub yardstick: Spread,
}

/// The figures of one server under one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// The name of the server.
    pub subject: String,
    /// Why the server was not measured. All other fields are then empty.
    pub skipped: Option<String>,
    /// Successful responses per second.
    pub rate: Spread,
    /// Latency in µs, counted from when the request was due.
    pub latency: Latency,
    /// Number of unsuccessful responses, failed connections and timeouts in all rounds.
    pub errors: u64,
    /// Share of the requests without a response at the end of the measurement, over all rounds. The latencies include
    /// them with the time waited so far, so percentiles above `100 * (1 - unanswered)` are lower bounds.
    #[serde(default)]
    pub unanswered: f64,
    /// CPU time per request in user mode, in µs.
    pub cpu_user: Spread,
    /// CPU time per request in the kernel, in µs.
    pub cpu_system: Spread,
    /// Number of clock ticks behind the split into user and kernel time, over all rounds.
    #[serde(default)]
    pub ticks: u64,
    /// Context switches per request, voluntary and involuntary.
    pub switches: Spread,
    /// Number of threads at the end of the measurement.
    pub threads: Spread,
    /// Peak resident memory, in KiB.
    pub peak_rss: Spread,
    /// Memory per idle connection in bytes, in scenarios that measure it.
    pub idle_bytes: Option<Spread>,
    /// Share of the cores used by other programs in the most disturbed round.
    #[serde(default)]
    pub disturbed: f64,
    /// Whether the generator was the bottleneck. The rate is then a lower bound.
    pub generator_bound: bool,
}

/// Percentiles of latency, in µs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: Spread,
    /// The 90th percentile.
    pub p90: Spread,
    /// The 99th percentile.
    pub p99: Spread,
    /// The 99.9th percentile.
    pub p999: Spread,
    /// The maximum.
    pub max: Spread,
    /// Pairs of percentile and latency from the median round, for charts.
    pub curve: Vec<(f64, f64)>,
}

/// One figure over all rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub min: f64,
    /// The maximum.
    pub max: f64,
    /// The values of the rounds, in order.
    pub values: Vec<f64>,
}

/// A claim about servers and the measurements that support or refute it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// Its number, from 1.
    pub number: usize,
    /// The claim.
    pub statement: String,
    /// Whether it holds for every server that it is about.
    pub holds: bool,
    /// The findings, at least one per server that it is about.
    pub findings: Vec<Finding>,
    /// Number of rounds that were left out because of the time limit.
    #[serde(default)]
    pub left_out: usize,
    /// On which servers the claim holds, in one sentence; empty without `--python`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// A finding about a claim on one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The name of the server.
    pub subject: String,
    /// The measured figure with its unit.
    pub measured: String,
    /// The required figure with its unit.
    pub wanted: String,
    /// Whether the figure is as required.
    pub holds: bool,
    /// Ratio between the required and the measured figure, turned so that 1 and above means that the claim holds.
    pub margin: f64,
}

/// One figure of a server in the baseline and in this run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The id of the scenario.
    pub scenario: String,
    /// The label of the point.
    pub point: String,
    /// The name of the server.
    pub subject: String,
    /// The figure with its unit, such as "CPU µs per request".
    pub figure: String,
    /// The value in the baseline.
    pub before: f64,
    /// The value in this run.
    pub after: f64,
    /// `after` divided by `before`, corrected for changes of the machine itself. Above 1 is worse.
    pub ratio: f64,
    /// The ratio beyond which, or below whose inverse, a change exceeds the noise.
    pub threshold: f64,
    /// "worse", "better" or "same".
    pub verdict: String,
}

/// The figure of the best backend of Gearshift, divided by that of other servers, under one load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The title of the scenario.
    pub scenario: String,
    /// The label of the point.
    pub point: String,
    /// The figure: "cpu" or "rate".
    pub figure: String,
    /// The backend with the best median.
    pub subject: String,
    /// The median of its figure, in µs or per second.
    pub median: f64,
    /// The ratio to granian in each round.
    pub granian: Option<Spread>,
    /// The ratio to uvicorn in each round.
    pub uvicorn: Option<Spread>,
    /// The best server that is not Gearshift.
    pub best_other: String,
    /// The ratio to that server in each round.
    pub to_best_other: Option<Spread>,
}

/// The note on rounds that were left out because of the time limit, if there are any.
pub fn left_out(rounds: usize, of: usize) -> Option<String> {
    (rounds > 0).then(|| format!("{rounds} of {of} rounds were left out because of the time limit"))
}

/// Cores in words: `core 0`, `cores 0 and 1`, or `any core` if there are none.
pub(crate) fn core_list(cores: &[usize]) -> String {
    let names: Vec<String> = cores.iter().map(usize::to_string).collect();
    match cores.len() {
        0 => "any core".into(),
        1 => format!("core {}", names[0]),
        _ => format!("cores {}", list(&names)),
    }
}

impl Machine {
    /// The cores of the servers and of the generator, in words.
    pub fn placement(&self) -> String {
        match (self.server_cores.as_slice(), self.generator_cores.as_slice()) {
            ([], _) | (_, []) => {
                "servers and generator share one core, so rates are what both together can do".into()
            }
            (servers, generator) => {
                format!("servers on {}, generator on {}", core_list(servers), core_list(generator))
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

    /// Share of the CPU time that the server spent in user mode, if there were enough ticks to tell.
    pub fn user_share(&self) -> Option<f64> {
        let sum = |spread: &Spread| spread.values.iter().sum::<f64>();
        let (user, system) = (sum(&self.cpu_user), sum(&self.cpu_system));
        (self.ticks >= ENOUGH_TICKS && user + system > 0.0).then(|| user / (user + system))
    }
}

impl Spread {
    /// Half the range of the rounds, relative to the median.
    pub fn noise(&self) -> f64 {
        self.range() / 2.0
    }

    /// The range of the rounds, relative to the median.
    pub fn range(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / self.median } else { 0.0 }
    }

    /// The median and the range of `values`; 0 if there are none.
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
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(Spread::of(vec![]).median, 0.0);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        let even = Spread::of(vec![4.0, 1.0, 2.0, 3.0]);
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
        assert_eq!(even.values, [4.0, 1.0, 2.0, 3.0]);
    }
}
