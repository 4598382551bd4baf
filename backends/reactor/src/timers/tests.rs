use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Wake;

use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::testing::{LONG, once_it_waits};

/// Puts its number on a list when it is woken.
struct Numbered(usize, Arc<Mutex<Vec<usize>>>);

impl Wake for Numbered {
    fn wake(self: Arc<Self>) {
        lock(&self.1).push(self.0);
    }
}

fn rig() -> (Reactor, Handle) {
    let reactor = Reactor::new(LONG).unwrap();
    let handle = reactor.handle().clone();
    (reactor, handle)
}

fn timers(handle: &Handle) -> usize {
    lock(&handle.0.timers.queue).wakers.len()
}

/// Timers fire in order and not early on the reactor of `handle`, which `turn` turns.
pub(crate) fn fire_in_order<T>(handle: &Handle, mut turn: impl FnMut() -> T) {
    let begun = Instant::now();
    let woken = Arc::new(Mutex::new(Vec::new()));
    let due = |n| begun + n as u32 * Duration::from_millis(5);
    let mut sleeps: Vec<_> = [3, 1, 2, 0].into_iter().map(|n| (n, handle.sleep(due(n)))).collect();
    for (n, sleep) in &mut sleeps {
        let waker = Waker::from(Arc::new(Numbered(*n, woken.clone())));
        if Pin::new(sleep).poll(&mut Context::from_waker(&waker)).is_ready() {
            waker.wake();
        }
    }
    while lock(&woken).len() < sleeps.len() {
        turn();
        assert!(lock(&woken).iter().all(|&n| Instant::now() >= due(n)));
    }
    assert_eq!(*lock(&woken), [0, 1, 2, 3]);
    for (_, mut sleep) in sleeps {
        assert!(block_on(poll_once(&mut sleep)).is_some());
    }
    assert_eq!(timers(handle), 0);
}

#[test]
fn timers_fire_in_order_and_not_early() {
    let (mut reactor, handle) = rig();
    fire_in_order(&handle, || reactor.turn(None).unwrap());
}

#[test]
fn a_dropped_sleep_leaves_no_timer() {
    let (mut reactor, handle) = rig();
    let at = Instant::now() + LONG;
    let (mut dropped, mut kept) = (handle.sleep(at), handle.sleep(at + LONG));
    assert_eq!(timers(&handle), 0);
    assert!(block_on(poll_once(&mut dropped)).is_none());
    assert!(block_on(poll_once(&mut kept)).is_none());
    assert_eq!((timers(&handle), reactor.sleep_until()), (2, Some(at)));
    drop(dropped);
    assert_eq!((timers(&handle), reactor.sleep_until()), (1, Some(at + LONG)));
    drop(kept);
    assert_eq!((timers(&handle), reactor.sleep_until()), (0, None));
}

#[test]
fn a_timer_wakes_the_task_that_polled_last() {
    let (mut reactor, handle) = rig();
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut sleep = handle.sleep(Instant::now() + Duration::from_millis(20));
    for n in 0..3 {
        let waker = Waker::from(Arc::new(Numbered(n, woken.clone())));
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(timers(&handle), 1);
    while lock(&woken).is_empty() {
        reactor.turn(None).unwrap();
    }
    assert_eq!(*lock(&woken), [2]);
}

#[test]
fn a_sleep_moves_to_another_thread_and_interrupts_a_longer_wait() {
    let (mut reactor, handle) = rig();
    let begun = Instant::now();
    let mut far = handle.sleep(begun + LONG);
    let near = handle.sleep(begun + Duration::from_millis(20));
    assert!(block_on(poll_once(&mut far)).is_none());
    let (tell, told) = mpsc::channel();
    let woken = handle.clone();
    // The reactor waits for the far timer: the near one has to interrupt it.
    let other = once_it_waits(&handle, move || {
        block_on(near);
        tell.send(()).unwrap();
        woken.wake();
    });
    while told.try_recv().is_err() {
        reactor.turn(None).unwrap();
    }
    other.join().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(20));
    drop(far);
}

#[test]
fn a_timer_set_on_the_reactors_own_thread_does_not_interrupt_it() {
    let (mut reactor, handle) = rig();
    let mut sleep = handle.sleep(Instant::now() + LONG);
    assert!(block_on(poll_once(&mut sleep)).is_none());
    assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap(), 0);
}

#[test]
fn a_time_that_never_comes_is_waited_for() {
    let (mut reactor, handle) = rig();
    let mut at = Instant::now();
    let mut step = Duration::MAX;
    // The latest time that the system can express.
    while step > Duration::from_secs(1) {
        match at.checked_add(step) {
            Some(later) => at = later,
            None => step /= 2,
        }
    }
    let mut sleep = handle.sleep(at);
    let mut century = handle.sleep(Instant::now() + Duration::from_secs(100 * 365 * 86_400));
    for _ in 0..2 {
        assert!(block_on(poll_once(&mut sleep)).is_none());
        assert!(block_on(poll_once(&mut century)).is_none());
        handle.wake();
        reactor.turn(None).unwrap();
    }
}

/// Sleeps outlive the reactor of `handle`, which `end` ends.
pub(crate) fn outlive<T>(handle: &Handle, end: impl FnOnce() -> T) {
    let at = Instant::now() + Duration::from_millis(100);
    let (mut before, after) = (handle.sleep(at), handle.sleep(at));
    let (tell, told) = mpsc::channel();
    let waiting = thread::spawn(move || {
        block_on(async {
            assert!(poll_once(&mut before).await.is_none());
            tell.send(()).unwrap();
            before.await;
        });
    });
    told.recv().unwrap();
    end();
    waiting.join().unwrap();
    block_on(after);
    assert!(Instant::now() >= at);
    // A sleep without its reactor still blocks nothing else on its thread.
    let mut endless = handle.sleep(Instant::now() + LONG);
    assert!(block_on(poll_once(&mut endless)).is_none());
    assert!(block_on(poll_once(poll_fn(|cx| Pin::new(&mut endless).poll(cx)))).is_none());
}

#[test]
fn a_sleep_outlives_its_reactor() {
    let (reactor, handle) = rig();
    outlive(&handle, || drop(reactor));
}
