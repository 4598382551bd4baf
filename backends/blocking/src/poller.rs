//! Where connections are parked and new ones come in: one `mio::Poll`.
//!
//! It is edge-triggered: a connection is registered once, and told of once for whatever arrives, so that a request
//! costs no system call to arm anything. mio is used, and not `polling`, as that one makes five system calls for a
//! wait (it arms a timer and its own notification again each time) where mio makes one.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use gearshift_core::{Listener, Service};
use mio::{Events, Poll, Registry, Token};

use crate::connections::Connections;
use crate::door::Door;
use crate::pulse::Pulse;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// The token of the waker; listeners have those just below it.
const WAKER: Token = Token(usize::MAX);

/// The poller of one server.
///
/// It is a `mio::Poll`, edge-triggered: a connection is registered once and told of once for whatever arrives.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<mio::Waker>,
    watch: Arc<Watch>,
    pulse: Arc<Pulse>,
    /// The listeners.
    pub door: Door,
}

/// A connection has something to be read.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// Which connection.
    pub token: Token,
    /// Whether its peer has sent all it will. This is told but once, maybe together with the last bytes: the
    /// connection must be driven until it has ended, even where a read has found those bytes and no end yet.
    pub ended: bool,
}

impl Poller {
    /// A poller that watches `listeners`.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn new(listeners: Vec<Listener>, pulse: &Arc<Pulse>) -> io::Result<Poller> {
        let poll = Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        let tokens = (Connections::<()>::LAST.0 + 1..WAKER.0).rev().map(Token);
        let door = Door::open(listeners, poll.registry(), tokens)?;
        let watch = Arc::new(Watch { armed: AtomicBool::new(false), poller: waker.clone() });
        let (events, pulse) = (Events::with_capacity(EVENTS), pulse.clone());
        Ok(Poller { poll, events, waker, watch, pulse, door })
    }

    /// What ends a wait, from any thread.
    pub fn waker(&self) -> Arc<mio::Waker> {
        self.waker.clone()
    }

    /// Where connections register.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Waits until there is news or someone to accept, until woken, or until the given time; not at all if `busy`.
    /// Replaces `news` by what came.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn wait(
        &mut self,
        service: &Arc<Service>,
        busy: bool,
        until: Option<Instant>,
        news: &mut Vec<News>,
    ) -> io::Result<()> {
        let timeout = if busy { Some(Duration::ZERO) } else { self.timeout(service, until) };
        news.clear();
        self.pulse.turned();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let token = event.token();
            if token <= Connections::<()>::LAST {
                news.push(News { token, ended: event.is_read_closed() || event.is_error() });
            } else if token != WAKER {
                self.door.knocked(token);
            }
        }
        Ok(())
    }

    /// Whether nobody is here and nobody comes in any more. If not, the next wait ends when that may have changed.
    pub fn is_deserted(&self, service: &Arc<Service>) -> bool {
        self.connections_are(service, |open| open == 0) && self.door.is_closed()
    }

    fn timeout(&self, service: &Arc<Service>, until: Option<Instant>) -> Option<Duration> {
        let accept = match self.door.paused_until() {
            _ if !self.door.is_waiting() => None,
            Some(until) => Some(until),
            None if self.door.is_closing() => return Some(Duration::ZERO),
            None if self.connections_are(service, |_| service.has_room()) => return Some(Duration::ZERO),
            None => None,
        };
        let until = match (accept, until) {
            (Some(accept), Some(until)) => Some(accept.min(until)),
            (accept, until) => accept.or(until),
        };
        until.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether `enough` holds for the number of open connections. If not, the next wait ends when one closes.
    fn connections_are(&self, service: &Arc<Service>, enough: impl Fn(usize) -> bool) -> bool {
        if !self.watch.armed.swap(true, Ordering::AcqRel) {
            let waker = Waker::from(self.watch.clone());
            let mut cx = Context::from_waker(&waker);
            // Polling it leaves the waker there, which is all that is wanted of it.
            let _ = pin!(service.connections_until(|_| false)).poll(&mut cx);
        }
        enough(service.connections())
    }
}

/// Ends a wait when a connection has closed.
#[derive(Debug)]
struct Watch {
    /// Whether the service has this waker now, so that it is not left there twice.
    armed: AtomicBool,
    poller: Arc<mio::Waker>,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.armed.store(false, Ordering::Release);
        if let Err(error) = self.poller.wake() {
            log::error!("the poller could not be woken: {error}");
        }
    }
}
