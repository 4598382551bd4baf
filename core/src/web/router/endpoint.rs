//! A handler of a route with the middleware, states and options around it.

use std::any::Any;
use std::sync::Arc;

use crate::conn::handler::{Answer, Handler, RouteOptions};
use crate::proto::request::Request;
use crate::proto::request_parts::States;
use crate::web::middleware::{Middleware, Next};

/// What a router has for all of its routes.
#[derive(Default)]
pub(super) struct Group {
    /// The first one is the outermost.
    pub(super) middleware: Vec<Arc<dyn Middleware>>,
    pub(super) states: Vec<Arc<dyn Any + Send + Sync>>,
    pub(super) options: RouteOptions,
}

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Endpoint {
    /// The handler without the group of its router. A handler of a nested router has the group of that router.
    inner: Arc<dyn Handler>,
    /// The states of the nested routers around `inner`, the innermost first.
    inner_states: Vec<Arc<dyn Any + Send + Sync>>,
    inner_options: RouteOptions,
    /// The handler with the middleware of the group.
    chain: Arc<dyn Handler>,
    /// `None` if a request needs nothing of it, which is the case for most routes.
    setup: Option<Box<Setup>>,
}

/// What the router does for a request before it calls the chain.
#[derive(Clone)]
struct Setup {
    states: Option<States>,
    options: RouteOptions,
}

impl Endpoint {
    pub(super) fn new(handler: impl Handler) -> Endpoint {
        let inner_options = handler.options();
        let inner: Arc<dyn Handler> = Arc::new(handler);
        Endpoint { chain: inner.clone(), inner, inner_states: Vec::new(), inner_options, setup: None }
    }

    /// The same handler in a group.
    pub(super) fn within(mut self, group: &Group) -> Endpoint {
        self.build(group);
        self
    }

    /// The same handler, in the group of the router that is nested now. The caller puts it into the outer group.
    pub(super) fn nested(mut self, group: &Group) -> Endpoint {
        self.inner = self.chain.clone();
        self.inner_states.extend(group.states.iter().cloned());
        self.inner_options = self.inner_options.or(group.options);
        self
    }

    /// Sets the options of the handler, which have precedence over those that it has.
    pub(super) fn prefer(&mut self, options: RouteOptions, group: &Group) {
        self.inner_options = options.or(self.inner_options);
        self.build(group);
    }

    /// Puts `group` around the handler, in place of what it had before.
    pub(super) fn build(&mut self, group: &Group) {
        let around = |next: Arc<dyn Handler>, middleware: &Arc<dyn Middleware>| {
            middleware.wrap(Next::new(next)).into()
        };
        self.chain = group.middleware.iter().rev().fold(self.inner.clone(), around);
        let states: Vec<_> = self.inner_states.iter().chain(&group.states).cloned().collect();
        let options = self.inner_options.or(group.options);
        let states = (!states.is_empty()).then(|| States::from(states));
        let is_needed = states.is_some() || options != RouteOptions::default();
        self.setup = is_needed.then(|| Box::new(Setup { states, options }));
    }

    #[inline(always)]
    pub(super) fn call(&self, request: Request) -> Answer {
        match &self.setup {
            None => self.chain.call(request),
            Some(setup) => setup.call(request, &*self.chain),
        }
    }
}

impl Setup {
    fn call(&self, mut request: Request, chain: &dyn Handler) -> Answer {
        if let Some(states) = &self.states {
            request.inner_mut().states = Some(states.clone());
        }
        if let Some(limit) = self.options.body_limit {
            request.set_body_limit(limit);
        }
        chain.call(request).with_outer(self.options)
    }
}
