//! Model checks of the worker: how other threads end its waits.
//!
//! ARCHITECTURE.md says how they are run. Each check names a change of the code that it finds.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use gearshift_core::sync::model::check;
use gearshift_core::sync::{Mutex, lock, thread};
use gearshift_reactor::{Reactor, Schedule, Task};

use crate::worker::Worker;

/// A time limit that no check reaches.
const LONG: Duration = Duration::from_secs(3600);

/// Starts a task with `start`, which stops the worker once each of two threads has set its flag and woken the task.
fn wake_a_task(start: fn(Pin<Box<dyn Future<Output = ()> + Send>>, &Arc<dyn Schedule>)) {
    let reactor = Reactor::new(LONG).unwrap();
    let worker = Worker::new(reactor.handle());
    let flags = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
    let wakers = [(), ()].map(|()| Arc::new(Mutex::new(None::<Waker>)));
    let (stopped, awaited, left) = (worker.clone(), flags.clone(), wakers.clone());
    let task = poll_fn(move |cx| {
        left.iter().for_each(|waker| *lock(waker) = Some(cx.waker().clone()));
        match awaited.iter().all(|flag| flag.load(Ordering::Relaxed)) {
            true => {
                stopped.stop();
                Poll::Ready(())
            }
            false => Poll::Pending,
        }
    });
    start(Box::pin(task), &worker.schedule());
    let threads: Vec<_> = flags
        .into_iter()
        .zip(wakers)
        .map(|(flag, waker)| {
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                let waker = lock(&waker).take();
                waker.into_iter().for_each(Waker::wake);
            })
        })
        .collect();
    worker.run(reactor).unwrap();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Finds a flag of the wake-up that is looked at before the wait is announced, or that is taken back after the look at
/// the ready tasks.
#[test]
fn a_task_that_is_woken_is_run() {
    check(2, || wake_a_task(Task::start_idle));
}

/// Finds the same where a handler holds the worker.
#[test]
fn a_handler_that_is_woken_continues() {
    check(2, || wake_a_task(Task::start_handler));
}
