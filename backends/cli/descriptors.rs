//! The limit of file descriptors of the process: the program raises it, because a library must not.

use gearshift_core::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The number of file descriptors beside those of connections: listeners, reactors, and the files and outgoing
/// connections of the application.
const OTHERS: u64 = 1024;

/// Raises the soft limit to what the connections of `config` may need, as far as the hard limit allows. If that is not
/// enough, the server warns when it is bound.
pub(crate) fn raise_limit(config: &Config) {
    let needed = u64::try_from(config.max_open()).unwrap_or(u64::MAX).saturating_add(OTHERS);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = needed.min(hard);
    if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() {
        log::info!("the limit of file descriptors was raised from {soft} to {raised}");
    }
}
