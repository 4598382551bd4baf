//! The engine behind `Runtime` in a simulation: virtual time, and tasks that the simulation's scheduler polls.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use gearshift_core::park::Park;
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};

use crate::world::{Event, World};

/// The engine of one simulation.
pub(crate) struct SimEngine {
    pub(crate) world: Arc<World>,
    pub(crate) threads_block: bool,
}

impl Engine for SimEngine {
    fn backend(&self) -> &'static str {
        "simulation"
    }

    fn now(&self) -> Instant {
        self.world.instant()
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        let until = self.world.since_start(until);
        Box::pin(Sleep { world: self.world.clone(), until, id: None })
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(async move {
            let error = format!("a simulation has no network, so {to} is unreachable");
            Err(io::Error::new(io::ErrorKind::NetworkUnreachable, error))
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.world.lock().spawned.push(task);
    }

    fn offload(&self, _: Work, job: Job) {
        let mut state = self.world.lock();
        state.jobs.push_back(job);
        let at = state.now + Duration::from_micros(state.rng.u64(..5_000));
        state.schedule(at, Event::Job);
    }

    fn threads_block(&self) -> bool {
        self.threads_block
    }

    fn stats(&self) -> EngineStats {
        EngineStats::default()
    }
}

/// How a simulated worker waits inside a call that blocks: virtual time goes on, and all other connections stand still.
///
/// There is one real thread, so at most one worker waits in this way at a time.
pub(crate) struct SimPark {
    pub(crate) world: Arc<World>,
    is_unparked: AtomicBool,
}

impl SimPark {
    pub(crate) fn new(world: Arc<World>) -> SimPark {
        SimPark { world, is_unparked: AtomicBool::new(false) }
    }
}

impl Park for SimPark {
    fn park(&self) {
        while !self.is_unparked.swap(false, Ordering::AcqRel) {
            if !self.world.step() {
                self.world.lock().violate("a call that blocks is never woken");
                panic!("a call that blocks is never woken");
            }
        }
    }

    fn unpark(&self) {
        self.is_unparked.store(true, Ordering::Release);
    }
}

/// A wait in virtual time.
struct Sleep {
    world: Arc<World>,
    until: Duration,
    /// The timer of this wait, once it was polled.
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let mut state = this.world.lock();
        if let Some(id) = this.id {
            state.timers.remove(&id);
        }
        if state.now >= this.until {
            this.id = None;
            return Poll::Ready(());
        }
        let id = match this.id {
            Some(id) => id,
            None => {
                let id = state.next_timer();
                state.schedule(this.until, Event::Timer(id));
                id
            }
        };
        this.id = Some(id);
        state.timers.insert(id, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.world.lock().timers.remove(&id);
        }
    }
}
