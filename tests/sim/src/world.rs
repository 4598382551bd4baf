//! The simulated world: virtual time, the events to come, and everything else that is not the server's own code.
//!
//! Time stands still while the server computes, and jumps to the next event when it waits. All choices are drawn from
//! one generator, in the order in which things happen, so that one seed has one history.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use fastrand::Rng;
use gearshift_core::clock::{Clock, ManualClock};
use gearshift_core::{BoxFuture, Job, Phase, Shutdown};

use crate::fault::Fault;
use crate::link::Link;
use crate::plan::Plan;

/// Something that happens at a point in virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client connects.
    Open(usize),
    /// A client sends its next segment.
    Act(usize),
    /// A client takes bytes that were sent to it.
    Take(usize),
    /// A transport's deadline may have passed.
    Deadline(usize),
    /// A connection is woken without a reason.
    Nudge(usize),
    /// A client that has ended its side leaves.
    Leave(usize),
    /// All clients send their next segment, whenever it was due.
    Rush,
    /// The system of a client that has left answers written bytes with a reset.
    Bounce(usize),
    /// A sleep is over.
    Timer(u64),
    /// A thread of the pool runs a job.
    Job,
    /// A graceful stop begins.
    Graceful,
    /// The stop is forced.
    Forced,
}

/// The world of one simulation.
pub(crate) struct World {
    state: Mutex<State>,
    clock: ManualClock,
    start: Instant,
    pub(crate) shutdown: Shutdown,
}

pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    serial: u64,
    pub(crate) links: Vec<Link>,
    /// Connections that wait to be accepted.
    pub(crate) backlog: std::collections::VecDeque<usize>,
    pub(crate) timers: BTreeMap<u64, Waker>,
    pub(crate) jobs: std::collections::VecDeque<Job>,
    /// Background tasks that were spawned and are not known to the scheduler yet.
    pub(crate) spawned: Vec<BoxFuture<()>>,
    pub(crate) plan_forced: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) linger: Duration,
    pub(crate) drain: u64,
    /// The limit of the bytes that wait to be sent.
    pub(crate) output: usize,
    pub(crate) lateness: Duration,
    /// Whether the server's threads block.
    pub(crate) blocking: bool,
    /// Bodies of at most this size are awaited before their requests begin, where threads block.
    pub(crate) body_buffer: usize,
    /// Whether a handler holds each of the server's threads.
    pub(crate) is_saturated: bool,
    /// When a thread last found nothing to do.
    pub(crate) idle_at: Duration,
    /// The thread that polls a connection now.
    pub(crate) thread: Option<usize>,
    /// The connection whose handler is at work on each thread.
    pub(crate) at_work: Vec<Option<usize>>,
    /// Tasks that wait for a request's body: the connection, and the number of the request.
    pub(crate) task_readers: Vec<(usize, usize)>,
    /// When the waits were last checked.
    pub(crate) checked: Duration,
    /// When the graceful stop began.
    pub(crate) stopped: Option<Duration>,
    pub(crate) is_forced: bool,
    /// The number of handlers at work when the stop was forced, and the number of exchanges that had not ended.
    pub(crate) cut_at_least: u64,
    pub(crate) cut_at_most: u64,
    /// How many of the requests that are cut may be waiting for their body.
    pub(crate) may_buffer: u64,
    /// Handlers whose response had been written when the graceful stop began.
    pub(crate) answered_before_stop: u64,
    pub(crate) events: u64,
    pub(crate) fingerprint: u64,
    trace: Option<Vec<String>>,
    pub(crate) violation: Option<String>,
    pub(crate) fault: Option<Fault>,
    /// Whether the fault has been played.
    pub(crate) faulted: bool,
}

/// More events than any simulation needs.
const MAX_EVENTS: u64 = 2_000_000;

