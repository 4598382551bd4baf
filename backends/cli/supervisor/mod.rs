//! The supervisor of `--processes`: it binds the addresses once, starts the processes that serve, and watches them.
//!
//! The supervisor runs no code of the application. Its processes run the same program with the same command line. They
//! inherit the listening sockets, so they take connections from the same queues, which outlive each of them: a
//! connection that no process has accepted waits for one that does.
//!
//! | event | action |
//! | --- | --- |
//! | the start | one process is started; the others when it serves, so that a program that cannot start does so once. If it ends before it serves, the supervisor ends with its status |
//! | a process dies | another one is started, after a pause if it has not lived long (`backoff.rs`) |
//! | a process does not serve in time | it is killed |
//! | SIGHUP | each process is replaced: another one is started, and when it serves, an old one finishes its requests and ends. If the new one does not serve, the others stay |
//! | SIGTTIN, SIGTTOU | there is one process more, or one less, at least 1 and at most [`MAX_PROCESSES`] |
//! | SIGUSR1 | all processes open the files of their logs again |
//! | SIGTERM, SIGINT | with a drain delay, the processes are not ready any more until it is over; then the kernel begins no more connections, and then all processes finish their requests; the exit status is the highest of theirs |
//! | the same again, SIGQUIT | all processes end at once |
//! | a process asks to leave, because it has received SIGTERM | it is replaced |
//! | a process does not end in time | it is killed |
//!
//! No event makes the number of processes that serve smaller than it should be: an old process is told to stop only
//! when more of them serve. The messages between the two are in [`supervised`](super::supervised).
//!
//! One thread does all of this: it owns the processes, and waits for signals, for messages and for deadlines. Another
//! one only passes signals on (`incoming.rs`).

mod backoff;
mod incoming;
mod messages;
mod process;
mod program;
mod stop;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::{Config, Listener, ServeError, Server};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1};

use self::backoff::Backoff;
use self::incoming::Incoming;
use self::messages::Messages;
use self::process::{Process, State};
use self::program::{Program, make_inheritable};
use super::process_flags::MAX_PROCESSES;
use super::supervised::{Command, Message};
use super::{CANNOT_START, CUT, Settings, Status, announce, fail};
use crate::Backend;

/// The pause if the system does not let the supervisor wait.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// Runs the supervisor until all processes have ended. `config` is that of each process.
pub(super) fn run(settings: &Settings, backend: Backend, config: Config, wanted: usize) -> Status {
    let (grace, delay) = (config.graceful_timeout, config.drain_delay);
    let bound = backend.check(&config).and_then(|()| Server::bind(&settings.binds(), config));
    let server = match bound {
        Ok(server) => server,
        Err(error) => return fail(CANNOT_START, error),
    };
    announce(backend, &server, Some(wanted));
    let (listeners, ..) = server.into_parts();
    let supervisor = Supervisor::new(listeners, wanted, settings.processes.start_timeout(), grace, delay);
    match supervisor {
        Ok(mut supervisor) => Status(supervisor.run()),
        Err(error) => fail(CANNOT_START, ServeError::System(error)),
    }
}

/// See the [module](self).
struct Supervisor {
    program: Program,
    listeners: Vec<Listener>,
    signals: Incoming,
    processes: Vec<Process>,
    /// The number of processes that should serve.
    wanted: usize,
    /// The number of times that all processes were to be replaced.
    generation: u64,
    /// Whether processes of earlier generations, and those that leave, are being replaced.
    is_replacing: bool,
    /// Whether the log has told that the replacement waits.
    has_told_wait: bool,
    /// Whether a process has served.
    has_served: bool,
    backoff: Backoff,
    start_timeout: Duration,
    grace: Duration,
    /// The time between the first signal and the drain.
    drain_delay: Duration,
    /// When the drain begins whose delay has begun.
    drains_at: Option<Instant>,
    /// The highest status of the processes that have ended since a stop was requested; `None` before that.
    stop: Option<u8>,
    messages: Messages,
}

impl Supervisor {
    fn new(
        listeners: Vec<Listener>,
        wanted: usize,
        start_timeout: Duration,
        grace: Duration,
        drain_delay: Duration,
    ) -> io::Result<Supervisor> {
        listeners.iter().try_for_each(make_inheritable)?;
        Ok(Supervisor {
            program: Program::of_this_process()?,
            listeners,
            signals: Incoming::start()?,
            processes: Vec::new(),
            wanted,
            generation: 0,
            is_replacing: false,
            has_told_wait: false,
            has_served: false,
            backoff: Backoff::default(),
            start_timeout,
            grace,
            drain_delay,
            drains_at: None,
            stop: None,
            messages: Messages::new(),
        })
    }

