//! The work of the routes that take time: waiting, blocking, and burning CPU.

use std::fmt::Write;
use std::thread;
use std::time::Duration;

use gearshift::Request;
use sha2::{Digest, Sha256};

use crate::{Refusal, bounded};

/// The longest wait.
const MOST_MILLIS: u64 = 60_000;
/// The most rounds of hashing; some seconds of a core.
const MOST_ROUNDS: u64 = 10_000_000;

/// The duration that a request asks for.
pub(crate) fn millis(request: &Request) -> Result<Duration, Refusal> {
    bounded(request, "ms", MOST_MILLIS).map(Duration::from_millis)
}

/// Blocks the thread it is called on.
pub(crate) fn block(request: Request) -> Result<&'static str, Refusal> {
    thread::sleep(millis(&request)?);
    Ok("ok")
}

/// Burns CPU: SHA-256 of nothing, then of that, and so on; in hexadecimal.
pub(crate) fn hash(request: Request) -> Result<String, Refusal> {
    let rounds = bounded(&request, "rounds", MOST_ROUNDS)?;
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
