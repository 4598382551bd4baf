//! What is to be done once a response is on the wire.

use crate::proto::response::Later;
use crate::runtime::handle::Runtime;

/// Work that becomes background tasks when this is dropped: when the response was written, or never will be.
pub(crate) struct After {
    runtime: Runtime,
    work: Vec<Later>,
}

impl After {
    pub(crate) fn new(runtime: &Runtime, work: Vec<Later>) -> After {
        After { runtime: runtime.clone(), work }
    }

    /// Puts what comes after a later response behind what comes after an earlier one.
    pub(crate) fn append(&mut self, mut later: After) {
        self.work.append(&mut later.work);
    }
}

impl Drop for After {
    fn drop(&mut self) {
        for (work, place) in self.work.drain(..) {
            self.runtime.spawn_at(work, place).detach();
        }
    }
}
