//! Where new connections come in.
//!
//! The poller tells of new connections once, when they come, and not again while they wait. So a listener is known
//! to have some waiting until accepting says otherwise, whatever came in between: a pause, or too many connections.
//!
//! Whoever is in the kernel's queue when the door begins to close is still let in, also beyond the number of
//! connections that may be open, as closing a listener would reset them: for the time of a stop there are more by what
//! the queue holds, `backlog` for each listener at most.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use gearshift_core::net::AcceptPause;
use gearshift_core::{Listener, Peer, Service};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::Socket;

/// The listeners of one server.
#[derive(Debug)]
pub struct Door {
    gates: Vec<Gate>,
    /// The gate that has the next turn.
    turn: usize,
    pause: AcceptPause,
    paused_until: Option<Instant>,
    /// How many more may come in, once the door is closing.
    last: Option<usize>,
}

#[derive(Debug)]
struct Gate {
    listener: Listener,
    token: Token,
    /// Whether there may be connections in the kernel's queue.
    waiting: bool,
}

impl Door {
    /// Opens: connections that come to `listeners` are told of under `tokens`.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(
        listeners: Vec<Listener>,
        registry: &Registry,
        tokens: impl Iterator<Item = Token>,
    ) -> io::Result<Door> {
        let mut gates = Vec::with_capacity(listeners.len());
        for (listener, token) in listeners.into_iter().zip(tokens) {
            registry.register(&mut SourceFd(&listener.as_fd().as_raw_fd()), token, Interest::READABLE)?;
            gates.push(Gate { listener, token, waiting: false });
        }
        Ok(Door { gates, turn: 0, pause: AcceptPause::new(), paused_until: None, last: None })
    }

    /// Someone has come to the listener of this token, if it is one.
    pub fn knocked(&mut self, token: Token) -> bool {
        let gate = self.gates.iter_mut().find(|gate| gate.token == token);
        gate.map(|gate| gate.waiting = true).is_some()
    }

    /// Whether anyone may be waiting to be accepted.
    pub fn is_waiting(&self) -> bool {
        self.gates.iter().any(|gate| gate.waiting)
    }

    /// Whether those who wait are let in even where there is no room.
    pub fn is_closing(&self) -> bool {
        self.last.is_some()
    }

    /// Whether nobody comes in any more.
    pub fn is_closed(&self) -> bool {
        self.gates.is_empty()
    }

    /// Until when nobody is accepted, after accepting has failed.
    pub fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Begins to close: [`Door::accept`] lets those in who have come, then who comes later is refused.
    pub fn close(&mut self, service: &Service) {
        // The kernel holds one more than it was told.
        self.last = Some(self.gates.len() * (usize::from(service.config().backlog) + 1));
        self.paused_until = None;
        self.gates.iter_mut().for_each(|gate| gate.waiting = true);
    }

    /// Accepts who waits, at most `most` and, unless the door is closing, no more than there is room for, and gives
    /// them to `admit`. If that fails the connection is lost, and accepting pauses.
    pub fn accept(
        &mut self,
        most: usize,
        service: &Service,
        mut admit: impl FnMut(Socket, Peer) -> io::Result<()>,
    ) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        let mut left = most;
        for _ in 0..self.gates.len() {
            self.turn = (self.turn + 1) % self.gates.len();
            let gate = &mut self.gates[self.turn];
            while gate.waiting && left > 0 && (self.last.is_some() || service.has_room()) {
                if self.last == Some(0) {
                    gate.waiting = false;
                    break;
                }
                match gate.listener.accept().and_then(|(socket, peer)| admit(socket, peer)) {
                    Ok(()) => {
                        self.pause.accepted();
                        left -= 1;
                        self.last = self.last.map(|last| last - 1);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => gate.waiting = false,
                    Err(error) => {
                        if let Some(pause) = self.pause.failed(&error, &gate.listener, service) {
                            self.paused_until = Some(Instant::now() + pause);
                            return;
                        }
                    }
                }
            }
        }
        if self.is_closing() {
            self.gates.retain(|gate| gate.waiting);
        }
    }
}
