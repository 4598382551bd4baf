//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// Upper bound on the duration of anything that a test waits for.
///
/// No operation of a correct server takes this long, and no timeout of a server under test is this long unless the test
/// is about that timeout.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long to pause between two checks of a condition.
const POLL: Duration = Duration::from_millis(2);

/// Waits until `holds` returns true.
///
/// # Panics
/// With `what`, if the condition does not hold within [`PATIENCE`].
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(POLL);
    }
}
