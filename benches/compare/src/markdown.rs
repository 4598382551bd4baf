//! Renders the results as `results.md`: the method, then a section per scenario with the main figures. The page and
//! `results.csv` contain all figures.

use crate::baseline;
use crate::columns::{
    self, CPU, CPU_NOISE, Column, ERRORS, IDLE, MEMORY, NOISE, P50, P99, RATE, THREADS, USER,
};
use crate::format::{Unit, date, duration, list, number, ratio, several, wrapped};
use crate::python::markdown as python;
use crate::results::{Change, Claim, Finding, Results, Scenario, left_out};

/// Line width of the prose.
pub(crate) const WIDTH: usize = 120;

/// The main figures.
const COLUMNS: [Column; 9] = [RATE, NOISE, P50, P99, CPU, USER, THREADS, IDLE, ERRORS];
/// The main figures of Python servers.
const PYTHON_COLUMNS: [Column; 9] = [CPU, CPU_NOISE, RATE, NOISE, P50, P99, MEMORY, THREADS, ERRORS];

/// Renders all results.
pub fn render(results: &Results) -> String {
    let mut parts = vec![head(results)];
    let is_of_python = !results.packages.is_empty();
    if is_of_python {
        parts.push(python::servers(results));
    }
    if !results.ratios.is_empty() {
        parts.push(python::ratios(&results.ratios));
    }
    let columns: &[Column] = if is_of_python { &PYTHON_COLUMNS } else { &COLUMNS };
    parts.extend(results.scenarios.iter().map(|scenario| section(scenario, columns, results.rounds)));
    if !results.claims.is_empty() {
        let render = if is_of_python { python::claims } else { claims };
        parts.push(render(&results.claims, results.rounds));
    }
    if !results.changes.is_empty() {
        parts.push(changes(&results.changes));
    }
    parts.join("\n\n") + "\n"
}

/// The command, the machine and the method.
fn head(results: &Results) -> String {
    let machine = &results.machine;
    let memory = Unit::Bytes.write(machine.memory_kib as f64 * 1024.0);
    let prose = format!(
        "{}, {}, {memory}, {}; {}. {} of {} each, servers interleaved; started {}, took {}; Gearshift {}; load: {}. \
         Figures are medians. ± is half the range of the rounds, relative to the median. `user` is the share of CPU time \
         that a server spent in its own code. Latency counts from when a request was due. ≥ marks a lower bound: the \
         generator was the bottleneck, or some requests had no response at the end of the measurement.",
        text(&machine.cpu),
        several(machine.cores, "core"),
        text(&machine.kernel),
        machine.placement(),
        several(results.rounds, "round"),
        duration(results.duration),
        date(&results.began),
        duration(results.seconds),
        results.version,
        text(&results.generator),
    );
    // A fence inside of a line does not end the code block.
    let command = results.command.replace(['\n', '\r'], " ");
    format!("```console\n$ {command}\n```\n\n{}", wrapped(&prose, WIDTH))
}

fn section(scenario: &Scenario, columns: &[Column], rounds: usize) -> String {
    let best = match scenario.winners.as_slice() {
        [] => "none".into(),
        winners => list(winners),
    };
    let prose = format!("{} Best: {}. {}", scenario.question, text(&best), text(&scenario.reading));
    let columns = columns::used(columns, scenario);
    let heads = ["", "server"].into_iter().chain(columns.iter().map(|column| column.head));
    let mut rows = vec![row(heads.map(String::from)), rule(2, columns.len())];
    for point in &scenario.points {
        for (index, measure) in point.measures.iter().enumerate() {
            let label = if index == 0 { point.label.as_str() } else { "" };
            let mut cells = vec![text(label), text(&measure.subject)];
            match &measure.skipped {
                Some(why) => {
                    cells.push(format!("not measured: {}", text(why)));
                    cells.resize(2 + columns.len().max(1), String::new());
                }
                None => cells.extend(columns.iter().map(|column| (column.cell)(measure).unwrap_or_default())),
            }
            rows.push(row(cells));
        }
    }
    let notes = columns::notes(scenario, &columns, rounds)
        .into_iter()
        .map(|note| format!("\n\n{}", wrapped(&text(&note), WIDTH)));
    titled(&scenario.title, &prose, &rows) + &notes.collect::<String>()
}