    /// Runs until all processes have ended. Returns the exit status.
    fn run(&mut self) -> u8 {
        loop {
            while let Some(signal) = self.signals.next() {
                self.signalled(signal);
            }
            self.hear();
            if let Some(status) = self.reap() {
                return status;
            }
            self.kill_late();
            if self.drains_at.is_some_and(|at| at <= Instant::now()) {
                self.drain();
            }
            match &self.stop {
                Some(status) if self.processes.is_empty() => return *status,
                Some(_) => {}
                None => {
                    if let Some(status) = self.adjust() {
                        return status;
                    }
                }
            }
            let is_complete = self.count(State::Serving) >= self.wanted;
            self.messages.update(is_complete, self.is_replacing);
            self.wait();
        }
    }

    fn signalled(&mut self, signal: i32) {
        match signal {
            SIGTERM | SIGINT if self.stop.is_none() => self.begin_stop(),
            SIGTERM | SIGINT | SIGQUIT => self.cut(),
            SIGUSR1 => self.processes.iter_mut().for_each(|process| process.tell(Command::Reopen)),
            _ if self.stop.is_some() => {}
            SIGHUP => {
                log::info!("replacing the processes with {}", self.program.path().display());
                self.generation += 1;
                self.backoff = Backoff::default();
                self.replace();
                self.messages.reloading();
            }
            SIGTTIN => self.want(self.wanted.saturating_add(1)),
            SIGTTOU => self.want(self.wanted - 1),
            // A process has ended.
            _ => {}
        }
    }

    fn want(&mut self, wanted: usize) {
        if !(1..=MAX_PROCESSES).contains(&wanted) {
            return log::warn!("the number of processes stays {}", self.wanted);
        }
        log::info!("{wanted} processes instead of {}", self.wanted);
        self.wanted = wanted;
    }

    fn replace(&mut self) {
        (self.is_replacing, self.has_told_wait) = (true, false);
    }

    /// Handles the messages of the processes.
    fn hear(&mut self) {
        let mut is_leaving = false;
        for process in &mut self.processes {
            while let Some(message) = process.hear() {
                match message {
                    Message::Serving if process.state == State::Starting => {
                        log::info!("process {} serves", process.id());
                        (process.state, process.deadline, process.has_served) = (State::Serving, None, true);
                        self.has_served = true;
                    }
                    Message::Serving => {}
                    Message::Leaving if !process.is_leaving => {
                        log::info!("process {} was asked to stop and is replaced", process.id());
                        process.is_leaving = true;
                        is_leaving = true;
                    }
                    Message::Leaving => {}
                }
            }
        }
        if is_leaving && self.stop.is_none() {
            self.replace();
        }
    }

    /// Handles the processes that have ended. Returns the status with which the supervisor ends, if none has served.
    fn reap(&mut self) -> Option<u8> {
        let mut ended = Vec::new();
        self.processes.retain_mut(|process| {
            let status = process.ended();
            ended.extend(status.map(|status| (process.id(), process.state, process.age(), status)));
            // It has accepted nothing, and may not have handled signals yet.
            let is_early = !process.has_served
                && matches!(status.and_then(|status| status.signal()), Some(SIGTERM | SIGINT));
            if let (Some(highest), Some(status), false) = (&mut self.stop, status, is_early) {
                *highest = (*highest).max(exit_status(status, CUT));
            }
            status.is_none()
        });
        if self.stop.is_some() {
            return None;
        }
        for (id, state, age, status) in ended {
            match state {
                State::Draining if status.success() => log::info!("process {id} has stopped"),
                State::Draining => log::warn!("process {id} has stopped ({status})"),
                State::Starting => {
                    let why = format!("process {id} has ended before it served ({status})");
                    if let Some(status) = self.not_started(&why, age, exit_status(status, CANNOT_START)) {
                        return Some(status);
                    }
                }
                State::Serving => {
                    log::error!("process {id} has died ({status})");
                    self.died(age);
                }
            }
        }
        None
    }

    /// Handles a process that was not started, for the reason `why`, or has ended before it served. Returns the status
    /// with which the supervisor ends, if no process has served.
    fn not_started(&mut self, why: &str, age: Duration, status: u8) -> Option<u8> {
        if !self.has_served {
            log::error!("{why}");
            return Some(status);
        }
        match std::mem::take(&mut self.is_replacing) {
            true => {
                log::error!("{why}; the processes that serve stay");
                self.processes.iter_mut().for_each(|process| process.is_leaving = false);
            }
            false => log::error!("{why}"),
        }
        if self.count(State::Starting) + self.count(State::Serving) < self.wanted {
            self.died(age);
        }
        None
    }

