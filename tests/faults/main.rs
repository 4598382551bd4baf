//! Peers that misbehave, systems that run out of resources, and stops under load: every test on every backend that is
//! compiled in, over real sockets.
//!
//! `cargo test --test faults -- mio::` runs the cases of one backend. Tests of a whole process (its memory, its
//! descriptors, its exit status) start it as a child. `GEARSHIFT_FAULT_ROUNDS=100` makes the tests of stops under load
//! run 100 rounds instead of 10, and `GEARSHIFT_SOAK_SECONDS=1800` sets how long the soak lasts.

mod abandoned;
mod bodies;
mod crowds;
mod descriptors;
mod heads;
mod leave;
mod load;
mod logs;
mod neighbours;
mod newcomers;
mod panics;
mod paused;
mod readers;
mod resets;
mod signals;
mod soak;
mod stops;
mod storms;

use std::process::ExitCode;

use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};
use test_support::backend::{blocks, concurrency};
use test_support::suite::{self, Area, Only};
use test_support::{app, program};

const AREAS: [Area; 15] = [
    abandoned::AREA,
    heads::AREA,
    bodies::AREA,
    crowds::AREA,
    readers::AREA,
    resets::AREA,
    descriptors::AREA,
    panics::AREA,
    paused::AREA,
    storms::AREA,
    stops::AREA,
    logs::AREA,
    newcomers::AREA,
    signals::AREA,
    soak::AREA,
];

/// The tests that make sense on some backends only.
const ONLY: [Only; 2] = [
    // On one thread, fewer peers than threads are none.
    ("bodies", "fewer_dribbled_bodies_than_workers_hold_up_nobody", serves_concurrently),
    // Only a backend that blocks has threads that peers can use up.
    ("bodies", "more_dribbled_bodies_hold_up_others_for_their_turns", blocks),
];

fn serves_concurrently(backend: Backend) -> bool {
    concurrency(backend) != Some(1)
}

fn main() -> ExitCode {
    if let Some(status) = program::run_if_asked_to() {
        return status;
    }
    program::allow_many_descriptors();
    app::silence_panics_on_purpose();
    let trials = suite::cases(&AREAS, &ONLY).into_iter().map(|case| {
        Trial::test(case.full_name(), move || {
            case.run();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
