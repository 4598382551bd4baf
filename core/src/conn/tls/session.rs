//! A TLS session without I/O: ciphertext in and out, plaintext in and out.
//!
//! rustls decrypts records in the buffer in which they arrived, and encrypts into the queue from which they leave. The
//! session has no buffer of its own, so an idle one holds only its keys.

use std::io;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{ProtocolVersion, ServerConfig};

use crate::conn::tls::info::TlsInfo;
use crate::proto::error::Error;
use crate::proto::read_buffer::ReadBuffer;
use crate::proto::write_queue::WriteQueue;
use crate::runtime::tls_config::take_server_name;

/// The largest number of plaintext bytes that are encrypted at once. A slow peer holds that much memory.
pub(super) const MAX_SEALED: usize = 64 * 1024;
/// The largest number of plaintext bytes in one record (RFC 8446, 5.1).
const RECORD: usize = 16 * 1024;
/// The largest number of bytes by which a record is longer than its plaintext, rounded up: header, nonce, type and tag.
const OVERHEAD: usize = 64;
/// The largest number of received bytes that form no complete message. rustls refuses messages of more than 64 KiB.
const MAX_INCOMPLETE: usize = 96 * 1024;

/// See the [module](self).
pub(super) struct Session {
    session: UnbufferedServerConnection,
    /// Received bytes that form no complete record.
    pub(super) incoming: ReadBuffer,
    /// Plaintext that was decrypted when nobody read.
    pub(super) early: ReadBuffer,
    /// Encrypted bytes to send.
    pub(super) outgoing: WriteQueue,
    phase: Phase,
    /// The name that the peer has asked for, until the end of the handshake.
    server_name: Option<Box<str>>,
    /// Whether `close_notify` was received: all bytes of the peer have arrived.
    has_received_end: bool,
    /// Whether `close_notify` was queued.
    has_sent_end: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No byte has arrived.
    New,
    /// The handshake has begun. Its end may not have been reported.
    Handshake,
    /// Application data is exchanged.
    Open,
    /// The peer speaks plain HTTP.
    Plain,
    /// The session has failed, and the alert is queued.
    Failed,
}

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Session {
        let session = UnbufferedServerConnection::new(config);
        Session {
            // The only error is a size of fragments that is not valid, which the settings do not have.
            session: session.expect("the settings were checked"),
            incoming: ReadBuffer::new(),
            early: ReadBuffer::new(),
            outgoing: WriteQueue::new(),
            phase: Phase::New,
            server_name: None,
            has_received_end: false,
            has_sent_end: false,
        }
    }

    /// Whether the handshake has not ended.
    #[inline]
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.phase, Phase::New | Phase::Handshake)
    }

    /// Whether the peer speaks plain HTTP.
    pub(super) fn is_plain(&self) -> bool {
        self.phase == Phase::Plain
    }

    /// Whether no received byte has a meaning any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Plain | Phase::Failed)
    }

    /// Whether the peer has ended its sending side by `close_notify`.
    pub(super) fn has_received_end(&self) -> bool {
        self.has_received_end
    }

    /// Decrypts the records in `incoming` and appends their plaintext to `into`. Returns the number of bytes. Messages
    /// of the handshake and alerts that result are queued in `outgoing`.
    ///
    /// # Errors
    /// `InvalidData` if the peer has violated the protocol; [`Error::PlainOnTls`] is inside if it speaks plain HTTP.
    pub(super) fn decrypt(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        let mut received = self.early.len();
        if received > 0 {
            into.extend(self.early.as_slice());
            self.early.discard(received);
            self.early.release();
        }
        if self.incoming.is_empty() {
            return Ok(received);
        }
        if self.phase == Phase::New {
            // Each record of TLS begins with its type, which is no letter.
            if self.incoming.as_slice()[0].is_ascii_uppercase() {
                self.phase = Phase::Plain;
                self.ignore_incoming();
                return Err(io::Error::new(io::ErrorKind::InvalidData, Error::PlainOnTls));
            }
            self.phase = Phase::Handshake;
        }
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.session.process_tls_records(self.incoming.as_mut_slice());
            let mut is_blocked = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let Ok(record) = record else { break };
                        discard += record.discard;
                        received += record.payload.len();
                        into.extend(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encode(&mut self.outgoing, &mut message);
                }
                Ok(ConnectionState::TransmitTlsData(queued)) => queued.done(),
                Ok(ConnectionState::PeerClosed) => self.has_received_end = true,
                // The configuration allows no early data.
                Ok(_) => is_blocked = true,
                Err(error) => {
                    self.incoming.discard(discard);
                    return Err(self.fail(error));
                }
            }
            self.incoming.discard(discard);
            if is_blocked {
                break;
            }
        }
        if self.phase == Phase::Handshake {
            self.server_name = take_server_name().or(self.server_name.take());
        }
        if self.has_received_end {
            self.ignore_incoming();
        } else if self.incoming.len() > MAX_INCOMPLETE {
            return Err(self.fail(rustls::Error::PeerSentOversizedRecord));
        }
        Ok(received)
    }

    /// Ends the session after `error`, and queues the alert for it.
    fn fail(&mut self, error: rustls::Error) -> io::Error {
        self.phase = Phase::Failed;
        // Beyond what is queued, a session that has failed must not go on.
        while self.session.wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut message)) =
                self.session.process_tls_records(self.incoming.as_mut_slice()).state
        {
            encode(&mut self.outgoing, &mut message);
        }
        self.ignore_incoming();
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// Drops the received bytes.
    pub(super) fn ignore_incoming(&mut self) {
        self.incoming.discard(self.incoming.len());
    }

    /// Returns the properties of the session if its handshake has just ended.
    pub(super) fn established(&mut self) -> Option<TlsInfo> {
        if self.phase != Phase::Handshake || self.session.is_handshaking() {
            return None;
        }
        self.phase = Phase::Open;
        Some(TlsInfo {
            version: match self.session.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            server_name: self.server_name.take(),
            alpn: self.session.alpn_protocol().map(Into::into),
            peer_certificates: self.session.peer_certificates().unwrap_or_default().into(),
        })
    }

    /// Encrypts `plaintext`, which is not empty, and queues the records. The session is open.
    ///
    /// # Errors
    /// `BrokenPipe` after `close_notify`, or the keys of the session are used up.
    pub(super) fn encrypt(&mut self, plaintext: &[u8]) -> io::Result<()> {
        if self.has_sent_end {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = plaintext.len() + (plaintext.len() / RECORD + 1) * OVERHEAD;
        self.write(room, |traffic, out| traffic.encrypt(plaintext, out))
    }

    /// Queues `close_notify`, unless the session is not open or has queued it before.
    pub(super) fn queue_end(&mut self) -> io::Result<()> {
        if self.phase != Phase::Open || self.has_sent_end {
            return Ok(());
        }
        self.has_sent_end = true;
        self.write(OVERHEAD, |traffic, out| traffic.queue_close_notify(out))
    }

    /// Calls `act` with `room` bytes at the end of the queue.
    fn write(
        &mut self,
        room: usize,
        mut act: impl FnMut(&mut Writer<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let UnbufferedStatus { discard, state } =
            self.session.process_tls_records(self.incoming.as_mut_slice());
        let is_written = match state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                append(&mut self.outgoing, room, |out| match act(&mut traffic, out) {
                    Err(EncryptError::InsufficientSize(size)) => Err(Some(size.required_size)),
                    written => written.map_err(|_| None),
                })
            }
            // Reading has left nothing else.
            _ => false,
        };
        self.incoming.discard(discard);
        if is_written { Ok(()) } else { Err(io::Error::other("the TLS session cannot send")) }
    }
}

/// The permission to send application data.
type Writer<'c> = WriteTraffic<'c, ServerConnectionData>;

/// Appends a message of the session to the queue.
fn encode(queue: &mut WriteQueue, message: &mut EncodeTlsData<'_, ServerConnectionData>) {
    append(queue, OVERHEAD, |out| match message.encode(out) {
        Err(EncodeError::InsufficientSize(size)) => Err(Some(size.required_size)),
        encoded => encoded.map_err(|_| None),
    });
}

/// Lets `write` append to the queue, with `room` bytes or with the number that it asks for. `write` returns the number
/// of bytes that it has written. Returns whether it succeeded.
fn append(
    queue: &mut WriteQueue,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let tail = queue.tail();
    let start = tail.len();
    loop {
        tail.resize(start + room, 0);
        match write(&mut tail[start..]) {
            Err(Some(required)) if required > room => room = required,
            written => {
                tail.truncate(start + written.unwrap_or(0));
                return written.is_ok();
            }
        }
    }
}
