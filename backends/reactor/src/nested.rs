//! A reactor that waits inside another: for backends whose threads wait in async-io, so that handlers can use its
//! timers and sockets.
//!
//! Waiting there costs some five system calls, so it is done only when there is nothing to do: as long as there is,
//! the reactor is asked directly, between one round of the executor and the next.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use async_io::{Async, Timer};

use crate::reactor::Reactor;
use crate::yield_now;

/// Turns `reactor` until the task that awaits this ends.
///
/// # Errors
/// Whatever the system says; the reactor is of no use then.
pub async fn turn_forever(mut reactor: Reactor) -> io::Result<()> {
    let nested = Async::new_nonblocking(reactor.handle().clone())?;
    let mut timer = Timer::never();
    let mut timer_at = None;
    loop {
        if reactor.turn(Some(Duration::ZERO))? > 0 {
            yield_now().await;
            continue;
        }
        let until: Option<Instant> = reactor.sleep_until();
        if until != timer_at {
            match until {
                Some(at) => timer.set_at(at),
                None => timer.clear(),
            }
            timer_at = until;
        }
        poll_fn(|cx| {
            if Pin::new(&mut timer).poll(cx).is_ready() {
                timer_at = None;
                return Poll::Ready(Ok(()));
            }
            nested.poll_readable(cx)
        })
        .await?;
    }
}
