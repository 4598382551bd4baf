//! Whole programs: the server with its flags, and the clients curl and OpenSSL, where they are installed.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use gearshift::Backend;
use rustix::process::Signal;
use test_support::program::{self, Program};
use test_support::{PATIENCE, wait_until};

use super::peer::{self, VERSIONS, connect, shake_hands};
use super::pki::{Authority, Certified};
use super::server::Fixture;

/// A folder that is removed at the end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(backend: Backend, name: &str) -> Folder {
        let path =
            std::env::temp_dir().join(format!("gearshift-tls-{name}-{backend}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("the folder can be written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program with this standard input, which ends when the program has ended if it `stays_open`. `None` if it is
/// not installed.
pub(crate) fn run(
    program: &str,
    args: &[&str],
    input: &str,
    stays_open: bool,
) -> Option<(bool, String, String)> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("{program} is not installed, so nothing is tested");
            return None;
        }
        Err(error) => panic!("{program} does not start: {error}"),
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writing = thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
        stays_open.then_some(stdin)
    });
    let output = child.wait_with_output().expect("it ends");
    drop(writing);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Some((output.status.success(), out, err))
}

pub(crate) fn curl(backend: Backend) {
    let folder = Folder::new(backend, "curl");
    let fixture = Fixture::start(backend);
    let authority = folder.write("authority", &fixture.authority.pem).display().to_string();
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", fixture.server.addr().port());
    let (root, info, echo) = (url("/"), url("/tls"), url("/echo"));
    let common = ["--silent", "--show-error", "--fail", "--max-time", "20", "--cacert", &authority];
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let args = [&common[..], version, &[root.as_str(), info.as_str()]].concat();
        let Some((is_success, out, err)) = run("curl", &args, "", false) else { return };
        assert!(is_success && out.starts_with("helloTLSv1."), "{out} {err}");
    }
    let body = "x".repeat(1 << 20);
    let args = [&common[..], &["--data-binary", "@-", echo.as_str()]].concat();
    let (is_success, out, err) = run("curl", &args, &body, false).expect("it is installed");
    assert!(is_success && out == body, "{err}");
}

pub(crate) fn openssl(backend: Backend) {
    let folder = Folder::new(backend, "openssl");
    let fixture = Fixture::start(backend);
    let authority = folder.write("authority", &fixture.authority.pem).display().to_string();
    let address = fixture.server.addr().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let args = [
            "s_client",
            "-connect",
            &address,
            "-servername",
            "localhost",
            "-CAfile",
            &authority,
            "-verify_return_error",
            "-verify_hostname",
            "localhost",
            "-quiet",
            "-no_ign_eof",
            version,
        ];
        let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let Some((_, out, err)) = run("openssl", &args, request, true) else { return };
        assert!(out.starts_with("HTTP/1.1 200") && out.ends_with("hello"), "{version}: {out} {err}");
        assert!(!err.contains("unexpected eof"), "{version}: {err}");
    }
    // A version that is not safe.
    let args = ["s_client", "-connect", &address, "-tls1_1"];
    let (is_success, ..) = run("openssl", &args, "", false).expect("it is installed");
    assert!(!is_success);
}

pub(crate) fn hangup(backend: Backend) {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new(backend, "hangup");
    let write = |authority: &Authority| {
        let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
        [folder.write("cert", &pem), folder.write("key", &key_pem)].map(|path| path.display().to_string())
    };
    let [certificate, key] = write(&old);
    let program = Program::start(backend, &["--tls-cert", &certificate, "--tls-key", &key]);
    let [trusts_old, trusts_new] = [&old, &new].map(|authority| peer::client(authority, VERSIONS[1], None));
    let mut before = connect(program.addr(), &trusts_old, "localhost");
    assert_eq!(before.get("/").status, 200);

    write(&new);
    program.signal(Signal::HUP);
    wait_until("the certificates are read", || program.log().contains("the certificates were read again"));
    shake_hands(&mut connect(program.addr(), &trusts_new, "localhost")).expect("the new certificate");
    assert_eq!(before.get("/").status, 200, "a connection is dropped");

    fs::write(&key, "nonsense").expect("the folder can be written");
    program.signal(Signal::HUP);
    let line = format!("the certificates stay as they are: {key} holds no private key");
    wait_until("the error is logged", || program.log().contains(&line));
    shake_hands(&mut connect(program.addr(), &trusts_new, "localhost")).expect("the certificate before");
    assert_eq!(before.get("/").status, 200, "a connection is dropped");
}

