//! The work of the slow routes: waiting, blocking and computing.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use gearshift::Request;
use sha2::{Digest, Sha256};

use crate::{Refusal, bounded};

/// The longest wait, in milliseconds.
const MAX_MILLIS: u64 = 60_000;
/// The largest number of hash rounds, which take a core several seconds.
const MAX_ROUNDS: u64 = 10_000_000;

/// The duration in the path of a request.
pub(crate) fn millis(request: &Request) -> Result<Duration, Refusal> {
    bounded(request, "ms", MAX_MILLIS).map(Duration::from_millis)
}

/// Waits on the timer of the runtime.
pub(crate) async fn sleep(request: Request) -> Result<&'static str, Refusal> {
    request.runtime().sleep(millis(&request)?).await;
    Ok("ok")
}

/// Blocks the calling thread.
pub(crate) fn block(request: Request) -> Result<&'static str, Refusal> {
    thread::sleep(millis(&request)?);
    Ok("ok")
}

/// Computes SHA-256 of the empty string, then of the digest, and so on. Returns the last digest in hexadecimal.
pub(crate) fn hash(request: Request) -> Result<String, Refusal> {
    let rounds = bounded(&request, "rounds", MAX_ROUNDS)?;
    let mut digest = Sha256::digest(b"");
    for _ in 1..rounds {
        digest = Sha256::digest(digest);
    }
    let mut hex = String::with_capacity(64);
    for byte in digest {
        let _ = write!(hex, "{byte:02x}");
    }
    Ok(hex)
}
