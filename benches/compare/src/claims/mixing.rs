//! Sync and async handlers in one application.

use super::{Check, Measured, closed, demo, every, finding, fits};
use crate::format::time;
use crate::load::{Ask, Pace, Traffic};
use crate::results::{Finding, Spread};

const CONNECTIONS: usize = 16;
/// What is nothing, as a part, if the rounds do not lie further apart. They do on a pool: whether a worker that has
/// answered finds more to do, or sleeps and is woken, is chance, and a third of the cost.
const NOTHING: f64 = 0.05;

pub(super) const MIXING_COSTS_NOTHING: Check = Check {
    statement: "Mixing sync and async handlers costs nothing: both together are as dear as their mean, within 5% or what \
                the rounds lie apart",
    of: every,
    trials: |_| {
        let mix = vec![(1, Ask::get("/plaintext")), (1, Ask::get("/async"))];
        let both = Traffic { connections: CONNECTIONS, mix, pace: Pace::Closed, keep: true };
        vec![closed(CONNECTIONS, "/plaintext"), closed(CONNECTIONS, "/async"), demo(both)]
    },
    judge: |measured, _| measured.iter().map(mixed).collect(),
};

fn mixed(one: &Measured<'_>) -> Finding {
    let cpu: Vec<_> = one.measures.iter().map(|measure| measure.cpu()).collect();
    let (apart, both) = (f64::midpoint(cpu[0].median, cpu[1].median), cpu[2].median);
    let noise = cpu.iter().map(Spread::range).fold(NOTHING, f64::max);
    let allowed = apart * (1.0 + noise);
    let said =
        format!("sync {}, async {}, both {} of CPU", time(cpu[0].median), time(cpu[1].median), time(both));
    finding(one.subject, said, format!("at most {}", time(allowed)), fits(both, allowed))
}
