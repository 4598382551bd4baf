//! What can keep a comparison from being made, each with the status to exit with.
//!
//! | status | meaning |
//! | --- | --- |
//! | 0 | compared, and nothing is wrong |
//! | 1 | a claim does not hold, or something costs more than in the baseline, beyond the noise |
//! | 2 | the command line is wrong |
//! | 3 | a server does not start, or dies |
//! | 4 | a backend is unknown or not compiled in |
//! | 5 | a scenario is unknown |
//! | 6 | a server answers a path with something else than success |
//! | 7 | the baseline cannot be read |
//! | 8 | the report cannot be written |
//! | 9 | the system refuses what a measurement needs |
//! | 130 | interrupted |

use std::io;
use std::path::PathBuf;

use gearshift::BackendError;

/// Compared, but not all is well.
pub(crate) const WORSE: u8 = 1;
/// Ended by SIGINT or SIGTERM.
pub(crate) const INTERRUPTED: i32 = 130;

/// Why there is no comparison.
#[derive(Debug)]
pub enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// A server does not start, or is gone before it is stopped.
    Server {
        /// The server.
        subject: String,
        /// What is known of the cause.
        why: String,
    },
    /// There is no such backend here.
    Backend(BackendError),
    /// There is no such scenario.
    Scenario {
        /// What was asked for.
        id: String,
        /// What there is.
        known: String,
    },
    /// A server answers, but not with success.
    Path {
        /// The server.
        subject: String,
        /// The path that was asked for.
        path: String,
        /// What it answered.
        answer: String,
    },
    /// The baseline cannot be read.
    Baseline {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The report cannot be written.
    Report {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system refuses something else.
    System(io::Error),
}

impl Failure {
    /// The status to exit with.
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
            Failure::Scenario { id, known } => write!(f, "there is no scenario '{id}'; there are: {known}"),
            Failure::Path { subject, path, answer } => {
                write!(f, "server {subject} answers {path} with {answer}")
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
