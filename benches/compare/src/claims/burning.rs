//! Requests that burn CPU.

use super::{Check, Measured, closed, every, finding, fits};
use crate::format::{number, time};

/// How far CPU times may be apart, as a part.
const APART: f64 = 0.1;

pub(super) const EQUAL_PER_CORE: Check = Check {
    statement: "CPU-bound work: all backends are equal per core, within 10%",
    of: every,
    trials: |_| vec![closed(16, "/cpu/5000")],
    judge: |measured, _| {
        let cpu = |one: &Measured<'_>| one.measures[0].cpu().median;
        let mut sorted: Vec<f64> = measured.iter().map(cpu).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let judged = |one: &Measured<'_>| {
            let rate = number(one.measures[0].rate.median);
            let said = format!("{} of CPU a request, {rate} a second", time(cpu(one)));
            let apart = (cpu(one) / middle.max(1e-9) - 1.0).abs();
            finding(one.subject, said, format!("{} within 10%", time(middle)), fits(apart, APART))
        };
        measured.iter().map(judged).collect()
    },
};
