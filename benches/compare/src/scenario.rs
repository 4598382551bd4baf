//! The scenarios as data: requests, connections, rates, and the figure that decides which server is best.

use crate::failure::Failure;
use crate::load::{Pacing, Request, Traffic};
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// One kind of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The name that `--scenario` takes.
    pub id: &'static str,
    /// The title in the report.
    pub title: &'static str,
    /// The question that the scenario answers.
    pub question: &'static str,
    /// The name of the axis of [`LoadPoint::x`].
    pub axis: &'static str,
    /// The figure that decides at the last point: a field of [`crate::results::Measure`].
    pub decides: &'static str,
    /// Whether the scenario works with any server, on one path.
    pub any_server: bool,
    /// The loads, in ascending order where they have one.
    pub points: Vec<LoadPoint>,
}

/// One load of a scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadPoint {
    /// Its name in the report.
    pub label: String,
    /// Its position on the axis.
    pub x: f64,
    /// Whether `--quick` includes it.
    pub quick: bool,
    /// The measurement.
    pub trial: Trial,
}

/// The user's choices that change the scenarios.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The path for scenarios that work with any path.
    pub path: Option<String>,
    /// Numbers of connections, instead of the scenario's own.
    pub connections: Vec<usize>,
    /// Whether to keep only the loads marked `quick`.
    pub quick: bool,
}

const WAIT: &str = "/sleep/50";
const WORK: &str = "/cpu/2000";
/// Requests per second of the clients beside a blocking handler.
const NEIGHBOURS: f64 = 500.0;

/// All scenarios, in the order of the report.
pub fn all(options: &Options) -> Vec<Scenario> {
    let plain = options.path.as_deref().unwrap_or("/plaintext");
    let mut scenarios = vec![
        Scenario {
            id: "low",
            title: "Low traffic",
            question: "With almost no load, which server responds soonest?",
            axis: "load",
            decides: "p50",
            any_server: true,
            points: vec![
                load_point("1 client", 1.0, light(Traffic::new(1, Request::get(plain), Pacing::Closed))),
                load_point(
                    "1% of capacity",
                    2.0,
                    light(Traffic::new(16, Request::get(plain), Pacing::CapacityShare(0.01))),
                ),
            ],
        },
        Scenario {
            id: "plain",
            title: "Plain responses",
            question: "How many small responses per second, if each client sends its next request at once?",
            axis: "connections",
            decides: "rate",
            any_server: true,
            points: closed(options, &[16, 64, 256], &[64], |n| {
                saturating(Traffic::new(n, Request::get(plain), Pacing::Closed))
            }),
        },
        Scenario {
            id: "open",
            title: "Fixed rates",
            question: "How long do requests take that arrive at a fixed rate, even if earlier ones are unanswered?",
            axis: "share of the slowest server's capacity",
            decides: "p99",
            any_server: true,
            points: [(0.25, false), (0.5, true)]
                .map(|(share, quick)| {
                    let traffic = Traffic::new(64, Request::get(plain), Pacing::CapacityShare(share));
                    LoadPoint {
                        quick,
                        ..load_point(format!("{}% of capacity", share * 100.0), share, light(traffic))
                    }
                })
                .into(),
        },
        Scenario {
            id: "waiting",
            title: "Waiting",
            question: "How many requests can wait at once, for example for a database or a service?",
            axis: "connections",
            decides: "rate",
            any_server: false,
            points: closed(options, &[1, 16, 256, 1024], &[1, 16, 256, 1024], |n| {
                light(Traffic::new(n, Request::get(WAIT), Pacing::Closed))
            }),
        },
        Scenario {
            id: "cpu",
            title: "CPU-bound work",
            question: "Does the backend matter if the handler's own code takes the time?",
            axis: "connections",
            decides: "rate",
            any_server: false,
            points: closed(options, &[1, 16], &[16], |n| {
                saturating(Traffic::new(n, Request::get(WORK), Pacing::Closed))
            }),
        },
        Scenario {
            id: "mixed",
            title: "Mixed work",
            question: "Of 100 requests 90 are small, 5 wait for 50 ms and 5 use CPU: how many are answered?",
            axis: "connections",
            decides: "rate",
            any_server: false,
            points: closed(options, &[64], &[64], |n| {
                let mix = vec![(90, Request::get(plain)), (5, Request::get(WAIT)), (5, Request::get(WORK))];
                light(Traffic { connections: n, mix, pacing: Pacing::Closed, keep: true })
            }),
        },
        Scenario {
            id: "blocking",
            title: "Beside a blocking handler",
            question: "One client keeps calling a handler that blocks for 50 ms: how long do the other requests take?",
            axis: "other traffic",
            decides: "p99",
            any_server: false,
            points: vec![
                load_point("nothing blocks", 0.0, neighbours(plain, None)),
                load_point("beside /offload/50", 1.0, neighbours(plain, Some("/offload/50"))),
                load_point("beside /block/50", 2.0, neighbours(plain, Some("/block/50"))),
            ],
        },
        Scenario {
            id: "fan-out",
            title: "Calls within a request",
            question: "A request makes ten calls of 50 ms at once: does it take 50 ms or 500 ms?",
            axis: "connections",
            decides: "p50",
            any_server: false,
            points: closed(options, &[1, 6], &[1, 6], |n| Trial {
                app: Application::Gateway,
                ..light(Traffic::new(n, Request::get("/fan/10/50"), Pacing::Closed))
            }),
        },
        Scenario {
            id: "stream",
            title: "Streams",
            question: "How many responses of 100 chunks per second, if each chunk is made once the last one was sent?",
            axis: "connections",
            decides: "rate",
            any_server: false,
            points: closed(options, &[16], &[16], |n| {
                saturating(Traffic::new(n, Request::get("/stream/100"), Pacing::Closed))
            }),
        },
        Scenario {
            id: "idle",
            title: "Idle connections",
            question: "How much memory does an open connection take that does nothing?",
            axis: "connections",
            decides: "idle_bytes",
            any_server: true,
            points: closed(options, &[1000], &[1000], |connections| Trial {
                app: Application::Demo,
                workload: Workload::Idle { connections, request: Request::get(plain) },
                saturates: false,
            }),
        },
        Scenario {
            id: "short",
            title: "Short connections",
            question: "How many requests per second, if each is sent on a new connection?",
            axis: "connections",
            decides: "rate",
            any_server: true,
            points: closed(options, &[16], &[16], |n| {
                light(Traffic { keep: false, ..Traffic::new(n, Request::get(plain), Pacing::Closed) })
            }),
        },
    ];
    if options.quick {
        scenarios.iter_mut().for_each(|scenario| scenario.points.retain(|point| point.quick));
    }
    scenarios
}

