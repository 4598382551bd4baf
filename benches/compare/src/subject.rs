//! What is compared: the backends of this program, a user's application on each, and any other server.

use std::ffi::OsString;
use std::net::SocketAddr;

use gearshift::Backend;

use crate::failure::Failure;
use crate::guard::OURSELVES;
use crate::serve::Served;

/// A server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Its model in a line, if it is known.
    pub model: String,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// An application of this program.
    Own,
    /// A command, with `{port}` to be filled in.
    Command(Vec<String>),
}

impl Subject {
    /// The applications of this program on a backend.
    pub fn own(backend: Backend) -> Subject {
        Subject { name: backend.name().into(), model: backend.model().into(), how: How::Own }
    }

    /// The server that never changes; see [`Served::Yardstick`].
    pub fn yardstick() -> Subject {
        Subject { name: "yardstick".into(), model: String::new(), how: How::Own }
    }

    /// A user's application on a backend, as in `--app 'cmd {backend} {port}'`.
    pub fn app(command: &str, backend: Backend) -> Result<Subject, Failure> {
        let mut words = words(command)?;
        words.iter_mut().for_each(|word| *word = word.replace("{backend}", backend.name()));
        Ok(Subject { how: How::Command(words), ..Subject::own(backend) })
    }

    /// Some server, as in `--against 'name=cmd {port}'`.
    pub fn against(definition: &str) -> Result<Subject, Failure> {
        match definition.split_once('=') {
            Some((name, command)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                Ok(Subject { name: name.into(), model: String::new(), how: How::Command(words(command)?) })
            }
            _ => Err(Failure::Usage(format!("'{definition}' is not of the form 'NAME=COMMAND {{port}}'"))),
        }
    }

    /// The command that starts it on a port. Those of others serve what they serve, whichever app is asked for.
    pub fn command(&self, app: Served, port: u16, upstream: Option<SocketAddr>) -> Vec<OsString> {
        match &self.how {
            How::Own => {
                let bind = format!("127.0.0.1:{port}");
                let mut words = vec![OURSELVES, "serve", app.name(), "--log-level", "error", "--bind", &bind];
                if app != Served::Yardstick {
                    words.extend(["--backend", &self.name]);
                }
                let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
                if let Some(upstream) = upstream {
                    words.extend(["--upstream".into(), upstream.to_string().into()]);
                }
                words
            }
            How::Command(words) => {
                words.iter().map(|word| word.replace("{port}", &port.to_string()).into()).collect()
            }
        }
    }

    /// The command as a reader may type it.
    pub fn describe(&self) -> String {
        match &self.how {
            How::Own => format!("compare serve demo --backend {} --bind 127.0.0.1:{{port}}", self.name),
            How::Command(words) => {
                shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
            }
        }
    }
}

/// The words of a command, of which one at least says where the port goes.
fn words(command: &str) -> Result<Vec<String>, Failure> {
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| Failure::Usage(format!("'{command}' is no command")))?;
    if words.iter().any(|word| word.contains("{port}")) {
        Ok(words)
    } else {
        Err(Failure::Usage(format!("'{command}' does not say where {{port}} goes")))
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
        let subject = Subject::app("my app -k '{backend} x' --port={port}", backend()).expect("it is right");
        let command = subject.command(Served::Demo, 80, None);
        let quoted = format!("{} x", backend().name());
        assert_eq!(command, ["my", "app", "-k", quoted.as_str(), "--port=80"]);
        assert_eq!(subject.name, backend().name());
    }

    #[test]
    fn takes_the_name_of_another_server() {
        let subject = Subject::against("nginx=run --listen a=b:{port}").expect("it is right");
        assert_eq!(subject.name, "nginx");
        assert_eq!(subject.command(Served::Demo, 80, None), ["run", "--listen", "a=b:80"]);
    }

    #[test]
    fn refuses_what_is_no_command_with_a_port() {
        for wrong in ["", "x", "cmd {port}", "=cmd {port}", "x=cmd", "x='cmd {port}", "a b=cmd {port}"] {
            let failure = Subject::against(wrong).expect_err(wrong);
            assert_eq!(failure.status(), 2, "{wrong}: {failure}");
        }
        assert!(Subject::app("cmd {backend}", backend()).is_err());
    }
}
