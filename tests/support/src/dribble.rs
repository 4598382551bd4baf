//! Peers that send a byte at a time, all of them on one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The number of groups that the peers are divided into. Each group sends at another time within [`Plan::pace`], so
/// that the peers do not all send at once.
const PARTS: usize = 50;
/// How many bytes of an answer are kept.
const KEPT: usize = 4096;

/// The behaviour of the peers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The number of peers.
    pub peers: usize,
    /// The bytes that each peer sends as soon as it has connected.
    pub opening: Vec<u8>,
    /// The bytes that it then sends one at a time.
    pub drops: Vec<u8>,
    /// The pause between two bytes of a peer.
    pub pace: Duration,
    /// Whether a peer connects again when its connection has ended.
    pub again: bool,
}

/// How one connection went.
#[derive(Debug)]
pub struct Fate {
    /// The time from connecting to the end of the connection.
    pub lasted: Duration,
    /// The first bytes of what the server sent.
    pub answer: String,
    /// Whether the connection ended in order, and not by a reset.
    pub in_order: bool,
}

/// Peers that are running.
#[derive(Debug)]
pub struct Dribblers {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Fate>>,
}

impl Dribblers {
    /// Connects all peers and starts them.
    ///
    /// # Panics
    /// If the server does not accept a connection.
    pub fn start(to: SocketAddr, plan: Plan) -> Dribblers {
        let peers: Vec<_> = (0..plan.peers).map(|_| Some(Peer::connect(to, &plan.opening))).collect();
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(plan.peers)));
        let crowd = Crowd { to, plan, peers, fates: Vec::new(), open: open.clone() };
        let stopped = stop.clone();
        let thread = thread::spawn(move || crowd.dribble(&stopped));
        Dribblers { stop, open, thread }
    }

    /// The number of connections that have not ended.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Closes the connections that have not ended, and returns the fates of those that have.
    ///
    /// # Panics
    /// If the thread of the peers has panicked.
    pub fn stop(self) -> Vec<Fate> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("the thread of the peers has not panicked")
    }
}

struct Crowd {
    to: SocketAddr,
    plan: Plan,
    /// A peer is `None` once its connection has ended.
    peers: Vec<Option<Peer>>,
    fates: Vec<Fate>,
    open: Arc<AtomicUsize>,
}

struct Peer {
    socket: TcpStream,
    since: Instant,
    sent: usize,
    answer: Vec<u8>,
}

impl Crowd {
    fn dribble(mut self, stopped: &AtomicBool) -> Vec<Fate> {
        let tick = self.plan.pace / PARTS as u32;
        let mut next = Instant::now();
        for part in (0..PARTS).cycle() {
            if stopped.load(Ordering::SeqCst) {
                break;
            }
            for peer in self.peers.iter_mut().skip(part).step_by(PARTS).flatten() {
                peer.drip(&self.plan.drops);
            }
            next += tick;
            self.listen_until(next);
        }
        self.fates
    }

    /// Reads what the server sends until the given time, and once at least.
    fn listen_until(&mut self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (indices, mut watched): (Vec<_>, Vec<_>) = self
                .peers
                .iter()
                .enumerate()
                .filter_map(|(n, peer)| Some((n, PollFd::new(&peer.as_ref()?.socket, PollFlags::IN))))
                .unzip();
            if indices.is_empty() {
                thread::sleep(left);
                return;
            }
            let timeout = Timespec::try_from(left).expect("it is less than a pace");
            poll(&mut watched, Some(&timeout)).expect("sockets can be watched");
            let readable: Vec<_> = watched
                .iter()
                .zip(&indices)
                .filter(|(fd, _)| !fd.revents().is_empty())
                .map(|(_, n)| *n)
                .collect();
            for n in readable {
                self.listen(n);
            }
            if left.is_zero() {
                return;
            }
        }
    }

    fn listen(&mut self, n: usize) {
        let Some(peer) = &mut self.peers[n] else { return };
        let Some(in_order) = peer.listen() else { return };
        if let Some(peer) = self.peers[n].take() {
            let answer = String::from_utf8_lossy(&peer.answer).into_owned();
            self.fates.push(Fate { lasted: peer.since.elapsed(), answer, in_order });
        }
        match self.plan.again {
            true => self.peers[n] = Some(Peer::connect(self.to, &self.plan.opening)),
            false => _ = self.open.fetch_sub(1, Ordering::SeqCst),
        }
    }
}

impl Peer {
    fn connect(to: SocketAddr, opening: &[u8]) -> Peer {
        let since = Instant::now();
        let mut socket = TcpStream::connect(to).expect("the server listens");
        socket.set_nodelay(true).expect("a TCP socket has TCP_NODELAY");
        socket.write_all(opening).expect("the server reads");
        socket.set_nonblocking(true).expect("a socket can be nonblocking");
        Peer { socket, since, sent: 0, answer: Vec::new() }
    }

    /// Sends the next byte, if there is one. An error of the connection is noticed by the next read.
    fn drip(&mut self, drops: &[u8]) {
        if let Some(drop) = drops.get(self.sent..self.sent + 1)
            && self.socket.write(drop).is_ok()
        {
            self.sent += 1;
        }
    }

    /// Reads what has been received. At the end of the connection, returns whether it ended in order.
    fn listen(&mut self) -> Option<bool> {
        let mut room = [0; KEPT];
        loop {
            match self.socket.read(&mut room) {
                Ok(0) => return Some(true),
                Ok(n) if self.answer.len() < KEPT => self.answer.extend_from_slice(&room[..n]),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => return Some(false),
            }
        }
    }
}
