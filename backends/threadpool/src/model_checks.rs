//! Model checks of the pool: how its threads watch the reactor in turn, park, and wake each other.
//!
//! ARCHITECTURE.md says how they are run. Each check names a change of the code that it finds.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gearshift_core::Latch;
use gearshift_core::park::block_on_until;
use gearshift_core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use gearshift_core::sync::model::{advance, check_seq_cst};
use gearshift_core::sync::thread::{self, JoinHandle};
use gearshift_core::sync::{Mutex, lock, now};
use gearshift_reactor::Task;

use crate::pool::{ParkingPlace, Pool, WATCHERS};
use crate::stand_in::StandIn;

/// A time limit that no check reaches.
const LONG: Duration = Duration::from_secs(3600);
/// A time limit that some checks reach.
const SHORT: Duration = Duration::from_millis(10);
/// In the first phase a worker finds that its tasks are quick, in the second it shares other tasks, and in the third a
/// worker looks for shared tasks.
const PHASES: usize = 3;

/// Polls `future` once.
async fn poll_once<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    poll_fn(|cx| match Pin::new(&mut future).poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Starts the workers of a pool, of which at most `watching` watch.
fn start(workers: usize, watching: usize) -> (Arc<Pool>, Vec<JoinHandle<()>>) {
    let pool = Pool::new(workers, watching, LONG).unwrap();
    let work = |number| {
        let pool = pool.clone();
        thread::spawn(move || pool.work(number).unwrap())
    };
    let workers = (0..workers).map(work).collect();
    (pool, workers)
}

/// Starts the background thread of a pool, which runs until `is_ended` is set.
fn start_background(pool: &Arc<Pool>, is_ended: &Arc<Flag>) -> JoinHandle<()> {
    let (pool, is_ended) = (pool.clone(), is_ended.clone());
    thread::spawn(move || pool.stand_in(Box::pin(poll_fn(move |cx| is_ended.poll(cx)))).unwrap())
}

fn join(threads: Vec<JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// A flag that a future awaits. The future sees of the flag only what its wake-up makes visible.
#[derive(Default)]
struct Flag {
    is_set: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Flag {
    fn set(&self) {
        self.is_set.store(true, Ordering::Relaxed);
        let waker = lock(&self.waker).take();
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        *lock(&self.waker) = Some(cx.waker().clone());
        match self.is_set.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// Queues two tasks in a pool of `workers`. The second to run stops the pool.
fn run_two_tasks(workers: usize) {
    let (pool, threads) = start(workers, WATCHERS);
    let runs = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let (runs, stopped) = (runs.clone(), pool.clone());
        let task = async move {
            if runs.fetch_add(1, Ordering::Relaxed) == 1 {
                stopped.stop();
            }
        };
        Task::start_idle(task, &pool.schedule());
    }
    join(threads);
    assert_eq!(runs.load(Ordering::Relaxed), 2);
}

/// Finds a worker that watches without a look at the ready tasks, a task that is pushed after the look for a worker,
/// and a flag of the wake-up that stays set.
#[test]
fn tasks_are_run_by_a_pool_of_one() {
    check_seq_cst(4, || run_two_tasks(1));
}

/// Finds a woken worker that does not wake the next one, and a stop that ends the wait of one watching worker only.
#[test]
fn tasks_are_run_by_a_pool_of_two() {
    check_seq_cst(2, || run_two_tasks(2));
}

/// Finds a worker that parks without a look at the ready tasks or at the watching workers, one that continues to park
/// after it left the list, and one that stops watching and wakes nobody.
#[test]
fn tasks_are_run_by_a_pool_of_three() {
    check_seq_cst(2, || run_two_tasks(3));
}

/// Finds a last watching worker that leaves the reactor unwatched while it runs a task.
#[test]
fn a_timer_fires_while_a_worker_is_busy() {
    check_seq_cst(1, || wait_for_a_timer(1, WATCHERS));
}

/// Finds a worker that parks without a look at the watching workers.
#[test]
fn a_timer_fires_while_the_only_watching_worker_is_busy() {
    check_seq_cst(1, || wait_for_a_timer(1, 1));
}

/// Finds a worker that wakes up, runs a task, and does not look at the watching workers.
#[test]
fn a_timer_fires_while_two_workers_are_busy() {
    check_seq_cst(1, || wait_for_a_timer(2, 1));
}

/// Runs tasks that hold `busy` workers, without a wait in the reactor, until another worker has seen a timer fire.
fn wait_for_a_timer(busy: usize, watching: usize) {
    let (pool, threads) = start(busy + 1, watching);
    // In most orders the workers wait before there are tasks.
    thread::yield_now();
    // Released when the timer is set and the workers are busy, and when the workers are free again.
    let (begun, ended) = (Latch::new(), Latch::new());
    let fired = Latch::new();
    let (setting, firing) = (begun.guard(), fired.guard());
    let mut sleep = Box::pin(pool.handle().sleep(now() + SHORT));
    let sleeping = async move {
        assert!(poll_once(&mut sleep).await.is_none());
        drop(setting);
        sleep.await;
        drop(firing);
    };
    Task::start_idle(sleeping, &pool.schedule());
    for _ in 0..busy {
        let (beginning, ending, has_fired) = (begun.guard(), ended.guard(), fired.released());
        let busy = async move {
            drop(beginning);
            block_on_until(None, has_fired);
            drop(ending);
        };
        Task::start_idle(busy, &pool.schedule());
    }
    block_on_until(None, begun.released());
    advance(SHORT);
    block_on_until(None, ended.released());
    pool.stop();
    join(threads);
}

/// Finds a wake-up of a held worker that is lost before the worker parks.
#[test]
fn a_handler_that_is_woken_continues() {
    check_seq_cst(4, || {
        let (pool, threads) = start(1, WATCHERS);
        let (is_woken, stopped) = (Arc::new(Flag::default()), pool.clone());
        let awaited = is_woken.clone();
        let handler = async move {
            poll_fn(|cx| awaited.poll(cx)).await;
            stopped.stop();
        };
        Task::start_handler(handler, &pool.schedule());
        is_woken.set();
        join(threads);
    });
}

/// Finds a background thread that does not watch while a handler holds the only worker.
#[test]
fn the_timer_of_a_handler_fires_while_it_holds_the_only_worker() {
    check_seq_cst(2, || {
        let (pool, threads) = start(1, WATCHERS);
        let (is_ended, stopped) = (Arc::new(Flag::default()), pool.clone());
        let background = start_background(&pool, &is_ended);
        let sleep = pool.handle().sleep(now() + SHORT);
        let handler = async move {
            sleep.await;
            stopped.stop();
            is_ended.set();
        };
        Task::start_handler(handler, &pool.schedule());
        advance(SHORT);
        join(threads);
        background.join().unwrap();
    });
}

/// Finds a background thread that does not watch for a thread of the application, and one that waits without another
/// look after it said that it does not watch.
#[test]
fn a_timer_of_another_thread_fires_while_the_only_worker_is_busy() {
    check_seq_cst(1, || wait_for_a_timer_outside(1));
}

/// Finds a worker that is woken to watch, runs a task instead, and tells nobody.
#[test]
fn a_timer_of_another_thread_fires_while_two_workers_are_busy() {
    check_seq_cst(0, || wait_for_a_timer_outside(2));
}

/// Runs tasks that hold all `workers`, without a wait in the reactor, until a thread of the application has seen a
/// timer fire. An event of the reactor begins the first task, which starts the others.
fn wait_for_a_timer_outside(workers: usize) {
    let (pool, threads) = start(workers, 1);
    let (is_ended, fired) = (Arc::new(Flag::default()), Latch::new());
    // In most orders a worker watches before the background thread looks.
    thread::yield_now();
    let background = start_background(&pool, &is_ended);
    let firing = fired.guard();
    pool.hold();
    let mut outside = Box::pin(pool.handle().sleep(now() + 2 * SHORT));
    assert!(block_on_until(None, poll_once(&mut outside)).flatten().is_none());

    let (waiting, begun) = (Latch::new(), Latch::new());
    let busy = |_| {
        let (beginning, has_fired) = (begun.guard(), fired.released());
        async move {
            drop(beginning);
            block_on_until(None, has_fired);
        }
    };
    let mut sleep = Box::pin(pool.handle().sleep(now() + SHORT));
    let (first, others): (_, Vec<_>) = (busy(0), (1..workers).map(busy).collect());
    let (setting, schedule) = (waiting.guard(), pool.schedule());
    let first = async move {
        assert!(poll_once(&mut sleep).await.is_none());
        drop(setting);
        sleep.await;
        others.into_iter().for_each(|other| Task::start_idle(other, &schedule));
        first.await;
    };
    Task::start_idle(first, &pool.schedule());
    block_on_until(None, waiting.released());
    thread::yield_now();
    advance(SHORT);
    block_on_until(None, begun.released());
    let mut is_first = true;
    let polled = poll_fn(|cx| {
        let polled = outside.as_mut().poll(cx);
        // Only after the poll: a poll at the time of the timer does not need it.
        if std::mem::take(&mut is_first) {
            advance(SHORT);
        }
        polled
    });
    block_on_until(None, polled);
    pool.release();
    drop(firing);
    pool.stop();
    join(threads);
    is_ended.set();
    background.join().unwrap();
}

/// Finds a background thread that takes the wake-up of a worker from the reactor and passes it on to nobody.
#[test]
fn a_task_is_run_while_the_background_thread_watches() {
    check_seq_cst(2, || {
        let (pool, threads) = start(1, WATCHERS);
        let is_ended = Arc::new(Flag::default());
        pool.hold();
        let background = start_background(&pool, &is_ended);
        let stopped = pool.clone();
        let task = async move {
            stopped.stop();
            is_ended.set();
        };
        Task::start_idle(task, &pool.schedule());
        join(threads);
        background.join().unwrap();
    });
}

/// Finds a wake-up that the place takes back by a load and a store.
#[test]
fn a_wake_up_ends_the_wait_in_a_parking_place() {
    check_seq_cst(2, || {
        let (place, wakes) = (Arc::new(ParkingPlace::default()), Arc::new(AtomicUsize::new(0)));
        place.enter();
        let threads = start_wakers(&wakes, &place, ParkingPlace::unpark);
        while wakes.load(Ordering::Relaxed) < WAKERS {
            place.park();
        }
        join(threads);
    });
}

/// Finds a flag of the wake-up that is taken back by a plain store.
#[test]
fn a_wake_up_ends_the_wait_of_the_background_thread() {
    check_seq_cst(2, || {
        let (stand_in, wakes) = (Arc::new(StandIn::new().unwrap()), Arc::new(AtomicUsize::new(0)));
        let threads = start_wakers(&wakes, &stand_in, StandIn::wake);
        while wakes.load(Ordering::Relaxed) < WAKERS {
            stand_in.wait(None).unwrap();
        }
        join(threads);
    });
}

/// Number of threads that wake one sleeper.
const WAKERS: usize = 3;

/// Starts threads that count a wake-up in `wakes` and then `wake` the sleeper.
fn start_wakers<S: Send + Sync + 'static>(
    wakes: &Arc<AtomicUsize>,
    sleeper: &Arc<S>,
    wake: fn(&S),
) -> Vec<JoinHandle<()>> {
    let wake = |_| {
        let (wakes, sleeper) = (wakes.clone(), sleeper.clone());
        thread::spawn(move || {
            wakes.fetch_add(1, Ordering::Relaxed);
            wake(&sleeper);
        })
    };
    (0..WAKERS).map(wake).collect()
}

/// Finds a worker that wakes no other worker for the tasks behind its own, although none looks for them.
#[test]
fn tasks_behind_one_that_is_not_quick_are_run() {
    check_seq_cst(1, || {
        let (pool, threads) = start(2, WATCHERS);
        for _ in 0..PHASES {
            let (quick, all) = (Latch::new(), Latch::new());
            let (are_run, held) = (quick.released(), all.guard());
            let busy = async move {
                block_on_until(None, are_run);
                drop(held);
            };
            let tasks = [(), ()].map(|()| (quick.guard(), all.guard()));
            Task::start_idle(busy, &pool.schedule());
            for guards in tasks {
                Task::start_idle(async move { drop(guards) }, &pool.schedule());
            }
            block_on_until(None, all.released());
        }
        pool.stop();
        join(threads);
    });
}
