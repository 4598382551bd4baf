//! The rule for the report of the server, which is checked at the end.

use gearshift_core::Report;

use crate::world::State;

/// Checks, at the end, whether the report of the server is right.
pub(crate) fn check_report(state: &mut State, report: Report) {
    if state.stopped.is_none() {
        return;
    }
    let (mut begun, mut finished) = (0, 0);
    for link in &state.links {
        begun += link.begun as u64;
        let answered = link.tap.complete().min(link.ended);
        finished += answered.saturating_sub(link.ended - link.ended_late) as u64;
    }
    let refused = state.links.iter().filter(|link| link.is_refused).count() as u64;
    if report.refused < refused {
        state.violate(format!("{} connections are reported refused, of {refused}", report.refused));
    }
    // An upgraded connection is cut although its request was answered.
    let max = begun - state.answered_before_stop + state.may_buffer + state.upgraded_at_force;
    let (at_least, at_most) = (state.cut_at_least, state.cut_at_most);
    if report.cut < at_least || report.cut > at_most {
        state.violate(format!("{} requests are reported cut, of {at_least} to {at_most}", report.cut));
    }
    if report.finished < finished || report.finished + report.cut > max {
        state.violate(format!("{report:?}, where {finished} were answered and {max} were in flight"));
    }
}
