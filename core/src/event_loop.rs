//! Whether the calling thread drives connections, and so must not block.

use std::cell::Cell;

use crate::transport::Transport;

thread_local! {
    static IS_EVENT_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a handler that must not block.
pub(crate) fn is_event_loop() -> bool {
    IS_EVENT_LOOP.get()
}

/// Marks the thread as one that must not block, or may, while a handler runs on it.
pub(crate) struct EventLoop(bool);

impl EventLoop {
    #[inline]
    pub(crate) fn enter<T: Transport>() -> EventLoop {
        EventLoop(IS_EVENT_LOOP.replace(!T::BLOCKING))
    }
}

impl Drop for EventLoop {
    #[inline]
    fn drop(&mut self) {
        IS_EVENT_LOOP.set(self.0);
    }
}
