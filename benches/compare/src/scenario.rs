//! The kinds of work, as data: what is asked, by how many, at which pace, and what decides.

use crate::failure::Failure;
use crate::load::{Ask, Pace, Traffic};
use crate::serve::Served;
use crate::trial::{Trial, Work};

/// A kind of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The word that `--scenario` takes.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// What it answers.
    pub question: &'static str,
    /// What the points are along.
    pub axis: &'static str,
    /// What decides, at the last point: a field of [`crate::results::Measure`].
    pub decides: &'static str,
    /// Whether it can be asked of any server, on one path.
    pub anywhere: bool,
    /// The loads.
    pub points: Vec<Spot>,
}

/// One load.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// What it is called.
    pub label: String,
    /// Its place on the axis.
    pub x: f64,
    /// Whether it is made even if there is little time.
    pub quick: bool,
    /// What is done.
    pub trial: Trial,
}

/// What a user may choose of the loads.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The path that is asked where any will do, and how a method other than GET comes to it.
    pub path: Option<String>,
    /// Connections, in place of those that a scenario has.
    pub connections: Vec<usize>,
    /// Only what is made even if there is little time.
    pub quick: bool,
}

const WAIT: &str = "/sleep/50";
const WORK: &str = "/cpu/2000";
/// The rate of those who have a neighbour that blocks, a second.
const NEIGHBOURS: f64 = 500.0;

/// All scenarios, in the order in which they are shown.
pub fn all(choice: &Choice) -> Vec<Scenario> {
    let plain = choice.path.as_deref().unwrap_or("/plaintext");
    let mut scenarios = vec![
        Scenario {
            id: "low",
            title: "Low traffic",
            question: "With hardly anybody there, who answers sooner?",
            axis: "load",
            decides: "p50",
            anywhere: true,
            points: vec![
                spot("1 client", 1.0, quiet(Traffic::new(1, Ask::get(plain), Pace::Closed))),
                spot("1% of capacity", 2.0, quiet(Traffic::new(16, Ask::get(plain), Pace::Share(0.01)))),
            ],
        },
        Scenario {
            id: "plain",
            title: "Plain answers",
            question: "How many small answers a second, if each client asks again as soon as it has one?",
            axis: "connections",
            decides: "rate",
            anywhere: true,
            points: closed(choice, &[16, 64, 256], &[64], |n| {
                busy(Traffic::new(n, Ask::get(plain), Pace::Closed))
            }),
        },
        Scenario {
            id: "open",
            title: "Fixed rates",
            question: "How long do requests take that come whether those before were answered or not?",
            axis: "part of the slowest server's capacity",
            decides: "p99",
            anywhere: true,
            points: [(0.25, false), (0.5, true)]
                .map(|(share, quick)| {
                    let traffic = Traffic::new(64, Ask::get(plain), Pace::Share(share));
                    Spot { quick, ..spot(format!("{}% of capacity", share * 100.0), share, quiet(traffic)) }
                })
                .into(),
        },
        Scenario {
            id: "waiting",
            title: "Waiting",
            question: "How many requests can wait at once, for a database or a service?",
            axis: "connections",
            decides: "rate",
            anywhere: false,
            points: closed(choice, &[1, 16, 256, 1024], &[1, 16, 256, 1024], |n| {
                quiet(Traffic::new(n, Ask::get(WAIT), Pace::Closed))
            }),
        },
        Scenario {
            id: "cpu",
            title: "Burning CPU",
            question: "Does it matter who calls the code if the code is what takes the time?",
            axis: "connections",
            decides: "rate",
            anywhere: false,
            points: closed(choice, &[1, 16], &[16], |n| busy(Traffic::new(n, Ask::get(WORK), Pace::Closed))),
        },
        Scenario {
            id: "mixed",
            title: "Mixed work",
            question: "90 of 100 ask for little, five wait for 50 ms, five burn CPU: how many are served?",
            axis: "connections",
            decides: "rate",
            anywhere: false,
            points: closed(choice, &[64], &[64], |n| {
                let mix = vec![(90, Ask::get(plain)), (5, Ask::get(WAIT)), (5, Ask::get(WORK))];
                quiet(Traffic { connections: n, mix, pace: Pace::Closed, keep: true })
            }),
        },
        Scenario {
            id: "blocking",
            title: "Neighbours of who blocks",
            question: "One client asks for what blocks a thread for 50 ms, again and again: what of the others?",
            axis: "neighbour",
            decides: "p99",
            anywhere: false,
            points: vec![
                spot("nobody blocks", 0.0, neighbours(plain, None)),
                spot("beside /offload/50", 1.0, neighbours(plain, Some("/offload/50"))),
                spot("beside /block/50", 2.0, neighbours(plain, Some("/block/50"))),
            ],
        },
        Scenario {
            id: "fan-out",
            title: "Calls within a request",
            question: "A request makes ten calls of 50 ms at once: 50 ms, or 500?",
            axis: "connections",
            decides: "p50",
            anywhere: false,
            points: closed(choice, &[1, 6], &[1, 6], |n| Trial {
                app: Served::Gateway,
                ..quiet(Traffic::new(n, Ask::get("/fan/10/50"), Pace::Closed))
            }),
        },
        Scenario {
            id: "stream",
            title: "Streams",
            question: "How many answers a second of 100 chunks, each made when the one before it has left?",
            axis: "connections",
            decides: "rate",
            anywhere: false,
            points: closed(choice, &[16], &[16], |n| {
                busy(Traffic::new(n, Ask::get("/stream/100"), Pace::Closed))
            }),
        },
        Scenario {
            id: "idle",
            title: "Idle connections",
            question: "What does a connection cost that is open and does nothing?",
            axis: "connections",
            decides: "idle_bytes",
            anywhere: true,
            points: closed(choice, &[1000], &[1000], |connections| Trial {
                app: Served::Demo,
                work: Work::Idle { connections, ask: Ask::get(plain) },
                saturates: false,
            }),
        },
        Scenario {
            id: "short",
            title: "Short connections",
            question: "How many a second, if each request comes on a connection of its own?",
            axis: "connections",
            decides: "rate",
            anywhere: true,
            points: closed(choice, &[16], &[16], |n| {
                quiet(Traffic { keep: false, ..Traffic::new(n, Ask::get(plain), Pace::Closed) })
            }),
        },
    ];
    if choice.quick {
        scenarios.iter_mut().for_each(|scenario| scenario.points.retain(|point| point.quick));
    }
    scenarios
}

