use super::*;
use crate::results::{Latency, Spread};

fn p99(us: f64) -> Measure {
    Measure { latency: Latency { p99: Spread::of(vec![us]), ..Latency::default() }, ..Measure::default() }
}

fn cpu(us: &[f64]) -> Measure {
    let none = vec![0.0; us.len()];
    Measure { cpu_user: Spread::of(us.to_vec()), cpu_system: Spread::of(none), ..Measure::default() }
}

fn judge(check: &Check, subject: &str, measures: Vec<Measure>) -> Vec<bool> {
    let findings = (check.judge)(&[Measured { subject, measures }], 2);
    findings.iter().map(|finding| finding.holds).collect()
}

#[test]
fn each_claim_has_trials_and_is_about_some_backend() {
    for check in checks() {
        assert!(!(check.trials)(2).is_empty(), "{}", check.statement);
        let mut all = Backend::available().iter();
        assert!(all.any(|backend| (check.of)(backend.name())), "{}", check.statement);
    }
}

#[test]
fn a_backend_slower_than_the_best_is_found() {
    let p50 = |subject, us: f64| Measured {
        subject,
        measures: vec![Measure {
            latency: Latency { p50: Spread::of(vec![us]), ..Latency::default() },
            ..Measure::default()
        }],
    };
    let measured = [p50("a", 50_000.0), p50("b", 50_900.0), p50("c", 51_200.0)];
    let findings = (waiting::WITH_ONE_CLIENT_ALL_ARE_EQUAL.judge)(&measured, 1);
    assert_eq!(findings.iter().map(|finding| finding.holds).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn capacity_may_be_neither_too_low_nor_too_high() {
    let rate = |rate: f64, threads: f64| Measure {
        rate: Spread::of(vec![rate]),
        threads: Spread::of(vec![threads]),
        ..Measure::default()
    };
    let check = |subject, of| judge(&waiting::THREADS_BOUND_WAITS, subject, vec![of]);
    assert_eq!(check("sequential", rate(20.1, 4.0)), [true]);
    assert_eq!(check("sequential", rate(30.0, 4.0)), [false]);
    assert_eq!(check("threadpool", rate(635.0, 36.0)), [true]);
    assert_eq!(check("threadpool", rate(320.0, 36.0)), [false]);
    assert_eq!(check("mio", rate(5_000.0, 4.0)), [true]);
    assert_eq!(check("mio", rate(320.0, 4.0)), [false]);
    assert_eq!(check("mio", rate(5_000.0, 260.0)), [false], "one thread per wait is not an event loop");
}

#[test]
fn a_loop_without_a_stall_refutes_the_claim() {
    assert_eq!(judge(&blocking::STALLS_THE_LOOP, "mio", vec![p99(300.0), p99(49_000.0)]), [true]);
    assert_eq!(judge(&blocking::STALLS_THE_LOOP, "mio", vec![p99(300.0), p99(9_000.0)]), [false]);
    assert_eq!(judge(&blocking::STALLS_THE_LOOP, "mio", vec![p99(9_000.0), p99(49_000.0)]), [false]);
}

#[test]
fn disturbed_clients_and_an_expensive_hop_refute_the_claim() {
    let p50 = |us: f64| Measure {
        latency: Latency { p50: Spread::of(vec![us]), ..Latency::default() },
        ..cpu(&[1.0])
    };
    let check = |offloaded, hop| {
        let measures = vec![p99(300.0), p99(offloaded), p50(60.0), p50(60.0 + hop)];
        judge(&blocking::OFFLOADING_CURES, "mio", measures)
    };
    assert_eq!(check(400.0, 20.0), [true, true]);
    assert_eq!(check(9_000.0, 200.0), [false, false]);
}

#[test]
fn mixing_may_cost_no_more_than_the_noise() {
    let check = |measures| judge(&mixing::MIXING_COSTS_NOTHING, "mio", measures);
    let (sync, async_) = (cpu(&[10.0, 10.0]), cpu(&[12.0, 12.0]));
    assert_eq!(check(vec![sync.clone(), async_.clone(), cpu(&[11.4, 11.4])]), [true]);
    assert_eq!(check(vec![sync.clone(), async_.clone(), cpu(&[12.0, 12.0])]), [false]);
    assert_eq!(check(vec![sync, async_, cpu(&[10.5, 13.5])]), [true], "within the noise");
}

#[test]
fn every_response_of_a_burst_is_checked() {
    let curve = |step: f64| (1..=8).map(|k| (f64::from(k), f64::from(k) * step)).collect();
    let measure = |step| Measure {
        latency: Latency { curve: curve(step), ..Latency::default() },
        ..Measure::default()
    };
    let check = |step| judge(&waiting::THE_KTH_TAKES_K_TIMES, "sequential", vec![measure(step)]);
    assert_eq!(check(50_300.0), [true; 8]);
    assert_eq!(check(60_000.0), [false; 8]);
}

#[test]
fn a_delay_by_work_after_the_response_is_found() {
    let check = |requests, beside| {
        judge(&background::DELAYS_NO_CLIENT, "mio", vec![p99(requests), p99(300.0), p99(beside)])
    };
    assert_eq!(check(900.0, 1_000.0), [true, true]);
    assert_eq!(check(200_000.0, 200_000.0), [false, false]);
}

#[test]
fn margins_are_finite() {
    assert_eq!(finding("a", String::new(), String::new(), f64::INFINITY).margin, MAX_MARGIN);
    assert_eq!(fits(0.0, 1.0), MAX_MARGIN);
    assert!(finding("a", String::new(), String::new(), 0.0).margin > 0.0);
}
