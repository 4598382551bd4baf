use super::*;
use crate::results::{Latency, Spread};

fn one(value: f64) -> Spread {
    Spread::of(vec![value])
}

fn measure(subject: &str, rate: f64, threads: f64, p50: f64) -> Measure {
    let latency = Latency { p50: one(p50), p99: one(p50 * 2.0), ..Latency::default() };
    Measure { subject: subject.into(), rate: one(rate), threads: one(threads), latency, ..Measure::default() }
}

fn reading(id: &str, decides: &str, points: Vec<Point>) -> String {
    of(&Scenario { id: id.into(), decides: decides.into(), points, ..Scenario::default() })
}

#[test]
fn waits_are_counted_by_littles_law() {
    let measures = vec![measure("loop", 5_000.0, 3.0, 51e3), measure("pool", 320.0, 18.0, 8e5)];
    let point = Point { path: "/sleep/50".into(), connections: 256, measures, ..Point::default() };
    let said = reading("waiting", "rate", vec![point]);
    assert!(
        said.contains(
            "loop had all 256 clients waiting at once, on 3 threads at most: a wait costs no thread"
        ),
        "{said}"
    );
    assert!(said.contains("pool had 16 waiting at once on 18 threads, so it stops at 320"), "{said}");
}

#[test]
fn no_conclusion_stands_where_the_numbers_are_otherwise() {
    let measures = vec![measure("loop", 20.0, 3.0, 1e6), measure("pool", 5_000.0, 300.0, 51e3)];
    let point = Point { path: "/sleep/50".into(), connections: 256, measures, ..Point::default() };
    let said = reading("waiting", "rate", vec![point]);
    assert!(said.contains("pool had all 256 clients") && said.contains("loop had 1 waiting"), "{said}");
}

#[test]
fn who_blocks_is_told_by_what_the_neighbours_saw() {
    let point = |label: &str, p50s: [f64; 3]| {
        let names = ["loop", "pool", "one"].into_iter().zip(p50s);
        Point {
            measures: names.map(|(name, p50)| measure(name, 200.0, 1.0, p50)).collect(),
            label: label.into(),
            ..Point::default()
        }
    };
    let points = vec![
        point("alone", [100.0; 3]),
        point("beside /offload/50", [110.0, 110.0, 25e3]),
        point("beside /block/50", [25e3, 120.0, 25e3]),
    ];
    let said = reading("blocking", "p99", points);
    assert!(said.contains("stalls its neighbours on loop (200 µs to 50 ms)"), "{said}");
    assert!(said.contains("On one (200 µs to 50 ms) they are stalled either way"), "{said}");
    assert!(said.contains("On pool another thread"), "{said}");
}

#[test]
fn a_higher_rate_is_put_down_to_what_differs() {
    let cpu = |cpu: f64, measure: Measure| Measure { cpu_system: one(cpu), cpu_user: one(0.0), ..measure };
    let cheap = cpu(10.0, measure("cheap", 100_000.0, 1.0, 100.0));
    let dear = cpu(20.0, measure("dear", 50_000.0, 1.0, 200.0));
    let said = reading(
        "plain",
        "rate",
        vec![Point { measures: vec![dear.clone(), cheap.clone()], ..Point::default() }],
    );
    assert!(said.starts_with("cheap answers 100,000 requests a second, 2 times as many as dear"), "{said}");
    assert!(said.contains("of CPU instead of 20 µs, with"), "so few ticks tell nothing: {said}");
    let [slow, quick] = [&dear, &cheap].map(|measure| Measure { ticks: 200, ..measure.clone() });
    let said = reading("plain", "rate", vec![Point { measures: vec![slow, quick], ..Point::default() }]);
    assert!(said.contains("20 µs; most of the difference is the kernel's, with"), "{said}");
    let late = cpu(10.0, measure("late", 50_000.0, 1.0, 900.0));
    let said = reading("plain", "rate", vec![Point { measures: vec![late, cheap], ..Point::default() }]);
    assert!(said.contains("CPU is not the reason") && said.contains("late waits"), "{said}");
}

#[test]
fn work_that_costs_the_same_is_said_to_and_other_work_is_not() {
    let cpu =
        |name, cpu: f64| Measure { cpu_user: one(cpu), cpu_system: one(1.0), ..measure(name, 1.0, 1.0, 1.0) };
    let said = |second| {
        let measures = vec![cpu("a", 200.0), cpu("b", second)];
        reading("cpu", "rate", vec![Point { measures, ..Point::default() }])
    };
    assert!(said(208.0).contains("not who calls it"), "{}", said(208.0));
    assert!(said(300.0).contains("on b"), "{}", said(300.0));
}

#[test]
fn caveats_are_told() {
    let bound = Measure { generator_bound: true, ..measure("fast", 9.0, 1.0, 1.0) };
    let wrong = Measure { errors: 3, ..measure("wrong", 9.0, 1.0, 1.0) };
    let skipped = Measure { skipped: Some("does not hold so many".into()), ..measure("full", 0.0, 0.0, 0.0) };
    let said =
        reading("plain", "rate", vec![Point { measures: vec![bound, wrong, skipped], ..Point::default() }]);
    assert!(said.contains("bottleneck with fast") && said.contains("errors with wrong"), "{said}");
    assert!(said.contains("full: does not hold so many."), "{said}");
}

#[test]
fn calls_overlap_if_they_take_less_than_one_after_the_other() {
    let point = |us| {
        let measures = vec![measure("late", 10.0, 1.0, us), measure("in-a-row", 2.0, 1.0, 510e3)];
        Point { path: "/fan/10/50".into(), connections: 1, measures, ..Point::default() }
    };
    let said = reading("fan-out", "p50", vec![point(90e3)]);
    assert!(said.contains("overlap on late:") && said.contains("They do not on in-a-row."), "{said}");
}

#[test]
fn nothing_is_said_of_nothing() {
    for id in
        ["low", "plain", "open", "waiting", "cpu", "mixed", "blocking", "fan-out", "stream", "idle", "short"]
    {
        assert_eq!(reading(id, "rate", vec![Point::default()]), "", "{id}");
    }
}
