//! One measurement: one load on one server process, from the start of the process to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gearshift::{Backend, TestServer};

use crate::cores::Cores;
use crate::failure::Failure;
use crate::load::{self, Generators, Pacing, Request, Tally, Times, Traffic, abandoned, burst, idle, wrk};
use crate::plan::Plan;
use crate::proc::{Usage, UsageDelta};
use crate::serve::Application;
use crate::server::Server;
use crate::subject::Subject;

/// A generator or server that is busy for more than this share of the time is the bottleneck.
const SATURATED: f64 = 0.9;
/// A trial is disturbed if other programs use more than this share of the cores.
const DISTURBED: f64 = 0.1;
/// How often a disturbed trial is repeated.
const REPEATS: usize = 3;

/// One load on one application.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The application to start, for servers that are part of this program.
    pub app: Application,
    /// The load.
    pub workload: Workload,
    /// Whether the load keeps a core busy, because responses come at once.
    pub saturates: bool,
}

/// The kinds of load.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// Requests. Only the first traffic is measured; the others run beside it.
    Load(Vec<Traffic>),
    /// Clients that each send one request at the same moment. The k-th point of the curve is the latency of the k-th
    /// response.
    Burst {
        /// Number of clients.
        connections: usize,
        /// The request.
        request: Request,
    },
    /// Clients that each send one request and close their connection without the response. The latency is that of
    /// one more request, which is sent then.
    Abandoned {
        /// Number of clients that leave.
        connections: usize,
        /// The request whose response they do not wait for.
        request: Request,
        /// The request that is measured.
        then: Request,
    },
    /// Connections that send one request each and then stay idle.
    Idle {
        /// Number of connections.
        connections: usize,
        /// The request.
        request: Request,
    },
}

impl Trial {
    /// All requests of the load.
    pub fn requests(&self) -> Vec<&Request> {
        match &self.workload {
            Workload::Load(traffics) => {
                traffics.iter().flat_map(|traffic| &traffic.mix).map(|(_, request)| request).collect()
            }
            Workload::Idle { request, .. } | Workload::Burst { request, .. } => vec![request],
            Workload::Abandoned { request, then, .. } => vec![request, then],
        }
    }

    /// Whether wrk can generate this load; see [`wrk`].
    pub fn is_for_wrk(&self) -> bool {
        self.for_wrk().is_some()
    }

    /// The connections and the request, if wrk can generate the load.
    fn for_wrk(&self) -> Option<(usize, &Request)> {
        let Workload::Load(traffics) = &self.workload else { return None };
        let [Traffic { connections, mix, pacing: Pacing::Closed, keep: true }] = traffics.as_slice() else {
            return None;
        };
        let [(_, request)] = mix.as_slice() else { return None };
        (self.saturates && request.method == "GET").then_some((*connections, request))
    }
}

/// The figures of one trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Why the trial has no figures.
    pub skipped: Option<String>,
    /// Responses per second.
    pub rate: f64,
    /// Pairs of percentile and latency in µs.
    pub curve: Vec<(f64, f64)>,
    /// Failed requests.
    pub errors: u64,
    /// Share of the requests without a response at the end.
    pub unanswered: f64,
    /// Resources per request, counting the requests of the traffic beside it.
    pub each: UsageDelta,
    /// Threads of the server at the end.
    pub threads: usize,
    /// Peak resident memory of the server, in KiB.
    pub peak_kib: u64,
    /// Memory per idle connection, in bytes.
    pub idle_bytes: Option<f64>,
    /// Whether the generator was the bottleneck.
    pub generator_bound: bool,
    /// Share of the cores used by other programs.
    pub disturbed: f64,
}

/// Measures trials.
pub struct Bench {
    /// The cores of the servers and of the generator.
    pub cores: Cores,
    /// Number and length of the measurements.
    pub plan: Plan,
    /// Whether a server that fails is a skipped sample instead of the end of the comparison.
    pub lenient: bool,
    /// Whether the built-in generator polls instead of sleeping; see [`load::Generators::poll`].
    pub generator_polls: bool,
    service: TestServer,
    /// Time left for repeating disturbed trials.
    spare: Cell<Duration>,
}

impl Bench {
    /// Pins this process to the generator's cores and starts the service that the gateway calls.
    pub fn new(cores: Cores, plan: Plan) -> Result<Bench, Failure> {
        crate::cores::raise_descriptor_limit();
        if cores.are_separate() {
            crate::cores::pin(&cores.generator)?;
        }
        let backend = Backend::available()
            .iter()
            .find(|backend| !backend.threads_block())
            .copied()
            .or(Backend::default());
        let backend = backend.ok_or(Failure::Backend(gearshift::BackendError::None))?;
        let started = TestServer::start(backend, gateway::service());
        let service = started.map_err(|error| Failure::System(std::io::Error::other(error)))?;
        let spare = Cell::new(plan.spare);
        Ok(Bench { cores, plan, lenient: false, generator_polls: false, service, spare })
    }

    /// Measures a trial. If other programs disturb it, repeats it while spare time is left, and returns the best
    /// sample.
    ///
    /// # Errors
    /// Any failure that ends the comparison. A load that a server cannot handle is not an error but a skipped sample.
    pub fn measure(&self, subject: &Subject, trial: &Trial) -> Result<Sample, Failure> {
        match self.undisturbed(subject, trial) {
            Err(Failure::Server { why, .. }) if self.lenient => Ok(skipped(why)),
            Err(Failure::System(error)) if self.lenient => Ok(skipped(error.to_string())),
            measured => measured,
        }
    }

