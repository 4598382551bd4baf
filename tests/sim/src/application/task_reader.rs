//! A background task that reads the body of a request whose handler may answer first.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

use gearshift_core::{Body, BodyError};

use crate::application::reading::Reading;
use crate::fault::Fault;
use crate::world::World;

/// A background task that reads the body of a request whose handler may answer first.
pub(super) struct TaskReader {
    world: Arc<World>,
    /// The connection.
    at: usize,
    /// The number of the request on its connection.
    n: usize,
}

impl TaskReader {
    /// The reader of the request that began last.
    pub(super) fn new(reading: &Reading) -> TaskReader {
        let n = reading.world.lock().links[reading.at].begun - 1;
        TaskReader { world: reading.world.clone(), at: reading.at, n }
    }

    /// Reads to the end. A read that ends once the request is over has to say so.
    pub(super) async fn read(self, mut reading: Reading, mut body: Body) {
        let (at, n) = (self.at, self.n);
        loop {
            self.world.lock().task_readers.push((at, n));
            let chunk = self.chunk(&mut reading, &mut body).await;
            let mut state = self.world.lock();
            let place = state.task_readers.iter().position(|reader| *reader == (at, n));
            if let Some(place) = place {
                state.task_readers.swap_remove(place);
            }
            match chunk {
                Ok(true) => {}
                Err(error) if state.links[at].is_over(n) && !matches!(error, BodyError::Gone) => {
                    state.violate(format!("the body of a request that is over fails with {error:?}"));
                    return;
                }
                _ => return,
            }
        }
    }

    async fn chunk(&self, reading: &mut Reading, body: &mut Body) -> Result<bool, BodyError> {
        let mut chunk = pin!(reading.chunk(body));
        let is_deaf = self.world.lock().fault == Some(Fault::LoseGone);
        poll_fn(|cx| {
            if !is_deaf {
                return chunk.as_mut().poll(cx);
            }
            let (world, waker) = (self.world.clone(), cx.waker().clone());
            let waker = Waker::from(Arc::new(Deaf { world, waker, at: self.at, n: self.n }));
            chunk.as_mut().poll(&mut Context::from_waker(&waker))
        })
        .await
    }
}

/// A waker that does nothing once a handler has answered: the fault `LoseGone`.
struct Deaf {
    world: Arc<World>,
    waker: Waker,
    at: usize,
    n: usize,
}

impl Wake for Deaf {
    fn wake(self: Arc<Self>) {
        let mut state = self.world.lock();
        let link = &state.links[self.at];
        if link.ended + link.dropped > self.n {
            state.has(Fault::LoseGone);
            return;
        }
        drop(state);
        self.waker.wake_by_ref();
    }
}
