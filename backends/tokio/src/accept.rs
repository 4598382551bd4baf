//! Accepting: a task for each listener, which makes a task of each connection.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use futures_lite::future;
use gearshift_core::{AcceptPause, Endpoint, Listener, Peer, Phase, Service, drive};
use tokio::net::{TcpListener, UnixListener};

use crate::socket::TokioSocket;
use crate::transport::TokioTransport;

/// A listener on the reactor of the runtime it was made in.
pub(crate) struct Acceptor {
    listener: Listener,
    queue: Queue,
    service: Arc<Service>,
}

impl Acceptor {
    /// Registers the listener with the current runtime.
    pub(crate) fn new(listener: Listener, service: Arc<Service>) -> io::Result<Acceptor> {
        Ok(Acceptor { queue: Queue::of(&listener)?, listener, service })
    }

    /// Accepts until shutdown is asked for, then takes what had been queued by then, so that nobody who was let
    /// in is turned away, and closes the listener.
    pub(crate) async fn run(self) {
        future::or(self.service.shutdown().reached(Phase::Graceful), self.accept_until_stopped()).await;
        let mut pause = AcceptPause::new();
        while self.service.shutdown().phase() == Phase::Graceful {
            // Asked of the kernel itself: the reactor may not have heard of the newest ones.
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    pause.accepted();
                    self.serve(TokioSocket::accepted(socket, peer), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => match pause.failed(&error, &self.listener, &self.service) {
                    // What is open gives its descriptors back as it closes.
                    Some(_) if self.service.connections() == 0 => return,
                    Some(duration) => tokio::time::sleep(duration).await,
                    None => {}
                },
            }
            tokio::task::yield_now().await;
        }
    }

    async fn accept_until_stopped(&self) {
        let most = self.service.max_connections();
        let mut pause = AcceptPause::new();
        loop {
            if !self.service.has_room() {
                self.service.connections_until(|open| open < most).await;
            }
            match self.queue.accept().await {
                Ok((socket, peer)) => {
                    pause.accepted();
                    self.serve(Ok(socket), peer);
                }
                Err(error) => {
                    if let Some(duration) = pause.failed(&error, &self.listener, &self.service) {
                        tokio::time::sleep(duration).await;
                    }
                }
            }
        }
    }

    /// Starts the task of a connection.
    fn serve(&self, socket: io::Result<TokioSocket>, peer: Peer) {
        match socket {
            Ok(socket) => {
                tokio::spawn(drive(TokioTransport::new(socket), peer, &self.service));
            }
            Err(error) => log::warn!("a connection was refused by the reactor: {error}"),
        }
    }
}

/// The listener's queue as tokio knows it. Shares the socket with the [`Listener`], which owns what goes with it.
enum Queue {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Queue {
    fn of(listener: &Listener) -> io::Result<Queue> {
        let socket = listener.as_fd().try_clone_to_owned()?;
        match listener.local() {
            Endpoint::Tcp(_) => TcpListener::from_std(socket.into()).map(Queue::Tcp),
            Endpoint::Unix(_) => UnixListener::from_std(socket.into()).map(Queue::Unix),
        }
    }

    /// Takes the next connection, with one system call. Tokio has the task yield after many.
    async fn accept(&self) -> io::Result<(TokioSocket, Peer)> {
        match self {
            Queue::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TokioSocket::Tcp(stream), Some(peer)))
            }
            Queue::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((TokioSocket::Unix(stream), None))
            }
        }
    }
}
