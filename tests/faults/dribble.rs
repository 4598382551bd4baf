//! Peers that send a byte at a time: one thread has them all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// In how many parts of [`Plan::pace`] the peers have their turn, so that they do not all send at once.
const PARTS: usize = 50;
/// Bytes of an answer that are kept.
const KEPT: usize = 4096;

/// What the peers do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How many there are.
    pub(crate) peers: usize,
    /// What each sends at once.
    pub(crate) opening: Vec<u8>,
    /// What it then sends byte by byte.
    pub(crate) drops: Vec<u8>,
    /// How long it pauses between two bytes.
    pub(crate) pace: Duration,
    /// Whether one whose connection has ended begins again.
    pub(crate) again: bool,
}

/// What became of one connection.
#[derive(Debug)]
pub(crate) struct Fate {
    /// From its first byte to its end.
    pub(crate) lasted: Duration,
    /// What it was told.
    pub(crate) answer: String,
    /// Whether it ended in order.
    pub(crate) in_order: bool,
}

/// Peers at work.
pub(crate) struct Dribblers {
    stop: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Fate>>,
}

impl Dribblers {
    /// Connects all of them and has them begin.
    pub(crate) fn start(to: SocketAddr, plan: Plan) -> Dribblers {
        let peers: Vec<_> = (0..plan.peers).map(|_| Some(Peer::connect(to, &plan.opening))).collect();
        let (stop, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(plan.peers)));
        let crowd = Crowd { to, plan, peers, fates: Vec::new(), open: open.clone() };
        let stopped = stop.clone();
        let thread = thread::spawn(move || crowd.dribble(&stopped));
        Dribblers { stop, open, thread }
    }

    /// How many connections have not ended.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Has those leave that are still there, and tells what became of the others.
    pub(crate) fn stop(self) -> Vec<Fate> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("they dribbled")
    }
}

struct Crowd {
    to: SocketAddr,
    plan: Plan,
    /// `None`: its connection has ended.
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

    /// Takes what the peers are told, at least once and until then.
    fn listen_until(&mut self, until: Instant) {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (who, mut watched): (Vec<_>, Vec<_>) = self
                .peers
                .iter()
                .enumerate()
                .filter_map(|(n, peer)| Some((n, PollFd::new(&peer.as_ref()?.socket, PollFlags::IN))))
                .unzip();
            if who.is_empty() {
                thread::sleep(left);
                return;
            }
            let timeout = Timespec::try_from(left).expect("less than a pace");
            poll(&mut watched, Some(&timeout)).expect("sockets can be watched");
            let news: Vec<_> = watched
                .iter()
                .zip(&who)
                .filter(|(fd, _)| !fd.revents().is_empty())
                .map(|(_, n)| *n)
                .collect();
            for n in news {
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
        socket.set_nodelay(true).expect("TCP can do without delay");
        socket.write_all(opening).expect("the server reads");
        socket.set_nonblocking(true).expect("a socket");
        Peer { socket, since, sent: 0, answer: Vec::new() }
    }

    /// Sends the next byte, if there is one; what is wrong if that fails, reading tells.
    fn drip(&mut self, drops: &[u8]) {
        if let Some(drop) = drops.get(self.sent..self.sent + 1)
            && self.socket.write(drop).is_ok()
        {
            self.sent += 1;
        }
    }

    /// Reads what there is; at the end of the connection says whether it was in order.
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
