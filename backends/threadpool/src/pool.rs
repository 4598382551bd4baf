//! The threads of the pool, the list of connections that are ready, and the thread that waits for events.
//!
//! A worker is in one of these states:
//!
//! | state | meaning |
//! | --- | --- |
//! | running | drives a task |
//! | watching | waits in the reactor, and runs the tasks that become ready. At most `max_watching` workers watch |
//! | parked | waits for another thread, because enough workers watch |
//! | held | waits for the handler that it runs |
//!
//! A worker watches whenever a worker is free. The last worker that stops watching wakes a parked one. If no worker is
//! parked, and a handler, a background task or a thread of the application waits for the reactor, the background thread
//! watches instead (`stand_in`). Every thread first stores its own change of state and then reads the states of the
//! others, so that of two threads at least one sees the change of the other.
//!
//! A worker that runs quick tasks wakes no other worker for the other ready tasks. It relies on a watching worker
//! that looks for ready tasks every millisecond ([`Pool::share`]).

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(not(gearshift_model))]
use crossbeam_queue::SegQueue;
use gearshift_core::clock::{AtomicCoarseInstant, CoarseInstant};
use gearshift_core::park::{self, Park};
use gearshift_core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
#[cfg(gearshift_model)]
use gearshift_core::sync::model::SegQueue;
use gearshift_core::sync::thread::{self, Thread};
use gearshift_core::sync::{Mutex, MutexGuard, lock, thread_local};
use gearshift_core::{BoxFuture, Service};
use gearshift_reactor::{Handle, Schedule, SharedEvents, SharedReactor, Task};

use crate::round::Round;
use crate::stand_in::StandIn;

/// Maximum number of workers that watch at the same time. With two, a worker that begins to run a task usually leaves
/// another one watching, and need not wake one.
pub(crate) const WATCHERS: usize = 2;
/// Maximum number of events that a turn of the reactor takes from the system. The tasks that a turn wakes go to all
/// workers.
const EVENTS_A_TURN: usize = 64;
/// Maximum number of turns of a thread that catches up. With more events the thread returns to the tasks.
const MAX_TURNS: usize = 64;
/// Maximum time for which a ready task waits for a worker that was not woken for it; see [`Pool::share`].
const LOOK_PERIOD: Duration = Duration::from_millis(1);
/// Time without a free worker after which connections may have waited for one.
const LONG_BUSY: Duration = Duration::from_millis(100);
/// Time after a busy period in which the acceptor empties the backlog of that period.
const SETTLE: Duration = Duration::from_secs(1);

thread_local! {
    static EVENTS: RefCell<SharedEvents> = RefCell::new(SharedEvents::new(EVENTS_A_TURN));
}

