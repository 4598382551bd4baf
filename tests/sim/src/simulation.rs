//! One simulation: its settings, its run and its outcome.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use gearshift_core::{Config, Handler, Report, Runtime, Service};

use crate::application::Application;
use crate::ask::Ask;
use crate::engine::SimEngine;
use crate::fault::Fault;
use crate::observer::Observer;
use crate::plan::Plan;
use crate::rules;
use crate::server::Server;
use crate::world::World;

/// The kind of backend that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Connections are tasks of one thread, which never waits for one of them: mio, tokio, async-std, smol.
    EventLoop,
    /// One or several threads, each of which stays with a connection while a handler is at work: sequential,
    /// threadpool.
    Blocking,
}

impl Flavour {
    /// Both flavours.
    pub const ALL: [Flavour; 2] = [Flavour::EventLoop, Flavour::Blocking];
}

/// A simulation that can be run: a seed, and the parts that are set instead of being drawn from the seed.
#[derive(Clone)]
pub struct Simulation {
    seed: u64,
    flavour: Flavour,
    config: Option<Config>,
    app: Option<Arc<dyn Fn() -> Arc<dyn Handler>>>,
    ask: Option<Arc<dyn Fn(u64) -> Ask>>,
    fault: Option<Fault>,
    has_no_races: bool,
    traced: bool,
}

impl Simulation {
    /// The simulation of `seed`, on an event loop, with the simulation's own application.
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            seed,
            flavour: Flavour::EventLoop,
            config: None,
            app: None,
            ask: None,
            fault: None,
            has_no_races: false,
            traced: false,
        }
    }

    /// The same with another kind of backend.
    pub fn flavour(mut self, flavour: Flavour) -> Simulation {
        self.flavour = flavour;
        self
    }

    /// The same with these settings, instead of settings drawn from the seed.
    pub fn config(mut self, config: Config) -> Simulation {
        self.config = Some(config);
        self
    }

    /// The same with another application. `make` may be called more than once.
    ///
    /// The rules then know which request a response answers, but not what it has to say. All waits must go through
    /// [`Request::runtime`](gearshift_core::Request::runtime), which has no network here.
    pub fn handler<H: Handler>(mut self, make: impl Fn() -> H + 'static) -> Simulation {
        self.app = Some(Arc::new(move || Arc::new(make())));
        self
    }

    /// The same with requests that `ask` makes from a random number. By default, another application than the
    /// simulation's own is sent `GET /`.
    pub fn requests(mut self, ask: impl Fn(u64) -> Ask + 'static) -> Simulation {
        self.ask = Some(Arc::new(ask));
        self
    }

    /// The same with a plan in which no two events race: one request a client, whose body is whole, cut, malformed or
    /// too large. Both flavours have to give the same [`Outcome::responses`].
    pub fn without_races(mut self) -> Simulation {
        self.has_no_races = true;
        self
    }

    /// The same with a fault built in.
    pub fn fault(mut self, fault: Fault) -> Simulation {
        self.fault = Some(fault);
        self
    }

    /// The same with a trace in any case. By default, there is a trace only if a rule is broken.
    pub fn traced(mut self) -> Simulation {
        self.traced = true;
        self
    }

    /// Runs the simulation. If it breaks a rule, it is run again for the trace.
    pub fn run(&self) -> Outcome {
        let outcome = self.run_once(self.traced);
        match outcome.violation.is_some() && !self.traced {
            true => self.run_once(true),
            false => outcome,
        }
    }

    fn run_once(&self, traced: bool) -> Outcome {
        let blocking = self.flavour == Flavour::Blocking;
        let mut rng = Rng::with_seed(self.seed);
        let plain = |_| Ask::get("/");
        let ask: Option<&dyn Fn(u64) -> Ask> = match (&self.app, &self.ask) {
            (_, Some(ask)) => Some(&**ask),
            (Some(_), None) => Some(&plain),
            (None, None) => None,
        };
        let plan = match self.has_no_races {
            true => Plan::draw_without_races(&mut rng),
            false => Plan::draw(&mut rng, self.config.as_ref(), ask),
        };
        let (config, workers) = (plan.config.clone(), plan.workers);
        let world = World::new(plan, rng, blocking, self.fault, traced);
        let shutdown = world.shutdown.clone();
        let is_denied = blocking && world.lock().has(Fault::DenyBlocking);
        let engine = SimEngine { world: world.clone(), threads_block: blocking && !is_denied };
        let runtime = Runtime::new(engine, &config, shutdown.clone());
        let app = match &self.app {
            Some(make) => make(),
            None => Arc::new(Application { world: world.clone() }),
        };
        let observer = Arc::new(Observer { world: world.clone(), app });
        let service = Service::new(observer, config.clone(), shutdown, runtime.clone(), world.clock());
        let mut server =
            Server::new(world.clone(), service.clone(), runtime, if blocking { workers } else { 0 });
        server.run();
        let polls = server.polls;
        let mut state = world.lock();
        if state.violation.is_none() {
            rules::check_replies(&mut state, &config);
            rules::check_report(&mut state, Report::of(&service));
            let (open, timers) = (service.connections(), state.timers.len());
            if open > 0 || timers > 0 {
                state.violate(format!("{open} connections and {timers} timers are left"));
            }
        }
        drop(state);
        drop(server);
        let mut state = world.lock();
        if state.violation.is_none() && Arc::strong_count(&service) > 1 {
            let held = Arc::strong_count(&service) - 1;
            state.violate(format!("the server is held {held} times when it has ended"));
        }
        // Wakers and jobs hold the world, so they are dropped outside its lock.
        let wakers = std::mem::take(&mut state.timers);
        let jobs = std::mem::take(&mut state.jobs);
        let stats = Stats {
            connections: state.links.iter().filter(|link| link.accepted.is_some()).count(),
            requests: state.links.iter().map(|link| link.begun).sum(),
            responses: state.links.iter().map(|link| link.replies.complete()).sum(),
            bytes: state.links.iter().map(|link| link.read + link.written).sum(),
            events: state.events,
            polls,
            virtual_time: state.now,
        };
        let responses = state.responses();
        let violation = state.violation.clone();
        let fingerprint = state.fingerprint;
        let faulted = state.faulted;
        drop(state);
        drop((wakers, jobs));
        let trace = world.into_trace();
        Outcome {
            seed: self.seed,
            flavour: self.flavour,
            violation,
            trace,
            responses,
            stats,
            fingerprint,
            faulted,
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("seed", &self.seed)
            .field("flavour", &self.flavour)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// The outcome of a simulation.
#[derive(Clone, Debug)]
#[must_use = "it may say that a rule was broken"]
#[non_exhaustive]
pub struct Outcome {
    /// The seed of the simulation.
    pub seed: u64,
    /// The kind of backend.
    pub flavour: Flavour,
    /// The first violation of a rule, if there is one.
    pub violation: Option<String>,
    /// The trace: a line for each thing that happened, with its virtual time. Empty unless a rule was broken or
    /// [`Simulation::traced`] was called.
    pub trace: Vec<String>,
    /// What each client was answered, a line for each response: the status, what the handler read of the body, and the
    /// length of the response.
    pub responses: Vec<String>,
    /// Counts of what happened.
    pub stats: Stats,
    /// A hash of everything that happened. The same seed gives the same hash.
    pub fingerprint: u64,
    /// Whether the fault that was built in was played.
    pub faulted: bool,
}

impl Outcome {
    /// The counts, if no rule was broken.
    ///
    /// # Panics
    /// With the seed and the trace, if a rule was broken.
    pub fn unwrap(self) -> Stats {
        assert!(self.violation.is_none(), "{self}");
        self.stats
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let (seed, flavour) = (self.seed, self.flavour);
        match &self.violation {
            Some(violation) => write!(f, "seed {seed} on {flavour:?}: {violation}"),
            None => write!(f, "seed {seed} on {flavour:?}: every rule was kept"),
        }
    }
}

/// Counts of what happened in one simulation, or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that were accepted.
    pub connections: usize,
    /// Handlers that were called.
    pub requests: usize,
    /// Responses that a client received completely.
    pub responses: usize,
    /// Bytes read and written by the server.
    pub bytes: u64,
    /// Events of the simulated world.
    pub events: u64,
    /// Polls of connections and tasks.
    pub polls: u64,
    /// The duration in virtual time.
    pub virtual_time: Duration,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, more: Stats) {
        self.connections += more.connections;
        self.requests += more.requests;
        self.responses += more.responses;
        self.bytes += more.bytes;
        self.events += more.events;
        self.polls += more.polls;
        self.virtual_time += more.virtual_time;
    }
}

