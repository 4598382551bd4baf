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

/// Listens for a [`Shutdown`], and forces it once the grace period is over.
///
/// The period is watched by the background thread, since every other one may be busy with a request.
#[derive(Debug)]
pub struct Grace {
    /// When the grace period is over; unset while none has begun.
    over: Arc<OnceLock<Instant>>,
    /// Whether connections are still served.
    serving: Arc<AtomicBool>,
    cut: PipeReader,
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
                // A period too long for the clock never ends.
                let Some(at) = Instant::now().checked_add(period) else { return };
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
        let grace = Grace { over, serving, cut: cut.try_clone()?, _subscription: subscription };
        Ok((grace, cut))
    }

    /// No connection is served any more: waits for `rest`, within what is left of the grace period.
    pub fn finish(self, rest: impl Future<Output = ()>) {
        self.serving.store(false, Ordering::Release);
        let over = async {
            match self.over.get() {
                Some(over) => {
                    Timer::at(*over).await;
                }
                None => std::future::pending().await,
            }
        };
        let cut = async {
            match Async::new_nonblocking(self.cut) {
                // The end of the pipe reads as readiness.
                Ok(cut) => drop(cut.readable().await),
                Err(_) => std::future::pending().await,
            }
        };
        async_io::block_on(rest.or(over).or(cut));
    }
}

async fn force_at(at: Instant, shutdown: Shutdown, serving: Arc<AtomicBool>) {
    Timer::at(at).await;
    if serving.load(Ordering::Acquire) {
        log::warn!("the grace period is over, what is still in flight is cut");
        shutdown.force();
    }
}
