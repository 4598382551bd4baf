//! The parts of a request, and the pool of each thread that recycles their memory.
//!
//! A server receives requests of the same shape all the time. A thread that drops a request keeps its allocations for
//! the next one.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Method, Version};

use crate::proto::body::{Body, Inner};
use crate::proto::fields::{FieldSpans, Span};

/// The parts of a [`Request`](crate::Request).
#[derive(Default)]
pub(crate) struct RequestParts {
    pub(crate) head: Head,
    /// The parameters that the router found in the path.
    pub(crate) params: Params,
    pub(crate) body: Body,
    /// Data of the layer above, for example the address of the peer. This layer does not read it.
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) extensions: Extensions,
}

/// The bytes of a head, and the positions of its parts in them.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) bytes: Bytes,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) target: Span,
    pub(crate) path: Span,
    /// The start of the field section. The spans of `fields` are relative to it.
    pub(crate) fields_start: usize,
    pub(crate) fields: FieldSpans,
}

/// The parameters of a route: their names, shared with the route, and the spans of their values in the head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) values: Vec<Span>,
}

impl Params {
    /// The span of the value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<Span> {
        let at = self.names.as_deref()?.iter().position(|known| **known == *name)?;
        self.values.get(at).copied()
    }
}

/// The largest number of boxes in the pool of one thread.
const MAX_POOLED: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "the pool keeps the boxes")]
    static POOL: RefCell<Vec<Box<RequestParts>>> = const { RefCell::new(Vec::new()) };
}

/// Takes parts from the pool of the current thread, or new ones. The caller must set `head`: it has the method, version
/// and spans of an earlier request.
#[inline]
pub(crate) fn take() -> Box<RequestParts> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Returns parts to the pool of the current thread.
#[inline]
pub(crate) fn recycle(mut parts: Box<RequestParts>) {
    // Values that hold shared memory or a connection are dropped now. Vectors keep their memory.
    parts.head.bytes = Bytes::new();
    if !matches!(parts.body.0, Inner::Empty) {
        parts.body = Body::empty();
    }
    parts.context = None;
    if parts.params.names.take().is_some() {
        parts.params.values.clear();
    }
    if !parts.extensions.is_empty() {
        parts.extensions = Extensions::new();
    }
    // `try_with`: a request can be dropped by the destructor of another thread-local value.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.len() < MAX_POOLED {
            pool.push(parts);
        }
    });
}
