//! The columns of the tables that are text, on a terminal and in Markdown: what each is called, and what stands in it.

use crate::figure::{self, Figure};
use crate::format::{Unit, bytes, count, percent};
use crate::results::{Measure, Scenario, left_out};

/// What stands in place of a part that cannot be told.
pub(crate) const UNTOLD: &str = "?";

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// What it is called.
    pub(crate) head: &'static str,
    /// What stands there, if it was measured.
    pub(crate) cell: fn(&Measure) -> Option<String>,
}

pub(crate) const RATE: Column =
    Column { head: "requests/s", cell: |measure| written(figure::RATE, Unit::Count, measure) };
pub(crate) const NOISE: Column = Column {
    head: "±",
    cell: |measure| {
        let rate = figure::RATE.of(measure)?;
        (rate.values.len() > 1).then(|| percent(rate.noise()))
    },
};
pub(crate) const P50: Column = Column { head: "p50", cell: |measure| time(figure::P50, measure) };
pub(crate) const P90: Column = Column { head: "p90", cell: |measure| time(figure::P90, measure) };
pub(crate) const P99: Column = Column { head: "p99", cell: |measure| time(figure::P99, measure) };
pub(crate) const P999: Column = Column { head: "p99.9", cell: |measure| time(figure::P999, measure) };
pub(crate) const CPU: Column = Column { head: "CPU a request", cell: |measure| time(figure::CPU, measure) };
pub(crate) const USER: Column = Column {
    head: "user",
    cell: |measure| {
        figure::CPU.of(measure)?;
        Some(measure.user_part().map_or_else(|| UNTOLD.into(), percent))
    },
};
pub(crate) const SWITCHES: Column =
    Column { head: "switches", cell: |measure| written(figure::SWITCHES, Unit::Count, measure) };
pub(crate) const THREADS: Column =
    Column { head: "threads", cell: |measure| written(figure::THREADS, Unit::Count, measure) };
pub(crate) const MEMORY: Column =
    Column { head: "memory", cell: |measure| written(figure::MEMORY, Unit::Bytes, measure) };
pub(crate) const IDLE: Column = Column {
    head: "an idle connection",
    cell: |measure| figure::IDLE.of(measure).map(|spread| bytes(spread.median)),
};
pub(crate) const ERRORS: Column =
    Column { head: "errors", cell: |measure| measure.skipped.is_none().then(|| count(measure.errors)) };

/// Those of them in which anything stands.
pub(crate) fn used<'c>(columns: &'c [Column], scenario: &Scenario) -> Vec<&'c Column> {
    let measures = || scenario.points.iter().flat_map(|point| &point.measures);
    columns.iter().filter(|column| measures().any(|measure| (column.cell)(measure).is_some())).collect()
}

/// What has to be known beside the figures of a scenario, in sentences.
pub(crate) fn notes(scenario: &Scenario, rounds: usize) -> Vec<String> {
    let mut notes = Vec::from_iter(left_out(scenario.left_out, rounds));
    let measures = || scenario.points.iter().flat_map(|point| &point.measures);
    if measures().any(|measure| (USER.cell)(measure).is_some_and(|cell| cell == UNTOLD)) {
        notes.push(format!(
"user/system: too short to tell where a {UNTOLD} stands, as the system counts them in ticks, of 10 ms mostly."
        ));
    }
    notes
}

fn time(figure: Figure, measure: &Measure) -> Option<String> {
    written(figure, Unit::Time, measure)
}

/// The median; with a sign, if it is the least that it can be.
fn written(figure: Figure, unit: Unit, measure: &Measure) -> Option<String> {
    let median = unit.write(figure.of(measure)?.median);
    Some(if figure.is_at_least(measure) { format!("≥ {median}") } else { median })
}
