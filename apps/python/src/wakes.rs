//! The wakes of connections whose responses are complete.
//!
//! A wake interrupts the thread that runs Python: the thread of the connection sends one response and sleeps again.
//! While more requests wait for Python, wakes are collected, so that many responses are sent at once. A response waits
//! for at most [`MAX_DELAY`], also if the application blocks: a task of the server flushes the wakes.

use std::future::poll_fn;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gearshift::Runtime;

/// The longest time that a complete response waits for others.
pub(crate) const MAX_DELAY: Duration = Duration::from_millis(1);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Wakes(Mutex<State>);

#[derive(Default)]
struct State {
    /// At most one for each connection.
    collected: Vec<Waker>,
    /// Whether [`Wakes::wake`] collects.
    collects: bool,
    timer: Timer,
}

/// The task that limits the delay.
#[derive(Default)]
enum Timer {
    /// It has not begun, or has ended.
    #[default]
    Gone,
    /// It waits for the first wake.
    Idle(Waker),
    /// It looks at the wakes every [`MAX_DELAY`].
    Runs,
}

impl Wakes {
    /// Starts the task that limits the delay. Before, and after the task has ended with the server, nothing is
    /// collected.
    pub(crate) fn start(self: &Arc<Self>, runtime: &Runtime) {
        runtime.spawn_until_stop(limit_delay(runtime.clone(), Stopped(self.clone()))).detach();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Collects all wakes until the next flush.
    pub(crate) fn collect_all(&self) {
        self.lock().collects = true;
    }

    /// Wakes `waker`, at the next flush if wakes are collected.
    pub(crate) fn wake(&self, waker: Waker) {
        let collects = self.lock().collects;
        match collects {
            true => self.collect(waker),
            false => waker.wake(),
        }
    }

    /// Wakes `waker` at the next flush, or after [`MAX_DELAY`].
    pub(crate) fn collect(&self, waker: Waker) {
        let mut state = self.lock();
        let woken = match mem::replace(&mut state.timer, Timer::Runs) {
            Timer::Gone => {
                state.timer = Timer::Gone;
                Some(waker)
            }
            Timer::Idle(timer) => {
                state.collected.push(waker);
                Some(timer)
            }
            Timer::Runs => {
                state.collected.push(waker);
                None
            }
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits for the first wake.
    fn poll_any(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let has_any = !state.collected.is_empty();
        state.timer = if has_any { Timer::Runs } else { Timer::Idle(cx.waker().clone()) };
        if has_any { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Wakes all that were collected, and ends [`Wakes::collect_all`].
    pub(crate) fn flush(&self) {
        self.lock().collects = false;
        self.wake_collected();
    }

    /// Wakes all that were collected. Returns whether there were any.
    fn wake_collected(&self) -> bool {
        let mut collected = mem::take(&mut self.lock().collected);
        let has_any = !collected.is_empty();
        collected.drain(..).for_each(Waker::wake);
        // The memory is used again.
        let mut state = self.lock();
        if state.collected.capacity() < collected.capacity() {
            collected.append(&mut state.collected);
            state.collected = collected;
        }
        has_any
    }
}

/// Flushes the wakes every [`MAX_DELAY`] while there are any.
async fn limit_delay(runtime: Runtime, stopped: Stopped) {
    let Stopped(wakes) = &stopped;
    loop {
        poll_fn(|cx| wakes.poll_any(cx)).await;
        loop {
            runtime.sleep(MAX_DELAY).await;
            if !wakes.wake_collected() {
                break;
            }
        }
    }
}

/// The end of the task: from now on wakes are not collected.
struct Stopped(Arc<Wakes>);

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.lock().timer = Timer::Gone;
        self.0.flush();
    }
}
