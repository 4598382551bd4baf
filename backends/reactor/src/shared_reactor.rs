//! A reactor that several threads wait in at once, for pools of threads.
//!
//! All threads wait in one epoll. The system hands each edge-triggered event to one of them, so a thread that is
//! free takes the next event itself, and no thread hands work over. Deadlines and timers arrive as an event too, of
//! a `timerfd` that is armed for the earliest of them: a timeout for each wait would end the waits of all threads.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use gearshift_core::sync::{Mutex, interrupt, lock, wait};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::handle::{Handle, NEVER, Poller};
#[cfg(gearshift_model)]
use crate::model::system_timer::SystemTimer;
use crate::slot::readiness;
#[cfg(not(gearshift_model))]
use crate::system_timer::SystemTimer;

/// The token of [`Handle::wake`].
const WAKE: usize = usize::MAX;
/// The token of the timer.
const TIMER: usize = usize::MAX - 1;
/// The longest timeout that the system takes.
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// Waits for readiness, deadlines and timers on any number of threads, and wakes the tasks that wait for them.
///
/// Deadlines are noticed as by a [`Reactor`](crate::Reactor), if at least one thread waits.
pub struct SharedReactor {
    poller: Arc<SharedPoller>,
    handle: Handle,
}

/// The buffers of one thread for [`SharedReactor::turn`].
pub struct SharedEvents {
    events: Vec<Event>,
    /// Wakers to call once no lock is held. Empty between turns.
    woken: Vec<Waker>,
}

impl SharedEvents {
    /// Buffers for turns that take at most `max_events` events, at least one, from the system at once. Other
    /// threads can take the rest.
    pub fn new(max_events: usize) -> SharedEvents {
        SharedEvents { events: Vec::with_capacity(max_events.max(1)), woken: Vec::new() }
    }
}

impl SharedReactor {
    /// A reactor for a server whose shortest time limit is `shortest_timeout`.
    ///
    /// # Errors
    /// Errors of the system, for example no free file descriptor.
    pub fn new(shortest_timeout: Duration) -> io::Result<SharedReactor> {
        let poller = Arc::new(SharedPoller::new()?);
        // To the handles the reactor always sleeps: only the timer knows until when.
        let handle = Handle::new(poller.clone(), shortest_timeout, NEVER);
        Ok(SharedReactor { poller, handle })
    }

    /// The handle with which sockets and timers are registered.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Ends the timers of the reactor, because no thread turns it any more. Waits for them continue elsewhere.
    pub fn close(&self) {
        self.handle.0.close();
    }

    /// Waits until there is an event for this thread, [`Handle::wake`] was called, or `timeout` is over. Then it
    /// wakes the tasks concerned, and returns the number of events. A deadline or timer that is due is an event,
    /// and so is a call of `wake`. Any number of threads may be in this function.
    ///
    /// # Errors
    /// Errors of the system. The reactor cannot be used any more.
    pub fn turn(&self, events: &mut SharedEvents, timeout: Option<Duration>) -> io::Result<usize> {
        let SharedEvents { events, woken } = events;
        events.clear();
        self.handle.0.turns.fetch_add(1, Ordering::Relaxed);
        self.poller.wait(events, timeout)?;
        let has = |special| events.iter().any(|event| token(event) == special);
        if has(WAKE) {
            // Not a plain store: what precedes a call of `wake` that found the flag set must be seen after this.
            self.poller.is_woken.swap(false, Ordering::SeqCst);
        }
        self.handle
            .0
            .announce(events.iter().map(|event| (token(event), event_readiness(event.flags))), woken);
        if has(TIMER) {
            // The timer has to be set again for what is due next.
            *lock(&self.poller.armed) = None;
            self.handle.0.expire(woken);
            match self.handle.0.next_due() {
                NEVER => {}
                at => self.handle.0.wake_by(at),
            }
        }
        woken.drain(..).for_each(Waker::wake);
        Ok(events.len())
    }
}

/// Readable while an event waits that no thread has taken, for a thread that waits in another poller.
impl AsFd for SharedReactor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.epoll.as_fd()
    }
}

impl Drop for SharedReactor {
    fn drop(&mut self) {
        self.close();
    }
}

fn token(event: &Event) -> usize {
    event.data.u64() as usize
}

fn event_readiness(flags: EventFlags) -> u8 {
    let has = |any: EventFlags| flags.intersects(any);
    let failed = EventFlags::HUP | EventFlags::ERR;
    readiness(
        has(EventFlags::IN | EventFlags::PRI),
        has(EventFlags::OUT | failed),
        has(EventFlags::RDHUP | failed),
    )
}

/// The poller of a [`SharedReactor`].
struct SharedPoller {
    epoll: OwnedFd,
    /// Written to by [`Handle::wake`]. It is never read: each write is an edge.
    waker: OwnedFd,
    /// Whether `waker` was written to, and no thread has taken that event yet.
    is_woken: AtomicBool,
    timer: SystemTimer,
    /// When `timer` fires. Held while it is set, so that an earlier time is never replaced by a later one.
    armed: Mutex<Option<Instant>>,
}

impl SharedPoller {
    fn new() -> io::Result<SharedPoller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let timer = SystemTimer::new()?;
        for (fd, token) in [(waker.as_fd(), WAKE), (timer.as_fd(), TIMER)] {
            epoll::add(&epoll, fd, EventData::new_u64(token as u64), EventFlags::IN | EventFlags::ET)?;
        }
        Ok(SharedPoller { epoll, waker, is_woken: AtomicBool::new(false), timer, armed: Mutex::default() })
    }

    fn wait(&self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        wait(timeout, |timeout| {
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout.min(MAX_TIMEOUT)).ok());
            match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
                Ok(n) => Ok(n > 0),
                Err(Errno::INTR) => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
    }
}

impl Poller for Arc<SharedPoller> {
    fn register(&self, socket: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token as u64), flags)?)
    }

    fn deregister(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, socket)?)
    }

    fn wake(&self) -> io::Result<()> {
        if !self.is_woken.swap(true, Ordering::SeqCst) {
            interrupt(|| rustix::io::write(&self.waker, &1u64.to_ne_bytes()))?;
        }
        Ok(())
    }

    /// Sets the timer, unless it fires earlier.
    fn wake_by(&self, at: Instant) -> io::Result<()> {
        let mut armed = lock(&self.armed);
        if armed.is_some_and(|armed| armed <= at) {
            return Ok(());
        }
        self.timer.set(at)?;
        *armed = Some(at);
        Ok(())
    }
}

#[cfg(all(test, not(gearshift_model)))]
mod tests;
