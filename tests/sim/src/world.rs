//! The simulated world: virtual time, the events to come, and everything else that is not the server's own code.
//!
//! Time stands still while the server computes, and jumps to the next event when it waits. All choices are drawn from
//! one generator, in the order in which things happen, so that one seed has one history.

mod state;

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use fastrand::Rng;
use gearshift_core::clock::{Clock, ManualClock};
use gearshift_core::{Phase, Shutdown};

use crate::fault::Fault;
use crate::plan::Plan;

pub(crate) use crate::world::state::State;

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
    /// The process of the server is stopped for this time. The clients and the network go on.
    Pause(Duration),
    /// The wall clock is set by this number of seconds.
    SetClock(i64),
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

/// The Unix time at which the simulation begins.
const START: u64 = 1_700_000_000;
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
        let clock = ManualClock::new(START);
        let state = State::new(plan, rng, blocking, fault, traced);
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
        let mut pause = None;
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
            if let (Some(until), Event::Job | Event::Graceful | Event::Forced) = (state.paused_until, event) {
                // What the process does itself has to wait.
                state.schedule(until, event);
                return true;
            }
            if matches!(event, Event::Act(_) | Event::Take(_)) {
                pause = state.pause_now();
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
                Event::Pause(length) => pause = Some(length),
                Event::SetClock(seconds) => {
                    state.clock_step += seconds;
                    state.note(format_args!("the wall clock is set by {seconds} s"));
                    self.clock.set_unix_start(START.saturating_add_signed(state.clock_step));
                }
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
        if let Some(length) = pause {
            self.pause(length);
        }
        true
    }

    /// Lets everything happen that happens while the process of the server is stopped. Then everything is due at once.
    fn pause(&self, length: Duration) {
        let until = {
            let mut state = self.lock();
            if state.paused_until.is_some() {
                return;
            }
            state.note(format_args!("the process pauses for {length:?}"));
            state.paused_until = Some(state.now + length);
            state.now + length
        };
        while self.lock().queue.peek().is_some_and(|Reverse((at, ..))| *at < until) {
            self.step();
        }
        let mut state = self.lock();
        self.clock.advance(until.saturating_sub(state.now));
        state.now = until;
        state.paused_until = None;
        state.paused += length;
        for link in &mut state.links {
            link.idle_polls = 0;
            // No thread was idle in the pause.
            link.waited_for_thread = true;
        }
        state.note(format_args!("the process goes on"));
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
                link.owed_at_stop = link.asks_begun().max(1);
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
            let (mut at_least, mut at_most, mut open, mut upgraded) = (0, 0, 0, 0);
            // A request whose body is on its way counts too, although its handler has not begun.
            let may_buffer = u64::from(state.blocking);
            // A handler that is polled now may still answer.
            let polled = state.polled;
            for (at, link) in state.links.iter_mut().enumerate() {
                link.idle_polls = 0;
                if link.is_open() {
                    open += 1;
                    link.forced = true;
                    upgraded += u64::from(link.is_upgraded || link.is_switching());
                    at_least += u64::from(link.is_handled() && polled != Some(at) || link.is_upgraded);
                    let is_cut = link.begun > link.tap.complete() || link.is_upgraded;
                    at_most += u64::from(is_cut).max(may_buffer);
                } else if link.accepted.is_none() {
                    link.forced = true;
                }
            }
            state.upgraded_at_force = upgraded;
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
