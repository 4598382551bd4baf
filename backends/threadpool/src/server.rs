//! The loop: one thread waits and accepts, and workers drive every connection that has news.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use crossbeam_queue::SegQueue;
use gearshift_blocking::{BlockingTransport, Connections, Deadlines, Ground, News, Opened, Poller, Worker};
use gearshift_core::{Drive, Peer, Phase, Service, Wire};
use mio::Token;
use socket2::Socket;

use crate::slot::{Given, Slot};

/// Connections accepted in one turn, before those that are open have theirs.
const ACCEPTS: usize = 64;
/// How long workers have to come home once nothing is left that they should do.
const HOMECOMING: Duration = Duration::from_millis(500);

type Connection = Arc<Slot<Wire<BlockingTransport>>>;

/// Serves until shutdown has ended the last connection, or is forced. Says how many requests were left behind.
pub(crate) fn run(opened: Opened) -> io::Result<u64> {
    let Opened { service, ground, mut poller, pulse } = opened;
    // Bounded by the number of connections, each of which is in it once at most.
    let (queue, ready) = unbounded();
    let queue = Arc::new(queue);
    let pool = Arc::new(Pool {
        deadlines: Deadlines::new(service.config().shortest_timeout()),
        ready,
        queue: Arc::downgrade(&queue),
        closed: SegQueue::new(),
        poller: poller.waker(),
        service: service.clone(),
    });
    let (home, all_home) = bounded::<()>(0);
    let (threads, waiting) = (service.config().threads_or_default(), Arc::downgrade(&pool));
    pulse.started(threads, move || waiting.upgrade().map_or(0, |pool| pool.ready.len()));
    for n in 0..threads {
        let (pool, home) = (pool.clone(), home.clone());
        thread::Builder::new().name(format!("worker-{n}")).spawn(move || {
            pool.work();
            drop(home);
        })?;
    }
    drop(home);
    let mut open = Open { pool, service, ground, connections: Connections::new(), queue };
    let served = open.serve(&mut poller);
    let left = open.end(&all_home);
    served.map(|()| left)
}

/// The connections that are open.
struct Open {
    service: Arc<Service>,
    ground: Arc<Ground>,
    connections: Connections<Connection>,
    /// Who is to be driven, in the order of the news.
    queue: Arc<Sender<Connection>>,
    pool: Arc<Pool>,
}

/// What the workers share.
struct Pool {
    service: Arc<Service>,
    /// The queue's other end.
    ready: Receiver<Connection>,
    /// The queue's own end, which closes when the poller lets go of it.
    queue: Weak<Sender<Connection>>,
    deadlines: Deadlines,
    /// Who has ended, for the poller to forget.
    closed: SegQueue<Token>,
    poller: Arc<mio::Waker>,
}

impl Open {
    fn serve(&mut self, poller: &mut Poller) -> io::Result<()> {
        let mut news = Vec::new();
        loop {
            match self.service.shutdown().phase() {
                Phase::Running => {}
                Phase::Graceful => {
                    if !poller.door.is_closing() {
                        self.close(poller);
                    }
                    // Also right after: the wake-up that told of shutdown may have been the last one to come.
                    if poller.is_deserted(&self.service) {
                        return Ok(());
                    }
                }
                Phase::Forced => return Ok(()),
            }
            let sweep = (!self.connections.is_empty()).then(|| self.pool.deadlines.next_sweep());
            poller.wait(&self.service, false, sweep, &mut news)?;
            news.iter().for_each(|news| self.tell(*news));
            self.forget();
            self.accept(poller);
            self.sweep();
        }
    }

    /// Shutdown was asked for: those who have come are let in, and everyone who is idle gets to leave.
    fn close(&mut self, poller: &mut Poller) {
        poller.door.close(&self.service);
        self.accept(poller);
        for (_, connection) in self.connections.iter_mut() {
            wake(connection, false, &self.queue);
        }
    }

