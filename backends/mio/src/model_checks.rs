//! Model checks of the commands between event loops, and of the wake-ups of tasks, with the threads in every order.
//!
//! ARCHITECTURE.md says how they are run. Each check names a change of the code that it finds.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use gearshift_core::sync::model::{SegQueue, check};
use gearshift_core::sync::thread;
use gearshift_reactor::{EventLoop as _, Reactor};

use crate::executor::Executor;
use crate::worker::{CommandQueue, Worker};

/// A time limit that no check reaches.
const LONG: Duration = Duration::from_secs(3600);

/// An event loop on the calling thread.
struct Loop {
    reactor: Reactor,
    worker: Worker,
    executor: Executor,
}

fn event_loop() -> Loop {
    let reactor = Reactor::new(LONG).unwrap();
    let queue = CommandQueue::new(reactor.handle());
    let (worker, executor) = (Worker::of(&queue), Executor::enter(queue));
    Loop { reactor, worker, executor }
}

impl Loop {
    fn run_until(&mut self, is_done: impl Fn() -> bool) {
        while !is_done() {
            self.reactor.turn(self.executor.idle_for()).unwrap();
            self.executor.round();
        }
    }
}

/// Finds a flag of the queue that is taken back after the commands were read, a command that is queued after the flag
/// was set, and weaker orderings of the flag.
#[test]
fn commands_of_two_threads_end_the_wait_of_the_loop() {
    check(3, || {
        let mut event_loop = event_loop();
        let done = [(), ()].map(|()| Arc::new(AtomicBool::new(false)));
        let threads = done.clone().map(|done| {
            let worker = event_loop.worker.clone();
            thread::spawn(move || worker.spawn(Box::pin(async move { done.store(true, Ordering::Relaxed) })))
        });
        event_loop.run_until(|| done.iter().all(|done| done.load(Ordering::Relaxed)));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Finds a task that counts as queued until after its poll, and a wake-up that only looks whether the task is queued:
/// the poll does not see what precedes the wake-up.
#[test]
fn a_task_that_is_woken_is_polled_once_more() {
    check(3, || {
        let mut event_loop = event_loop();
        let (flags, done) =
            ([(), ()].map(|()| Arc::new(AtomicBool::new(false))), Arc::new(AtomicBool::new(false)));
        let (awaited, ended) = (flags.clone(), done.clone());
        let wakers = Arc::new(SegQueue::new());
        let waiting = wakers.clone();
        let mut is_first = true;
        event_loop.worker.spawn(Box::pin(poll_fn(move |cx: &mut Context<'_>| {
            if std::mem::take(&mut is_first) {
                waiting.push(cx.waker().clone());
                waiting.push(cx.waker().clone());
            }
            match awaited.iter().all(|flag| flag.load(Ordering::Relaxed)) {
                true => {
                    ended.store(true, Ordering::Relaxed);
                    Poll::Ready(())
                }
                false => Poll::Pending,
            }
        })));
        event_loop.executor.round();
        let threads = flags.map(|flag| {
            let waker: Waker = wakers.pop().unwrap();
            thread::spawn(move || {
                flag.store(true, Ordering::Relaxed);
                waker.wake_by_ref();
            })
        });
        event_loop.run_until(|| done.load(Ordering::Relaxed));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
