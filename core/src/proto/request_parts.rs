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
    /// The limit of a body that is collected in memory, in bytes. `None` selects the default.
    pub(crate) body_limit: Option<usize>,
    /// Data of the layer above, for example the address of the peer. This layer does not read it.
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    /// The number of segments of the prefix under which the fallback that answers was nested. This layer does not read
    /// it.
    pub(crate) prefix: usize,
    /// The number of the route that a router has chosen; 0 if there is none. This layer does not read it.
    pub(crate) route: u32,
    /// The states of the routers that have passed the request on, the innermost first.
    pub(crate) states: Option<States>,
    pub(crate) extensions: Extensions,
}

/// Values of the application that all requests of a route share.
pub(crate) type States = Arc<[Arc<dyn Any + Send + Sync>]>;

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

/// The parameters of a route: their names, shared with the route, and the spans of their values in a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    pub(crate) names: Option<Arc<[Box<str>]>>,
    pub(crate) values: Vec<Span>,
    /// The head that has the values, if it is not that of the request: the request was converted from another type.
    // Invariant: `None` without `names`.
    pub(crate) head: Option<Bytes>,
}

impl Params {
    /// Removes all parameters.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.names.take().is_some() {
            self.head = None;
        }
    }

    /// Replaces all parameters by those that a router has found in the head of the request.
    pub(crate) fn set(&mut self, names: Arc<[Box<str>]>, values: impl Iterator<Item = Span>) {
        self.values.clear();
        self.values.extend(values);
        (self.names, self.head) = (Some(names), None);
    }

    /// The span of the value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<Span> {
        let at = self.names.as_deref()?.iter().position(|known| **known == *name)?;
        self.values.get(at).copied()
    }
}

/// The parts that a request of the `http` crate has no place for. They pass through it as an extension.
#[derive(Clone)]
pub(crate) struct Carried {
    pub(crate) context: Option<Arc<dyn Any + Send + Sync>>,
    states: Option<States>,
    params: Params,
    prefix: usize,
    route: u32,
    body_limit: Option<usize>,
}

impl RequestParts {
    /// Copies the parts for a request of another type.
    pub(crate) fn carried(&self) -> Carried {
        let mut params = self.params.clone();
        if params.names.is_some() && params.head.is_none() {
            params.head = Some(self.head.bytes.clone());
        }
        let (context, states) = (self.context.clone(), self.states.clone());
        let (prefix, route, body_limit) = (self.prefix, self.route, self.body_limit);
        Carried { context, states, params, prefix, route, body_limit }
    }

    /// Sets the parts of the request that was converted.
    pub(crate) fn set_carried(&mut self, carried: Carried) {
        (self.context, self.states, self.params) = (carried.context, carried.states, carried.params);
        (self.prefix, self.route, self.body_limit) = (carried.prefix, carried.route, carried.body_limit);
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
    (parts.states, parts.route, parts.prefix, parts.body_limit) = (None, 0, 0, None);
    parts.params.clear();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::request::Request;

    /// The number of boxes in the pool of this thread.
    fn pooled() -> usize {
        POOL.with_borrow(Vec::len)
    }

    #[test]
    fn parts_are_used_again_without_what_they_held() {
        let mut parts = take();
        let address: *const RequestParts = &*parts;
        parts.head.bytes = "bytes".into();
        parts.body = "body".into();
        parts.body_limit = Some(1);
        parts.context = Some(Arc::new(1));
        parts.params = Params {
            names: Some([Box::from("name")].into()),
            values: vec![Span::default()],
            head: Some("head".into()),
        };
        parts.states = Some([Arc::new(1) as Arc<dyn Any + Send + Sync>].into());
        parts.extensions.insert(1);
        recycle(parts);
        assert_eq!(pooled(), 1);
        let parts = take();
        assert!(std::ptr::eq(&*parts, address));
        assert_eq!(pooled(), 0);
        assert!(parts.head.bytes.is_empty() && parts.body.is_empty() && parts.context.is_none());
        assert_eq!(parts.body_limit, None);
        assert!(parts.params.names.is_none() && parts.params.head.is_none() && parts.states.is_none());
        assert!(parts.extensions.is_empty());
    }

    #[test]
    fn a_request_that_is_dropped_returns_its_parts() {
        drop(Request::recycled());
        assert_eq!(pooled(), 1);
    }

    #[test]
    fn the_pool_is_bounded() {
        let parts: Vec<_> = (0..MAX_POOLED + 2).map(|_| take()).collect();
        parts.into_iter().for_each(recycle);
        assert_eq!(pooled(), MAX_POOLED);
    }

    #[test]
    fn a_parameter_has_the_value_at_the_position_of_its_name() {
        let (one, two) = (Span { start: 1, len: 1 }, Span { start: 2, len: 2 });
        let params = Params {
            names: Some([Box::from("a"), Box::from("b")].into()),
            values: vec![one, two],
            head: None,
        };
        for (name, value) in [("a", Some(one)), ("b", Some(two)), ("c", None)] {
            assert_eq!(params.get(name), value, "{name}");
        }
        assert_eq!(Params::default().get("a"), None);
    }
}
