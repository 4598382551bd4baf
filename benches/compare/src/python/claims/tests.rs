use gearshift::Backend;

use super::*;
use crate::results::{Latency, Measure, Spread};

fn servers(names: &[&str]) -> Vec<Server> {
    let all = Server::all(Backend::available());
    names.iter().map(|name| *all.iter().find(|server| server.name() == *name).expect(name)).collect()
}

fn p99(us: f64) -> Measure {
    Measure { latency: Latency { p99: Spread::of(vec![us]), ..Latency::default() }, ..Measure::default() }
}

fn p50(us: f64) -> Measure {
    Measure { latency: Latency { p50: Spread::of(vec![us]), ..Latency::default() }, ..Measure::default() }
}

fn rate(rate: f64) -> Measure {
    Measure { rate: Spread::of(vec![rate]), ..Measure::default() }
}

fn cpu(us: &[f64]) -> Measure {
    let none = vec![0.0; us.len()];
    Measure { cpu_user: Spread::of(us.to_vec()), cpu_system: Spread::of(none), ..Measure::default() }
}

/// Whether each finding about a server with 16 threads holds.
fn judge(check: &Check, subject: &str, measures: Vec<Measure>) -> Vec<bool> {
    let servers = Server::all(Backend::available());
    let context = Context { app: check.app, servers: &servers, threads: 16 };
    let findings = (check.judge)(&[Measured { subject, measures }], &context);
    findings.iter().map(|finding| finding.holds).collect()
}

#[test]
fn each_claim_has_trials_and_is_about_gearshift_and_another_server() {
    let all = Server::all(Backend::available());
    for check in checks() {
        assert!(!(check.trials)().is_empty(), "{}", check.statement);
        let mut of = all.iter().filter(|server| server.serves(check.app.interface()) && (check.of)(**server));
        assert!(of.clone().any(|server| server.is_gearshift()), "{}", check.statement);
        assert!(of.any(|server| !server.is_gearshift()), "{}", check.statement);
    }
}

#[test]
fn a_stall_of_the_neighbours_holds_only_if_it_is_long_and_disturbs() {
    let stall =
        |alone, beside| judge(&blocking::STALLS_THE_NEIGHBOURS, "uvicorn", vec![p99(alone), p99(beside)]);
    assert_eq!(stall(900.0, 120_000.0), [true]);
    assert_eq!(stall(900.0, 9_000.0), [false], "too short");
    assert_eq!(stall(60_000.0, 120_000.0), [false], "disturbed without the view");
}

#[test]
fn a_starved_pool_is_judged_by_the_clients_above_its_size() {
    let starved = |below, above| {
        judge(&blocking::A_POOL_OF_40_STARVES, "uvicorn", vec![p99(1_000.0), p99(below), p99(above)])
    };
    assert_eq!(starved(9_000.0, 60_000.0), [true]);
    assert_eq!(starved(60_000.0, 9_000.0), [false]);
}

#[test]
fn a_view_of_the_other_kind_may_cost_5_percent_or_the_noise() {
    let mixing =
        |native: &[f64], other: &[f64]| judge(&mixing::FLASK, "waitress", vec![cpu(native), cpu(other)]);
    assert_eq!(mixing(&[100.0; 3], &[104.0; 3]), [true]);
    assert_eq!(mixing(&[100.0; 3], &[700.0; 3]), [false]);
    assert_eq!(mixing(&[80.0, 100.0, 120.0], &[130.0; 3]), [true], "the rounds differ by 40%");
}

#[test]
fn waits_are_bounded_by_the_threads_of_the_server() {
    let bounded = |subject, waits| judge(&waiting::FLASK_IS_BOUNDED_BY_THREADS, subject, vec![rate(waits)]);
    assert_eq!([bounded("gunicorn-sync", 19.0), bounded("gunicorn-sync", 40.0)], [[true], [false]]);
    assert_eq!([bounded("waitress", 318.0), bounded("gearshift-mio", 500.0)], [[true], [false]]);
    let unbounded = |subject, waits| judge(&waiting::FASTAPI_IS_NOT_BOUNDED, subject, vec![rate(waits)]);
    assert_eq!([unbounded("uvicorn", 2_000.0), unbounded("gearshift-threadpool", 320.0)], [[true], [false]]);
}

#[test]
fn dead_work_is_noticed_only_beyond_the_wait_without_it() {
    let noticed = |alone, after| judge(&leaving::WAITS, "gunicorn-sync", vec![p50(alone), p50(after)]);
    assert_eq!([noticed(500.0, 3_000_000.0), noticed(500.0, 900.0)], [[true], [false]]);
    assert_eq!(noticed(40_000.0, 60_000.0), [false]);
}

#[test]
fn the_last_of_a_burst_is_late_on_a_sequential_server() {
    let burst = |us: f64| {
        let latency = Latency { curve: vec![(1.0, 50_000.0), (8.0, us)], ..Latency::default() };
        let measure = Measure { latency, ..Measure::default() };
        judge(&waiting::THE_KTH_TAKES_K_TIMES, "gunicorn-sync", vec![measure])
    };
    assert_eq!([burst(401_000.0), burst(52_000.0)], [[true], [false]]);
}

#[test]
fn a_remedy_is_a_backend_that_differs_from_a_usual_server() {
    let servers = servers(&["gearshift-mio", "gearshift-threadpool", "uvicorn"]);
    let summary = |holds: [bool; 3], wanted| {
        let of = |(server, holds): (&Server, bool)| Finding {
            subject: server.name(),
            holds,
            ..Finding::default()
        };
        let findings: Vec<Finding> = servers.iter().zip(holds).map(of).collect();
        summary(&findings, &servers, Some(wanted))
    };
    assert_eq!(
        summary([true, false, true], false),
        "It holds on gearshift-mio and uvicorn, not on gearshift-threadpool. Remedy: gearshift-threadpool."
    );
    assert_eq!(summary([true; 3], false), "It holds on every server.");
    assert_eq!(summary([false; 3], true), "It holds on no server.");
    assert!(!summary([false, true, true], true).contains("Remedy"), "uvicorn is no worse");
}
