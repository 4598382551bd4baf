//! `docs/conformance.md`: every rule, the number of its cases, and the backends that they run on.
//!
//! The page is generated from the tests of this run. A case that does not run on a backend is missing in the count of
//! that backend, and a case that fails makes the run fail. The test fails if the file differs from the generated page.
//! With `GEARSHIFT_WRITE_CONFORMANCE=1` in the environment it writes the file instead.
//!
//! `docs/strictness.md` is written by hand. A test checks that the cases it names exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use gearshift::Backend;
use libtest_mimic::Trial;
use test_support::suite;

use crate::case::{Case, Expected, Rule};
use crate::{AREAS, wire};

/// Compares the page with the one that is generated from the tests of this run.
pub(crate) fn trial(trials: &[Trial]) -> Trial {
    let run = Run {
        names: trials
            .iter()
            .filter(|trial| !trial.has_ignored_flag())
            .map(|trial| trial.name().into())
            .collect(),
        columns: Backend::available(),
    };
    let page = run.page();
    Trial::test("all::conformance::the_page_is_what_the_tests_are", move || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
        if std::env::var_os("GEARSHIFT_WRITE_CONFORMANCE").is_some() {
            return Ok(std::fs::write(path, page)?);
        }
        match std::fs::read_to_string(path)? == page {
            true => Ok(()),
            false => {
                Err("docs/conformance.md differs from the tests; its first lines say how to generate it"
                    .into())
            }
        }
    })
}

/// Checks that every decision in `docs/strictness.md` names existing cases.
pub(crate) fn decisions() -> Trial {
    Trial::test("all::conformance::decisions_name_cases_that_are_there", || {
        let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/strictness.md"))?;
        let rows: Vec<&str> =
            page.lines().filter(|line| line.starts_with("| ") && line.contains("::")).collect();
        if rows.is_empty() {
            return Err("there are no decisions".into());
        }
        for row in rows {
            let cell = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
            for name in cell.split(", ").map(|name| name.trim_matches('`')) {
                if !wire::cases().iter().any(|case| case.name == name) {
                    return Err(format!("there is no case {name}: {row}").into());
                }
            }
        }
        Ok(())
    })
}

/// The tests of this run.
struct Run {
    names: BTreeSet<String>,
    columns: &'static [Backend],
}

impl Run {
    fn page(&self) -> String {
        let mut page = String::from(HEAD);
        let cases = wire::cases();
        let mut rules: BTreeMap<(Vec<u32>, &Rule), Vec<&Case>> = BTreeMap::new();
        for case in cases {
            rules.entry((numbers(&case.rule.section), &case.rule)).or_default().push(case);
        }
        let (rule_count, case_count) = (rules.len(), cases.len());
        line(&mut page, &format!("\n{case_count} cases of {rule_count} rules.\n"));
        self.table_head(&mut page, "section | rule | cases", "in");
        for ((_, rule), cases) in &rules {
            let marks = self.marks(cases.len(), |backend| {
                cases.iter().filter(|case| self.names.contains(&wire::trial_name(backend, case))).count()
            });
            let mut files: Vec<&str> = cases.iter().filter_map(|case| case.name.split("::").next()).collect();
            files.dedup();
            let files: Vec<_> =
                files.iter().map(|file| format!("[{file}](../tests/wire/{file}.case)")).collect();
            let (section, text, count) = (linked(&rule.section), &rule.text, cases.len());
            line(&mut page, &format!("| {section} | {text} | {count} |{marks} {} |", files.join(", ")));
        }
        page.push_str(BEHAVIOUR);
        self.table_head(&mut page, "about | what happens", "");
        for (area, tests) in AREAS {
            for (name, _) in tests {
                let marks = self.marks(1, |backend| {
                    usize::from(self.names.contains(&suite::full_name(backend, area, name)))
                });
                let text = name.replace('_', " ");
                line(
                    &mut page,
                    &format!("| [{area}](../tests/backends/{area}.rs) | {text} |{}", marks.trim_end()),
                );
            }
        }
        page.push_str(OTHERS);
        for other in COMPARED {
            let ours: Vec<String> =
                other.cases.iter().map(|name| answer(cases, name, other.is_yes_or_no)).collect();
            let answers = other.answers.join(" | ");
            line(
                &mut page,
                &format!("| {} | {answers} | {} | {} |", other.what, ours.join(" / "), other.why),
            );
        }
        page.push_str(TAIL);
        page
    }

