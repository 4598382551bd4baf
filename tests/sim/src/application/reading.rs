//! A handler's reads of a body, compared with what the client sent.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use gearshift_core::{Body, BodyError, HeaderMap, Response};

use crate::action::Action;
use crate::application::whole;
use crate::fault::Fault;
use crate::world::World;

/// Reads a body, and compares it with what the client sent.
pub(super) struct Reading {
    pub(super) world: Arc<World>,
    pub(super) at: usize,
    /// What the client sent. `None` if the bytes were changed on their way.
    sent: Option<Vec<u8>>,
    /// The trailer that the client sent behind the body.
    trailer: Option<String>,
    pub(super) id: u64,
    /// The number of requests up to this one.
    n: usize,
    len: usize,
}

impl Reading {
    pub(super) fn new(world: &Arc<World>, at: usize, id: u64) -> Reading {
        let state = world.lock();
        let client = &state.links[at].client;
        let ask = client.asks.iter().find(|written| written.id == id && !client.is_mangled);
        let sent = ask.map(|written| written.ask.body.clone());
        let trailer = ask.and_then(|written| written.ask.trailer(id));
        Reading { world: world.clone(), at, sent, trailer, id, n: state.links[at].begun, len: 0 }
    }

    /// Reads one piece. `false` at the end.
    pub(super) async fn chunk(&mut self, body: &mut Body) -> Result<bool, BodyError> {
        let waits = Waits::new(&self.world, self.at);
        let chunk = body.chunk().await;
        drop(waits);
        self.judge(chunk)
    }

    /// Reads everything that is left.
    pub(super) async fn read(&mut self, body: &mut Body) -> Result<(), BodyError> {
        while self.chunk(body).await? {}
        let trailers = body.trailers().await;
        self.judge_trailers(trailers.as_ref().map(Option::as_ref).map_err(drop));
        Ok(())
    }

    pub(super) fn read_blocking(&mut self, body: Body) -> Result<(), BodyError> {
        let mut reader = body.reader();
        let mut room = [0; 700];
        loop {
            let waits = Waits::new(&self.world, self.at);
            let read = reader.read(&mut room);
            drop(waits);
            let chunk = match read {
                Ok(0) => None,
                Ok(n) => Some(Ok(Bytes::copy_from_slice(&room[..n]))),
                Err(error) => Some(Err(error.downcast().unwrap_or_else(BodyError::Io))),
            };
            if !self.judge(chunk)? {
                let trailers = reader.trailers();
                self.judge_trailers(trailers.as_ref().map(Option::as_ref).map_err(drop));
                return Ok(());
            }
        }
    }

    /// Compares what was read with what was sent.
    pub(super) fn judge(&mut self, chunk: Option<Result<Bytes, BodyError>>) -> Result<bool, BodyError> {
        let mut state = self.world.lock();
        state.links[self.at].moved();
        let Some(sent) = &self.sent else {
            let chunk = chunk.transpose()?;
            self.len += chunk.as_ref().map_or(0, Bytes::len);
            return Ok(chunk.is_some());
        };
        match chunk {
            Some(Ok(chunk)) => {
                if sent.get(self.len..self.len + chunk.len()) != Some(&chunk[..]) {
                    state.violate(format!("request {}: the body that is read was never sent", self.id));
                }
                self.len += chunk.len();
                Ok(true)
            }
            None if self.len != sent.len() => {
                let (len, all) = (self.len, sent.len());
                state.violate(format!("request {}: {len} of {all} bytes are called a whole body", self.id));
                Ok(false)
            }
            None => {
                let link = &mut state.links[self.at];
                link.consumed = link.consumed.max(self.n);
                Ok(false)
            }
            Some(Err(_)) if state.plays(Fault::CallCutBodyWhole) => Ok(false),
            Some(Err(error)) => {
                state.note(format_args!("[{}] the body cannot be read: {error}", self.at));
                Err(error)
            }
        }
    }

    /// Compares the trailers that follow the data with those that were sent.
    pub(super) fn judge_trailers(&self, trailers: Result<Option<&HeaderMap>, ()>) {
        let mut state = self.world.lock();
        // The application took an error for the end.
        let is_cut = trailers.is_err() && state.fault == Some(Fault::CallCutBodyWhole);
        if self.sent.is_none() || is_cut {
            return;
        }
        let fields = trailers.map(|trailers| trailers.into_iter().flatten());
        let fields =
            fields.map(|fields| fields.map(|(name, value)| (name.as_str(), value.as_bytes())).collect());
        let sent = self.trailer.as_ref().map(|value| ("sim-trailer", value.as_bytes()));
        if fields != Ok(Vec::from_iter(sent)) {
            state.violate(format!(
                "request {}: the trailers that are read were never sent: {fields:?}",
                self.id
            ));
        }
    }

    /// The response that says what was read.
    pub(super) fn told(&self, read: Result<(), BodyError>, action: Action) -> Response {
        let response = whole(self.id, action);
        match read {
            Ok(()) => response.with_header("Sim-Read", &format!("whole {}", self.len)),
            Err(error) => response
                .with_status(error.status())
                .with_header("Sim-Read", &format!("cut {} {error}", self.len)),
        }
    }
}

/// Counts a reader of a connection's body while it waits.
pub(super) struct Waits {
    world: Arc<World>,
    at: usize,
}

impl Waits {
    pub(super) fn new(world: &Arc<World>, at: usize) -> Waits {
        world.lock().links[at].body_readers += 1;
        Waits { world: world.clone(), at }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.world.lock().links[self.at].body_readers -= 1;
    }
}
