//! A gateway to micro-services. It shows the cost of waiting for several services at once, for one after the other, and
//! for services that are late or down.
//!
//! The calls use hyper-util's pooled client on [`gearshift::hyper`], on every backend.

mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use gearshift::{
    App, Bytes, Handler, IntoResponse, Refusal, Request, Response, Router, Runtime, StatusCode, sync,
};
use serde_json::{Value, json};

use upstream::{Upstream, bad_gateway};

/// The largest number of calls of one request.
const MAX_CALLS: usize = 32;
/// The parts of the document of `/aggregate`. Each comes from the next service.
const PARTS: [&str; 3] = ["users", "orders", "prices"];

/// The gateway to `services`, a list of at least one `HOST:PORT`. Each call to a service fails after `deadline`.
pub fn app(services: Vec<String>, deadline: Duration) -> App {
    App::new(move |runtime: Runtime| {
        let services =
            services.into_iter().map(|authority| Upstream::new(&runtime, authority, deadline)).collect();
        let gateway = Gateway { runtime, services, deadline };
        Router::new()
            .get("/fan/{n}/{ms}", gateway.handler(fan))
            .get("/chain/{n}/{ms}", gateway.handler(chain))
            .get("/aggregate", gateway.handler(aggregate))
    })
}

#[derive(Clone)]
struct Gateway {
    runtime: Runtime,
    services: Arc<[Upstream]>,
    deadline: Duration,
}

impl Gateway {
    fn handler<F, R>(&self, respond: fn(Gateway, Request) -> F) -> impl Handler + use<F, R>
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let gateway = self.clone();
        move |request| respond(gateway.clone(), request)
    }

    /// Calls a service, within the deadline.
    async fn get(&self, service: usize, path: &str) -> Result<Bytes, Refusal> {
        let service = &self.services[service % self.services.len()];
        self.runtime.timeout(self.deadline, service.get(path)).await?
    }

    async fn part(&self, service: usize, name: &str) -> Result<Value, Refusal> {
        let body = self.get(service, &format!("/json/{name}")).await?;
        serde_json::from_slice(&body).map_err(|error| bad_gateway(error.to_string()))
    }
}

/// Calls a service `n` times at once. This takes as long as the longest call. The first error cancels the other calls.
async fn fan(gateway: Gateway, request: Request) -> Result<String, Refusal> {
    let (n, path) = calls(&request)?;
    try_join_all((0..n).map(|_| gateway.get(0, &path))).await?;
    Ok(format!("{n} calls at once\n"))
}

/// Calls a service `n` times, one call after the other. This takes as long as all calls together.
async fn chain(gateway: Gateway, request: Request) -> Result<String, Refusal> {
    let (n, path) = calls(&request)?;
    for _ in 0..n {
        gateway.get(0, &path).await?;
    }
    Ok(format!("{n} calls in a row\n"))
}

/// The number of calls that a request asks for, and the path to call.
fn calls(request: &Request) -> Result<(usize, String), Refusal> {
    let n = request.parse_param("n")?;
    let millis: u32 = request.parse_param("ms")?;
    if n > MAX_CALLS {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("n is at most {MAX_CALLS}")));
    }
    Ok((n, format!("/wait/{millis}")))
}

/// Joins the responses of several services into one document. If some of them fail, the document is partial and lists
/// what is missing. If all of them fail, the status is 502.
async fn aggregate(gateway: Gateway, _: Request) -> Response {
    let calls = PARTS.iter().enumerate().map(|(service, name)| gateway.part(service, name));
    let (mut parts, mut missing) = (BTreeMap::new(), BTreeMap::new());
    for (name, outcome) in PARTS.into_iter().zip(join_all(calls).await) {
        match outcome {
            Ok(part) => drop(parts.insert(name, part)),
            Err(refusal) => drop(missing.insert(name, refusal.why().to_owned())),
        }
    }
    let status = if parts.is_empty() { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    let whole = json!({ "partial": !missing.is_empty(), "parts": parts, "missing": missing });
    Response::json(&whole).with_status(status)
}

/// A service to try the gateway with: `/wait/{ms}` and `/json/{name}`.
pub fn service() -> Router {
    let wait = async |request: Request| {
        let millis: u32 = request.parse_param("ms")?;
        request.runtime().sleep(Duration::from_millis(millis.into())).await;
        Ok::<_, Refusal>("ok")
    };
    let name =
        |request: Request| Response::json(&json!({ "name": request.param("name").unwrap_or_default() }));
    Router::new().get("/wait/{ms}", wait).get("/json/{name}", sync(name))
}
