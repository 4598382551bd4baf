//! One comparison of Python servers from the plan to the results.

use std::time::{Duration, Instant};

use super::app::{App, Interface};
use super::claims;
use super::interpreter::Interpreter;
use super::ratios;
use super::scenario::{named, requests};
use super::server::Server;
use crate::comparison::{announcement, metadata};
use crate::cores::Cores;
use crate::failure::Failure;
use crate::load::Request;
use crate::machine;
use crate::plan::{Plan, PlanInput};
use crate::progress::Progress;
use crate::results::{self, Results};
use crate::run::{self, Run};
use crate::scenario::Scenario;
use crate::serve::Application;
use crate::server;
use crate::subject::Subject;
use crate::trial::Bench;

/// The parameters of a comparison.
#[derive(Debug)]
pub struct Comparison {
    /// The interpreter: a path, or a name to look up.
    pub python: String,
    /// The applications.
    pub apps: Vec<App>,
    /// The servers. Each is measured with the applications whose interface it serves.
    pub servers: Vec<Server>,
    /// The scenarios to run with each application.
    pub scenarios: Vec<Scenario>,
    /// Number of threads of servers that have threads.
    pub threads: usize,
    /// Whether to check the claims.
    pub claims: bool,
    /// Number of rounds.
    pub rounds: usize,
    /// Length of each measurement, if the user chose it.
    pub window: Option<Duration>,
    /// Time limit of the comparison, unless `window` is given.
    pub limit: Duration,
    /// Name and version of wrk, if it is asked for. It sleeps while it waits, so the CPU time of servers that answer
    /// one request at a time includes that of waking it.
    pub wrk: Option<String>,
}

/// An application and the servers that run it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) app: App,
    pub(super) servers: Vec<Server>,
    /// The servers as subjects, in the same order.
    pub(super) subjects: Vec<Subject>,
}

impl Comparison {
    /// Runs the comparison.
    ///
    /// # Errors
    /// [`Failure::Server`] if there is no Python or no server, and any failure that prevents a measurement.
    pub fn measure(&self) -> Result<Results, Failure> {
        let begin = Instant::now();
        let interpreter = Interpreter::ask(&self.python)?;
        let cores = Cores::split()?;
        let mut omitted = Vec::new();
        let (entries, overhead) = self.entries(&interpreter, &cores, &mut omitted)?;
        let checks = if self.claims { claims::prepared(&entries, &interpreter) } else { Vec::new() };
        let scenarios = |entry: &Entry| run::round(&self.scenarios, entry.subjects.len());
        let round = entries.iter().flat_map(scenarios).chain(claims::round(&checks)).collect();
        let input = PlanInput {
            first: Vec::new(),
            round,
            rounds: self.rounds,
            window: self.window,
            limit: self.limit.saturating_sub(begin.elapsed()),
            wrk: self.wrk.is_some(),
            overhead,
        };
        let plan = Plan::new(&input);
        let mut bench = Bench::new(cores, plan)?;
        bench.lenient = true;
        bench.generator_polls = true;
        let mut results = metadata(&plan, self.wrk.as_deref(), self.described(&entries));
        results.machine = machine::this(&bench.cores);
        if bench.cores.are_separate() {
            results.generator.push_str(", which polls instead of sleeping");
        }
        results.packages = interpreter.versions();
        results.omitted = omitted;
        let progress = Progress::new(input.round.len() * plan.rounds);
        progress.print(&announcement(&plan, &input));
        // Each scenario of each application gets its share of the time.
        let end = Instant::now() + plan.limit;
        let mut after = plan.all(&input.round);
        for entry in &entries {
            let run =
                Run { bench: &bench, subjects: &entry.subjects, end, before: None, progress: &progress };
            for scenario in &self.scenarios {
                after -=
                    plan.all(&run::round(std::slice::from_ref(scenario), entry.subjects.len())).min(after);
                progress.begin(entry.app.title());
                let measured = named(entry.app, run.scenario(scenario, 0.0, after)?);
                results.ratios.extend(ratios::of(&measured, &entry.servers));
                results.scenarios.push(measured);
            }
        }
        let run = Run { bench: &bench, subjects: &[], end, before: None, progress: &progress };
        results.claims = claims::check(&run, &checks, self.threads)?;
        Ok(results)
    }

    /// The applications with the servers that are installed and answer each route, and the mean time of a start.
    /// Reports what is left out to the user and in `omitted`.
    fn entries(
        &self,
        interpreter: &Interpreter,
        cores: &Cores,
        omitted: &mut Vec<String>,
    ) -> Result<(Vec<Entry>, Duration), Failure> {
        let mut omit = |note: String| {
            if !omitted.contains(&note) {
                eprintln!("left out: {note}");
                omitted.push(note);
            }
        };
        let plain = Request::get("/plaintext");
        let checked = [vec![&plain], requests(&self.scenarios)].concat();
        let (mut entries, mut starts, mut started) = (Vec::new(), 0, Duration::ZERO);
        for app in self.apps.iter().copied() {
            if let Some(package) = interpreter.lacks(app.package().as_slice()) {
                omit(format!("{}: {package} is not installed", app.title()));
                continue;
            }
            let mut entry = Entry { app, servers: Vec::new(), subjects: Vec::new() };
            for server in self.servers.iter().filter(|server| server.serves(app.interface())) {
                if let Some(package) = interpreter.lacks(server.packages()) {
                    omit(format!("{}: {package} is not installed", server.product()));
                    continue;
                }
                let subject = server.subject(app, &self.python, self.threads);
                let begin = Instant::now();
                match server::Server::start(&subject, Application::Demo, None, &cores.server, &checked) {
                    Ok(running) => {
                        drop(running);
                        starts += 1;
                        started += begin.elapsed();
                        entry.servers.push(*server);
                        entry.subjects.push(subject);
                    }
                    Err(failure) => omit(format!("{} with {}: {failure}", server.name(), app.title())),
                }
            }
            if !entry.servers.is_empty() {
                entries.push(entry);
            }
        }
        if starts == 0 {
            let why = "none of the servers runs any of the applications".into();
            return Err(Failure::Server { subject: self.python.clone(), why });
        }
        Ok((entries, started / starts))
    }

    /// The servers for the report: each once for each interface that it serves.
    fn described(&self, entries: &[Entry]) -> Vec<results::Subject> {
        let mut subjects = Vec::new();
        for interface in [Interface::Wsgi, Interface::Asgi] {
            let of = entries.iter().filter(|entry| entry.app.interface() == interface);
            for server in &self.servers {
                let runs = |entry: &Entry| entry.servers.iter().any(|one| one.name() == server.name());
                if of.clone().any(runs) {
                    subjects.push(results::Subject {
                        name: server.name(),
                        model: format!("{}: {}", interface.title(), server.model(interface, self.threads)),
                        command: server.describe(&self.python, interface, self.threads),
                    });
                }
            }
        }
        subjects
    }
}
