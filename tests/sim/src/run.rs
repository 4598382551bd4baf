//! The simulated server: accepts, polls what was woken in any order, resumes what is parked, and lets time go on when
//! nothing is left to do. It is what a backend is, without threads, sockets or a clock.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gearshift_core::{BoxFuture, Drive, Phase, Runtime, Service, Wire, drive};

use crate::fault::Fault;
use crate::rules;
use crate::transport::SimTransport;
use crate::world::{Event, World};

/// A server of one flavour, and the world around it.
pub(crate) struct Server {
    pub(crate) world: Arc<World>,
    pub(crate) service: Arc<Service>,
    pub(crate) runtime: Runtime,
    workers: usize,
    tasks: Vec<Option<Entry>>,
    woken: Arc<Mutex<Vec<usize>>>,
    parked: Vec<Parked>,
    pub(crate) polls: u64,
}

/// Something to poll.
struct Entry {
    task: Task,
    waker: Arc<TaskWaker>,
}

enum Task {
    Background(BoxFuture<()>),
    Connection(usize, Pin<Box<dyn Future<Output = Drive<SimTransport<false>>> + Send>>),
    /// On a worker, until it is parked again, and whether a stop had been asked for when that began.
    Worker(usize, Pin<Box<dyn Future<Output = Drive<SimTransport<true>>> + Send>>, bool),
}

/// A connection that holds no worker.
struct Parked {
    at: usize,
    wire: Wire<SimTransport<true>>,
    /// Whether it has been resumed since a stop was asked for.
    told: bool,
}

struct TaskWaker {
    id: usize,
    is_queued: AtomicBool,
    woken: Arc<Mutex<Vec<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.woken.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        }
    }
}

/// How long background tasks may take when all connections have ended.
const TASKS_END: Duration = Duration::from_secs(600);

impl Server {
    pub(crate) fn new(world: Arc<World>, service: Arc<Service>, runtime: Runtime, workers: usize) -> Server {
        Server {
            world,
            service,
            runtime,
            workers,
            tasks: Vec::new(),
            woken: Arc::default(),
            parked: Vec::new(),
            polls: 0,
        }
    }

    /// Runs until everyone has left and the server has stopped, or a rule is broken.
    pub(crate) fn run(&mut self) {
        let mut over_at = None;
        loop {
            self.accept();
            self.begin_tasks();
            self.resume();
            let next = self.next_woken();
            if self.world.lock().violation.is_some() {
                return;
            }
            if let Some(id) = next {
                self.poll(id);
                continue;
            }
            let now = {
                let mut state = self.world.lock();
                rules::check_waits(&mut state, self.service.config());
                state.now
            };
            if self.world.lock().violation.is_some() {
                return;
            }
            if self.have_all_left() {
                let over_at = *over_at.get_or_insert(now);
                if self.runtime.tasks() == 0 {
                    break;
                }
                if now > over_at + TASKS_END {
                    self.world.lock().violate("a background task never ends");
                    return;
                }
            }
            if !self.world.step() {
                let what = if over_at.is_some() {
                    "a background task never ends"
                } else {
                    "everyone waits for ever"
                };
                self.world.lock().violate(what);
                return;
            }
        }
        self.world.stop();
        self.tasks.clear();
    }

    /// Whether every client has come, and everyone is gone.
    fn have_all_left(&self) -> bool {
        let state = self.world.lock();
        state.links.iter().all(|link| {
            let served = link.accepted.is_some() && link.closed.is_some();
            (served || (link.accepted.is_none() && link.done && link.saw.is_some())) && !link.taking
        })
    }

    fn accept(&mut self) {
        loop {
            let has_room = self.service.has_room() || self.service.shutdown().is_requested();
            let Some(at) =
                Some(()).filter(|()| has_room).and_then(|()| self.world.lock().backlog.pop_front())
            else {
                return;
            };
            let blocking = {
                let mut state = self.world.lock();
                let now = state.now;
                state.links[at].accepted = Some(now);
                state.links[at].since = now;
                state.note(format_args!("[{at}] is accepted"));
                state.blocking
            };
            let port = u16::try_from(at + 1).expect("there are few connections");
            let peer = Some(SocketAddr::from(([192, 0, 2, 1], port)));
            if blocking {
                let wire = Wire::new(SimTransport::new(self.world.clone(), at), peer, &self.service);
                self.park(at, wire, false);
            } else {
                let wire = Wire::new(SimTransport::new(self.world.clone(), at), peer, &self.service);
                self.begin(Task::Connection(at, Box::pin(drive(wire, self.service.clone()))));
            }
        }
    }

    fn begin_tasks(&mut self) {
        let spawned = std::mem::take(&mut self.world.lock().spawned);
        spawned.into_iter().for_each(|task| self.begin(Task::Background(task)));
    }

    fn begin(&mut self, task: Task) {
        let id = self.tasks.iter().position(Option::is_none).unwrap_or(self.tasks.len());
        let waker = Arc::new(TaskWaker { id, is_queued: AtomicBool::new(false), woken: self.woken.clone() });
        waker.wake_by_ref();
        let entry = Some(Entry { task, waker });
        match self.tasks.get_mut(id) {
            Some(place) => *place = entry,
            None => self.tasks.push(entry),
        }
    }

