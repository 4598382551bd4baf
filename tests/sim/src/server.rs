//! The simulated server: accepts, polls connections and tasks that were woken in any order, and lets time go on when
//! nothing is left to do. It is what a backend is, without threads, sockets or a clock.
//!
//! On the blocking flavour a connection is polled by one of a few threads, and keeps that thread while it is pending
//! and its handler is at work. Other connections are polled by the threads that are left. Background tasks need no
//! thread.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use gearshift_core::park::{self, Park};
use gearshift_core::{BoxFuture, Driving, Runtime, Service, drive};

use crate::engine::SimPark;
use crate::fault::Fault;
use crate::rules;
use crate::transport::SimTransport;
use crate::world::World;

/// A server of one flavour, and the world around it.
pub(crate) struct Server {
    pub(crate) world: Arc<World>,
    pub(crate) service: Arc<Service>,
    pub(crate) runtime: Runtime,
    /// For each thread that may block, the task that holds it. Empty on an event loop.
    threads: Vec<Option<usize>>,
    tasks: Vec<Option<Entry>>,
    queue: Arc<Queue>,
    pub(crate) polls: u64,
}

/// A connection or a task.
struct Entry {
    task: Task,
    waker: Arc<TaskWaker>,
    /// The thread that the connection holds.
    thread: Option<usize>,
}

enum Task {
    Background(BoxFuture<()>),
    Connection(usize, Box<Driving<SimTransport>>),
}

/// The tasks that were woken, and how the thread that runs one of them waits.
struct Queue {
    woken: Mutex<Vec<usize>>,
    running: AtomicUsize,
    park: Arc<SimPark>,
}

impl Queue {
    fn woken(&self) -> MutexGuard<'_, Vec<usize>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No task is running.
const NONE: usize = usize::MAX;

struct TaskWaker {
    id: usize,
    /// The connection, if the task drives one.
    at: Option<usize>,
    is_queued: AtomicBool,
    queue: Arc<Queue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.queue.park.world.lock();
        if self.at.is_some() && self.at == state.body_polled && state.has(Fault::LoseDriverWake) {
            return;
        }
        drop(state);
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.woken().push(self.id);
        }
        if self.queue.running.load(Ordering::Acquire) == self.id {
            self.queue.park.unpark();
        }
    }
}

/// How long background tasks may go on when all connections have ended.
const TASKS_END: Duration = Duration::from_secs(600);

impl Server {
    /// A server whose connections are driven by this number of threads that block. 0: by an event loop.
    pub(crate) fn new(world: Arc<World>, service: Arc<Service>, runtime: Runtime, threads: usize) -> Server {
        let park = Arc::new(SimPark::new(world.clone()));
        let queue = Queue { woken: Mutex::default(), running: AtomicUsize::new(NONE), park };
        Server {
            world,
            service,
            runtime,
            threads: vec![None; threads],
            tasks: Vec::new(),
            queue: Arc::new(queue),
            polls: 0,
        }
    }

