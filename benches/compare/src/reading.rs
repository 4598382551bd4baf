//! Why the numbers say so: sentences that are computed from them, and from nothing else. Where the numbers do not
//! bear a sentence, it is not there.

use crate::figure::{Figure, IDLE, P50, RATE};
use crate::format::{bytes, list, number, time};
use crate::results::{Measure, Point, Scenario};
use crate::winners::{differ, ranked};

/// A part of the connections that counts as all of them.
const ALL: f64 = 0.8;
/// A latency that is so large a part of what blocks, and so many times what it is else, is a stall.
const STALL: (f64, f64) = (0.5, 3.0);
/// From this part of the processors on, others disturb a measurement.
const DISTURBED: f64 = 0.2;
/// CPU times this near to each other are equal, as a part.
const EQUAL: f64 = 0.1;

/// What a scenario's numbers say.
pub fn of(scenario: &Scenario) -> String {
    let Some(point) = scenario.points.last() else { return String::new() };
    let mut sentences = match scenario.id.as_str() {
        "low" | "open" => latency(scenario, point),
        "waiting" => waiting(point),
        "cpu" => burning(point),
        "blocking" => blocking(scenario),
        "fan-out" => fan_out(scenario, point),
        "idle" => idle(point),
        _ => rate(point),
    };
    sentences.extend(caveats(point));
    sentences.join(" ")
}

fn measured(point: &Point) -> impl Iterator<Item = &Measure> {
    point.measures.iter().filter(|measure| measure.skipped.is_none())
}

fn names(measures: &[&Measure]) -> String {
    list(&measures.iter().map(|measure| measure.subject.as_str()).collect::<Vec<_>>())
}

