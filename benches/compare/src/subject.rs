//! The servers under comparison: an application on each backend, and servers given by `--against`.

use std::ffi::OsString;
use std::net::SocketAddr;

use gearshift::Backend;

use crate::failure::Failure;
use crate::guard::THIS_PROGRAM;
use crate::serve::Application;

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name in the report.
    pub name: String,
    /// One line about its concurrency model; empty if unknown.
    pub model: String,
    launch: Launch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Launch {
    /// An application of this program, as `compare serve`.
    Own,
    /// A command with the placeholder `{port}`.
    Command(Vec<String>),
}

impl Subject {
    /// This program's own applications on a backend.
    pub fn own(backend: Backend) -> Subject {
        Subject { name: backend.name().into(), model: backend.model().into(), launch: Launch::Own }
    }

    /// The reference server; see [`Application::Yardstick`].
    pub fn yardstick() -> Subject {
        Subject { name: "yardstick".into(), model: String::new(), launch: Launch::Own }
    }

    /// A user's application on a backend, from `--app 'cmd {backend} {port}'`.
    pub fn app(command: &str, backend: Backend) -> Result<Subject, Failure> {
        let mut words = words(command)?;
        words.iter_mut().for_each(|word| *word = word.replace("{backend}", backend.name()));
        Ok(Subject { launch: Launch::Command(words), ..Subject::own(backend) })
    }

    /// Any other server, from `--against 'name=cmd {port}'`.
    pub fn against(definition: &str) -> Result<Subject, Failure> {
        match definition.split_once('=') {
            Some((name, command)) if !name.is_empty() && !name.contains(char::is_whitespace) => Ok(Subject {
                name: name.into(),
                model: String::new(),
                launch: Launch::Command(words(command)?),
            }),
            _ => Err(Failure::Usage(format!("'{definition}' must have the form 'NAME=COMMAND {{port}}'"))),
        }
    }

    /// A server started by a command, one of whose words contains `{port}`.
    pub(crate) fn from_words(name: String, model: String, words: Vec<String>) -> Subject {
        Subject { name, model, launch: Launch::Command(words) }
    }

    /// The command that starts the server on a port. A user's command ignores `app` and `upstream`.
    pub fn command(&self, app: Application, port: u16, upstream: Option<SocketAddr>) -> Vec<OsString> {
        match &self.launch {
            Launch::Own => {
                let bind = format!("127.0.0.1:{port}");
                let mut words =
                    vec![THIS_PROGRAM, "serve", app.name(), "--log-level", "error", "--bind", &bind];
                if app != Application::Yardstick {
                    words.extend(["--backend", &self.name]);
                }
                let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
                if let Some(upstream) = upstream {
                    words.extend(["--upstream".into(), upstream.to_string().into()]);
                }
                words
            }
            Launch::Command(words) => {
                words.iter().map(|word| word.replace("{port}", &port.to_string()).into()).collect()
            }
        }
    }

    /// The command for the report, with `{port}` left in it.
    pub fn describe(&self) -> String {
        match &self.launch {
            Launch::Own => format!("compare serve demo --backend {} --bind 127.0.0.1:{{port}}", self.name),
            Launch::Command(words) => {
                shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
            }
        }
    }
}

/// Splits a command into words. At least one word must contain `{port}`.
fn words(command: &str) -> Result<Vec<String>, Failure> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| Failure::Usage(format!("'{command}' is not a command")))?;
    if words.iter().any(|word| word.contains("{port}")) {
        Ok(words)
    } else {
        Err(Failure::Usage(format!("'{command}' does not contain {{port}}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Backend {
        Backend::available()[0]
    }

    #[test]
    fn fills_in_the_backend_and_the_port() {
        let subject = Subject::app("my app -k '{backend} x' --port={port}", backend()).expect("valid");
        let command = subject.command(Application::Demo, 80, None);
        let quoted = format!("{} x", backend().name());
        assert_eq!(command, ["my", "app", "-k", quoted.as_str(), "--port=80"]);
        assert_eq!(subject.name, backend().name());
    }

    #[test]
    fn an_other_server_has_the_given_name() {
        let subject = Subject::against("nginx=run --listen a=b:{port}").expect("valid");
        assert_eq!(subject.name, "nginx");
        assert_eq!(subject.command(Application::Demo, 80, None), ["run", "--listen", "a=b:80"]);
    }

    #[test]
    fn refuses_definitions_without_a_command_or_a_port() {
        for wrong in ["", "x", "cmd {port}", "=cmd {port}", "x=cmd", "x='cmd {port}", "a b=cmd {port}"] {
            let failure = Subject::against(wrong).expect_err(wrong);
            assert_eq!(failure.status(), 2, "{wrong}: {failure}");
        }
        assert!(Subject::app("cmd {backend}", backend()).is_err());
    }
}
