//! What it costs on each backend to run a handler where it belongs: in place, as a future, where it may block, where it
//! may burn CPU, as a task, or inside tokio. All handlers do the same, next to nothing, so that the rest is the hop.
//!
//! `cargo bench --bench bridge`, a minute and a half; `-- mio/1` for a part.
//!
//! With 1 connection the time is the latency of a request; with 16 it is that of sixteen that are sent at once. Below
//! it is the server's CPU time for each request, from `/proc`: the client's is not in it. Each server is a process of its
//! own, as for one core.

mod loopback;

use std::cell::LazyCell;

use async_compat::CompatExt;
use criterion::{Criterion, Throughput};
use gearshift::{Backend, Request, Router, Runtime, blocking, compute, sync};
use loopback::{Served, Work};

const SAID: &str = "Hello, World!";

/// The routes, and so the handlers.
const HANDLERS: [&str; 6] = ["sync", "async", "blocking", "compute", "spawn", "compat"];
const CONNECTIONS: [usize; 2] = [1, 16];

fn main() {
    loopback::run(app, &[each_handler]);
}

fn app(runtime: Runtime) -> Router {
    let spawns = runtime.clone();
    Router::new()
        .get("/sync", sync(|_| SAID))
        .get("/async", async |_: Request| SAID)
        .get("/blocking", blocking(|_| SAID))
        .get("/compute", compute(|_| SAID))
        .get("/spawn", move |_: Request| {
            let task = spawns.spawn(async { SAID });
            async move { task.await.unwrap_or("it was cancelled") }
        })
        // A task of tokio's own: to the thread of `async-compat`, and back.
        .get("/compat", async |_: Request| {
            async { tokio::spawn(async { SAID }).await.unwrap_or("it was cancelled") }.compat().await
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
                let work = Work { request, body: SAID.into() };
                loopback::measure(&mut group, handler, &server, &work, connections);
            }
            group.finish();
        }
    }
}
