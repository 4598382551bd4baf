//! A background task that reads the body of a request whose handler may answer first.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use gearshift_core::{Body, BodyError, Runtime};

use crate::action::Action;
use crate::application::reading::Reading;
use crate::fault::Fault;
use crate::world::World;

/// Polls of one read that have no reason.
const TICKS: u32 = 20;

/// A background task that reads the body of a request whose handler may answer first.
pub(super) struct TaskReader {
    world: Arc<World>,
    runtime: Runtime,
    /// The connection.
    at: usize,
    /// The number of the request on its connection.
    n: usize,
    /// The pause between polls without a reason, if there are any.
    every: Option<Duration>,
}

impl TaskReader {
    /// The reader of the request that began last.
    pub(super) fn new(runtime: &Runtime, reading: &Reading, action: Action) -> TaskReader {
        let n = reading.world.lock().links[reading.at].begun - 1;
        let every = (action.pieces > 3).then_some(action.pause / 3 + Duration::from_micros(50));
        TaskReader { world: reading.world.clone(), runtime: runtime.clone(), at: reading.at, n, every }
    }

    /// Reads to the end.
    pub(super) async fn read(self, mut reading: Reading, mut body: Body) {
        while {
            let chunk = self.chunk(&mut reading, &mut body).await;
            self.goes_on(chunk)
        } {}
    }

    /// Polls for the first piece, then hands the body to another task, which reads to the end.
    pub(super) async fn pass_on(self, mut reading: Reading, mut body: Body) {
        let first = {
            let mut chunk = pin!(self.chunk(&mut reading, &mut body));
            poll_fn(|cx| Poll::Ready(chunk.as_mut().poll(cx))).await
        };
        let goes_on = match first {
            Poll::Ready(chunk) => self.goes_on(chunk),
            Poll::Pending => true,
        };
        if goes_on {
            let runtime = self.runtime.clone();
            runtime.spawn(self.read(reading, body)).detach();
        }
    }

    /// Whether more is to be read. A read that ends once the request is over has to say so.
    fn goes_on(&self, chunk: Result<bool, BodyError>) -> bool {
        let mut state = self.world.lock();
        match chunk {
            Ok(goes_on) => goes_on,
            Err(error) => {
                if state.links[self.at].is_over(self.n) && !matches!(error, BodyError::Gone) {
                    state.violate(format!("the body of a request that is over fails with {error:?}"));
                }
                false
            }
        }
    }

    /// Reads one piece. `false` at the end. Each poll brings its own waker, and only the latest one works.
    async fn chunk(&self, reading: &mut Reading, body: &mut Body) -> Result<bool, BodyError> {
        let _waits = TaskWaits::new(&self.world, self.at, self.n);
        let (latest, mut ticks) = (Arc::new(AtomicU64::new(0)), 0);
        let mut tick = self.every.map(|every| self.runtime.sleep(every));
        let mut chunk = pin!(reading.chunk(body));
        poll_fn(|cx| {
            while let (Some(sleep), Some(every)) = (&mut tick, self.every) {
                if pin!(sleep).poll(cx).is_pending() {
                    break;
                }
                ticks += 1;
                tick = (ticks < TICKS).then(|| self.runtime.sleep(every));
            }
            let turn = latest.fetch_add(1, Ordering::Relaxed) + 1;
            let (world, latest) = (self.world.clone(), latest.clone());
            let waker =
                LatestWaker { world, waker: cx.waker().clone(), at: self.at, n: self.n, turn, latest };
            self.world.lock().body_polled = Some(self.at);
            let polled = chunk.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(waker))));
            self.world.lock().body_polled = None;
            polled
        })
        .await
    }
}

/// The entry of a task that waits for a body.
struct TaskWaits {
    world: Arc<World>,
    entry: (usize, usize),
}

impl TaskWaits {
    fn new(world: &Arc<World>, at: usize, n: usize) -> TaskWaits {
        world.lock().task_readers.push((at, n));
        TaskWaits { world: world.clone(), entry: (at, n) }
    }
}

impl Drop for TaskWaits {
    fn drop(&mut self) {
        let mut state = self.world.lock();
        if let Some(place) = state.task_readers.iter().position(|entry| *entry == self.entry) {
            state.task_readers.swap_remove(place);
        }
    }
}

/// A waker that works until the next poll.
struct LatestWaker {
    world: Arc<World>,
    waker: Waker,
    at: usize,
    n: usize,
    turn: u64,
    latest: Arc<AtomicU64>,
}

impl Wake for LatestWaker {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        let is_answered = link.ended + link.dropped > self.n;
        let is_lost = match state.fault {
            Some(Fault::LoseGone) => is_answered && state.has(Fault::LoseGone),
            Some(Fault::KeepFirstWaker) => self.turn > 1 && state.has(Fault::KeepFirstWaker),
            _ => self.turn != self.latest.load(Ordering::Relaxed),
        };
        drop(state);
        if !is_lost {
            self.waker.wake_by_ref();
        }
    }
}