/// Who answers most, and whether it is CPU time or waiting that keeps the last from it.
fn rate(point: &Point) -> Vec<String> {
    let ranked = ranked(RATE, point);
    let (Some((best, most)), Some((worst, least))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    if ranked.len() == 1 {
        let (rate, cpu) = (number(most.median), time(best.cpu().median));
        return vec![format!("{} answers {rate} requests a second, at {cpu} of CPU each.", best.subject)];
    }
    if !differ(most, least) {
        return vec![format!(
            "The numbers do not tell them apart: about {} answers a second each.",
            number(most.median)
        )];
    }
    let (cheap, dear) = (best.cpu().median, worst.cpu().median);
    let mut said = vec![format!(
        "{} answers {} requests a second, {} times as many as {} ({}).",
        best.subject,
        number(most.median),
        number(most.median / least.median.max(1e-9)),
        worst.subject,
        number(least.median)
    )];
    if best.generator_bound || worst.generator_bound {
        return said;
    }
    let by_cpu = dear / cheap.max(1e-9) > 1.0 + (most.median / least.median.max(1e-9) - 1.0) / 2.0;
    said.push(if by_cpu {
        let kernel = worst.cpu_system.median - best.cpu_system.median;
        let place = match (best.user_part(), worst.user_part()) {
            (Some(_), Some(_)) if kernel > (dear - cheap) / 2.0 => "; most of the difference is the kernel's",
            (Some(_), Some(_)) => "; most of the difference is in its own code",
            _ => "",
        };
        format!(
            "A request costs it {} of CPU instead of {}{place}, with {} context switches a request against {}.",
            time(cheap),
            time(dear),
            number(best.switches.median),
            number(worst.switches.median)
        )
    } else {
        format!(
            "CPU is not the reason, at {} a request against {}: {} waits, with half of its answers taking over {}.",
            time(cheap),
            time(dear),
            worst.subject,
            time(worst.latency.p50.median)
        )
    });
    said
}

fn latency(scenario: &Scenario, point: &Point) -> Vec<String> {
    let ranked = ranked(Figure::that_decides(scenario).unwrap_or(P50), point);
    let (Some((best, least)), Some((worst, most))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    let what = if scenario.decides == "p99" { "99 of 100 are answered" } else { "half is answered" };
    if ranked.len() == 1 {
        return vec![format!("On {} {what} within {}.", best.subject, time(least.median))];
    }
    if !differ(least, most) {
        let (from, to) = (time(least.median), time(most.median));
        return vec![format!("The numbers do not tell them apart: {what} within {from} to {to}.")];
    }
    let offered = point.offered.map(|rate| format!(" at {} a second", number(rate))).unwrap_or_default();
    vec![format!(
        "On {} {what} within {}{offered}, on {} within {}: {} at most, so that {}.",
        best.subject,
        time(least.median),
        worst.subject,
        time(most.median),
        time(most.median - least.median),
        if most.median - least.median < 10_000.0 {
            "hardly a client would notice"
        } else {
            "a client does notice"
        }
    )]
}

/// Little's law: what is in the server at once is what leaves it a second, times how long it stays.
fn waiting(point: &Point) -> Vec<String> {
    let Some(wait) = millis(&point.path) else { return Vec::new() };
    let at_once = |measure: &Measure| measure.rate.median * wait / 1e3;
    let clients = point.connections as f64;
    let (all, few): (Vec<&Measure>, Vec<&Measure>) =
        measured(point).partition(|measure| at_once(measure) >= clients * ALL);
    let mut said = Vec::new();
    if !all.is_empty() {
        let most = all.iter().map(|measure| measure.threads.max).fold(0.0, f64::max);
        let cost = if most < clients / 2.0 { ": a wait costs no thread there" } else { "" };
        let (names, clients) = (names(&all), point.connections);
        said.push(format!(
            "{names} had all {clients} clients waiting at once, on {most:.0} threads at most{cost}."
        ));
    }
    for measure in few {
        let (held, rate) = (number(at_once(measure)), number(measure.rate.median));
        let (subject, p50) = (&measure.subject, time(measure.latency.p50.median));
        // Clients that queue for a place to wait take many times the wait; those that queue for a processor do not.
        said.push(if measure.latency.p50.median < wait * 1e3 * 2.0 {
            format!("{subject} came to {rate} answers a second, half of which took over {p50} instead of {wait} ms.")
        } else {
            format!(
                "{subject} had {held} waiting at once on {:.0} threads, so it stops at {rate} answers a second, and \
                 half of its clients wait for {p50} or more.",
                measure.threads.median
            )
        });
    }
    said
}

fn burning(point: &Point) -> Vec<String> {
    let mut by_cost: Vec<(&Measure, f64)> =
        measured(point).map(|measure| (measure, measure.cpu().median)).collect();
    by_cost.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (Some((cheap, least)), Some((dear, most))) = (by_cost.first(), by_cost.last()) else {
        return Vec::new();
    };
    let apart = most / least.max(1e-9) - 1.0;
    if by_cost.len() == 1 {
        return vec![format!("A request takes {} of CPU.", time(*least))];
    }
    vec![if apart < EQUAL {
        format!(
            "A request takes {} to {} of CPU, {}% apart: the work is what costs, not who calls it.",
            time(*least),
            time(*most),
            number(apart * 100.0)
        )
    } else {
        format!(
            "A request takes {} of CPU on {} and {} on {}, {}% more.",
            time(*least),
            cheap.subject,
            time(*most),
            dear.subject,
            number(apart * 100.0)
        )
    }]
}

/// How each subject's neighbours fare beside who blocks in place, and beside who has it offloaded.
fn blocking(scenario: &Scenario) -> Vec<String> {
    let [alone, offloaded, in_place] = scenario.points.as_slice() else { return Vec::new() };
    let p99 = |point: &Point, subject: &str| {
        measured(point).find(|measure| measure.subject == subject).map(|measure| measure.latency.p99.median)
    };
    let blocks = millis(&in_place.label).unwrap_or(0.0);
    let (mut free, mut cured, mut stalled) = (Vec::new(), Vec::new(), Vec::new());
    for measure in measured(alone) {
        let subject = measure.subject.as_str();
        let (Some(before), Some(offloaded), Some(blocked)) =
            (p99(alone, subject), p99(offloaded, subject), p99(in_place, subject))
        else {
            continue;
        };
        let said = format!("{subject} ({} to {})", time(before), time(blocked));
        let stalls = |p99: f64| p99 > blocks * 1e3 * STALL.0 && p99 > before * STALL.1;
        match (stalls(blocked), stalls(offloaded)) {
            (false, _) => free.push(subject.to_owned()),
            (true, false) => cured.push(said),
            (true, true) => stalled.push(said),
        }
    }
    let mut said = Vec::new();
    if !cured.is_empty() {
        said.push(format!(
            "A handler that blocks stalls its neighbours on {}, by their 99th percentile; offloaded, it does not.",
            list(&cured)
        ));
    }
    if !stalled.is_empty() {
        said.push(format!("On {} they are stalled either way.", list(&stalled)));
    }
    if !free.is_empty() {
        said.push(format!("On {} another thread answers them meanwhile.", list(&free)));
    }
    said
}

fn fan_out(scenario: &Scenario, point: &Point) -> Vec<String> {
    let Some(wait) = millis(&point.path) else { return Vec::new() };
    let mut said = Vec::new();
    if let Some(first) = scenario.points.first() {
        // In a row they take the sum of their waits; what is less than half of that overlaps.
        let calls = point.path.rsplit('/').nth(1).and_then(|calls| calls.parse().ok()).unwrap_or(1.0);
        let together = |measure: &&Measure| measure.latency.p50.median < wait * 1e3 * calls / 2.0;
        let (overlap, one_by_one): (Vec<&Measure>, Vec<&Measure>) = measured(first).partition(together);
        if !overlap.is_empty() {
            said.push(format!(
                "The calls of a request overlap on {}: it takes one wait, not ten.",
                names(&overlap)
            ));
        }
        if !one_by_one.is_empty() {
            said.push(format!("They do not on {}.", names(&one_by_one)));
        }
    }
    let queue = |measure: &&Measure| measure.latency.p50.median > wait * 1e3 * 2.0;
    let queued: Vec<&Measure> = measured(point).filter(queue).collect();
    if !queued.is_empty() {
        said.push(format!(
            "With {} clients, requests wait for each other on {}.",
            point.connections,
            names(&queued)
        ));
    }
    said
}

fn idle(point: &Point) -> Vec<String> {
    let ranked = ranked(IDLE, point);
    let (Some((best, least)), Some((worst, most))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    if ranked.len() == 1 {
        return vec![format!(
            "Beside the kernel's own, a connection that does nothing takes {}.",
            bytes(least.median)
        )];
    }
    vec![format!(
        "Beside the kernel's own, a connection that does nothing takes {} on {} and {} on {}, ten thousand of them {} \
         or {}.",
        bytes(least.median),
        best.subject,
        bytes(most.median),
        worst.subject,
        bytes(least.median * 1e4),
        bytes(most.median * 1e4)
    )]
}

/// What a reader has to know before believing any of it.
fn caveats(point: &Point) -> Vec<String> {
    let mut said = Vec::new();
    let bound: Vec<&Measure> = measured(point).filter(|measure| measure.generator_bound).collect();
    if !bound.is_empty() {
        said.push(format!("The generator was the bottleneck with {}, which can do more.", names(&bound)));
    }
    let disturbed: Vec<&Measure> = measured(point).filter(|measure| measure.disturbed > DISTURBED).collect();
    if !disturbed.is_empty() {
        let all = disturbed.len() > 1 && disturbed.len() == measured(point).count();
        let of = if all { "all of them".into() } else { names(&disturbed) };
        said.push(format!("Other programs disturbed the measurement of {of}."));
    }
    let wrong: Vec<&Measure> = measured(point).filter(|measure| measure.errors > 0).collect();
    if !wrong.is_empty() {
        said.push(format!("There were errors with {}.", names(&wrong)));
    }
    for measure in point.measures.iter().filter(|measure| measure.skipped.is_some()) {
        said.push(format!("{}: {}.", measure.subject, measure.skipped.as_deref().unwrap_or_default()));
    }
    said
}

/// The milliseconds at the end of a path.
fn millis(path: &str) -> Option<f64> {
    path.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
