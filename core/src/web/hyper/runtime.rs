//! A [`Runtime`] as hyper's executor and as its timer.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::proto::BoxFuture;
use crate::runtime::clock::after;
use crate::runtime::handle::Runtime;
use crate::runtime::stall::Origin;

/// Runs hyper's connections as background tasks of a [`Runtime`].
///
/// Unlike the tasks of [`Runtime::spawn`], these tasks do not delay a stop. An idle connection of a client would
/// otherwise delay every stop until the grace period is over. The backend drops the tasks when all requests and all
/// other background tasks have ended.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::hyper::{Executor, Io};
/// use gearshift::{BoxError, Bytes, Runtime};
/// use http_body_util::Empty;
/// use hyper::client::conn::http1::{self, SendRequest};
/// use hyper::rt::Executor as _;
///
/// /// One connection without a pool.
/// async fn open(runtime: &Runtime, to: &str) -> Result<SendRequest<Empty<Bytes>>, BoxError> {
///     let stream = runtime.connect(to).await?;
///     let (sender, connection) = http1::handshake(Io::new(stream)).await?;
///     Executor::new(runtime).execute(connection);
///     Ok(sender)
/// }
/// # drop(open);
/// ```
#[derive(Clone, Debug)]
pub struct Executor(Runtime);

impl Executor {
    /// An executor on `runtime`.
    pub fn new(runtime: &Runtime) -> Executor {
        Executor(runtime.clone())
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    /// Starts `future`. A panic in it ends the task alone, and is logged.
    #[track_caller]
    fn execute(&self, future: F) {
        self.0.spawn_at(future, Origin::Spawned(Location::caller()), false).detach();
    }
}

/// The clock of a [`Runtime`] for hyper: it limits how long a pooled connection stays idle.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::Runtime;
/// use gearshift::hyper::Timer;
/// use hyper::rt::Timer as _;
///
/// async fn wait(runtime: &Runtime) {
///     Timer::new(runtime).sleep(Duration::from_millis(10)).await;
/// }
/// # drop(wait);
/// ```
#[derive(Clone, Debug)]
pub struct Timer(Runtime);

impl Timer {
    /// A timer on `runtime`.
    pub fn new(runtime: &Runtime) -> Timer {
        Timer(runtime.clone())
    }
}

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep_until(after(self.now(), duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Sleep(Mutex::new(self.0.sleep_until(deadline))))
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}

/// A sleep of the engine. hyper requires `Sync`, which the mutex provides; the mutex is never locked.
struct Sleep(Mutex<BoxFuture<()>>);

impl hyper::rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx)
    }
}
