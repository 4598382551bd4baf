//! The part of a reactor that other threads see: its sockets, deadlines and timers.
//!
//! Socket deadlines are not kept in order. The driver moves a deadline with every request, and almost no deadline
//! is ever met, so moving one is a single store. Instead, a sweep looks at all slots when the earliest deadline may
//! be due, at least once in the server's shortest time limit. Sweeps keep a distance from each other, so that many
//! deadlines close together cost one sweep. The distance grows with the number of sockets, so that sweeps always take a
//! small part of the time. A deadline that follows a sweep closely is therefore noticed late, by at most that
//! distance. [Timers](crate::timers) are kept in order and fire on time.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use gearshift_core::sync::atomic::{AtomicU64, Ordering};
use gearshift_core::sync::{Mutex, heavy_barrier, light_barrier, lock, now};
use slab::Slab;

use crate::slot::Slot;
use crate::timers::Timers;

/// The lower half of a token is the slot's index in the table. The upper half differs from the tokens of earlier
/// slots at that index.
pub(crate) const HALF: u32 = usize::BITS / 2;
/// The least time between two sweeps for each socket, in nanoseconds. A sweep takes up to 10 ns for a socket, so sweeps
/// take at most a 32nd of the time, up to [`MAX_REST`].
pub(crate) const REST_PER_SOCKET: u64 = 320;
/// The longest time between two sweeps that the number of sockets causes, in nanoseconds.
const MAX_REST: u64 = 500_000_000;
/// As an instant: never.
pub(crate) const NEVER: u64 = u64::MAX;
/// As the end of a sleep: the reactor is awake.
pub(crate) const AWAKE: u64 = 0;

