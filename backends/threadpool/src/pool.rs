//! The threads of the pool, the list of connections that are ready, and the thread that waits for events.
//!
//! A thread is in one of these places:
//!
//! * it runs a task;
//! * it watches: it waits in the reactor, [`WATCHERS`] threads at most, so that an event finds a thread that can take
//!   the connection itself, and few are woken for nothing;
//! * it is parked, because enough others watch;
//! * it is held: a handler waits on it.
//!
//! Somebody watches as long as anybody waits: a thread that stops to watch and was the last to do so wakes a parked
//! thread. If there is none, and something waits that is not a request, the background thread stands in. Both sides
//! first announce what they do and then look what the other does, so that one of them sees the other.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crossbeam_queue::SegQueue;
use gearshift_core::clock::{AtomicCoarseInstant, CoarseInstant};
use gearshift_core::park::{self, Park};
use gearshift_core::{BoxFuture, Service};
use gearshift_reactor::{Handle, Schedule, SharedEvents, SharedReactor, Task};

use crate::stand_in::StandIn;

/// Threads that wait in the reactor at once. With two, a thread that leaves to run a task mostly leaves a watcher
/// behind, and need not wake one.
const WATCHERS: usize = 2;
/// Tasks that a thread runs before it takes events from the reactor, if no thread watches.
const TASKS_PER_ROUND: usize = 64;
/// The same, as a time.
const MAX_ROUND_TIME: Duration = Duration::from_millis(10);
/// Events that a thread takes from the system at once. The tasks that they make ready are for all threads.
const EVENTS_A_TURN: usize = 64;
/// Maximum number of turns of a thread that catches up. More events than these would delay the tasks.
const MAX_TURNS: usize = 64;

/// How long all threads are busy before connections are taken to have waited for them.
const LONG_BUSY: Duration = Duration::from_millis(100);
/// How long it may take after that until all of these connections were accepted.
const SETTLE: Duration = Duration::from_secs(1);

thread_local! {
    static EVENTS: RefCell<SharedEvents> = RefCell::new(SharedEvents::new(EVENTS_A_TURN));
    /// Whether this thread queues the tasks of the events of a turn, after which it looks for work itself.
    static IN_TURN: Cell<bool> = const { Cell::new(false) };
}

/// See the [module](self).
pub(crate) struct Pool {
    reactor: SharedReactor,
    ready: SegQueue<Arc<Task>>,
    workers: Box<[Seat]>,
    /// Threads that watch, the background thread not among them.
    watching: AtomicUsize,
    /// Workers that are parked, the one that was parked last at the end.
    parked: Mutex<Vec<usize>>,
    /// Held by the thread that catches up.
    catching_up: Mutex<()>,
    /// Whether a thread that was woken for what is ready has not looked for it yet.
    is_waking: AtomicBool,
    /// Handlers, background tasks and threads of the application that may wait for the reactor.
    held: AtomicUsize,
    stand_in: Arc<StandIn>,
    is_standing_in: AtomicBool,
    is_stopped: AtomicBool,
    /// The last time at which a thread had nothing to do.
    idle_at: AtomicCoarseInstant,
    /// The end of the last time in which all threads were busy for long.
    busy_until: AtomicCoarseInstant,
    service: OnceLock<Arc<Service>>,
}

/// Where one thread parks.
#[derive(Default)]
struct Seat {
    thread: OnceLock<Thread>,
    is_woken: AtomicBool,
}

impl Seat {
    fn enter(&self) {
        let _ = self.thread.set(thread::current());
    }

    fn park(&self) {
        while !self.is_woken.swap(false, SeqCst) {
            thread::park();
        }
    }

    fn unpark(&self) {
        if !self.is_woken.swap(true, SeqCst) {
            self.thread.get().into_iter().for_each(Thread::unpark);
        }
    }
}