/// The scenarios with the given ids, or all of them if `ids` is empty. With `other_servers`, servers that may lack the
/// demo's routes take part, so the default is the scenarios that work with any server.
///
/// # Errors
/// [`Failure::Scenario`] for an unknown id.
pub fn chosen(options: &Options, ids: &[String], other_servers: bool) -> Result<Vec<Scenario>, Failure> {
    let mut scenarios = all(options);
    if let Some(id) = ids.iter().find(|id| scenarios.iter().all(|scenario| scenario.id != **id)) {
        let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
        return Err(Failure::Scenario { id: id.clone(), known: known.join(", ") });
    }
    scenarios.retain(|scenario| match ids {
        [] => scenario.any_server || !other_servers,
        ids => ids.iter().any(|id| id == scenario.id),
    });
    Ok(scenarios)
}

fn load_point(label: impl Into<String>, x: f64, trial: Trial) -> LoadPoint {
    LoadPoint { label: label.into(), x, quick: true, trial }
}

/// One point per number of connections, which are the user's or the scenario's own.
fn closed(
    options: &Options,
    all: &[usize],
    quick: &[usize],
    trial: impl Fn(usize) -> Trial,
) -> Vec<LoadPoint> {
    let own = options.connections.is_empty();
    let numbers = if own { all } else { &options.connections };
    let point = |n: &usize| {
        let label = format!("{n} connection{}", if *n == 1 { "" } else { "s" });
        LoadPoint { quick: !own || quick.contains(n), ..load_point(label, *n as f64, trial(*n)) }
    };
    numbers.iter().map(point).collect()
}

/// A load that leaves the server's cores idle at times.
fn light(traffic: Traffic) -> Trial {
    Trial { app: Application::Demo, workload: Workload::Load(vec![traffic]), saturates: false }
}

/// A load that keeps the server's cores busy.
fn saturating(traffic: Traffic) -> Trial {
    Trial { saturates: true, ..light(traffic) }
}

/// Small requests at a fixed rate, and optionally one client beside them that keeps requesting another path.
fn neighbours(plain: &str, beside: Option<&str>) -> Trial {
    let mut traffics = vec![Traffic::new(16, Request::get(plain), Pacing::Open(NEIGHBOURS))];
    traffics.extend(beside.map(|path| Traffic::new(1, Request::get(path), Pacing::Closed)));
    Trial { app: Application::Demo, workload: Workload::Load(traffics), saturates: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_quick_keeps_a_point_of_each() {
        let scenarios = all(&Options { quick: true, ..Options::default() });
        let mut ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), scenarios.len());
        assert!(scenarios.iter().all(|scenario| !scenario.points.is_empty()));
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_the_known_ones() {
        let failure =
            chosen(&Options::default(), &["plain".into(), "fancy".into()], false).expect_err("fancy");
        assert_eq!(failure.status(), 5);
        assert!(failure.to_string().contains("'fancy'") && failure.to_string().contains("waiting, cpu"));
    }

    #[test]
    fn other_servers_get_the_scenarios_that_work_with_any_server() {
        let ids = |ids: &[&str], other_servers| -> Vec<&str> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let scenarios = chosen(&Options::default(), &ids, other_servers).expect("known ids");
            scenarios.iter().map(|scenario| scenario.id).collect()
        };
        assert_eq!(ids(&[], true), ["low", "plain", "open", "idle", "short"]);
        assert_eq!(ids(&["waiting", "low"], true), ["low", "waiting"]);
        assert_eq!(ids(&[], false).len(), all(&Options::default()).len());
    }

    #[test]
    fn the_users_connections_replace_the_scenarios() {
        let options = Options { connections: vec![3, 1], quick: true, path: None };
        let scenarios = chosen(&options, &["plain".into()], false).expect("a known id");
        let labels: Vec<&str> = scenarios[0].points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels, ["3 connections", "1 connection"]);
    }
}