    /// Any of the tasks that were woken.
    fn next_woken(&mut self) -> Option<usize> {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.world.lock();
        while !woken.is_empty() {
            let at = state.rng.usize(..woken.len());
            let id = woken.swap_remove(at);
            if self.tasks.get(id).is_some_and(Option::is_some) {
                return Some(id);
            }
        }
        None
    }

    fn poll(&mut self, id: usize) {
        let Some(entry) = self.tasks[id].as_mut() else { return };
        entry.waker.is_queued.store(false, Ordering::Release);
        self.polls += 1;
        let at = match entry.task {
            Task::Background(_) => None,
            Task::Connection(at, _) | Task::Worker(at, ..) => Some(at),
        };
        let mut before = 0;
        let began = self.world.lock().now;
        if let Some(at) = at {
            let mut state = self.world.lock();
            before = state.links[at].progress;
            state.mix(at as u64 ^ 0x9011);
            let begun = state.links[at].begun > 0;
            if begun && state.has(Fault::ForgetConnection) {
                return;
            }
            if begun && state.has(Fault::Spin) {
                entry.waker.wake_by_ref();
            }
        }
        let waker = Waker::from(entry.waker.clone());
        let mut cx = Context::from_waker(&waker);
        let polled = match &mut entry.task {
            Task::Background(task) => task.as_mut().poll(&mut cx).map(|()| None),
            Task::Connection(_, task) => task.as_mut().poll(&mut cx).map(|_| None),
            Task::Worker(at, task, told) => {
                let (at, told) = (*at, *told);
                task.as_mut().poll(&mut cx).map(|drive| match drive {
                    Drive::Closed => None,
                    Drive::Parked(wire) => Some((at, wire, told)),
                })
            }
        };
        if let Poll::Ready(wire) = polled {
            self.tasks[id] = None;
            if let Some((at, wire, told)) = wire {
                self.park(at, wire, told);
            }
        }
        let mut state = self.world.lock();
        if let Some(at) = at {
            rules::check_poll(&mut state, at, before);
        }
        if state.now > began {
            state.hold_up(began);
        }
    }

    fn park(&mut self, at: usize, wire: Wire<SimTransport<true>>, told: bool) {
        let mut state = self.world.lock();
        state.news = true;
        state.note(format_args!("[{at}] is parked"));
        // One that gave up its turn did not look for what it waits for.
        let now = state.now;
        let link = &mut state.links[at];
        if std::mem::replace(&mut link.yielded, wire.is_ready()) {
            link.since = now;
        }
        match wire.deadline() {
            Some(deadline) => {
                let most = state.lateness.as_micros() as u64;
                let late = Duration::from_micros(state.rng.u64(..=most));
                let when = self.world.since_start(deadline) + late;
                state.schedule(when, Event::Tick);
            }
            // It has given up its turn, no more.
            None if wire.is_ready() => {}
            None => state.violate(format!("connection {at} is parked without a deadline")),
        }
        drop(state);
        self.parked.push(Parked { at, wire, told });
    }

    /// Gives workers to parked connections that have a reason to go on.
    fn resume(&mut self) {
        if self.service.shutdown().phase() == Phase::Forced {
            self.parked.clear();
        }
        let stopping = self.service.shutdown().is_requested();
        let busy = self.tasks.iter().flatten().filter(|entry| matches!(entry.task, Task::Worker(..))).count();
        let mut free = self.workers.saturating_sub(busy);
        self.world.lock().is_saturated = free == 0;
        let mut at = 0;
        while free > 0 && at < self.parked.len() {
            let parked = &self.parked[at];
            let mut state = self.world.lock();
            let now = state.now;
            let due = parked.wire.deadline().is_some_and(|deadline| self.world.since_start(deadline) <= now);
            let link = &state.links[parked.at];
            let readable = link.is_readable();
            let has_news = readable || parked.wire.is_ready() || (stopping && !parked.told);
            let has_news = has_news && !(readable && state.has(Fault::LoseReadWake));
            let is_due = due && !state.has(Fault::IgnoreDeadlines);
            if !has_news && !is_due {
                at += 1;
                continue;
            }
            state.note(format_args!("[{}] is resumed", parked.at));
            drop(state);
            let Parked { at, wire, .. } = self.parked.swap_remove(at);
            let driving = Box::pin(drive(wire, self.service.clone()));
            self.begin(Task::Worker(at, driving, stopping));
            free -= 1;
            self.world.lock().is_saturated = free == 0;
        }
    }
}

impl Drop for Server {
    /// Tasks own the service that owns the handler: none of them is to outlive the simulation.
    fn drop(&mut self) {
        self.tasks.clear();
        self.parked.clear();
        loop {
            let spawned = std::mem::take(&mut self.world.lock().spawned);
            if spawned.is_empty() {
                return;
            }
        }
    }
}
