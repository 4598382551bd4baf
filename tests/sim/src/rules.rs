//! The rules: some hold whenever the server waits, the others at the end.
//!
//! The first half is checked whenever the server waits. It derives what a connection waits for from the outside, from
//! the bytes that were delivered and answered. A wait that exceeds its limit breaks a rule, and so does a wait in a
//! state in which the server has work to do. The second half compares what the clients received with what they
//! requested.

use std::time::Duration;

use gearshift_core::{Config, OnDisconnect, Report};

use crate::ask::{Ask, Framing, pattern};
use crate::deed::Kind;
use crate::link::{Link, Saw};
use crate::reply::Reply;
use crate::world::State;

/// What a connection waits for, seen from the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The first head, or the rest of it.
    Opening,
    /// The first byte of the next head, after this number of requests.
    Idle(usize),
    /// The rest of the head with this number.
    Head(usize),
    /// The rest of a body that no handler reads, after this number of bytes.
    Drain(u64),
    /// The rest of a body that a handler reads, after this number of bytes.
    Body(u64),
    /// Room to write, after this number of bytes.
    Write(u64),
    /// A handler.
    Handler(usize),
    /// The body of a response.
    Stream(usize),
    /// The end of the client's side, after the end of the server's side.
    Linger,
    /// Nothing: the server has work to do.
    Nothing,
}

/// How much a wait may exceed its limit, in addition to the delay of deadlines in the plan.
const TOLERANCE: Duration = Duration::from_millis(50);
/// Polls without progress at one instant, beyond which the driver spins.
const IDLE_POLLS: u32 = 500;

impl Wait {
    fn of(link: &Link) -> Wait {
        if link.unsent > 0 {
            return Wait::Write(link.written);
        }
        if link.server_fin.is_some() {
            return Wait::Linger;
        }
        let answered = link.tap.complete();
        if link.begun > answered {
            return match link.reading_body {
                true => Wait::Body(link.read),
                false if link.ended + link.dropped < link.begun => Wait::Handler(link.begun),
                false => Wait::Stream(link.begun),
            };
        }
        let asks = &link.line.asks;
        let start = link.begun.checked_sub(1).and_then(|last| asks.get(last)).map_or(0, |last| last.end);
        let head_end = asks.get(link.begun).map_or(u64::MAX, |next| next.head_end);
        match link.read {
            read if read < start => Wait::Drain(read),
            _ if link.begun == 0 && link.read < head_end => Wait::Opening,
            read if read == start => Wait::Idle(link.begun),
            read if read < head_end => Wait::Head(link.begun),
            _ => Wait::Nothing,
        }
    }

    /// The limit of the wait. `None` if only a stop limits it.
    fn limit(self, config: &Config) -> Option<Duration> {
        match self {
            Wait::Opening | Wait::Head(_) => Some(config.header_timeout),
            Wait::Idle(_) => Some(config.keep_alive),
            Wait::Drain(_) | Wait::Body(_) => Some(config.body_timeout),
            Wait::Write(_) => Some(config.write_timeout),
            Wait::Linger => Some(config.linger),
            Wait::Handler(_) => Some(config.handler_timeout),
            Wait::Stream(_) => None,
            Wait::Nothing => Some(Duration::ZERO),
        }
    }
}

/// Checks, when the server has nothing to do, that every wait is allowed.
pub(crate) fn check_waits(state: &mut State, config: &Config) {
    let (now, blocking) = (state.now, state.blocking);
    let tolerance = TOLERANCE + state.lateness;
    if state.is_saturated {
        state.hold_up(state.checked);
    }
    state.checked = now;
    for at in 0..state.links.len() {
        let link = &mut state.links[at];
        if !link.is_open() {
            continue;
        }
        // The effect of bytes that were changed on their way is unknown, but their deadlines add up.
        let wait = if link.line.is_mangled && link.unsent == 0 { Wait::Stream(0) } else { Wait::of(link) };
        if link.wait != wait {
            link.wait = wait;
            link.since = now;
        }
        // A handler that ignores disconnects does not learn of a write that fails because the peer is gone or is slower
        // than the minimum rate.
        let is_at_work = link.ended + link.dropped < link.begun;
        let ignores =
            config.on_disconnect == OnDisconnect::Ignore && matches!(wait, Wait::Write(_)) && is_at_work;
        let gave_up = ignores && config.min_rate > 0;
        let since = link.since;
        let lasts = now.saturating_sub(since);
        let wrong = if state.is_saturated && !state.is_forced {
            None
        } else if !ignores && wait.limit(config).is_some_and(|limit| lasts > limit + tolerance) {
            Some(format!("waits for {wait:?} since {since:?}, for {lasts:?}"))
        } else if state.is_forced {
            Some(format!("outlives a forced stop, waiting for {wait:?}"))
        } else if state.stopped.is_some()
            && matches!(wait, Wait::Opening | Wait::Idle(_) | Wait::Head(_) | Wait::Drain(_))
        {
            Some(format!("outlives a graceful stop, waiting for {wait:?}"))
        } else if link.idle_polls > IDLE_POLLS {
            Some("is polled in a circle".into())
        } else if blocking {
            None
        } else if link.unsent > 0
            && link.room() > 0
            && !(link.gone && config.on_disconnect == OnDisconnect::Ignore)
            && !gave_up
        {
            Some("has room to write, and is asleep".into())
        } else if link.is_readable() && link.wants_read && link.unsent == 0 {
            Some("has been sent bytes, and is asleep".into())
        } else if link.is_readable()
            && !matches!(wait, Wait::Handler(_) | Wait::Stream(_) | Wait::Write(_) | Wait::Body(_))
        {
            Some(format!("has been sent bytes, and does not read, waiting for {wait:?}"))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            state.violate(format!("connection {at} {wrong}"));
        }
    }
}

