//! The rules for the responses, which are checked at the end.

use std::time::Duration;

use gearshift_core::Config;

use crate::action::Kind;
use crate::ask::{Ask, Framing, pattern};
use crate::link::{Link, SeenEnd};
use crate::plan::Ending;
use crate::reply::Reply;
use crate::rules::TOLERANCE;
use crate::world::State;

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
            None => judge_refusal(link, n, reply, state, config),
        };
        let wrong =
            wrong.or_else(|| judge_closing(link, n, reply, state, config).filter(|_| reply.status != 101));
        if let Some(wrong) = wrong {
            return Some(wrong);
        }
        let excused = link.forced
            || breaks(&written.ask)
            || lingered_enough(link, state)
            || may_be_dropped(link, &written.ask, config)
            || was_dropped(link);
        if !reply.complete && link.client.is_clean && !excused {
            return Some(format!("the response to request {n} is cut"));
        }
    }
    judge_missing(link, state, config).or_else(|| judge_raw(link, state))
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
    if (reply.status == 101) != ask.switches() {
        return Some(format!("request {id} is answered {} to its upgrade", reply.status));
    }
    if !reply.complete {
        return None;
    }
    if breaks(ask) && !ask.old {
        return Some(format!("the response to request {id} is whole, and was to break off"));
    }
    let expected = match action.kind {
        _ if ask.is_head() => Vec::new(),
        Kind::Empty => Vec::new(),
        kind if kind.upgrades() => Vec::new(),
        kind if kind.echoes() => ask.body.clone(),
        _ => pattern(id, action.size),
    };
    let trailer = match action.kind {
        _ if ask.is_head() || ask.old => None,
        kind if kind.echoes() => ask.trailer(id),
        _ => action.has_trailer().then(|| id.to_string()),
    };
    if reply.trailer != trailer {
        return Some(format!(
            "the response to request {id} has the trailer {:?} and not {trailer:?}",
            reply.trailer
        ));
    }
    // For a client of HTTP/1.0 the end of the connection is the end of the body.
    let same = match ask.old && action.kind.streams() {
        true => expected.starts_with(&reply.body),
        false => expected == reply.body,
    };
    (!same)
        .then(|| format!("the response to request {id} has {} bytes that are not its own", reply.body.len()))
}

/// What is wrong with a response that the server gave instead of the application.
fn judge_refusal(link: &Link, n: usize, reply: &Reply, state: &State, config: &Config) -> Option<String> {
    let written = &link.client.asks[n];
    let kind = written.ask.action.map(|action| action.kind);
    let rightly = match reply.status {
        // No byte of the body to echo could be read.
        400 | 408 | 500 if kind.is_some_and(Kind::echoes) && !link.client.is_clean => true,
        400 | 408 if written.ask.switches() && !link.client.is_clean => true,
        500 if written.ask.expect && breaks(&written.ask) => true,
        500 => matches!(kind, Some(Kind::PanicNow | Kind::PanicLater)),
        408 => {
            let read = link.server_fin.map_or(link.read, |_| link.read_at_fin);
            !link.client.is_clean && link.begun <= n && read < written.head_end
        }
        503 if link.is_refused => n == 0 && reply.has_retry_after,
        // A handler was late. The rule knows how long it waits.
        503 => {
            let pause = written.ask.action.map_or(Duration::MAX, |action| action.pause);
            // A handler that was ready in a short pause of the process may be judged before it is polled.
            link.begun > n
                && (pause + TOLERANCE >= config.handler_timeout
                    || (!state.paused.is_zero() && !was_given_up_late(link, n, config))
                    || !link.client.is_clean)
        }
        413 if written.ask.switches() => written.ask.body.len() as u64 > config.limits.drain,
        413 => written.ask.body.len() as u64 > config.limits.body,
        426 => kind.is_some_and(Kind::upgrades) && !written.ask.switches(),
        431 => written.ask.refused.is_some(),
        status => written.ask.refused == Some(status),
    };
    (!rightly).then(|| format!("request {n} is answered {} by the server", reply.status))
}

/// The time by which a deadline is noticed late if the process did not run.
const DID_NOT_RUN: Duration = Duration::from_secs(1);

/// Whether the handler of this request was given up so late that the process did not run before. A body that arrives
/// gives its handler more time.
fn was_given_up_late(link: &Link, n: usize, config: &Config) -> bool {
    if link.client.asks[n].ask.framing != Framing::None {
        return false;
    }
    let deadline = link.began_at[n] + config.handler_timeout;
    link.given_up_at.is_none_or(|at| at > deadline + DID_NOT_RUN + TOLERANCE)
}

