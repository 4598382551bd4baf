//! What all connections of one server share: the handler, the settings, and who is still there.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::conn::handler::Handler;
use crate::proto::connection::Connection;
use crate::proto::error::Error;
use crate::runtime::clock::{AtomicCoarseInstant, Clock};
use crate::runtime::config::{Config, Overload};
use crate::runtime::counters::{Connections, Counters};
use crate::runtime::handle::Runtime;
use crate::runtime::shutdown::Shutdown;
use crate::runtime::shutdown::{Phase, Subscription};
use crate::runtime::task::lock;

/// A wait for a thread after which a peer may have left.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// One running server, as its connections see it. Made by the backend, once per server.
pub struct Service {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) config: Arc<Config>,
    pub(crate) limits: Arc<crate::proto::limits::Limits>,
    pub(crate) shutdown: Shutdown,
    pub(crate) runtime: Runtime,
    pub(crate) clock: Clock,
    threads_block: bool,
    open: Arc<Open>,
    finished: AtomicU64,
    cut: AtomicU64,
    /// When a thread of a blocking backend last found nothing to do.
    idle_at: AtomicCoarseInstant,
    /// Wakes every connection when the phase changes.
    _wake_all: Subscription,
}

/// The connections that are open.
struct Open {
    counts: Arc<Connections>,
    /// Those among them that are not being refused.
    served: AtomicUsize,
    /// The tasks of the connections that run as tasks.
    tasks: Mutex<Slab<Waker>>,
    /// Who waits for a connection to close.
    watchers: Mutex<Vec<Waker>>,
}

impl Service {
    /// A service for one server.
    pub fn new(
        handler: Arc<dyn Handler>,
        config: Config,
        shutdown: Shutdown,
        runtime: Runtime,
    ) -> Arc<Service> {
        Service::with_clock(handler, config, shutdown, runtime, Clock::System)
    }

