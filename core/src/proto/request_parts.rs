//! The parts of a request, and the pool of each thread that recycles their memory.
//!
//! A server receives requests of the same shape all the time. A thread that drops a request keeps its allocations for
//! the next one.

use std::any::Any;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use http::{Extensions, Method, Version};

use crate::proto::body::{Body, Inner};
use crate::proto::fields::{FieldSpans, Span};
use crate::proto::params::Params;

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
    pub(crate) fields: FieldSpans,
}

/// Boxed [`RequestParts`] that go to the pool of the current thread when they are dropped.
///
/// Invariant: the field is `Some` until the drop.
pub(crate) struct PooledParts(Option<Box<RequestParts>>);

/// The largest number of boxes in the pool of one thread.
const MAX_POOLED: usize = 64;

thread_local! {
    #[expect(clippy::vec_box, reason = "the pool keeps the boxes")]
    static POOL: RefCell<Vec<Box<RequestParts>>> = const { RefCell::new(Vec::new()) };
}

impl PooledParts {
    /// Takes parts from the pool of the current thread, or new ones. The caller must set `head`: it has the method,
    /// version and spans of an earlier request.
    #[inline]
    pub(crate) fn take() -> PooledParts {
        PooledParts(Some(POOL.with_borrow_mut(Vec::pop).unwrap_or_default()))
    }
}

impl Deref for PooledParts {
    type Target = RequestParts;

    #[inline]
    fn deref(&self) -> &RequestParts {
        self.0.as_deref().expect("a request has its parts until it is dropped")
    }
}

impl DerefMut for PooledParts {
    #[inline]
    fn deref_mut(&mut self) -> &mut RequestParts {
        self.0.as_deref_mut().expect("a request has its parts until it is dropped")
    }
}

impl Drop for PooledParts {
    #[inline]
    fn drop(&mut self) {
        let Some(mut inner) = self.0.take() else { return };
        // Values that hold shared memory or a connection are dropped now. Vectors keep their memory.
        inner.head.bytes = Bytes::new();
        if !matches!(inner.body.0, Inner::Empty) {
            inner.body = Body::empty();
        }
        inner.context = None;
        if inner.params.names.take().is_some() {
            inner.params.values.clear();
        }
        if !inner.extensions.is_empty() {
            inner.extensions = Extensions::new();
        }
        // `try_with`: a request can be dropped by the destructor of another thread-local value.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < MAX_POOLED {
                pool.push(inner);
            }
        });
    }
}