impl State {
    /// The time since which no thread has been free. Waiting for a thread breaks no rule.
    pub(crate) fn hold_up(&mut self, began: Duration) {
        let (now, held) = (self.now, self.now.saturating_sub(began));
        self.links.iter_mut().for_each(|link| link.since = (link.since + held).min(now));
        self.checked = now;
    }
}

/// Checks that a connection that was polled does not spin.
pub(crate) fn check_poll(state: &mut State, at: usize, progress_before: u64) {
    let link = &mut state.links[at];
    link.idle_calls = 0;
    if link.progress == progress_before {
        link.idle_polls += 1;
        if link.idle_polls > IDLE_POLLS {
            state.violate(format!("connection {at} is polled in a circle"));
        }
    }
}

/// Checks at the end that every client received what it requested.
pub(crate) fn check_replies(state: &mut State, config: &Config) {
    for at in 0..state.links.len() {
        let link = &state.links[at];
        let wrong = match link.line.is_mangled {
            true => None,
            false => judge_replies(link, state, config),
        };
        if let Some(wrong) = wrong {
            state.violate(format!("connection {at}: {wrong}"));
        }
    }
}

fn judge_replies(link: &Link, state: &State, config: &Config) -> Option<String> {
    let asks = &link.line.asks;
    let finals = &link.replies.finals;
    for (n, reply) in finals.iter().enumerate() {
        let Some(written) = asks.get(n) else { return Some("more responses than requests".into()) };
        let wrong = match reply.id {
            Some(id) if id != written.id => {
                Some(format!("the response to request {id} comes where {} is due", written.id))
            }
            Some(_) if written.ask.refused.is_some() => Some(format!("request {n} is not refused")),
            Some(_) => judge_answer(link, &written.ask, written.id, reply),
            None => judge_refusal(link, n, reply, config),
        };
        let wrong = wrong.or_else(|| judge_closing(link, n, reply, state, config));
        if let Some(wrong) = wrong {
            return Some(wrong);
        }
        let excused = link.forced || breaks(&written.ask) || lingered_enough(link, state);
        if !reply.complete && link.line.is_clean && !excused {
            return Some(format!("the response to request {n} is cut"));
        }
    }
    judge_missing(link, state, config)
}

/// Checks an answer of the application.
fn judge_answer(link: &Link, ask: &Ask, id: u64, reply: &Reply) -> Option<String> {
    if let Some(read) = &reply.read {
        let whole = *read == format!("whole {}", ask.body.len());
        if read.starts_with("whole") != whole {
            return Some(format!("request {id} was read as {read:?}"));
        }
        if link.line.is_clean && !whole && !link.forced {
            return Some(format!("request {id} was read as {read:?}"));
        }
    }
    let deed = ask.deed?;
    if !reply.complete {
        return None;
    }
    if breaks(ask) && !ask.old {
        return Some(format!("the response to request {id} is whole, and was to break off"));
    }
    let expected = match deed.kind {
        _ if ask.is_head() => Vec::new(),
        Kind::Empty => Vec::new(),
        Kind::Echo => ask.body.clone(),
        _ => pattern(id, deed.size),
    };
    // For an HTTP/1.0 client, the end of the connection is the end of the body.
    let same = match ask.old && deed.kind.streams() {
        true => expected.starts_with(&reply.body),
        false => expected == reply.body,
    };
    (!same)
        .then(|| format!("the response to request {id} has {} bytes that are not its own", reply.body.len()))
}

