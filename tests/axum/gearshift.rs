//! The server behind `axum::serve` in a copy of axum: Gearshift, on the backend that the environment variable
//! `AXUM_BACKEND` names. Without the variable it is axum's own server. The name of the backend is added to the file
//! `AXUM_SERVERS`, if that is set, for each server that starts.
//!
//! `tests/axum/patch` adds this file to the copy as the module `serve::gearshift`.

use std::any::Any;
use std::convert::Infallible;
use std::fs::File;
use std::future::{Future, poll_fn};
use std::io::{self, Write as _};
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;

use axum_core::{body::Body, extract::Request, response::Response};
use gearshift::{Backend, Bind, BoxFuture, Config, RequestContext, Server, Shutdown};
use tokio::sync::oneshot;
use tower::ServiceExt as _;
use tower_service::Service;

use super::{IncomingStream, Listener};

/// Serves a TCP listener on the backend until `signal` resolves and the requests in flight have ended. Returns
/// everything if no backend is named, or if `listener` is not one of TCP.
pub(super) async fn serve<L, M, S, F>(listener: L, make: M, signal: F) -> Result<(), (L, M, F)>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    F: Future<Output = ()>,
{
    let Ok(name) = std::env::var("AXUM_BACKEND") else {
        return Err((listener, make, signal));
    };
    let listener = match listener.into_tcp() {
        Ok(listener) => listener,
        Err(listener) => return Err((listener, make, signal)),
    };
    let app = App { make: Arc::new(Mutex::new(make)), logs: Logs::here(), listener: PhantomData };
    let (stop, ended) = start(&name, listener, app).expect("the server starts");
    let stop = Stop(stop);
    tokio::pin!(ended);
    tokio::select! {
        ended = &mut ended => panic!("the server has ended: {ended:?}"),
        () = signal => {}
    }
    drop(stop);
    if let Ok(Err(error)) = ended.await {
        panic!("the server failed: {error}");
    }
    Ok(())
}

/// Starts a server on a thread.
fn start<L, M, S>(
    name: &str,
    listener: TcpListener,
    app: App<L, M>,
) -> Result<(Shutdown, oneshot::Receiver<Result<(), String>>), Box<dyn std::error::Error>>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let backend: Backend = name.parse()?;
    let descriptor = Bind::Fd(listener.as_raw_fd().try_into()?);
    let server = Server::bind(&[descriptor], Config::default())?;
    let stop = server.shutdown();
    if let Ok(path) = std::env::var("AXUM_SERVERS") {
        writeln!(File::options().append(true).create(true).open(path)?, "{name}")?;
    }
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name(name.into()).spawn(move || {
        let outcome = backend.serve(server, gearshift::App::new(move |_| gearshift::tower::service(app)));
        let _ = end.send(outcome.map(drop).map_err(|error| error.to_string()));
    })?;
    Ok((stop, ended))
}

/// Stops the server gracefully when it is dropped, as it is with the runtime of a test.
struct Stop(Shutdown);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.graceful();
    }
}

/// The service of the application. axum makes a service for each connection, and this for each request.
struct App<L, M> {
    make: Arc<Mutex<M>>,
    logs: Logs,
    listener: PhantomData<fn(L)>,
}

impl<L, M> Clone for App<L, M> {
    fn clone(&self) -> Self {
        App { make: self.make.clone(), logs: self.logs.clone(), listener: PhantomData }
    }
}

impl<L, M, S> Service<http::Request<gearshift::Body>> for App<L, M>
where
    L: Listener,
    M: for<'a> Service<IncomingStream<'a, L>, Error = Infallible, Response = S> + Send + 'static,
    for<'a> <M as Service<IncomingStream<'a, L>>>::Future: Send,
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<gearshift::Body>) -> Self::Future {
        let make = self.make.clone();
        let response = async move {
            poll_fn(|cx| make.lock().unwrap().poll_ready(cx)).await?;
            let peer = RequestContext::of(request.extensions()).and_then(|context| context.peer());
            let service =
                make.lock().unwrap().call(IncomingStream { io: None, remote_addr: address::<L>(peer) });
            service.await?.oneshot(request.map(Body::new)).await
        };
        self.logs.receive(response)
    }
}

/// The subscriber of logs that the thread of a test has, for the threads of the server.
#[derive(Clone)]
struct Logs {
    #[cfg(feature = "tracing")]
    subscriber: tracing::Dispatch,
}

#[cfg(feature = "tracing")]
impl Logs {
    fn here() -> Logs {
        Logs { subscriber: tracing::dispatcher::get_default(Clone::clone) }
    }

    fn receive<F: Future + Send + 'static>(&self, future: F) -> BoxFuture<F::Output> {
        Box::pin(tracing::instrument::WithSubscriber::with_subscriber(future, self.subscriber.clone()))
    }
}

#[cfg(not(feature = "tracing"))]
impl Logs {
    fn here() -> Logs {
        Logs {}
    }

    fn receive<F: Future + Send + 'static>(&self, future: F) -> BoxFuture<F::Output> {
        Box::pin(future)
    }
}

/// The address of the peer. The listener is one of TCP.
fn address<L: Listener>(peer: Option<SocketAddr>) -> L::Addr {
    let peer: Box<dyn Any> = Box::new(peer.expect("a peer of TCP has an address"));
    *peer.downcast().expect("the listener is one of TCP")
}

/// The socket of a listener of TCP, or the listener.
pub(super) fn into_tcp<L: Listener>(listener: L) -> Result<TcpListener, L> {
    let mut listener = Some(listener);
    let any: &mut dyn Any = &mut listener;
    match any.downcast_mut::<Option<tokio::net::TcpListener>>().and_then(Option::take) {
        Some(listener) => Ok(into_std(listener).expect("the runtime gives its socket back")),
        None => Err(listener.expect("it was not taken")),
    }
}

fn into_std(listener: tokio::net::TcpListener) -> io::Result<TcpListener> {
    listener.into_std()
}
