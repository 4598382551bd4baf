//! The Python interpreter and the packages that it has.

use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::failure::Failure;

/// Prints the version of Python and those of the packages in the arguments that are installed.
const SCRIPT: &str = "
import importlib.metadata, json, platform, sys
packages = {}
for name in sys.argv[1:]:
    try:
        packages[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps({'python': platform.python_version(), 'packages': list(packages.items())}))
";

/// Packages whose versions are in the report. All but the last line are also those that servers and applications need.
const PACKAGES: [&str; 14] = [
    "gearshift",
    "granian",
    "uvicorn",
    "hypercorn",
    "gunicorn",
    "waitress",
    "uvloop",
    "httptools",
    "flask",
    "fastapi",
    "starlette",
    "pillow",
    "asgiref",
    "anyio",
];

/// An interpreter.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Interpreter {
    /// The version of Python.
    python: String,
    /// Names and versions of the packages.
    packages: Vec<(String, String)>,
}

impl Interpreter {
    /// Asks an interpreter for its version and its packages.
    ///
    /// # Errors
    /// [`Failure::Server`] if it does not run.
    pub fn ask(python: &str) -> Result<Interpreter, Failure> {
        let failure = |why: String| Failure::Server { subject: python.into(), why };
        let mut command = Command::new(python);
        command.args(["-c", SCRIPT]).args(PACKAGES).stdin(Stdio::null());
        let output = command.output().map_err(|error| failure(format!("cannot run it: {error}")))?;
        let last = String::from_utf8_lossy(&output.stderr).trim_end().lines().last().map(str::to_owned);
        serde_json::from_slice(&output.stdout)
            .map_err(|_| failure(last.unwrap_or_else(|| "it is not a Python interpreter".into())))
    }

    /// The first of `packages` that is not installed.
    pub fn lacks(&self, packages: &[&'static str]) -> Option<&'static str> {
        packages.iter().find(|name| self.packages.iter().all(|(known, _)| known != *name)).copied()
    }

    /// Python and the packages, each with its version.
    pub fn versions(&self) -> Vec<String> {
        let packages = self.packages.iter().map(|(name, version)| format!("{name} {version}"));
        std::iter::once(format!("Python {}", self.python)).chain(packages).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use gearshift::Backend;

    use super::*;
    use crate::python::app::App;
    use crate::python::server::Server;

    #[test]
    fn every_package_that_is_needed_is_asked_for() {
        let servers = Server::all(Backend::available());
        let by_servers = servers.iter().flat_map(|server| server.packages()).copied();
        let by_apps = App::value_variants().iter().filter_map(|app| app.package());
        for package in by_servers.chain(by_apps) {
            assert!(PACKAGES.contains(&package), "{package}");
        }
    }

    #[test]
    fn a_missing_package_is_found() {
        let packages = vec![("uvicorn".into(), "0.54.0".into()), ("uvloop".into(), "0.23.0".into())];
        let interpreter = Interpreter { python: "3.11.7".into(), packages };
        assert_eq!(interpreter.lacks(&["uvicorn", "uvloop"]), None);
        assert_eq!(interpreter.lacks(&["uvicorn", "httptools", "waitress"]), Some("httptools"));
        assert_eq!(interpreter.versions(), ["Python 3.11.7", "uvicorn 0.54.0", "uvloop 0.23.0"]);
    }

    #[test]
    fn a_program_that_is_not_python_is_refused() {
        let refused = |program: &str| Interpreter::ask(program).expect_err("no interpreter").to_string();
        assert!(refused("/nowhere/python").contains("cannot run it"));
        assert_eq!(refused("true"), "server true: it is not a Python interpreter");
    }
}
