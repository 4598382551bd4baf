//! A service, and connections to it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_lock::Semaphore;
use bytes::Bytes;
use gearshift_core::Runtime;
use gearshift_core::http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};

use crate::error::{ClientError, ErrorKind};
use crate::stream::HyperStream;

type Sender = SendRequest<Full<Bytes>>;

/// A client to one service: its connections are kept, and lent to one request at a time.
///
/// It has no deadline of its own: whoever asks says how long to wait, by [`Runtime::timeout`]. A request whose future
/// is dropped takes its connection with it.
pub struct Client {
    authority: String,
    most_bytes: usize,
    /// One for each request that has a connection or makes one. As it makes one only while none is idle, or for
    /// one that failed, there are never more connections than permits.
    permits: Semaphore,
    idle: Mutex<Vec<Sender>>,
}

impl Client {
    /// The default of [`connections`](Client::connections).
    pub const CONNECTIONS: usize = 64;
    /// The default of [`most_bytes`](Client::most_bytes).
    pub const MOST_BYTES: usize = 1 << 20;

    /// A client to the service at `authority`, `HOST:PORT` or `unix:PATH`, which connects when it is first asked.
    pub fn new(authority: impl Into<String>) -> Client {
        Client {
            authority: authority.into(),
            most_bytes: Client::MOST_BYTES,
            permits: Semaphore::new(Client::CONNECTIONS),
            idle: Mutex::default(),
        }
    }

    /// How many connections there are at once, one at least; a request that needs one more waits for its turn.
    pub fn connections(self, most: usize) -> Client {
        Client { permits: Semaphore::new(most.max(1)), ..self }
    }

    /// How many bytes the body of an answer may have; more are an error.
    pub fn most_bytes(self, most: usize) -> Client {
        Client { most_bytes: most, ..self }
    }

    /// Whom it asks.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The answer to `GET path`.
    ///
    /// # Errors
    /// As [`send`](Client::send).
    ///
    /// # Panics
    /// If `path` is no request target in origin form (RFC 9112, 3.2.1).
    pub async fn get(&self, runtime: &Runtime, path: &str) -> Result<Response<Bytes>, ClientError> {
        let request = Request::get(path).body(Bytes::new()).expect("the path is a request target");
        self.send(runtime, request).await
    }

    /// The whole answer to `request`, whatever its status. A `Host` is added if there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(
        &self,
        runtime: &Runtime,
        mut request: Request<Bytes>,
    ) -> Result<Response<Bytes>, ClientError> {
        if let header::Entry::Vacant(host) = request.headers_mut().entry(header::HOST) {
            // RFC 9112, 3.2: what has no name is sent as an empty field.
            host.insert(HeaderValue::from_str(&self.authority).unwrap_or(HeaderValue::from_static("")));
        }
        let _permit = self.permits.acquire().await;
        let (sender, answer) = self.exchange(runtime, request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.most_bytes).collect().await;
        let body = body.map_err(|error| self.error(ErrorKind::Body(error)))?.to_bytes();
        self.idle().push(sender);
        Ok(Response::from_parts(head, body))
    }

    /// Sends on an idle connection, or else on a new one.
    ///
    /// The service may close a connection at the moment a request is sent on it. One that may be repeated is then sent
    /// once more, on a connection that nobody has used (RFC 9112, 9.3.1).
    async fn exchange(
        &self,
        runtime: &Runtime,
        request: Request<Full<Bytes>>,
    ) -> Result<(Sender, Response<Incoming>), ClientError> {
        let failed = |error| self.error(ErrorKind::Exchange(error));
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.send_request(request.clone()).await {
                Ok(answer) => return Ok((sender, answer)),
                Err(_) if request.method().is_idempotent() => break,
                Err(error) => return Err(failed(error)),
            }
        }
        let stream = runtime.connect(&self.authority).await;
        let stream = stream.map_err(|error| self.error(ErrorKind::Connect(error)))?;
        let (mut sender, connection) = http1::handshake(HyperStream(stream)).await.map_err(failed)?;
        runtime.spawn(connection).detach();
        let answer = sender.send_request(request).await.map_err(failed)?;
        Ok((sender, answer))
    }

    /// Closes the idle connections, whose tasks would keep a server that stops waiting: for
    /// [`App::on_stop`](gearshift_core::App::on_stop).
    pub fn close(&self) {
        self.idle().clear();
    }

    /// The connection that was used last, so that those in excess are left to time out.
    fn take_idle(&self) -> Option<Sender> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Sender>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, kind: ErrorKind) -> ClientError {
        ClientError { authority: self.authority.clone(), kind }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("authority", &self.authority).finish_non_exhaustive()
    }
}
