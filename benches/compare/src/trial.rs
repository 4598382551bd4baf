//! One measurement: one load on one server process, from its start to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gearshift::{Backend, TestServer};

use crate::cores::Cores;
use crate::failure::Failure;
use crate::load::{self, Ask, Pace, Tally, Times, Traffic, burst, idle, wrk};
use crate::plan::Plan;
use crate::proc::{Spent, Usage};
use crate::serve::Served;
use crate::server::Server;
use crate::subject::Subject;

/// From this part of its time on a processor is the bottleneck.
const ALL_THE_TIME: f64 = 0.9;
/// From this part of the processors on, others disturb a trial.
const DISTURBED: f64 = 0.1;
/// How often a trial that was disturbed is made again.
const REPEATS: usize = 3;

/// What is put on a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The application, of those of this program.
    pub app: Served,
    /// The load.
    pub work: Work,
    /// Whether answers come at once, so that a processor is the limit.
    pub saturates: bool,
}

/// What is done to a server.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Requests. What is measured is the first; the others are beside it.
    Load(Vec<Traffic>),
    /// Clients that ask once, all at the same moment. The curve has one point for each, the first that is answered
    /// first.
    Burst {
        /// How many.
        connections: usize,
        /// What is asked.
        ask: Ask,
    },
    /// Connections that are opened, asked once, and left alone.
    Idle {
        /// How many.
        connections: usize,
        /// What is asked.
        ask: Ask,
    },
}

impl Trial {
    /// Everything that is asked for.
    pub fn asks(&self) -> Vec<&Ask> {
        match &self.work {
            Work::Load(traffics) => {
                traffics.iter().flat_map(|traffic| &traffic.mix).map(|(_, ask)| ask).collect()
            }
            Work::Idle { ask, .. } | Work::Burst { ask, .. } => vec![ask],
        }
    }

    /// Whether wrk can make this load, and makes it well: see [`wrk`].
    pub fn is_for_wrk(&self) -> bool {
        self.for_wrk().is_some()
    }

    /// The connections, and what is asked on them, if wrk can do it.
    fn for_wrk(&self) -> Option<(usize, &Ask)> {
        let Work::Load(traffics) = &self.work else { return None };
        let [Traffic { connections, mix, pace: Pace::Closed, keep: true }] = traffics.as_slice() else {
            return None;
        };
        let [(_, ask)] = mix.as_slice() else { return None };
        (self.saturates && ask.method == "GET").then_some((*connections, ask))
    }
}

/// What came of a trial.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Why there is nothing else.
    pub skipped: Option<String>,
    /// Answers a second.
    pub rate: f64,
    /// Latencies in µs.
    pub curve: Vec<(f64, f64)>,
    /// What was no success.
    pub errors: u64,
    /// The part of all requests that had no answer at the end.
    pub unanswered: f64,
    /// What each request cost, those beside it included.
    pub each: Spent,
    /// Threads at the end.
    pub threads: usize,
    /// The most memory, in KiB.
    pub peak_kib: u64,
    /// What each idle connection took.
    pub idle_bytes: Option<f64>,
    /// Whether the generator was the bottleneck.
    pub generator_bound: bool,
    /// The part of the processors that others had.
    pub disturbed: f64,
}

/// Where trials are made.
pub struct Bench {
    /// Who may use which processors.
    pub cores: Cores,
    /// How often and for how long.
    pub plan: Plan,
    service: TestServer,
    /// What is left of the time for trials that were disturbed.
    spare: Cell<Duration>,
}

impl Bench {
    /// Takes the generator's processors for this process, and starts the service that gateways call.
    pub fn new(cores: Cores, plan: Plan) -> Result<Bench, Failure> {
        crate::cores::lift_descriptor_limit();
        if cores.apart() {
            crate::cores::pin(&cores.generator)?;
        }
        let patient = |backend: &&Backend| !["sequential", "threadpool"].contains(&backend.name());
        let backend = Backend::available().iter().find(patient).copied().or(Backend::default());
        let backend = backend.ok_or(Failure::Backend(gearshift::BackendError::None))?;
        let started = TestServer::start(backend, gateway::service);
        let service = started.map_err(|error| Failure::System(std::io::Error::other(error)))?;
        Ok(Bench { cores, plan, service, spare: Cell::new(plan.spare) })
    }

