//! What a comparison found, for a terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};

use crate::format::{bytes, list, number, time};
use crate::results::{Change, Claim, Measure, Results, Scenario, Spread};

/// What begins the line of a winner.
const WINNER: &str = "*";

/// Everything.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    push(&mut text, &head(results));
    for scenario in &results.scenarios {
        push(&mut text, &scenario_table(scenario, results.duration));
    }
    if !results.scenarios.is_empty() {
        push(&mut text, &summary(results));
    }
    for claim in &results.claims {
        push(&mut text, &claim_table(claim));
    }
    if !results.claims.is_empty() {
        let hold = results.claims.iter().filter(|claim| claim.holds).count();
        push(&mut text, &format!("{hold} of {} claims hold.", results.claims.len()));
    }
    if !results.changes.is_empty() {
        push(&mut text, &changes_table(&results.changes));
    }
    text
}

fn push(text: &mut String, part: &str) {
    // A string takes whatever is written to it.
    let _ = writeln!(text, "{part}\n");
}

/// How it was measured.
fn head(results: &Results) -> String {
    let machine = &results.machine;
    let list = |cores: &[usize]| list(&cores.iter().map(usize::to_string).collect::<Vec<_>>());
    let cores = match (machine.server_cores.as_slice(), machine.generator_cores.as_slice()) {
        ([], _) | (_, []) => {
            "servers and generator share one processor, so that rates are what both can do".into()
        }
        (server, generator) => {
            format!("servers on processor {}, generator on {}", list(server), list(generator))
        }
    };
    format!(
        "{}, {}; {cores}.\nMedians of {} rounds of {} s, with half of what they lie apart. Load: {}.\n\
         Latency counts from when a request was due, and covers those that had no answer in time (≥).",
        machine.cpu, machine.kernel, results.rounds, results.duration, results.generator
    )
}

