//! A service that is a part of distributed traces. It shows how the spans of gearshift become spans of OpenTelemetry,
//! and how a call to another service carries the trace.
//!
//! `cargo run -p traced` writes the spans to standard output. A service in production has an exporter for OTLP in place
//! of that one, with a batch processor.

mod telemetry;

use std::error::Error;

use gearshift::http::{Request as HttpRequest, Uri};
use gearshift::hyper::{Connector, Executor};
use gearshift::{Bytes, Handler, Refusal, Request, Router, Runtime, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use tracing::info;

pub use telemetry::start;

/// The largest body of the other service, in bytes.
const MAX_BYTES: usize = 1 << 16;

/// The application: `/work/{ms}` waits, and `/via/{port}/{ms}` asks the service at that port of this machine to do so.
pub fn app(runtime: Runtime) -> Router {
    Router::new().get("/work/{ms}", work).get("/via/{port}/{ms}", via(&runtime))
}

async fn work(request: Request) -> Result<String, Refusal> {
    let ms = request.parse_param("ms")?;
    let runtime = request.runtime();
    info!("the work begins");
    runtime.sleep(std::time::Duration::from_millis(ms)).await;
    // The job is inside of the same span.
    let sum = runtime.compute(|| {
        info!("the numbers are added");
        (0..1_000_u64).sum::<u64>()
    });
    Ok(sum.await.to_string())
}

fn via(runtime: &Runtime) -> impl Handler + use<> {
    let client: Client<Connector, Empty<Bytes>> =
        Client::builder(Executor::new(runtime)).build(Connector::new(runtime));
    move |request: Request| {
        let client = client.clone();
        async move {
            let (port, ms): (u16, u64) = (request.parse_param("port")?, request.parse_param("ms")?);
            let uri: Uri = format!("http://127.0.0.1:{port}/work/{ms}").parse().map_err(bad_gateway)?;
            let mut call = HttpRequest::new(Empty::new());
            *call.uri_mut() = uri;
            telemetry::inject(call.headers_mut());
            let response = client.request(call).await.map_err(bad_gateway)?;
            let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(bad_gateway)?;
            Ok::<_, Refusal>(body.to_bytes())
        }
    }
}

fn bad_gateway(error: impl Into<Box<dyn Error + Send + Sync>>) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, error.into().to_string())
}