/// Those that were asked for, in the order of all. Unless any was, those are left out that want the demo's routes if
/// the servers are not known to have them.
pub fn chosen(choice: &Choice, ids: &[String], strangers: bool) -> Result<Vec<Scenario>, Failure> {
    let mut scenarios = all(choice);
    if let Some(id) = ids.iter().find(|id| scenarios.iter().all(|scenario| scenario.id != **id)) {
        let known: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
        return Err(Failure::Scenario { id: id.clone(), known: known.join(", ") });
    }
    scenarios.retain(|scenario| match ids {
        [] => scenario.anywhere || !strangers,
        ids => ids.iter().any(|id| id == scenario.id),
    });
    Ok(scenarios)
}

fn spot(label: impl Into<String>, x: f64, trial: Trial) -> Spot {
    Spot { label: label.into(), x, quick: true, trial }
}

/// A point for each number of connections; the user's, or else the scenario's.
fn closed(choice: &Choice, all: &[usize], quick: &[usize], trial: impl Fn(usize) -> Trial) -> Vec<Spot> {
    let own = choice.connections.is_empty();
    let numbers = if own { all } else { &choice.connections };
    let point = |n: &usize| {
        let label = format!("{n} connection{}", if *n == 1 { "" } else { "s" });
        Spot { quick: !own || quick.contains(n), ..spot(label, *n as f64, trial(*n)) }
    };
    numbers.iter().map(point).collect()
}

/// Load that leaves the processor idle at times.
fn quiet(traffic: Traffic) -> Trial {
    Trial { app: Served::Demo, work: Work::Load(vec![traffic]), saturates: false }
}

/// Load that takes all the processor has.
fn busy(traffic: Traffic) -> Trial {
    Trial { saturates: true, ..quiet(traffic) }
}

/// Quick requests at a fixed rate, and perhaps one client that asks for something else again and again.
fn neighbours(plain: &str, beside: Option<&str>) -> Trial {
    let mut traffics = vec![Traffic::new(16, Ask::get(plain), Pace::Open(NEIGHBOURS))];
    traffics.extend(beside.map(|path| Traffic::new(1, Ask::get(path), Pace::Closed)));
    Trial { app: Served::Demo, work: Work::Load(traffics), saturates: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_each_has_points_even_if_there_is_little_time() {
        let scenarios = all(&Choice { quick: true, ..Choice::default() });
        let mut ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), scenarios.len());
        assert!(scenarios.iter().all(|scenario| !scenario.points.is_empty()));
    }

    #[test]
    fn a_scenario_that_there_is_none_of_is_refused_with_those_that_there_are() {
        let failure =
            chosen(&Choice::default(), &["plain".into(), "fancy".into()], false).expect_err("fancy");
        assert_eq!(failure.status(), 5);
        assert!(failure.to_string().contains("'fancy'") && failure.to_string().contains("waiting, cpu"));
    }

    #[test]
    fn strangers_are_asked_what_anybody_can_be_asked() {
        let ids = |ids: &[&str], strangers| -> Vec<&str> {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            let scenarios = chosen(&Choice::default(), &ids, strangers).expect("they are known");
            scenarios.iter().map(|scenario| scenario.id).collect()
        };
        assert_eq!(ids(&[], true), ["low", "plain", "open", "idle", "short"]);
        assert_eq!(ids(&["waiting", "low"], true), ["low", "waiting"]);
        assert_eq!(ids(&[], false).len(), all(&Choice::default()).len());
    }

    #[test]
    fn connections_that_were_chosen_take_the_place_of_others() {
        let choice = Choice { connections: vec![3, 1], quick: true, path: None };
        let scenarios = chosen(&choice, &["plain".into()], false).expect("it is known");
        let labels: Vec<&str> = scenarios[0].points.iter().map(|point| point.label.as_str()).collect();
        assert_eq!(labels, ["3 connections", "1 connection"]);
    }
}
