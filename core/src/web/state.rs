//! The state of an application: values that its handlers share.

use std::any::{Any, type_name};
use std::sync::Arc;

use crate::proto::request::Request;

impl Request {
    /// Returns the state of type `T` that [`Router::with_state`](crate::Router::with_state) has given to the router of
    /// the route. If several routers around the route have a state of this type, it is that of the innermost.
    ///
    /// The `Arc` is that of the router: a state is shared without another `Arc`, and the value that is returned
    /// can be kept beyond the request.
    ///
    /// # Panics
    /// If no router has a state of this type. The peer receives 500.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Method, Request, Router, sync};
    ///
    /// struct Greeting(String);
    ///
    /// let app = Router::new()
    ///     .with_state(Greeting("hello".to_owned()))
    ///     .get("/", sync(|request| request.state::<Greeting>().0.clone()))
    ///     .get("/later", async |request: Request| {
    ///         let greeting = request.state::<Greeting>();
    ///         request.runtime().sleep(std::time::Duration::from_millis(1)).await;
    ///         greeting.0.clone()
    ///     });
    /// # use gearshift::{Answer, Handler};
    /// # let Answer::Ready(response) = app.call(Request::new(Method::GET, "/", ())) else { panic!("it is sync") };
    /// # assert_eq!(response.body().remaining(), Some(5));
    /// ```
    #[track_caller]
    pub fn state<T: Send + Sync + 'static>(&self) -> Arc<T> {
        let name = type_name::<T>();
        match self.try_state() {
            Some(state) => state,
            None if self.try_state::<Arc<T>>().is_some() => {
                panic!(
                    "the state of this request is an Arc<{name}>: give it to the router by `with_shared_state`"
                )
            }
            None => {
                panic!("no router of this request has a state of the type {name}; `with_state` gives it one")
            }
        }
    }

    /// Returns the state of type `T` like [`Request::state`], or `None` if no router has one.
    pub fn try_state<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let state = self.inner().states.as_deref()?.iter().find(|state| (***state).is::<T>())?;
        let state: Arc<dyn Any + Send + Sync> = state.clone();
        state.downcast().ok()
    }
}
