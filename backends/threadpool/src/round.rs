//! A round: tasks that a worker runs one after another. After a long round the worker takes events from the reactor if
//! no other worker watches. The worker measures in each round whether its tasks are quick.

use std::time::{Duration, Instant};

use gearshift_core::clock::CoarseInstant;
use gearshift_core::sync::now;

/// Maximum number of tasks in a round.
const TASKS_PER_ROUND: u32 = 64;
/// Time after which a round ends with the current task.
const MAX_ROUND_TIME: Duration = Duration::from_millis(10);
/// Mean time below which the tasks of a worker are quick: running one takes less time than waking a worker for it.
const QUICK_TASK: Duration = Duration::from_micros(20);

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Round {
    begun: CoarseInstant,
    /// The number of tasks of this round that were run.
    pub(crate) tasks: u32,
    /// The time from which tasks are measured, and the number of tasks before it.
    measured: Option<(Instant, u32)>,
    /// Whether the tasks that were measured last took less than [`QUICK_TASK`] each.
    pub(crate) is_quick: bool,
}

impl Round {
    /// Begins the round, now.
    pub(crate) fn begin(&mut self) {
        (self.begun, self.tasks) = (CoarseInstant::now(), 0);
    }

    /// Measures the tasks from now to the end of the round.
    pub(crate) fn measure(&mut self) {
        if self.measured.is_none() {
            self.measured = Some((now(), self.tasks));
        }
    }

    /// Ends the round.
    pub(crate) fn end(&mut self) {
        if let Some((since, before)) = self.measured.take() {
            self.is_quick = now().duration_since(since) < QUICK_TASK * (self.tasks - before);
        }
    }

    /// Whether the round has to end, so that events do not wait for the worker.
    pub(crate) fn is_long(&self) -> bool {
        self.tasks >= TASKS_PER_ROUND || self.tasks > 0 && self.begun.elapsed() >= MAX_ROUND_TIME
    }
}
