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
fn waits_are_counted_with_littles_law() {
    let measures = vec![measure("loop", 5_000.0, 3.0, 51e3), measure("pool", 320.0, 18.0, 8e5)];
    let point = Point { path: "/sleep/50".into(), connections: 256, measures, ..Point::default() };
    let text = reading("waiting", "rate", vec![point]);
    assert!(
        text.contains(
            "On loop all 256 clients waited at once, with at most 3 threads: a wait holds no thread"
        ),
        "{text}"
    );
    assert!(
        text.contains("On pool 16 of 256 clients waited at once, with 18 threads. It stops at 320"),
        "{text}"
    );
}

#[test]
fn the_explanation_follows_the_figures_not_the_names() {
    let measures = vec![measure("loop", 20.0, 3.0, 1e6), measure("pool", 5_000.0, 300.0, 51e3)];
    let point = Point { path: "/sleep/50".into(), connections: 256, measures, ..Point::default() };
    let text = reading("waiting", "rate", vec![point]);
    assert!(
        text.contains("On pool all 256 clients") && text.contains("On loop 1 of 256 clients waited"),
        "{text}"
    );
}

#[test]
fn latencies_are_named_with_their_servers() {
    let measures = vec![measure("slow", 10.0, 1.0, 90e3), measure("quick", 10.0, 1.0, 50.0)];
    let point = Point { offered: Some(100.0), measures, ..Point::default() };
    let text = reading("low", "p50", vec![point]);
    assert_eq!(
        text,
        "The median latency at 100 requests per second is 50 µs on quick and 90 ms on slow: a difference of 90 ms, \
         which a client would notice."
    );
}

#[test]
fn a_server_without_responses_is_not_compared_by_a_ratio() {
    let measures = vec![measure("dead", 0.0, 1.0, 0.0), measure("alive", 10.0, 1.0, 50.0)];
    let text = reading("plain", "rate", vec![Point { measures, ..Point::default() }]);
    assert_eq!(text, "alive answers 10 requests per second, dead none.");
}

#[test]
fn a_stall_is_seen_in_the_latency_of_the_other_clients() {
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
    let text = reading("blocking", "p99", points);
    assert!(text.contains("delays the other clients on loop (200 µs to 50 ms)"), "{text}");
    assert!(
        text.contains("On one (200 µs to 50 ms) they are delayed even if the call is offloaded"),
        "{text}"
    );
    assert!(text.contains("On pool another thread"), "{text}");
}

#[test]
fn a_rate_is_explained_by_the_cost_that_differs() {
    let cpu = |cpu: f64, measure: Measure| Measure { cpu_system: one(cpu), cpu_user: one(0.0), ..measure };
    let cheap = cpu(10.0, measure("cheap", 100_000.0, 1.0, 100.0));
    let dear = cpu(20.0, measure("dear", 50_000.0, 1.0, 200.0));
    let text = reading(
        "plain",
        "rate",
        vec![Point { measures: vec![dear.clone(), cheap.clone()], ..Point::default() }],
    );
    assert!(text.starts_with("cheap answers 100,000 requests per second, 2 times as many as dear"), "{text}");
    assert!(text.contains("of CPU time instead of 20 µs, with"), "too few ticks for a split: {text}");
    let [slow, quick] = [&dear, &cheap].map(|measure| Measure { ticks: 200, ..measure.clone() });
    let text = reading("plain", "rate", vec![Point { measures: vec![slow, quick], ..Point::default() }]);
    assert!(text.contains("20 µs; most of the difference is kernel time, with"), "{text}");
    let late = cpu(10.0, measure("late", 50_000.0, 1.0, 900.0));
    let text = reading("plain", "rate", vec![Point { measures: vec![late, cheap], ..Point::default() }]);
    assert!(text.contains("CPU time is not the reason") && text.contains("requests wait on late"), "{text}");
}

#[test]
fn equal_and_different_costs_are_told_apart() {
    let cpu =
        |name, cpu: f64| Measure { cpu_user: one(cpu), cpu_system: one(1.0), ..measure(name, 1.0, 1.0, 1.0) };
    let text = |second| {
        let measures = vec![cpu("a", 200.0), cpu("b", second)];
        reading("cpu", "rate", vec![Point { measures, ..Point::default() }])
    };
    assert!(text(208.0).contains("the handler sets the cost, not the backend"), "{}", text(208.0));
    assert!(text(300.0).contains("on b"), "{}", text(300.0));
}

#[test]
fn caveats_are_listed() {
    let bound = Measure { generator_bound: true, ..measure("fast", 9.0, 1.0, 1.0) };
    let wrong = Measure { errors: 3, ..measure("wrong", 9.0, 1.0, 1.0) };
    let skipped = Measure { skipped: Some("does not hold so many".into()), ..measure("full", 0.0, 0.0, 0.0) };
    let text =
        reading("plain", "rate", vec![Point { measures: vec![bound, wrong, skipped], ..Point::default() }]);
    assert!(text.contains("bottleneck for fast") && text.contains("errors on wrong"), "{text}");
    assert!(text.contains("full: does not hold so many."), "{text}");
}

#[test]
fn calls_overlap_if_they_take_less_than_their_sum() {
    let point = |us| {
        let measures = vec![measure("late", 10.0, 1.0, us), measure("in-a-row", 2.0, 1.0, 510e3)];
        Point { path: "/fan/10/50".into(), connections: 1, measures, ..Point::default() }
    };
    let text = reading("fan-out", "p50", vec![point(90e3)]);
    assert!(text.contains("overlap on late:") && text.contains("They do not overlap on in-a-row."), "{text}");
}

#[test]
fn without_measures_there_is_no_explanation() {
    for id in
        ["low", "plain", "open", "waiting", "cpu", "mixed", "blocking", "fan-out", "stream", "idle", "short"]
    {
        assert_eq!(reading(id, "rate", vec![Point::default()]), "", "{id}");
    }
}
