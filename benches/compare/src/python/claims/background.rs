//! A claim about work after the response.

use super::blocking::neighbours;
use super::{App, Check, every};
use crate::claims::blocking::well_off;
use crate::claims::{Measured, demo, finding, fits};
use crate::format::time;
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;

/// Requests per second with work after the response. The rate is low, because each takes a thread of a server that
/// runs a coroutine on its own thread.
const RATE: f64 = 20.0;
/// The length of that work, in µs.
const PUT_OFF: f64 = 200_000.0;
/// The response has to arrive within a tenth of it.
const AT_ONCE: f64 = PUT_OFF / 10.0;

pub(super) const DELAYS_NO_CLIENT: Check = Check {
    app: App::FastApi,
    statement: "A background task of 200 ms delays neither the client that caused it nor other clients",
    wanted: Some(true),
    of: every,
    package: None,
    trials: || {
        let later = || Traffic::new(4, Request::post("/later/200", *b""), Pacing::Open(RATE));
        vec![demo(later()), neighbours("/plaintext", None), neighbours("/plaintext", Some(later()))]
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
