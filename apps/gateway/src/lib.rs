//! A gateway to micro-services: what it costs to wait for many at once, for one after the other, and for some that
//! may be late or down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use gearshift::{
    App, Bytes, Handler, IntoResponse, Refusal, Request, Response, Router, Runtime, StatusCode, sync,
};
use gearshift_client::Client;
use serde_json::{Value, json};

/// The most calls of one request.
const MOST_CALLS: usize = 32;
/// What `/aggregate` puts together, each from the next service.
const PARTS: [&str; 3] = ["users", "orders", "prices"];

/// The gateway to `services`, one `HOST:PORT` at least, each of which has `deadline` to answer a call.
pub fn app(services: Vec<String>, deadline: Duration) -> App {
    let services: Arc<[Client]> = services.into_iter().map(Client::new).collect();
    let stopping = services.clone();
    let start = move |runtime| {
        let gateway = Gateway { runtime, services, deadline };
        Router::new()
            .get("/fan/{n}/{ms}", gateway.answers(fan))
            .get("/chain/{n}/{ms}", gateway.answers(chain))
            .get("/aggregate", gateway.answers(aggregate))
    };
    App::new(start).on_stop(async move || stopping.iter().for_each(Client::close))
}

#[derive(Clone)]
struct Gateway {
    runtime: Runtime,
    services: Arc<[Client]>,
    deadline: Duration,
}

impl Gateway {
    fn answers<F, R>(&self, answer: fn(Gateway, Request) -> F) -> impl Handler + use<F, R>
    where
        F: Future<Output = R> + Send + 'static,
        R: IntoResponse + 'static,
    {
        let gateway = self.clone();
        move |request| answer(gateway.clone(), request)
    }

    /// The body of a successful answer of a service.
    async fn get(&self, service: usize, path: &str) -> Result<Bytes, Refusal> {
        let service = &self.services[service % self.services.len()];
        let answer = self.runtime.timeout(self.deadline, service.get(&self.runtime, path)).await??;
        if !answer.status().is_success() {
            return Err(bad_gateway(format!("{}: {}", service.authority(), answer.status())));
        }
        Ok(answer.into_body())
    }

    async fn part(&self, service: usize, name: &str) -> Result<Value, Refusal> {
        let body = self.get(service, &format!("/json/{name}")).await?;
        serde_json::from_slice(&body).map_err(|error| bad_gateway(error.to_string()))
    }
}

fn bad_gateway(why: String) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, why)
}

/// All calls at once: as long as the longest. The first that fails ends the others.
async fn fan(gateway: Gateway, request: Request) -> Result<String, Refusal> {
    let (n, path) = calls(&request)?;
    try_join_all((0..n).map(|_| gateway.get(0, &path))).await?;
    Ok(format!("{n} calls at once\n"))
}

/// One call after the other: as long as their sum.
async fn chain(gateway: Gateway, request: Request) -> Result<String, Refusal> {
    let (n, path) = calls(&request)?;
    for _ in 0..n {
        gateway.get(0, &path).await?;
    }
    Ok(format!("{n} calls in a row\n"))
}

/// How many calls a request asks for, and of what.
fn calls(request: &Request) -> Result<(usize, String), Refusal> {
    let n = request.parse_param("n")?;
    let millis: u32 = request.parse_param("ms")?;
    if n > MOST_CALLS {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("n is {MOST_CALLS} at most")));
    }
    Ok((n, format!("/wait/{millis}")))
}

/// What services say, in one document: partial, and saying so, if some fail; 502 only if all do.
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

/// A service for when there is none to call: `/wait/{ms}` and `/json/{name}`.
pub fn service(runtime: Runtime) -> Router {
    let wait = move |request: Request| {
        let runtime = runtime.clone();
        async move {
            let millis: u32 = request.parse_param("ms")?;
            runtime.sleep(Duration::from_millis(millis.into())).await;
            Ok::<_, Refusal>("ok")
        }
    };
    let name =
        |request: Request| Response::json(&json!({ "name": request.param("name").unwrap_or_default() }));
    Router::new().get("/wait/{ms}", wait).get("/json/{name}", sync(name))
}
