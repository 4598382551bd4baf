//! Values of the application that panic when they are dropped. The panic is logged, and has no other effect.

use std::future::Future;
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{StreamExt, future, stream};
use gearshift::{
    Answer, App, Backend, Body, BoxError, BoxFuture, Bytes, Config, Handler, HeaderValue, Request, Response,
    Router, Runtime, blocking, header, sync,
};
use socket2::SockRef;
use test_support::app::ON_PURPOSE;
use test_support::backend::few_workers;
use test_support::server::Launched;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "drops",
    &[
        ("a_blocking_job_that_nobody_waits_for_leaves_its_place", |backend| jobs(backend, Kind::Blocking)),
        ("a_compute_job_that_nobody_waits_for_leaves_its_place", |backend| jobs(backend, Kind::Compute)),
        ("a_task_whose_output_nobody_takes_ends_alone", tasks),
        ("a_handler_that_has_ended_is_answered", ended_handlers),
        ("the_payload_of_a_panic_is_dropped", payloads),
        ("a_handler_that_is_late_is_answered", late_handlers),
        ("a_handler_whose_peer_leaves_ends_alone", abandoned_handlers),
        ("a_streamed_body_that_has_ended_is_complete", ended_bodies),
        ("a_streamed_body_whose_peer_leaves_ends_alone", abandoned_bodies),
        ("an_upgraded_connection_ends_alone", upgraded),
        ("the_rest_of_a_response_leaves_the_connection_as_it_is", responses),
        ("a_forced_stop_ends_without_an_error", forced),
        ("a_graceful_stop_ends_without_an_error", graceful),
    ],
);

/// A value that counts its drop and then panics.
struct Bomb(Count);

type Count = Arc<AtomicUsize>;

impl Drop for Bomb {
    #[expect(clippy::panic)]
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a value panics when it is dropped, {ON_PURPOSE}");
    }
}

fn reads(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

/// A server whose application gets the count of the drops.
fn launch(
    backend: Backend,
    config: Config,
    app: impl FnOnce(Runtime, Count) -> Router + Send + 'static,
) -> (Launched, Count) {
    let freed = Count::default();
    let counted = freed.clone();
    let server =
        Launched::start(backend, config, move |runtime| app(runtime, counted).get("/", sync(|_| "fine")));
    (server, freed)
}

fn settings(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    (config.blocking_threads, config.compute_threads) = (1, Some(1));
    config.graceful_timeout = PATIENCE;
    config
}

/// Expects that a server goes on, and that it has dropped so many bombs.
fn expect_fine(server: &Launched, freed: &Count, bombs: usize) {
    wait_until("all values are dropped", || reads(freed) == bombs);
    for _ in 0..6 {
        assert_eq!(server.client().get("/").text(), "fine");
    }
    assert_eq!(reads(freed), bombs);
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Blocking,
    Compute,
}

/// Runs a job on the pool of a kind.
fn offload<R: Send + 'static>(
    runtime: &Runtime,
    kind: Kind,
    work: impl FnOnce() -> R + Send + 'static,
) -> BoxFuture<R> {
    match kind {
        Kind::Blocking => Box::pin(runtime.blocking(work)),
        Kind::Compute => Box::pin(runtime.compute(work)),
    }
}

/// A job that ends when `end` is dropped. The future was polled, and the job runs.
async fn running<R: Send + 'static>(
    runtime: &Runtime,
    kind: Kind,
    work: impl FnOnce() -> R + Send + 'static,
) -> (BoxFuture<R>, mpsc::Sender<()>) {
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let mut job = offload(runtime, kind, move || {
        let _ = begin.send(());
        let _ = ended.recv();
        work()
    });
    while begun.try_recv().is_err() {
        assert!(future::poll_once(&mut job).await.is_none());
        runtime.sleep(Duration::from_millis(1)).await;
    }
    (job, end)
}

/// Waits until no job of the kind runs.
async fn until_idle(runtime: &Runtime, kind: Kind) {
    let running = || match kind {
        Kind::Blocking => runtime.stats().blocking.running,
        Kind::Compute => runtime.stats().compute.running,
    };
    while running() > 0 {
        runtime.sleep(Duration::from_millis(1)).await;
    }
}