fn table(head: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_style(TableComponent::HeaderLines, '─').set_header(head);
    for column in table.column_iter_mut().skip(left) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn scenario_table(scenario: &Scenario, seconds: f64) -> String {
    let idle = scenario.decides == "idle_bytes";
    let figures: &[&str] = if idle {
        &["bytes each", "threads", "peak RSS"]
    } else {
        &[
            "req/s", "±", "p50", "p90", "p99", "p99.9", "CPU", "user", "switches", "threads", "peak RSS",
            "errors",
        ]
    };
    let mut table = table(&[&["", "", "server"], figures].concat(), 3);
    for (index, point) in scenario.points.iter().enumerate() {
        for (row, measure) in point.measures.iter().enumerate() {
            let wins = index + 1 == scenario.points.len() && scenario.winners.contains(&measure.subject);
            let label = if row == 0 { point.label.as_str() } else { "" };
            let mark = if wins { WINNER } else { "" };
            let mut cells = vec![label.to_owned(), mark.to_owned(), measure.subject.clone()];
            cells.extend(if idle { idle_cells(measure) } else { cells_of(measure, seconds) });
            table.add_row(cells.into_iter().map(Cell::new));
        }
    }
    let Scenario { title, question, reading, .. } = scenario;
    format!("{title}: {question}\n{table}\n{reading}")
}

fn cells_of(measure: &Measure, seconds: f64) -> Vec<String> {
    if let Some(why) = &measure.skipped {
        return vec![why.clone()];
    }
    let latency = &measure.latency;
    // What has no answer yet takes longer than it has taken.
    let at = |percentile: f64, spread: &Spread| {
        let at_least = if percentile > 100.0 * (1.0 - measure.unanswered) { "≥ " } else { "" };
        format!("{at_least}{}", time(spread.median))
    };
    let bound = if measure.generator_bound { "≥ " } else { "" };
    let cpu = measure.cpu().median;
    let user = format!("{:.0}%", measure.cpu_user.median / cpu.max(1e-9) * 100.0);
    // The system counts that in ticks, of 10 ms mostly; of few of them nothing follows.
    let enough = measure.rate.median * cpu / 1e6 * seconds > 0.25;
    vec![
        format!("{bound}{}", number(measure.rate.median)),
        scatter(&measure.rate),
        at(50.0, &latency.p50),
        at(90.0, &latency.p90),
        at(99.0, &latency.p99),
        at(99.9, &latency.p999),
        time(cpu),
        if enough { user } else { String::new() },
        number(measure.switches.median),
        format!("{:.0}", measure.threads.median),
        bytes(measure.peak_rss.median * 1024.0),
        measure.errors.to_string(),
    ]
}

fn idle_cells(measure: &Measure) -> Vec<String> {
    match (&measure.skipped, &measure.idle_bytes) {
        (Some(why), _) => vec![why.clone()],
        (None, each) => vec![
            each.as_ref().map(|each| bytes(each.median)).unwrap_or_default(),
            format!("{:.0}", measure.threads.median),
            bytes(measure.peak_rss.median * 1024.0),
        ],
    }
}

/// Half of what the rounds lie apart, as a part of the median.
fn scatter(spread: &Spread) -> String {
    if spread.values.len() < 2 || spread.median == 0.0 {
        return String::new();
    }
    format!("{:.0}%", (spread.max - spread.min) / 2.0 / spread.median * 100.0)
}

fn summary(results: &Results) -> String {
    let mut table = table(&["work", "best, within the noise", "decided by", "why"], 4);
    for scenario in &results.scenarios {
        let at = scenario.points.last().map(|point| point.label.as_str()).unwrap_or_default();
        let decided = format!("{}, {at}", scenario.decides.replace('_', " "));
        let why: String = wrapped(&scenario.reading, 70);
        table.add_row([&scenario.title, &wrapped(&list(&scenario.winners), 24), &decided, &why]);
    }
    table.to_string()
}

fn claim_table(claim: &Claim) -> String {
    let mut table = table(&["", "server", "measured", "wanted", "margin"], 4);
    for finding in &claim.findings {
        let mark = if finding.holds { "holds" } else { "FAILS" };
        let margin = format!("{:.2}", finding.margin);
        table.add_row([mark, &finding.subject, &finding.measured, &finding.wanted, &margin]);
    }
    let verdict = if claim.holds { "holds" } else { "does not hold" };
    format!("{}. {} -- {verdict}\n{table}", claim.number, claim.statement)
}

/// What has changed, and how much there is that has not.
fn changes_table(changes: &[Change]) -> String {
    let mut table = table(&["", "work", "load", "server", "figure", "before", "after", "ratio", "noise"], 5);
    let changed = || changes.iter().filter(|change| change.verdict != "same");
    for change in changed() {
        let Change { scenario, point, subject, figure, verdict, .. } = change;
        let [before, after] = [change.before, change.after].map(number);
        let [ratio, noise] = [change.ratio, change.threshold].map(|ratio| format!("{ratio:.2}"));
        table.add_row([verdict, scenario, point, subject, figure, &before, &after, &ratio, &noise]);
    }
    let same = changes.len() - changed().count();
    let said =
        format!("Of {} figures {same} are the same as in the baseline, within the noise.", changes.len());
    if same == changes.len() { said } else { format!("Since the baseline:\n{table}\n{said}") }
}

/// Broken into lines between words.
fn wrapped(text: &str, width: usize) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Finding, Point};

    #[test]
    fn tells_the_winner_the_reading_and_who_was_skipped() {
        let measure = |subject: &str, skipped: Option<&str>| Measure {
            subject: subject.into(),
            skipped: skipped.map(String::from),
            rate: Spread::of(vec![1_500.0, 1_700.0]),
            ..Measure::default()
        };
        let measures = vec![measure("mio", None), measure("other", Some("does not hold 9"))];
        let scenario = Scenario {
            title: "Plain answers".into(),
            reading: "Because.".into(),
            winners: vec!["mio".into()],
            points: vec![Point { label: "16 connections".into(), measures, ..Point::default() }],
            ..Scenario::default()
        };
        let text = render(&Results { scenarios: vec![scenario], ..Results::default() });
        let line = |with: &str| text.lines().find(|line| line.contains(with)).map(str::to_owned);
        let winner = line("mio").expect("it has a line");
        assert!(winner.contains("* ") && winner.contains("1,600") && winner.contains("6%"), "{text}");
        assert!(line("does not hold 9").is_some() && line("Because.").is_some(), "{text}");
    }

    #[test]
    fn tells_which_claims_hold() {
        let finding = |holds| Finding { subject: "mio".into(), holds, margin: 0.5, ..Finding::default() };
        let claim = |number, holds| {
            let statement = format!("thing {number}");
            Claim { number, statement, holds, findings: vec![finding(holds)] }
        };
        let text = render(&Results { claims: vec![claim(1, true), claim(2, false)], ..Results::default() });
        assert!(
            text.contains("1. thing 1 -- holds") && text.contains("2. thing 2 -- does not hold"),
            "{text}"
        );
        assert!(text.contains("FAILS") && text.contains("1 of 2 claims hold."), "{text}");
    }

    #[test]
    fn tells_only_what_has_changed() {
        let change = |subject: &str, verdict: &str| Change {
            subject: subject.into(),
            verdict: verdict.into(),
            ..Change::default()
        };
        let same = changes_table(&[change("mio", "same")]);
        assert_eq!(same, "Of 1 figures 1 are the same as in the baseline, within the noise.");
        let worse = changes_table(&[change("mio", "same"), change("tokio", "worse")]);
        assert!(worse.contains("tokio") && !worse.contains("mio"), "{worse}");
    }
}
