//! A client that insists on tokio (reqwest), on every backend: `docs/tokio-only.md`, compiled.
//!
//! `cargo run --example tokio_only -- --backend mio`, then <http://127.0.0.1:8000/fetch>.
//!
//! What needs tokio is made into one future, and that gets `.compat()`. Without it the handler panics on every backend
//! but `tokio`: "there is no reactor running". The tests run this very application on all of them.

use std::process::ExitCode;
use std::time::Duration;

use async_compat::CompatExt;
use futures_lite::stream;
use gearshift::{
    Backend, Body, Request, Response, Router, Runtime, StatusCode, TestServer, blocking, cli, sync,
};
use reqwest::Client;

/// How long an answer may take; reqwest counts it with tokio's timers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the upstream's failure is answered with.
type Refusal = (StatusCode, String);

/// The application: what it answers comes from `upstream`.
pub(crate) fn app(runtime: Runtime, upstream: String) -> Router {
    // A proxy of the environment's would not find a loopback address.
    let client = Client::builder().timeout(PATIENCE).no_proxy().build().expect("reqwest without TLS is made");
    let whole = Upstream { client, url: upstream };
    let (pieces, waits, inner) = (whole.clone(), whole.clone(), runtime.clone());
    Router::new()
        .get("/fetch", move |_: Request| {
            let upstream = whole.clone();
            async move { upstream.fetch().compat().await }
        })
        .get("/relay", move |_: Request| {
            let upstream = pieces.clone();
            async move { upstream.relay().compat().await }
        })
        // In code that may block, the same future runs to its end.
        .get("/fetch-blocking", blocking(&runtime, move |_| inner.block_on(waits.fetch().compat())))
}

/// Where the answers come from.
#[derive(Clone)]
struct Upstream {
    client: Client,
    url: String,
}

impl Upstream {
    /// The whole answer.
    async fn fetch(&self) -> Result<String, Refusal> {
        let response = self.client.get(&self.url).send().await.map_err(bad_gateway)?;
        response.text().await.map_err(bad_gateway)
    }

    /// The answer as it comes. The handler has returned when its pieces are asked for, so that each wait for one is a
    /// future of its own to wrap.
    async fn relay(&self) -> Result<Response, Refusal> {
        let response = self.client.get(&self.url).send().await.map_err(bad_gateway)?;
        let pieces = stream::try_unfold(response, |mut response| {
            async move { Ok::<_, reqwest::Error>(response.chunk().await?.map(|piece| (piece, response))) }
                .compat()
        });
        Ok(Response::text(Body::from_stream(pieces)))
    }
}

fn bad_gateway(error: reqwest::Error) -> Refusal {
    (StatusCode::BAD_GATEWAY, error.to_string())
}

fn main() -> ExitCode {
    let backend = Backend::default().expect("backends are compiled in by default");
    let upstream = TestServer::start(backend, |_| Router::new().get("/", sync(|_| "from upstream\n")));
    match upstream {
        Ok(upstream) => {
            let url = upstream.url();
            cli::run(move |runtime| app(runtime, url))
        }
        Err(error) => {
            eprintln!("the upstream did not start: {error}");
            ExitCode::FAILURE
        }
    }
}
