//! Explains the figures of a scenario. Each sentence is computed from the figures, and is left out where they do not
//! support it.

use crate::figure::{Figure, IDLE, P50, RATE};
use crate::format::{bytes, list, number, time};
use crate::results::{Measure, Point, Scenario};
use crate::winners::{differ, ranked};

/// A server that holds this share of the clients at once is taken to hold all of them.
const ALL: f64 = 0.8;
/// A latency is a stall if it is at least this share of the blocking time, and this many times the undisturbed latency.
const STALL: (f64, f64) = (0.5, 3.0);
/// A measurement is disturbed if other programs use more than this share of the cores.
const DISTURBED: f64 = 0.2;
/// More servers than this are not explained in a sentence each.
const MANY: usize = 3;
/// CPU times that differ by less than this share are equal.
const EQUAL: f64 = 0.1;

/// The explanation of a scenario, at its last point.
pub fn of(scenario: &Scenario) -> String {
    let Some(point) = scenario.points.last() else { return String::new() };
    let mut sentences = match scenario.id.as_str() {
        "low" | "open" => latency(scenario, point),
        "waiting" | "wait" => waiting(point),
        "cpu" => cpu_bound(point),
        _ if scenario.decides == "cpu" => cpu_bound(point),
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

/// The highest and lowest rate, and whether CPU time or waiting explains the difference.
fn rate(point: &Point) -> Vec<String> {
    let ranked = ranked(RATE, point);
    let (Some((best, most)), Some((worst, least))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    if ranked.len() == 1 {
        let (rate, cpu) = (number(most.median), time(best.cpu().median));
        return vec![format!(
            "{} answers {rate} requests per second, at {cpu} of CPU time each.",
            best.subject
        )];
    }
    if !differ(most, least) {
        return vec![format!(
            "The servers do not differ: each answers about {} requests per second.",
            number(most.median)
        )];
    }
    if least.median <= 0.0 {
        return vec![format!(
            "{} answers {} requests per second, {} none.",
            best.subject,
            number(most.median),
            worst.subject
        )];
    }
    let (cheap, dear) = (best.cpu().median, worst.cpu().median);
    let mut sentences = vec![format!(
        "{} answers {} requests per second, {} times as many as {} ({}).",
        best.subject,
        number(most.median),
        number(most.median / least.median),
        worst.subject,
        number(least.median)
    )];
    if best.generator_bound || worst.generator_bound {
        return sentences;
    }
    let by_cpu = dear / cheap.max(1e-9) > 1.0 + (most.median / least.median - 1.0) / 2.0;
    sentences.push(if by_cpu {
        let kernel = worst.cpu_system.median - best.cpu_system.median;
        let place = match (best.user_share(), worst.user_share()) {
            (Some(_), Some(_)) if kernel > (dear - cheap) / 2.0 => "; most of the difference is kernel time",
            (Some(_), Some(_)) => "; most of the difference is in the server's own code",
            _ => "",
        };
        format!(
            "A request takes {} of CPU time instead of {}{place}, with {} context switches per request instead of {}.",
            time(cheap),
            time(dear),
            number(best.switches.median),
            number(worst.switches.median)
        )
    } else {
        format!(
            "CPU time is not the reason ({} per request against {}): requests wait on {}, where half take over {}.",
            time(cheap),
            time(dear),
            worst.subject,
            time(worst.latency.p50.median)
        )
    });
    sentences
}

fn latency(scenario: &Scenario, point: &Point) -> Vec<String> {
    let ranked = ranked(Figure::that_decides(scenario).unwrap_or(P50), point);
    let (Some((best, least)), Some((worst, most))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    let what = if scenario.decides == "p99" { "99th percentile of latency" } else { "median latency" };
    if ranked.len() == 1 {
        return vec![format!("On {} the {what} is {}.", best.subject, time(least.median))];
    }
    if !differ(least, most) {
        let (from, to) = (time(least.median), time(most.median));
        return vec![format!("The servers do not differ: the {what} is {from} to {to}.")];
    }
    let offered = point.offered.map(|rate| format!(" at {} requests per second", number(rate)));
    let offered = offered.unwrap_or_default();
    vec![format!(
        "The {what}{offered} is {} on {} and {} on {}: a difference of {}, which a client {}.",
        time(least.median),
        best.subject,
        time(most.median),
        worst.subject,
        time(most.median - least.median),
        if most.median - least.median < 10_000.0 { "would hardly notice" } else { "would notice" }
    )]
}

/// Applies Little's law: the number of requests in the server is the rate times the time that each stays.
fn waiting(point: &Point) -> Vec<String> {
    let Some(wait) = millis(&point.path) else { return Vec::new() };
    let at_once = |measure: &Measure| measure.rate.median * wait / 1e3;
    let clients = point.connections as f64;
    let (all, few): (Vec<&Measure>, Vec<&Measure>) =
        measured(point).partition(|measure| at_once(measure) >= clients * ALL);
    let mut sentences = Vec::new();
    if !all.is_empty() {
        let most = all.iter().map(|measure| measure.threads.max).fold(0.0, f64::max);
        let cost = if most < clients / 2.0 { ": a wait holds no thread" } else { "" };
        let (names, clients) = (names(&all), point.connections);
        sentences.push(format!(
            "On {names} all {clients} clients waited at once, with at most {most:.0} threads{cost}."
        ));
    }
    if few.len() > MANY {
        let held = |measure: &&Measure| format!("{} on {}", number(at_once(measure)), measure.subject);
        let held: Vec<String> = few.iter().map(held).collect();
        sentences.push(format!("Fewer than {clients} clients waited at once: {}.", list(&held)));
        return sentences;
    }
    for measure in few {
        let (held, rate) = (number(at_once(measure)), number(measure.rate.median));
        let (subject, p50) = (&measure.subject, time(measure.latency.p50.median));
        // A client that queues for a thread takes many times the wait. A client that queues for a core does not.
        sentences.push(if measure.latency.p50.median < wait * 1e3 * 2.0 {
            format!("{subject} answered {rate} requests per second; half took over {p50} instead of {wait} ms.")
        } else {
            format!(
                "On {subject} {held} of {clients} clients waited at once, with {:.0} threads. It stops at {rate} \
                 responses per second, and half of them take {p50} or more.",
                measure.threads.median
            )
        });
    }
    sentences
}

fn cpu_bound(point: &Point) -> Vec<String> {
    let mut by_cost: Vec<(&Measure, f64)> =
        measured(point).map(|measure| (measure, measure.cpu().median)).collect();
    by_cost.sort_by(|a, b| a.1.total_cmp(&b.1));
    let (Some((cheap, least)), Some((dear, most))) = (by_cost.first(), by_cost.last()) else {
        return Vec::new();
    };
    let apart = most / least.max(1e-9) - 1.0;
    if by_cost.len() == 1 {
        return vec![format!("A request takes {} of CPU time.", time(*least))];
    }
    vec![if apart < EQUAL {
        format!(
            "A request takes {} to {} of CPU time, a difference of {}%: the handler sets the cost, not the backend.",
            time(*least),
            time(*most),
            number(apart * 100.0)
        )
    } else {
        format!(
            "A request takes {} of CPU time on {} and {} on {}, {}% more.",
            time(*least),
            cheap.subject,
            time(*most),
            dear.subject,
            number(apart * 100.0)
        )
    }]
}

/// Compares the latency of the other clients beside a handler that blocks and beside one that offloads.
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
        let delayed = format!("{subject} ({} to {})", time(before), time(blocked));
        let stalls = |p99: f64| p99 > blocks * 1e3 * STALL.0 && p99 > before * STALL.1;
        match (stalls(blocked), stalls(offloaded)) {
            (false, _) => free.push(subject.to_owned()),
            (true, false) => cured.push(delayed),
            (true, true) => stalled.push(delayed),
        }
    }
    let mut sentences = Vec::new();
    if !cured.is_empty() {
        sentences.push(format!(
            "A handler that blocks delays the other clients on {} (99th percentile); offloading the call avoids it.",
            list(&cured)
        ));
    }
    if !stalled.is_empty() {
        sentences.push(format!("On {} they are delayed even if the call is offloaded.", list(&stalled)));
    }
    if !free.is_empty() {
        sentences.push(format!("On {} another thread answers the other clients.", list(&free)));
    }
    sentences
}

fn fan_out(scenario: &Scenario, point: &Point) -> Vec<String> {
    let Some(wait) = millis(&point.path) else { return Vec::new() };
    let mut sentences = Vec::new();
    if let Some(first) = scenario.points.first() {
        // Calls made one after another take the sum of their waits. Less than half of that means that they overlap.
        let calls = point.path.rsplit('/').nth(1).and_then(|calls| calls.parse().ok()).unwrap_or(1.0);
        let together = |measure: &&Measure| measure.latency.p50.median < wait * 1e3 * calls / 2.0;
        let (overlap, one_by_one): (Vec<&Measure>, Vec<&Measure>) = measured(first).partition(together);
        if !overlap.is_empty() {
            sentences.push(format!(
                "The calls of a request overlap on {}: the request takes one wait, not ten.",
                names(&overlap)
            ));
        }
        if !one_by_one.is_empty() {
            sentences.push(format!("They do not overlap on {}.", names(&one_by_one)));
        }
    }
    let queue = |measure: &&Measure| measure.latency.p50.median > wait * 1e3 * 2.0;
    let queued: Vec<&Measure> = measured(point).filter(queue).collect();
    if !queued.is_empty() {
        sentences.push(format!(
            "With {} clients, requests wait for each other on {}.",
            point.connections,
            names(&queued)
        ));
    }
    sentences
}

fn idle(point: &Point) -> Vec<String> {
    let ranked = ranked(IDLE, point);
    let (Some((best, least)), Some((worst, most))) = (ranked.first(), ranked.last()) else {
        return Vec::new();
    };
    if ranked.len() == 1 {
        return vec![format!(
            "An idle connection takes {} besides the kernel's own memory.",
            bytes(least.median)
        )];
    }
    vec![format!(
        "An idle connection takes {} on {} and {} on {}, besides the kernel's own memory; ten thousand take {} or {}.",
        bytes(least.median),
        best.subject,
        bytes(most.median),
        worst.subject,
        bytes(least.median * 1e4),
        bytes(most.median * 1e4)
    )]
}

/// Limits of the figures that a reader has to know.
fn caveats(point: &Point) -> Vec<String> {
    let mut sentences = Vec::new();
    let bound: Vec<&Measure> = measured(point).filter(|measure| measure.generator_bound).collect();
    if !bound.is_empty() {
        sentences.push(format!(
            "The generator was the bottleneck for {}; the rate is a lower bound.",
            names(&bound)
        ));
    }
    let disturbed: Vec<&Measure> = measured(point).filter(|measure| measure.disturbed > DISTURBED).collect();
    if !disturbed.is_empty() {
        let all = disturbed.len() > 1 && disturbed.len() == measured(point).count();
        let of = if all { "all servers".into() } else { names(&disturbed) };
        sentences.push(format!("Other programs disturbed the measurement of {of}."));
    }
    let wrong: Vec<&Measure> = measured(point).filter(|measure| measure.errors > 0).collect();
    if !wrong.is_empty() {
        sentences.push(format!("There were errors on {}.", names(&wrong)));
    }
    for measure in point.measures.iter().filter(|measure| measure.skipped.is_some()) {
        sentences.push(format!("{}: {}.", measure.subject, measure.skipped.as_deref().unwrap_or_default()));
    }
    sentences
}

/// The number of milliseconds at the end of a path.
fn millis(path: &str) -> Option<f64> {
    path.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests;
