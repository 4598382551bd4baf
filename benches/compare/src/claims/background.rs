//! A claim about work after the response.

use super::blocking::{neighbours, well_off};
use super::{Check, Measured, demo, every, finding, fits};
use crate::format::time;
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;
use crate::serve::Application;

/// Requests per second with work after the response. The rate is low, because each may take a thread of a blocking
/// backend.
const RATE: f64 = 20.0;
/// The length of that work, in µs.
const PUT_OFF: f64 = 200_000.0;
/// The response has to arrive within a tenth of it.
const AT_ONCE: f64 = PUT_OFF / 10.0;

pub(super) const DELAYS_NO_CLIENT: Check = Check {
    statement: "Work after the response delays neither the client that caused 200 ms of it nor other clients",
    of: every,
    trials: |_| {
        let later = || Traffic::new(4, Request::post("/later/200", *b""), Pacing::Open(RATE));
        let alone = neighbours(Application::Demo, "/plaintext", None);
        vec![demo(later()), alone, neighbours(Application::Demo, "/plaintext", Some(later()))]
    },
    judge: |measured, _| measured.iter().flat_map(|one| [asked(one), beside(one)]).collect(),
};

fn asked(one: &Measured<'_>) -> Finding {
    let p99 = one.measures[0].latency.p99.median;
    let text = format!("p99 of the client itself {}", time(p99));
    finding(one.subject, text, format!("at most {}", time(AT_ONCE)), fits(p99, AT_ONCE))
}

fn beside(one: &Measured<'_>) -> Finding {
    let [alone, beside] = [1, 2].map(|trial: usize| one.measures[trial].latency.p99.median);
    let allowed = well_off(alone, PUT_OFF);
    let text = format!("other clients' p99 {} to {}", time(alone), time(beside));
    finding(one.subject, text, format!("at most {}", time(allowed)), fits(beside, allowed))
}
