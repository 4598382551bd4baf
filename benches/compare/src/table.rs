//! Renders the results as text tables for a terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};

use crate::baseline;
use crate::columns::{
    self, CPU, CPU_NOISE, Column, ERRORS, IDLE, MEMORY, NOISE, P50, P90, P99, P999, RATE, SWITCHES, THREADS,
    USER,
};
use crate::format::{list, number, wrapped};
use crate::results::{Change, Claim, Ratio, Results, Scenario, left_out};

const COLUMNS: [Column; 13] =
    [RATE, NOISE, P50, P90, P99, P999, CPU, USER, SWITCHES, THREADS, MEMORY, IDLE, ERRORS];
/// The columns of a comparison of Python servers.
const PYTHON_COLUMNS: [Column; 12] =
    [RATE, NOISE, P50, P90, P99, CPU, CPU_NOISE, USER, SWITCHES, THREADS, MEMORY, ERRORS];
/// The mark of a best server.
const WINNER: &str = "*";

/// Renders all results.
pub fn render(results: &Results) -> String {
    let mut text = String::new();
    push(&mut text, &head(results));
    let columns: &[Column] = if results.packages.is_empty() { &COLUMNS } else { &PYTHON_COLUMNS };
    for scenario in &results.scenarios {
        push(&mut text, &scenario_table(scenario, columns, results.rounds));
    }
    if !results.scenarios.is_empty() {
        push(&mut text, &summary(results));
    }
    if !results.ratios.is_empty() {
        push(&mut text, &ratios_table(&results.ratios));
    }
    for claim in &results.claims {
        push(&mut text, &claim_table(claim, results.rounds));
    }
    if !results.claims.is_empty() && results.packages.is_empty() {
        let hold = results.claims.iter().filter(|claim| claim.holds).count();
        push(&mut text, &format!("{hold} of {} claims hold.", results.claims.len()));
    }
    if !results.changes.is_empty() {
        push(&mut text, &changes_table(&results.changes));
    }
    text
}

fn push(text: &mut String, part: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{part}\n");
}

