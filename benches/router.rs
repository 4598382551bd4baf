//! What it costs to find a route among 1, 30 and 300: one without parameters, one with, and none.
//!
//! `cargo bench --bench router`, ten seconds.
//!
//! No connection is involved: requests are made beforehand, a few at a time so that they are in the cache, and given
//! to the router. The floor is the handler without one.

use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use gearshift::{Handler, Method, Request, Response, Router, StatusCode, sync};

const ROUTES: [usize; 3] = [1, 30, 300];
/// Requests that are made at a time.
const BATCH: BatchSize = BatchSize::NumIterations(64);

/// What is asked for, and the route that was added for it; `None`: there is none.
const CASES: [(&str, &str, Option<&str>); 3] = [
    ("static", "/api/v1/orders/open", Some("/api/v1/orders/open")),
    ("parameter", "/api/v1/orders/4711", Some("/api/v1/orders/{id}")),
    ("miss", "/api/v1/offers", None),
];

/// As many routes, of which the last is the one sought if there is one. The others are of both kinds.
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

fn ask(handler: &impl Handler, request: Request) -> Response {
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
            let said = block_on(ask(&router, request()).into_body().bytes(100)).expect("a body");
            assert_eq!(said == "found", sought.is_some(), "{said:?}");
            group.bench_function(format!("{case}/{routes}"), |bencher| {
                let check = |request| {
                    let response = ask(&router, request);
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
        bencher.iter_batched(request, |request| ask(&handler, request), BATCH);
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