    /// A service whose time is not the system's, for simulations.
    pub fn with_clock(
        handler: Arc<dyn Handler>,
        config: Config,
        shutdown: Shutdown,
        runtime: Runtime,
        clock: Clock,
    ) -> Arc<Service> {
        let open = Arc::new(Open {
            counts: runtime.connections().clone(),
            served: AtomicUsize::new(0),
            tasks: Mutex::default(),
            watchers: Mutex::default(),
        });
        let connections = open.clone();
        let wake_all = shutdown.subscribe(move |_| connections.wake_all());
        Arc::new(Service {
            handler,
            threads_block: runtime.threads_block(),
            limits: Arc::new(config.limits.clone()),
            config: Arc::new(config),
            shutdown,
            runtime,
            open,
            finished: AtomicU64::new(0),
            cut: AtomicU64::new(0),
            idle_at: AtomicCoarseInstant::new(clock.coarse()),
            clock,
            _wake_all: wake_all,
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The handle that stops it.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.counts.open.load(Ordering::Acquire)
    }

    /// What its connections count.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        self.runtime.counters()
    }

    /// How many connections may be open: those that are served, and those that are being refused.
    pub fn max_connections(&self) -> usize {
        match self.config.overload {
            Overload::Wait => self.config.max_connections,
            Overload::Refuse => self.config.max_connections.saturating_add(Overload::REFUSALS),
        }
    }

    /// Whether one more connection may be accepted.
    pub fn has_room(&self) -> bool {
        self.connections() < self.max_connections()
    }

    /// Ready once `enough` holds for the number of open connections; looked at whenever one closes.
    pub async fn connections_until(&self, enough: impl Fn(usize) -> bool) {
        poll_fn(|cx| {
            let mut watchers = lock(&self.open.watchers);
            if !watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
                watchers.push(cx.waker().clone());
            }
            drop(watchers);
            match enough(self.connections()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the threads that drive connections may block, so that a handler holds its thread until it answers.
    #[inline]
    pub fn threads_block(&self) -> bool {
        self.threads_block
    }

    /// A thread of a blocking backend has found no connection to drive: until now no connection has waited for a thread.
    /// Called before and after the thread waits for one.
    #[inline]
    pub fn found_idle(&self) {
        self.idle_at.set(self.clock.coarse());
    }

    /// How long a connection may have waited for a thread at most.
    fn longest_wait(&self) -> Duration {
        match self.threads_block {
            true => self.clock.coarse().since(self.idle_at.get()),
            false => Duration::ZERO,
        }
    }

    /// Whether requests may have waited for a thread for so long that their peers may have left.
    pub(crate) fn were_threads_busy(&self) -> bool {
        self.longest_wait() >= LONG_WAIT
    }

    /// When a connection whose peer has moved bytes was woken, at the earliest: now, unless it may have waited for a
    /// thread since.
    pub(crate) fn woken_at(&self) -> Instant {
        let now = self.clock.now();
        now.checked_sub(self.longest_wait()).unwrap_or(now)
    }

    /// Requests that were answered after a stop was asked for, requests that were cut, and connections that were
    /// refused.
    pub(crate) fn ended(&self) -> (u64, u64, u64) {
        let finished = self.finished.load(Ordering::Acquire);
        (finished, self.cut.load(Ordering::Acquire), self.open.counts.refused.load(Ordering::Acquire))
    }

    /// Counts a request that was answered after a stop was asked for.
    pub(crate) fn answered(&self) {
        self.finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a request that was cut.
    pub(crate) fn was_cut(&self) {
        self.cut.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a request whose connection failed, if it was a forced stop that ended a wait inside a write.
    pub(crate) fn gave_up(&self) {
        if self.shutdown.phase() == Phase::Forced {
            self.was_cut();
        }
    }

    /// What a connection is told for which there is no room.
    pub(crate) fn refusal(&self) -> Vec<u8> {
        let config = &self.config;
        let mut connection = Connection::new(self.limits.clone(), config.server_header, config.date_header);
        connection.refuse(Error::Overload, self.clock.unix_seconds());
        connection.write_queue().front().to_vec()
    }

    /// Counts a connection for which there was no room, or a request that came too late for a server that stops.
    pub fn was_refused(&self) {
        self.open.counts.refused.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a connection for as long as the guard lives, and says whether there is room for it.
    pub(crate) fn enter(&self) -> (ConnectionGuard, bool) {
        self.counters().accepted();
        self.open.counts.open.fetch_add(1, Ordering::AcqRel);
        let before = self.open.served.fetch_add(1, Ordering::AcqRel);
        let has_room = before < self.config.max_connections || self.config.overload == Overload::Wait;
        if !has_room {
            self.open.served.fetch_sub(1, Ordering::AcqRel);
        }
        (ConnectionGuard { open: self.open.clone(), task: None, is_served: has_room }, has_room)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("connections", &self.connections())
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

impl Open {
    fn wake_all(&self) {
        let tasks: Vec<Waker> = lock(&self.tasks).iter().map(|(_, waker)| waker.clone()).collect();
        tasks.into_iter().for_each(Waker::wake);
    }
}

/// One open connection, counted until this is dropped.
pub(crate) struct ConnectionGuard {
    open: Arc<Open>,
    /// Where this connection's waker is kept.
    task: Option<u32>,
    is_served: bool,
}

impl ConnectionGuard {
    /// Has the connection's task woken whenever shutdown goes on. A connection is one task for life, so this is
    /// done once.
    #[inline]
    pub(crate) fn runs_as(&mut self, cx: &Context<'_>) {
        if self.task.is_none() {
            let key = lock(&self.open.tasks).insert(cx.waker().clone());
            self.task = Some(u32::try_from(key).expect("memory does not hold that many connections"));
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(key) = self.task {
            lock(&self.open.tasks).remove(key as usize);
        }
        if self.is_served {
            self.open.served.fetch_sub(1, Ordering::AcqRel);
        }
        self.open.counts.open.fetch_sub(1, Ordering::AcqRel);
        let watchers = std::mem::take(&mut *lock(&self.open.watchers));
        watchers.into_iter().for_each(Waker::wake);
    }
}
