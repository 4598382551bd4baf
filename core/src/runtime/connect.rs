//! Connecting to one of several addresses: Happy Eyeballs (RFC 8305).
//!
//! An attempt begins when the one before it has failed, or has not succeeded for [`ATTEMPT_DELAY`]. An address that
//! does not answer therefore delays the connection little. The first connection wins, and the other attempts are
//! dropped.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use crate::proto::BoxFuture;
use crate::proto::stream::Stream;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::handle::Runtime;

/// The time after which the next address is tried beside those that have not answered (RFC 8305, 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The time after which an address is given up.
const MAX_ATTEMPT: Duration = Duration::from_secs(10);

/// The attempts to connect to one of several addresses.
pub(crate) struct Attempts {
    runtime: Runtime,
    /// The addresses that were not tried yet, in the order of [`interleaved`].
    untried: vec::IntoIter<SocketAddr>,
    /// The attempts that have not ended.
    running: Vec<BoxFuture<io::Result<Stream>>>,
    /// The time at which the next attempt begins although the last one has not failed.
    next: Option<BoxFuture<()>>,
    /// The error of the attempt that has failed last.
    failure: io::Error,
}

impl Attempts {
    /// Creates the attempts to connect to one of `addresses`, which come from `origin`. None has begun.
    pub(crate) fn new(runtime: &Runtime, addresses: Vec<SocketAddr>, origin: &str) -> Attempts {
        Attempts {
            runtime: runtime.clone(),
            untried: interleaved(addresses).into_iter(),
            running: Vec::new(),
            next: None,
            failure: io::Error::new(io::ErrorKind::NotFound, format!("{origin} has no address")),
        }
    }

    /// Returns the first connection, or the last error if all attempts fail.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        loop {
            let mut begins_next = self.running.is_empty();
            for n in (0..self.running.len()).rev() {
                match self.running[n].as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        self.failure = error;
                        drop(self.running.swap_remove(n));
                        begins_next = true;
                    }
                    Poll::Pending => {}
                }
            }
            if let Some(next) = &mut self.next {
                begins_next |= next.as_mut().poll(cx).is_ready();
            }
            match begins_next.then(|| self.untried.next()) {
                Some(Some(address)) => self.begin(address),
                Some(None) if self.running.is_empty() => {
                    let failure = std::mem::replace(&mut self.failure, io::ErrorKind::Other.into());
                    return Poll::Ready(Err(failure));
                }
                _ => return Poll::Pending,
            }
        }
    }

    /// Begins an attempt.
    fn begin(&mut self, address: SocketAddr) {
        let has_next = !self.untried.as_slice().is_empty();
        self.next = has_next.then(|| Box::pin(self.runtime.sleep(ATTEMPT_DELAY)) as BoxFuture<()>);
        let runtime = self.runtime.clone();
        self.running.push(Box::pin(async move {
            let connecting = runtime.connect_once(Endpoint::Tcp(address));
            runtime.timeout(MAX_ATTEMPT, connecting).await.map_err(|_| no_answer(&address, MAX_ATTEMPT))?
        }));
    }
}

/// The error of an attempt to connect to `to` that was given up after `time`.
pub(crate) fn no_answer(to: &dyn Display, time: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("connecting to {to}: no answer within {time:?}"))
}

/// Orders addresses so that the families alternate. The order within each family stays, and the family of the first
/// address comes first (RFC 8305, 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let len = addresses.len();
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut order = Vec::with_capacity(len);
    while order.len() < len {
        order.extend(same.next());
        order.extend(other.next());
    }
    order
}

#[cfg(test)]
mod tests;
