//! What comes before and after the serving: the application's start, the poller, the end.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use gearshift_core::backend::OnStop;
use gearshift_core::{App, Report, Runtime, ServeError, Server, Service};

use crate::grace::Grace;
use crate::poller::Poller;
use crate::pulse::Pulse;
use crate::runtime::BlockingEngine;
use crate::transport::Ground;

/// A server that is ready to serve.
#[derive(Debug)]
pub struct Opened {
    /// What all its connections share.
    pub service: Arc<Service>,
    /// What its transports are made on.
    pub ground: Arc<Ground>,
    /// Where it waits.
    pub poller: Poller,
    /// Where it says how it is doing.
    pub pulse: Arc<Pulse>,
}

/// How long to wait, once time is up, for what only has to notice that.
pub(crate) const LAST_WAIT: Duration = Duration::from_secs(1);

/// Starts `app`, has `run` serve it until nothing is left to serve, and stops it.
///
/// `run` says how many requests it had to leave behind, and ends when shutdown is forced; that this happens when the
/// grace period is over is seen to here. The application's start has as long as a request has once shutdown was asked
/// for, its stop what is left of that time, and each a second at least. Both run on the calling thread, so that only
/// their waits are bounded: code that blocks the thread cannot be cut.
///
/// # Errors
/// What kept the application from starting, or the server from running.
pub fn serve(
    backend: &'static str,
    server: Server,
    app: App,
    run: impl FnOnce(Opened) -> io::Result<u64>,
) -> Result<Report, ServeError> {
    let pulse = Arc::new(Pulse::default());
    let engine = BlockingEngine::new(backend, &pulse);
    // Also when what starts the application panics.
    let _stop = StopOnDrop(&engine);
    let (listeners, config, shutdown) = server.into_parts();
    let runtime = Runtime::new(engine.clone(), &config);
    let poller = Poller::new(listeners, &pulse)?;
    let (grace, cut) = Grace::new(&shutdown, config.graceful_timeout, &engine, poller.waker())?;
    let (start, on_stop) = app.into_parts(runtime.clone());
    let Some(started) = grace.run(Instant::now(), start) else {
        log::warn!("the application was still starting when it was time to stop");
        return Ok(Report::default());
    };
    let handler = started.map_err(ServeError::Start)?;
    let ground = Arc::new(Ground { registry: poller.registry()?, cut });
    let service = Service::new(handler, config, shutdown, runtime.clone());
    let ran = run(Opened { service: service.clone(), ground, poller, pulse });
    stop(&grace, on_stop, &runtime);
    let mut report = service.report();
    report.cut += ran?;
    Ok(report)
}

/// Stops the application and waits for its background tasks.
fn stop(grace: &Grace, on_stop: OnStop, runtime: &Runtime) {
    let stopping = AssertUnwindSafe(on_stop.run()).catch_unwind();
    match grace.finish(Instant::now() + LAST_WAIT, stopping) {
        Some(Ok(())) => {}
        Some(Err(_)) => log::error!("the application panicked while it stopped"),
        None => log::warn!("the application did not stop in time"),
    }
    if grace.finish(Instant::now(), runtime.tasks_ended()).is_none() {
        log::warn!("{} background tasks were still running", runtime.tasks());
    }
}

struct StopOnDrop<'a>(&'a BlockingEngine);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
