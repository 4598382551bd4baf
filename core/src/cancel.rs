//! Telling a handler that nobody wants its response any more.
//!
//! A future is told by being dropped. What cannot be dropped asks a [`CancelToken`]: a sync handler, a job on a pool,
//! a task that was detached.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::shutdown::{Phase, Shutdown};
use crate::task::lock;
use crate::transport::{Look, Lookout};

/// How long a peer that has ended its side is taken for present before it is asked, and between two askings at least.
pub(crate) const PROBE_AFTER: Duration = Duration::from_millis(250);
/// What it is asked by.
pub(crate) const PROBE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Says whether a request was given up: its peer has left, its time is over, the server was stopped by force, or its
/// connection has ended.
///
/// Made by [`Request::cancel_token`](crate::Request::cancel_token); may be cloned and taken anywhere.
#[derive(Clone)]
pub struct CancelToken(Arc<Cancel>);

impl CancelToken {
    /// The token of a request, which may ask the peer whether it is there if that `may_probe`.
    pub(crate) fn new(cancel: Arc<Cancel>, may_probe: bool) -> CancelToken {
        if may_probe {
            cancel.allow_probing();
        }
        CancelToken(cancel)
    }

    /// Whether the request was given up. On blocking backends this looks at the connection, with one or two system
    /// calls: often enough to be of use, but not for each pass of a tight loop.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_set() || self.0.shutdown.phase() == Phase::Forced || self.0.look()
    }

    /// Ready once the request was given up.
    pub async fn cancelled(&self) {
        let mut waits = Waits { cancel: &self.0, key: None };
        poll_fn(|cx| {
            let mut waiters = lock(&self.0.tokens().waiters);
            fence(Ordering::SeqCst);
            if self.0.is_set() {
                return Poll::Ready(());
            }
            match waits.key {
                Some(key) => waiters[key].clone_from(cx.waker()),
                None => waits.key = Some(waiters.insert(cx.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelToken").field(&self.0.is_set()).finish()
    }
}

/// One who waits in [`CancelToken::cancelled`].
struct Waits<'a> {
    cancel: &'a Cancel,
    key: Option<usize>,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            lock(&self.cancel.tokens().waiters).remove(key);
        }
    }
}

/// What the driver and the tokens of one connection share. A request that is given up ends its connection, so there
/// is one for all of them.
pub(crate) struct Cancel {
    set: AtomicBool,
    shutdown: Shutdown,
    lookout: Option<Arc<dyn Lookout>>,
    /// Made for the first token.
    tokens: OnceLock<Box<Tokens>>,
}

#[derive(Default)]
struct Tokens {
    waiters: Mutex<Slab<Waker>>,
    /// Held while a peer is being asked, so that nothing comes between those bytes and others.
    probing: Mutex<Probing>,
}

#[derive(Default)]
struct Probing {
    /// Whether a token may ask the peer: a handler has the thread, and nothing waits to be sent before its response.
    allowed: bool,
    /// When that was done last, or begun to be thought of.
    last: Option<Instant>,
}

impl Cancel {
    pub(crate) fn new(shutdown: Shutdown, lookout: Option<Arc<dyn Lookout>>) -> Cancel {
        Cancel { set: AtomicBool::new(false), shutdown, lookout, tokens: OnceLock::new() }
    }

    /// Tells all tokens.
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::Release);
        // Either this sees the first waiter's tokens, or that waiter sees what was set.
        fence(Ordering::SeqCst);
        let Some(tokens) = self.tokens.get() else { return };
        let waiters: Vec<Waker> = lock(&tokens.waiters).iter().map(|(_, waker)| waker.clone()).collect();
        waiters.into_iter().for_each(Waker::wake);
    }

    fn tokens(&self) -> &Tokens {
        self.tokens.get_or_init(Box::default)
    }

    fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    /// Lets tokens ask the peer by themselves, until [`Cancel::forbid_probing`].
    pub(crate) fn allow_probing(&self) {
        *lock(&self.tokens().probing) = Probing { allowed: true, last: None };
    }

    /// A handler no longer has the thread: from now on the driver writes.
    #[inline]
    pub(crate) fn forbid_probing(&self) {
        if let Some(tokens) = self.tokens.get() {
            lock(&tokens.probing).allowed = false;
        }
    }

    /// Whether the peer can be seen to have left.
    fn look(&self) -> bool {
        let Some(lookout) = &self.lookout else { return false };
        let gone = match lookout.look() {
            Look::Present => false,
            Look::Gone => true,
            Look::Ended => self.ask(&**lookout),
        };
        if gone {
            self.set();
        }
        gone
    }

    /// Asks the peer whether it is there, if that is allowed and was not done just before.
    fn ask(&self, lookout: &dyn Lookout) -> bool {
        let now = Instant::now();
        let mut probing = lock(&self.tokens().probing);
        let due = now.duration_since(*probing.last.get_or_insert(now)) >= PROBE_AFTER;
        if !probing.allowed || !due {
            return false;
        }
        probing.last = Some(now);
        lookout.probe(PROBE, Duration::ZERO) == Look::Gone
    }

    /// Whether a peer that had to wait for its turn is found to have left, which is worth `patience` to know.
    pub(crate) fn has_left(&self, may_probe: bool, patience: Duration) -> bool {
        let Some(lookout) = &self.lookout else { return false };
        match lookout.look() {
            Look::Present => false,
            Look::Gone => true,
            Look::Ended => may_probe && lookout.probe(PROBE, patience) == Look::Gone,
        }
    }
}
