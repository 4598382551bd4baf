//! A handler around the application's, which sees every request and every response.
//!
//! It compares each request with what the client sent, labels the response with its request, and tells the rules which
//! handlers run.

use std::sync::Arc;

use gearshift_core::{Answer, Handler, Request, Response};

use crate::ask::Framing;
use crate::fault::Fault;
use crate::world::World;

/// The application, with this handler around it.
pub(crate) struct Watch {
    pub(crate) world: Arc<World>,
    pub(crate) app: Arc<dyn Handler>,
}

impl Handler for Watch {
    fn call(&self, request: Request) -> Answer {
        let call = Call::begin(&self.world, &request);
        match self.app.call(request) {
            Answer::Ready(response) => Answer::Ready(call.end(response)),
            Answer::Later(future) => Answer::Later(Box::pin(async move { call.end(future.await) })),
            Answer::Kept(future, policy) => {
                Answer::Kept(Box::pin(async move { call.end(future.await) }), policy)
            }
        }
    }
}

/// The connection of a request, and the number of the request in its label.
pub(crate) fn place(request: &Request) -> (usize, Option<u64>) {
    let at = request.peer().map_or(0, |peer| usize::from(peer.port()) - 1);
    (at, request.header("sim-id").and_then(|id| id.parse().ok()))
}

/// A handler that runs. The driver has given it up if this is dropped before its end.
struct Call {
    world: Arc<World>,
    at: usize,
    id: Option<u64>,
    is_over: bool,
}

impl Call {
    fn begin(world: &Arc<World>, request: &Request) -> Call {
        let (at, id) = place(request);
        let mut state = world.lock();
        // A driver that ran when the stop was forced notices it at its next poll.
        state.cut_at_most += u64::from(state.is_forced);
        let link = &mut state.links[at];
        let n = link.begun;
        link.begun += 1;
        link.moved();
        if !link.line.is_mangled {
            let due = link.line.asks.get(n).filter(|written| Some(written.id) == id);
            let wrong = match due {
                None => {
                    Some(format!("request {id:?} is handed out where number {n} of connection {at} is due"))
                }
                Some(written) => {
                    let ask = &written.ask;
                    let whole = ask.framing != Framing::Length
                        || request.body().remaining() == Some(ask.body.len() as u64);
                    let fields = ask
                        .fields
                        .iter()
                        .all(|(name, value)| request.header(name).is_some_and(|here| here == value.trim()));
                    let line = request.method() == ask.method && request.target() == ask.target;
                    let fresh = written.ask.refused.is_none() && written.head_end <= link.read;
                    (!(whole && fields && line && fresh))
                        .then(|| format!("request {id:?} is handed out as something it is not"))
                }
            };
            if let Some(wrong) = wrong {
                state.violate(wrong);
            }
        }
        state.note(format_args!("[{at}] request {n} begins: {}", request.target()));
        state.mix(n as u64 ^ 0xbe91);
        Call { world: world.clone(), at, id, is_over: false }
    }

    /// Labels the response of the handler.
    fn end(mut self, response: Response) -> Response {
        self.is_over = true;
        let mut state = self.world.lock();
        state.handler_ended(self.at);
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
            let link = &mut state.links[self.at];
            link.dropped += 1;
            link.moved();
            state.note(format_args!("[{}] a handler is given up", self.at));
        }
    }
}

impl crate::world::State {
    fn handler_ended(&mut self, at: usize) {
        let late = self.stopped.is_some();
        let link = &mut self.links[at];
        link.ended += 1;
        link.ended_late += usize::from(late);
        link.moved();
        self.note(format_args!("[{at}] a handler has answered"));
    }
}