/// Gives up jobs at each moment of their life. The pool has one thread.
async fn give_up_jobs(runtime: Runtime, kind: Kind, freed: Count) -> usize {
    let bomb = || Bomb(freed.clone());
    // The job is in the queue.
    let (busy, end) = running(&runtime, kind, || ()).await;
    let input = bomb();
    let mut queued = offload(&runtime, kind, move || drop(input));
    assert!(future::poll_once(&mut queued).await.is_none());
    drop(queued);
    drop(end);
    busy.await;
    // The job was not started.
    let input = bomb();
    drop(offload(&runtime, kind, move || drop(input)));
    // The job runs: the thread drops the output.
    let output = bomb();
    let (job, end) = running(&runtime, kind, || output).await;
    drop(job);
    drop(end);
    until_idle(&runtime, kind).await;
    // The job has ended.
    let output = bomb();
    let (job, end) = running(&runtime, kind, || output).await;
    drop(end);
    until_idle(&runtime, kind).await;
    drop(job);
    // The job panics.
    for waits in [false, true] {
        let payload = bomb();
        let (job, end) = running(&runtime, kind, || panic_any(payload)).await;
        if !waits {
            drop(job);
            drop(end);
            until_idle(&runtime, kind).await;
        } else {
            drop(end);
            until_idle(&runtime, kind).await;
            drop(job);
        }
    }
    // The output is dropped with the future that waits for it.
    assert_eq!(offload(&runtime, kind, || 7).await, 7);
    reads(&freed)
}

fn jobs(backend: Backend, kind: Kind) {
    let (server, freed) = launch(backend, settings(backend), move |runtime, freed| {
        Router::new().get("/drop", move |_| {
            let task = runtime.spawn(give_up_jobs(runtime.clone(), kind, freed.clone()));
            async move { format!("{:?}", task.await) }
        })
    });
    assert_eq!(server.client().get("/drop").said(), (200, "Ok(6)".into()));
    expect_fine(&server, &freed, 6);
    server.stop();
}

fn tasks(backend: Backend) {
    let (server, freed) = launch(backend, settings(backend), |runtime, freed| {
        Router::new().get("/drop", move |_| give_up_tasks(runtime.clone(), freed.clone()))
    });
    for n in 1..=3 {
        assert_eq!(server.client().get("/drop").said(), (200, "done".into()));
        expect_fine(&server, &freed, 8 * n);
    }
    server.stop();
}

/// Gives up tasks, each of which drops one bomb.
async fn give_up_tasks(runtime: Runtime, freed: Count) -> &'static str {
    let bomb = || Bomb(freed.clone());
    let returns = |bomb: Bomb| async { bomb };
    let waits = |bomb: Bomb| async {
        future::yield_now().await;
        bomb
    };
    let never = |bomb: Bomb| async {
        future::pending::<()>().await;
        drop(bomb);
    };
    runtime.spawn(returns(bomb())).detach();
    runtime.spawn(waits(bomb())).detach();
    let panics = bomb();
    runtime.spawn::<BoxFuture<()>>(Box::pin(async { panic_any(panics) })).detach();
    // The handles of tasks that have ended, and have an output.
    let ended = runtime.spawn(returns(bomb()));
    let mut scope = runtime.scope();
    let in_scope = scope.spawn(returns(bomb()));
    while !ended.is_finished() || !in_scope.is_finished() {
        runtime.sleep(Duration::from_millis(1)).await;
    }
    drop((ended, in_scope));
    // Tasks that are cancelled.
    let cancelled = runtime.spawn(never(bomb()));
    cancelled.cancel();
    drop(cancelled);
    scope.spawn(never(bomb())).detach();
    drop(scope);
    let aborted = runtime.spawn(never(bomb()));
    aborted.cancel();
    assert!(aborted.await.is_err());
    "done"
}

fn ended_handlers(backend: Backend) {
    let (server, freed) = launch(backend, settings(backend), |runtime, freed| {
        let after = freed.clone();
        Router::new().get("/bomb", Owning(runtime, freed)).get(
            "/after",
            sync(move |_| {
                let bomb = Bomb(after.clone());
                Response::text("answered").after(async move { drop(bomb) })
            }),
        )
    });
    let mut client = server.client();
    for n in 0..3 {
        assert_eq!(client.get("/bomb").said(), (200, "answered".into()), "the connection stays open");
        assert_eq!(client.get("/after").said(), (200, "answered".into()), "the connection stays open");
        expect_fine(&server, &freed, 2 * (n + 1));
    }
    server.stop();
}

