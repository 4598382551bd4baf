//! The report page: for any results it is well-formed, loads nothing, shows all results, and escapes all text.

use std::collections::HashSet;

use compare::page::{from_json, render};
use compare::results::{Claim, Finding, Latency, Measure, Point, Results, Scenario, Spread, Subject};
use roxmltree::{Document, Node};

const SAMPLE: &str = include_str!("sample.json");

fn sample() -> Results {
    serde_json::from_str(SAMPLE).expect("the sample matches the schema")
}

/// Checks the page of `results` and returns its text.
fn check(results: &Results) -> String {
    let page = render(results);
    // Turns HTML into XML: without the declaration, and with void elements closed.
    let xml = page.strip_prefix("<!DOCTYPE html>").expect("a declaration").replace("\"><meta", "\"/><meta");
    let xml = xml.replacen("\"><title>", "\"/><title>", 1);
    let document = Document::parse(&xml).unwrap_or_else(|error| panic!("{error}"));
    let mut ids = HashSet::new();
    let elements = || document.descendants().filter(Node::is_element);
    for id in elements().filter_map(|element| element.attribute("id")) {
        assert!(ids.insert(id), "two elements have the id {id}");
    }
    for element in elements() {
        for attribute in element.attributes() {
            let value = attribute.value();
            match attribute.name() {
                "aria-labelledby" => {
                    assert!(value.split(' ').all(|id| ids.contains(id)), "no element has the id {value}");
                }
                "href" => {
                    assert!(
                        value.strip_prefix('#').is_some_and(|id| ids.contains(id)),
                        "{value} links to another page"
                    );
                }
                "src" | "srcset" | "data" | "style" => panic!("{} loads something", attribute.name()),
                "d" | "x" | "y" | "viewBox" => lies_inside(value),
                name => assert!(!name.starts_with("on"), "{name} is an event handler"),
            }
        }
        match element.tag_name().name() {
            "script" | "link" | "img" | "iframe" | "object" | "use" => panic!("{element:?} is not allowed"),
            "style" => {
                let style = element.text().unwrap_or_default();
                assert!(
                    !style.contains("url(") && !style.contains("@import"),
                    "the style sheet loads something"
                );
            }
            "th" => assert!(element.has_attribute("scope"), "{element:?} has no scope"),
            "svg" if element.attribute("role") == Some("img") => {
                let names: Vec<&str> =
                    element.children().map(|child| child.tag_name().name()).take(2).collect();
                assert_eq!(names, ["title", "desc"]);
                assert!(element.descendants().filter(|child| child.has_tag_name("path")).count() > 0);
            }
            _ => {}
        }
    }
    document.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect::<Vec<_>>().join("|")
}

/// Coordinates are finite and near the drawing.
fn lies_inside(coordinates: &str) {
    assert!(!coordinates.contains("NaN") && !coordinates.contains("inf"), "{coordinates}");
    // `-3.4-3.4` is two numbers.
    let numbers = coordinates.replace('-', " -");
    for number in
        numbers.split(|c: char| !c.is_ascii_digit() && !"-.".contains(c)).filter(|part| !part.is_empty())
    {
        let number: f64 = number.parse().unwrap_or_else(|error| panic!("{error}: {number} in {coordinates}"));
        assert!((-20.0..=3_000.0).contains(&number), "{number} in {coordinates}");
    }
}

/// All measures.
fn measures(results: &mut Results) -> impl Iterator<Item = &mut Measure> {
    let points = results.scenarios.iter_mut().flat_map(|scenario| &mut scenario.points);
    points.flat_map(|point| &mut point.measures)
}

/// All figures of all measures.
fn spreads(results: &mut Results) -> impl Iterator<Item = &mut Spread> {
    measures(results).flat_map(|measure| {
        let Latency { p50, p90, p99, p999, max, .. } = &mut measure.latency;
        let server =
            [&mut measure.cpu_user, &mut measure.cpu_system, &mut measure.switches, &mut measure.threads];
        [p50, p90, p99, p999, max, &mut measure.rate, &mut measure.peak_rss]
            .into_iter()
            .chain(server)
            .chain(measure.idle_bytes.as_mut())
    })
}

