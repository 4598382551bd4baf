//! A claim about sync and async handlers in one application.

use super::{Check, Measured, closed, demo, every, finding, fits};
use crate::format::time;
use crate::load::{Pacing, Request, Traffic};
use crate::results::{Finding, Spread};

const CONNECTIONS: usize = 16;
/// Allowed deviation, as a share, unless the rounds differ by more. On a thread pool they do: it is chance whether a
/// worker finds its next request or sleeps, which changes the cost by a third.
const TOLERANCE: f64 = 0.05;

pub(super) const MIXING_COSTS_NOTHING: Check = Check {
    statement: "Mixing sync and async handlers costs nothing: CPU time is the mean of both, within 5% or the noise",
    of: every,
    trials: |_| {
        let mix = vec![(1, Request::get("/plaintext")), (1, Request::get("/async"))];
        let both = Traffic { connections: CONNECTIONS, mix, pacing: Pacing::Closed, keep: true };
        vec![closed(CONNECTIONS, "/plaintext"), closed(CONNECTIONS, "/async"), demo(both)]
    },
    judge: |measured, _| measured.iter().map(mixed).collect(),
};

fn mixed(one: &Measured<'_>) -> Finding {
    let cpu: Vec<_> = one.measures.iter().map(|measure| measure.cpu()).collect();
    let (apart, both) = (f64::midpoint(cpu[0].median, cpu[1].median), cpu[2].median);
    let noise = cpu.iter().map(Spread::range).fold(TOLERANCE, f64::max);
    let allowed = apart * (1.0 + noise);
    let text =
        format!("sync {}, async {}, both {} of CPU", time(cpu[0].median), time(cpu[1].median), time(both));
    finding(one.subject, text, format!("at most {}", time(allowed)), fits(both, allowed))
}
