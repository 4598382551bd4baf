//! A server's life, as the thread that called `serve` goes through it: the application starts, connections are
//! accepted, shutdown is asked for, what is in flight ends, the application stops.
//!
//! That thread only waits, and for no longer than it was told to: an event loop that is stuck in a handler is left
//! behind.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use gearshift_core::{App, Config, Phase, Report, Runtime, ServeError, Service, Shutdown, TaskError};

use crate::latch::{Guard, Latch};
use crate::{lock, park};

/// How long to wait, once time is up, for what only has to notice that.
pub const LAST_WAIT: Duration = Duration::from_secs(1);

/// Runs a server whose event loops run already. `accept` has every listener accepted from, until shutdown, with its
/// guard kept for as long as that goes on.
///
/// # Errors
/// `Start` if the application did not start, `System` if `accept` failed.
pub fn supervise(
    app: App,
    config: Config,
    shutdown: Shutdown,
    runtime: &Runtime,
    accept: impl FnOnce(&Arc<Service>, &dyn Fn() -> Guard) -> io::Result<()>,
) -> Result<Report, ServeError> {
    let grace = config.graceful_timeout;
    let (start, on_stop) = app.into_parts(runtime.clone());
    let mut start = runtime.spawn(start);
    let started =
        park::until(None, before(&mut start, asked(&shutdown, Phase::Graceful))).flatten().or_else(|| {
            park::until(Some(Instant::now() + grace), before(&mut start, asked(&shutdown, Phase::Forced)))
                .flatten()
        });
    let handler = match started {
        Some(Ok(started)) => started.map_err(ServeError::Start)?,
        Some(Err(error)) => return Err(ServeError::Start(error.into())),
        None => {
            log::warn!("the application was still starting when it was time to stop");
            start.cancel();
            return Ok(Report::default());
        }
    };

    let service = Service::new(handler, config, shutdown.clone(), runtime.clone());
    let accepting = Latch::new();
    accept(&service, &|| accepting.guard())?;
    park::until(None, asked(&shutdown, Phase::Graceful));

    let deadline = Instant::now() + grace;
    let ended = async {
        accepting.released().await;
        service.connections_until(|n| n == 0).await;
    };
    let in_time = park::until(Some(deadline), before(ended, asked(&shutdown, Phase::Forced))).flatten();
    if in_time.is_none() {
        shutdown.force();
        park::until(Some(Instant::now() + LAST_WAIT), service.connections_until(|n| n == 0));
    }

    let deadline = match shutdown.phase() {
        Phase::Forced => Instant::now(),
        _ => deadline,
    };
    let stopping = runtime.spawn(on_stop.run());
    match park::until(Some(deadline.max(Instant::now() + LAST_WAIT)), stopping) {
        Some(Ok(())) | Some(Err(TaskError::Panicked)) => {}
        _ => log::warn!("the application did not stop in time"),
    }
    if park::until(Some(deadline), runtime.tasks_ended()).is_none() {
        log::warn!("{} background tasks were still running", runtime.tasks());
    }
    Ok(service.report())
}

/// The output of `future`, unless `end` comes first.
async fn before<F: Future>(future: F, end: impl Future<Output = ()>) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut end = pin!(end);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Ready once `phase` has come.
async fn asked(shutdown: &Shutdown, phase: Phase) {
    let waiter = Arc::new(Mutex::new(None::<Waker>));
    let hook = waiter.clone();
    let _subscription = shutdown.subscribe(move |_| {
        let waiter = lock(&hook).take();
        waiter.into_iter().for_each(Waker::wake);
    });
    poll_fn(|cx| {
        *lock(&waiter) = Some(cx.waker().clone());
        match shutdown.phase() >= phase {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await
}
