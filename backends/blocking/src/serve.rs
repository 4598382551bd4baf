//! What comes before and after the serving: the application's start, the poller, the end.

use std::io;
use std::sync::Arc;

use gearshift_core::{App, Report, Runtime, ServeError, Server, Service};

use crate::grace::Grace;
use crate::poller::Poller;
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
}

/// Starts `app`, has `run` serve it until nothing is left to serve, and stops it.
///
/// `run` says how many requests it had to leave behind, and ends when shutdown is forced; that this happens when the
/// grace period is over is seen to here.
///
/// # Errors
/// What kept the application from starting, or the server from running.
pub fn serve(
    backend: &'static str,
    server: Server,
    app: App,
    run: impl FnOnce(Opened) -> io::Result<u64>,
) -> Result<Report, ServeError> {
    let engine = BlockingEngine::new(backend);
    let report = serve_on(&engine, server, app, run);
    engine.stop();
    report
}

fn serve_on(
    engine: &BlockingEngine,
    server: Server,
    app: App,
    run: impl FnOnce(Opened) -> io::Result<u64>,
) -> Result<Report, ServeError> {
    let (listeners, config, shutdown) = server.into_parts();
    let grace_period = config.graceful_timeout;
    let runtime = Runtime::new(engine.clone());
    let poller = Poller::new(listeners)?;
    let (start, on_stop) = app.into_parts(runtime.clone());
    let handler = async_io::block_on(start).map_err(ServeError::Start)?;
    let (grace, cut) = Grace::new(&shutdown, grace_period, engine, poller.waker())?;
    let ground = Arc::new(Ground { registry: poller.registry()?, cut });
    let service = Service::new(handler, config, shutdown, runtime.clone());
    let ran = run(Opened { service: service.clone(), ground, poller });
    async_io::block_on(on_stop.run());
    grace.finish(async {
        if ran.is_ok() {
            runtime.tasks_ended().await;
        }
    });
    let mut report = service.report();
    report.cut += ran?;
    Ok(report)
}
