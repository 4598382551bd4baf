//! The rules: those for the time in which the server waits, and those for the end.
//!
//! The first half is checked whenever the server waits. What a connection waits for is derived from outside the
//! server, from the bytes that were delivered and answered. A wait that outlasts its limit breaks a rule, and so does
//! a wait in a state in which the server has something to do. The second half compares the responses with the
//! requests.

use std::time::Duration;

use gearshift_core::{Config, OnDisconnect, Report};

use crate::action::Kind;
use crate::ask::{Ask, Framing, pattern};
use crate::link::{Link, SeenEnd};
use crate::reply::Reply;
use crate::world::State;

/// What a connection waits for, derived from outside the server. A number of bytes or requests makes waits differ
/// between which there was progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The first head, or the rest of it.
    Opening,
    /// The first byte of the next head, after this number of requests.
    Idle(usize),
    /// The rest of the head of the request with this number.
    Head(usize),
    /// The rest of a body that its handler left unread, after this number of bytes.
    Drain(u64),
    /// The rest of a body that a handler reads, after this number of bytes.
    Body(u64),
    /// The rest of a small body before its request begins, after this number of bytes.
    Buffer(u64),
    /// The answer of a client that may have left while its request waited for a thread.
    Question,
    /// The client, which has to take bytes, after this number of bytes.
    Write(u64),
    /// A handler.
    Handler(usize),
    /// A handler that does not say whether it reads the body, after this number of bytes.
    UnknownHandler(u64),
    /// The body of a response.
    Stream(usize),
    /// The client's end, after the server's own.
    Linger,
    /// Nothing: the server has something to do.
    Nothing,
}

/// How long a wait may last beyond its limit, in addition to the lateness of the plan.
const TOLERANCE: Duration = Duration::from_millis(50);
/// How long the connection waits for a client that was asked whether it is still there.
const QUESTION: Duration = Duration::from_millis(10);
/// The time without an idle thread after which a client is asked that.
const LONG_WAIT: Duration = Duration::from_millis(100);
/// The number of polls without progress at one instant, beyond which the driver spins.
const IDLE_POLLS: u32 = 500;

impl Wait {
    fn of(link: &Link, buffers: bool) -> Wait {
        if link.unsent > 0 {
            return Wait::Write(link.written);
        }
        if link.server_fin.is_some() {
            return Wait::Linger;
        }
        let answered = link.tap.complete();
        if link.begun > answered {
            let request = link.begun.checked_sub(1).and_then(|last| link.client.asks.get(last));
            let is_unknown =
                request.is_some_and(|written| written.ask.action.is_none() && link.read < written.end);
            if is_unknown && link.is_handled() {
                return Wait::UnknownHandler(link.read);
            }
            return match link.body_readers > 0 {
                true => Wait::Body(link.read),
                false if link.is_handled() => Wait::Handler(link.begun),
                false => Wait::Stream(link.begun),
            };
        }
        let asks = &link.client.asks;
        let start = link.begun.checked_sub(1).and_then(|last| asks.get(last)).map_or(0, |last| last.end);
        let (head_end, end) =
            asks.get(link.begun).map_or((u64::MAX, u64::MAX), |next| (next.head_end, next.end));
        match link.read {
            read if read < start => Wait::Drain(read),
            _ if link.begun == 0 && link.read < head_end => Wait::Opening,
            read if read == start => Wait::Idle(link.begun),
            read if read < head_end => Wait::Head(link.begun),
            _ if link.waited_for_thread && link.is_end_read => Wait::Question,
            read if read < end && buffers => Wait::Buffer(read),
            _ => Wait::Nothing,
        }
    }

    /// How long the wait may last. `None` if only a stop limits it.
    fn limit(self, config: &Config) -> Option<Duration> {
        match self {
            Wait::Opening | Wait::Head(_) => Some(config.header_timeout),
            Wait::Idle(_) => Some(config.keep_alive),
            Wait::Drain(_) | Wait::Body(_) | Wait::Buffer(_) => Some(config.body_timeout),
            Wait::Question => Some(QUESTION),
            Wait::Write(_) => Some(config.write_timeout),
            Wait::Linger => Some(config.linger),
            Wait::Handler(_) => Some(config.handler_timeout),
            Wait::UnknownHandler(_) => Some(config.handler_timeout.max(config.body_timeout)),
            Wait::Stream(_) => None,
            Wait::Nothing => Some(Duration::ZERO),
        }
    }
}