pub(super) fn notified_hangup(backend: Backend) {
    let folder = Folder::new(backend, "notified");
    let Certified { pem, key_pem, .. } = Authority::new().issue(&["localhost"]);
    let [certificate, key] = [("cert", &pem), ("key", &key_pem)]
        .map(|(name, text)| folder.write(name, text).display().to_string());
    let path = folder.0.join("notify");
    let socket = UnixDatagram::bind(&path).expect("the path is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    let next = || {
        let mut message = [0; 100];
        let len = socket.recv(&mut message).expect("a message");
        String::from_utf8_lossy(&message[..len]).trim_end().to_owned()
    };
    let flags = ["--tls-cert", &certificate, "--tls-key", &key];
    let notify = path.to_str().expect("a path in UTF-8");
    let mut program = Program::start_with_variable(backend, &flags, "NOTIFY_SOCKET", notify);
    assert_eq!(next(), "READY=1");
    for text in [&key_pem, "nonsense"] {
        fs::write(&key, text).expect("the folder can be written");
        program.signal(Signal::HUP);
        let message = next();
        let usec = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&message);
        assert!(usec.parse::<u64>().is_ok_and(|usec| usec > 0), "{message}");
        assert_eq!(next(), "READY=1");
    }
    program.signal(Signal::TERM);
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(program.status(), Some(0), "{}", program.log());
}

pub(super) fn replaced(backend: Backend) {
    let (old, new) = (Authority::new(), Authority::new());
    let folder = Folder::new(backend, "replaced");
    let write = |authority: &Authority| {
        let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
        [folder.write("cert", &pem), folder.write("key", &key_pem)].map(|path| path.display().to_string())
    };
    let [certificate, key] = write(&old);
    let flags = ["--processes", "2", "--tls-cert", &certificate, "--tls-key", &key];
    let mut program = Program::start(backend, &flags);
    wait_until("the processes serve", || program.log().matches(" serves").count() == 2);
    let [trusts_old, trusts_new] = [&old, &new].map(|authority| peer::client(authority, VERSIONS[1], None));
    let mut before = connect(program.addr(), &trusts_old, "localhost");
    assert!(!before.get("/").closes());

    write(&new);
    program.signal(Signal::HUP);
    wait_until("all are replaced", || program.log().contains("the processes are replaced"));
    wait_until("the old ones drain", || program.log().matches("finishing the requests").count() == 2);
    let answer = before.get("/");
    assert!(answer.status == 200 && answer.closes(), "{answer:?}");
    // An old process says that it drains before it closes its socket, so it may still accept a connection and answer.
    wait_until("only the new certificate is shown", || {
        shake_hands(&mut connect(program.addr(), &trusts_new, "localhost")).is_ok()
    });
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(0), "{}", program.log());
}

pub(crate) fn flags(backend: Backend) {
    let authority = Authority::new();
    let folder = Folder::new(backend, "flags");
    let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
    let [certificate, key, other] = [("cert", &pem), ("key", &key_pem), ("ca", &authority.pem)]
        .map(|(name, text)| folder.write(name, text).display().to_string());
    let missing = folder.0.join("missing").display().to_string();
    for (flags, status, why) in [
        (&["--tls-cert", &certificate][..], 2, "each --tls-cert needs a --tls-key, in the same order"),
        (&["--tls-key", &key], 2, "each --tls-cert needs a --tls-key, in the same order"),
        (&["--tls-client-ca", &other], 2, "--tls-client-ca needs --tls-cert and --tls-key"),
        (
            &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-auth", "optional"],
            2,
            "--tls-client-auth needs --tls-client-ca",
        ),
        (&["--tls-client-auth", "maybe"], 2, "not required or optional"),
        (&["--tls-cert", &missing, "--tls-key", &key], 3, &format!("{missing} cannot be read: ")),
        (
            &["--tls-cert", &other, "--tls-key", &key],
            3,
            &format!("the key in {key} does not belong to the certificate in {other}"),
        ),
    ] {
        let (ended, log) = program::run(backend, flags);
        assert_eq!(ended, Some(status), "{flags:?}: {log}");
        assert!(log.starts_with("error: ") && log.contains(why) && log.lines().count() == 1, "{log}");
    }

    let program =
        Program::start(backend, &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &other]);
    let own = authority.issue(&["client"]);
    for (certified, is_served) in [(Some(&own), true), (None, false)] {
        let client = peer::client(&authority, VERSIONS[1], certified);
        let mut peer = connect(program.addr(), &client, "localhost");
        peer.send_get("/");
        assert_eq!(peer.try_answer(false).is_ok(), is_served);
    }
}