fn claims(claims: &[Claim], rounds: usize) -> String {
    let hold = claims.iter().filter(|claim| claim.holds).count();
    let mut rows =
        vec![row(["", "claim", "", "measured"].map(String::from)), "| --: | --- | --- | --- |".into()];
    for claim in claims {
        let verdict = if claim.holds { "holds" } else { "**does not hold**" };
        let statement = text(&claim.statement);
        let prose = [Some(findings(&claim.findings)), left_out(claim.left_out, rounds)];
        let prose = prose.into_iter().flatten().collect::<Vec<_>>().join("; ");
        rows.push(row([claim.number.to_string(), statement, verdict.into(), prose]));
    }
    titled("Claims", &format!("{hold} of {} claims hold.", claims.len()), &rows)
}

/// The measured figures, with the required ones where the claim does not hold.
fn findings(findings: &[Finding]) -> String {
    let mut prose = Vec::new();
    for (index, finding) in findings.iter().enumerate() {
        let named = index > 0 && findings[index - 1].subject == finding.subject;
        let name = if named { String::new() } else { format!("{}: ", text(&finding.subject)) };
        let wanted =
            if finding.holds { String::new() } else { format!(" (required: {})", text(&finding.wanted)) };
        prose.push(format!("{name}{}{wanted}", text(&finding.measured)));
    }
    prose.join("; ")
}

fn changes(changes: &[Change]) -> String {
    let heads = ["server", "scenario", "load", "figure", "before", "now", "ratio", "noise", ""];
    let mut rows =
        vec![row(heads.map(String::from)), "| --- | --- | --- | --- | --: | --: | --: | --: | --- |".into()];
    for change in changes.iter().filter(|change| change.verdict != baseline::SAME) {
        let [server, work, load] = [&change.subject, &change.scenario, &change.point].map(|name| text(name));
        let [before, now] = [change.before, change.after].map(number);
        let [by, noise] = [change.ratio, change.threshold].map(ratio);
        rows.push(row([
            server,
            work,
            load,
            text(&change.figure),
            before,
            now,
            by,
            noise,
            change.verdict.clone(),
        ]));
    }
    titled("Since the baseline", &format!("{}.", baseline::summary(changes)), &rows)
}

pub(crate) fn titled(title: &str, prose: &str, rows: &[String]) -> String {
    format!("## {}\n\n{}\n\n{}", text(title), wrapped(prose.trim_end(), WIDTH), rows.join("\n"))
}

pub(crate) fn row(cells: impl IntoIterator<Item = String>) -> String {
    let cells = cells.into_iter().map(|cell| if cell.is_empty() { " ".into() } else { format!(" {cell} ") });
    format!("|{}|", cells.collect::<Vec<String>>().join("|"))
}

/// The line below the table head. Text columns are aligned to the left, figures to the right.
pub(crate) fn rule(words: usize, figures: usize) -> String {
    format!("| {} |", [vec!["---"; words], vec!["--:"; figures]].concat().join(" | "))
}

