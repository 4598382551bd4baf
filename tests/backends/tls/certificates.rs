//! The certificates of a server and of its clients, and the sessions that are resumed with them.

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;

use gearshift::rustls::client::{Resumption, Tls12Resumption};
use gearshift::rustls::{self, ClientConfig, HandshakeKind};
use gearshift::{Backend, TlsConfig};
use test_support::backend::few_workers;
use test_support::server::Running;

use super::peer::{self, Peer, VERSIONS, alert, connect, shake_hands};
use super::pki::{Authority, Certified};
use super::programs::Folder;
use super::server::{Fixture, localhost, serve};

/// The certificate that a server shows for a name.
fn shown(server: &Running, client: &Arc<ClientConfig>, name: &str) -> Vec<u8> {
    let mut peer = connect(server.addr(), client, name);
    assert_eq!(peer.get("/").status, 200);
    peer.socket.conn.peer_certificates().expect("the server has one")[0].to_vec()
}

pub(super) fn names(backend: Backend) {
    let authority = Authority::new();
    let first = authority.issue(&["localhost", "127.0.0.1"]);
    let second = authority.issue(&["a.test", "b.test"]);
    let third = authority.issue(&["*.a.test"]);
    let tls = TlsConfig::from_pem(&first.pem, &first.key_pem)
        .and_then(|tls| tls.with_certificate(&second.pem, &second.key_pem))
        .and_then(|tls| tls.with_certificate(&third.pem, &third.key_pem))
        .expect("valid certificates");
    let server = serve(backend, few_workers(backend), tls);
    let client = peer::client(&authority, VERSIONS[1], None);
    for (name, expected) in [
        ("localhost", &first),
        ("127.0.0.1", &first),
        ("a.test", &second),
        ("B.test", &second),
        ("www.a.test", &third),
    ] {
        assert!(shown(&server, &client, name) == expected.der.to_vec(), "{name}");
    }
    // An unknown name gets the first certificate, which the client refuses.
    let error = shake_hands(&mut connect(server.addr(), &client, "c.test")).expect_err("another name");
    assert!(error.to_string().contains("localhost"), "{error}");
}

/// The first certificate that the peer can verify is the one it gets.
pub(super) fn keys(backend: Backend) {
    let authority = Authority::new();
    let first = authority.issue_with(&rcgen::PKCS_ED25519, &["localhost"]);
    let second = authority.issue(&["localhost"]);
    let tls = TlsConfig::from_pem(&first.pem, &first.key_pem)
        .and_then(|tls| tls.with_certificate(&second.pem, &second.key_pem))
        .expect("valid certificates");
    let server = serve(backend, few_workers(backend), tls);
    for version in VERSIONS {
        let client = peer::client(&authority, version, None);
        assert!(shown(&server, &client, "localhost") == first.der.to_vec(), "{version:?}");
        let client = peer::client_of_ecdsa(&authority, version);
        assert!(shown(&server, &client, "localhost") == second.der.to_vec(), "{version:?}");
    }
}

pub(super) fn reloads(backend: Backend) {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new(backend, "reload");
    let write = |authority: &Authority| {
        let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
        (folder.write("cert", &pem), folder.write("key", &key_pem))
    };
    let (certificate, key) = write(&old);
    let tls = TlsConfig::from_pem_files(&certificate, &key).expect("valid files");
    let server = serve(backend, few_workers(backend), tls.clone());
    let [trusts_old, trusts_new] = [&old, &new].map(|authority| peer::client(authority, VERSIONS[1], None));
    let is_trusted = |client| shake_hands(&mut connect(server.addr(), client, "localhost")).is_ok();
    let mut before = connect(server.addr(), &trusts_old, "localhost");
    assert_eq!(before.get("/").status, 200);
    assert!(!is_trusted(&trusts_new));

    write(&new);
    assert!(is_trusted(&trusts_old), "nothing changes before the reload");
    tls.reload().expect("valid files");
    assert!(is_trusted(&trusts_new));
    let mut again = connect(server.addr(), &trusts_old, "localhost");
    assert!(shake_hands(&mut again).is_err(), "the old session was resumed");
    assert_eq!(before.get("/").status, 200, "a connection keeps its session");

    for (file, text) in [(&certificate, "nonsense"), (&certificate, old.pem.as_str()), (&key, "")] {
        let good = fs::read_to_string(file).expect("a file");
        fs::write(file, text).expect("the folder can be written");
        let error = tls.reload().expect_err("an invalid file").to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert!(is_trusted(&trusts_new), "the files before stay in use");
        fs::write(file, good).expect("the folder can be written");
    }
    fs::remove_file(&key).expect("the file exists");
    let error = tls.reload().expect_err("a missing file").to_string();
    assert!(error.starts_with(&format!("{} cannot be read: ", key.display())), "{error}");
    assert!(is_trusted(&trusts_new));
}

