//! The failures of a comparison and the exit status of each.
//!
//! | status | meaning |
//! | --- | --- |
//! | 0 | success |
//! | 1 | a claim does not hold, or a figure is worse than in the baseline, beyond the noise |
//! | 2 | the command line is wrong |
//! | 3 | a server does not start, or exits |
//! | 4 | a backend is unknown or not compiled in |
//! | 5 | a scenario is unknown |
//! | 6 | the response to a path is not successful |
//! | 7 | the baseline cannot be read |
//! | 8 | the report cannot be written |
//! | 9 | a system call fails |
//! | 130 | interrupted |

use std::io;
use std::path::PathBuf;

use gearshift::BackendError;

/// The comparison succeeded, but a claim does not hold or a figure is worse than in the baseline.
pub(crate) const WORSE: u8 = 1;
/// Ended by SIGINT or SIGTERM.
pub(crate) const INTERRUPTED: i32 = 130;

/// The reason why there is no comparison.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// A server does not start, or exits before it is stopped.
    Server {
        /// The server.
        subject: String,
        /// The known cause.
        why: String,
    },
    /// The backend is unknown or not compiled in.
    Backend(BackendError),
    /// The scenario is unknown.
    Scenario {
        /// The name on the command line.
        id: String,
        /// The known names.
        known: String,
    },
    /// A response is not successful.
    Path {
        /// The server.
        subject: String,
        /// The requested path.
        path: String,
        /// The status of the response.
        status: u16,
    },
    /// The baseline cannot be read.
    Baseline {
        /// The file.
        file: PathBuf,
        /// The cause.
        why: String,
    },
    /// The report cannot be written.
    Report {
        /// The file or directory.
        file: PathBuf,
        /// The cause.
        why: String,
    },
    /// Another system call fails.
    System(io::Error),
}

impl Failure {
    /// The exit status of the program.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Server { .. } => 3,
            Failure::Backend(_) => 4,
            Failure::Scenario { .. } => 5,
            Failure::Path { .. } => 6,
            Failure::Baseline { .. } => 7,
            Failure::Report { .. } => 8,
            Failure::System(_) => 9,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Usage(why) => f.write_str(why),
            Failure::Server { subject, why } => write!(f, "server {subject}: {why}"),
            Failure::Backend(error) => error.fmt(f),
            Failure::Scenario { id, known } => write!(f, "unknown scenario '{id}'; known scenarios: {known}"),
            Failure::Path { subject, path, status } => {
                write!(f, "server {subject}: {path} returned status {status}")
            }
            Failure::Baseline { file, why } => write!(f, "baseline {}: {why}", file.display()),
            Failure::Report { file, why } => write!(f, "cannot write {}: {why}", file.display()),
            Failure::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Backend(error) => Some(error),
            Failure::System(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}
