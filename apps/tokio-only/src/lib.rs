//! An application that uses a library which needs tokio (reqwest), on every backend. `docs/tokio-only.md` explains it.
//!
//! The future that needs tokio is wrapped by [`compat`](CompatExt::compat). Without it the handler panics on every
//! backend but `tokio`: "there is no reactor running". The tests run this application on every backend.

use std::time::Duration;

use async_compat::CompatExt;
use futures_lite::stream;
use gearshift::{Body, Request, Response, Router, StatusCode, blocking};
use reqwest::Client;

/// How long the upstream may take to answer. reqwest measures it with tokio's timers.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The response to a request whose upstream failed.
type BadGateway = (StatusCode, String);

/// The application. Its responses come from the server at the URL `upstream`.
///
/// # Panics
/// If reqwest cannot make a client, which happens only with TLS compiled in.
pub fn app(upstream: String) -> Router {
    // A proxy set in the environment does not reach a loopback address.
    let client =
        Client::builder().timeout(TIMEOUT).no_proxy().build().expect("reqwest without TLS makes a client");
    let whole = Upstream { client, url: upstream };
    let (pieces, waits) = (whole.clone(), whole.clone());
    Router::new()
        .get("/fetch", move |_: Request| {
            let upstream = whole.clone();
            async move { upstream.fetch().compat().await }
        })
        .get("/relay", move |_: Request| {
            let upstream = pieces.clone();
            async move { upstream.relay().compat().await }
        })
        // A handler that may block runs the same future to its end.
        .get("/fetch-blocking", blocking(move |request| request.runtime().block_on(waits.fetch().compat())))
}

/// The server that the responses come from.
#[derive(Clone)]
struct Upstream {
    client: Client,
    url: String,
}

impl Upstream {
    /// Its whole response.
    async fn fetch(&self) -> Result<String, BadGateway> {
        let response = self.client.get(&self.url).send().await.map_err(bad_gateway)?;
        response.text().await.map_err(bad_gateway)
    }

    /// Its response, piece by piece. The handler has returned when the pieces are asked for, so each wait for a piece
    /// is a separate future and is wrapped separately.
    async fn relay(&self) -> Result<Response, BadGateway> {
        let response = self.client.get(&self.url).send().await.map_err(bad_gateway)?;
        let pieces = stream::try_unfold(response, |mut response| {
            async move { Ok::<_, reqwest::Error>(response.chunk().await?.map(|piece| (piece, response))) }
                .compat()
        });
        Ok(Response::text(Body::from_stream(pieces)))
    }
}

fn bad_gateway(error: reqwest::Error) -> BadGateway {
    (StatusCode::BAD_GATEWAY, error.to_string())
}