/// What is wrong with what a response says about the end of the connection.
fn judge_closing(link: &Link, n: usize, reply: &Reply, state: &State, config: &Config) -> Option<String> {
    let ask = &link.client.asks[n].ask;
    let must =
        must_close(link, n, state, config) || link.is_refused || must_announce_end(link, n, state, config);
    let may = must
        || may_be_aged(link, n, config)
        || config.keep_alive.is_zero()
        || matches!(reply.status, 413 | 503)
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

/// Whether the response to this request was made while no connection was kept, and nothing had come behind the request
/// when the connection ended.
fn must_announce_end(link: &Link, n: usize, state: &State, config: &Config) -> bool {
    let Some(ended) = link.ended_at.get(n) else { return false };
    let keeps_none = config.keep_alive.is_zero() || state.stopped.is_some_and(|stopped| *ended > stopped);
    keeps_none && link.client.is_clean && !link.forced && link.delivered <= link.client.asks[n].end
}

/// Whether the connection may have been too old when the handler of this request answered.
fn may_be_aged(link: &Link, n: usize, config: &Config) -> bool {
    let Some((accepted, ended)) = link.accepted.zip(link.ended_at.get(n)) else { return false };
    *ended + TOLERANCE >= accepted.saturating_add(config.max_age)
}

/// Whether the connection was too old when the handler of this request was called. The driver may have read the clock
/// before a pause of the process.
fn is_aged(link: &Link, n: usize, state: &State, config: &Config) -> bool {
    let Some((accepted, began)) = link.accepted.zip(link.began_at.get(n)) else { return false };
    *began >= accepted.saturating_add(config.max_age).saturating_add(TOLERANCE + state.paused)
}

/// Whether the response to this request is the last, because of the request or of the settings.
fn must_close(link: &Link, n: usize, state: &State, config: &Config) -> bool {
    let ask = &link.client.asks[n].ask;
    let last = config.max_requests.is_some_and(|max| n as u64 + 1 >= max);
    let ends = |kind| matches!(kind, Kind::Close | Kind::PanicNow | Kind::PanicLater);
    ask.old
        || ask.close
        || ask.refused.is_some()
        || last
        || is_aged(link, n, state, config)
        || ask.action.is_some_and(|action| ends(action.kind))
}

/// Whether a response is missing.
fn judge_missing(link: &Link, state: &State, config: &Config) -> Option<String> {
    let n = link.replies.complete();
    let asks = &link.client.asks;
    if !link.client.is_clean || link.forced || n == asks.len() || (link.is_refused && n > 0) {
        return None;
    }
    let before = n.checked_sub(1).map(|last| (&link.replies.finals[last], &asks[last].ask));
    let next = &asks[n].ask;
    let excused = before.is_some_and(|(reply, ask)| {
        // The response before said that it was the last, and not because of a stop before which this request had
        // arrived. Or the rest of the body before was more than the server drains.
        let own = must_close(link, n - 1, state, config)
            || may_be_aged(link, n - 1, config)
            || config.keep_alive.is_zero()
            || reply.status == 503
            || ask.expect
            || ask.action.is_none();
        (reply.close && (own || state.stopped.is_none() || n >= link.owed_at_stop))
            || (ask.framing != Framing::None && (may_leave_body(ask) || is_echo_at_stop(ask, state)))
    }) || breaks(next)
        || may_be_dropped(link, next, config)
        || n.checked_sub(1).is_some_and(|last| may_be_dropped(link, &asks[last].ask, config))
        || !link.is_connected
        || (state.stopped.is_some() && n >= link.owed_at_stop)
        || lingered_enough(link, state)
        || was_dropped(link);
    (!excused).then(|| format!("request {n} of {} is not answered", asks.len()))
}

/// Whether the application has closed the connection after an upgrade, with unread bytes.
fn was_dropped(link: &Link) -> bool {
    link.is_upgraded && link.seen_end == Some(SeenEnd::Reset)
}

/// What is wrong with the bytes after a switch to another protocol.
fn judge_raw(link: &Link, state: &State) -> Option<String> {
    let last = link.client.asks.last().filter(|_| link.replies.is_switched())?;
    let (sent, received) = (&last.ask.raw, &link.replies.raw);
    if !sent.starts_with(received) {
        return Some("the bytes after the upgrade are not those that were sent".into());
    }
    let is_stopped = link.closed.zip(state.stopped).is_some_and(|(closed, stopped)| closed >= stopped);
    let is_echo = match link.last_kind() {
        Some(Kind::Upgrade) => !is_stopped,
        kind => kind == Some(Kind::Tunnel),
    };
    let is_owed = is_echo && link.client.is_clean && link.client.ending == Ending::HalfClose && !link.forced;
    let (received, sent) = (received.len(), sent.len());
    (is_owed && received < sent).then(|| format!("{received} of {sent} bytes come back after the upgrade"))
}

/// Whether the response to this request may pause for longer than a client may expect that has ended its side.
fn may_be_dropped(link: &Link, ask: &Ask, config: &Config) -> bool {
    let piece = ask.action.filter(|action| action.kind.streams()).map(|action| action.pause / 4);
    link.client.ending == Ending::HalfClose
        && piece.is_some_and(|piece| piece + TOLERANCE >= config.half_closed_timeout)
}

/// Whether the server had lingered as long, or drained as much, as it has to before it closes on a client that sends.
fn lingered_enough(link: &Link, state: &State) -> bool {
    let (Some(fin), Some(closed)) = (link.server_fin, link.closed) else { return false };
    if link.seen_end != Some(SeenEnd::Reset) {
        return false;
    }
    closed >= fin + state.linger || link.read - link.read_at_fin >= state.drain
}

/// Whether the server may not know yet, when it says that it will close, that more follows the body of the request.
fn is_echo_at_stop(ask: &Ask, state: &State) -> bool {
    state.stopped.is_some() && ask.action.is_some_and(|action| action.kind.echoes())
}

fn may_leave_body(ask: &Ask) -> bool {
    ask.action.is_none_or(|action| action.kind.may_leave_body())
}

/// Whether the response to this request breaks off.
fn breaks(ask: &Ask) -> bool {
    !ask.is_head() && ask.action.is_some_and(|action| matches!(action.kind, Kind::Broken | Kind::PanicWithin))
}
