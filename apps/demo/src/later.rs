//! Work that continues after its response, and an async function that awaits another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gearshift::{Request, Response, Runtime, StatusCode};

use crate::{Refusal, work};

/// The number of deferred jobs that are done.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<AtomicU64>);

impl Jobs {
    /// Responds at once, and works when the response is on the wire. A stop waits for the work, within the grace
    /// period.
    pub(crate) fn defer(&self, request: Request) -> Result<Response, Refusal> {
        let (pause, runtime, done) = (work::millis(&request)?, request.runtime().clone(), self.0.clone());
        let work = async move {
            runtime.sleep(pause).await;
            done.fetch_add(1, Ordering::Relaxed);
        };
        Ok(Response::status_only(StatusCode::ACCEPTED).after(work))
    }

    /// The number as text.
    pub(crate) fn count(&self) -> String {
        self.0.load(Ordering::Relaxed).to_string()
    }
}

/// The handler of `/data`: it awaits a function that takes a second.
pub(crate) async fn data(request: Request) -> &'static str {
    fetch(request.runtime()).await;
    "Done!"
}

async fn fetch(runtime: &Runtime) {
    runtime.sleep(Duration::from_secs(1)).await;
}