/// Whether the server may have answered by itself, instead of the application.
fn judge_refusal(link: &Link, n: usize, reply: &Reply, config: &Config) -> Option<String> {
    let written = &link.line.asks[n];
    let kind = written.ask.deed.map(|deed| deed.kind);
    let rightly = match reply.status {
        // The server could not read any byte of the body that the handler gives back.
        400 | 408 | 500 if kind == Some(Kind::Echo) && !link.line.is_clean => true,
        500 if written.ask.expect && breaks(&written.ask) => true,
        500 => matches!(kind, Some(Kind::PanicNow | Kind::PanicLater)),
        408 => {
            let read = link.server_fin.map_or(link.read, |_| link.read_at_fin);
            !link.line.is_clean && link.begun <= n && read < written.head_end
        }
        // The handler exceeded its timeout.
        503 => {
            let pause = written.ask.deed.map_or(Duration::MAX, |deed| deed.pause);
            pause + TOLERANCE >= config.handler_timeout || !link.line.is_clean
        }
        413 => written.ask.body.len() as u64 > config.limits.body,
        431 => written.ask.refused.is_some(),
        status => written.ask.refused == Some(status),
    };
    (!rightly).then(|| format!("request {n} is answered {} by the server", reply.status))
}

/// Checks that the response announces correctly whether the connection closes.
fn judge_closing(link: &Link, n: usize, reply: &Reply, state: &State, config: &Config) -> Option<String> {
    let ask = &link.line.asks[n].ask;
    let last = config.max_requests.is_some_and(|most| n as u64 + 1 >= most);
    let ends =
        ask.deed.is_some_and(|deed| matches!(deed.kind, Kind::Close | Kind::PanicNow | Kind::PanicLater));
    let must = ask.old || ask.close || ask.refused.is_some() || ends || last;
    let may = must
        || reply.status == 503
        || state.stopped.is_some()
        || ask.expect
        || ask.deed.is_none()
        || !link.line.is_clean;
    match reply.close {
        true if !may => Some(format!("the response to request {n} closes without a reason")),
        false if must && reply.status != 503 => {
            Some(format!("the response to request {n} does not say that it is the last"))
        }
        _ => None,
    }
}

/// Whether the request or a setting makes the response the last one.
fn must_close(ask: &Ask, n: usize, config: &Config) -> bool {
    let last = config.max_requests.is_some_and(|most| n as u64 + 1 >= most);
    let ends = |kind| matches!(kind, Kind::Close | Kind::PanicNow | Kind::PanicLater);
    ask.old || ask.close || ask.refused.is_some() || last || ask.deed.is_some_and(|deed| ends(deed.kind))
}

/// Whether a missing answer is a fault.
fn judge_missing(link: &Link, state: &State, config: &Config) -> Option<String> {
    let n = link.replies.complete();
    let asks = &link.line.asks;
    if !link.line.is_clean || link.forced || n == asks.len() {
        return None;
    }
    let before = n.checked_sub(1).map(|last| (&link.replies.finals[last], &asks[last].ask));
    let next = &asks[n].ask;
    let excused = before.is_some_and(|(reply, ask)| {
        // It said so, and not because of a stop before which this one had arrived; or what was left of its body was
        // more than is read for nobody.
        let own = must_close(ask, n - 1, config) || reply.status == 503 || ask.expect || ask.deed.is_none();
        (reply.close && (own || state.stopped.is_none() || n >= link.arrived_at_stop))
            || (ask.framing != Framing::None && may_leave_body(ask))
    }) || breaks(next)
        || link.accepted.is_none()
        || (state.stopped.is_some() && n >= link.arrived_at_stop)
        || lingered_enough(link, state);
    (!excused).then(|| format!("request {n} of {} is not answered", asks.len()))
}

/// Whether the server has waited or read long enough before it closed on a client that continues to send.
fn lingered_enough(link: &Link, state: &State) -> bool {
    let (Some(fin), Some(closed)) = (link.server_fin, link.closed) else { return false };
    if link.saw != Some(Saw::Reset) {
        return false;
    }
    closed >= fin + state.linger || link.read - link.read_at_fin >= state.drain
}

fn may_leave_body(ask: &Ask) -> bool {
    ask.deed.is_none_or(|deed| deed.kind.may_leave_body())
}

/// Whether the response cannot be completed.
fn breaks(ask: &Ask) -> bool {
    !ask.is_head() && ask.deed.is_some_and(|deed| matches!(deed.kind, Kind::Broken | Kind::PanicWithin))
}

/// Checks at the end that the report of the server is correct.
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
    let most = begun - state.answered_before_stop;
    let (at_least, at_most) = (state.cut_at_least, state.cut_at_most);
    if report.cut < at_least || report.cut > at_most {
        state.violate(format!("{} requests are reported cut, of {at_least} to {at_most}", report.cut));
    }
    if report.finished < finished || report.finished + report.cut > most {
        state.violate(format!("{report:?}, where {finished} were answered and {most} were in flight"));
    }
}
