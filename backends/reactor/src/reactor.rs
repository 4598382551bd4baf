//! The reactor: one poller, the slots of all sockets registered with it, and one sweep for all deadlines.
//!
//! Deadlines are not kept in order. They are moved for every request and almost never met, so moving one is a
//! store, and now and then (when the earliest could be due, at least once in the shortest time limit that the server
//! has) all slots are looked at. A deadline is noticed at once if it was the earliest; sweeps keep a distance from
//! each other, so that many deadlines close together cost one sweep, and some of them are noticed late by it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use crate::lock;
use crate::slot::{CLOSED, READABLE, Slot, WRITABLE};

/// Events taken from the system at once.
const BATCH: usize = 1024;
/// The token of [`Handle::wake`].
const WAKE: Token = Token(usize::MAX);
/// Half of a token is the slot's place in the table, the other half tells it from its predecessors there.
const HALF: u32 = usize::BITS / 2;
/// As an instant: never. As the end of a sleep too.
const NEVER: u64 = u64::MAX;
/// As the end of a sleep: the reactor is awake.
const AWAKE: u64 = 0;

/// Waits for readiness and deadlines, and wakes whoever waits for them. One thread or task owns it.
///
/// A deadline is noticed in time if no other was met shortly before; else up to a 32nd of the server's shortest time
/// limit later, 100 ms at most.
pub struct Reactor {
    poll: Poll,
    events: Events,
    /// Whom to wake once no lock is held; empty between turns.
    woken: Vec<Waker>,
    handle: Handle,
    /// No deadline that is set now falls due before this has passed.
    shortest: u64,
    /// The distance of sweeps.
    distance: u64,
}

/// Registers sockets with a [`Reactor`], and wakes it, from any thread.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    registry: Registry,
    waker: mio::Waker,
    start: Instant,
    table: Mutex<Table>,
    /// When to sweep next, or [`NEVER`].
    next_sweep: AtomicU64,
    /// Up to when deadlines were looked for: one that is not later has passed.
    swept: AtomicU64,
    /// Until when the reactor sleeps unless it is woken, [`AWAKE`] if it does not.
    asleep_until: AtomicU64,
    turns: AtomicU64,
}

#[derive(Default)]
struct Table {
    slots: Slab<Arc<Slot>>,
    registered: usize,
}

