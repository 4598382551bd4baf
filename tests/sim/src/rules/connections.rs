//! The rules for the number of open connections.

use gearshift_core::{Config, Overload};

use crate::fault::Fault;
use crate::world::State;

/// Notes that a connection is accepted, and whether the server has to refuse it.
pub(crate) fn note_accepted(state: &mut State, at: usize, config: &Config) {
    let served = state.links.iter().filter(|link| link.is_open() && !link.is_refused).count();
    let max = config.max_connections;
    let is_stopping = state.stopped.is_some();
    let now = state.now;
    let link = &mut state.links[at];
    link.accepted = Some(now);
    link.since = now;
    match config.overload {
        Overload::Refuse => link.is_refused = served >= max,
        Overload::Wait if served >= max && !is_stopping => {
            state.violate(format!("connection {at} is accepted, and {served} are open, of at most {max}"));
        }
        Overload::Wait => {}
    }
}

impl State {
    /// Whether a connection is accepted for which there is no room, if that is the fault to be played.
    pub(crate) fn forgets_room(&mut self, config: &Config) -> bool {
        let open = self.links.iter().filter(|link| link.is_open());
        let (upgraded, rest): (Vec<_>, Vec<_>) = open.partition(|link| link.is_upgraded);
        let is_overlooked = !upgraded.is_empty() && rest.len() < config.max_connections;
        self.has(Fault::ForgetRoom) || (is_overlooked && self.has(Fault::ForgetUpgraded))
    }
}

/// Checks whether the server counts its connections as the world does. `counted` is the server's number.
pub(crate) fn check_connections(state: &mut State, counted: usize) {
    let open = state.links.iter().filter(|link| link.is_open()).count();
    if counted != open {
        state.violate(format!("{counted} connections are counted, and {open} are open"));
    }
}
