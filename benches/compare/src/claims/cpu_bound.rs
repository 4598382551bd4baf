//! A claim about CPU-bound requests.

use super::{Check, Measured, closed, every, finding, fits};
use crate::format::{number, time};

/// Highest allowed deviation from the median CPU time, as a share.
const APART: f64 = 0.1;

pub(super) const EQUAL_PER_CORE: Check = Check {
    statement: "CPU-bound work costs the same CPU time on all backends, within 10%",
    of: every,
    trials: |_| vec![closed(16, "/cpu/5000")],
    judge: |measured, _| {
        let cpu = |one: &Measured<'_>| one.measures[0].cpu().median;
        let mut sorted: Vec<f64> = measured.iter().map(cpu).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let judged = |one: &Measured<'_>| {
            let rate = number(one.measures[0].rate.median);
            let text = format!("{} of CPU time per request, {rate} requests per second", time(cpu(one)));
            let apart = (cpu(one) / middle.max(1e-9) - 1.0).abs();
            finding(one.subject, text, format!("{} within 10%", time(middle)), fits(apart, APART))
        };
        measured.iter().map(judged).collect()
    },
};
