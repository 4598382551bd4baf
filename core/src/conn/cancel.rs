//! Cancellation: code that works on a request learns that the response is no longer needed.
//!
//! The future of a handler is dropped. A sync handler, a job on a pool and a detached task cannot be dropped, so such
//! code polls or awaits a [`CancelToken`].

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Poll, Waker};

use slab::Slab;

use crate::conn::context::Context;
use crate::runtime::shutdown::{Phase, Shutdown};
use crate::runtime::task::lock;

/// A token that reports whether a request was cancelled. A request is cancelled when its peer has left, its handler has
/// timed out, the server was stopped by force, or the connection has ended. A request over HTTP/2 is also cancelled
/// once its response was sent.
///
/// [`Request::cancel_token`](crate::Request::cancel_token) creates the token. Clones can be sent to other threads.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Router, compute};
///
/// // The computation ends early if its result is no longer needed.
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
pub struct CancelToken(pub(crate) Option<Arc<Context>>);

impl CancelToken {
    fn cancel(&self) -> Option<&Cancel> {
        self.0.as_deref().map(|context| &context.cancel)
    }

    /// Returns whether the request was cancelled.
    ///
    /// On a blocking backend the call checks the socket with one or two system calls. Call it about once per
    /// millisecond, not in every iteration of a short loop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel().is_some_and(Cancel::is_cancelled)
    }

    /// Waits until the request is cancelled. The token of a request that no server has received waits without end.
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
            let previous = match waiting.key {
                Some(key) => Some(std::mem::replace(&mut waiters[key], cx.waker().clone())),
                None => {
                    waiting.key = Some(waiters.insert(cx.waker().clone()));
                    None
                }
            };
            drop(watch);
            // The drop of a waker may run any code, so the lock is released first.
            drop(previous);
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

/// The entry of a task that awaits [`CancelToken::cancelled`], removed on drop.
struct Waiting<'a> {
    cancel: &'a Cancel,
    /// The index of the task's waker in the list of waiters.
    key: Option<usize>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let waker = lock(&self.cancel.watch).waiters.as_mut().map(|waiters| waiters.remove(key));
        drop(waker);
    }
}

/// The state that the driver and the cancel tokens of one connection share. A cancelled request ends its connection, so
/// one value serves all requests of a connection.
pub(crate) struct Cancel {
    set: AtomicBool,
    shutdown: Shutdown,
    watch: Mutex<Watch>,
}

/// The part of the state that only requests with cancel tokens use.
#[derive(Default)]
struct Watch {
    /// The check of the peer, on a blocking backend. While a handler holds the driver's thread, the driver cannot see
    /// that the peer leaves.
    peer: Option<Weak<dyn CheckPeer>>,
    /// The wakers of awaited tokens, allocated for the first of them.
    waiters: Option<Box<Slab<Waker>>>,
}

/// A check of the peer of a connection, from any thread.
pub(crate) trait CheckPeer: Send + Sync {
    /// Returns whether the peer has left, without a wait.
    fn has_left(&self) -> bool;
}

impl Cancel {
    pub(crate) fn new(shutdown: Shutdown) -> Cancel {
        Cancel { set: AtomicBool::new(false), shutdown, watch: Mutex::default() }
    }

    /// Cancels the requests of the connection and wakes all awaited tokens.
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        let waiters: Vec<Waker> = match &lock(&self.watch).waiters {
            Some(waiters) => waiters.iter().map(|(_, waker)| waker.clone()).collect(),
            None => return,
        };
        waiters.into_iter().for_each(Waker::wake);
    }

    /// Sets the check that tokens make of the peer, or removes it and frees its memory.
    pub(crate) fn check_peer_by(&self, peer: Option<Weak<dyn CheckPeer>>) {
        lock(&self.watch).peer = peer;
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