    /// A connection has something to be read.
    fn tell(&mut self, news: News) {
        if let Some(connection) = self.connections.get_mut(news.token) {
            wake(connection, news.ended, &self.queue);
        }
    }

    /// Frees the places of connections that have ended.
    fn forget(&mut self) {
        while let Some(token) = self.pool.closed.pop() {
            self.connections.remove(token);
        }
    }

    fn accept(&mut self, poller: &mut Poller) {
        let service = self.service.clone();
        poller.door.accept(ACCEPTS, &service, |socket, peer| self.park(socket, peer));
    }

    /// Takes in a new connection, which is read only once something has arrived, or when shutdown does not let it
    /// wait for that.
    fn park(&mut self, socket: Socket, peer: Peer) -> io::Result<()> {
        let token = self.connections.next_token();
        let transport = BlockingTransport::register(socket, token, &self.ground)?;
        let wire = Wire::new(transport, peer, &self.service);
        self.pool.deadlines.parked(wire.deadline());
        let connection = Arc::new(Slot::new(token, wire));
        if self.service.shutdown().is_requested() {
            wake(&connection, false, &self.queue);
        }
        self.connections.insert(connection);
        Ok(())
    }

    /// Has the connections driven whose deadline has passed: they find that out themselves, and say so to their
    /// peers.
    fn sweep(&mut self) {
        let now = Instant::now();
        if !self.pool.deadlines.begin_sweep(now) {
            return;
        }
        let mut earliest = None;
        for (_, connection) in self.connections.iter_mut() {
            match connection.parked(Wire::deadline).flatten() {
                Some(deadline) if deadline <= now => wake(connection, false, &self.queue),
                Some(deadline) => earliest = Some(earliest.map_or(deadline, |least| deadline.min(least))),
                None => {}
            }
        }
        self.pool.deadlines.swept(earliest);
    }

    /// Lets the workers end, and says how many requests those had that did not.
    fn end(mut self, all_home: &Receiver<()>) -> u64 {
        drop(self.queue);
        // Nobody sends anything: the channel closes when the last worker has ended.
        let _ = all_home.recv_timeout(HOMECOMING);
        let left = self.connections.iter_mut().filter(|(_, connection)| connection.is_driven()).count();
        if left != 0 {
            log::warn!("{left} workers are left behind in their handlers");
        }
        left as u64
    }
}

/// A connection has news: queues it, unless it is queued or has a worker already.
fn wake(connection: &Connection, ended: bool, queue: &Sender<Connection>) {
    if connection.tell(ended) {
        queue.send(connection.clone()).expect("the pool keeps the queue's other end");
    }
}

impl Pool {
    /// What a worker does: drives whoever comes out of the queue, until it is closed.
    fn work(&self) {
        let worker = Worker::mark();
        for connection in &self.ready {
            self.drive(&worker, &connection);
        }
    }

    /// Drives one connection until it is idle, or has ended.
    fn drive(&self, worker: &Worker, connection: &Connection) {
        while let Some((mut wire, since)) = connection.take() {
            wire.waited(since.elapsed());
            match worker.drive(wire, &self.service) {
                Drive::Parked(wire) => {
                    let (deadline, again) = (wire.deadline(), wire.is_ready());
                    match connection.give(wire, again) {
                        Given::Ready if self.queue_again(connection) => return,
                        Given::Ready => {}
                        Given::Parked => return self.parked_until(deadline),
                    }
                }
                Drive::Closed => {
                    connection.close();
                    self.closed.push(connection.token());
                    return;
                }
            }
        }
    }

    /// Lets others have their turn first, if there are any. Says whether the connection is out of this worker's
    /// hands.
    fn queue_again(&self, connection: &Connection) -> bool {
        match self.queue.upgrade() {
            Some(queue) if !queue.is_empty() => queue.send(connection.clone()).is_ok(),
            _ => false,
        }
    }

    fn parked_until(&self, deadline: Option<Instant>) {
        if self.deadlines.parked(deadline)
            && let Err(error) = self.poller.wake()
        {
            log::error!("the poller could not be woken: {error}");
        }
    }
}