/// Escapes Markdown in text that is not our own.
pub(crate) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '&' => safe.extend(['\\', character]),
            character if character.is_control() => safe.push(' '),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Latency, Machine, Measure, Point, Spread};

    fn measure(subject: &str, rate: &[f64], us: f64, ticks: u64) -> Measure {
        let latency =
            Latency { p50: Spread::of(vec![us]), p99: Spread::of(vec![us * 10.0]), ..Latency::default() };
        Measure {
            subject: subject.into(),
            rate: Spread::of(rate.to_vec()),
            latency,
            cpu_user: Spread::of(vec![2.0; rate.len()]),
            cpu_system: Spread::of(vec![3.04; rate.len()]),
            ticks,
            threads: Spread::of(vec![4.0; rate.len()]),
            ..Measure::default()
        }
    }

    fn results() -> Results {
        let other = Measure { unanswered: 0.2, errors: 7, ..measure("an|other", &[900.0; 2], 3_210.0, 3) };
        let absent =
            Measure { subject: "absent".into(), skipped: Some("it died".into()), ..Measure::default() };
        let point = |label: &str, measures| Point { label: label.into(), measures, ..Point::default() };
        let idle = Measure { idle_bytes: Some(Spread::of(vec![836.0])), ..measure("mio", &[], 0.0, 0) };
        let finding = |subject: &str, holds, measured: &str| Finding {
            subject: subject.into(),
            measured: measured.into(),
            wanted: "at most 2 µs".into(),
            holds,
            margin: 1.0,
        };
        let findings = vec![
            finding("mio", true, "a 1 µs"),
            finding("mio", true, "b 2 µs"),
            finding("tokio", false, "a 9 µs"),
        ];
        let change = |verdict: &str| Change {
            scenario: "plain".into(),
            point: "64 connections".into(),
            subject: "mio".into(),
            figure: "CPU µs per request".into(),
            before: 5.0,
            after: 7.5,
            ratio: 1.5,
            threshold: 1.15,
            verdict: verdict.into(),
        };
        Results {
            version: "0.1.0".into(),
            command: "compare --against 'an|other=cmd {port}'".into(),
            began: "2026-11-24T00:08:00Z".into(),
            seconds: 78.0,
            machine: Machine {
                cpu: "A <CPU>".into(),
                cores: 2,
                memory_kib: 23 << 20,
                kernel: "Linux 6.18".into(),
                server_cores: vec![0],
                generator_cores: vec![1],
            },
            rounds: 2,
            duration: 0.2,
            generator: "built in, 0.1.0".into(),
            scenarios: vec![
                Scenario {
                    title: "Plain answers".into(),
                    question: "How many?".into(),
                    winners: vec!["mio".into()],
                    reading: "mio answers most.".into(),
                    points: vec![point(
                        "64 connections",
                        vec![measure("mio", &[201_000.0, 203_000.0], 312.0, 90), other, absent],
                    )],
                    ..Scenario::default()
                },
                Scenario {
                    title: "Idle connections".into(),
                    question: "What do they cost?".into(),
                    left_out: 1,
                    points: vec![point("1000 connections", vec![idle])],
                    ..Scenario::default()
                },
            ],
            claims: vec![Claim {
                number: 3,
                statement: "It is so.".into(),
                findings,
                left_out: 1,
                ..Claim::default()
            }],
            changes: vec![change(baseline::SAME), change(baseline::WORSE)],
            ..Results::default()
        }
    }

    #[test]
    fn renders_all_results_as_markdown() {
        let expected = include_str!("../tests/results.md");
        let rendered = render(&results());
        assert_eq!(rendered, expected, "{rendered}");
    }

    #[test]
    fn each_row_of_a_table_has_as_many_cells_as_its_head() {
        let sample = serde_json::from_str(include_str!("../tests/sample.json")).expect("it is of that form");
        for results in [results(), sample] {
            let rendered = render(&results);
            let mut head = 0;
            for line in rendered.lines() {
                let cells = line.replace("\\|", "").matches('|').count();
                assert!(head == 0 || cells == 0 || cells == head, "{line}");
                head = cells;
            }
        }
    }

    #[test]
    fn markup_in_names_is_escaped() {
        assert_eq!(text("a|b<i>`*_[x](y)\\\n"), "a\\|b\\<i\\>\\`\\*\\_\\[x\\](y)\\\\ ");
    }

    #[test]
    fn a_command_stays_within_its_code_block() {
        let results = Results { command: "compare --app 'x\n```\n# y'".into(), ..Results::default() };
        assert!(render(&results).starts_with("```console\n$ compare --app 'x ``` # y'\n```\n"));
    }
}
