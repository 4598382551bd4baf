//! A handler around the application's, which observes every request and every response.
//!
//! It compares each request with what the client sent, labels the response so that the client knows which request it
//! answers, and tells the rules which handlers are at work.

use std::sync::Arc;

use gearshift_core::{Answer, Handler, Request, Response};
use http_body::Body as _;

use crate::action::Action;
use crate::ask::Framing;
use crate::fault::Fault;
use crate::world::World;

/// The application, observed.
pub(crate) struct Observer {
    pub(crate) world: Arc<World>,
    pub(crate) app: Arc<dyn Handler>,
}

impl Handler for Observer {
    fn call(&self, request: Request) -> Answer {
        let call = Call::begin(&self.world, &request);
        match self.app.call(request) {
            Answer::Ready(response) => Answer::Ready(call.end(response)),
            Answer::Later(future, policy) => {
                Answer::Later(Box::pin(async move { call.end(future.await) }), policy)
            }
        }
    }
}

/// The connection of a request, and the number that the request carries.
pub(crate) fn place(request: &Request) -> (usize, Option<u64>) {
    let at = request.peer().map_or(0, |peer| usize::from(peer.port()) - 1);
    (at, request.header("sim-id").and_then(|id| id.parse().ok()))
}

/// A handler at work. If this is dropped before the end, the handler was given up.
struct Call {
    world: Arc<World>,
    at: usize,
    id: Option<u64>,
    /// The number of the request on its connection.
    n: usize,
    /// Whether the response is made as a whole.
    is_whole: bool,
    is_over: bool,
}

impl Call {
    fn begin(world: &Arc<World>, request: &Request) -> Call {
        let (at, id) = place(request);
        let mut state = world.lock();
        let now = state.now;
        // A driver that was at work when the stop was forced notices that at its next poll.
        state.cut_at_most += u64::from(state.is_forced);
        state.thread_begins(at);
        let is_buffered = state.blocking && state.body_buffer > 0;
        let body_buffer = state.body_buffer;
        // The next request of the same poll has waited as long.
        let has_waited = state.have_threads_been_busy();
        let link = &mut state.links[at];
        let n = link.begun;
        let (left, is_refused) = (link.must_not_begin, link.is_refused);
        link.begun += 1;
        link.began_at.push(now);
        link.waited_for_thread = has_waited;
        link.waited.begins();
        link.moved();
        if !link.client.is_mangled {
            let due = link.client.asks.get(n).filter(|written| Some(written.id) == id);
            let wrong = match due {
                None => {
                    Some(format!("request {id:?} is handed out where number {n} of connection {at} is due"))
                }
                Some(written) => {
                    let ask = &written.ask;
                    if ask.framing == Framing::None {
                        link.consumed = link.begun;
                    }
                    let whole = ask.framing != Framing::Length
                        || request.body().remaining() == Some(ask.body.len() as u64);
                    let fields = ask
                        .fields
                        .iter()
                        .all(|(name, value)| request.header(name).is_some_and(|here| here == value.trim()));
                    let line = request.method() == ask.method && request.target() == ask.target;
                    let fresh = written.ask.refused.is_none() && written.head_end <= link.read;
                    let is_small = ask.framing != Framing::None && ask.body.len() <= body_buffer;
                    // The handler is told of a body that was cut or came too late.
                    let has_come = link.client.is_clean || written.end <= link.read;
                    let len = ask.body.len() as u64;
                    let is_whole = match ask.trailer(written.id) {
                        None => request.body().remaining() == Some(len),
                        // A body that has trailers tells no exact length.
                        Some(_) => request.body().size_hint().lower() == len,
                    };
                    if !(whole && fields && line && fresh) {
                        Some(format!("request {id:?} is handed out as something it is not"))
                    } else if is_buffered && is_small && !ask.expect && has_come && !is_whole {
                        Some(format!("request {id:?} begins on a thread before its body has come"))
                    } else if is_refused {
                        Some(format!("request {id:?} begins on a connection that is to be refused"))
                    } else {
                        left.then(|| format!("request {id:?} begins for a client that left before"))
                    }
                }
            };
            if let Some(wrong) = wrong {
                state.violate(wrong);
            }
        }
        state.note(format_args!("[{at}] request {n} begins: {}", request.target()));
        state.mix(n as u64 ^ 0xbe91);
        let is_whole = Action::parse(request.target()).is_some_and(|action| !action.kind.streams());
        Call { world: world.clone(), at, id, n, is_whole, is_over: false }
    }

    /// Records that the handler has answered, and labels the response.
    fn end(mut self, response: Response) -> Response {
        self.is_over = true;
        let mut state = self.world.lock();
        state.handler_ended(self.at);
        if self.is_whole {
            state.links[self.at].handled = self.n + 1;
        }
        let Some(mut id) = self.id else { return response };
        if state.links[self.at].begun > 1 && state.plays(Fault::SwapResponses) {
            id -= 1;
        }
        response.with_header("Sim-Id", &id.to_string())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut state = self.world.lock();
        if std::thread::panicking() {
            state.handler_ended(self.at);
        } else {
            let now = state.now;
            let link = &mut state.links[self.at];
            link.dropped += 1;
            link.given_up_at = Some(now);
            link.handled = self.n + 1;
            link.moved();
            state.thread_is_free_of(self.at);
            state.note(format_args!("[{}] a handler is given up", self.at));
        }
    }
}

impl crate::world::State {
    /// Records that a handler begins on the thread that polls its connection.
    fn thread_begins(&mut self, at: usize) {
        let Some(thread) = self.thread else { return };
        if let Some(other) = self.links.iter().position(|link| link.held_on == Some(thread)) {
            let wrong = format!(
                "a handler of connection {at} begins on thread {thread}, which a response of {other} holds"
            );
            self.violate(wrong);
        }
        if let Some(other) = self.at_work[thread].replace(at) {
            self.violate(format!("handlers of connections {other} and {at} overlap on thread {thread}"));
        }
    }

    fn handler_ended(&mut self, at: usize) {
        self.thread_is_free_of(at);
        let (now, late) = (self.now, self.stopped.is_some());
        let has_waited = self.have_threads_been_busy();
        let link = &mut self.links[at];
        link.ended += 1;
        link.ended_at.push(now);
        // The handler may have blocked, and the next request of the same poll has waited for it.
        link.waited_for_thread |= has_waited;
        link.ended_late += usize::from(late);
        link.moved();
        self.note(format_args!("[{at}] a handler has answered"));
    }
}
