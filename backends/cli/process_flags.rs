//! The flags of several processes.

use std::time::Duration;

use super::values;

/// The largest number of processes, also after SIGTTIN.
pub(crate) const MAX_PROCESSES: usize = 256;
/// The time in which a new process has to serve, without another setting.
const START_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ProcessFlags {
    /// Number of processes that serve, up to 256; this one only starts and watches them. Each has its share of the
    /// cores [default: this process serves]
    #[arg(long, value_name = "N", env = "GEARSHIFT_PROCESSES", value_parser = values::processes)]
    pub(crate) processes: Option<usize>,

    /// Time in which a process has to serve after its start, with --processes [default: 60s]
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_START_TIMEOUT", value_parser = values::timeout)]
    start_timeout: Option<Duration>,

    /// Policy for idle connections when the server stops: close, or wait for one more request until --keep-alive is
    /// over [default: close, and wait with --processes]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_DRAIN_IDLE", value_parser = waits)]
    drain_idle: Option<bool>,
}

impl ProcessFlags {
    /// The time in which a new process has to serve.
    pub(crate) fn start_timeout(&self) -> Duration {
        self.start_timeout.unwrap_or(START_TIMEOUT)
    }

    /// Whether idle connections wait for one more request when the server stops.
    pub(crate) fn drain_idle(&self) -> bool {
        self.drain_idle.unwrap_or(self.processes.is_some())
    }
}

/// Reads whether idle connections wait.
fn waits(text: &str) -> Result<bool, String> {
    match text {
        "wait" => Ok(true),
        "close" => Ok(false),
        _ => Err("not close or wait".to_owned()),
    }
}
