//! A PostgreSQL server for the tests. Its data is in a temporary directory, and it listens on a Unix socket there and
//! on a port of 127.0.0.1. It uses the programs of Debian's package `postgresql`, not the server that the package runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

/// A server. Dropping it stops the server.
pub(crate) struct Cluster {
    programs: PathBuf,
    /// The user that the server runs as, if the tests run as root: the server refuses to.
    user: Option<u32>,
    directory: TempDir,
    port: u16,
    databases: AtomicUsize,
    /// `None` while it is stopped.
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// Creates and starts a server. Returns what is missing on this machine, if anything is.
    pub(crate) fn start() -> Result<Cluster, &'static str> {
        let programs =
            newest(Path::new("/usr/lib/postgresql")).ok_or("there is no /usr/lib/postgresql/*/bin/initdb")?;
        let user = match id(&["-u"]) {
            Some(0) => Some(
                id(&["-u", "postgres"])
                    .ok_or("there is no user postgres, and the server refuses to run as root")?,
            ),
            _ => None,
        };
        let directory = TempDir::new().expect("a directory for temporary files");
        chown(directory.path(), user, None).expect("root may do that");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let (databases, server) = (AtomicUsize::new(0), Mutex::new(None));
        let cluster = Cluster { programs, user, directory, port, databases, server };
        let initdb = cluster
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(cluster.directory.path().join("data"))
            .output()
            .expect("initdb starts");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        cluster.up();
        Ok(cluster)
    }

    /// Starts the server, and waits until it accepts connections.
    pub(crate) fn up(&self) {
        let socket = format!("-cunix_socket_directories={}", self.directory.path().display());
        let mut server = self
            .command("postgres")
            .args(["-cfsync=off", "-clisten_addresses=127.0.0.1", "-clc_messages=C", &socket])
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(self.directory.path().join("data"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("postgres starts");
        let mut log = BufReader::new(server.stderr.take().expect("it is piped"));
        let mut line = String::new();
        while !line.contains("ready to accept connections") {
            line.clear();
            assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "postgres comes up");
        }
        // The server must not block on a full pipe, and must not write to a closed one.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        *self.server.lock().expect("no test panics with it") = Some(server);
    }

    /// Stops the server, which closes every connection to it.
    pub(crate) fn down(&self) {
        if let Some(mut server) = self.server.lock().expect("no test panics with it").take() {
            signal("-INT", server.id());
            server.wait().expect("it was started");
        }
    }

    /// Creates an empty database and returns its URL, which alternates between TCP and the Unix socket.
    pub(crate) fn database(&self) -> String {
        let n = self.databases.fetch_add(1, Ordering::Relaxed);
        self.run(&self.url("postgres"), &format!("CREATE DATABASE test{n} TEMPLATE template0"));
        match n % 2 {
            0 => self.url(&format!("test{n}")),
            _ => {
                let directory = self.directory.path().to_string_lossy().replace('/', "%2F");
                format!("postgres://test@{directory}:{}/test{n}", self.port)
            }
        }
    }

    /// Runs `sql` and returns its rows, one per line.
    pub(crate) fn run(&self, url: &str, sql: &str) -> String {
        let output = self.psql(url).args(["-c", sql]).output().expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    }

    /// Returns a `psql` that runs what it reads from its standard input.
    pub(crate) fn psql(&self, url: &str) -> Command {
        let mut command = self.command("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url]);
        command
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://test@127.0.0.1:{}/{database}", self.port)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.directory.path()).env("LC_ALL", "C");
        self.user.map(|user| command.uid(user));
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.down();
    }
}

/// Returns the directory with the programs of the newest version that is installed.
fn newest(versions: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(versions).ok()?.filter_map(Result::ok);
    let number = |path: &PathBuf| path.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max_by_key(number)
}

fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Sends `signal`, written as an option of `kill`, to a process.
pub(crate) fn signal(signal: &str, process: u32) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(sent.expect("there is a kill command").success());
}