    /// Makes a trial; again, if others had too much of the machine meanwhile, as long as there is time for that.
    ///
    /// # Errors
    /// What ends the comparison as a whole; what a server does not bear is an outcome.
    pub fn take(&self, subject: &Subject, trial: &Trial) -> Result<Taken, Failure> {
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

    fn once(&self, subject: &Subject, trial: &Trial) -> Result<Taken, Failure> {
        let asks = trial.asks();
        let mut server = self.start(subject, trial.app, &asks[..asks.len().min(1)])?;
        let all = self.cores.all();
        let (on, usage) = (server.addr(), || server.usage(&all));
        let taken = match &trial.work {
            Work::Idle { connections, ask } => {
                match idle::hold(on, *connections, ask, self.plan.times.window, usage) {
                    Ok(held) => self.held(&held),
                    Err(error) => skipped(format!("does not hold {connections} connections: {error}")),
                }
            }
            Work::Burst { connections, ask } => {
                let latencies = burst::run(on, *connections, ask)?;
                let curve = latencies.iter().enumerate();
                let curve = curve.map(|(index, latency)| ((index + 1) as f64, latency.as_secs_f64() * 1e6));
                Taken { curve: curve.collect(), ..seen(&usage()) }
            }
            Work::Load(traffics) => match trial.for_wrk().filter(|_| self.plan.wrk) {
                Some((connections, ask)) => self.by_wrk(on, connections, ask, usage)?,
                None => {
                    let threads = if self.cores.apart() { self.cores.generator.len() } else { 1 };
                    self.counted(load::put(on, traffics, self.plan.times, threads, usage)?)
                }
            },
        };
        server.check_alive()?;
        Ok(taken)
    }

    /// Starts a server, has it answer these, and stops it.
    ///
    /// # Errors
    /// What it does not do of that.
    pub fn check(&self, subject: &Subject, app: Served, asks: &[&Ask]) -> Result<(), Failure> {
        self.start(subject, app, asks).map(drop)
    }

    fn start(&self, subject: &Subject, app: Served, asks: &[&Ask]) -> Result<Server, Failure> {
        let upstream = (app == Served::Gateway).then_some(self.service.addr());
        Server::start(subject, app, upstream, &self.cores.server, asks)
    }

    fn by_wrk(
        &self,
        on: SocketAddr,
        connections: usize,
        ask: &Ask,
        usage: impl Fn() -> Usage,
    ) -> Result<Taken, Failure> {
        let warm_up = Times { window: Duration::from_millis(1), drain: Duration::ZERO, ..self.plan.times };
        load::put(on, &[Traffic::new(connections, ask.clone(), Pace::Closed)], warm_up, 1, Usage::default)?;
        let made = wrk::run(on, connections, ask, self.plan.times.window, &self.cores.generator, usage)?;
        let rate = made.found.requests as f64 / (made.found.micros as f64 / 1e6).max(1e-9);
        Ok(Taken {
            rate,
            curve: if made.found.requests == 0 { Vec::new() } else { made.found.curve },
            errors: made.found.errors,
            each: each(made.spent, rate),
            generator_bound: self.is_generator_bound(made.busy, made.spent),
            disturbed: self.disturbed(made.spent, made.busy * made.threads as f64),
            ..seen(&made.usage)
        })
    }

    fn counted(&self, outcome: load::Outcome) -> Taken {
        let rate = |tally: &Tally| tally.answered as f64 / outcome.seconds;
        let whole: f64 = outcome.tallies.iter().map(rate).sum();
        let Some(first) = outcome.tallies.first() else { return Taken::default() };
        Taken {
            rate: rate(first),
            curve: first.curve(),
            errors: outcome.tallies.iter().map(|tally| tally.errors).sum(),
            unanswered: first.unanswered_part(),
            each: each(outcome.spent, whole),
            generator_bound: self.is_generator_bound(outcome.busy, outcome.spent),
            disturbed: self.disturbed(outcome.spent, 0.0),
            ..seen(&outcome.usage)
        }
    }

    fn held(&self, held: &idle::Held) -> Taken {
        let disturbed = self.disturbed(held.spent, 0.0);
        Taken { idle_bytes: Some(held.bytes), disturbed, ..seen(&held.usage) }
    }

    /// The part of all processors that neither we had nor the server, nor another generator.
    fn disturbed(&self, spent: Spent, generator: f64) -> f64 {
        ((spent.others / 1e6 - generator) / self.cores.all().len().max(1) as f64).max(0.0)
    }

    /// Says whether the generator had no time left while the server had.
    fn is_generator_bound(&self, busy: f64, spent: Spent) -> bool {
        let server = (spent.user + spent.system) / 1e6 / self.cores.server.len().max(1) as f64;
        busy > ALL_THE_TIME && server < ALL_THE_TIME
    }
}

fn seen(usage: &Usage) -> Taken {
    Taken { threads: usage.threads, peak_kib: usage.peak_kib, ..Taken::default() }
}

fn each(spent: Spent, rate: f64) -> Spent {
    if rate > 0.0 { spent.per(rate) } else { Spent::default() }
}

fn skipped(why: String) -> Taken {
    Taken { skipped: Some(why), ..Taken::default() }
}
