//! The Python servers and the commands that start them.

use gearshift::Backend;

use super::app::{App, Interface};
use crate::subject::Subject;

/// The directory of the applications.
pub(super) const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../python");
/// The same directory in the report, relative to the root of the repository.
const MODULES_IN_REPORT: &str = "benches/python";
/// Number of threads of servers that have threads.
pub const THREADS: usize = 16;

/// A server.
#[derive(Clone, Copy, Debug)]
pub enum Server {
    /// Gearshift on a backend.
    Gearshift(Backend),
    /// granian, one worker.
    Granian,
    /// uvicorn with uvloop and httptools.
    Uvicorn,
    /// hypercorn with uvloop.
    Hypercorn,
    /// gunicorn with its default worker, which handles one request at a time.
    GunicornSync,
    /// gunicorn with a pool of threads.
    GunicornGthread,
    /// waitress.
    Waitress,
}

impl Server {
    /// All servers, in the order of the report: Gearshift on the given backends first.
    pub fn all(backends: &[Backend]) -> Vec<Server> {
        let others = [
            Server::Granian,
            Server::Uvicorn,
            Server::Hypercorn,
            Server::GunicornSync,
            Server::GunicornGthread,
            Server::Waitress,
        ];
        backends.iter().copied().map(Server::Gearshift).chain(others).collect()
    }

    /// The name in the report and on the command line.
    pub fn name(self) -> String {
        match self {
            Server::Gearshift(backend) => format!("gearshift-{}", backend.name()),
            Server::Granian => "granian".into(),
            Server::Uvicorn => "uvicorn".into(),
            Server::Hypercorn => "hypercorn".into(),
            Server::GunicornSync => "gunicorn-sync".into(),
            Server::GunicornGthread => "gunicorn-gthread".into(),
            Server::Waitress => "waitress".into(),
        }
    }

    /// Whether `selection` names this server: by its name, or by the part before the hyphen.
    pub fn is_named(self, selection: &str) -> bool {
        self.name() == selection || self.product() == selection
    }

    /// The name of the product, without its concurrency model.
    pub fn product(self) -> String {
        let name = self.name();
        name.split_once('-').map_or(name.clone(), |(product, _)| product.into())
    }

    /// Whether the server is Gearshift.
    pub fn is_gearshift(self) -> bool {
        matches!(self, Server::Gearshift(_))
    }

    /// Whether the server is measured with applications of this interface. uvicorn and hypercorn serve WSGI too, but
    /// only by an adapter.
    pub fn serves(self, interface: Interface) -> bool {
        match self {
            Server::Gearshift(_) | Server::Granian => true,
            Server::Uvicorn | Server::Hypercorn => interface == Interface::Asgi,
            Server::GunicornSync | Server::GunicornGthread | Server::Waitress => interface == Interface::Wsgi,
        }
    }

