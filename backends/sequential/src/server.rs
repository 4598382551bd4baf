//! The loop: one thread waits, accepts, and drives every connection that has news.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gearshift_blocking::{BlockingTransport, Connections, Deadlines, Ground, News, Opened, Poller, Worker};
use gearshift_core::clock::CoarseInstant;
use gearshift_core::{Drive, Peer, Phase, Service, Wire};
use mio::Token;
use socket2::Socket;

/// Connections accepted in one turn, before those that are open have theirs.
const ACCEPTS: usize = 64;
/// What a coarse clock may be off by.
const COARSE: Duration = Duration::from_millis(10);

/// Serves until shutdown has ended the last connection, or is forced. Leaves no request behind.
pub(crate) fn run(opened: Opened) -> io::Result<u64> {
    let Opened { service, ground, mut poller, pulse } = opened;
    let waiting = Arc::new(AtomicUsize::new(0));
    let waits = waiting.clone();
    pulse.started(1, move || waits.load(Ordering::Relaxed));
    let mut open = Open {
        deadlines: Deadlines::new(service.config().shortest_timeout()),
        connections: Connections::new(),
        ready: VecDeque::new(),
        waiting,
        worker: Worker::mark(),
        service,
        ground,
        came: CoarseInstant::now(),
        knocked: CoarseInstant::now(),
        left_at_door: false,
    };
    open.serve(&mut poller)?;
    Ok(0)
}

/// The connections that are open.
struct Open {
    service: Arc<Service>,
    ground: Arc<Ground>,
    connections: Connections<Connection>,
    /// Who is to be driven, in the order of the news.
    ready: VecDeque<Token>,
    /// How many of them, as others may know it.
    waiting: Arc<AtomicUsize>,
    deadlines: Deadlines,
    /// This thread.
    worker: Worker,
    /// When the news of this turn may have come, at the earliest: who waited for long may have left.
    came: CoarseInstant,
    /// The same for who is at the door.
    knocked: CoarseInstant,
    /// Whether the last turn left some there.
    left_at_door: bool,
}

struct Connection {
    /// What is driven; away while it is.
    wire: Option<Wire<BlockingTransport>>,
    /// Whether it is in the queue to be driven.
    ready: bool,
    /// Whether its peer has sent all it will, so that it is driven on to its end.
    ended: bool,
    /// When the news may have come that it is in the queue for.
    since: CoarseInstant,
    /// Whether it has not been woken yet.
    is_new: bool,
}

impl Open {
    fn serve(&mut self, poller: &mut Poller) -> io::Result<()> {
        let mut news = Vec::new();
        let mut last_turn = CoarseInstant::now();
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
            let busy = !self.ready.is_empty();
            let sweep = (!self.connections.is_empty()).then(|| self.deadlines.next_sweep());
            let asked = CoarseInstant::now();
            poller.wait(&self.service, busy, sweep, &mut news)?;
            let turn = CoarseInstant::now();
            // What has come while the last turn's requests ran has waited for them.
            self.came = if turn.since(asked) > COARSE { turn } else { last_turn };
            last_turn = turn;
            if !self.left_at_door {
                self.knocked = self.came;
            }
            news.iter().for_each(|news| self.tell(*news));
            self.accept(poller);
            self.sweep();
            self.work();
        }
    }

    /// Shutdown was asked for: those who have come are let in, and everyone who is idle gets to leave.
    fn close(&mut self, poller: &mut Poller) {
        poller.door.close(&self.service);
        self.accept(poller);
        for (token, connection) in self.connections.iter_mut() {
            connection.wake(token, self.came, &mut self.ready);
        }
    }

    /// A connection has something to be read.
    fn tell(&mut self, news: News) {
        if let Some(connection) = self.connections.get_mut(news.token) {
            connection.ended |= news.ended;
            connection.wake(news.token, self.came, &mut self.ready);
        }
    }

    fn accept(&mut self, poller: &mut Poller) {
        let service = self.service.clone();
        poller.door.accept(ACCEPTS, &service, |socket, peer| self.park(socket, peer));
        self.left_at_door = poller.door.is_waiting();
    }

    /// Takes in a new connection, which is read only once something has arrived, or when shutdown does not let it
    /// wait for that.
    fn park(&mut self, socket: Socket, peer: Peer) -> io::Result<()> {
        let token = self.connections.next_token();
        let transport = BlockingTransport::register(socket, token, &self.ground)?;
        let wire = Wire::new(transport, peer, &self.service);
        self.deadlines.parked(wire.deadline());
        let mut connection =
            Connection { wire: Some(wire), ready: false, ended: false, since: self.knocked, is_new: true };
        if self.service.shutdown().is_requested() {
            connection.wake(token, self.came, &mut self.ready);
        }
        self.connections.insert(connection);
        Ok(())
    }

    /// Has the connections driven whose deadline has passed: they find that out themselves, and say so to their
    /// peers.
    fn sweep(&mut self) {
        let now = Instant::now();
        if !self.deadlines.begin_sweep(now) {
            return;
        }
        let mut earliest = None;
        for (token, connection) in self.connections.iter_mut() {
            match connection.wire.as_ref().and_then(Wire::deadline) {
                Some(deadline) if deadline <= now => connection.wake(token, self.came, &mut self.ready),
                Some(deadline) => earliest = Some(earliest.map_or(deadline, |least| deadline.min(least))),
                None => {}
            }
        }
        self.deadlines.swept(earliest);
    }

    /// Drives everyone who is ready now; who is ready again has to wait for the next turn.
    fn work(&mut self) {
        for _ in 0..self.ready.len() {
            if self.service.shutdown().phase() == Phase::Forced {
                return;
            }
            if let Some(token) = self.ready.pop_front() {
                self.waiting.store(self.ready.len(), Ordering::Relaxed);
                self.drive(token);
            }
        }
    }

    /// Drives one connection until it is idle, or has ended.
    fn drive(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(token) else { return };
        connection.ready = false;
        let Some(mut wire) = connection.wire.take() else { return };
        wire.waited(connection.since.elapsed());
        match self.worker.drive(wire, &self.service) {
            Drive::Parked(wire) => {
                if wire.is_ready() || connection.ended {
                    connection.wake(token, self.came, &mut self.ready);
                } else {
                    self.deadlines.parked(wire.deadline());
                }
                connection.wire = Some(wire);
            }
            Drive::Closed => {
                self.connections.remove(token);
            }
        }
    }
}

impl Connection {
    fn wake(&mut self, token: Token, came: CoarseInstant, queue: &mut VecDeque<Token>) {
        if !self.ready {
            self.ready = true;
            // Who has just come in may have sent its request long before.
            if !std::mem::take(&mut self.is_new) {
                self.since = came;
            }
            queue.push_back(token);
        }
    }
}
