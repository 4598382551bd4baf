//! The [`Service`]: the handler, the settings and the counts that all connections of one server share.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::conn::access::{Destination, Record};
use crate::conn::context::Peer;
use crate::conn::handler::Handler;
use crate::proto::connection::Connection;
use crate::proto::error::Error;
use crate::runtime::clock::{AtomicCoarseInstant, Clock, CoarseInstant};
use crate::runtime::config::{Config, Overload};
use crate::runtime::contained::Contained;
use crate::runtime::counters::Counters;
use crate::runtime::handle::Runtime;
use crate::runtime::shutdown::{Phase, Shutdown, Subscription};
use crate::runtime::task::lock;

/// Time of a wait for a thread after which a peer may have left.
const LONG_WAIT: Duration = Duration::from_millis(100);

/// The shared state of the connections of one running server. The lifecycle creates one for each server.
pub struct Service {
    /// The last thread that drops the service is any thread.
    pub(crate) handler: Contained<Arc<dyn Handler>>,
    pub(crate) config: Config,
    pub(crate) limits: Arc<crate::proto::limits::Limits>,
    pub(crate) shutdown: Shutdown,
    pub(crate) runtime: Runtime,
    pub(crate) clock: Clock,
    threads_block: bool,
    /// The number of open connections that are not being refused.
    served: AtomicUsize,
    /// One waker for each connection.
    tasks: Mutex<Slab<Waker>>,
    /// The wakers of [`Service::connections_until`].
    watchers: Mutex<Vec<Waker>>,
    /// The number of requests that were answered after a stop was requested.
    finished: AtomicU64,
    /// The number of requests and upgraded connections that were cut by a forced stop.
    cut: AtomicU64,
    /// The last time at which a thread of a blocking backend had no connection to drive.
    idle_at: AtomicCoarseInstant,
    /// The last time at which a pause of accepting was logged.
    pause_logged: AtomicCoarseInstant,
    /// The last time at which a proxy that sent no PROXY header was logged.
    proxy_logged: AtomicCoarseInstant,
    /// Wakes every connection when the phase of the shutdown changes.
    _wake_all: Subscription,
}

