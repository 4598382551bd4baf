//! The cost of finding a route among 1, 30 and 300: a static route, a route with a parameter, and no route.
//!
//! `cargo bench --bench router` takes ten seconds.
//!
//! There is no connection. Requests are created in small batches, so that they are in the cache, and passed to the
//! router. The handler without a router is the lower bound.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use gearshift::{Handler, Method, Request, Response, Router, StatusCode, sync};

const ROUTES: [usize; 3] = [1, 30, 300];
/// Number of requests created at once.
const BATCH: BatchSize = BatchSize::NumIterations(64);

/// Name, request target, and the route that matches it, if any.
const CASES: [(&str, &str, Option<&str>); 3] = [
    ("static", "/api/v1/orders/open", Some("/api/v1/orders/open")),
    ("parameter", "/api/v1/orders/4711", Some("/api/v1/orders/{id}")),
    ("miss", "/api/v1/offers", None),
];

/// A router of `routes` routes. The last one is `sought`; the others are half static, half with parameters.
fn router(routes: usize, sought: Option<&str>) -> Router {
    let others = routes - usize::from(sought.is_some());
    let router = (0..others).fold(Router::new(), |router, n| match n % 2 {
        0 => router.get(&format!("/api/v1/things{n}/latest"), sync(|_| "another")),
        _ => router.get(&format!("/api/v1/things{n}/{{id}}/parts/{{part}}"), sync(|_| "another")),
    });
    match sought {
        Some(path) => router.get(path, sync(found)),
        None => router,
    }
}

fn found(_: Request) -> Response {
    Response::text("found")
}

fn call(handler: &impl Handler, request: Request) -> Response {
    block_on(handler.call(request).response())
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    group.throughput(Throughput::Elements(1));
    for (case, target, sought) in CASES {
        let request = || Request::new(Method::GET, target, ());
        let expected = if sought.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        for routes in ROUTES {
            let router = router(routes, sought);
            assert_eq!(router.routes().count(), routes);
            let text = block_on(call(&router, request()).into_body().bytes(100)).expect("a body");
            assert_eq!(text == "found", sought.is_some(), "{text:?}");
            group.bench_function(format!("{case}/{routes}"), |bencher| {
                let check = |request| {
                    let response = call(&router, request);
                    assert_eq!(response.status(), expected);
                    response
                };
                bencher.iter_batched(request, check, BATCH);
            });
        }
    }
    let handler = sync(found);
    group.bench_function("the handler alone", |bencher| {
        let request = || Request::new(Method::GET, CASES[0].1, ());
        bencher.iter_batched(request, |request| call(&handler, request), BATCH);
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .nresamples(2000);
    targets = find
}
criterion_main!(benches);
