//! Every case on every backend that is compiled in, over real sockets: one named test for each pair.
//!
//! `cargo test --test backends -- mio::` runs those of one backend, `-- wire::head` those of one file in
//! `tests/wire`. Tests of one process share the server that answers the wire cases, and otherwise nothing.

mod after;
mod app;
mod bridge;
mod case;
mod child;
mod client;
mod conformance;
mod crowd;
mod descriptors;
mod disconnects;
mod hyper;
mod limits;
mod listen;
mod panics;
#[expect(dead_code, reason = "tests/faults asks for more")]
mod process;
mod running;
mod shutdown;
mod stalls;
mod stats;
mod tasks;
mod tokio_only;
mod upgrade;
mod uploads;
mod waits;
mod wire;

use std::process::ExitCode;

use gearshift::Backend;
use libtest_mimic::{Arguments, Trial};

/// A test that holds on every backend.
type Test = fn(Backend);

/// What a part of these tests is called, and its tests by name.
type Area = (&'static str, &'static [(&'static str, Test)]);

const AREAS: [Area; 17] = [
    after::AREA,
    bridge::AREA,
    crowd::AREA,
    descriptors::AREA,
    disconnects::AREA,
    hyper::AREA,
    limits::AREA,
    listen::AREA,
    panics::AREA,
    shutdown::AREA,
    stalls::AREA,
    stats::AREA,
    tasks::AREA,
    tokio_only::AREA,
    upgrade::AREA,
    uploads::AREA,
    waits::AREA,
];

fn main() -> ExitCode {
    if let Some(status) = child::serve_if_asked_to() {
        return status;
    }
    child::allow_many_descriptors();
    app::silence_panics_on_purpose();
    stalls::listen();
    let mut trials = vec![wire::same_bytes_everywhere()];
    for &backend in Backend::available() {
        trials.extend(wire::trials(backend));
        for (area, tests) in AREAS {
            trials.extend(tests.iter().map(|&(name, test)| {
                Trial::test(behaviour_name(backend, area, name), move || {
                    test(backend);
                    Ok(())
                })
            }));
        }
    }
    trials.push(conformance::decisions());
    trials.extend(conformance::trial(&trials));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// What the test is called that holds a backend to a behaviour.
fn behaviour_name(backend: Backend, area: &str, test: &str) -> String {
    format!("{backend}::{area}::{test}")
}
