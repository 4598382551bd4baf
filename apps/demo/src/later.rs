//! Work that continues after its response, and an async function that awaits another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gearshift::{Request, Response, Runtime, StatusCode};

use crate::{Refusal, work};

/// The deferred work, and how much of it is done.
#[derive(Clone)]
pub(crate) struct Later {
    runtime: Runtime,
    done: Arc<AtomicU64>,
}

impl Later {
    pub(crate) fn new(runtime: &Runtime) -> Later {
        Later { runtime: runtime.clone(), done: Arc::default() }
    }

    /// Responds at once, and works when the response is on the wire. A stop waits for the work, within the grace period.
    pub(crate) fn defer(&self, request: Request) -> Result<Response, Refusal> {
        let (pause, later) = (work::millis(&request)?, self.clone());
        let work = async move {
            later.runtime.sleep(pause).await;
            later.done.fetch_add(1, Ordering::Relaxed);
        };
        Ok(Response::status_only(StatusCode::ACCEPTED).after(work))
    }

    /// The number of finished jobs, as text.
    pub(crate) fn done(&self) -> String {
        self.done.load(Ordering::Relaxed).to_string()
    }
}

/// The handler of `/data`: it awaits a function that takes a second.
pub(crate) async fn data(runtime: Runtime) -> &'static str {
    fetch(&runtime).await;
    "Done!"
}

async fn fetch(runtime: &Runtime) {
    runtime.sleep(Duration::from_secs(1)).await;
}
