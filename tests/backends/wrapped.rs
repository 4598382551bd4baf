//! Threads with a wrapper (`Config::thread_wrapper`).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gearshift::{
    App, Backend, Config, Request, Router, Runtime, ServeError, ThreadWrapper, blocking, compute, sync,
};
use test_support::app::ON_PURPOSE;
use test_support::backend::few_workers;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "wrapped",
    &[
        ("handlers_of_a_blocking_backend_run_inside_the_wrapper", handlers),
        ("jobs_run_inside_the_wrapper", jobs),
        ("more_jobs_at_once_than_before_have_more_threads_inside_the_wrapper", many_jobs),
        ("a_job_that_panics_leaves_its_thread", panics),
        ("all_threads_end_inside_the_wrapper_at_a_stop", stop),
        ("a_job_that_does_not_end_is_left_behind_at_a_stop", left_behind),
        ("a_thread_that_its_wrapper_does_not_call_fails_the_server", uncalled),
    ],
);

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Counts threads.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl Counts {
    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl ThreadWrapper for Counts {
    fn run(&self, thread: Box<dyn FnOnce() + Send + '_>) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        IS_INSIDE.set(true);
        thread();
        IS_INSIDE.set(false);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

fn is_inside() -> String {
    IS_INSIDE.get().to_string()
}

fn wrapped(backend: Backend) -> (Arc<Counts>, Config) {
    let counts = Arc::new(Counts::default());
    let mut config = few_workers(backend);
    config.thread_wrapper = Some(counts.clone());
    (counts, config)
}

async fn in_jobs(request: Request) -> String {
    let runtime = request.runtime();
    let (of_blocking, of_compute) = (runtime.blocking(is_inside).await, runtime.compute(is_inside).await);
    let inner = runtime.clone();
    let task =
        runtime.spawn(async move { (inner.blocking(is_inside).await, inner.compute(is_inside).await) });
    let (blocking, compute) = task.await.expect("the task ends");
    format!("{of_blocking} {of_compute} {blocking} {compute}")
}

fn app(_: Runtime) -> Router {
    Router::new()
        .get("/sync", sync(|_| is_inside()))
        .get("/async", async |_| is_inside())
        .get("/blocking", blocking(|_| is_inside()))
        .get("/compute", compute(|_| is_inside()))
        .get("/jobs", in_jobs)
        .get("/panic", blocking(panicking))
}

#[expect(clippy::panic)]
fn panicking(_: Request) -> &'static str {
    panic!("a job panics, {ON_PURPOSE}")
}

fn handlers(backend: Backend) {
    let (_, config) = wrapped(backend);
    let server = Running::start(backend, config, app);
    for path in ["/sync", "/async", "/blocking", "/compute"] {
        assert_eq!(server.get(path).said(), (200, "true".into()), "{path}");
    }
}

fn jobs(backend: Backend) {
    let (_, config) = wrapped(backend);
    let server = Running::start(backend, config, app);
    for path in ["/blocking", "/compute"] {
        assert_eq!(server.get(path).said(), (200, "true".into()), "{path}");
    }
    assert_eq!(server.get("/jobs").said(), (200, "true true true true".into()));
}

/// The jobs of background tasks have threads on every backend.
fn many_jobs(backend: Backend) {
    const JOBS: usize = 5;
    let (counts, config) = wrapped(backend);
    let (send, receive) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime| {
        send.send(runtime.clone()).expect("the test waits");
        app(runtime)
    });
    let runtime = receive.recv().expect("the application starts");
    let before = counts.begun();
    for _ in 0..2 {
        let (send, receive) = mpsc::channel();
        let mut releases = Vec::new();
        for _ in 0..JOBS {
            let (send, inner, (release, released)) = (send.clone(), runtime.clone(), mpsc::channel::<()>());
            releases.push(release);
            let job = move || {
                send.send(is_inside()).expect("the test waits");
                let _ = released.recv();
            };
            runtime.spawn(async move { inner.blocking(job).await }).detach();
        }
        // All have begun before one ends.
        assert!(receive.iter().take(JOBS).all(|inside| inside == "true"));
    }
    assert!(counts.begun() >= before + JOBS);
    assert_eq!(server.stop().cut, 0);
    assert_eq!(counts.begun(), counts.ended());
}

fn panics(backend: Backend) {
    let (_, config) = wrapped(backend);
    let server = Running::start(backend, config, app);
    for _ in 0..3 {
        assert_eq!(server.get("/panic").status, 500);
        assert_eq!(server.get("/blocking").said(), (200, "true".into()));
    }
    assert_eq!(server.stop().cut, 0);
}

fn stop(backend: Backend) {
    let (counts, config) = wrapped(backend);
    let server = Launched::start(backend, config, app);
    assert_eq!(server.client().get("/jobs").status, 200);
    assert!(counts.begun() > 0);
    server.stop();
    assert_eq!(counts.begun(), counts.ended());
}

fn left_behind(backend: Backend) {
    let (counts, mut config) = wrapped(backend);
    config.graceful_timeout = Duration::from_millis(50);
    let (release, released) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let hold = Mutex::new(Some((begin, released)));
    let handler = blocking(move |_| {
        let (begin, released): (mpsc::Sender<()>, Receiver<()>) =
            hold.lock().unwrap_or_else(PoisonError::into_inner).take().expect("one request");
        let _ = begin.send(());
        let _ = released.recv();
        "done"
    });
    let server = Launched::start(backend, config, |_| Router::new().get("/", handler));
    let mut client = server.client();
    client.send_get("/");
    begun.recv().expect("the handler begins");
    server.shutdown().graceful();
    assert_eq!(server.ended().expect("the server ends without an error").cut, 1);
    assert_eq!(counts.begun(), counts.ended() + 1);
    drop(release);
    wait_until("the thread ends inside its wrapper", || counts.begun() == counts.ended());
}

#[derive(Debug)]
struct Forgetful;

impl ThreadWrapper for Forgetful {
    fn run(&self, _: Box<dyn FnOnce() + Send + '_>) {}
}

fn uncalled(backend: Backend) {
    let mut config = few_workers(backend);
    config.thread_wrapper = Some(Arc::new(Forgetful));
    let app = App::start(async |runtime: Runtime| {
        // No thread runs this, and on some backends none runs the start.
        runtime.blocking(|| {}).await;
        Ok(app(runtime))
    });
    let ended = Launched::app(backend, config, app).ended();
    assert!(matches!(&ended, Err(ServeError::Failed(_))), "{ended:?}");
}
