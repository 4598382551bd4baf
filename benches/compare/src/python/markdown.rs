//! The parts of `results.md` that only a comparison of Python servers has.

use crate::columns;
use crate::format::{number, wrapped};
use crate::markdown::{WIDTH, row, rule, text, titled};
use crate::results::{Claim, Ratio, Results, left_out};

/// The versions of the packages, and the servers with their commands.
pub(crate) fn servers(results: &Results) -> String {
    let versions = columns::python(results).unwrap_or_default();
    let mut rows = vec![row(["server", "model", "started by"].map(String::from)), rule(3, 0)];
    for subject in &results.subjects {
        // A backtick ends inline code, and a bar ends a cell.
        let command = format!("`{}`", subject.command.replace(['`', '|', '\n'], " "));
        rows.push(row([text(&subject.name), text(&subject.model), command]));
    }
    titled("Servers", &text(&versions), &rows)
}

/// The ratios between the best backend of Gearshift and other servers.
pub(crate) fn ratios(ratios: &[Ratio]) -> String {
    let mut rows = vec![row(columns::RATIOS.map(String::from)), rule(3, columns::RATIOS.len() - 3)];
    rows.extend(ratios.iter().map(|ratio| row(columns::ratio_cells(ratio).map(|cell| text(&cell)))));
    titled("Ratios", columns::ABOUT_RATIOS, &rows)
}

/// The claims: an overview with the servers on which each holds, then a table of findings for each.
pub(crate) fn claims(claims: &[Claim], rounds: usize) -> String {
    let mut rows = vec![row(["", "claim", "where it holds"].map(String::from)), "| --: | --- | --- |".into()];
    for claim in claims {
        rows.push(row([claim.number.to_string(), claim.statement.clone(), claim.summary.clone()]));
    }
    let overview = titled("Claims", "Where each claim holds, and which backend is a remedy.", &rows);
    let each = claims.iter().map(|claim| format!("\n\n{}", findings(claim, rounds)));
    overview + &each.collect::<String>()
}

/// The figures of one claim on each server.
fn findings(claim: &Claim, rounds: usize) -> String {
    let mut rows = vec![row(["server", "", "measured", "required", "margin"].map(String::from)), rule(4, 1)];
    for finding in &claim.findings {
        let verdict = if finding.holds { "holds" } else { "does not hold" };
        let [subject, measured, wanted] =
            [&finding.subject, &finding.measured, &finding.wanted].map(|cell| text(cell));
        rows.push(row([subject, verdict.into(), measured, wanted, number(finding.margin)]));
    }
    let left_out = left_out(claim.left_out, rounds).map(|note| format!("\n\n{note}.")).unwrap_or_default();
    let title = format!("{}. {}", claim.number, claim.statement);
    format!("{}\n\n{}{left_out}", wrapped(&format!("**{title}.** {}", claim.summary), WIDTH), rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{Finding, Spread, Subject};

    #[test]
    fn shows_the_commands_and_what_was_left_out() {
        let subject = Subject {
            name: "gearshift-mio".into(),
            model: "ASGI: one loop".into(),
            command: "env PYTHONPATH=benches/python python3 -m gearshift {app}:app".into(),
        };
        let results = Results {
            packages: vec!["Python 3.11.7".into(), "granian 2.8.9".into()],
            omitted: vec!["waitress: waitress is not installed".into()],
            subjects: vec![subject],
            ..Results::default()
        };
        let text = servers(&results);
        assert!(
            text.contains("Python 3.11.7 and granian 2.8.9. Left out: waitress: waitress is not installed.")
        );
        assert!(
            text.contains("| gearshift-mio | ASGI: one loop | `env PYTHONPATH=benches/python python3 -m ")
        );
    }

    #[test]
    fn a_ratio_has_its_range() {
        let ratio = Ratio {
            scenario: "Flask: JSON".into(),
            figure: "cpu".into(),
            median: 81.2,
            granian: Some(Spread::of(vec![0.9, 0.8, 0.82])),
            best_other: "waitress".into(),
            to_best_other: Some(Spread::of(vec![0.5])),
            ..Ratio::default()
        };
        let text = ratios(&[ratio]);
        assert!(text.contains("| 81.2 µs | 0.82 (0.80–0.90) | | 0.50 waitress |"), "{text}");
    }

    #[test]
    fn a_claim_is_in_the_overview_and_has_a_table() {
        let finding = |subject: &str, holds| Finding { subject: subject.into(), holds, ..Finding::default() };
        let claim = Claim {
            number: 3,
            statement: "FastAPI: it `stalls`".into(),
            summary: "It holds on a, not on b.".into(),
            findings: vec![finding("a", true), finding("b", false)],
            left_out: 1,
            ..Claim::default()
        };
        let text = claims(&[claim], 2);
        assert!(text.contains("| 3 | FastAPI: it `stalls` | It holds on a, not on b. |"), "{text}");
        assert!(text.contains("| a | holds |") && text.contains("| b | does not hold |"), "{text}");
        assert!(text.contains("1 of 2 rounds were left out"), "{text}");
    }
}