/// Runs the simulations of all `seeds` on both kinds of backend, and adds up their counts.
///
/// # Panics
/// At the first seed whose simulation breaks a rule, with its trace.
pub fn check(seeds: Range<u64>) -> Stats {
    let mut stats = Stats::default();
    for seed in seeds {
        for flavour in Flavour::ALL {
            stats += Simulation::new(seed).flavour(flavour).run().unwrap();
        }
    }
    stats
}

/// Runs the simulations of all `seeds` [without races](Simulation::without_races) on both kinds of backend, and
/// compares the responses.
///
/// # Panics
/// At the first seed whose simulation breaks a rule or whose responses differ, with both traces.
pub fn compare(seeds: Range<u64>) -> Stats {
    let mut stats = Stats::default();
    for seed in seeds {
        let run = |flavour| Simulation::new(seed).without_races().flavour(flavour).run();
        let outcomes = Flavour::ALL.map(run);
        if outcomes[0].responses != outcomes[1].responses {
            let traced = Flavour::ALL.map(|flavour| {
                Simulation::new(seed).without_races().flavour(flavour).traced().run().to_string()
            });
            panic!(
                "{}\nseed {seed}: {:#?} on one flavour, {:#?} on the other",
                traced.join("\n\n"),
                outcomes[0].responses,
                outcomes[1].responses
            );
        }
        outcomes.into_iter().for_each(|outcome| stats += outcome.unwrap());
    }
    stats
}