/// What a [`Handle`] needs from the poller of its reactor. Called for registrations and wake-ups only.
pub(crate) trait Poller: Send + Sync {
    /// Registers `socket`, edge-triggered, for reading and writing. Its events carry `token`.
    fn register(&self, socket: BorrowedFd<'_>, token: usize) -> io::Result<()>;

    /// Registers `listener`, edge-triggered, for connections. Where the system can, a connection wakes one of the
    /// threads that wait in pollers with the same listener: the one whose registration is the oldest.
    fn register_shared(&self, listener: BorrowedFd<'_>, token: usize) -> io::Result<()> {
        self.register(listener, token)
    }

    /// Ends the registration of a socket that stays open.
    fn deregister(&self, socket: BorrowedFd<'_>) -> io::Result<()>;

    /// Makes one waiting thread return.
    fn wake(&self) -> io::Result<()>;

    /// Makes a thread return by `at`, because a deadline or a timer is due then. A thread that is woken earlier looks
    /// for itself when it has to return.
    fn wake_by(&self, _at: Instant) -> io::Result<()> {
        self.wake()
    }
}

/// Registers sockets and timers with a reactor, and wakes it, from any thread.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<State>);

/// The state that a reactor shares with its handles. All times are in nanoseconds since `start`.
pub(crate) struct State {
    poller: Box<dyn Poller>,
    /// The reactor that upgraded connections move to, if that is another one.
    pub(crate) streams: OnceLock<Handle>,
    start: Instant,
    table: Mutex<Table>,
    pub(crate) timers: Timers,
    /// Time of the next sweep, or [`NEVER`].
    pub(crate) next_sweep: AtomicU64,
    /// Time before which no sweep begins, because of the sockets that the last sweep looked at.
    rested: AtomicU64,
    /// Time of the last sweep. A deadline that is not later has passed.
    swept: AtomicU64,
    /// The time at which the reactor stops waiting by itself: [`AWAKE`] if it does not wait, [`NEVER`] if only an
    /// event ends the wait.
    pub(crate) asleep_until: AtomicU64,
    pub(crate) turns: AtomicU64,
    /// The shortest time limit of the server: a deadline that is set now is not due earlier.
    shortest: u64,
    /// The distance between two sweeps of few sockets, unless a deadline is set that is due earlier.
    distance: u64,
}

/// The sockets of a reactor.
#[derive(Default)]
struct Table {
    slots: Slab<Arc<Slot>>,
    registered: usize,
}

impl Handle {
    /// A handle for a reactor that waits in `poller`, whose shortest time limit is `shortest_timeout`.
    pub(crate) fn new(
        poller: impl Poller + 'static,
        shortest_timeout: Duration,
        asleep_until: u64,
    ) -> Handle {
        let distance = (shortest_timeout / 32).clamp(Duration::from_millis(1), Duration::from_millis(100));
        Handle(Arc::new(State {
            poller: Box::new(poller),
            streams: OnceLock::new(),
            start: now(),
            table: Mutex::default(),
            timers: Timers::default(),
            next_sweep: AtomicU64::new(NEVER),
            rested: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            asleep_until: AtomicU64::new(asleep_until),
            turns: AtomicU64::new(0),
            shortest: nanos(shortest_timeout),
            distance: nanos(distance),
        }))
    }

    /// Makes the next or current turn of the reactor return at once. On a reactor that several threads wait in, one
    /// turn returns; several calls before it returns may count as one.
    pub fn wake(&self) {
        self.0.report(self.0.poller.wake());
    }

    /// Makes upgraded connections move to the reactor of `other`, which runs the tasks that own them.
    pub fn move_streams_to(&self, other: &Handle) {
        let _ = self.0.streams.set(other.clone());
    }

    /// The number of turns so far.
    pub fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// The number of registered sockets.
    #[cfg(all(test, not(gearshift_model)))]
    pub(crate) fn registered(&self) -> usize {
        lock(&self.0.table).slots.len()
    }

    /// Registers a socket, which counts as ready for `readiness` until an attempt shows that it is not.
    pub(crate) fn register(&self, socket: BorrowedFd<'_>, readiness: u8) -> io::Result<Arc<Slot>> {
        let slot = self.slot(readiness);
        // The slot precedes the registration, so that the first event finds it.
        if let Err(error) = self.0.poller.register(socket, slot.token) {
            self.forget(&slot);
            return Err(error);
        }
        Ok(slot)
    }

    /// A slot for a socket that is not registered yet.
    pub(crate) fn slot(&self, readiness: u8) -> Arc<Slot> {
        let mut table = lock(&self.0.table);
        table.registered = table.registered.wrapping_add(1);
        let generation = table.registered << HALF;
        let entry = table.slots.vacant_entry();
        let token = generation | entry.key();
        entry.insert(Arc::new(Slot::new(token, readiness))).clone()
    }

    /// Registers the listener of a slot; see [`Poller::register_shared`].
    pub(crate) fn register_shared(&self, slot: &Slot, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.0.poller.register_shared(listener, slot.token)
    }

    /// Ends the registration of a listener that keeps its slot.
    pub(crate) fn deregister_shared(&self, listener: BorrowedFd<'_>) -> io::Result<()> {
        self.0.poller.deregister(listener)
    }

    /// Frees the slot of a socket that is about to be closed. Closing the socket ends its registration in the
    /// system, because the descriptor is never duplicated. That saves a system call.
    pub(crate) fn forget(&self, slot: &Slot) {
        let freed = lock(&self.0.table).slots.try_remove(slot.token & ((1 << HALF) - 1));
        // Outside the lock: dropping the wakers of the slot may drop other connections.
        drop(freed);
    }

    /// Ends the registration of a socket that stays open, and frees its slot.
    pub(crate) fn deregister(&self, slot: &Slot, socket: BorrowedFd<'_>) -> io::Result<()> {
        self.forget(slot);
        self.0.poller.deregister(socket)
    }

    /// Sets the time at which a wait for `slot` ends with `TimedOut`.
    #[inline]
    pub(crate) fn set_deadline(&self, slot: &Slot, at: Option<Instant>) {
        match at {
            None => slot.set_deadline(0),
            Some(at) => {
                let at = self.0.nanos(at);
                slot.set_deadline(at);
                // The store precedes the look: a sweep that does not see the deadline is seen here.
                light_barrier();
                if at < self.0.next_sweep.load(Ordering::Relaxed) {
                    self.0.sweep_by(at);
                }
            }
        }
    }

    /// Time of the last sweep.
    #[inline]
    pub(crate) fn swept(&self) -> u64 {
        self.0.swept.load(Ordering::Acquire)
    }

    /// Sets a timer, or its waker. Returns whether the reactor still runs: otherwise no timer is set.
    pub(crate) fn set_timer(&self, until: Instant, id: u64, waker: &Waker) -> bool {
        let at = self.0.nanos(until);
        match self.0.timers.set((at, id), waker) {
            None => return false,
            Some(is_earliest) if is_earliest => self.0.wake_by(at),
            Some(_) => {}
        }
        true
    }

    /// Removes a timer, if it has not fired.
    pub(crate) fn remove_timer(&self, until: Instant, id: u64) {
        self.0.timers.remove((self.0.nanos(until), id));
    }
}

impl State {
    /// Hands events, each a token and a readiness, to the slots they belong to, and the wakers of these slots to
    /// `woken`. Returns the number of events.
    pub(crate) fn announce(
        &self,
        events: impl Iterator<Item = (usize, u8)>,
        woken: &mut Vec<Waker>,
    ) -> usize {
        let table = lock(&self.table);
        let mut count = 0;
        for (token, readiness) in events {
            count += 1;
            let slot = table.slots.get(token & ((1 << HALF) - 1));
            // The index may have been given to another socket since the system reported the event.
            if let Some(slot) = slot.filter(|slot| slot.token == token) {
                slot.announce(readiness, |waker| woken.push(waker));
            }
        }
        count
    }

    /// The earlier of the next sweep and the next timer, or [`NEVER`].
    #[inline]
    pub(crate) fn next_due(&self) -> u64 {
        self.next_sweep.load(Ordering::SeqCst).min(self.timers.earliest())
    }

    /// Hands the wakers of all deadlines and timers that are due to `woken`.
    #[inline]
    pub(crate) fn expire(&self, woken: &mut Vec<Waker>) {
        if self.next_due() == NEVER {
            return;
        }
        let now = self.nanos(now());
        if now >= self.next_sweep.load(Ordering::Relaxed) {
            self.sweep(now, woken);
        }
        if now >= self.timers.earliest() {
            self.timers.take_due(now, woken);
        }
    }

    /// Wakes the tasks whose deadline has passed, and sets the time of the next sweep.
    fn sweep(&self, now: u64, woken: &mut Vec<Waker>) {
        let table = lock(&self.table);
        let rest = (table.slots.len() as u64 * REST_PER_SOCKET).min(MAX_REST);
        self.rested.store(now + rest, Ordering::Relaxed);
        self.next_sweep.store(NEVER, Ordering::SeqCst);
        heavy_barrier();
        self.swept.fetch_max(now, Ordering::AcqRel);
        let mut earliest = NEVER;
        for (_, slot) in &table.slots {
            match slot.deadline() {
                Some(deadline) if deadline <= now => slot.announce_due(|waker| woken.push(waker)),
                Some(deadline) => earliest = earliest.min(deadline),
                None => {}
            }
        }
        if !table.slots.is_empty() {
            let next = earliest.min(now.saturating_add(self.shortest)).max(now + self.distance.max(rest));
            self.next_sweep.fetch_min(next, Ordering::SeqCst);
        }
    }

    /// Moves the next sweep forward to `at`, or to the earliest time that the last sweep allows.
    #[cold]
    fn sweep_by(&self, at: u64) {
        let at = at.max(self.rested.load(Ordering::Relaxed));
        if at < self.next_sweep.fetch_min(at, Ordering::SeqCst) {
            self.wake_by(at);
        }
    }

    /// Interrupts the reactor's wait if it would last longer than `at`. `at` is visible to
    /// [`next_due`](State::next_due) already: a reactor that is about to wait announces its wait before it looks.
    pub(crate) fn wake_by(&self, at: u64) {
        if at < self.asleep_until.load(Ordering::SeqCst) {
            self.report(self.poller.wake_by(self.instant(at)));
        }
    }

    /// Fires all timers, now and from now on, because nothing waits in the poller any more.
    pub(crate) fn close(&self) {
        self.timers.close().for_each(Waker::wake);
    }

    #[inline]
    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.start)).max(1)
    }

    /// The reverse of [`nanos`](State::nanos).
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }

    fn report(&self, woken: io::Result<()>) {
        if let Err(error) = woken {
            log::error!("a reactor could not be woken: {error}");
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}
