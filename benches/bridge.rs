//! The cost of each kind of handler on each backend: sync, async, `blocking`, `compute`, a spawned task, and a task of
//! tokio. All handlers return a constant, so that the differences are the cost of the hop.
//!
//! `cargo bench --bench bridge` takes a minute and a half; `-- mio/1` runs a part.
//!
//! With 1 connection the time is the latency of a request, with 16 it is the time of sixteen simultaneous requests. The
//! server's CPU time per request is printed below it. Each server is a process configured for one core.

mod loopback;

use std::cell::LazyCell;

use async_compat::CompatExt;
use criterion::{Criterion, Throughput};
use gearshift::{Backend, Request, Router, Runtime, blocking, compute, sync};
use loopback::{Served, Work};

const TEXT: &str = "Hello, World!";

/// The kinds of handlers, which are also the routes.
const HANDLERS: [&str; 6] = ["sync", "async", "blocking", "compute", "spawn", "compat"];
const CONNECTIONS: [usize; 2] = [1, 16];

fn main() {
    loopback::run(app, &[each_handler]);
}

fn app(runtime: Runtime) -> Router {
    let spawns = runtime;
    Router::new()
        .get("/sync", sync(|_| TEXT))
        .get("/async", async |_: Request| TEXT)
        .get("/blocking", blocking(|_| TEXT))
        .get("/compute", compute(|_| TEXT))
        .get("/spawn", move |_: Request| {
            let task = spawns.spawn(async { TEXT });
            async move { task.await.unwrap_or("cancelled") }
        })
        // A tokio task runs on the thread of `async-compat`.
        .get("/compat", async |_: Request| {
            async { tokio::spawn(async { TEXT }).await.unwrap_or("cancelled") }.compat().await
        })
}

fn each_handler(criterion: &mut Criterion) {
    for &backend in Backend::available() {
        let server = LazyCell::new(|| Served::start(backend));
        for connections in CONNECTIONS {
            let mut group = criterion.benchmark_group(format!("{backend}/{connections}"));
            group.throughput(Throughput::Elements(connections as u64));
            for handler in HANDLERS {
                let request = format!("GET /{handler} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
                let work = Work { request, body: TEXT.into() };
                loopback::measure(&mut group, handler, &server, &work, connections);
            }
            group.finish();
        }
    }
}
