//! Peers that do what they should not, systems that run short, stops at the worst moment: every case on every
//! backend that is compiled in, over real sockets.
//!
//! `cargo test --test faults -- mio::` runs those of one backend. What concerns a whole process (its memory, its
//! descriptors, its exit status) is looked at in a process of its own. `GEARSHIFT_FAULT_ROUNDS=100` stops a server
//! under load so many times instead of 10.

#[path = "../backends/app.rs"]
mod app;
#[expect(dead_code, reason = "tests/backends uses the rest")]
#[path = "../backends/client.rs"]
mod client;
#[path = "../backends/process.rs"]
mod process;
#[expect(dead_code, reason = "tests/backends uses the rest")]
#[path = "../backends/running.rs"]
mod running;

mod abandoned;
mod bodies;
mod descriptors;
mod dribble;
mod heads;
mod leave;
mod load;
mod neighbours;
mod panics;
mod program;
mod readers;
mod resets;
mod routes;
mod signals;
mod stops;
mod storms;

use std::process::ExitCode;

use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};

/// A test that holds on every backend.
type Test = fn(Backend);

/// What a part of these tests is called, and its tests by name.
type Area = (&'static str, &'static [(&'static str, Test)]);

const AREAS: [Area; 10] = [
    abandoned::AREA,
    heads::AREA,
    bodies::AREA,
    readers::AREA,
    resets::AREA,
    descriptors::AREA,
    panics::AREA,
    storms::AREA,
    stops::AREA,
    signals::AREA,
];

fn main() -> ExitCode {
    if let Some(status) = program::run_if_asked_to() {
        return status;
    }
    program::allow_many_descriptors();
    app::silence_panics_on_purpose();
    let mut trials = Vec::new();
    for &backend in Backend::available() {
        for (area, tests) in AREAS {
            trials.extend(tests.iter().map(|&(name, test)| {
                Trial::test(format!("{backend}::{area}::{name}"), move || {
                    test(backend);
                    Ok(())
                })
            }));
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