    /// Runs until all clients have left and the server has stopped, or a rule is broken.
    pub(crate) fn run(&mut self) {
        let mut over_at = None;
        loop {
            self.accept();
            self.begin_tasks();
            let next = self.next_woken();
            if self.world.lock().violation.is_some() {
                return;
            }
            if let Some(id) = next {
                self.poll(id);
                continue;
            }
            self.find_idle();
            let now = {
                let mut state = self.world.lock();
                rules::check_waits(&mut state, self.service.config());
                rules::check_connections(&mut state, self.service.connections());
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
            let is_saturated = self.world.lock().is_saturated;
            let has_stepped = self.world.step();
            if is_saturated {
                self.world.lock().hold_up(now);
            }
            if !has_stepped {
                let what = match over_at {
                    Some(_) => "a background task never ends",
                    None => "every connection waits, and nothing will happen",
                };
                self.world.lock().violate(what);
                return;
            }
            self.find_idle();
        }
        self.world.stop();
        self.tasks.clear();
    }

    /// Notes that a thread has nothing to do, if one holds no connection.
    fn find_idle(&self) {
        let is_saturated = !self.threads.is_empty() && self.threads.iter().all(Option::is_some);
        let mut state = self.world.lock();
        state.is_saturated = is_saturated;
        if !is_saturated {
            state.idle_at = state.now;
            drop(state);
            self.service.found_idle();
        }
    }

    /// Whether all clients have connected and left.
    fn have_all_left(&self) -> bool {
        let state = self.world.lock();
        state.links.iter().all(|link| {
            let served = link.accepted.is_some() && link.closed.is_some();
            (served || (link.accepted.is_none() && link.done && link.seen_end.is_some())) && !link.taking
        })
    }

    fn accept(&mut self) {
        loop {
            let is_stopping = self.service.shutdown().is_requested();
            if is_stopping {
                self.world.lock().play_queue_at_stop();
            }
            let has_room = self.service.has_room() || is_stopping;
            let has_room = has_room || self.world.lock().forgets_room(self.service.config());
            let Some(at) =
                Some(()).filter(|()| has_room).and_then(|()| self.world.lock().backlog.pop_front())
            else {
                return;
            };
            {
                let mut state = self.world.lock();
                rules::note_accepted(&mut state, at, self.service.config());
                state.note(format_args!("[{at}] is accepted"));
            }
            let port = u16::try_from(at + 1).expect("there are few connections");
            let peer = Some(SocketAddr::from(([192, 0, 2, 1], port)));
            let driving = drive(SimTransport::new(self.world.clone(), at), peer, &self.service);
            self.begin(Task::Connection(at, Box::new(driving)));
        }
    }

    fn begin_tasks(&mut self) {
        let spawned = std::mem::take(&mut self.world.lock().spawned);
        spawned.into_iter().for_each(|task| self.begin(Task::Background(task)));
    }

    fn begin(&mut self, task: Task) {
        let id = self.tasks.iter().position(Option::is_none).unwrap_or(self.tasks.len());
        let at = match &task {
            Task::Connection(at, _) => Some(*at),
            Task::Background(_) => None,
        };
        let waker =
            Arc::new(TaskWaker { id, at, is_queued: AtomicBool::new(false), queue: self.queue.clone() });
        waker.wake_by_ref();
        let entry = Some(Entry { task, waker, thread: None });
        match self.tasks.get_mut(id) {
            Some(place) => *place = entry,
            None => self.tasks.push(entry),
        }
    }

    /// Any of the tasks that were woken and need no thread, hold one, or find a free one.
    fn next_woken(&mut self) -> Option<usize> {
        let has_free = self.threads.is_empty() || self.threads.contains(&None);
        let mut woken = self.queue.woken();
        woken.retain(|id| self.tasks.get(*id).is_some_and(Option::is_some));
        let mut state = self.world.lock();
        let is_ready = |id: &usize| match &self.tasks[*id] {
            Some(Entry { task: Task::Connection(..), thread: None, .. }) => has_free,
            _ => true,
        };
        let ready = woken.iter().filter(|id| is_ready(id)).count();
        if ready == 0 {
            return None;
        }
        let nth = state.rng.usize(..ready);
        let (place, _) = woken.iter().enumerate().filter(|(_, id)| is_ready(id)).nth(nth)?;
        Some(woken.swap_remove(place))
    }

    fn poll(&mut self, id: usize) {
        let Some(entry) = self.tasks[id].as_mut() else { return };
        entry.waker.is_queued.store(false, Ordering::Release);
        self.polls += 1;
        let waker = Waker::from(entry.waker.clone());
        match &mut entry.task {
            Task::Background(task) => {
                if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    self.tasks[id] = None;
                }
            }
            Task::Connection(..) => self.poll_connection(id, &waker),
        }
    }

    fn poll_connection(&mut self, id: usize, waker: &Waker) {
        let Some(Entry { task: Task::Connection(at, driving), thread, .. }) = &mut self.tasks[id] else {
            return;
        };
        let at = *at;
        let mut state = self.world.lock();
        let (before, began) = (state.links[at].progress, state.now);
        state.mix(at as u64 ^ 0x9011);
        let begun = state.links[at].begun > 0;
        if begun && state.has(Fault::ForgetConnection) {
            return;
        }
        let spins = begun && state.has(Fault::Spin);
        if !self.threads.is_empty() {
            let free: Vec<usize> = (0..self.threads.len()).filter(|n| self.threads[*n].is_none()).collect();
            rules::note_thread(&mut state, at);
            if thread.is_none() {
                *thread = Some(free[state.rng.usize(..free.len())]);
            }
            state.thread = *thread;
        }
        state.polled = Some(at);
        drop(state);
        if spins {
            waker.wake_by_ref();
        }
        self.queue.running.store(id, Ordering::Release);
        let polled = {
            let _role = thread.map(|_| park::enter_worker(self.queue.park.clone()));
            Pin::new(&mut **driving).poll(&mut Context::from_waker(waker))
        };
        self.queue.running.store(NONE, Ordering::Release);
        let is_handling = driving.is_handling();
        let mut state = self.world.lock();
        (state.thread, state.polled) = (None, None);
        if let Some(n) = *thread {
            let parks = match state.links[at].is_handled() {
                true => Fault::ParkHandling,
                false => Fault::ParkHeld,
            };
            let holds = is_handling && !state.has(parks);
            let holds = polled.is_pending() && (holds || state.has(Fault::HoldThread));
            state.links[at].is_held = holds;
            self.threads[n] = holds.then_some(id);
            *thread = holds.then_some(n);
        }
        rules::check_poll(&mut state, at, before);
        if state.now > began {
            state.stall(at, began);
        }
        drop(state);
        if polled.is_ready() {
            self.tasks[id] = None;
        }
    }
}

impl Drop for Server {
    /// Drops all tasks. They own the service, which owns the handler.
    fn drop(&mut self) {
        self.tasks.clear();
        loop {
            let spawned = std::mem::take(&mut self.world.lock().spawned);
            if spawned.is_empty() {
                return;
            }
        }
    }
}