impl World {
    pub(crate) fn new(
        plan: Plan,
        rng: Rng,
        blocking: bool,
        fault: Option<Fault>,
        traced: bool,
    ) -> Arc<World> {
        let clock = ManualClock::new(1_700_000_000);
        let mut state = State {
            now: Duration::ZERO,
            rng,
            queue: BinaryHeap::new(),
            serial: 0,
            links: Vec::new(),
            backlog: Default::default(),
            timers: BTreeMap::new(),
            jobs: Default::default(),
            spawned: Vec::new(),
            plan_forced: plan.forced,
            grace: plan.config.graceful_timeout,
            linger: plan.config.linger,
            drain: plan.config.limits.drain,
            output: plan.config.limits.output,
            lateness: plan.lateness,
            stopped: None,
            is_forced: false,
            blocking,
            body_buffer: plan.config.body_buffer,
            is_saturated: false,
            idle_at: Duration::ZERO,
            thread: None,
            at_work: vec![None; plan.workers],
            task_readers: Vec::new(),
            checked: Duration::ZERO,
            cut_at_least: 0,
            cut_at_most: 0,
            may_buffer: 0,
            answered_before_stop: 0,
            events: 0,
            fingerprint: 0,
            trace: traced.then(Vec::new),
            violation: None,
            fault,
            faulted: false,
        };
        for (at, client) in plan.clients.into_iter().enumerate() {
            state.schedule(client.opens, Event::Open(at));
            state.links.push(Link::new(client));
        }
        if let Some(at) = plan.graceful {
            state.schedule(at, Event::Graceful);
        }
        if let Some(at) = plan.rush {
            state.schedule(at, Event::Rush);
        }
        let start = clock.now();
        Arc::new(World { state: Mutex::new(state), clock, start, shutdown: Shutdown::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clock(&self) -> Clock {
        Clock::Manual(self.clock.clone())
    }

    /// Virtual time as an instant, which is what the server's code uses.
    pub(crate) fn instant(&self) -> Instant {
        self.clock.now()
    }

    /// The virtual time of an instant.
    pub(crate) fn since_start(&self, instant: Instant) -> Duration {
        instant.saturating_duration_since(self.start)
    }

    /// Sometimes lets an event happen that is nearly due, while the server is at work.
    pub(crate) fn step_sometimes(&self) {
        let mut state = self.lock();
        let soon = state.now + Duration::from_micros(300);
        let is_due = state.queue.peek().is_some_and(|Reverse((at, ..))| *at <= soon);
        if is_due && state.rng.u8(..16) == 0 {
            drop(state);
            self.step();
        }
    }

    /// Lets the next event happen. `false` if there is none.
    pub(crate) fn step(&self) -> bool {
        let mut wake = Vec::new();
        let mut job = None;
        let mut phase = None;
        {
            let mut state = self.lock();
            let Some(Reverse((at, _, event))) = state.queue.pop() else { return false };
            self.clock.advance(at.saturating_sub(state.now));
            if at > state.now {
                state.now = at;
                state.links.iter_mut().for_each(|link| link.idle_polls = 0);
            }
            state.events += 1;
            if state.events > MAX_EVENTS {
                state.violate("the simulation does not end");
                return false;
            }
            match event {
                Event::Open(link) => state.open(link),
                Event::Act(link) => state.act(link, &mut wake),
                Event::Take(link) => state.take(link, &mut wake),
                Event::Deadline(link) => state.deadline(link, &mut wake),
                Event::Nudge(link) => {
                    let link = &mut state.links[link];
                    link.idle_polls = 0;
                    link.wants_read &= link.read_waker.is_none();
                    wake.extend(link.read_waker.take());
                }
                Event::Leave(link) => state.leave(link, &mut wake),
                Event::Rush => {
                    for link in 0..state.links.len() {
                        if state.links[link].accepted.is_some() {
                            state.act(link, &mut wake);
                        }
                    }
                }
                Event::Bounce(link) => state.reset(link, &mut wake),
                Event::Timer(id) => wake.extend(state.timers.remove(&id)),
                Event::Job => job = state.jobs.pop_front(),
                Event::Graceful => phase = Some(Phase::Graceful),
                Event::Forced => phase = Some(Phase::Forced),
            }
        }
        wake.into_iter().for_each(Waker::wake);
        if let Some(job) = job {
            job();
        }
        match phase {
            Some(Phase::Graceful) => self.stop(),
            Some(Phase::Forced) => self.force(),
            _ => {}
        }
        true
    }

    /// Begins a graceful stop, unless one has begun.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.lock();
            if state.stopped.is_some() {
                return;
            }
            state.note(format_args!("a graceful stop begins"));
            state.stopped = Some(state.now);
            let forced = state.plan_forced.unwrap_or(state.grace).min(state.grace);
            let at = state.now + forced;
            state.schedule(at, Event::Forced);
            let mut answered = 0;
            for link in &mut state.links {
                link.arrived_at_stop = link.asks_arrived();
                answered += link.ended.min(link.tap.complete()) as u64;
                link.idle_polls = 0;
            }
            state.answered_before_stop = answered;
            if state.has(Fault::MissStop) {
                return;
            }
        }
        self.shutdown.graceful();
    }

    fn force(&self) {
        {
            let mut state = self.lock();
            state.is_forced = true;
            let (mut at_least, mut at_most, mut open) = (0, 0, 0);
            // A request whose body is on its way counts too, although its handler has not begun.
            let may_buffer = u64::from(state.blocking);
            for link in &mut state.links {
                link.idle_polls = 0;
                if link.is_open() {
                    open += 1;
                    link.forced = true;
                    at_least += u64::from(link.is_handled());
                    at_most += u64::from(link.begun > link.tap.complete()).max(may_buffer);
                } else if link.accepted.is_none() {
                    link.forced = true;
                }
            }
            state.cut_at_least = at_least;
            state.cut_at_most = at_most;
            state.may_buffer = may_buffer * open;
            if open > 0 {
                state.note(format_args!("the stop is forced, with {open} connections open"));
                if state.has(Fault::MissForce) {
                    return;
                }
            }
        }
        self.shutdown.force();
    }

    pub(crate) fn into_trace(self: Arc<World>) -> Vec<String> {
        self.lock().trace.take().unwrap_or_default()
    }
}

impl State {
    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at.max(self.now), self.serial, event)));
    }

    /// Writes a line of the trace, if there is one.
    pub(crate) fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            let now = self.now;
            trace.push(format!("{:>12.6} {line}", now.as_secs_f64()));
        }
    }

    pub(crate) fn mix(&mut self, what: u64) {
        let mixed = self.fingerprint ^ what ^ (self.now.as_nanos() as u64).rotate_left(17);
        self.fingerprint = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    /// Records that a rule was broken. The first violation is kept.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    /// Whether `fault` is to be played now: once.
    pub(crate) fn plays(&mut self, fault: Fault) -> bool {
        if self.fault != Some(fault) || self.faulted {
            return false;
        }
        self.note(format_args!("the fault is played: {fault:?}"));
        self.faulted = true;
        true
    }

    /// Whether `fault` is to be played: always.
    pub(crate) fn has(&mut self, fault: Fault) -> bool {
        self.faulted |= self.fault == Some(fault);
        self.fault == Some(fault)
    }

    fn deadline(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let now = self.now;
        let link = &mut self.links[at];
        if link.deadline_event != Some(now) {
            return;
        }
        link.deadline_event = None;
        match link.deadline {
            Some(deadline) if deadline <= now => {
                wake.extend(link.read_waker.take());
                wake.extend(link.write_waker.take());
                self.note(format_args!("[{at}] has a deadline that passes"));
            }
            Some(deadline) => self.arm(at, deadline),
            None => {}
        }
    }

    /// Schedules the event of a deadline, unless an earlier one is scheduled.
    pub(crate) fn arm(&mut self, at: usize, deadline: Duration) {
        let late = match self.lateness.as_micros() as u64 {
            0 => Duration::ZERO,
            max => Duration::from_micros(self.rng.u64(..=max)),
        };
        let when = (deadline + late).max(self.now);
        let link = &mut self.links[at];
        if link.deadline_event.is_none_or(|event| event > when) {
            link.deadline_event = Some(when);
            self.schedule(when, Event::Deadline(at));
        }
    }

    /// Wakes the reader of a connection that has become readable.
    pub(crate) fn readable(&mut self, at: usize, wake: &mut Vec<Waker>) {
        self.links[at].idle_polls = 0;
        if self.plays(Fault::LoseReadWake) {
            self.links[at].read_waker = None;
        }
        let link = &mut self.links[at];
        if let Some(waker) = link.read_waker.take() {
            link.wants_read = false;
            wake.push(waker);
        }
    }

    /// Wakes the writer of a connection that has become writable.
    pub(crate) fn writable(&mut self, at: usize, wake: &mut Vec<Waker>) {
        self.links[at].idle_polls = 0;
        if self.links[at].write_waker.is_some() && self.plays(Fault::LoseWriteWake) {
            self.links[at].write_waker = None;
        }
        wake.extend(self.links[at].write_waker.take());
    }
}

