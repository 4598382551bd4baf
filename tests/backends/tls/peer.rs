//! The TLS client of the tests: rustls over a blocking socket.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use gearshift::rustls::SignatureScheme::ECDSA_NISTP256_SHA256;
use gearshift::rustls::crypto::CryptoProvider;
use gearshift::rustls::crypto::aws_lc_rs::default_provider;
use gearshift::rustls::pki_types::ServerName;
use gearshift::rustls::version::{TLS12, TLS13};
use gearshift::rustls::{
    self, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use test_support::PATIENCE;
use test_support::client::Client;

use super::pki::{Authority, Certified};

pub(crate) type Socket = StreamOwned<ClientConnection, TcpStream>;
pub(crate) type Peer = Client<Socket>;

/// The versions that the server speaks.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The settings of a client that trusts the authority.
pub(crate) fn client(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    certified: Option<&Certified>,
) -> Arc<ClientConfig> {
    client_with(default_provider(), authority, version, certified)
}

/// The settings of a client that can verify no signatures but those of ECDSA.
pub(crate) fn client_of_ecdsa(
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut provider = default_provider();
    let algorithms = &mut provider.signature_verification_algorithms;
    let of_ecdsa = algorithms.mapping.iter().find(|(scheme, _)| *scheme == ECDSA_NISTP256_SHA256);
    let of_ecdsa = of_ecdsa.expect("the provider knows it");
    (algorithms.mapping, algorithms.all) = (std::slice::from_ref(of_ecdsa), of_ecdsa.1);
    client_with(provider, authority, version, None)
}

fn client_with(
    provider: CryptoProvider,
    authority: &Authority,
    version: &'static SupportedProtocolVersion,
    certified: Option<&Certified>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a version of the provider")
        .with_root_certificates(roots);
    let mut config = match certified {
        None => builder.with_no_client_auth(),
        Some(own) => builder
            .with_client_auth_cert(vec![own.der.clone()], own.key.clone_key())
            .expect("a key for the certificate"),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Opens a socket whose operations have a deadline.
pub(crate) fn socket(to: SocketAddr) -> TcpStream {
    Client::connect(to).socket
}

/// Begins a session with the server that is called `name`. The handshake happens with the first read or write.
pub(crate) fn connect(to: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Peer {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(config.clone(), name).expect("valid settings");
    Client::new(StreamOwned::new(session, socket(to)))
}

/// Does the handshake.
pub(crate) fn shake_hands(peer: &mut Peer) -> std::io::Result<()> {
    let StreamOwned { conn, sock } = &mut peer.socket;
    while conn.is_handshaking() {
        conn.complete_io(sock)?;
    }
    Ok(())
}

/// Returns the first message of a handshake.
pub(crate) fn hello(config: &Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut session = ClientConnection::new(config.clone(), name).expect("valid settings");
    let mut bytes = Vec::new();
    session.write_tls(&mut bytes).expect("memory takes all");
    bytes
}

/// Reads to the end of the session. Returns the bytes, and whether `close_notify` came before the end.
pub(crate) fn read_to_end(peer: &mut Peer) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = peer.socket.read_to_end(&mut bytes);
    let has_notify = match end {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
        Err(error) => panic!("neither end: {error}, after {} bytes", bytes.len()),
    };
    (bytes, has_notify)
}

/// Reads from the socket until it ends, which it has to do within the deadline.
pub(crate) fn raw_rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match socket.read_to_end(&mut bytes) {
        Err(error)
            if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
        {
            panic!("the connection does not end")
        }
        _ => bytes,
    }
}

/// Ends the sending side with `close_notify`.
pub(crate) fn close_notify(peer: &mut Peer) {
    peer.socket.conn.send_close_notify();
    peer.socket.flush().expect("the server reads");
}

/// The time for which a test waits for something that does not come otherwise.
pub(crate) const NEVER: std::time::Duration = PATIENCE.saturating_mul(10);

/// The error of rustls inside an error of a socket.
pub(crate) fn alert(error: &io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}
