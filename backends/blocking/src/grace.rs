//! The end of a server: who is told of it, and how long it may take.

use std::future::Future;
use std::io::{self, PipeReader};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use futures_lite::FutureExt;
use gearshift_core::shutdown::Subscription;
use gearshift_core::{Engine, Phase, Shutdown};

use crate::runtime::BlockingEngine;

/// The longest grace period, so that the clock can hold its end.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Listens for a [`Shutdown`], and forces it once the grace period is over.
///
/// The period is watched by the background thread, since every other one may be busy with a request.
#[derive(Debug)]
pub struct Grace {
    /// When the grace period is over; unset while none has begun.
    over: Arc<OnceLock<Instant>>,
    /// Whether the application is starting or connections are served, which is what the period is for.
    serving: Arc<AtomicBool>,
    cut: Async<PipeReader>,
    _subscription: Subscription,
}

impl Grace {
    /// Watches `shutdown`: at each change of phase the poller is woken, and when it is forced all reads of the
    /// returned pipe end.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn new(
        shutdown: &Shutdown,
        period: Duration,
        engine: &BlockingEngine,
        poller: Arc<mio::Waker>,
    ) -> io::Result<(Grace, PipeReader)> {
        let (cut, writer) = io::pipe()?;
        let writer = Mutex::new(Some(writer));
        let over = Arc::new(OnceLock::new());
        let serving = Arc::new(AtomicBool::new(true));
        let timer = {
            let (shutdown, over, serving) = (shutdown.clone(), over.clone(), serving.clone());
            let engine = engine.clone();
            move || {
                let at = Instant::now() + period.min(LONGEST);
                if over.set(at).is_ok() {
                    engine.spawn(Box::pin(force_at(at, shutdown.clone(), serving.clone())));
                }
            }
        };
        let subscription = shutdown.subscribe(move |phase| {
            match phase {
                Phase::Running => {}
                Phase::Graceful => timer(),
                Phase::Forced => drop(writer.lock().unwrap_or_else(PoisonError::into_inner).take()),
            }
            if let Err(error) = poller.wake() {
                log::error!("the poller could not be woken: {error}");
            }
        });
        let grace = Grace {
            over,
            serving,
            cut: Async::new_nonblocking(cut.try_clone()?)?,
            _subscription: subscription,
        };
        Ok((grace, cut))
    }

    /// Runs `future` on this thread. `None` if it was not ready when the grace period was over, or the server was
    /// cut; it has until `least` even then.
    pub fn run<F: Future>(&self, least: Instant, future: F) -> Option<F::Output> {
        let end = async {
            // The end of the pipe reads as readiness.
            let _ = self.cut.readable().await;
            Timer::at(least).await;
            None
        };
        async_io::block_on(async { Some(future.await) }.or(end))
    }

    /// No connection is served any more: runs `future`, what has to be done at the end, as [`Grace::run`] does. What
    /// is still missing then is no reason to call the stop forced.
    pub fn finish<F: Future>(&self, least: Instant, future: F) -> Option<F::Output> {
        self.serving.store(false, Ordering::Release);
        // A server that failed was given no time at all.
        let over = *self.over.get_or_init(Instant::now);
        let end = async {
            Timer::at(over.max(least)).await;
            None
        };
        self.run(least, async { Some(future.await) }.or(end)).flatten()
    }
}

async fn force_at(at: Instant, shutdown: Shutdown, serving: Arc<AtomicBool>) {
    Timer::at(at).await;
    if serving.load(Ordering::Acquire) {
        log::warn!("the grace period is over, what is still in flight is cut");
        shutdown.force();
    }
}
