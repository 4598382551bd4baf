//! How the calling thread waits for a future, and whether it may.
//!
//! A thread has one of three roles. A thread of the program's own parks until its future wakes it. A worker of a
//! blocking backend waits through the [`Park`] that its backend entered, which may run a reactor. A thread that drives
//! connections of an event loop must not wait at all, because it would wait for itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

/// How the workers of a blocking backend wait.
pub trait Park: Send + Sync + 'static {
    /// Waits until [`Park::unpark`] is called, or returns at once if it was called since the last `park` returned.
    /// Only the thread that entered this calls it. It may return early.
    fn park(&self);

    /// Makes the current or the next [`Park::park`] return. Called from any thread.
    fn unpark(&self);
}

thread_local! {
    static IS_EVENT_LOOP: Cell<bool> = const { Cell::new(false) };
    static WORKER: RefCell<Option<Arc<dyn Park>>> = const { RefCell::new(None) };
    static PLAIN: Waker = Waker::from(Arc::new(Unparks(Arc::new(PlainPark(thread::current())))));
}

/// Takes the role of a worker from the thread when it is dropped.
#[must_use = "the role ends when this is dropped"]
#[derive(Debug)]
pub struct WorkerRole(());

impl Drop for WorkerRole {
    fn drop(&mut self) {
        let _ = WORKER.try_with(|worker| worker.take());
    }
}

/// Makes the calling thread a worker of a blocking backend, which waits through `park`: work that a handler offloads
/// runs in place on it.
pub fn enter_worker(park: Arc<dyn Park>) -> WorkerRole {
    WORKER.set(Some(park));
    WorkerRole(())
}

/// Whether the calling thread is a worker of a blocking backend.
pub(crate) fn is_worker() -> bool {
    WORKER.with_borrow(Option::is_some)
}

/// Marks the thread as one that drives connections of an event loop until it is dropped.
pub(crate) struct EventLoopRole(bool);

impl EventLoopRole {
    /// Marks the calling thread, or marks it as one that may wait.
    #[inline]
    pub(crate) fn enter(is_event_loop: bool) -> EventLoopRole {
        EventLoopRole(IS_EVENT_LOOP.replace(is_event_loop))
    }
}

impl Drop for EventLoopRole {
    #[inline]
    fn drop(&mut self) {
        IS_EVENT_LOOP.set(self.0);
    }
}

/// Whether the calling thread must not wait.
pub(crate) fn is_event_loop() -> bool {
    IS_EVENT_LOOP.get()
}

/// Calls `poll` until it is ready, waiting in between. `None` if it would have to wait on a thread that must not.
pub(crate) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let worker = WORKER.with_borrow(Option::clone);
    let waker = match &worker {
        Some(park) => Waker::from(Arc::new(Unparks(park.clone()))),
        None => PLAIN.with(Waker::clone),
    };
    let mut cx = Context::from_waker(&waker);
    loop {
        match (poll(&mut cx), &worker) {
            (Poll::Ready(output), _) => return Some(output),
            (Poll::Pending, Some(park)) => park.park(),
            (Poll::Pending, None) if is_event_loop() => return None,
            (Poll::Pending, None) => thread::park(),
        }
    }
}

/// Polls `future` on a thread of the program's own until it is ready; `None` if it is not ready by `deadline`.
pub fn block_on_until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let waker = PLAIN.with(Waker::clone);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// A waker for a thread that parks.
struct Unparks(Arc<dyn Park>);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The standard library's way.
struct PlainPark(Thread);

impl Park for PlainPark {
    fn park(&self) {
        thread::park();
    }

    fn unpark(&self) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts {
        parks: AtomicUsize,
        unparks: AtomicUsize,
    }

    impl Park for Counts {
        fn park(&self) {
            self.parks.fetch_add(1, Ordering::SeqCst);
        }

        fn unpark(&self) {
            self.unparks.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Pending `n` times, and woken each time.
    fn after(mut n: usize) -> impl FnMut(&mut Context<'_>) -> Poll<()> {
        move |cx| match n {
            0 => Poll::Ready(()),
            _ => {
                n -= 1;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    #[test]
    fn a_plain_thread_waits_by_itself() {
        assert_eq!(block_on(after(3)), Some(()));
        assert!(!is_worker() && !is_event_loop());
    }

    #[test]
    fn a_worker_waits_through_its_park() {
        let counts = Arc::new(Counts::default());
        let worker = enter_worker(counts.clone());
        assert!(is_worker());
        assert_eq!(block_on(after(3)), Some(()));
        assert_eq!(counts.parks.load(Ordering::SeqCst), 3);
        assert_eq!(counts.unparks.load(Ordering::SeqCst), 3);
        drop(worker);
        assert!(!is_worker());
    }

    #[test]
    fn an_event_loop_does_not_wait() {
        let event_loop = EventLoopRole::enter(true);
        assert_eq!(block_on(after(0)), Some(()), "what is ready needs no wait");
        assert_eq!(block_on(after(1)), None);
        drop(event_loop);
        assert_eq!(block_on(after(1)), Some(()));
    }
}
