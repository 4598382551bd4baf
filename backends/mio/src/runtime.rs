//! What a handler may ask of this backend.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use gearshift_core::threads::Threads;
use gearshift_core::{BoxFuture, Config, Endpoint, Engine, EngineStats, Job, Stream, Work as Offloaded};

use crate::NAME;
use crate::executor::Work;
use crate::here;
use crate::mailbox::{Letter, Loops, Mailbox};

/// The loops of one server, as its application sees them.
pub(crate) struct MioEngine {
    loops: Arc<Loops>,
    threads: Threads,
}

impl MioEngine {
    pub(crate) fn new(loops: &Arc<Loops>, config: &Config) -> MioEngine {
        MioEngine { loops: loops.clone(), threads: Threads::new(config.compute_threads_or_cores()) }
    }

    /// The calling thread's loop if it is one of these, else one of them in turn.
    fn home(&self) -> Arc<Mailbox> {
        here::mailbox()
            .filter(|here| self.loops.all().iter().any(|one| Arc::ptr_eq(one, here)))
            .unwrap_or_else(|| self.loops.next())
    }
}

impl Engine for MioEngine {
    fn backend(&self) -> &'static str {
        NAME
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(self.home().handle().sleep(until))
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(self.home().handle().clone().connect(to))
    }

    fn spawn(&self, task: BoxFuture<()>) {
        let home = self.home();
        match here::is(&home) {
            true => here::spawn(Work::Background(task)),
            false => home.send(Letter::Spawn(task)),
        }
    }

    fn offload(&self, kind: Offloaded, job: Job) {
        self.threads.run(kind, job);
    }

    fn stats(&self) -> EngineStats {
        let turns = self.loops.all().iter().map(|mailbox| mailbox.handle().turns()).sum();
        EngineStats { workers: self.loops.all().len(), waiting: 0, turns }
    }
}
