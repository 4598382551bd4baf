//! Model checks of the slots, the deadlines, the timers, the waits of both reactors, and the tasks, with the threads in
//! every order.
//!
//! ARCHITECTURE.md says how they are run. Each check names a change of the code that it finds.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use gearshift_core::park::{Park, block_on_until};
use gearshift_core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use gearshift_core::sync::model::{Condvar, SegQueue, advance, check, elapsed};
use gearshift_core::sync::{Mutex, lock, now, thread};
use socket2::{Domain, Socket, Type};

use crate::handle::{Handle, NEVER, Poller};
use crate::reactor::Reactor;
use crate::shared_reactor::{SharedEvents, SharedReactor};
use crate::slot::{Direction, READABLE, Slot, WRITABLE};
use crate::task::{Schedule, Task};

/// A time limit that no check reaches.
const LONG: Duration = Duration::from_secs(3600);
/// A time limit that some checks reach.
const SHORT: Duration = Duration::from_millis(10);

/// A waker that counts its calls.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counter {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Waits for `slot`, and takes the readiness, until `is_done`.
fn wait_for(slot: &Slot, direction: Direction, bits: u8, is_done: impl Fn() -> bool) {
    block_on_until(
        None,
        poll_fn(|cx| {
            while slot.poll(direction, cx, || 0).is_ready() {
                slot.take(bits);
                if is_done() {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        }),
    );
}

/// Finds a reactor that takes the waker before it sets the bits, bits that are set with a weaker ordering, and an owner
/// that leaves no waker, that does not look at the bits after that, or that clears them after its attempt.
#[test]
fn an_event_reaches_the_owner_of_a_slot_at_any_time() {
    check(3, || {
        let (slot, arrived) = (Arc::new(Slot::new(0, READABLE)), Arc::new(AtomicBool::new(false)));
        let (announced, arriving) = (slot.clone(), arrived.clone());
        let reactor = thread::spawn(move || {
            arriving.store(true, Ordering::Relaxed);
            announced.announce(READABLE, Waker::wake);
        });
        wait_for(&slot, Direction::Read, READABLE, || arrived.load(Ordering::Relaxed));
        reactor.join().unwrap();
    });
}

/// Finds an event that wakes only one of two directions.
#[test]
fn an_event_reaches_both_directions_of_a_slot() {
    check(2, || {
        let slot = Arc::new(Slot::new(0, 0));
        let (announced, written) = (slot.clone(), slot.clone());
        let reactor = thread::spawn(move || announced.announce(READABLE | WRITABLE, Waker::wake));
        let writer = thread::spawn(move || wait_for(&written, Direction::Write, WRITABLE, || true));
        wait_for(&slot, Direction::Read, READABLE, || true);
        writer.join().unwrap();
        reactor.join().unwrap();
    });
}

/// A socket, and its peer.
fn pair() -> (Socket, Socket) {
    Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap()
}

/// A poller without sockets, whose wake-ups nobody waits for.
struct NoPoller;

impl Poller for NoPoller {
    fn register(&self, _: BorrowedFd<'_>, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn deregister(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        Ok(())
    }

    fn wake(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Finds either barrier between the deadline of a slot and the time of the next sweep, if it is missing.
#[test]
fn a_deadline_that_is_set_during_a_sweep_is_not_missed() {
    check(3, || {
        let handle = Handle::new(NoPoller, LONG, NEVER);
        let [slot, other] = [(), ()].map(|()| handle.register(io::stdin().as_fd(), 0).unwrap());
        handle.set_deadline(&other, Some(now()));
        let setting = {
            let (handle, slot) = (handle.clone(), slot.clone());
            thread::spawn(move || handle.set_deadline(&slot, Some(now() + SHORT)))
        };
        let mut woken = Vec::new();
        handle.0.expire(&mut woken);
        setting.join().unwrap();
        // More than the distance between two sweeps.
        advance(Duration::from_millis(101));
        handle.0.expire(&mut woken);
        assert!(slot.is_due(handle.swept()));
    });
}

/// Finds a sweep that takes the wakers before its time can be seen.
#[test]
fn a_deadline_ends_a_wait_that_begins_during_the_sweep() {
    check(3, || {
        let handle = Handle::new(NoPoller, LONG, NEVER);
        let slot = handle.register(io::stdin().as_fd(), 0).unwrap();
        handle.set_deadline(&slot, Some(now()));
        let sweeping = {
            let handle = handle.clone();
            thread::spawn(move || {
                let mut woken = Vec::new();
                handle.0.expire(&mut woken);
                woken.into_iter().for_each(Waker::wake);
            })
        };
        let polled = block_on_until(
            None,
            poll_fn(|cx| match slot.poll(Direction::Read, cx, || handle.swept()) {
                Poll::Ready(polled) => Poll::Ready(polled.is_err()),
                Poll::Pending => Poll::Pending,
            }),
        );
        assert_eq!(polled, Some(true));
        sweeping.join().unwrap();
    });
}

/// Finds a reactor that announces its wait after it has looked for the next deadline, a deadline that is set after the
/// look at the reactor's wait, and weaker orderings of either.
#[test]
fn a_deadline_ends_the_wait_of_a_reactor() {
    check(2, || {
        let mut reactor = Reactor::new(LONG).unwrap();
        let handle = reactor.handle().clone();
        let (socket, _peer) = pair();
        let (slot, counter) = (handle.register(socket.as_fd(), 0).unwrap(), Arc::new(Counter::default()));
        let setting = {
            let waker = Waker::from(counter.clone());
            thread::spawn(move || {
                slot.leave_waker(Direction::Read, &waker);
                handle.set_deadline(&slot, Some(now() + SHORT));
                advance(SHORT);
            })
        };
        while counter.count() == 0 {
            reactor.turn(None).unwrap();
        }
        assert_eq!(elapsed(), SHORT);
        setting.join().unwrap();
    });
}

/// Finds a timer that does not wake the reactor, or wakes it before it can be seen.
#[test]
fn a_timer_ends_the_wait_of_a_reactor() {
    check(2, || {
        let mut reactor = Reactor::new(LONG).unwrap();
        let (handle, counter) = (reactor.handle().clone(), Arc::new(Counter::default()));
        let setting = {
            let waker = Waker::from(counter.clone());
            thread::spawn(move || {
                assert!(handle.set_timer(now() + SHORT, 0, &waker));
                advance(SHORT);
            })
        };
        while counter.count() == 0 {
            reactor.turn(None).unwrap();
        }
        setting.join().unwrap();
    });
}

/// Finds a notice that is given after the look at the reactor's wait, or looked for before the wait is announced, and
/// weaker orderings of either.
#[test]
fn a_wake_up_ends_the_wait_of_a_future_on_its_reactor() {
    check(3, || {
        let mut reactor = Reactor::new(LONG).unwrap();
        let (wakers, done) = (Arc::new(SegQueue::<Waker>::new()), Arc::new(AtomicBool::new(false)));
        let waking = {
            let (wakers, done) = (wakers.clone(), done.clone());
            thread::spawn(move || {
                done.store(true, Ordering::Relaxed);
                wakers.pop().into_iter().for_each(Waker::wake);
            })
        };
        let mut is_waker_left = false;
        let ended = reactor.block_on(poll_fn(|cx| {
            if !is_waker_left {
                wakers.push(cx.waker().clone());
                is_waker_left = true;
            }
            match done.load(Ordering::Relaxed) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        ended.unwrap();
        waking.join().unwrap();
    });
}

/// Turns `reactor` until `is_done`, and then ends the turn of the next thread.
fn turn_until(reactor: &SharedReactor, is_done: impl Fn() -> bool) {
    let mut events = SharedEvents::new(4);
    while !is_done() {
        reactor.turn(&mut events, None).unwrap();
    }
    reactor.handle().wake();
}

/// Finds a flag of the wake-up that is taken back after the thread looked for the reason, or before the event is taken.
#[test]
fn a_wake_up_ends_the_turn_of_a_thread() {
    check(2, || {
        let reactor = Arc::new(SharedReactor::new(LONG).unwrap());
        let wakes = Arc::new(AtomicUsize::new(0));
        let threads = [(), ()].map(|()| {
            let (reactor, wakes) = (reactor.clone(), wakes.clone());
            thread::spawn(move || {
                wakes.fetch_add(1, Ordering::Relaxed);
                reactor.handle().wake();
            })
        });
        turn_until(&reactor, || wakes.load(Ordering::Relaxed) == 2);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Finds a timer that is not set again after it has fired, or that replaces an earlier time by a later one.
#[test]
fn deadlines_and_timers_end_turns_of_a_shared_reactor() {
    check(2, || {
        let reactor = Arc::new(SharedReactor::new(LONG).unwrap());
        let handle = reactor.handle().clone();
        let (socket, _peer) = pair();
        let slot = handle.register(socket.as_fd(), 0).unwrap();
        let counters = [(), ()].map(|()| Arc::new(Counter::default()));
        let (timer, deadline) = (Waker::from(counters[0].clone()), Waker::from(counters[1].clone()));
        let setting_a_timer = {
            let handle = handle.clone();
            thread::spawn(move || {
                handle.set_timer(now() + SHORT, 0, &timer);
                advance(SHORT);
            })
        };
        let setting_a_deadline = thread::spawn(move || {
            slot.leave_waker(Direction::Read, &deadline);
            handle.set_deadline(&slot, Some(now() + 2 * SHORT));
            advance(2 * SHORT);
        });
        turn_until(&reactor, || counters.iter().all(|counter| counter.count() > 0));
        setting_a_timer.join().unwrap();
        setting_a_deadline.join().unwrap();
    });
}

/// A queue of tasks, and the threads that run them.
#[derive(Default)]
struct Workers {
    /// Whether workers wait for the handlers of their tasks.
    has_handlers: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<Task>>,
    /// The workers whose wait has to end.
    woken: [bool; 2],
    is_ended: bool,
}

impl Workers {
    /// Runs tasks until [`Workers::end`].
    fn work(self: Arc<Workers>, number: usize) {
        while let Some(task) = self.wait(|state| match state.is_ended {
            true => Some(None),
            false => state.ready.pop_front().map(Some),
        }) {
            task.run(number, &Place(self.clone(), number));
        }
    }

    fn end(&self) {
        self.change(|state| state.is_ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
        self.changed.notify_all();
    }

    fn wait<T>(&self, mut take: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut state = lock(&self.state);
        loop {
            match take(&mut state) {
                Some(taken) => return taken,
                None => state = self.changed.wait(state).expect("a lock without poison"),
            }
        }
    }
}

impl Schedule for Workers {
    fn push(&self, task: Arc<Task>) {
        self.change(|state| {
            assert!(!state.ready.iter().any(|ready| Arc::ptr_eq(ready, &task)), "the task is queued twice");
            state.ready.push_back(task);
        });
    }

    fn push_back(&self, task: Arc<Task>) {
        self.push(task);
    }

    fn unpark(&self, worker: usize) {
        // Without a waiting worker the call must not order anything: the lock would.
        if self.has_handlers {
            self.change(|state| state.woken[worker] = true);
        }
    }
}

/// The wait of a worker for its handler.
struct Place(Arc<Workers>, usize);

impl Park for Place {
    fn park(&self) {
        let Place(workers, number) = self;
        workers.wait(|state| std::mem::take(&mut state.woken[*number]).then_some(()));
    }

    fn unpark(&self) {
        self.0.unpark(self.1);
    }
}

/// Starts a task, which ends once each of two threads has set its flag and woken the task. At most two workers run it.
/// Of each flag the task sees only what a wake-up makes visible.
fn wake_a_task(is_handler: bool, workers_of_it: usize) {
    let workers = Arc::new(Workers { has_handlers: is_handler, ..Workers::default() });
    let flags = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
    let (ending, awaited, is_running) = (workers.clone(), flags.clone(), AtomicBool::new(false));
    let future = poll_fn(move |_| {
        assert!(!is_running.swap(true, Ordering::Relaxed), "two workers run the task");
        let is_ready = awaited.iter().all(|flag| flag.load(Ordering::Relaxed));
        is_running.store(false, Ordering::Relaxed);
        match is_ready {
            true => {
                ending.end();
                Poll::Ready(())
            }
            false => Poll::Pending,
        }
    });
    let schedule: Arc<dyn Schedule> = workers.clone();
    match is_handler {
        true => Task::start_handler(future, &schedule),
        false => Task::start_idle(future, &schedule),
    }
    let waker = Waker::from(lock(&workers.state).ready[0].clone());
    let [first, second] = flags;
    let work = |number| {
        let workers = workers.clone();
        thread::spawn(move || workers.work(number))
    };
    let threads: Vec<_> = (0..workers_of_it).map(work).collect();
    let other = waker.clone();
    let waking = thread::spawn(move || {
        second.store(true, Ordering::Relaxed);
        other.wake();
    });
    first.store(true, Ordering::Relaxed);
    waker.wake();
    waking.join().unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Finds a state that is set after the poll, and a state that is not exchanged on either side, although the wake-up
/// changes nothing: the poll does not see what precedes the wake-up.
#[test]
fn a_task_that_is_woken_is_polled_once_more() {
    check(3, || wake_a_task(false, 1));
}

/// Finds a task that is queued twice.
#[test]
fn a_task_that_is_woken_is_polled_by_one_worker() {
    check(1, || wake_a_task(false, 2));
}

/// Finds the same as the first check where the worker waits for a handler, and a notified task whose worker does not
/// wake up.
#[test]
fn a_handler_that_is_woken_is_polled_once_more_by_its_worker() {
    check(3, || wake_a_task(true, 1));
}
