//! Many seeds, on each kind of backend, with the simulation's own application. The variable `SEEDS` sets how many of
//! each are run, 5,000 by default, and `SEEDS_FROM` sets the first one.

use gearshift_core::Config;
use gearshift_sim::{Flavour, Simulation, Stats, compare};
use std::time::Duration;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs every `step`th seed, prepared by `prepare`.
fn soak(step: u64, prepare: impl Fn(Simulation) -> Simulation) -> Stats {
    let (from, count) = (number("SEEDS_FROM", 0), number("SEEDS", 5_000));
    let mut stats = Stats::default();
    for seed in (from..from + count).step_by(step as usize) {
        stats += prepare(Simulation::new(seed)).run().unwrap();
    }
    println!("{stats:?}");
    stats
}

#[test]
fn every_rule_is_kept_on_an_event_loop() {
    let stats = soak(1, |simulation| simulation.flavour(Flavour::EventLoop));
    assert!(stats.responses > stats.connections, "not much was simulated");
}

#[test]
fn every_rule_is_kept_where_threads_block() {
    let stats = soak(1, |simulation| simulation.flavour(Flavour::Blocking));
    assert!(stats.responses > stats.connections, "not much was simulated");
}

#[test]
fn both_flavours_give_the_same_responses_where_nothing_races() {
    let (from, count) = (number("SEEDS_FROM", 0), number("SEEDS", 5_000));
    let stats = compare(from..from + count);
    assert!(stats.responses * 2 > stats.connections, "not much was simulated");
}

#[test]
fn every_rule_is_kept_with_the_smallest_limits() {
    for flavour in Flavour::ALL {
        soak(10, |simulation| {
            let mut config = Config::default();
            config.keep_alive = Duration::from_millis(400);
            config.header_timeout = Duration::from_millis(300);
            config.body_timeout = Duration::from_millis(500);
            config.write_timeout = Duration::from_millis(450);
            config.linger = Duration::from_millis(100);
            config.graceful_timeout = Duration::from_millis(600);
            config.max_connections = 1;
            config.limits.pipeline = 1;
            config.limits.output = 1;
            config.limits.drain = 1;
            simulation.flavour(flavour).config(config)
        });
    }
}

#[test]
fn one_seed_has_one_history() {
    for flavour in Flavour::ALL {
        for seed in 0..50 {
            let simulation = Simulation::new(seed).flavour(flavour);
            let (first, second) = (simulation.run(), simulation.clone().traced().run());
            assert_eq!((first.fingerprint, first.stats), (second.fingerprint, second.stats), "seed {seed}");
            let third = simulation.traced().run();
            assert_eq!(second.trace, third.trace, "seed {seed}");
        }
    }
    let (one, other) = (Simulation::new(1).run(), Simulation::new(2).run());
    assert_ne!(one.fingerprint, other.fingerprint);
}