impl Pool {
    /// A pool of so many threads, none of which runs yet, for a server whose shortest time limit is this.
    ///
    /// # Errors
    /// An error of the system.
    pub(crate) fn new(threads: usize, shortest_timeout: Duration) -> io::Result<Arc<Pool>> {
        Ok(Arc::new(Pool {
            reactor: SharedReactor::new(shortest_timeout)?,
            ready: SegQueue::new(),
            workers: (0..threads).map(|_| Seat::default()).collect(),
            watching: AtomicUsize::new(0),
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

    /// The number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The reactor of all of them.
    pub(crate) fn handle(&self) -> &Handle {
        self.reactor.handle()
    }

    /// The list of what is ready.
    pub(crate) fn schedule(self: &Arc<Pool>) -> Arc<dyn Schedule> {
        self.clone()
    }

    /// The number of connections that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Tells the threads whose connections they drive.
    pub(crate) fn serve(&self, service: &Arc<Service>) {
        let _ = self.service.set(service.clone());
    }

    /// Has the threads end.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, SeqCst);
        for parked in std::mem::take(&mut *self.parked()) {
            self.workers[parked].unpark();
        }
        self.handle().wake();
    }

    /// What the thread of this number does, until it is told to stop.
    pub(crate) fn work(self: Arc<Pool>, number: usize) -> io::Result<()> {
        self.workers[number].enter();
        let held = Arc::new(Held { pool: self.clone(), number });
        let _role = park::enter_worker(held.clone());
        let mut asked = CoarseInstant::now();
        let mut run = 0;
        while !self.is_stopped.load(SeqCst) {
            if self.watching.load(SeqCst) == 0
                && (run >= TASKS_PER_ROUND || run > 0 && asked.elapsed() >= MAX_ROUND_TIME)
            {
                self.catch_up()?;
                (asked, run) = (CoarseInstant::now(), 0);
            }
            match self.ready.pop() {
                Some(task) => {
                    if !self.ready.is_empty() {
                        self.wake_another();
                    }
                    run += 1;
                    task.run(number, &*held);
                }
                None => {
                    self.idle_begins();
                    self.wait(number)?;
                    self.idle_ends();
                    (asked, run) = (CoarseInstant::now(), 0);
                }
            }
        }
        // The threads that watch are woken one by one.
        self.handle().wake();
        Ok(())
    }

    /// A thread finds nothing to do. If that is the first time for long, connections that have waited until then may still
    /// be on their way through the acceptor, which runs on another thread.
    fn idle_begins(&self) {
        let now = CoarseInstant::now();
        if now.since(self.idle_at.get()) >= LONG_BUSY {
            self.busy_until.set(now);
        }
        self.report_idle(now);
    }

    /// A thread has waited, so that no connection has waited for a thread.
    fn idle_ends(&self) {
        self.report_idle(CoarseInstant::now());
    }

    fn report_idle(&self, now: CoarseInstant) {
        self.idle_at.set(now);
        if now.since(self.busy_until.get()) >= SETTLE {
            self.service.get().into_iter().for_each(|service| service.found_idle());
        }
    }

    /// Waits until something is ready, in the reactor or parked.
    fn wait(&self, number: usize) -> io::Result<()> {
        if self.watching.fetch_add(1, SeqCst) < WATCHERS {
            let turned = match self.must_not_wait() {
                true => Ok(()),
                false => self.turn(None).map(drop),
            };
            self.is_waking.store(false, SeqCst);
            if self.watching.fetch_sub(1, SeqCst) == 1 {
                self.ensure_watched();
            }
            return turned;
        }
        self.watching.fetch_sub(1, SeqCst);
        self.parked().push(number);
        // A thread that pushed a task or stopped to watch before this line did not find this thread in the list.
        if self.must_not_wait() || self.watching.load(SeqCst) == 0 {
            self.parked().retain(|parked| *parked != number);
        }
        // The list decides, not the wake-up of the seat: that one may be meant for the last task of this thread. A
        // thread in the list that runs a task would take the wake-ups of others.
        while self.parked().contains(&number) {
            self.workers[number].park();
        }
        self.is_waking.store(false, SeqCst);
        // This thread may run a task now. It may have been woken to watch, and a thread that stopped to watch while this
        // one was counted did not notice that it was the last.
        if self.watching.load(SeqCst) == 0 && !self.ready.is_empty() {
            self.ensure_watched();
        }
        Ok(())
    }

    fn must_not_wait(&self) -> bool {
        !self.ready.is_empty() || self.is_stopped.load(SeqCst)
    }

    fn turn(&self, timeout: Option<Duration>) -> io::Result<usize> {
        IN_TURN.set(true);
        let turned = EVENTS.with_borrow_mut(|events| self.reactor.turn(events, timeout));
        IN_TURN.set(false);
        turned
    }

    /// Announces the events that the system has ready. Also waits for a thread that has taken some of them and has not
    /// announced them yet. One of them may be the end of a peer whose request the calling thread runs next.
    fn catch_up(&self) -> io::Result<()> {
        let _catching_up = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MAX_TURNS {
            if self.turn(Some(Duration::ZERO))? < EVENTS_A_TURN {
                break;
            }
        }
        // This thread may have taken the wake-up of a watcher. It looks for tasks next, and wakes another thread.
        self.is_waking.store(false, SeqCst);
        Ok(())
    }

    /// Something is ready that this thread does not take at once: wakes one thread for it, unless one was woken and has
    /// not looked yet. That thread wakes the next one.
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

    /// Nobody watched, or may do so any more: sees to it that somebody does, if anything waits for the reactor.
    fn ensure_watched(&self) {
        let parked = self.parked().pop();
        match parked {
            Some(parked) => self.workers[parked].unpark(),
            None if self.must_stand_in() && !self.is_standing_in.load(SeqCst) => self.stand_in.wake(),
            None => {}
        }
    }

    /// What the background thread does: runs `tasks`, the future of all background tasks, to its end; and watches while
    /// every worker is held.
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
            // A thread that stopped to watch in between did not wake this one.
            if !self.must_stand_in() {
                self.stand_in.wait(None)?;
            }
        }
    }

    fn must_stand_in(&self) -> bool {
        self.watching.load(SeqCst) == 0 && self.held.load(SeqCst) > 0
    }

    /// A background task begins, or a handler or a thread of the application begins to wait.
    pub(crate) fn hold(&self) {
        self.held.fetch_add(1, SeqCst);
        if self.watching.load(SeqCst) == 0 {
            self.ensure_watched();
        }
    }

    /// The opposite of [`Pool::hold`].
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, SeqCst);
    }

    /// Nothing is left half done by a panic under this lock.
    fn parked(&self) -> MutexGuard<'_, Vec<usize>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Schedule for Pool {
    fn push(&self, task: Arc<Task>) {
        self.ready.push(task);
        if !IN_TURN.get() {
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

/// How a worker waits for its handler.
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