impl Service {
    /// Creates the service of one server. The clock of a simulation is [`Clock::Manual`].
    pub fn new(
        handler: Arc<dyn Handler>,
        config: Config,
        shutdown: Shutdown,
        runtime: Runtime,
        clock: Clock,
    ) -> Arc<Service> {
        Arc::new_cyclic(|service: &Weak<Service>| {
            let service = service.clone();
            let wake_all = shutdown.subscribe(move || {
                let Some(service) = service.upgrade() else { return };
                let tasks: Vec<Waker> = lock(&service.tasks).iter().map(|(_, waker)| waker.clone()).collect();
                tasks.into_iter().for_each(Waker::wake);
            });
            Service {
                handler: Contained::new(handler),
                threads_block: runtime.threads_block(),
                limits: Arc::new(config.limits.clone()),
                config,
                shutdown,
                runtime,
                served: AtomicUsize::new(0),
                tasks: Mutex::default(),
                watchers: Mutex::default(),
                finished: AtomicU64::new(0),
                cut: AtomicU64::new(0),
                idle_at: AtomicCoarseInstant::new(clock.coarse()),
                clock,
                pause_logged: AtomicCoarseInstant::new(CoarseInstant::default()),
                proxy_logged: AtomicCoarseInstant::new(CoarseInstant::default()),
                _wake_all: wake_all,
            }
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The handle that stops the server.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// The services of the backend.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The number of open connections.
    pub fn connections(&self) -> usize {
        self.runtime.connections().open.load(Ordering::Acquire)
    }

    /// The counters that the connections update.
    #[inline]
    pub(crate) fn counters(&self) -> &Counters {
        self.runtime.counters()
    }

    /// Whether one more connection may be accepted, if only to be refused.
    pub fn has_room(&self) -> bool {
        self.connections() < self.config.max_open()
    }

    /// Waits until `enough` returns true for the number of open connections. It is called first at once, then whenever
    /// a connection closes.
    pub async fn connections_until(&self, enough: impl Fn(usize) -> bool) {
        poll_fn(|cx| {
            let mut watchers = lock(&self.watchers);
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

    /// Whether the backend is a blocking one: its threads may block, and a handler holds its thread until it answers.
    #[inline]
    pub fn threads_block(&self) -> bool {
        self.threads_block
    }

    /// Records that a thread of a blocking backend has found no connection to drive. No connection has then waited for
    /// a thread. A backend calls this before and after a thread waits for connections. A backend that gives each
    /// connection a thread calls it before each poll of a connection.
    #[inline]
    pub fn found_idle(&self) {
        self.idle_at.set(self.clock.coarse());
    }

    /// The maximum time for which any connection may have waited for a thread.
    pub(crate) fn longest_wait(&self) -> Duration {
        match self.threads_block {
            true => self.clock.coarse().since(self.idle_at.get()),
            false => Duration::ZERO,
        }
    }

    /// Whether a connection may have waited for a thread for so long that its peer may have left: 100 ms or longer.
    pub fn may_have_waited_long(&self) -> bool {
        self.longest_wait() >= LONG_WAIT
    }

    /// The earliest time at which the bytes found now can have moved. A connection without a thread may have waited for
    /// a thread since then.
    pub(crate) fn moved_at(&self, holds_thread: bool) -> Instant {
        let now = self.clock.now();
        match holds_thread {
            true => now,
            false => now.checked_sub(self.longest_wait()).unwrap_or(now),
        }
    }

    /// The numbers of requests that were answered after a stop was requested, of requests and upgraded connections that
    /// were cut, and of connections and requests that were refused since the start.
    pub(crate) fn stop_counts(&self) -> (u64, u64, u64) {
        let finished = self.finished.load(Ordering::Acquire);
        (
            finished,
            self.cut.load(Ordering::Acquire),
            self.runtime.connections().refused.load(Ordering::Acquire),
        )
    }

    /// Counts a request that was answered after a stop was requested.
    pub(crate) fn answered(&self) {
        self.finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a request that will not be answered, or an upgraded connection, as cut, if the reason is a forced stop.
    pub(crate) fn was_cut_if_forced(&self) {
        if self.shutdown.phase() == Phase::Forced {
            self.cut.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Creates the HTTP state of a connection.
    pub(crate) fn new_connection(&self) -> Connection {
        Connection::new(self.limits.clone(), self.config.server_header, self.config.date_header)
    }

    /// Whether no connection stays open behind its response: the server stops, or the settings allow no idle
    /// connection.
    #[inline]
    pub(crate) fn keeps_no_connection(&self) -> bool {
        self.shutdown.is_requested() || self.config.keep_alive.is_zero()
    }

    /// Whether a connection that waits for its next request closes, because the server stops.
    #[inline]
    pub(crate) fn closes_idle(&self) -> bool {
        self.shutdown.is_requested() && !self.config.drain_idle
    }

    /// The bytes of the response to a connection for which there is no room: 503. None over TLS, because a handshake
    /// needs the room of a connection.
    pub(crate) fn refusal(&self) -> Vec<u8> {
        if self.config.tls.is_some() {
            return Vec::new();
        }
        let mut connection = self.new_connection();
        connection.refuse(Error::Overload, self.clock.unix_seconds());
        connection.write_queue.front().to_vec()
    }

    /// Counts a connection to which [`Service::refusal`] was sent, and logs it if the access log is on.
    pub(crate) fn was_refused_with(&self, peer: Peer) {
        self.was_refused();
        if let Some(destination) = Destination::of(&self.config) {
            let bytes = Error::Overload.to_string().len() as u64;
            destination.log(&Record::of_refusal(peer, Error::Overload.status(), bytes, &self.clock));
        }
    }

    /// Counts a connection for which there was no room or which had no PROXY header, or a request that was incomplete
    /// when a stop was requested.
    pub(crate) fn was_refused(&self) {
        self.runtime.connections().refused.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a pause of accepting may be logged: none was for the time `period`.
    pub(crate) fn may_log_pause(&self, period: Duration) -> bool {
        self.pause_logged.advance(self.clock.coarse(), period)
    }

    /// Whether a proxy that sent no PROXY header may be logged: none was for the time `period`.
    pub(crate) fn may_log_proxy(&self, period: Duration) -> bool {
        self.proxy_logged.advance(self.clock.coarse(), period)
    }

    /// Counts a connection as open until the returned guard is dropped. Also returns whether there is room for it;
    /// otherwise it has to be refused.
    pub(crate) fn enter(self: &Arc<Service>) -> (ConnectionGuard, bool) {
        self.counters().accepted();
        self.runtime.connections().open.fetch_add(1, Ordering::AcqRel);
        let before = self.served.fetch_add(1, Ordering::AcqRel);
        let has_room = before < self.config.max_connections || self.config.overload == Overload::Wait;
        if !has_room {
            self.served.fetch_sub(1, Ordering::AcqRel);
        }
        let guard =
            ConnectionGuard { service: self.clone(), task: None, is_served: has_room, is_upgraded: false };
        (guard, has_room)
    }
}

/// The count of one open connection, ended on drop.
pub(crate) struct ConnectionGuard {
    service: Arc<Service>,
    /// The index of the connection's waker in `Service::tasks`.
    task: Option<u32>,
    /// Whether the connection is served rather than refused.
    is_served: bool,
    /// Whether the connection has left HTTP.
    is_upgraded: bool,
}

impl ConnectionGuard {
    /// Registers the connection's task, which is woken when the phase of the shutdown changes. Only the first call
    /// registers, because a connection stays in one task.
    #[inline]
    pub(crate) fn register_task(&mut self, cx: &Context<'_>) {
        if self.task.is_none() {
            let key = lock(&self.service.tasks).insert(cx.waker().clone());
            self.task = Some(u32::try_from(key).expect("memory does not hold that many connections"));
        }
    }

    /// The handle that stops the server.
    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.service.shutdown
    }

    /// Counts the connection as upgraded. The task of its driver ends and is not woken any more.
    pub(crate) fn leave_http(&mut self) {
        self.is_upgraded = true;
        self.service.runtime.connections().upgraded.fetch_add(1, Ordering::AcqRel);
        self.deregister_task();
    }

    fn deregister_task(&mut self) {
        let waker = self.task.take().map(|key| lock(&self.service.tasks).remove(key as usize));
        // Dropping a waker can run any code, so it happens without the lock.
        drop(waker);
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.deregister_task();
        let connections = self.service.runtime.connections();
        if self.is_upgraded {
            connections.upgraded.fetch_sub(1, Ordering::AcqRel);
            self.service.was_cut_if_forced();
        }
        if self.is_served {
            self.service.served.fetch_sub(1, Ordering::AcqRel);
        }
        connections.open.fetch_sub(1, Ordering::AcqRel);
        let watchers = std::mem::take(&mut *lock(&self.service.watchers));
        watchers.into_iter().for_each(Waker::wake);
    }
}
