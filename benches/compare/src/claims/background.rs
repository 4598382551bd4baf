//! Work that goes on after its response.

use super::blocking::{neighbours, well_off};
use super::{Check, Measured, demo, every, finding, fits};
use crate::format::time;
use crate::load::{Ask, Pace, Traffic};
use crate::results::Finding;
use crate::serve::Served;

/// Requests that put off something, a second: few, as each may take a thread on backends that block.
const RATE: f64 = 20.0;
/// What is put off, in µs.
const PUT_OFF: f64 = 200_000.0;
/// The answer is to come within a tenth of that.
const AT_ONCE: f64 = PUT_OFF / 10.0;

pub(super) const DELAYS_NOBODY: Check = Check {
    statement: "Work after the response delays nobody: neither who asked for 200 ms of it, nor the neighbours",
    of: every,
    trials: |_| {
        let later = || Traffic::new(4, Ask::post("/later/200", *b""), Pace::Open(RATE));
        let alone = neighbours(Served::Demo, "/plaintext", None);
        vec![demo(later()), alone, neighbours(Served::Demo, "/plaintext", Some(later()))]
    },
    judge: |measured, _| measured.iter().flat_map(|one| [asked(one), beside(one)]).collect(),
};

fn asked(one: &Measured<'_>) -> Finding {
    let p99 = one.measures[0].latency.p99.median;
    let said = format!("who asks has an answer in {} (p99)", time(p99));
    finding(one.subject, said, format!("at most {}", time(AT_ONCE)), fits(p99, AT_ONCE))
}

fn beside(one: &Measured<'_>) -> Finding {
    let [alone, beside] = [1, 2].map(|trial: usize| one.measures[trial].latency.p99.median);
    let allowed = well_off(alone, PUT_OFF);
    let said = format!("neighbours' p99 {} to {}", time(alone), time(beside));
    finding(one.subject, said, format!("at most {}", time(allowed)), fits(beside, allowed))
}