/// The machine and the method.
fn head(results: &Results) -> String {
    let python =
        columns::python(results).map(|line| format!("\n{}", wrapped(&line, 120))).unwrap_or_default();
    format!(
        "{}, {}; {}.\nMedians of {} rounds of {} s; ± is half the range of the rounds. Load: {}.\n\
         Latency counts from when a request was due. ≥ marks a lower bound.{python}",
        results.machine.cpu,
        results.machine.kernel,
        results.machine.placement(),
        results.rounds,
        results.duration,
        results.generator
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

fn scenario_table(scenario: &Scenario, columns: &[Column], rounds: usize) -> String {
    let columns = columns::used(columns, scenario);
    let heads: Vec<&str> = columns.iter().map(|column| column.head).collect();
    let mut table = table(&[&["", "", "server"], heads.as_slice()].concat(), 3);
    for (index, point) in scenario.points.iter().enumerate() {
        for (row, measure) in point.measures.iter().enumerate() {
            let wins = index + 1 == scenario.points.len() && scenario.winners.contains(&measure.subject);
            let label = if row == 0 { point.label.as_str() } else { "" };
            let mark = if wins { WINNER } else { "" };
            let mut cells = vec![label.to_owned(), mark.to_owned(), measure.subject.clone()];
            match &measure.skipped {
                Some(why) => cells.push(why.clone()),
                None => cells.extend(columns.iter().map(|column| (column.cell)(measure).unwrap_or_default())),
            }
            table.add_row(cells.into_iter().map(Cell::new));
        }
    }
    let Scenario { title, question, reading, .. } = scenario;
    let notes: String =
        columns::notes(scenario, &columns, rounds).into_iter().map(|note| format!("{note}\n")).collect();
    format!("{title}: {question}\n{table}\n{notes}{reading}")
}

fn summary(results: &Results) -> String {
    let mut table = table(&["scenario", "best within the noise", "decided by", "explanation"], 4);
    for scenario in &results.scenarios {
        let at = scenario.points.last().map(|point| point.label.as_str()).unwrap_or_default();
        let decided = format!("{}, {at}", scenario.decides.replace('_', " "));
        let explanation: String = wrapped(&scenario.reading, 70);
        table.add_row([&scenario.title, &wrapped(&list(&scenario.winners), 24), &decided, &explanation]);
    }
    table.to_string()
}

fn ratios_table(ratios: &[Ratio]) -> String {
    let mut table = table(&columns::RATIOS, 3);
    ratios.iter().for_each(|ratio| {
        table.add_row(columns::ratio_cells(ratio));
    });
    format!("{}\n{table}", wrapped(columns::ABOUT_RATIOS, 120))
}

fn claim_table(claim: &Claim, rounds: usize) -> String {
    let mut table = table(&["", "server", "measured", "required", "margin"], 4);
    for finding in &claim.findings {
        let mark = match (finding.holds, claim.summary.is_empty()) {
            (true, _) => "holds",
            (false, true) => "FAILS",
            // A claim about Python servers may well not hold.
            (false, false) => "no",
        };
        let margin = format!("{:.2}", finding.margin);
        table.add_row([mark, &finding.subject, &finding.measured, &finding.wanted, &margin]);
    }
    let verdict = match (claim.holds, claim.summary.is_empty()) {
        (true, true) => " -- holds",
        (false, true) => " -- does not hold",
        // The summary tells where.
        (_, false) => "",
    };
    let left_out = left_out(claim.left_out, rounds).map(|prose| format!("\n{prose}")).unwrap_or_default();
    let summary = match claim.summary.as_str() {
        "" => String::new(),
        summary => format!("\n{}", wrapped(summary, 120)),
    };
    format!("{}. {}{verdict}\n{table}{summary}{left_out}", claim.number, claim.statement)
}

/// The changes, and the number of unchanged figures.
fn changes_table(changes: &[Change]) -> String {
    let mut table =
        table(&["", "scenario", "load", "server", "figure", "before", "after", "ratio", "noise"], 5);
    let changed = || changes.iter().filter(|change| change.verdict != baseline::SAME);
    for change in changed() {
        let Change { scenario, point, subject, figure, verdict, .. } = change;
        let [before, after] = [change.before, change.after].map(number);
        let [ratio, noise] = [change.ratio, change.threshold].map(|ratio| format!("{ratio:.2}"));
        table.add_row([verdict, scenario, point, subject, figure, &before, &after, &ratio, &noise]);
    }
    let same = changes.len() - changed().count();
    let prose =
        format!("{same} of {} figures are unchanged since the baseline, within the noise.", changes.len());
    if same == changes.len() { prose } else { format!("Since the baseline:\n{table}\n{prose}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Finding, Measure, Point, Spread};

    #[test]
    fn shows_the_winner_the_explanation_and_the_skipped_servers() {
        let measure = |subject: &str, skipped: Option<&str>| Measure {
            subject: subject.into(),
            skipped: skipped.map(String::from),
            rate: Spread::of(vec![1_500.0, 1_700.0]),
            ..Measure::default()
        };
        let measures = vec![measure("mio", None), measure("other", Some("cannot hold 9"))];
        let scenario = Scenario {
            title: "Plain answers".into(),
            reading: "Because.".into(),
            winners: vec!["mio".into()],
            points: vec![Point { label: "16 connections".into(), measures, ..Point::default() }],
            ..Scenario::default()
        };
        let text = render(&Results { scenarios: vec![scenario], ..Results::default() });
        let line = |with: &str| text.lines().find(|line| line.contains(with)).map(str::to_owned);
        let winner = line("mio").expect("a line with mio");
        assert!(winner.contains("* ") && winner.contains("1,600") && winner.contains("6%"), "{text}");
        assert!(line("cannot hold 9").is_some() && line("Because.").is_some(), "{text}");
    }

    #[test]
    fn separates_user_from_kernel_time_only_with_enough_ticks() {
        let measure = |ticks| Measure {
            subject: format!("{ticks} ticks"),
            cpu_user: Spread::of(vec![1.0]),
            cpu_system: Spread::of(vec![3.0]),
            ticks,
            ..Measure::default()
        };
        let render = |measures: Vec<Measure>| {
            let point = Point { measures, ..Point::default() };
            scenario_table(&Scenario { points: vec![point], ..Scenario::default() }, &COLUMNS, 1)
        };
        let both = render(vec![measure(3), measure(100)]);
        let line = |with: &str| both.lines().find(|line| line.contains(with)).unwrap_or_default().to_owned();
        assert!(line("3 ticks").contains(" ? ") && line("100 ticks").contains(" 25% "), "{both}");
        assert!(both.contains("too few clock ticks"), "{both}");
        let enough = render(vec![measure(100)]);
        assert!(!enough.contains('?') && !enough.contains("too few"), "{enough}");
    }

    #[test]
    fn shows_which_claims_hold() {
        let finding = |holds| Finding { subject: "mio".into(), holds, margin: 0.5, ..Finding::default() };
        let claim = |number, holds| {
            let statement = format!("thing {number}");
            let findings = vec![finding(holds)];
            Claim { number, statement, holds, findings, ..Claim::default() }
        };
        let text = render(&Results { claims: vec![claim(1, true), claim(2, false)], ..Results::default() });
        assert!(
            text.contains("1. thing 1 -- holds") && text.contains("2. thing 2 -- does not hold"),
            "{text}"
        );
        assert!(text.contains("FAILS") && text.contains("1 of 2 claims hold."), "{text}");
    }

    #[test]
    fn notes_rounds_that_were_left_out() {
        let scenario = |left_out| Scenario { left_out, ..Scenario::default() };
        let claim = |left_out| Claim { left_out, ..Claim::default() };
        let prose = "2 of 3 rounds were left out";
        let table = |left_out| scenario_table(&scenario(left_out), &COLUMNS, 3);
        assert!(table(2).contains(prose) && claim_table(&claim(2), 3).contains(prose));
        assert!(!table(0).contains("left out"));
        assert!(!claim_table(&claim(0), 3).contains("left out"));
    }

    #[test]
    fn lists_only_changed_figures() {
        let change = |subject: &str, verdict: &str| Change {
            subject: subject.into(),
            verdict: verdict.into(),
            ..Change::default()
        };
        let same = changes_table(&[change("mio", "same")]);
        assert_eq!(same, "1 of 1 figures are unchanged since the baseline, within the noise.");
        let worse = changes_table(&[change("mio", "same"), change("tokio", "worse")]);
        assert!(worse.contains("tokio") && !worse.contains("mio"), "{worse}");
    }
}