    /// Begins the pause after a process that has died at the age of `lived`.
    fn died(&mut self, lived: Duration) {
        if let Some(pause) = self.backoff.died(lived, Instant::now()) {
            log::warn!("the next process is started in {pause:?}, because this one has not lived long");
        }
    }

    /// Kills the processes whose deadlines have passed.
    fn kill_late(&mut self) {
        let now = Instant::now();
        for process in &mut self.processes {
            if process.deadline.is_some_and(|deadline| deadline <= now) {
                let what = if process.state == State::Starting { "serve" } else { "stop" };
                log::error!("process {} is killed, because it did not {what} in time", process.id());
                process.kill();
            }
        }
    }

    fn count(&self, state: State) -> usize {
        self.processes.iter().filter(|process| process.state == state).count()
    }

    /// Whether a process has to be replaced.
    fn is_old(&self, process: &Process) -> bool {
        process.is_leaving || process.generation < self.generation
    }

    /// Starts processes that are missing or replace others, and drains those that are too many. Returns the status with
    /// which the supervisor ends, if the first process cannot be started.
    fn adjust(&mut self) -> Option<u8> {
        let (starting, serving) = (self.count(State::Starting), self.count(State::Serving));
        for _ in self.wanted..serving {
            self.drain_one();
        }
        let alive = starting + serving;
        if alive < self.wanted {
            let missing = if self.has_served { self.wanted - alive } else { 1 - alive.min(1) };
            for _ in 0..missing {
                if self.backoff.until(Instant::now()).is_some() {
                    break;
                }
                if let Some(status) = self.start() {
                    return Some(status);
                }
            }
        } else if self.is_replacing && starting == 0 {
            self.replace_next();
        }
        None
    }

    /// Starts the next process that replaces another one, or ends the replacement.
    fn replace_next(&mut self) {
        let is_left = |process: &Process| process.state == State::Serving && self.is_old(process);
        if !self.processes.iter().any(is_left) {
            log::info!("the processes are replaced");
            self.is_replacing = false;
        } else if self.count(State::Draining) < self.wanted {
            self.start();
        } else if !std::mem::replace(&mut self.has_told_wait, true) {
            log::info!("the next process is replaced when one of those before it has stopped");
        }
    }

    /// Starts a process. Returns the status with which the supervisor ends, if it is the first one and cannot be
    /// started.
    fn start(&mut self) -> Option<u8> {
        let deadline = Instant::now().checked_add(self.start_timeout);
        match Process::start(&self.program, &self.listeners, self.generation, deadline) {
            Ok(process) => {
                log::debug!("process {} was started", process.id());
                self.processes.push(process);
                None
            }
            Err(error) => {
                let why = format!("{} cannot be started: {error}", self.program.path().display());
                self.not_started(&why, Duration::ZERO, CANNOT_START)
            }
        }
    }

    /// Makes the process stop that may be missed: one that is replaced, otherwise the oldest.
    fn drain_one(&mut self) {
        let (generation, deadline) = (self.generation, self.drain_deadline());
        let serving = self.processes.iter_mut().filter(|process| process.state == State::Serving);
        let is_new = |process: &&mut Process| !process.is_leaving && process.generation == generation;
        if let Some(process) = serving.min_by_key(|process| (is_new(process), process.started)) {
            log::info!("process {} is told to stop", process.id());
            process.drain(deadline);
        }
    }

    /// Waits for a signal, for a message, or for the next deadline.
    fn wait(&self) {
        let now = Instant::now();
        let deadlines = self.processes.iter().filter_map(|process| process.deadline);
        let deadlines = deadlines.chain(self.drains_at);
        let next = deadlines.chain(self.backoff.until(now)).chain(self.messages.next()).min();
        let timeout = match next {
            // A millisecond more, because the system rounds the time down.
            Some(next) => {
                let millis = next.saturating_duration_since(now).as_millis().saturating_add(1);
                PollTimeout::from(u16::try_from(millis).unwrap_or(u16::MAX))
            }
            None => PollTimeout::NONE,
        };
        let heard = self.processes.iter().filter_map(Process::to_hear);
        let all = [self.signals.socket()].into_iter().chain(heard);
        let mut descriptors: Vec<_> = all.map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
        if let Err(error) = poll(&mut descriptors, timeout)
            && error != nix::errno::Errno::EINTR
        {
            log::error!("the supervisor cannot wait: {error}");
            thread::sleep(AFTER_FAILURE);
        }
    }
}

/// The status of a process, or `otherwise` if a signal has ended it.
fn exit_status(status: ExitStatus, otherwise: u8) -> u8 {
    status.code().map_or(otherwise, |code| u8::try_from(code).unwrap_or(otherwise))
}
