//! The log line for a request that had no response within `--timeout`.
//!
//! The server drops the future of such a request and answers with 503. The line of the server names no request, because
//! the handler has it.

use std::time::{Duration, Instant};

use gearshift::Request;

/// Logs a request when it is dropped, if its time is over then.
pub(crate) struct Late(Option<Waiting>);

struct Waiting {
    route: String,
    since: Instant,
    timeout: Duration,
}

impl Late {
    /// For a request that begins now. Without a timeout, `Duration::MAX`, this costs nothing.
    pub(crate) fn new(request: &Request, timeout: Duration) -> Late {
        let waiting = || Waiting {
            route: format!("{} {}", request.method(), request.path()),
            since: Instant::now(),
            timeout,
        };
        Late((timeout != Duration::MAX).then(waiting))
    }

    /// Waits for the response of the request.
    pub(crate) async fn or<T>(mut self, response: impl Future<Output = T>) -> T {
        let response = response.await;
        self.0 = None;
        response
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(Waiting { route, since, timeout }) = self.0.take()
            && since.elapsed() >= timeout
        {
            log::warn!("{route}: no response within {timeout:?} (--timeout)");
        }
    }
}