impl Reactor {
    /// A reactor for a server whose shortest time limit is `shortest_timeout`.
    ///
    /// # Errors
    /// Whatever the system says, out of file descriptors for one.
    pub fn new(shortest_timeout: Duration) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        let handle = Handle(Arc::new(Shared {
            registry,
            waker,
            start: Instant::now(),
            table: Mutex::default(),
            next_sweep: AtomicU64::new(NEVER),
            swept: AtomicU64::new(0),
            asleep_until: AtomicU64::new(AWAKE),
            turns: AtomicU64::new(0),
        }));
        let distance = (shortest_timeout / 32).clamp(Duration::from_millis(1), Duration::from_millis(100));
        Ok(Reactor {
            poll,
            events: Events::with_capacity(BATCH),
            woken: Vec::new(),
            handle,
            shortest: nanos(shortest_timeout),
            distance: nanos(distance),
        })
    }

    /// What sockets are registered with.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until there is news, a deadline has passed, [`Handle::wake`] was called or `timeout` is over; then
    /// wakes whom it concerns, and says how many pieces of news there were.
    ///
    /// # Errors
    /// Whatever the system says; the reactor is of no use then.
    pub fn turn(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = match timeout {
            Some(Duration::ZERO) => Some(Duration::ZERO),
            _ => {
                let sweep = self.sleep_until().map(|at| at.saturating_duration_since(Instant::now()));
                timeout.into_iter().chain(sweep).min()
            }
        };
        self.handle.0.turns.fetch_add(1, Ordering::Relaxed);
        let polled = self.poll.poll(&mut self.events, timeout);
        self.handle.0.asleep_until.store(AWAKE, Ordering::Relaxed);
        let news = match polled {
            Ok(()) => self.announce(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        let next_sweep = self.handle.0.next_sweep.load(Ordering::Relaxed);
        if next_sweep != NEVER {
            let now = self.handle.nanos(Instant::now());
            if now >= next_sweep {
                self.sweep(now);
            }
        }
        self.woken.drain(..).for_each(Waker::wake);
        Ok(news)
    }

    /// Announces that its owner is going to wait elsewhere for the [`Handle`] to be readable, and says until when:
    /// then [`Reactor::turn`] is to be called all the same.
    pub fn sleep_until(&mut self) -> Option<Instant> {
        // First the announcement, then the look, so that whoever sets an earlier deadline in between wakes us.
        let shared = &self.handle.0;
        shared.asleep_until.store(shared.next_sweep.load(Ordering::Relaxed), Ordering::SeqCst);
        match shared.next_sweep.load(Ordering::SeqCst) {
            NEVER => None,
            at => Some(shared.start + Duration::from_nanos(at)),
        }
    }

    /// Hands the news to the slots it is for.
    fn announce(&mut self) -> usize {
        let mut news = 0;
        let table = lock(&self.handle.0.table);
        for event in &self.events {
            news += 1;
            let slot = table.slots.get(event.token().0 & ((1 << HALF) - 1));
            // The slot may have been given to another socket since the system reported this.
            if let Some(slot) = slot.filter(|slot| slot.token == event.token()) {
                slot.announce(readiness(event), |waker| self.woken.push(waker));
            }
        }
        news
    }

    /// Wakes whoever waits in vain, and decides when to look again.
    fn sweep(&mut self, now: u64) {
        let shared = &self.handle.0;
        let table = lock(&shared.table);
        shared.next_sweep.store(NEVER, Ordering::SeqCst);
        shared.swept.store(now, Ordering::Release);
        let mut earliest = NEVER;
        for (_, slot) in &table.slots {
            match slot.deadline() {
                Some(deadline) if deadline <= now => slot.announce_due(|waker| self.woken.push(waker)),
                Some(deadline) => earliest = earliest.min(deadline),
                None => {}
            }
        }
        if !table.slots.is_empty() {
            let next = earliest.min(now + self.shortest).max(now + self.distance);
            shared.next_sweep.fetch_min(next, Ordering::SeqCst);
        }
    }
}

/// What an event says, in the bits of a slot.
fn readiness(event: &Event) -> u8 {
    let failed = event.is_error();
    let mut bits = 0;
    if event.is_readable() {
        bits |= READABLE;
    }
    if event.is_writable() || event.is_write_closed() || failed {
        bits |= WRITABLE;
    }
    if event.is_read_closed() || failed {
        bits |= CLOSED;
    }
    bits
}

impl Handle {
    /// Makes the reactor's next or current [`Reactor::turn`] return at once.
    pub fn wake(&self) {
        if let Err(error) = self.0.waker.wake() {
            log::error!("an event loop could not be woken: {error}");
        }
    }

    /// How many turns there were.
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// How many sockets are registered.
    pub fn registered(&self) -> usize {
        lock(&self.0.table).slots.len()
    }

    /// Registers a socket that counts as ready for what `readiness` says until it is found out not to be.
    pub(crate) fn register(&self, socket: BorrowedFd<'_>, readiness: u8) -> io::Result<Arc<Slot>> {
        // First the slot, then the registration, so that the first event finds it.
        let slot = self.0.insert(readiness);
        let registered = self.0.registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            slot.token,
            Interest::READABLE | Interest::WRITABLE,
        );
        if let Err(error) = registered {
            self.forget(&slot);
            return Err(error);
        }
        Ok(slot)
    }

    /// Frees the slot of a socket that is about to be closed. Closing is what ends the registration with the system:
    /// the descriptor is never duplicated, so that no call is needed for it.
    pub(crate) fn forget(&self, slot: &Slot) {
        let freed = lock(&self.0.table).slots.try_remove(slot.token.0 & ((1 << HALF) - 1));
        // Outside the lock: dropping the wakers in it may drop other connections.
        drop(freed);
    }

    /// Sets until when whoever polls `slot` may wait.
    #[inline]
    pub(crate) fn set_deadline(&self, slot: &Slot, at: Option<Instant>) {
        match at {
            None => slot.set_deadline(0),
            Some(at) => {
                let at = self.nanos(at);
                slot.set_deadline(at);
                if at < self.0.next_sweep.load(Ordering::Relaxed) {
                    self.0.sweep_by(at);
                }
            }
        }
    }

    /// Up to when deadlines were looked for.
    #[inline]
    pub(crate) fn swept(&self) -> u64 {
        self.0.swept.load(Ordering::Acquire)
    }

    #[inline]
    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.0.start)).max(1)
    }
}

/// Readable once the reactor has news, for whoever waits for it in another poller.
impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.registry.as_fd()
    }
}

impl Shared {
    fn insert(&self, readiness: u8) -> Arc<Slot> {
        let mut table = lock(&self.table);
        table.registered = table.registered.wrapping_add(1);
        let generation = table.registered << HALF;
        let entry = table.slots.vacant_entry();
        let slot = Arc::new(Slot::new(Token(generation | entry.key()), readiness));
        entry.insert(slot.clone());
        slot
    }

    /// Moves the next sweep forward.
    #[cold]
    fn sweep_by(&self, at: u64) {
        self.next_sweep.fetch_min(at, Ordering::SeqCst);
        if at < self.asleep_until.load(Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests;
