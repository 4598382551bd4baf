use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;

use gearshift_reactor::{EventLoop as _, Reactor};

use super::*;

/// A loop on the calling thread, turned by hand.
struct Rig {
    reactor: Reactor,
    worker: Worker,
    executor: Executor,
}

fn rig() -> Rig {
    let reactor = Reactor::new(Duration::from_secs(3600)).unwrap();
    let queue = CommandQueue::new(reactor.handle());
    let (worker, executor) = (Worker::of(&queue), Executor::enter(queue));
    Rig { reactor, worker, executor }
}

impl Rig {
    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.worker.spawn(Box::pin(future));
    }

    fn turn(&mut self) {
        self.executor.round();
        self.reactor.turn(self.executor.idle_for()).unwrap();
    }
}

#[test]
fn a_task_that_wakes_itself_starves_nobody() {
    let mut rig = rig();
    let turns = Arc::new(AtomicUsize::new(0));
    let (selfish, other) = (turns.clone(), turns.clone());
    rig.spawn(poll_fn(move |cx| {
        selfish.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::Pending
    }));
    let (tell, told) = mpsc::channel();
    rig.spawn(async move { tell.send(other.load(Ordering::Relaxed)).unwrap() });
    rig.turn();
    assert_eq!(told.try_recv(), Ok(1));
    assert_eq!(rig.executor.idle_for(), Some(Duration::ZERO));
    rig.turn();
    assert_eq!(turns.load(Ordering::Relaxed), 2);
}

#[test]
fn wakes_from_other_threads_are_all_seen() {
    const TASKS: usize = 64;
    const WAKES: usize = 200;
    let mut rig = rig();
    let done = Arc::new(AtomicUsize::new(0));
    let (elsewhere, wakers) = mpsc::channel::<Waker>();
    thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
    for _ in 0..TASKS {
        let (done, elsewhere) = (done.clone(), elsewhere.clone());
        rig.spawn(async move {
            for _ in 0..WAKES {
                let mut asked = false;
                poll_fn(|cx| {
                    if std::mem::replace(&mut asked, true) {
                        return Poll::Ready(());
                    }
                    elsewhere.send(cx.waker().clone()).unwrap();
                    Poll::Pending
                })
                .await;
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    while done.load(Ordering::Relaxed) < TASKS {
        rig.reactor.turn(rig.executor.idle_for()).unwrap();
        rig.executor.round();
    }
}

#[test]
fn a_panic_ends_its_task_alone() {
    let mut rig = rig();
    let (tell, told) = mpsc::channel();
    rig.spawn(async { panic!("expected by this test") });
    rig.spawn(async move { tell.send(()).unwrap() });
    rig.executor.round();
    assert_eq!(told.try_recv(), Ok(()));
    assert!(rig.executor.tasks.is_empty());
}

#[test]
fn a_waker_that_outlives_its_task_wakes_no_stranger() {
    let mut rig = rig();
    let (send, receive) = mpsc::channel();
    rig.spawn(poll_fn(move |cx| {
        send.send(cx.waker().clone()).unwrap();
        Poll::Ready(())
    }));
    rig.executor.round();
    let stale = receive.recv().unwrap();
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = polls.clone();
    rig.spawn(poll_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Poll::<()>::Pending
    }));
    rig.executor.round();
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    stale.wake();
    rig.executor.round();
    assert_eq!(polls.load(Ordering::Relaxed), 1);
    assert_eq!(rig.executor.tasks.len(), 1);
}

#[test]
fn what_is_sent_to_a_loop_that_has_ended_is_dropped() {
    let rig = rig();
    let worker = rig.worker.clone();
    drop(rig);
    let (tell, told) = mpsc::channel::<()>();
    worker.spawn(Box::pin(async move { drop(tell) }));
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected));
}

#[test]
fn a_connection_costs_little_beside_its_future() {
    let beside = size_of::<Task>() + 2 * size_of::<usize>() + size_of::<TaskHeader>();
    assert!(beside <= 80, "{beside}");
}

#[test]
fn the_release_of_the_latch_ends_the_loop_with_a_single_wake_up() {
    let reactor = Reactor::new(Duration::from_secs(3600)).unwrap();
    let queue = CommandQueue::new(reactor.handle());
    let worker = Worker::of(&queue);
    let latch = gearshift_core::Latch::new();
    let guard = latch.guard();
    let (tell, told) = mpsc::channel();
    let (begin, begun) = mpsc::channel();
    thread::spawn(move || {
        crate::run(reactor, queue, latch).unwrap();
        tell.send(()).unwrap();
    });
    worker.spawn(Box::pin(async move { begin.send(()).unwrap() }));
    begun.recv().unwrap();
    drop(guard);
    told.recv_timeout(Duration::from_secs(30)).unwrap();
}
