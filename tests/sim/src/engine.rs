//! What stands behind `Runtime` in a simulation: virtual time, and tasks that the simulation's scheduler polls.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};

use crate::world::{Event, World};

/// The engine of one simulation.
pub(crate) struct SimEngine {
    pub(crate) world: Arc<World>,
    /// Whether the server's threads may wait.
    pub(crate) blocking: bool,
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
            Err(io::Error::new(io::ErrorKind::NetworkUnreachable, format!("nothing but the server: {to}")))
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.world.lock().spawned.push(task);
    }

    fn runs_in_place(&self) -> bool {
        self.blocking
    }

    fn offload(&self, _: Work, job: Job) {
        let mut state = self.world.lock();
        state.jobs.push_back(job);
        let at = state.now + Duration::from_micros(state.rng.u64(..5_000));
        state.schedule(at, Event::Job);
    }

    fn engine_stats(&self) -> EngineStats {
        EngineStats::default()
    }

    fn block_on(&self, mut future: Pin<&mut dyn Future<Output = ()>>) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let waker = Waker::from(flag.clone());
        loop {
            if flag.0.swap(false, Ordering::AcqRel) {
                if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                    return;
                }
            } else {
                assert!(self.world.step(), "what is blocked on is never ready");
            }
        }
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// A wait in virtual time.
struct Sleep {
    world: Arc<World>,
    until: Duration,
    /// Its timer, while it waits.
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
