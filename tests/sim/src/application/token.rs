//! Cancel tokens: of a handler that looks at its token while it works, and of a task that keeps one for longer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use gearshift_core::{CancelToken, Runtime};

use crate::action::Action;
use crate::fault::Fault;
use crate::world::World;

/// The longest work of a handler that looks at its token.
const MAX_WORK: Duration = Duration::from_secs(1);

/// A token that the rules observe.
pub(super) struct Token {
    world: Arc<World>,
    at: usize,
    token: CancelToken,
}

impl Token {
    pub(super) fn new(world: &Arc<World>, at: usize, token: CancelToken) -> Token {
        Token { world: world.clone(), at, token }
    }

    /// Works in steps, and ends early if the token says so.
    pub(super) async fn work(&self, runtime: &Runtime, action: Action) {
        let step = action.pause.min(MAX_WORK) / (action.pieces as u32);
        for _ in 0..action.pieces {
            let is_cancelled = runtime.timeout(step, self.cancelled()).await.is_ok();
            if is_cancelled || self.is_cancelled() {
                return;
            }
        }
    }

    /// Works in steps and holds the thread, and ends early if the token says so.
    pub(super) fn work_blocking(&self, runtime: &Runtime, action: Action) {
        let step = action.pause.min(MAX_WORK) / (action.pieces as u32);
        for _ in 0..action.pieces {
            runtime.block_on(runtime.sleep(step));
            let has_left = self.world.lock().links[self.at].reset;
            if self.is_cancelled() {
                return;
            }
            if has_left {
                let wrong = format!("the token of connection {} does not see that the client left", self.at);
                self.world.lock().violate(wrong);
            }
        }
    }

    /// Looks at the token for a while, also after the response. Half of the tasks then wait until the connection ends.
    pub(super) async fn keep(self, runtime: Runtime, action: Action) {
        for _ in 0..action.pieces {
            let is_cancelled = runtime.timeout(action.pause, self.cancelled()).await.is_ok();
            if is_cancelled || self.is_cancelled() {
                return;
            }
        }
        if action.size.is_multiple_of(2) {
            self.cancelled().await;
        }
    }

    async fn cancelled(&self) {
        let _waits = TokenWaits::new(&self.world, self.at);
        let mut cancelled = pin!(self.token.cancelled());
        poll_fn(|cx| {
            if self.world.lock().fault != Some(Fault::LoseCancel) {
                return cancelled.as_mut().poll(cx);
            }
            let deaf = Deaf { world: self.world.clone(), waker: cx.waker().clone(), at: self.at };
            cancelled.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(deaf))))
        })
        .await;
        self.judge(true);
    }

    fn is_cancelled(&self) -> bool {
        let is_cancelled = self.token.is_cancelled();
        self.judge(is_cancelled);
        is_cancelled
    }

    /// Compares what the token says with the state of the connection.
    fn judge(&self, is_cancelled: bool) {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        let (is_closed, is_forced) = (link.closed.is_some(), state.is_forced);
        // A peer that missed the deadline of a write counts as having left.
        let is_late = link.unsent > 0 && state.now >= link.unsent_since.saturating_add(state.write_timeout);
        // The server gives up a request also when its handler is late.
        let may = is_closed || link.gone || link.reset || link.dropped > 0 || is_late || is_forced;
        let wrong = match is_cancelled {
            true if !may => "is cancelled without a reason",
            false if is_closed => "is not cancelled, and the connection has ended",
            _ => return,
        };
        state.violate(format!("the token of connection {} {wrong}", self.at));
    }
}

/// The entry of a task or handler that waits for a token.
struct TokenWaits {
    world: Arc<World>,
    at: usize,
}

impl TokenWaits {
    fn new(world: &Arc<World>, at: usize) -> TokenWaits {
        world.lock().links[at].token_waits += 1;
        TokenWaits { world: world.clone(), at }
    }
}

impl Drop for TokenWaits {
    fn drop(&mut self) {
        self.world.lock().links[self.at].token_waits -= 1;
    }
}

/// A waker that does nothing once the connection has ended: the fault `LoseCancel`.
struct Deaf {
    world: Arc<World>,
    waker: Waker,
    at: usize,
}

impl Wake for Deaf {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.lock();
        if state.links[self.at].closed.is_some() {
            state.has(Fault::LoseCancel);
            return;
        }
        drop(state);
        self.waker.wake_by_ref();
    }
}