/// Checks whether every connection may wait, when the server has nothing to do.
pub(crate) fn check_waits(state: &mut State, config: &Config) {
    let now = state.now;
    let tolerance = TOLERANCE + state.lateness;
    let buffers = state.blocking && config.body_buffer > 0;
    let passed = now.saturating_sub(state.checked);
    state.checked = now;
    let over = state.task_readers.iter().find(|(at, n)| state.links[*at].is_over(*n));
    if let Some((at, n)) = over {
        let wrong =
            format!("a task still waits for the body of request {n} of connection {at}, which is over");
        state.violate(wrong);
    }
    for at in 0..state.links.len() {
        let link = &mut state.links[at];
        if !link.is_open() {
            continue;
        }
        // Nothing is known of bytes that were changed on their way.
        let wait = match link.client.is_mangled && link.unsent == 0 {
            true => Wait::Stream(0),
            false => Wait::of(link, buffers),
        };
        if matches!(link.wait, Wait::Body(_)) {
            link.body_waited += passed;
        }
        let is_dribbled = link.is_held && link.body_waited > link.max_body_wait(config) + tolerance;
        if link.wait != wait {
            // A body that its client stopped sending is awaited once, by the driver or by the handler.
            let goes_on =
                matches!((link.wait, wait), (Wait::Buffer(before), Wait::Body(read)) if before == read);
            link.since = if goes_on { link.since } else { now };
            link.wait = wait;
        }
        // A handler that goes on when its client has left is not told of a write that fails, because the client is gone
        // or is slower than the minimum rate.
        let is_at_work = link.is_handled();
        let ignores =
            config.on_disconnect == OnDisconnect::Ignore && matches!(wait, Wait::Write(_)) && is_at_work;
        let gave_up = ignores && config.min_rate > 0;
        let since = link.since;
        let lasts = now.saturating_sub(since);
        let wrong = if link.is_held && !is_at_work {
            Some(format!("holds a thread, waiting for {wait:?}"))
        } else if is_dribbled {
            Some(format!("has waited {:?} for a body that is slower than the minimum rate", link.body_waited))
        } else if state.is_saturated && !link.is_held && !state.is_forced {
            None
        } else if !ignores && wait.limit(config).is_some_and(|limit| lasts > limit + tolerance) {
            Some(format!("waits for {wait:?} since {since:?}, for {lasts:?}"))
        } else if state.is_forced {
            Some(format!("outlives a forced stop, waiting for {wait:?}"))
        } else if state.stopped.is_some() && matches!(wait, Wait::Idle(_) | Wait::Drain(_)) {
            Some(format!("outlives a graceful stop, waiting for {wait:?}"))
        } else if link.idle_polls > IDLE_POLLS {
            Some("is polled in a circle".into())
        } else if link.unsent > 0
            && link.room() > 0
            && !(link.gone && config.on_disconnect == OnDisconnect::Ignore)
            && !gave_up
        {
            Some("has room to write, and is asleep".into())
        } else if link.is_readable() && link.wants_read && link.unsent == 0 {
            Some("has been sent bytes, and is asleep".into())
        } else if link.is_readable()
            && !matches!(
                wait,
                Wait::Handler(_)
                    | Wait::UnknownHandler(_)
                    | Wait::Stream(_)
                    | Wait::Write(_)
                    | Wait::Body(_)
                    | Wait::Question
            )
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

impl Link {
    /// How long the body of the request that began last may be awaited, all waits together.
    fn max_body_wait(&self, config: &Config) -> Duration {
        let head_end =
            self.begun.checked_sub(1).and_then(|last| self.client.asks.get(last)).map(|last| last.head_end);
        let read = self.read.saturating_sub(head_end.unwrap_or(0));
        match config.min_rate {
            0 => Duration::MAX / 2,
            rate => config.body_timeout + Duration::from_secs_f64(read as f64 / f64::from(rate)),
        }
    }
}

impl State {
    /// Whether no thread has been idle for long.
    pub(crate) fn have_threads_been_busy(&self) -> bool {
        self.now.saturating_sub(self.idle_at) >= LONG_WAIT
    }

    /// Extends the waits of the connections that hold no thread: since `began` no thread was free.
    pub(crate) fn hold_up(&mut self, began: Duration) {
        let (now, held) = (self.now, self.now.saturating_sub(began));
        for link in self.links.iter_mut().filter(|link| !link.is_held) {
            link.since = (link.since + held).min(now);
        }
    }
}

/// Notes, before a connection is polled on a thread, whether its client is gone and the driver has to find that out
/// before a request begins.
pub(crate) fn note_thread(state: &mut State, at: usize) {
    let has_waited = state.have_threads_been_busy();
    let link = &mut state.links[at];
    link.waited_for_thread |= has_waited;
    let next = link.client.asks.get(link.begun).filter(|next| link.read < next.head_end);
    // The driver asks only if the end is within what it reads ahead. It takes other clients for present.
    let is_asked = has_waited
        && link.begun == link.tap.complete()
        && link.unsent == 0
        && !link.is_end_read
        && !link.arrived.is_empty()
        && link.unbegun() < 4096
        && next.is_some_and(|next| !next.ask.old && !next.ask.expect);
    link.must_not_begin |= is_asked && link.gone && !link.client.is_mangled;
}

/// Checks whether a connection that was polled spins.
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

/// Checks, at the end, whether every client got the responses that it has to get.
pub(crate) fn check_replies(state: &mut State, config: &Config) {
    for at in 0..state.links.len() {
        let link = &state.links[at];
        let wrong = match link.client.is_mangled {
            true => None,
            false => judge_replies(link, state, config),
        };
        if let Some(wrong) = wrong {
            state.violate(format!("connection {at}: {wrong}"));
        }
    }
}

fn judge_replies(link: &Link, state: &State, config: &Config) -> Option<String> {
    let asks = &link.client.asks;
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
        if !reply.complete && link.client.is_clean && !excused {
            return Some(format!("the response to request {n} is cut"));
        }
    }
    judge_missing(link, state, config)
}

/// What is wrong with a response of the application.
fn judge_answer(link: &Link, ask: &Ask, id: u64, reply: &Reply) -> Option<String> {
    if let Some(read) = &reply.read {
        let whole = *read == format!("whole {}", ask.body.len());
        if read.starts_with("whole") != whole {
            return Some(format!("request {id} was read as {read:?}"));
        }
        if link.client.is_clean && !whole && !link.forced {
            return Some(format!("request {id} was read as {read:?}"));
        }
    }
    let action = ask.action?;
    if !reply.complete {
        return None;
    }
    if breaks(ask) && !ask.old {
        return Some(format!("the response to request {id} is whole, and was to break off"));
    }
    let expected = match action.kind {
        _ if ask.is_head() => Vec::new(),
        Kind::Empty => Vec::new(),
        Kind::Echo => ask.body.clone(),
        _ => pattern(id, action.size),
    };
    // For a client of HTTP/1.0 the end of the connection is the end of the body.
    let same = match ask.old && action.kind.streams() {
        true => expected.starts_with(&reply.body),
        false => expected == reply.body,
    };
    (!same)
        .then(|| format!("the response to request {id} has {} bytes that are not its own", reply.body.len()))
}

/// What is wrong with a response that the server gave instead of the application.
fn judge_refusal(link: &Link, n: usize, reply: &Reply, config: &Config) -> Option<String> {
    let written = &link.client.asks[n];
    let kind = written.ask.action.map(|action| action.kind);
    let rightly = match reply.status {
        // No byte of the body to echo could be read.
        400 | 408 | 500 if kind == Some(Kind::Echo) && !link.client.is_clean => true,
        500 if written.ask.expect && breaks(&written.ask) => true,
        500 => matches!(kind, Some(Kind::PanicNow | Kind::PanicLater)),
        408 => {
            let read = link.server_fin.map_or(link.read, |_| link.read_at_fin);
            !link.client.is_clean && link.begun <= n && read < written.head_end
        }
        // A handler was late. The rule knows how long it waits.
        503 => {
            let pause = written.ask.action.map_or(Duration::MAX, |action| action.pause);
            pause + TOLERANCE >= config.handler_timeout || !link.client.is_clean
        }
        413 => written.ask.body.len() as u64 > config.limits.body,
        431 => written.ask.refused.is_some(),
        status => written.ask.refused == Some(status),
    };
    (!rightly).then(|| format!("request {n} is answered {} by the server", reply.status))
}

/// What is wrong with what a response says about the end of the connection.
fn judge_closing(link: &Link, n: usize, reply: &Reply, state: &State, config: &Config) -> Option<String> {
    let ask = &link.client.asks[n].ask;
    let last = config.max_requests.is_some_and(|max| n as u64 + 1 >= max);
    let ends = ask
        .action
        .is_some_and(|action| matches!(action.kind, Kind::Close | Kind::PanicNow | Kind::PanicLater));
    let must = ask.old || ask.close || ask.refused.is_some() || ends || last;
    let may = must
        || reply.status == 503
        || state.stopped.is_some()
        || ask.expect
        || ask.action.is_none()
        || !link.client.is_clean
        // The rest of the body may be more than the server drains.
        || (ask.framing != Framing::None && may_leave_body(ask) && ask.body.len() as u64 > state.drain);
    match reply.close {
        true if !may => Some(format!("the response to request {n} closes without a reason")),
        false if must && reply.status != 503 => {
            Some(format!("the response to request {n} does not say that it is the last"))
        }
        _ => None,
    }
}

/// Whether the response to this request is the last, because of the request or of the settings.
fn must_close(ask: &Ask, n: usize, config: &Config) -> bool {
    let last = config.max_requests.is_some_and(|max| n as u64 + 1 >= max);
    let ends = |kind| matches!(kind, Kind::Close | Kind::PanicNow | Kind::PanicLater);
    ask.old
        || ask.close
        || ask.refused.is_some()
        || last
        || ask.action.is_some_and(|action| ends(action.kind))
}

/// Whether a response is missing.
fn judge_missing(link: &Link, state: &State, config: &Config) -> Option<String> {
    let n = link.replies.complete();
    let asks = &link.client.asks;
    if !link.client.is_clean || link.forced || n == asks.len() {
        return None;
    }
    let before = n.checked_sub(1).map(|last| (&link.replies.finals[last], &asks[last].ask));
    let next = &asks[n].ask;
    let excused = before.is_some_and(|(reply, ask)| {
        // The response before said that it was the last, and not because of a stop before which this request had
        // arrived. Or the rest of the body before was more than the server drains.
        let own = must_close(ask, n - 1, config) || reply.status == 503 || ask.expect || ask.action.is_none();
        (reply.close && (own || state.stopped.is_none() || n >= link.arrived_at_stop))
            || (ask.framing != Framing::None && may_leave_body(ask))
    }) || breaks(next)
        || link.accepted.is_none()
        // The first request of a connection is answered even if it arrives after the stop.
        || (state.stopped.is_some() && n >= link.arrived_at_stop.max(1))
        || lingered_enough(link, state);
    (!excused).then(|| format!("request {n} of {} is not answered", asks.len()))
}

/// Whether the server had lingered as long, or drained as much, as it has to before it closes on a client that sends.
fn lingered_enough(link: &Link, state: &State) -> bool {
    let (Some(fin), Some(closed)) = (link.server_fin, link.closed) else { return false };
    if link.seen_end != Some(SeenEnd::Reset) {
        return false;
    }
    closed >= fin + state.linger || link.read - link.read_at_fin >= state.drain
}

fn may_leave_body(ask: &Ask) -> bool {
    ask.action.is_none_or(|action| action.kind.may_leave_body())
}

/// Whether the response to this request breaks off.
fn breaks(ask: &Ask) -> bool {
    !ask.is_head() && ask.action.is_some_and(|action| matches!(action.kind, Kind::Broken | Kind::PanicWithin))
}

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
    let max = begun - state.answered_before_stop + state.may_buffer;
    let (at_least, at_most) = (state.cut_at_least, state.cut_at_most);
    if report.cut < at_least || report.cut > at_most {
        state.violate(format!("{} requests are reported cut, of {at_least} to {at_most}", report.cut));
    }
    if report.finished < finished || report.finished + report.cut > max {
        state.violate(format!("{report:?}, where {finished} were answered and {max} were in flight"));
    }
}
