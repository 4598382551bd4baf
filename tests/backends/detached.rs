//! Handlers that run on after their peer has left (`OnDisconnect::Detach`).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use gearshift::{
    Backend, Config, IntoResponse, OnDisconnect, Request, Response, Router, Runtime, on_disconnect, sync,
};
use socket2::SockRef;
use test_support::backend::few_workers;
use test_support::server::Launched;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "detached",
    &[
        ("a_detached_handler_counts_as_a_task_and_its_connection_is_closed", counted),
        ("a_detached_handler_that_blocks_delays_no_task", blocks_no_task),
        ("detached_handlers_that_block_leave_the_other_threads_free", blocks_one_thread),
        ("the_work_after_the_response_of_a_detached_handler_runs", after),
        ("a_detached_handler_that_panics_ends_alone", panics),
        ("a_detached_handler_has_the_deadline_of_a_handler", late),
        ("a_graceful_stop_waits_for_a_detached_handler", graceful),
        ("a_detached_handler_ends_with_the_grace_period", overdue),
        ("a_forced_stop_drops_a_detached_handler", forced),
    ],
);

/// The stages that a handler has reached.
#[derive(Default)]
struct Stages {
    begun: AtomicUsize,
    detached: AtomicUsize,
    /// The handlers that have run to their end.
    ended: AtomicUsize,
    /// The handlers that have ended or were dropped.
    dropped: AtomicUsize,
    /// Set by the test, to let a handler go on.
    open: AtomicBool,
}

impl Stages {
    fn of(count: &AtomicUsize) -> usize {
        count.load(Ordering::SeqCst)
    }