#[test]
fn all_results_are_on_the_page() {
    let results = sample();
    let text = check(&results);
    let names = results.subjects.iter().flat_map(|subject| [&subject.name, &subject.model, &subject.command]);
    let scenarios = results.scenarios.iter();
    let texts = scenarios.flat_map(|scenario| [&scenario.title, &scenario.question, &scenario.reading]);
    let loads = results.scenarios.iter().flat_map(|scenario| &scenario.points).map(|point| &point.label);
    let claims = results.claims.iter().map(|claim| &claim.statement);
    let findings = results.claims.iter().flat_map(|claim| &claim.findings);
    let findings = findings.flat_map(|finding| [&finding.measured, &finding.wanted]);
    let changes = results.changes.iter().filter(|change| change.verdict != "same");
    let changes =
        changes.flat_map(|change| [&change.subject, &change.point, &change.figure, &change.verdict]);
    let machine = [&results.machine.cpu, &results.machine.kernel, &results.command, &results.generator];
    for part in names.chain(texts).chain(loads).chain(claims).chain(findings).chain(changes).chain(machine) {
        assert!(text.contains(part.as_str()), "{part:?} is missing");
    }
    for part in [
        "1 worse, 1 better, 1 within the noise",
        "The reference server took 11.2 µs of CPU time per request",
        "no response at the end, counted in the latencies with the time waited so far: 3.1% of ",
    ] {
        assert!(text.contains(part), "{part:?} is missing");
    }
    assert!(text.contains("24 November 2026, 00:08 UTC"));
    assert_eq!(from_json(SAMPLE).expect("the sample matches the schema"), render(&results));
    assert!(from_json("{}").is_err());
}

#[test]
fn every_finding_of_a_claim_is_shown() {
    let results = sample();
    let page = render(&results);
    let (_, claims) = page.split_once("id=\"claims\"").expect("a section of claims");
    let findings = || results.claims.iter().flat_map(|claim| &claim.findings);
    let holds = |wanted: bool| findings().filter(|finding| finding.holds == wanted).count();
    assert!(results.claims.iter().any(|claim| claim.findings.len() > results.subjects.len()));
    assert_eq!(claims.matches("class=\"finding holds\"").count(), holds(true));
    assert_eq!(claims.matches("class=\"finding fails\"").count(), holds(false));
    let held = results.claims.iter().filter(|claim| claim.holds).count();
    assert_eq!(claims.matches("class=\"verdict holds\"").count(), held);
}

#[test]
fn every_server_is_in_every_chart_and_table() {
    let results = sample();
    let page = render(&results);
    let sections: Vec<&str> = page.split("<section>").skip(1).collect();
    assert_eq!(sections.len(), results.scenarios.len() + 3);
    for (section, scenario) in sections.iter().zip(&results.scenarios) {
        assert!(section.contains(&format!("</span> {}</h2>", scenario.title)), "{}", scenario.title);
        assert_eq!(section.matches("<table").count(), scenario.points.len(), "{}", scenario.title);
        let svg = |part: &str| part.split("</svg>").next().unwrap_or_default().to_owned();
        let charts: Vec<String> = section.split("<svg viewBox=").skip(1).map(svg).collect();
        let drawn = charts.len();
        assert!(drawn >= 2, "{} has {drawn} charts", scenario.title);
        for chart in charts {
            for subject in &results.subjects {
                assert!(
                    chart.contains(&format!("<title>{}</title>", subject.name)),
                    "{}: {chart}",
                    subject.name
                );
            }
        }
        for table in section.split("<tbody>").skip(1) {
            assert_eq!(table.matches("<th scope=\"row\"").count(), results.subjects.len());
        }
    }
}

