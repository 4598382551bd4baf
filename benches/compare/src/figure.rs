//! The figures of a measurement: name, unit, direction, and whether a figure was measured at all.

use crate::results::{Measure, Point, Scenario, Spread};

use crate::format::Unit;

/// A server with at least this share of errors is excluded from the ranking.
const TOO_MANY_ERRORS: f64 = 0.01;

/// One kind of figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// The name in `Scenario::decides`.
    pub(crate) id: &'static str,
    /// The name at the head of a column.
    pub(crate) name: &'static str,
    /// The name in a sentence.
    pub(crate) long: &'static str,
    pub(crate) unit: Unit,
    pub(crate) more_is_better: bool,
    read: fn(&Measure) -> Option<Spread>,
}

pub(crate) const RATE: Figure = Figure {
    id: "rate",
    name: "Throughput",
    long: "throughput",
    unit: Unit::Rate,
    more_is_better: true,
    read: rate,
};
pub(crate) const P90: Figure = latency("p90", "p90", "90th percentile of latency", |m| some(&m.latency.p90));
pub(crate) const P99: Figure = latency("p99", "p99", "99th percentile of latency", |m| some(&m.latency.p99));
pub(crate) const P999: Figure =
    latency("p999", "p99.9", "99.9th percentile of latency", |m| some(&m.latency.p999));
pub(crate) const P50: Figure = latency("p50", "p50", "median latency", |m| some(&m.latency.p50));
pub(crate) const CPU: Figure =
    less("cpu", "CPU per request", "CPU time per request", Unit::Time, |m| some(&m.cpu()));
pub(crate) const SWITCHES: Figure =
    less("switches", "Switches", "context switches per request", Unit::Count, |m| {
        (m.rate.median > 0.0).then(|| m.switches.clone())
    });
pub(crate) const THREADS: Figure = less("threads", "Threads", "threads", Unit::Count, |m| some(&m.threads));
pub(crate) const MEMORY: Figure =
    less("peak_rss", "Memory", "peak resident memory", Unit::Bytes, |m| some(&scaled(&m.peak_rss, 1024.0)));
pub(crate) const IDLE: Figure =
    less("idle_bytes", "Idle connection", "memory per idle connection", Unit::Bytes, |m| {
        m.idle_bytes.clone()
    });

/// All figures but [`IDLE`], in the order of the columns.
pub(crate) const ALL: [Figure; 10] = [
    RATE,
    P50,
    P90,
    P99,
    P999,
    latency("max", "Slowest", "slowest response", |m| some(&m.latency.max)),
    CPU,
    SWITCHES,
    THREADS,
    MEMORY,
];

impl Figure {
    /// The figure that decides a scenario.
    pub(crate) fn that_decides(scenario: &Scenario) -> Option<Figure> {
        ALL.into_iter().chain([IDLE]).find(|figure| figure.id == scenario.decides)
    }

    /// The figure of a measurement; `None` if it was not measured or is not finite.
    pub(crate) fn of(&self, measure: &Measure) -> Option<Spread> {
        let spread = if measure.skipped.is_none() { (self.read)(measure) } else { None };
        spread.filter(|spread| spread.median.is_finite()).map(|spread| {
            let or_median = |end: f64| if end.is_finite() { end } else { spread.median };
            Spread { min: or_median(spread.min), max: or_median(spread.max), ..spread }
        })
    }

    /// Whether the figure is a lower bound, because of the generator or of requests without a response.
    pub(crate) fn is_at_least(&self, measure: &Measure) -> bool {
        match self.id {
            "rate" => measure.generator_bound,
            "p50" => measure.unanswered > 0.5,
            "p90" => measure.unanswered > 0.1,
            "p99" => measure.unanswered > 0.01,
            "p999" => measure.unanswered > 0.001,
            "max" => measure.unanswered > 0.0,
            _ => false,
        }
    }

    /// The best median at a point, among the servers without too many errors.
    pub(crate) fn best(&self, point: &Point) -> Option<f64> {
        let sound = point.measures.iter().filter(|measure| answers(measure));
        let medians = sound.filter_map(|measure| Some(self.of(measure)?.median));
        if self.more_is_better { medians.reduce(f64::max) } else { medians.reduce(f64::min) }
    }

    /// How many times worse `median` is than `best`; 1 if they are equal.
    pub(crate) fn times_worse(&self, median: f64, best: f64) -> Option<f64> {
        let times = if median == best {
            1.0
        } else if self.more_is_better {
            best / median
        } else {
            median / best
        };
        times.is_finite().then_some(times)
    }

    /// Whether any server has the figure at any of the points.
    pub(crate) fn is_in<'p>(&self, points: impl IntoIterator<Item = &'p Point>) -> bool {
        points.into_iter().flat_map(|point| &point.measures).any(|measure| self.of(measure).is_some())
    }
}

/// Whether a server has few enough errors. The figures of a server that mostly refuses requests cannot be compared.
pub(crate) fn answers(measure: &Measure) -> bool {
    measure.errors == 0 || (measure.errors as f64) < measure.rate.values.iter().sum::<f64>() * TOO_MANY_ERRORS
}

/// The load that represents a scenario where there is room for one: the last one that was measured.
pub(crate) fn shown(scenario: &Scenario) -> Option<&Point> {
    let measured = |point: &&Point| point.measures.iter().any(|measure| measure.skipped.is_none());
    scenario.points.iter().rev().find(measured)
}

const fn latency(
    id: &'static str,
    name: &'static str,
    long: &'static str,
    read: fn(&Measure) -> Option<Spread>,
) -> Figure {
    less(id, name, long, Unit::Time, read)
}

const fn less(
    id: &'static str,
    name: &'static str,
    long: &'static str,
    unit: Unit,
    read: fn(&Measure) -> Option<Spread>,
) -> Figure {
    Figure { id, name, long, unit, more_is_better: false, read }
}

/// A figure that is above 0 if it was measured.
fn some(spread: &Spread) -> Option<Spread> {
    (spread.median > 0.0).then(|| spread.clone())
}

/// A rate of 0 counts if requests were sent: no response came back.
fn rate(measure: &Measure) -> Option<Spread> {
    let asked = measure.errors > 0 || measure.idle_bytes.is_none();
    (measure.rate.median > 0.0 || asked && !measure.rate.values.is_empty()).then(|| measure.rate.clone())
}

fn scaled(spread: &Spread, by: f64) -> Spread {
    let values = spread.values.iter().map(|value| value * by).collect();
    Spread { median: spread.median * by, min: spread.min * by, max: spread.max * by, values }
}
