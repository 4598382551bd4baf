//! The reactor of one thread: it waits for sockets, deadlines and timers, and wakes the tasks that wait for them.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use gearshift_core::sync::atomic::{AtomicBool, Ordering};
use gearshift_core::sync::{interrupt, now, wait};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Registry, Token};
#[cfg(target_os = "linux")]
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::handle::{AWAKE, Handle, NEVER, Poller};
use crate::slot::readiness;

/// The largest number of events taken from the system in one turn.
const BATCH: usize = 1024;
/// The token of [`Handle::wake`].
const WAKE: Token = Token(usize::MAX);

/// Waits for readiness, deadlines and timers, and wakes the tasks that wait for them. One thread or task owns it.
///
/// A socket's deadline is noticed on time if no other was met shortly before. Otherwise it is noticed late: by up to a
/// 32nd of the server's shortest time limit, at most 100 ms, or by up to 320 ns for each socket, at most 500 ms.
pub struct Reactor {
    poll: mio::Poll,
    events: Events,
    /// Wakers to call once no lock is held. Empty between turns.
    woken: Vec<Waker>,
    handle: Handle,
}

impl Reactor {
    /// A reactor for a server whose shortest time limit is `shortest_timeout`.
    ///
    /// # Errors
    /// Errors of the system, for example no free file descriptor.
    pub fn new(shortest_timeout: Duration) -> io::Result<Reactor> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        let handle = Handle::new(OwnedPoller { registry, waker }, shortest_timeout, AWAKE);
        Ok(Reactor { poll, events: Events::with_capacity(BATCH), woken: Vec::new(), handle })
    }

    /// The handle with which sockets and timers are registered.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until there is an event, a deadline or timer is due, [`Handle::wake`] was called, or `timeout` is
    /// over. Then it wakes the tasks concerned, and returns the number of events.
    ///
    /// # Errors
    /// Errors of the system. The reactor cannot be used any more.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.turn_unless(timeout, || false)
    }

    /// Runs `future` on the calling thread, which waits in this reactor while the future is pending. A wake-up
    /// costs a system call only if another thread makes it while the reactor waits.
    ///
    /// # Errors
    /// Errors of the system. The reactor cannot be used any more.
    pub fn block_on<F: Future>(&mut self, future: F) -> io::Result<F::Output> {
        let notice = Arc::new(Notice { is_given: AtomicBool::new(true), handle: self.handle.clone() });
        let waker = Waker::from(notice.clone());
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            if notice.is_given.swap(false, Ordering::AcqRel)
                && let Poll::Ready(output) = future.as_mut().poll(&mut cx)
            {
                return Ok(output);
            }
            // A future that keeps waking itself delays no event.
            let timeout = notice.is_given.load(Ordering::Acquire).then_some(Duration::ZERO);
            self.turn_unless(timeout, || notice.is_given.load(Ordering::SeqCst))?;
        }
    }

    /// Announces that the owner is about to wait. Returns the time at which the next deadline or timer is due.
    pub(crate) fn sleep_until(&mut self) -> Option<Instant> {
        // The announcement precedes the look: a thread that sets an earlier time in between wakes the reactor.
        let shared = &self.handle.0;
        shared.asleep_until.store(shared.next_due(), Ordering::SeqCst);
        match shared.next_due() {
            NEVER => None,
            at => Some(shared.instant(at)),
        }
    }

    /// [`Reactor::turn`], without a wait if `is_awake` says so after the wait was announced.
    ///
    /// # Errors
    /// As [`Reactor::turn`].
    pub fn turn_unless(
        &mut self,
        timeout: Option<Duration>,
        is_awake: impl FnOnce() -> bool,
    ) -> io::Result<usize> {
        let timeout = match timeout {
            Some(Duration::ZERO) => Some(Duration::ZERO),
            _ => {
                let due = self.sleep_until().map(|at| at.saturating_duration_since(now()));
                match is_awake() {
                    true => Some(Duration::ZERO),
                    false => timeout.into_iter().chain(due).min(),
                }
            }
        };
        let shared = &self.handle.0;
        shared.turns.fetch_add(1, Ordering::Relaxed);
        let mut polled = wait(timeout, |timeout| {
            self.poll.poll(&mut self.events, timeout)?;
            Ok(!self.events.is_empty())
        });
        shared.asleep_until.store(AWAKE, Ordering::Relaxed);
        if matches!(&polled, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
            // A process that is continued after a stop is interrupted here. Deadlines may be due then, and are judged
            // after the events.
            polled = self.poll.poll(&mut self.events, Some(Duration::ZERO));
        }
        let news = match polled {
            Ok(()) => self.announce(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        self.handle.0.expire(&mut self.woken);
        self.woken.drain(..).for_each(Waker::wake);
        Ok(news)
    }

    /// Hands the events to the slots they belong to.
    fn announce(&mut self) -> usize {
        let events = self.events.iter().map(|event| (event.token().0, event_readiness(event)));
        self.handle.0.announce(events, &mut self.woken)
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.handle.0.close();
    }
}

fn event_readiness(event: &Event) -> u8 {
    let failed = event.is_error();
    let writable = event.is_writable() || event.is_write_closed() || failed;
    readiness(event.is_readable(), writable, event.is_read_closed() || failed)
}

/// The poller of a [`Reactor`], as its handles see it.
struct OwnedPoller {
    registry: Registry,
    waker: mio::Waker,
}

impl Poller for OwnedPoller {
    fn register(&self, socket: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(token), interest)
    }

    #[cfg(target_os = "linux")]
    fn register_shared(&self, listener: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        Ok(epoll::add(&self.registry, listener, EventData::new_u64(token as u64), flags)?)
    }

    fn deregister(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.registry.deregister(&mut SourceFd(&socket.as_raw_fd()))
    }

    fn wake(&self) -> io::Result<()> {
        interrupt(|| self.waker.wake())
    }
}

/// The waker of [`Reactor::block_on`].
struct Notice {
    is_given: AtomicBool,
    handle: Handle,
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The notice precedes the look, and the reactor announces its wait before it looks for the notice.
        if !self.is_given.swap(true, Ordering::SeqCst)
            && self.handle.0.asleep_until.load(Ordering::SeqCst) != AWAKE
        {
            self.handle.wake();
        }
    }
}

#[cfg(all(test, not(gearshift_model)))]
pub(crate) mod tests;