fn payloads(backend: Backend) {
    let (server, freed) = launch(backend, settings(backend), |_, freed| {
        let [one, other, third, body] = [(); 4].map(|()| freed.clone());
        let pieces = move || stream::once_future(Box::pin(panics::<Result<Bytes, BoxError>>(body.clone())));
        Router::new()
            .get("/sync", sync(move |_| -> Response { panic_any(Bomb(one.clone())) }))
            .get("/async", move |_| panics::<Response>(other.clone()))
            .get("/blocking", blocking(move |_| -> Response { panic_any(Bomb(third.clone())) }))
            .get("/body", sync(move |_| Response::new(Body::from_stream(pieces()))))
    });
    for n in 0..3 {
        for path in ["/sync", "/async", "/blocking"] {
            let mut client = server.client();
            assert_eq!(client.get(path).status, 500, "{path}");
            client.expect_end();
        }
        let mut client = server.client();
        client.send_get("/body");
        assert!(!client.rest().ends_with(b"0\r\n\r\n"), "the response looks complete");
        expect_fine(&server, &freed, 4 * (n + 1));
    }
    server.stop();
}

async fn panics<T>(freed: Count) -> T {
    future::yield_now().await;
    panic_any(Bomb(freed))
}

/// A handler whose future owns a bomb.
struct Owning(Runtime, Count);

impl Handler for Owning {
    fn call(&self, _: Request) -> Answer {
        let then = Box::pin(self.0.sleep(Duration::from_millis(1)));
        let answered = Owner { bomb: Bomb(self.1.clone()), then };
        Answer::later(answered)
    }
}

/// A future that owns a bomb, also after it has ended.
struct Owner {
    #[expect(dead_code, reason = "it is only dropped")]
    bomb: Bomb,
    then: BoxFuture<()>,
}

impl Future for Owner {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        self.then.as_mut().poll(cx).map(|()| Response::text("answered"))
    }
}

/// A route whose handler never ends, and owns a bomb. `begun` counts the handlers.
fn never(freed: Count, begun: Count) -> impl Handler {
    move |_| {
        begun.fetch_add(1, Ordering::SeqCst);
        Owner { bomb: Bomb(freed.clone()), then: Box::pin(future::pending()) }
    }
}

fn late_handlers(backend: Backend) {
    let mut config = settings(backend);
    config.handler_timeout = Duration::from_millis(20);
    let (server, freed) =
        launch(backend, config, |_, freed| Router::new().get("/never", never(freed, Count::default())));
    for n in 1..=6 {
        let mut client = server.client();
        assert_eq!(client.get("/never").status, 503);
        client.expect_end();
        expect_fine(&server, &freed, n);
    }
    server.stop();
}

fn abandoned_handlers(backend: Backend) {
    let begun = Count::default();
    let begins = begun.clone();
    let (server, freed) =
        launch(backend, settings(backend), |_, freed| Router::new().get("/never", never(freed, begins)));
    for n in 1..=6 {
        let mut client = server.client();
        client.send_get("/never");
        wait_until("the handler has begun", || reads(&begun) == n);
        SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
        drop(client);
        expect_fine(&server, &freed, n);
    }
    server.stop();
}

/// The value of a field that owns a bomb.
fn value(freed: &Count) -> HeaderValue {
    struct Owned(Bomb);

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            let Bomb(_) = &self.0;
            b"value"
        }
    }

    HeaderValue::from_maybe_shared(Bytes::from_owner(Owned(Bomb(freed.clone())))).expect("a valid value")
}

/// Responses whose body or field is dropped once the response is queued.
fn responses(backend: Backend) {
    let (server, freed) = launch(backend, settings(backend), |_, freed| {
        let [body_owner, field_owner, streamed] = [(); 3].map(|()| freed.clone());
        let upgrade = || Response::upgrade(HeaderValue::from_static("bomb"), async |_| {});
        let with_body = move |_| {
            let mut response = upgrade();
            *response.body_mut() = body(&body_owner, true);
            response
        };
        let with_field = move |_| upgrade().with_header(header::ETAG, value(&field_owner));
        let stream = move |_| {
            let pieces = stream::once(Ok::<_, BoxError>(Bytes::from_static(b"piece")));
            Response::new(Body::from_stream(pieces)).with_header(header::ETAG, value(&streamed))
        };
        Router::new()
            .get("/body", sync(with_body))
            .get("/field", sync(with_field))
            .get("/stream", sync(stream))
    });
    let mut kept = server.client();
    for n in 0..3 {
        for path in ["/body", "/field"] {
            let mut client = server.client();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: bomb\r\n\r\n"
            ));
            assert_eq!(client.answer().status, 101);
            client.expect_end();
            assert_eq!(kept.get(path).status, 426, "the connection stays open");
        }
        assert_eq!(kept.get("/stream").said(), (200, "piece".into()), "the connection stays open");
        expect_fine(&server, &freed, 5 * (n + 1));
    }
    server.stop();
}

