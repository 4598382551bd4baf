//! Work that goes on after its response, and an async function that awaits another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gearshift::{Request, Response, Runtime, StatusCode};

use crate::{Refusal, work};

/// What was put off, and how much of it is done.
#[derive(Clone)]
pub(crate) struct Later {
    runtime: Runtime,
    done: Arc<AtomicU64>,
}

impl Later {
    pub(crate) fn new(runtime: &Runtime) -> Later {
        Later { runtime: runtime.clone(), done: Arc::default() }
    }

    /// Answers at once, and does the work once the answer is on the wire: a stop waits for that, within its grace period.
    pub(crate) fn put_off(&self, request: Request) -> Result<Response, Refusal> {
        let (pause, later) = (work::millis(&request)?, self.clone());
        let work = async move {
            later.runtime.sleep(pause).await;
            later.done.fetch_add(1, Ordering::Relaxed);
        };
        Ok(Response::status_only(StatusCode::ACCEPTED).after(work))
    }

    /// How many are done.
    pub(crate) fn done(&self) -> String {
        self.done.load(Ordering::Relaxed).to_string()
    }
}

/// The handler of `/data`, as it stands in tutorials: it awaits a function that takes its time.
pub(crate) async fn data(runtime: Runtime) -> &'static str {
    fetch(&runtime).await;
    "Done!"
}

async fn fetch(runtime: &Runtime) {
    runtime.sleep(Duration::from_secs(1)).await;
}
