//! Telling a handler that its response is not wanted any more.
//!
//! Dropping a future tells it. A sync handler, a job on a pool and a detached task cannot be dropped; such code asks a
//! [`CancelToken`].

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use slab::Slab;

use crate::conn::context::Context;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::task::lock;

/// A token that tells whether a request was given up: the peer has left, the handler has timed out, the server was
/// stopped by force, or the connection has ended.
///
/// [`Request::cancel_token`](crate::Request::cancel_token) creates it. Clones may be sent to other threads.
///
/// ```
/// use gearshift_core::{Router, compute};
///
/// // A computation that ends early if its result is not wanted any more.
/// let app = Router::new().get("/sum", compute(|request| {
///     let token = request.cancel_token();
///     let mut sum = 0_u64;
///     for step in 0..1000 {
///         if token.is_cancelled() {
///             break;
///         }
///         sum += (step * 1_000_000..(step + 1) * 1_000_000).sum::<u64>();
///     }
///     sum.to_string()
/// }));
/// ```
#[derive(Clone)]
pub struct CancelToken(Option<Arc<Context>>);

impl CancelToken {
    pub(crate) fn new(context: Option<Arc<Context>>) -> CancelToken {
        CancelToken(context)
    }

    fn cancel(&self) -> Option<&Cancel> {
        self.0.as_deref().map(|context| &context.cancel)
    }

    /// Whether the request was given up. On blocking backends this looks at the socket, with one or two system calls:
    /// cheap enough for each step of some milliseconds, too expensive for each pass of a tight loop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel().is_some_and(Cancel::is_cancelled)
    }

    /// Waits until the request is given up.
    pub async fn cancelled(&self) {
        let Some(cancel) = self.cancel() else { return std::future::pending().await };
        let mut waiting = Waiting { cancel, key: None };
        poll_fn(|cx| {
            let mut watch = lock(&cancel.watch);
            let waiters = watch.waiters.get_or_insert_default();
            // `set` sets the flag before it takes the lock.
            if cancel.is_set() {
                return Poll::Ready(());
            }
            match waiting.key {
                Some(key) => waiters[key].clone_from(cx.waker()),
                None => waiting.key = Some(waiters.insert(cx.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.cancel().is_some_and(Cancel::is_set)).finish()
    }
}

/// A task inside [`CancelToken::cancelled`].
struct Waiting<'a> {
    cancel: &'a Cancel,
    key: Option<usize>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key
            && let Some(waiters) = &mut lock(&self.cancel.watch).waiters
        {
            waiters.remove(key);
        }
    }
}

/// What the driver and the tokens of one connection share. A request that is given up ends its connection, so one
/// value serves all requests of a connection.
pub(crate) struct Cancel {
    set: AtomicBool,
    shutdown: Shutdown,
    watch: Mutex<Watch>,
}

/// What the tokens wait for and look by.
#[derive(Default)]
struct Watch {
    /// Looks for the peer while a handler holds the thread that would see the peer leave.
    peer: Option<Weak<dyn LookForPeer>>,
    /// Made for the first token that is awaited. Boxed, because most connections have none.
    waiters: Option<Box<Slab<Waker>>>,
}

/// The connection of a handler that holds its thread.
pub(crate) trait LookForPeer: Send + Sync {
    /// Whether the peer has left, as far as can be seen without waiting.
    fn has_left(&self) -> bool;
}

impl Cancel {
    pub(crate) fn new(shutdown: Shutdown) -> Cancel {
        Cancel { set: AtomicBool::new(false), shutdown, watch: Mutex::default() }
    }

    /// One that never tells anything.
    pub(crate) fn detached() -> Cancel {
        Cancel::new(Shutdown::new())
    }

    /// Tells all tokens.
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        let waiters: Vec<Waker> = match &lock(&self.watch).waiters {
            Some(waiters) => waiters.iter().map(|(_, waker)| waker.clone()).collect(),
            None => return,
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Tokens look for the peer by `peer` from now on.
    pub(crate) fn look_by(&self, peer: Weak<dyn LookForPeer>) {
        lock(&self.watch).peer = Some(peer);
    }

    /// Tokens do not look for the peer any more. This frees the memory of what they looked by.
    pub(crate) fn stop_looking(&self) {
        lock(&self.watch).peer = None;
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    fn is_cancelled(&self) -> bool {
        if self.is_set() || self.shutdown.phase() == Phase::Forced {
            return true;
        }
        let peer = lock(&self.watch).peer.clone().and_then(|peer| peer.upgrade());
        let gone = peer.is_some_and(|peer| peer.has_left());
        if gone {
            self.set();
        }
        gone
    }
}