pub(super) fn client_certificates(backend: Backend) {
    let (authority, other) = (Authority::new(), Authority::new());
    let (known, unknown) = (authority.issue(&["client"]), other.issue(&["client"]));
    for required in [true, false] {
        let tls = localhost(&authority).with_client_auth(&authority.pem, required).expect("an authority");
        let server = serve(backend, few_workers(backend), tls);
        for version in VERSIONS {
            let client = peer::client(&authority, version, Some(&known));
            for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let mut peer = connect(server.addr(), &client, "localhost");
                assert!(peer.get("/tls").text().ends_with(" 1"), "{version:?}");
                assert_eq!(peer.socket.conn.handshake_kind(), Some(kind));
            }

            let client = peer::client(&authority, version, None);
            let mut peer = connect(server.addr(), &client, "localhost");
            let alert_for_none = refused(&mut peer);
            match required {
                true => assert!(alert_for_none.is_some(), "{version:?}"),
                false => assert_eq!(alert_for_none, None, "{version:?}"),
            }

            let client = peer::client(&authority, version, Some(&unknown));
            let mut peer = connect(server.addr(), &client, "localhost");
            assert!(refused(&mut peer).is_some(), "{version:?}");
        }
    }
}

/// The alert with which the server refuses the peer; `None` if it answers `GET /tls` of a peer without certificates.
fn refused(peer: &mut Peer) -> Option<rustls::AlertDescription> {
    let sent = peer.socket.write_all(b"GET /tls HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    match sent.and_then(|()| peer.socket.read_to_end(&mut bytes)) {
        Ok(_) => {
            assert!(bytes.ends_with(b" 0"), "{:?}", String::from_utf8_lossy(&bytes));
            None
        }
        Err(error) => Some(alert(&error).unwrap_or_else(|| panic!("no alert: {error}"))),
    }
}

pub(super) fn resumption(backend: Backend) {
    let fixture = Fixture::start(backend);
    let clients = VERSIONS.map(|version| peer::client(&fixture.authority, version, None));
    // A client of TLS 1.2 without tickets, whose sessions the server keeps.
    let mut without_tickets = ClientConfig::clone(&clients[0]);
    without_tickets.resumption =
        Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    let [first, second] = clients;
    for client in [first, second, Arc::new(without_tickets)] {
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut peer = connect(fixture.server.addr(), &client, "localhost");
            // The name is known also in a session that was resumed.
            assert!(peer.get("/tls").text().contains(" localhost "));
            let version = peer.socket.conn.protocol_version();
            assert_eq!(peer.socket.conn.handshake_kind(), Some(kind), "{version:?}");
        }
    }
}

pub(super) fn from_rustls(backend: Backend) {
    let authority = Authority::new();
    let own = authority.issue(&["localhost"]);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[VERSIONS[1]])
        .expect("a version of the provider")
        .with_no_client_auth()
        .with_single_cert(vec![own.der.clone()], own.key.clone_key())
        .expect("a certificate and its key");
    let tls = TlsConfig::from_rustls(Arc::new(config)).expect("valid settings");
    tls.reload().expect("there is nothing to read");
    let server = serve(backend, few_workers(backend), tls);
    let mut peer = connect(server.addr(), &peer::client(&authority, VERSIONS[1], None), "localhost");
    assert_eq!(peer.get("/tls").text(), "TLSv1.3 localhost  0");
}