    fn undisturbed(&self, subject: &Subject, trial: &Trial) -> Result<Sample, Failure> {
        let mut best = self.once(subject, trial)?;
        for _ in 0..REPEATS {
            if best.disturbed <= DISTURBED || self.spare.get().is_zero() {
                break;
            }
            let begin = Instant::now();
            let again = self.once(subject, trial)?;
            self.spare.set(self.spare.get().saturating_sub(begin.elapsed()));
            if again.disturbed < best.disturbed {
                best = again;
            }
        }
        Ok(best)
    }

    fn once(&self, subject: &Subject, trial: &Trial) -> Result<Sample, Failure> {
        let requests = trial.requests();
        let mut server = self.start(subject, trial.app, &requests[..requests.len().min(1)])?;
        let all = self.cores.all();
        let (on, usage) = (server.addr(), || server.usage(&all));
        let sample = match &trial.workload {
            Workload::Idle { connections, request } => {
                match idle::hold(on, *connections, request, self.plan.times.window, usage) {
                    Ok(held) => self.idle_cost(&held),
                    Err(error) => skipped(format!("cannot hold {connections} connections: {error}")),
                }
            }
            Workload::Burst { connections, request } => {
                let latencies = burst::run(on, *connections, request)?;
                let curve = latencies.iter().enumerate();
                let curve = curve.map(|(index, latency)| ((index + 1) as f64, latency.as_secs_f64() * 1e6));
                Sample { curve: curve.collect(), ..at_end(&usage()) }
            }
            Workload::Abandoned { connections, request, then } => {
                let latency = abandoned::run(on, *connections, request, then)?.as_secs_f64() * 1e6;
                Sample { curve: vec![(50.0, latency), (100.0, latency)], ..at_end(&usage()) }
            }
            Workload::Load(traffics) => match trial.for_wrk().filter(|_| self.plan.wrk) {
                Some((connections, request)) => self.by_wrk(on, connections, request, usage)?,
                None => {
                    let threads = if self.cores.are_separate() { self.cores.generator.len() } else { 1 };
                    let poll = self.generator_polls && self.cores.are_separate();
                    let generators = Generators { threads, poll };
                    self.by_generator(load::put(on, traffics, self.plan.times, generators, usage)?)
                }
            },
        };
        server.check_alive()?;
        Ok(sample)
    }

    /// Starts a server, checks that it answers `requests`, and stops it.
    ///
    /// # Errors
    /// The failure of the server.
    pub fn check(&self, subject: &Subject, app: Application, requests: &[&Request]) -> Result<(), Failure> {
        self.start(subject, app, requests).map(drop)
    }

    fn start(&self, subject: &Subject, app: Application, requests: &[&Request]) -> Result<Server, Failure> {
        let upstream = (app == Application::Gateway).then_some(self.service.addr());
        Server::start(subject, app, upstream, &self.cores.server, requests)
    }

    fn by_wrk(
        &self,
        on: SocketAddr,
        connections: usize,
        request: &Request,
        usage: impl Fn() -> Usage,
    ) -> Result<Sample, Failure> {
        let warm_up = Times { window: Duration::from_millis(1), drain: Duration::ZERO, ..self.plan.times };
        load::put(
            on,
            &[Traffic::new(connections, request.clone(), Pacing::Closed)],
            warm_up,
            Generators::new(1),
            Usage::default,
        )?;
        let outcome =
            wrk::run(on, connections, request, self.plan.times.window, &self.cores.generator, usage)?;
        let rate = outcome.report.requests as f64 / (outcome.report.micros as f64 / 1e6).max(1e-9);
        Ok(Sample {
            rate,
            curve: if outcome.report.requests == 0 { Vec::new() } else { outcome.report.curve },
            errors: outcome.report.errors,
            each: each(outcome.spent, rate),
            generator_bound: self.is_generator_bound(outcome.busy, outcome.spent),
            disturbed: self.disturbed(outcome.spent, outcome.busy * outcome.threads as f64),
            ..at_end(&outcome.usage)
        })
    }

    fn by_generator(&self, outcome: load::Outcome) -> Sample {
        let rate = |tally: &Tally| tally.answered as f64 / outcome.seconds;
        let whole: f64 = outcome.tallies.iter().map(rate).sum();
        let Some(first) = outcome.tallies.first() else { return Sample::default() };
        Sample {
            rate: rate(first),
            curve: first.curve(),
            errors: outcome.tallies.iter().map(|tally| tally.errors).sum(),
            unanswered: first.unanswered_share(),
            each: each(outcome.spent, whole),
            generator_bound: self.is_generator_bound(outcome.busy, outcome.spent),
            disturbed: self.disturbed(outcome.spent, 0.0),
            ..at_end(&outcome.usage)
        }
    }

    fn idle_cost(&self, held: &idle::IdleCost) -> Sample {
        let disturbed = self.disturbed(held.spent, 0.0);
        Sample { idle_bytes: Some(held.bytes), disturbed, ..at_end(&held.usage) }
    }

    /// Share of the cores used by programs other than this one, the server and `generator` (in cores).
    fn disturbed(&self, spent: UsageDelta, generator: f64) -> f64 {
        ((spent.others / 1e6 - generator) / self.cores.all().len().max(1) as f64).max(0.0)
    }

    /// Whether the generator had no time left while the server had.
    fn is_generator_bound(&self, busy: f64, spent: UsageDelta) -> bool {
        let server = (spent.user + spent.system) / 1e6 / self.cores.server.len().max(1) as f64;
        busy > SATURATED && server < SATURATED
    }
}

fn at_end(usage: &Usage) -> Sample {
    Sample { threads: usage.threads, peak_kib: usage.peak_kib, ..Sample::default() }
}

fn each(spent: UsageDelta, rate: f64) -> UsageDelta {
    if rate > 0.0 { spent.per(rate) } else { UsageDelta::default() }
}

fn skipped(why: String) -> Sample {
    Sample { skipped: Some(why), ..Sample::default() }
}
