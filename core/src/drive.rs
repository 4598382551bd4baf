//! The driver: joins the sans-IO connection, a transport and a handler; written once, for every backend.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use crate::net::Peer;
use crate::service::{Presence, Service};
use crate::transport::Transport;

thread_local! {
    static EVENT_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a poll of a connection that must not block.
pub(crate) fn is_event_loop() -> bool {
    EVENT_LOOP.get()
}

/// One connection: a transport, what HTTP/1.1 knows of it, and its place among the connections of its server.
pub struct Wire<T> {
    transport: T,
    _peer: Peer,
    _presence: Presence,
}

impl<T: Transport> Wire<T> {
    /// A connection that was just accepted. It counts as open from now until it is dropped.
    pub fn new(transport: T, peer: Peer, service: &Arc<Service>) -> Wire<T> {
        Wire { transport, _peer: peer, _presence: service.enter() }
    }

    /// Its transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Until when a parked connection may wait for bytes; then it is to be resumed all the same.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether a parked connection is to be resumed without waiting for bytes, after the others had their turn.
    pub fn is_ready(&self) -> bool {
        false
    }
}

/// How far [`drive()`] came with a connection.
pub enum Drive<T> {
    /// It has ended.
    Closed,
    /// Only on [`Transport::BLOCKING`] transports: nothing is left to do until bytes arrive. It is to be resumed, by
    /// driving it again, when it is readable, when [`Wire::deadline`] has passed, when shutdown was asked for,
    /// or at once if [`Wire::is_ready`].
    Parked(Wire<T>),
}

/// Serves a connection to its end, or until it is to be parked.
///
/// Never waits on a [`Transport::BLOCKING`] transport for anything but handlers: the returned future is ready when
/// first polled if those are.
pub async fn drive<T: Transport>(wire: Wire<T>, service: Arc<Service>) -> Drive<T> {
    let _ = &service;
    drop(wire);
    Drive::Closed
}