/// A body of two pieces that owns a bomb. The second piece never comes if `ends` is not set.
fn body(freed: &Count, ends: bool) -> Body {
    let bomb = Bomb(freed.clone());
    let piece = || Ok::<_, BoxError>(Bytes::from_static(b"piece"));
    let rest = stream::once_future(Box::pin(async move {
        if !ends {
            future::pending::<()>().await;
        }
        piece()
    }));
    Body::from_stream(stream::once(piece()).chain(rest).map(move |piece| {
        let _owned = &bomb;
        piece
    }))
}

fn streaming(backend: Backend, ends: bool) -> (Launched, Count) {
    launch(backend, settings(backend), move |_, freed| {
        Router::new().get("/stream", sync(move |_| Response::new(body(&freed, ends))))
    })
}

fn ended_bodies(backend: Backend) {
    let (server, freed) = streaming(backend, true);
    let mut client = server.client();
    for n in 1..=6 {
        assert_eq!(client.get("/stream").said(), (200, "piecepiece".into()), "the connection stays open");
        expect_fine(&server, &freed, n);
    }
    server.stop();
}

fn abandoned_bodies(backend: Backend) {
    let (server, freed) = streaming(backend, false);
    for n in 1..=6 {
        let mut client = server.client();
        client.send_get("/stream");
        client.exactly(10).expect("a response begins");
        SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
        drop(client);
        expect_fine(&server, &freed, n);
    }
    server.stop();
}

fn upgraded(backend: Backend) {
    let (server, freed) = launch(backend, settings(backend), |_, freed| {
        let upgrade = move |_| {
            let bomb = Bomb(freed.clone());
            Response::upgrade(HeaderValue::from_static("bomb"), |stream| async move {
                drop(stream);
                drop(bomb);
            })
        };
        Router::new().get("/upgrade", sync(upgrade))
    });
    for n in 0..3 {
        let mut client = server.client();
        client.send("GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: bomb\r\n\r\n");
        assert_eq!(client.answer().status, 101);
        client.expect_end();
        // Without an offer the function of the upgrade is dropped.
        let mut client = server.client();
        client.send_get("/upgrade");
        assert_eq!(client.answer().status, 426);
        expect_fine(&server, &freed, 2 * (n + 1));
    }
    server.stop();
}

fn forced(backend: Backend) {
    let begun = Count::default();
    let begins = begun.clone();
    let (server, freed) = launch(backend, settings(backend), move |runtime, freed| {
        let counted = freed.clone();
        Router::new().get("/stream", sync(move |_| Response::new(body(&freed, false)))).get(
            "/never",
            move |_| {
                let [bomb, other] = [(); 2].map(|()| Bomb(counted.clone()));
                let left = async move {
                    future::pending::<()>().await;
                    drop(other);
                };
                runtime.spawn(left).detach();
                begins.fetch_add(1, Ordering::SeqCst);
                Owner { bomb, then: Box::pin(future::pending()) }
            },
        )
    });
    let mut streaming = server.client();
    streaming.send_get("/stream");
    streaming.exactly(10).expect("a response begins");
    let mut waiting = server.client();
    waiting.send_get("/never");
    wait_until("the handler has begun", || reads(&begun) == 1);
    server.shutdown().force();
    server.ended().expect("the server ends without an error");
    wait_until("all values are dropped", || reads(&freed) == 3);
}

/// The application, its handler and its last task own a bomb each.
fn graceful(backend: Backend) {
    let freed = Count::default();
    let [one, other] = [(); 2].map(|()| Bomb(freed.clone()));
    let app = App::new(move |_| {
        Router::new().get(
            "/",
            sync(move |_| {
                let _owned = &one;
                "fine"
            }),
        )
    })
    .on_stop(move || async move { drop(other) });
    let server = Launched::app(backend, settings(backend), app);
    assert_eq!(server.client().get("/").text(), "fine");
    server.stop();
    wait_until("all values are dropped", || reads(&freed) == 2);
}