    /// Waits until the test lets the handler go on, and blocks the thread.
    fn block(&self) {
        while !self.open.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the test lets the handler go on.
    async fn wait(&self, runtime: &Runtime) {
        while !self.open.load(Ordering::SeqCst) {
            runtime.sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Counts its drop.
struct Guard(Arc<Stages>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn settings(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.handler_timeout = 100 * PATIENCE;
    config.graceful_timeout = PATIENCE;
    config
}

/// Starts a server whose handler waits until it is detached, and then for `then`.
fn launch<F, R>(
    backend: Backend,
    config: Config,
    then: impl Fn(Runtime, Arc<Stages>) -> F + Send + Sync + 'static,
) -> (Launched, Arc<Stages>)
where
    F: Future<Output = R> + Send + 'static,
    R: IntoResponse,
{
    let stages = Arc::new(Stages::default());
    let told = stages.clone();
    let server = Launched::start(backend, config, move |_| {
        let handler = move |request: Request| {
            let (runtime, token, guard) =
                (request.runtime().clone(), request.cancel_token(), Guard(told.clone()));
            told.begun.fetch_add(1, Ordering::SeqCst);
            let rest = then(runtime, told.clone());
            let told = told.clone();
            async move {
                token.cancelled().await;
                told.detached.fetch_add(1, Ordering::SeqCst);
                let response = rest.await;
                told.ended.fetch_add(1, Ordering::SeqCst);
                drop(guard);
                response
            }
        };
        Router::new()
            .get("/fine", sync(|_| "fine"))
            .get(
                "/stats",
                sync(|request: Request| {
                    let stats = request.runtime().stats();
                    format!("{} {}", stats.connections_open, stats.tasks_running)
                }),
            )
            .get("/", on_disconnect(OnDisconnect::Detach, handler))
    });
    (server, stages)
}

/// Sends a request whose peer leaves, and waits until its handler is detached.
fn detach(server: &Launched, stages: &Stages) {
    let before = Stages::of(&stages.begun);
    let mut client = server.client();
    client.send_get("/");
    wait_until("the handler has begun", || Stages::of(&stages.begun) > before);
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
    drop(client);
    wait_until("the handler is detached", || Stages::of(&stages.detached) > before);
}

fn expect_dropped(stages: &Stages, handlers: usize) {
    wait_until("the handlers have ended", || Stages::of(&stages.dropped) == handlers);
}

fn counted(backend: Backend) {
    let (tell, told) = std::sync::mpsc::channel();
    let (server, stages) = launch(backend, settings(backend), move |runtime, stages| {
        let _ = tell.send(runtime.clone());
        async move { stages.wait(&runtime).await }
    });
    detach(&server, &stages);
    let runtime: Runtime = told.recv_timeout(PATIENCE).expect("the handler has begun");
    wait_until("the connection is closed", || runtime.stats().connections_open == 0);
    let stats = runtime.stats();
    assert_eq!((stats.tasks_running, stats.tasks_started, stats.requests_in_flight), (1, 1, 0));
    stages.open.store(true, Ordering::SeqCst);
    wait_until("the handler has ended", || Stages::of(&stages.ended) == 1);
    wait_until("the task has ended", || runtime.tasks() == 0);
    assert_eq!(server.client().get("/stats").text(), "1 0");
    server.stop();
}

fn blocks_no_task(backend: Backend) {
    let turns = Arc::new(AtomicUsize::new(0));
    let counts = turns.clone();
    let (server, stages) = launch(backend, settings(backend), move |runtime, stages| {
        let (waits, counts, until) = (runtime.clone(), counts.clone(), stages.clone());
        let ticks = async move {
            while Stages::of(&until.dropped) == 0 {
                waits.sleep(Duration::from_millis(1)).await;
                counts.fetch_add(1, Ordering::SeqCst);
            }
        };
        runtime.spawn(ticks).detach();
        async move { stages.block() }
    });
    detach(&server, &stages);
    let before = Stages::of(&turns);
    wait_until("the other task goes on", || Stages::of(&turns) >= before + 20);
    stages.open.store(true, Ordering::SeqCst);
    expect_dropped(&stages, 1);
    assert_eq!(server.client().get("/fine").text(), "fine");
    server.stop();
}

fn blocks_one_thread(backend: Backend) {
    let (server, stages) = launch(backend, settings(backend), |_, stages| async move { stages.block() });
    for n in 1..=3 {
        detach(&server, &stages);
        assert_eq!(server.client().get("/fine").text(), "fine", "{n} of 4 threads are held");
    }
    stages.open.store(true, Ordering::SeqCst);
    expect_dropped(&stages, 3);
    server.stop();
}

fn after(backend: Backend) {
    let ran = Arc::new(AtomicBool::new(false));
    let runs = ran.clone();
    let (server, stages) = launch(backend, settings(backend), move |_, _| {
        let runs = runs.clone();
        async move { Response::text("nobody reads").after(async move { runs.store(true, Ordering::SeqCst) }) }
    });
    detach(&server, &stages);
    wait_until("the work has run", || ran.load(Ordering::SeqCst));
    server.stop();
}

fn panics(backend: Backend) {
    #[expect(clippy::panic)]
    fn panics() {
        panic!("a handler panics, {}", test_support::app::ON_PURPOSE);
    }
    let (server, stages) = launch(backend, settings(backend), |_, _| async { panics() });
    for n in 1..=6 {
        detach(&server, &stages);
        expect_dropped(&stages, n);
        assert_eq!(server.client().get("/fine").text(), "fine");
    }
    server.stop();
}

fn late(backend: Backend) {
    let mut config = settings(backend);
    config.handler_timeout = Duration::from_secs(1);
    let (server, stages) = launch(backend, config, |_, _| future::pending::<()>());
    detach(&server, &stages);
    expect_dropped(&stages, 1);
    assert_eq!(server.client().get("/fine").text(), "fine");
    server.stop();
}

fn graceful(backend: Backend) {
    let (server, stages) = launch(backend, settings(backend), |runtime, stages| async move {
        runtime.stopping().await;
        stages.wait(&runtime).await;
    });
    detach(&server, &stages);
    server.shutdown().graceful();
    stages.open.store(true, Ordering::SeqCst);
    server.ended_gracefully();
    assert_eq!(Stages::of(&stages.ended), 1);
}

fn overdue(backend: Backend) {
    let mut config = settings(backend);
    config.graceful_timeout = Duration::from_millis(100);
    let (server, stages) = launch(backend, config, |_, _| future::pending::<()>());
    detach(&server, &stages);
    server.shutdown().graceful();
    server.ended().expect("the server ends without an error");
    expect_dropped(&stages, 1);
}

fn forced(backend: Backend) {
    let (server, stages) = launch(backend, settings(backend), |_, _| future::pending::<()>());
    detach(&server, &stages);
    server.shutdown().force();
    server.ended().expect("the server ends without an error");
    expect_dropped(&stages, 1);
}