impl State {
    /// The number of a new timer.
    pub(crate) fn next_timer(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The handler of this connection is no longer at work on a thread.
    pub(crate) fn thread_is_free_of(&mut self, at: usize) {
        self.at_work.iter_mut().filter(|on| **on == Some(at)).for_each(|on| *on = None);
    }

    /// The maximum of bytes that may wait to be sent on a connection: the limit, and what one response may add to it.
    pub(crate) fn max_output(&self, at: usize) -> usize {
        let link = &self.links[at];
        if link.client.is_mangled {
            // The size of its responses may be among the bytes that were changed.
            return usize::MAX;
        }
        let largest = link.client.asks.iter().map(|written| {
            let answer = written.ask.action.map_or(usize::MAX / 4, |action| action.size + 1_000);
            answer.max(written.ask.body.len() + 1_000)
        });
        self.output + largest.max().unwrap_or(0) + 16 * 1024
    }

    /// A line for each response that a client received.
    pub(crate) fn responses(&self) -> Vec<String> {
        let links = self.links.iter().enumerate();
        links
            .flat_map(|(at, link)| link.replies.finals.iter().map(move |reply| format!("[{at}] {reply}")))
            .collect()
    }

    /// Whether a read overlooks bytes that had arrived when the stop began: the fault `ForgetAtStop`.
    pub(crate) fn plays_at_stop(&mut self, at: usize) -> bool {
        let link = &self.links[at];
        link.client.is_clean && !link.arrived.is_empty() && self.plays(Fault::ForgetAtStop)
    }
}
