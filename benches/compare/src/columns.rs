//! The columns of the text tables, on the terminal and in Markdown.

use crate::figure::{self, Figure};
use crate::format::{Unit, bytes, count, list, percent};
use crate::results::{Measure, Ratio, Results, Scenario, Spread, left_out};

/// The text of a share that cannot be determined.
pub(crate) const UNKNOWN: &str = "?";

/// One column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The heading.
    pub(crate) head: &'static str,
    /// The text of a cell; `None` if it was not measured.
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
/// The noise of the CPU time, which decides most scenarios of Python servers.
pub(crate) const CPU_NOISE: Column = Column {
    head: "±",
    cell: |measure| {
        let cpu = figure::CPU.of(measure)?;
        (cpu.values.len() > 1).then(|| percent(cpu.noise()))
    },
};
pub(crate) const P50: Column = Column { head: "p50", cell: |measure| time(figure::P50, measure) };
pub(crate) const P90: Column = Column { head: "p90", cell: |measure| time(figure::P90, measure) };
pub(crate) const P99: Column = Column { head: "p99", cell: |measure| time(figure::P99, measure) };
pub(crate) const P999: Column = Column { head: "p99.9", cell: |measure| time(figure::P999, measure) };
pub(crate) const CPU: Column = Column { head: "CPU per request", cell: |measure| time(figure::CPU, measure) };
pub(crate) const USER: Column = Column {
    head: "user",
    cell: |measure| {
        figure::CPU.of(measure)?;
        Some(measure.user_share().map_or_else(|| UNKNOWN.into(), percent))
    },
};
pub(crate) const SWITCHES: Column =
    Column { head: "switches", cell: |measure| written(figure::SWITCHES, Unit::Count, measure) };
pub(crate) const THREADS: Column =
    Column { head: "threads", cell: |measure| written(figure::THREADS, Unit::Count, measure) };
pub(crate) const MEMORY: Column =
    Column { head: "memory", cell: |measure| written(figure::MEMORY, Unit::Bytes, measure) };
pub(crate) const IDLE: Column = Column {
    head: "idle connection",
    cell: |measure| figure::IDLE.of(measure).map(|spread| bytes(spread.median)),
};
pub(crate) const ERRORS: Column =
    Column { head: "errors", cell: |measure| measure.skipped.is_none().then(|| count(measure.errors)) };

/// The columns with at least one measured cell.
pub(crate) fn used<'c>(columns: &'c [Column], scenario: &Scenario) -> Vec<&'c Column> {
    let measures = || scenario.points.iter().flat_map(|point| &point.measures);
    columns.iter().filter(|column| measures().any(|measure| (column.cell)(measure).is_some())).collect()
}

/// The line on versions and on what was left out, for a comparison of Python servers.
pub(crate) fn python(results: &Results) -> Option<String> {
    if results.packages.is_empty() {
        return None;
    }
    let omitted = results.omitted.iter().map(|note| format!(" Left out: {note}."));
    Some(format!("{}.{}", list(&results.packages), omitted.collect::<String>()))
}

/// The columns of the ratios.
pub(crate) const RATIOS: [&str; 7] =
    ["scenario", "load", "best backend", "figure", "÷ granian", "÷ uvicorn", "÷ best other"];

/// The cells of a ratio, each a median with its range over the rounds.
pub(crate) fn ratio_cells(ratio: &Ratio) -> [String; 7] {
    let unit = if ratio.figure == figure::RATE.id { Unit::Rate } else { Unit::Time };
    let cell = |spread: &Option<Spread>| spread.as_ref().map(range).unwrap_or_default();
    let other = match cell(&ratio.to_best_other) {
        text if text.is_empty() => text,
        text => format!("{text} {}", ratio.best_other),
    };
    [
        ratio.scenario.clone(),
        ratio.point.clone(),
        ratio.subject.clone(),
        unit.write(ratio.median),
        cell(&ratio.granian),
        cell(&ratio.uvicorn),
        other,
    ]
}

fn range(spread: &Spread) -> String {
    if spread.values.len() > 1 {
        format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max)
    } else {
        format!("{:.2}", spread.median)
    }
}

/// How to read the ratios.
pub(crate) const ABOUT_RATIOS: &str = "The figure of the best backend of Gearshift, divided by that of other servers in \
    the same round: the median and the range of the rounds. The figure is CPU time per request, where less is better, \
    or requests per second, where more is better. The best server is that with the best median.";

/// Notes on the figures of a scenario.
pub(crate) fn notes(scenario: &Scenario, columns: &[&Column], rounds: usize) -> Vec<String> {
    let mut notes = Vec::from_iter(left_out(scenario.left_out, rounds).map(|note| format!("{note}.")));
    let measures = || scenario.points.iter().flat_map(|point| &point.measures);
    let is_shown = columns.iter().any(|column| column.head == USER.head);
    if is_shown && measures().any(|measure| (USER.cell)(measure).is_some_and(|cell| cell == UNKNOWN)) {
        notes.push(format!(
            "{UNKNOWN}: the server used too few clock ticks to separate user from kernel time."
        ));
    }
    notes
}

fn time(figure: Figure, measure: &Measure) -> Option<String> {
    written(figure, Unit::Time, measure)
}

/// The median, with ≥ if it is a lower bound.
fn written(figure: Figure, unit: Unit, measure: &Measure) -> Option<String> {
    let median = unit.write(figure.of(measure)?.median);
    Some(if figure.is_at_least(measure) { format!("≥ {median}") } else { median })
}
