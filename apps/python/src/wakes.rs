//! The wakes of connections whose responses are complete.
//!
//! A wake interrupts the thread that runs Python: the thread of the connection sends one response and sleeps again.
//! While more requests are at hand, their wakes are collected, so that the responses of many requests are sent at once.
//! A response waits for at most [`MAX_DELAY`], also if the application blocks: a task of the server sees to that.

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
    /// At most one for each request at hand.
    collected: Vec<Waker>,
    timer: Timer,
}

/// The task that limits the delay.
#[derive(Default)]
enum Timer {
    /// It has not begun, or has ended with the server.
    #[default]
    Gone,
    /// It waits for the first wake.
    Idle(Waker),
    /// It looks at the wakes every [`MAX_DELAY`].
    Runs,
}

impl Wakes {
    /// Starts the task that limits the delay.
    pub(crate) fn start(runtime: &Runtime) -> Arc<Wakes> {
        let wakes = Arc::new(Wakes::default());
        runtime.spawn_until_stop(limit_delay(runtime.clone(), Stopped(wakes.clone()))).detach();
        wakes
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Wakes all that were collected. Returns whether there were any.
    pub(crate) fn flush(&self) -> bool {
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
            if !wakes.flush() {
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