thread_local! {
    /// Whether this thread is in a turn of the reactor. It takes a task after the turn, so a push in the turn wakes no
    /// worker.
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// See the [module](self).
pub(crate) struct Pool {
    reactor: SharedReactor,
    ready: SegQueue<Arc<Task>>,
    workers: Box<[ParkingPlace]>,
    /// Maximum number of workers that watch at the same time.
    max_watching: usize,
    /// Number of workers that watch. The background thread does not count.
    watching: AtomicUsize,
    /// Number of workers that watch for at most [`LOOK_PERIOD`].
    looking: AtomicUsize,
    /// Whether a worker shared tasks in the last [`LOOK_PERIOD`].
    has_shared: AtomicBool,
    /// The numbers of the parked workers. The worker that parked last is at the end.
    parked: Mutex<Vec<usize>>,
    /// Locked during [`Pool::catch_up`].
    catching_up: Mutex<()>,
    /// Whether a worker was woken for a ready task and has not looked for it yet.
    is_waking: AtomicBool,
    /// Number of handlers, background tasks and threads of the application that may wait for the reactor.
    held: AtomicUsize,
    /// The wait of the background thread.
    stand_in: Arc<StandIn>,
    /// Whether the background thread watches, or is about to.
    is_standing_in: AtomicBool,
    is_stopped: AtomicBool,
    /// The last time at which a worker found no task.
    idle_at: AtomicCoarseInstant,
    /// The end of the last period of at least [`LONG_BUSY`] without a free worker.
    busy_until: AtomicCoarseInstant,
    /// The service of the connections, which owns this pool through its runtime.
    service: OnceLock<Weak<Service>>,
}

/// The place where one worker parks.
#[derive(Default)]
pub(crate) struct ParkingPlace {
    thread: OnceLock<Thread>,
    is_woken: AtomicBool,
}

impl ParkingPlace {
    pub(crate) fn enter(&self) {
        let _ = self.thread.set(thread::current());
    }

    pub(crate) fn park(&self) {
        while !self.is_woken.swap(false, SeqCst) {
            thread::park();
        }
    }

    pub(crate) fn unpark(&self) {
        if !self.is_woken.swap(true, SeqCst) {
            self.thread.get().into_iter().for_each(Thread::unpark);
        }
    }
}

impl Pool {
    /// Creates a pool for `threads` workers, of which at most `max_watching` watch, and starts none of them.
    /// `shortest_timeout` is the shortest time limit of the server.
    ///
    /// # Errors
    /// The system provides no file descriptor.
    pub(crate) fn new(
        threads: usize,
        max_watching: usize,
        shortest_timeout: Duration,
    ) -> io::Result<Arc<Pool>> {
        Ok(Arc::new(Pool {
            max_watching,
            reactor: SharedReactor::new(shortest_timeout)?,
            ready: SegQueue::new(),
            workers: (0..threads).map(|_| ParkingPlace::default()).collect(),
            watching: AtomicUsize::new(0),
            looking: AtomicUsize::new(0),
            has_shared: AtomicBool::new(false),
            parked: Mutex::default(),
            catching_up: Mutex::default(),
            is_waking: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            stand_in: Arc::new(StandIn::new()?),
            is_standing_in: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            idle_at: AtomicCoarseInstant::new(CoarseInstant::now()),
            busy_until: AtomicCoarseInstant::new(CoarseInstant::default()),
            service: OnceLock::new(),
        }))
    }

    /// The number of workers.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The handle of the reactor that all workers share.
    pub(crate) fn handle(&self) -> &Handle {
        self.reactor.handle()
    }

    /// The queue of ready tasks.
    pub(crate) fn schedule(self: &Arc<Pool>) -> Arc<dyn Schedule> {
        self.clone()
    }

    /// The number of queued tasks.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Sets the service of the connections.
    pub(crate) fn serve(&self, service: &Arc<Service>) {
        let _ = self.service.set(Arc::downgrade(service));
    }

    /// Makes [`Pool::work`] return on all workers.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
        for parked in std::mem::take(&mut *self.parked()) {
            self.workers[parked].unpark();
        }
        self.handle().wake();
    }

    /// Ends the reactor, after the threads have ended. A runtime that the application keeps holds the pool, and a
    /// thread of the application may still wait for a timer.
    pub(crate) fn close(&self) {
        self.reactor.close();
    }

    /// Runs ready tasks on the calling thread, which is the worker `number`, until [`Pool::stop`].
    ///
    /// # Errors
    /// The reactor fails.
    pub(crate) fn work(self: Arc<Pool>, number: usize) -> io::Result<()> {
        self.workers[number].enter();
        let held = Arc::new(Held { pool: self.clone(), number });
        let _role = park::enter_worker(held.clone());
        let mut round = Round::default();
        round.begin();
        while !self.is_stopped.load(SeqCst) {
            if round.is_long() {
                round.end();
                // A worker that watches takes the events.
                if self.watching.load(SeqCst) == 0 {
                    self.catch_up()?;
                }
                round.begin();
            }
            match self.ready.pop() {
                Some(task) => {
                    if !self.ready.is_empty() {
                        round.measure();
                        self.share(round.is_quick);
                    }
                    round.tasks += 1;
                    task.run(number, &*held);
                }
                None => {
                    round.end();
                    self.idle_begins();
                    self.wait(number)?;
                    self.idle_ends();
                    round.begin();
                }
            }
        }
        // One wake-up of the reactor ends the wait of one watching worker, which wakes the next.
        self.handle().wake();
        Ok(())
    }

    /// Records that a worker found no task. After a long time without a free worker, the acceptor may still have
    /// connections in the backlog that waited for a worker.
    fn idle_begins(&self) {
        let now = CoarseInstant::now();
        if now.since(self.idle_at.get()) >= LONG_BUSY {
            self.busy_until.set(now);
        }
        self.report_idle(now);
    }

    /// Records that a worker has waited for a task until now, so that no task waited for a worker.
    fn idle_ends(&self) {
        self.report_idle(CoarseInstant::now());
    }

    fn report_idle(&self, now: CoarseInstant) {
        self.idle_at.set(now);
        if now.since(self.busy_until.get()) >= SETTLE {
            self.service.get().and_then(Weak::upgrade).into_iter().for_each(|service| service.found_idle());
        }
    }

    /// Waits until a task may be ready: the worker watches, or parks if enough workers watch.
    fn wait(&self, number: usize) -> io::Result<()> {
        if self.watching.fetch_add(1, SeqCst) < self.max_watching {
            let is_looking = self.has_shared.load(SeqCst);
            self.looking.fetch_add(is_looking.into(), SeqCst);
            let turned = match self.must_not_wait() {
                true => Ok(1),
                false => self.turn(is_looking.then_some(LOOK_PERIOD)),
            };
            self.looking.fetch_sub(is_looking.into(), SeqCst);
            if is_looking && matches!(turned, Ok(0)) {
                self.has_shared.store(false, SeqCst);
            }
            self.is_waking.store(false, SeqCst);
            if self.watching.fetch_sub(1, SeqCst) == 1 {
                self.ensure_watched();
            }
            return turned.map(drop);
        }
        self.watching.fetch_sub(1, SeqCst);
        self.parked().push(number);
        // A thread that pushed a task or stopped watching before this line did not find this worker in the list.
        if self.must_not_wait() || self.watching.load(SeqCst) == 0 {
            self.parked().retain(|parked| *parked != number);
        }
        // Only another thread removes this worker from the list. An earlier wake-up may belong to the last task of the
        // worker, and does not end the wait.
        while self.parked().contains(&number) {
            self.workers[number].park();
        }
        self.is_waking.store(false, SeqCst);
        // This worker may run a task now although it was woken to watch. A worker that stopped watching while this one
        // was counted did not see that it was the last.
        if self.watching.load(SeqCst) == 0 && !self.ready.is_empty() {
            self.ensure_watched();
        }
        Ok(())
    }

    fn must_not_wait(&self) -> bool {
        !self.ready.is_empty() || self.is_stopped.load(SeqCst)
    }

    fn turn(&self, timeout: Option<Duration>) -> io::Result<usize> {
        IN_TURN.with(|in_turn| in_turn.set(true));
        let turned = EVENTS.with(|events| self.reactor.turn(&mut events.borrow_mut(), timeout));
        IN_TURN.with(|in_turn| in_turn.set(false));
        turned
    }

    /// Announces the events that the system has ready, without waiting for more. Waits for another thread in this
    /// method, which may have taken events and not announced them yet. One of these events may be the end of a peer
    /// whose request the calling thread runs next.
    fn catch_up(&self) -> io::Result<()> {
        let _catching_up = lock(&self.catching_up);
        for _ in 0..MAX_TURNS {
            if self.turn(Some(Duration::ZERO))? < EVENTS_A_TURN {
                break;
            }
        }
        // A turn may take the wake-up of a watching worker. The calling thread looks for tasks next and wakes a worker.
        self.is_waking.store(false, SeqCst);
        Ok(())
    }

    /// Lets another worker take the ready tasks that the calling worker does not run now. A wake-up costs a system call
    /// and takes longer than a quick task. So if the last tasks of the calling worker `were_quick`, and another worker
    /// watches for at most [`LOOK_PERIOD`], this method wakes no worker.
    fn share(&self, were_quick: bool) {
        if were_quick {
            if !self.has_shared.load(SeqCst) {
                self.has_shared.store(true, SeqCst);
            }
            if self.looking.load(SeqCst) > 0 {
                return;
            }
        }
        self.wake_another();
    }

    /// Wakes a worker for a ready task, unless one was woken and has not looked yet. A woken worker wakes the next one
    /// while more tasks are ready.
    fn wake_another(&self) {
        if self.is_waking.load(SeqCst) || self.is_waking.swap(true, SeqCst) {
            return;
        }
        let parked = self.parked().pop();
        match parked {
            Some(parked) => self.workers[parked].unpark(),
            None if self.watching.load(SeqCst) > 0 => self.handle().wake(),
            None => self.is_waking.store(false, SeqCst),
        }
    }

    /// Makes a parked worker watch, now that no worker watches. If no worker is parked and something waits for the
    /// reactor, wakes the background thread.
    fn ensure_watched(&self) {
        let parked = self.parked().pop();
        match parked {
            Some(parked) => self.workers[parked].unpark(),
            None if self.must_stand_in() && !self.is_standing_in.load(SeqCst) => self.stand_in.wake(),
            None => {}
        }
    }

    /// Polls `tasks`, the future of all background tasks, on the calling thread until it is ready. Watches while no
    /// worker watches and something waits for the reactor.
    ///
    /// # Errors
    /// A wait or the reactor fails.
    pub(crate) fn stand_in(self: Arc<Pool>, mut tasks: BoxFuture<()>) -> io::Result<()> {
        let waker = Waker::from(self.stand_in.clone());
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(()) = tasks.as_mut().poll(&mut cx) {
                return Ok(());
            }
            self.is_standing_in.store(true, SeqCst);
            if self.must_stand_in() {
                let has_events = self.stand_in.wait(Some(self.reactor.as_fd()))?;
                self.is_standing_in.store(false, SeqCst);
                if has_events {
                    self.catch_up()?;
                    if self.must_not_wait() {
                        self.wake_another();
                    }
                }
                continue;
            }
            self.is_standing_in.store(false, SeqCst);
            // A worker that stopped watching before the store did not wake this thread.
            if !self.must_stand_in() {
                self.stand_in.wait(None)?;
            }
        }
    }

    fn must_stand_in(&self) -> bool {
        self.watching.load(SeqCst) == 0 && self.held.load(SeqCst) > 0
    }

    /// Counts a background task, or a wait of a handler or of a thread of the application.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, SeqCst);
        if self.watching.load(SeqCst) == 0 {
            self.ensure_watched();
        }
    }

    /// Ends what [`Pool::hold`] counted.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, SeqCst);
    }

    /// Locks the list of parked workers.
    fn parked(&self) -> MutexGuard<'_, Vec<usize>> {
        lock(&self.parked)
    }
}

impl Schedule for Pool {
    fn push(&self, task: Arc<Task>) {
        self.ready.push(task);
        if !IN_TURN.with(Cell::get) {
            self.wake_another();
        }
    }

    fn push_back(&self, task: Arc<Task>) {
        self.ready.push(task);
    }

    fn unpark(&self, worker: usize) {
        self.workers[worker].unpark();
    }
}

/// The wait of a worker for its handler.
struct Held {
    pool: Arc<Pool>,
    number: usize,
}

impl Park for Held {
    fn park(&self) {
        self.pool.hold();
        self.pool.workers[self.number].park();
        self.pool.release();
    }

    fn unpark(&self) {
        self.pool.workers[self.number].unpark();
    }
}
