//! Work that goes on after its response, and an async function that awaits another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gearshift::{Request, Runtime, StatusCode};

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

    /// Answers at once, and finishes in the background: a stop waits for that, within its grace period.
    pub(crate) fn put_off(&self, request: Request) -> Result<StatusCode, Refusal> {
        let (pause, later) = (work::millis(&request)?, self.clone());
        let waiting = async move {
            later.runtime.sleep(pause).await;
            later.done.fetch_add(1, Ordering::Relaxed);
        };
        self.runtime.spawn(waiting).detach();
        Ok(StatusCode::ACCEPTED)
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
