//! What the tests of this crate share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gearshift_core::{ReadBuffer, WriteQueue};
use socket2::{Domain, Socket, Type};

use crate::handle::{AWAKE, Handle};
use crate::reactor::Reactor;
use crate::slot::{READABLE, WRITABLE};
use crate::transport::ReactorTransport;

/// A time limit that no test reaches.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Counts the wake-ups of its waker.
#[derive(Default)]
pub(crate) struct Counter(AtomicUsize);

impl Counter {
    pub(crate) fn new() -> (Arc<Counter>, Waker) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), counter.into())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// A socket that does not block, and its peer.
pub(crate) fn pair() -> (Socket, Socket) {
    let (ours, peer) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, peer)
}

/// A connection on a reactor, and its peer.
pub(crate) struct Rig {
    pub(crate) reactor: Reactor,
    pub(crate) transport: ReactorTransport,
    pub(crate) peer: Socket,
    pub(crate) read_buffer: ReadBuffer,
    pub(crate) write_queue: WriteQueue,
}

pub(crate) fn rig() -> Rig {
    let reactor = Reactor::new(LONG).unwrap();
    let (ours, peer) = pair();
    let transport = ReactorTransport::new(reactor.handle(), ours, READABLE | WRITABLE).unwrap();
    Rig { reactor, transport, peer, read_buffer: ReadBuffer::new(), write_queue: WriteQueue::new() }
}

/// Calls `act` on a thread once the reactor of `handle` waits.
pub(crate) fn once_it_waits<T: Send + 'static>(
    handle: &Handle,
    act: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let handle = handle.clone();
    thread::spawn(move || {
        while handle.0.asleep_until.load(Ordering::SeqCst) == AWAKE {
            thread::yield_now();
        }
        act()
    })
}