    fn table_head(&self, page: &mut String, before: &str, after: &str) {
        let names: Vec<&str> = self.columns.iter().map(|backend| backend.name()).collect();
        let after = if after.is_empty() { String::new() } else { format!(" {after} |") };
        let head = format!("| {before} | {} |{after}", names.join(" | "));
        let rule: String = head.chars().filter(|&c| c == '|').skip(1).map(|_| " --- |").collect();
        line(page, &head);
        line(page, &format!("|{rule}"));
    }

    /// A cell for each backend: how many of `all` tests run on it.
    fn marks(&self, all: usize, count: impl Fn(Backend) -> usize) -> String {
        let mut cells = String::new();
        for &backend in self.columns {
            match count(backend) {
                n if n == all => cells.push_str(" ✓ |"),
                0 => cells.push_str(" - |"),
                n => write!(cells, " {n} of {all} |").expect("a string takes anything"),
            }
        }
        cells
    }
}

fn line(page: &mut String, text: &str) {
    page.push_str(text);
    page.push('\n');
}

/// The number of the document and the numbers of the section, for sorting.
fn numbers(section: &str) -> Vec<u32> {
    section.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

fn linked(section: &str) -> String {
    let (document, number) = section.split_once(", ").expect("a rule names a document and a section");
    let name = document.replace(' ', "").to_ascii_lowercase();
    format!("[{section}](https://www.rfc-editor.org/rfc/{name}#section-{number})")
}

/// The last answer that the case `file::name` or `file::name[row]` expects, with a link to the file.
fn answer(cases: &[Case], name: &str, is_yes_or_no: bool) -> String {
    let (name, row) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((name, row)) => (name, Some(row)),
        None => (name, None),
    };
    let case = cases.iter().find(|case| case.name == name && (row.is_none() || case.row.as_deref() == row));
    let case = case.unwrap_or_else(|| panic!("there is no case {name} {row:?}"));
    let step = case.steps.last().expect("a case has a step");
    let Some(Expected::Parts(parts)) = step.answers.last() else { panic!("{name} has no answer in parts") };
    let file = name.split("::").next().unwrap_or_default();
    let text = match is_yes_or_no {
        true => "no".to_owned(),
        false => format!("{}{}", parts.status, if case.stays_open { "" } else { " c" }),
    };
    format!("[{text}](../tests/wire/{file}.case)")
}

/// How other servers answer the requests of some cases.
struct Compared {
    what: &'static str,
    /// Their answers, in the order of the columns.
    answers: [&'static str; 6],
    cases: &'static [&'static str],
    /// Whether the answer is yes or no instead of a status. The case then checks that it is no.
    is_yes_or_no: bool,
    why: &'static str,
}

const fn compared(
    what: &'static str,
    answers: [&'static str; 6],
    cases: &'static [&'static str],
    why: &'static str,
) -> Compared {
    let is_yes_or_no = matches!(answers[0].as_bytes(), b"no");
    Compared { what, answers, cases, is_yes_or_no, why }
}

