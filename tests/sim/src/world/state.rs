//! The state of the simulated world.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::task::Waker;
use std::time::Duration;

use fastrand::Rng;
use gearshift_core::{BoxFuture, Job};

use crate::fault::Fault;
use crate::link::{Link, SeenEnd};
use crate::plan::Plan;
use crate::world::Event;

/// The state of the simulated world.
pub(crate) struct State {
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(super) queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
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
    pub(crate) body_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) write_timeout: Duration,
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
    /// The connection whose body a task polls now.
    pub(crate) body_polled: Option<usize>,
    /// The connection that is polled now.
    pub(crate) polled: Option<usize>,
    /// Tasks that wait for a request's body: the connection, and the number of the request.
    pub(crate) task_readers: Vec<(usize, usize)>,
    /// When the waits were last checked.
    pub(crate) checked: Duration,
    /// The steps of the clients until the process is stopped, and for how long it will be.
    pub(super) pause_after: Option<(u64, Duration)>,
    /// The end of the current pause of the process, and the length of the earlier ones.
    pub(super) paused_until: Option<Duration>,
    pub(crate) paused: Duration,
    /// The length of the pauses when the waits were last checked.
    pub(crate) checked_paused: Duration,
    /// By how many seconds the wall clock was set.
    pub(super) clock_step: i64,
    /// When the graceful stop began.
    pub(crate) stopped: Option<Duration>,
    pub(crate) is_forced: bool,
    /// The number of handlers at work when the stop was forced, and the number of exchanges that had not ended.
    pub(crate) cut_at_least: u64,
    pub(crate) cut_at_most: u64,
    /// How many of the requests that are cut may be waiting for their body.
    pub(crate) may_buffer: u64,
    /// The number of upgraded connections when the stop was forced.
    pub(crate) upgraded_at_force: u64,
    /// Handlers whose response had been written when the graceful stop began.
    pub(crate) answered_before_stop: u64,
    pub(crate) events: u64,
    pub(crate) fingerprint: u64,
    pub(super) trace: Option<Vec<String>>,
    pub(crate) violation: Option<String>,
    pub(crate) fault: Option<Fault>,
    /// Whether the fault has been played.
    pub(crate) faulted: bool,
}

impl State {
    pub(super) fn new(plan: Plan, rng: Rng, blocking: bool, fault: Option<Fault>, traced: bool) -> State {
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
            body_timeout: plan.config.body_timeout,
            header_timeout: plan.config.header_timeout,
            write_timeout: plan.config.write_timeout,
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
            body_polled: None,
            polled: None,
            task_readers: Vec::new(),
            checked: Duration::ZERO,
            pause_after: plan.pause_after,
            paused_until: None,
            paused: Duration::ZERO,
            clock_step: 0,
            checked_paused: Duration::ZERO,
            cut_at_least: 0,
            cut_at_most: 0,
            may_buffer: 0,
            upgraded_at_force: 0,
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
        for (at, length) in plan.pauses {
            state.schedule(at, Event::Pause(length));
        }
        for (at, seconds) in plan.clock_steps {
            state.schedule(at, Event::SetClock(seconds));
        }
        if let Some(at) = plan.rush {
            state.schedule(at, Event::Rush);
        }
        state
    }

    pub(crate) fn schedule(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at.max(self.now), self.serial, event)));
    }

    /// The length of the pause that begins with this step of a client, if one does.
    pub(super) fn pause_now(&mut self) -> Option<Duration> {
        match &mut self.pause_after {
            Some((0, length)) => {
                let length = *length;
                self.pause_after = None;
                Some(length)
            }
            Some((steps, _)) => {
                *steps -= 1;
                None
            }
            None => None,
        }
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

    pub(super) fn deadline(&mut self, at: usize, wake: &mut Vec<Waker>) {
        let now = self.now;
        let link = &mut self.links[at];
        if link.deadline_event != Some(now) {
            return;
        }
        link.deadline_event = None;
        match link.deadline {
            Some(deadline) if deadline <= now => {
                // The driver reads again if it still wants to.
                link.wants_read &= link.read_waker.is_none();
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

    /// Whether the first head of a connection should have arrived.
    pub(crate) fn is_late_for_head(&self, at: usize) -> bool {
        self.links[at].accepted.is_none_or(|accepted| self.now >= accepted + self.header_timeout)
    }

    /// A line for each response that a client received.
    pub(crate) fn responses(&self) -> Vec<String> {
        let links = self.links.iter().enumerate();
        links
            .flat_map(|(at, link)| link.replies.finals.iter().map(move |reply| format!("[{at}] {reply}")))
            .collect()
    }

    /// Closes the connections in the queue, if that is the fault to be played: `DropQueueAtStop`.
    pub(crate) fn play_queue_at_stop(&mut self) {
        if self.backlog.is_empty() || !self.has(Fault::DropQueueAtStop) {
            return;
        }
        for at in std::mem::take(&mut self.backlog) {
            self.links[at].done = true;
            self.links[at].seen_end = Some(SeenEnd::Reset);
        }
    }

    /// Whether a read overlooks bytes that had arrived when the stop began: the fault `ForgetAtStop`.
    pub(crate) fn plays_at_stop(&mut self, at: usize) -> bool {
        let link = &self.links[at];
        link.client.is_clean && !link.arrived.is_empty() && self.plays(Fault::ForgetAtStop)
    }
}
