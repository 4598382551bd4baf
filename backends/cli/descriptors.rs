//! The limit of file descriptors of the process: the program raises it, because a library must not.

use gearshift_core::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The number of file descriptors for the files and the outgoing connections of the application.
const OF_APPLICATION: usize = 1024;

/// Raises the soft limit to what the connections of `config`, a server with this number of addresses, and the
/// application may need, as far as the hard limit allows. If that is not enough, the server warns when it is bound.
pub(crate) fn raise_limit(config: &Config, addresses: usize) {
    let needed = [config.own_descriptors(addresses), OF_APPLICATION]
        .into_iter()
        .fold(config.max_open(), usize::saturating_add);
    let needed = u64::try_from(needed).unwrap_or(u64::MAX);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = needed.min(hard);
    if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_ok() {
        log::info!("the limit of file descriptors was raised from {soft} to {raised}");
    }
}
