//! Runs many simulations: `cargo run --release -p gearshift-sim --example soak -- --seeds 1000000`.
//!
//! `--from N` sets the first seed. The variable `SEED=N` runs that seed alone, on both kinds of backend, with its
//! trace. A seed that breaks a rule is printed with its trace. The run ends after a few of them.

use std::process::ExitCode;
use std::time::Instant;

use gearshift_sim::{Flavour, Simulation, Stats, compare};

/// The run ends after so many violations.
const ENOUGH: usize = 5;

fn main() -> ExitCode {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return replay(seed);
    }
    let Some((from, seeds)) = arguments() else {
        eprintln!("usage: soak [--seeds COUNT] [--from SEED]");
        return ExitCode::FAILURE;
    };
    let mut broken = 0;
    for flavour in Flavour::ALL {
        let (began, mut stats) = (Instant::now(), Stats::default());
        for seed in from..from.saturating_add(seeds) {
            let outcome = Simulation::new(seed).flavour(flavour).run();
            stats += outcome.stats;
            if outcome.violation.is_some() {
                println!("{outcome}\n");
                broken += 1;
                if broken >= ENOUGH {
                    return ExitCode::FAILURE;
                }
            }
        }
        println!("{flavour:?}: {seeds} seeds in {:.1?}: {stats:?}", began.elapsed());
    }
    let (began, stats) = (Instant::now(), compare(from..from.saturating_add(seeds)));
    println!("compared: {seeds} seeds in {:.1?}: {stats:?}", began.elapsed());
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for flavour in Flavour::ALL {
        let outcome = Simulation::new(seed).flavour(flavour).traced().run();
        println!("{outcome}\n");
        if outcome.violation.is_some() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// The first seed, and the number of seeds.
fn arguments() -> Option<(u64, u64)> {
    let (mut from, mut seeds) = (0, 100_000);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--seeds" => seeds = value,
            "--from" => from = value,
            _ => return None,
        }
    }
    Some((from, seeds))
}