#[test]
fn figures_have_a_range_and_notes() {
    let slow = Measure {
        subject: "slow".into(),
        rate: Spread::of(vec![47_000.0, 48_312.0, 49_100.0]),
        latency: Latency { p99: Spread::of(vec![1_100.0, 1_234.0, 1_400.0]), ..Latency::default() },
        errors: 1_024,
        peak_rss: Spread::of(vec![34.0 * 1024.0]),
        generator_bound: true,
        ..Measure::default()
    };
    let absent =
        Measure { subject: "absent".into(), skipped: Some("it does not start".into()), ..Measure::default() };
    let point =
        Point { label: "64 connections".into(), x: 64.0, measures: vec![slow, absent], ..Point::default() };
    let scenario =
        Scenario { title: "One".into(), decides: "rate".into(), points: vec![point], ..Scenario::default() };
    let text = check(&Results { scenarios: vec![scenario], ..Results::default() });
    for part in [
        "≥| 48,300/s|47,000–49,100/s",
        "1.23 ms|1.1–1.4 ms",
        "34 MiB",
        "1,024",
        "not measured: it does not start",
        "not measured (it does not start)",
        "the generator was the bottleneck",
        " errors: ",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn rounds_that_were_left_out_are_noted() {
    let mut results = sample();
    assert!(!check(&results).contains("left out"));
    results.scenarios[0].left_out = 1;
    results.claims[0].left_out = 2;
    let text = check(&results);
    for note in ["1 of 3 rounds were left out", "2 of 3 rounds were left out"] {
        assert!(text.contains(note), "{note}");
    }
}

#[test]
fn user_and_kernel_time_are_separate_only_with_enough_ticks() {
    let mut results = sample();
    assert!(!check(&results).contains("too few clock ticks"));
    assert!(render(&results).contains("class=\"pale\""));
    for measure in measures(&mut results) {
        measure.ticks = 3;
    }
    assert!(check(&results).contains("unknown: too few clock ticks"));
    assert!(!render(&results).contains("class=\"pale\""), "the kernel part is not drawn");
}

#[test]
fn growing_loads_have_lines_and_loads_of_different_kinds_have_bars() {
    let labelled = |labels: [(&str, f64); 3]| {
        let measure = Measure { subject: "one".into(), rate: Spread::of(vec![5.0]), ..Measure::default() };
        let point = |(label, x): (&str, f64)| Point {
            label: label.into(),
            x,
            measures: vec![measure.clone()],
            ..Point::default()
        };
        let points = labels.map(point).into();
        let scenario = Scenario { axis: "axis".into(), points, ..Scenario::default() };
        check(&Results { scenarios: vec![scenario], ..Results::default() })
    };
    for labels in [
        [("1 connection", 1.0), ("64 connections", 64.0), ("1,024 connections", 1024.0)],
        [("25% of capacity", 0.25), ("50% of capacity", 0.5), ("90% of capacity", 0.9)],
    ] {
        assert!(labelled(labels).contains("by axis"), "{labels:?}");
    }
    for labels in [
        [("nothing blocks", 0.0), ("beside /offload/50", 1.0), ("beside /block/50", 2.0)],
        [("1 client", 1.0), ("1% of capacity", 2.0), ("2% of capacity", 3.0)],
        [("64 connections", 64.0), ("16 connections", 16.0), ("64 connections", 64.0)],
    ] {
        assert!(labelled(labels).contains("at each load"), "{labels:?}");
    }
}

#[test]
fn a_server_that_refuses_is_not_the_best() {
    let measure = |name: &str, rate: f64, errors| Measure {
        subject: name.into(),
        rate: Spread::of(vec![rate]),
        errors,
        ..Measure::default()
    };
    let measures =
        vec![measure("quick to refuse", 900.0, 900), measure("sound", 300.0, 0), measure("slow", 100.0, 0)];
    let winners = vec!["sound".into()];
    let points = vec![Point { label: "a load".into(), measures, ..Point::default() }];
    let scenario = Scenario { decides: "rate".into(), winners, points, ..Scenario::default() };
    let results = Results { scenarios: vec![scenario], ..Results::default() };
    check(&results);
    let page = render(&results);
    for part in [
        r#"<td class="times errors">errors</td><td class="times t0 best">×1</td><td class="times t3">×3</td>"#,
        r#"<td>900/s</td>"#,
        r#"<td class="errors">900</td>"#,
        r#"<td class="best">300/s</td>"#,
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[test]
fn markup_in_names_is_escaped() {
    let evil = "</title><script>alert(\"1\")</script>'&amp;--><!--]]>\u{202e}";
    let json = serde_json::to_value(sample()).expect("results serialise");
    // Replaces every text.
    fn poison(value: &mut serde_json::Value, evil: &str) {
        match value {
            serde_json::Value::String(text) => *text = evil.into(),
            serde_json::Value::Array(values) => values.iter_mut().for_each(|value| poison(value, evil)),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|value| poison(value, evil)),
            _ => {}
        }
    }
    let mut all = json;
    poison(&mut all, evil);
    let mut results: Results = serde_json::from_value(all).expect("the schema is unchanged");
    for (number, name) in results.subjects.iter_mut().enumerate() {
        name.name = format!("{evil}{number}");
    }
    let text = check(&results);
    assert!(text.matches(evil).count() > 100, "the names are escaped text");
}

#[test]
fn no_value_breaks_the_page() {
    check(&Results::default());
    let long = "x".repeat(100);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 5e-324, 0.0, -1.0, 1.0] {
        let mut results = sample();
        spreads(&mut results).for_each(|spread| *spread = Spread::of(vec![value]));
        check(&results);
        // The value among valid ones, and only at the ends of ranges.
        let mut results = sample();
        spreads(&mut results).step_by(7).for_each(|spread| spread.median = value);
        spreads(&mut results).step_by(5).for_each(|spread| (spread.min, spread.max) = (value, value));
        check(&results);
        let mut results = sample();
        for point in results.scenarios.iter_mut().flat_map(|scenario| &mut scenario.points) {
            point.x = value;
            point.offered = Some(value);
            point
                .measures
                .iter_mut()
                .for_each(|measure| measure.latency.curve = vec![(value, value), (99.0, value)]);
        }
        (results.seconds, results.duration) = (value, value);
        results
            .claims
            .iter_mut()
            .flat_map(|claim| &mut claim.findings)
            .for_each(|finding| finding.margin = value);
        results.changes.iter_mut().for_each(|change| (change.before, change.ratio) = (value, value));
        results.scenarios[0].points[0].yardstick = Spread::of(vec![value]);
        check(&results);
    }
    let changes: [fn(&mut Results, &str); 9] = [
        |results, _| results.subjects.clear(),
        |results, _| results.scenarios.iter_mut().for_each(|scenario| scenario.points.truncate(1)),
        |results, _| results.scenarios.iter_mut().for_each(|scenario| scenario.points.clear()),
        |results, _| results.scenarios.iter_mut().for_each(|scenario| scenario.points.reverse()),
        |results, _| results.scenarios[0].points.iter_mut().for_each(|point| point.measures.clear()),
        |results, _| results.scenarios.iter_mut().for_each(|scenario| scenario.decides = "beauty".into()),
        |results, long| results.scenarios[0].points[0].measures[0].subject = long.into(),
        |results, long| {
            let subject = Subject { name: long.into(), model: long.into(), command: long.into() };
            results.subjects = vec![subject; 40];
        },
        |results, long| {
            let finding = Finding { subject: long.into(), ..Finding::default() };
            results.claims = vec![Claim::default(), Claim { findings: vec![finding], ..Claim::default() }];
        },
    ];
    for change in changes {
        let mut results = sample();
        change(&mut results, &long);
        check(&results);
    }
}
