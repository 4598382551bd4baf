//! Blocking waits for a future, by the role of the calling thread.
//!
//! A thread has one of three roles. A thread that no backend owns parks until its future wakes it. If it runs a job of
//! a pool, it lends the place of the job while it is parked. A worker of a blocking backend waits through the [`Park`]
//! of its backend, which may run a reactor. A thread that drives the connections of an event loop must not wait: the
//! events that would wake it are events that it handles itself.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use crate::runtime::pool::Pool;
use crate::runtime::sync::thread::{self, Thread};
use crate::runtime::sync::{now, thread_local};

/// The wait of a worker thread of a blocking backend.
///
/// ```
/// use std::sync::Arc;
/// use std::thread::{self, Thread};
///
/// use gearshift_core::park::{Park, enter_worker};
///
/// struct Parked(Thread);
///
/// impl Park for Parked {
///     fn park(&self) {
///         thread::park();
///     }
///
///     fn unpark(&self) {
///         self.0.unpark();
///     }
/// }
///
/// thread::spawn(|| {
///     let _role = enter_worker(Arc::new(Parked(thread::current())));
///     // The thread polls connections here.
/// });
/// ```
pub trait Park: Send + Sync + 'static {
    /// Waits until [`Park::unpark`] is called. Returns at once if `unpark` was called since the last `park` returned.
    /// Spurious returns are allowed. Only the worker thread itself calls this method.
    fn park(&self);

    /// Makes the current or the next [`Park::park`] return. Any thread may call this method.
    fn unpark(&self);
}

thread_local! {
    static IS_EVENT_LOOP: Cell<bool> = const { Cell::new(false) };
    static IS_STREAMING: Cell<bool> = const { Cell::new(false) };
    static WORKER: RefCell<Option<Arc<dyn Park>>> = const { RefCell::new(None) };
}

thread_local! {
    static THREAD_WAKER: Waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
}

/// The role of a worker. Dropping the value ends the role. It must be dropped on the thread that entered it.
///
/// See [`Park`] for an example.
#[must_use = "the role ends when this is dropped"]
#[derive(Debug)]
pub struct WorkerRole(());

impl Drop for WorkerRole {
    fn drop(&mut self) {
        let _ = WORKER.try_with(|worker| worker.take());
    }
}

/// Makes the calling thread a worker of a blocking backend. Blocking waits on the thread go through `park`. Jobs that a
/// handler offloads run in place on the thread.
///
/// See [`Park`] for an example.
pub fn enter_worker(park: Arc<dyn Park>) -> WorkerRole {
    WORKER.with(|worker| worker.replace(Some(park)));
    WorkerRole(())
}

/// Whether the calling thread is a worker of a blocking backend.
pub(crate) fn is_worker() -> bool {
    WORKER.with(|worker| worker.borrow().is_some())
}

/// Whether the calling thread is a worker of a blocking backend that runs code of a handler. The thread may be held.
pub(crate) fn is_in_handler() -> bool {
    is_worker() && !IS_STREAMING.with(Cell::get)
}

/// The poll of a response body that does not hold its thread. It ends on drop. The body must not hold the thread of a
/// worker while it waits, so the work that it offloads does not run in place. The field is whether the thread polled a response body before.
pub(crate) struct StreamingRole(bool);

impl StreamingRole {
    /// Marks the calling thread as polling the body of a response.
    pub(crate) fn enter() -> StreamingRole {
        StreamingRole(IS_STREAMING.with(|role| role.replace(true)))
    }
}

impl Drop for StreamingRole {
    fn drop(&mut self) {
        IS_STREAMING.with(|role| role.set(self.0));
    }
}

/// The role of an event loop, which ends on drop. The field is the role that the thread had before.
pub(crate) struct EventLoopRole(bool);

impl EventLoopRole {
    /// Sets whether the calling thread is an event loop, which must not wait.
    #[inline]
    pub(crate) fn enter(is_event_loop: bool) -> EventLoopRole {
        EventLoopRole(IS_EVENT_LOOP.with(|role| role.replace(is_event_loop)))
    }
}

impl Drop for EventLoopRole {
    #[inline]
    fn drop(&mut self) {
        IS_EVENT_LOOP.with(|role| role.set(self.0));
    }
}

/// Whether the calling thread is an event loop, which must not wait.
pub(crate) fn is_event_loop() -> bool {
    IS_EVENT_LOOP.with(Cell::get)
}

/// Calls `poll` until it is ready, and waits between the calls. Returns `None` if a wait is necessary and the calling
/// thread is an event loop.
pub(crate) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    let worker = WORKER.with(|worker| worker.borrow().clone());
    let waker = match &worker {
        Some(park) => Waker::from(Arc::new(ParkWaker(park.clone()))),
        None => THREAD_WAKER.with(Waker::clone),
    };
    let mut cx = Context::from_waker(&waker);
    loop {
        match (poll(&mut cx), &worker) {
            (Poll::Ready(output), _) => return Some(output),
            (Poll::Pending, Some(park)) => park.park(),
            (Poll::Pending, None) if is_event_loop() => return None,
            (Poll::Pending, None) => {
                let _lent = Pool::lend_place();
                thread::park();
            }
        }
    }
}

/// Polls `future` until it is ready, and parks the calling thread between the polls. Returns `None` if the future is
/// not ready by `deadline`. The calling thread must not be a worker ([`enter_worker`]) or poll connections outside
/// `future`.
///
/// ```
/// use std::future::{pending, ready};
/// use std::time::Instant;
///
/// use gearshift_core::park::block_on_until;
///
/// assert_eq!(block_on_until(None, ready(1)), Some(1));
/// assert_eq!(block_on_until(Some(Instant::now()), pending::<u32>()), None);
/// ```
pub fn block_on_until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    let waker = THREAD_WAKER.with(Waker::clone);
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        match deadline.map(|at| at.saturating_duration_since(now())) {
            None => thread::park(),
            Some(left) if left.is_zero() => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

/// The waker of a worker.
struct ParkWaker(Arc<dyn Park>);

impl Wake for ParkWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// The waker of a thread that waits with [`thread::park`].
struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(all(test, not(gearshift_model)))]
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

    /// Returns a poll function that is pending `n` times and wakes its task each time, alternately in both ways.
    fn after(mut n: usize) -> impl FnMut(&mut Context<'_>) -> Poll<()> {
        move |cx| match n {
            0 => Poll::Ready(()),
            _ => {
                n -= 1;
                let waker = cx.waker().clone();
                match n % 2 {
                    0 => waker.wake_by_ref(),
                    _ => waker.wake(),
                }
                Poll::Pending
            }
        }
    }

    #[test]
    fn a_thread_without_a_role_parks() {
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
    fn a_worker_that_polls_a_response_body_is_not_in_a_handler() {
        let worker = enter_worker(Arc::new(Counts::default()));
        let outer = StreamingRole::enter();
        drop(StreamingRole::enter());
        assert!(is_worker() && !is_in_handler());
        drop(outer);
        assert!(is_in_handler());
        drop(worker);
        assert!(!is_in_handler());
    }

    #[test]
    fn an_event_loop_does_not_wait() {
        let event_loop = EventLoopRole::enter(true);
        assert_eq!(block_on(after(0)), Some(()), "a future that is ready needs no wait");
        assert_eq!(block_on(after(1)), None);
        drop(event_loop);
        assert_eq!(block_on(after(1)), Some(()));
    }
}