    /// The packages that the server needs.
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Server::Gearshift(_) => &["gearshift"],
            Server::Granian => &["granian", "uvloop"],
            Server::Uvicorn => &["uvicorn", "uvloop", "httptools"],
            Server::Hypercorn => &["hypercorn", "uvloop"],
            Server::GunicornSync | Server::GunicornGthread => &["gunicorn"],
            Server::Waitress => &["waitress"],
        }
    }

    /// How many requests can wait at once if the server has `threads` threads. `None`: any number.
    pub fn waits_at_once(self, interface: Interface, threads: usize) -> Option<usize> {
        match (self, interface) {
            (Server::GunicornSync, _) => Some(1),
            (Server::Gearshift(backend), _) if is_sequential(backend) => Some(1),
            (Server::Gearshift(backend), Interface::Asgi) if !backend.threads_block() => None,
            (Server::Gearshift(_), _) | (_, Interface::Wsgi) => Some(threads),
            (_, Interface::Asgi) => None,
        }
    }

    /// One line about the concurrency model.
    pub fn model(self, interface: Interface, threads: usize) -> String {
        match (self, interface) {
            (Server::GunicornSync, _) => "one request at a time, and a connection for each".into(),
            (Server::Gearshift(backend), _) if is_sequential(backend) => "one request at a time".into(),
            (Server::Gearshift(backend), Interface::Asgi) if backend.threads_block() => {
                format!("{threads} threads, each with its own asyncio loop")
            }
            (Server::Gearshift(backend), Interface::Asgi) => {
                format!("connections on {}, coroutines on one asyncio loop", backend.name())
            }
            (Server::Gearshift(backend), Interface::Wsgi) if !backend.threads_block() => {
                format!("connections on {}, requests on {threads} threads", backend.name())
            }
            (Server::Granian, Interface::Asgi) => {
                "connections on tokio, coroutines on one asyncio loop".into()
            }
            (Server::Granian, Interface::Wsgi) => {
                format!("connections on tokio, requests on {threads} threads")
            }
            (_, Interface::Asgi) => "connections and coroutines on one asyncio loop".into(),
            (_, Interface::Wsgi) => format!("{threads} threads"),
        }
    }

    /// The server with an application, as a subject of the comparison.
    pub fn subject(self, app: App, python: &str, threads: usize) -> Subject {
        let model = self.model(app.interface(), threads);
        let words = self.words(python, MODULES, app.interface(), app.module(), threads);
        Subject::from_words(self.name(), model, words)
    }

    /// The command for the report, with `{app}` and `{port}` left in it.
    pub fn describe(self, python: &str, interface: Interface, threads: usize) -> String {
        self.words(python, MODULES_IN_REPORT, interface, "{app}", threads).join(" ")
    }

    fn words(
        self,
        python: &str,
        modules: &str,
        interface: Interface,
        module: &str,
        threads: usize,
    ) -> Vec<String> {
        let path = format!("PYTHONPATH={modules}");
        let app = format!("{module}:app");
        let threads = threads.to_string();
        let threads_flag = format!("--threads={threads}");
        let mut words = vec!["env", &path];
        if matches!(self, Server::Gearshift(backend) if backend.name() == "async-std") {
            // async-std takes the number of its event loops from the environment.
            words.push("ASYNC_STD_THREAD_COUNT=1");
        }
        words.extend([python, "-m"]);
        match self {
            Server::Gearshift(backend) => {
                words.extend(["gearshift", "--backend", backend.name(), "--bind", "127.0.0.1:{port}"]);
                words.extend(["--interface", interface.name(), "--log-level", "warn"]);
                if !is_sequential(backend) && backend.threads_block() {
                    words.extend(["--threads", &threads]);
                } else if !backend.threads_block() && interface == Interface::Wsgi {
                    words.extend(["--blocking-threads", &threads]);
                }
            }
            Server::Granian => {
                words.extend(["granian", "--interface", interface.name(), "--workers", "1", "--http", "1"]);
                words.extend(["--loop", "uvloop", "--host", "127.0.0.1", "--port", "{port}"]);
                words.extend(["--log-level", "warning"]);
                if interface == Interface::Wsgi {
                    words.extend(["--blocking-threads", &threads]);
                }
            }
            Server::Uvicorn => {
                words.extend(["uvicorn", "--loop", "uvloop", "--http", "httptools", "--workers", "1"]);
                words.extend(["--no-access-log", "--log-level", "warning"]);
                words.extend(["--host", "127.0.0.1", "--port", "{port}"]);
            }
            Server::Hypercorn => {
                words.extend([
                    "hypercorn",
                    "--worker-class",
                    "uvloop",
                    "--workers",
                    "1",
                    "--backlog",
                    "2048",
                ]);
                words.extend(["--log-level", "warning", "--bind", "127.0.0.1:{port}"]);
            }
            Server::GunicornSync => {
                words.extend(["gunicorn", "--worker-class", "sync", "--workers", "1"]);
                words.extend(["--log-level", "warning", "--bind", "127.0.0.1:{port}"]);
            }
            Server::GunicornGthread => {
                words.extend(["gunicorn", "--worker-class", "gthread", "--workers", "1", &threads_flag]);
                words.extend(["--log-level", "warning", "--bind", "127.0.0.1:{port}"]);
            }
            // Its default limit of 100 connections is below the highest load.
            Server::Waitress => {
                words.extend(["waitress", &threads_flag, "--connection-limit=1000"]);
                words.push("--listen=127.0.0.1:{port}");
            }
        }
        words.push(&app);
        words.into_iter().map(String::from).collect()
    }
}

/// Whether a backend handles one request at a time.
fn is_sequential(backend: Backend) -> bool {
    backend.name() == "sequential"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::Application;

    fn gearshift(name: &str) -> Server {
        Server::Gearshift(name.parse().expect("compiled in"))
    }

    #[test]
    fn a_server_is_named_by_its_product_too() {
        let all = Server::all(Backend::available());
        let named = |selection: &str| all.iter().filter(|server| server.is_named(selection)).count();
        assert_eq!(named("gearshift"), Backend::available().len());
        assert_eq!(["gunicorn", "gunicorn-sync", "uvicorn", "guni", "async"].map(named), [2, 1, 1, 0, 0]);
    }

    #[test]
    fn the_command_has_the_module_and_the_port() {
        for server in Server::all(Backend::available()) {
            let app = if server.serves(Interface::Wsgi) { App::Flask } else { App::FastApi };
            let subject = server.subject(app, "python3", 3);
            let command = subject.command(Application::Demo, 8123, None);
            let command: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
            assert!(command.iter().any(|word| word.contains("8123")), "{command:?}");
            assert_eq!(command.last().map(AsRef::as_ref), Some(format!("{}:app", app.module()).as_str()));
            assert!(!server.describe("python3", app.interface(), 3).contains(MODULES), "{}", server.name());
        }
    }

    #[test]
    fn servers_with_threads_have_the_same_number() {
        let with = |server: Server, interface| server.describe("python3", interface, 777).contains("777");
        for server in ["threadpool", "mio"].map(gearshift) {
            assert!(with(server, Interface::Wsgi), "{}", server.name());
        }
        for server in [Server::Granian, Server::GunicornGthread, Server::Waitress] {
            assert!(with(server, Interface::Wsgi), "{}", server.name());
        }
        assert!(with(gearshift("threadpool"), Interface::Asgi));
        for server in [gearshift("sequential"), gearshift("mio"), Server::Granian, Server::Uvicorn] {
            assert!(!with(server, Interface::Asgi), "{}", server.name());
        }
    }

    #[test]
    fn the_number_of_waits_follows_from_the_model() {
        let wsgi = |server: Server| server.waits_at_once(Interface::Wsgi, 7);
        let asgi = |server: Server| server.waits_at_once(Interface::Asgi, 7);
        assert_eq!(["sequential", "threadpool", "mio"].map(gearshift).map(wsgi), [Some(1), Some(7), Some(7)]);
        assert_eq!(["sequential", "threadpool", "mio"].map(gearshift).map(asgi), [Some(1), Some(7), None]);
        assert_eq!([Server::GunicornSync, Server::Waitress].map(wsgi), [Some(1), Some(7)]);
        assert_eq!([Server::Granian, Server::Uvicorn].map(asgi), [None, None]);
    }
}