const COMPARED: [Compared; 19] = [
    compared("no Host", ["200", "200", "400", "400", "200", "200"], &["host::no_host"], "the RFC's word"),
    compared("two Hosts", ["400", "200", "400", "400", "200", "200"], &["host::two_hosts"], "the RFC's word"),
    compared(
        "both a length and an encoding",
        ["400", "400", "200", "200", "200 c", "200"],
        &["encoding::length_and_encoding"],
        "the classic way to smuggle; an answer would have to close anyway",
    ),
    compared(
        "one length twice / as a list",
        ["400", "400", "200", "200", "200 / 400", "400"],
        &["length::two_lengths", "length::a_length_that_is_no_number[3, 3]"],
        "both may be refused, and nobody means it",
    ),
    compared(
        "a length of 23 digits",
        ["hangs", "400", "400", "400", "400", "413"],
        &["length::a_length_that_has_no_room_in_63_bits[99999999999999999999999]"],
        "no number that anything can hold; 413 is for those that are",
    ),
    compared(
        "chunked twice",
        ["400", "400", "400", "501", "200", "200"],
        &["encoding::chunked_twice"],
        "the RFC's word",
    ),
    compared(
        "chunked in HTTP/1.0",
        ["400", "200", "200", "200", "400", "200"],
        &["encoding::an_encoding_in_http_1_0"],
        "its framing is faulty, by the RFC",
    ),
    compared(
        "chunks `0x3`, `+3`, without a line end",
        ["400", "400", "400", "400", "500, or 200 and no body", "400"],
        &[
            "chunks::a_size_that_is_none[0x3]",
            "chunks::a_size_that_is_none[+3]",
            "chunks::data_of_another_end",
        ],
        "the same on the bare connection and to every handler",
    ),
    compared(
        "a body that is cut short",
        ["-", "-", "-", "-", "200 and no body", "-"],
        &["length::a_body_that_is_cut_short"],
        "an error, never a shorter body",
    ),
    compared(
        "a folded field",
        ["400", "400", "200", "200", "400", "200"],
        &["fields::a_line_that_begins_with_white_space"],
        "refused, the first of the RFC's choices",
    ),
    compared(
        "lines that end in LF",
        ["400", "400", "200", "200", "200", "hangs"],
        &["request_line::a_line_of_another_end"],
        "one rule for heads, chunks and trailers",
    ),
    compared(
        "a method in lower case",
        ["400", "400", "200", "200", "200", "400"],
        &["request_line::a_method_nobody_knows", "request_line::every_method_can_be_served[get]"],
        "another method: unknown, but an application may serve it",
    ),
    compared(
        "HTTP/2.0",
        ["400", "200", "200", "200", "400", "200"],
        &["request_line::another_major_version[2.0]"],
        "there is a status for it",
    ),
    compared(
        "a target without `/` / `*` for GET",
        ["400", "400 / 200", "200", "200", "200", "200"],
        &["target::a_target_that_is_none_of_the_forms[plaintext]", "target::a_star_for_another_method[GET]"],
        "neither is one of the forms",
    ),
    compared(
        "a request line of 5,000 / 70,000 bytes",
        ["414", "200 / 400", "200", "200 / 431", "200 / 414", "200"],
        &[
            "target::a_request_line_that_is_as_long_as_it_may_be[5000]",
            "target::a_request_line_that_is_too_long[70000]",
        ],
        "8,000 are to be supported, and no limit is none",
    ),
    compared(
        "a field of 9,000 / 70,000 bytes",
        ["431", "200", "200", "200 / 431", "200", "200"],
        &["fields::a_field_that_is_too_long[9000]", "fields::a_field_that_is_too_long[70000]"],
        "8,190 bytes, a setting",
    ),
    compared(
        "110 / 2,000 fields",
        ["431", "200", "200", "200", "431", "200"],
        &["fields::too_many_fields[110]", "fields::too_many_fields[2000]"],
        "100, a setting",
    ),
    compared(
        "`X_A` is taken for `X-A`",
        ["no", "no", "no", "no", "by WSGI", "no"],
        &["fields::underscores_are_not_hyphens"],
        "it is another field, and reaches handlers as that",
    ),
    compared(
        "a body in the answer to HEAD",
        ["no", "no", "no", "no", "no", "yes"],
        &["responses::head_of_anything[/plaintext | 200]"],
        "whatever a handler gives; nor has a refusal one",
    ),
];

const HEAD: &str = "\
# Conformance

This page is generated from the tests, and `cargo test --workspace` fails if it is out of date. This command writes it:

```console
$ GEARSHIFT_WRITE_CONFORMANCE=1 cargo test -p gearshift --all-features --test backends -- conformance
```

A ✓ says that all cases of the rule run on that backend, over a real socket. Each case is sent whole, a byte at a time,
and with another request behind it. A request behind a refused one must not be answered. A backend that runs fewer cases
shows their number. All cases pass in a green run, and there is no list of exceptions. One more test runs each case on
all backends and compares the answers byte by byte.

`seventh` is the backend of [tests/seventh](../tests/seventh/src/lib.rs), which exists for the tests. It shows that a
backend is one crate, one feature and one line.

[strictness.md](strictness.md) lists the decisions where the RFCs leave a choice.

## Rules of the wire
";

const BEHAVIOUR: &str = "
## Behaviour

Limits, deadlines, shutdown and the like are tests in Rust, which run on every backend. A `-` stands for a test that
makes no sense on that backend, such as one about the threads of a pool; `ONLY` in
[tests/backends/main.rs](../tests/backends/main.rs) says why.

";

const OTHERS: &str = "
## What other servers answer

Of 47 requests that were put to servers for Python in November 2026, byte for byte and with their default settings,
the table has those on which the servers differ. `c` is for closed. The column of gearshift is made from the tests.
Versions: gunicorn 27.0.1 (sync), uvicorn 0.54.0 with httptools and with h11, hypercorn 0.18.0, granian 2.8.7,
waitress 3.0.2.

| request | gunicorn | httptools | h11 | hypercorn | granian | waitress | gearshift | why |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

const TAIL: &str = "
Gearshift has changed two of its answers. A length that no machine can hold was 413, and is 400, since there is no limit
that would admit it. A method in lower case was 405 on a known path, and is 501, unless the application serves it.
";
