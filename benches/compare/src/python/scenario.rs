//! The scenarios, which are the same for each application: its five routes.

use super::app::App;
use crate::failure::Failure;
use crate::load::{Pacing, Request, Traffic};
use crate::results;
use crate::scenario::{LoadPoint, Scenario};
use crate::serve::Application;
use crate::trial::{Trial, Workload};

/// Number of connections of each load.
const CONNECTIONS: [usize; 4] = [1, 16, 64, 256];
/// The same with `--quick`.
const QUICK: [usize; 1] = [64];
/// Length of the body of `/echo`, in bytes.
const ECHO: usize = 10 << 10;
/// Length of the body of `/upload`, in bytes.
const UPLOAD: usize = 1_000_000;

/// What the scenarios of all applications have in common.
struct Kind {
    id: &'static str,
    title: &'static str,
    question: &'static str,
    decides: &'static str,
    request: fn() -> Request,
    /// Whether responses come at once, so that the server's core is busy.
    saturates: bool,
}

const KINDS: [Kind; 5] = [
    Kind {
        id: "plaintext",
        title: "plain responses",
        question: "How much CPU time does a small response take?",
        decides: "cpu",
        request: || Request::get("/plaintext"),
        saturates: true,
    },
    Kind {
        id: "json",
        title: "JSON",
        question: "How much CPU time does a small response take that is serialised as JSON?",
        decides: "cpu",
        request: || Request::get("/json"),
        saturates: true,
    },
    Kind {
        id: "wait",
        title: "waits of 10 ms",
        question: "How many requests per second, if each waits for 10 ms?",
        decides: "rate",
        request: || Request::get("/wait/10"),
        saturates: false,
    },
    Kind {
        id: "echo",
        title: "echo of 10 KiB",
        question: "How much CPU time does a request take whose body of 10 KiB is sent back?",
        decides: "cpu",
        request: || Request::post("/echo", vec![b'x'; ECHO]),
        saturates: true,
    },
    Kind {
        id: "upload",
        title: "uploads of 1 MB",
        question: "How much CPU time does a request take with a body of 1 MB?",
        decides: "cpu",
        request: || Request::post("/upload", vec![b'x'; UPLOAD]),
        saturates: true,
    },
];

/// The scenarios with the given ids, or all if `ids` is empty. `connections` replaces the numbers of
/// connections unless it is empty.
///
/// # Errors
/// [`Failure::Scenario`] for an unknown id.
pub fn chosen(ids: &[String], connections: &[usize], quick: bool) -> Result<Vec<Scenario>, Failure> {
    if let Some(id) = ids.iter().find(|id| KINDS.iter().all(|kind| kind.id != **id)) {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.id).collect();
        return Err(Failure::Scenario { id: id.clone(), known: known.join(", ") });
    }
    let numbers = match (connections, quick) {
        ([], true) => &QUICK,
        ([], false) => CONNECTIONS.as_slice(),
        (own, _) => own,
    };
    let is_chosen = |kind: &&Kind| ids.is_empty() || ids.iter().any(|id| id == kind.id);
    Ok(KINDS.iter().filter(is_chosen).map(|kind| of_kind(kind, numbers)).collect())
}

/// The results of a scenario with an application: the id and the title get the name of the application.
pub(super) fn named(app: App, scenario: results::Scenario) -> results::Scenario {
    let id = format!("{}-{}", app.name(), scenario.id);
    let title = format!("{}: {}", app.title(), scenario.title);
    results::Scenario { id, title, ..scenario }
}

/// One request of each of the scenarios, to check that a server answers them.
pub(super) fn requests(scenarios: &[Scenario]) -> Vec<&Request> {
    scenarios
        .iter()
        .filter_map(|scenario| scenario.points.first())
        .flat_map(|point| point.trial.requests())
        .collect()
}

/// The ids and questions of the scenarios, for `--list-scenarios`.
pub(crate) fn listed() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().map(|kind| (kind.id, kind.question))
}

fn of_kind(kind: &Kind, numbers: &[usize]) -> Scenario {
    let point = |n: &usize| {
        let traffic = Traffic::new(*n, (kind.request)(), Pacing::Closed);
        let workload = Workload::Load(vec![traffic]);
        LoadPoint {
            label: format!("{n} connection{}", if *n == 1 { "" } else { "s" }),
            x: *n as f64,
            quick: true,
            // The command of the server names the application.
            trial: Trial { app: Application::Demo, workload, saturates: kind.saturates },
        }
    };
    Scenario {
        id: kind.id,
        title: kind.title,
        question: kind.question,
        axis: "connections",
        decides: kind.decides,
        any_server: false,
        points: numbers.iter().map(point).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_five_scenarios_of_four_loads() {
        let scenarios = chosen(&[], &[], false).expect("no id is unknown");
        let ids: Vec<&str> = scenarios.iter().map(|scenario| scenario.id).collect();
        assert_eq!(ids, ["plaintext", "json", "wait", "echo", "upload"]);
        assert!(scenarios.iter().all(|scenario| scenario.points.len() == 4));
        let paths: Vec<&str> = requests(&scenarios).iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, ["/plaintext", "/json", "/wait/10", "/echo", "/upload"]);
    }

    #[test]
    fn the_users_choice_replaces_the_loads() {
        let labels = |connections: &[usize], quick| -> Vec<String> {
            let scenarios = chosen(&["echo".into()], connections, quick).expect("a known id");
            scenarios[0].points.iter().map(|point| point.label.clone()).collect()
        };
        assert_eq!(labels(&[1, 8], true), ["1 connection", "8 connections"]);
        assert_eq!(labels(&[], true), ["64 connections"]);
    }

    #[test]
    fn results_have_the_name_of_the_application() {
        let scenario =
            results::Scenario { id: "echo".into(), title: "echo of 10 KiB".into(), ..Default::default() };
        let named = named(App::FastApi, scenario);
        assert_eq!((named.id.as_str(), named.title.as_str()), ("fastapi-echo", "FastAPI: echo of 10 KiB"));
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_the_known_ones() {
        let failure = chosen(&["low".into()], &[], false).expect_err("low");
        assert_eq!(failure.status(), 5);
        assert!(failure.to_string().contains("plaintext, json, wait, echo, upload"), "{failure}");
    }
}
