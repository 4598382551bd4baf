//! The tasks that an application has added to a response with [`Response::after`](crate::Response::after).

use crate::proto::response::Later;
use crate::runtime::handle::Runtime;
use crate::runtime::stall::Origin;

/// The tasks of one or several responses. Dropping the value spawns them. It is dropped when the responses were
/// written, or when the connection ends before that.
pub(crate) struct After {
    runtime: Runtime,
    pub(crate) tasks: Vec<Later>,
}

impl After {
    pub(crate) fn new(runtime: &Runtime, tasks: Vec<Later>) -> After {
        After { runtime: runtime.clone(), tasks }
    }
}

impl Drop for After {
    fn drop(&mut self) {
        for (task, place) in self.tasks.drain(..) {
            self.runtime.spawn_at(task, Origin::Spawned(place), true).detach();
        }
    }
}
