//! Work beside the request: background tasks, and jobs on threads that may block or compute.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use gearshift::backend::config;
use gearshift::{Backend, BoxFuture, Request, Router, Runtime, TaskError, sync};
use test_support::app::ON_PURPOSE;
use test_support::backend::{begins_with_head, few_workers};
use test_support::client::Client;
use test_support::server::{Launched, Running, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

use crate::waits::{EACH, SLEEPS};

pub(crate) const AREA: Area = (
    "tasks",
    &[
        ("a_task_gives_its_output", output),
        ("a_task_runs_on_when_its_handle_is_dropped", dropped),
        ("a_task_outlives_the_response_and_the_connection", outlives),
        ("a_cancelled_task_is_dropped_at_its_wait", cancelled),
        ("a_task_that_panics_ends_alone", panicked),
        ("a_periodic_task_goes_on_after_a_panic_and_ends_with_a_stop", periodic),
        ("a_periodic_task_without_a_pause_stalls_nobody", restless),
        ("a_task_until_the_stop_delays_no_stop", until_stop),
        ("a_sync_handler_can_start_a_task", from_sync),
        ("the_waits_of_tasks_overlap", together),
        ("a_task_that_reads_a_slow_body_delays_no_other", slow_body),
        ("a_task_that_reads_a_slow_body_delays_no_stop", slow_body_at_a_stop),
        ("blocking_gives_its_output", blocking),
        ("blocking_jobs_block_nobody_else", blocking_blocks_nobody),
        ("compute_gives_its_output", compute),
        ("a_job_that_was_never_polled_is_not_run", not_polled),
        ("a_queued_job_that_is_dropped_is_not_run", queued),
    ],
);

/// A counter that handlers, tasks and jobs share.
type Count = Arc<AtomicUsize>;

fn reads(count: &Count) -> usize {
    count.load(Ordering::SeqCst)
}

/// A server whose handler gets the runtime and a counter.
fn counting<F, W>(backend: Backend, work: W) -> (Running, Count)
where
    F: Future<Output = String> + Send + 'static,
    W: Fn(Runtime, Count) -> F + Send + Sync + 'static,
{
    let count = Count::default();
    let counted = count.clone();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| work(runtime.clone(), counted.clone()))
    });
    (server, count)
}

fn expect(backend: Backend, said: &str, work: impl AsyncWork) {
    let (server, _) = counting(backend, move |runtime, count| work.run(runtime, count));
    assert_eq!(server.get("/").said(), (200, said.into()));
    assert_eq!(server.get("/").said(), (200, said.into()), "a second request is answered the same way");
}

/// A function that [`expect`] takes.
trait AsyncWork: Send + Sync + 'static {
    fn run(&self, runtime: Runtime, count: Count) -> BoxFuture<String>;
}

impl<F, W> AsyncWork for W
where
    W: Fn(Runtime, Count) -> F + Send + Sync + 'static,
    F: Future<Output = String> + Send + 'static,
{
    fn run(&self, runtime: Runtime, count: Count) -> BoxFuture<String> {
        Box::pin(self(runtime, count))
    }
}

fn output(backend: Backend) {
    expect(backend, "Ok(42)", |runtime: Runtime, _| async move {
        let waits = runtime.clone();
        let task = runtime.spawn(async move {
            waits.sleep(Duration::from_millis(5)).await;
            42
        });
        format!("{:?}", task.await)
    });
}

/// A server whose handler waits for a task that reads the body of the request. The task would wait for the next piece
/// much longer than a test. The counter counts the turns of another task. The client has sent a part of the body.
fn slowly_reading(backend: Backend, grace: Duration) -> (Launched, Client, Count) {
    const LEN: usize = 1_000_000;
    let mut config = begins_with_head(backend);
    (config.body_timeout, config.min_rate) = (100 * PATIENCE, 0);
    config.graceful_timeout = grace;
    let (turns, reading) = (Count::default(), Count::default());
    let (counted, read) = (turns.clone(), reading.clone());
    let server = Launched::start(backend, config, move |runtime| {
        Router::new().post("/", move |request: Request| {
            let read = read.clone();
            let reads = async move {
                let mut body = request.into_body();
                while let Some(Ok(_)) = body.chunk().await {
                    read.fetch_add(1, Ordering::SeqCst);
                }
            };
            let reads = runtime.spawn(reads);
            let (waits, counted) = (runtime.clone(), counted.clone());
            let counts = async move {
                loop {
                    waits.sleep(Duration::from_millis(1)).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            };
            runtime.spawn(counts).detach();
            async move { format!("{:?}", reads.await) }
        })
    });
    let mut client = server.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\nx"));
    wait_until("the task reads", || reads(&reading) > 0);
    (server, client, turns)
}

fn slow_body(backend: Backend) {
    let (_server, _client, turns) = slowly_reading(backend, PATIENCE);
    let before = reads(&turns);
    wait_until("the other task goes on", || reads(&turns) >= before + 20);
}

fn slow_body_at_a_stop(backend: Backend) {
    for force in [false, true] {
        let grace = Duration::from_millis(if force { 100_000 } else { 100 });
        let (server, _client, _) = slowly_reading(backend, grace);
        match force {
            true => server.shutdown().force(),
            false => server.shutdown().graceful(),
        }
        let began = Instant::now();
        server.ended().expect("the server ends without an error");
        assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
    }
}

fn dropped(backend: Backend) {
    let (server, count) = counting(backend, |runtime, count| async move {
        let waits = runtime.clone();
        drop(runtime.spawn(async move {
            waits.sleep(Duration::from_millis(20)).await;
            count.fetch_add(1, Ordering::SeqCst);
        }));
        "started".to_owned()
    });
    assert_eq!(server.get("/").text(), "started");
    wait_until("the task has run", || reads(&count) == 1);
}

fn outlives(backend: Backend) {
    let gate = Gate::default();
    let opened = gate.clone();
    let (server, count) = counting(backend, move |runtime, count| {
        let (gate, waits) = (gate.clone(), runtime.clone());
        async move {
            runtime
                .spawn(async move {
                    while !gate.is_open() {
                        waits.sleep(Duration::from_millis(2)).await;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                })
                .detach();
            "started".to_owned()
        }
    });
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "started");
    drop(client);
    assert_eq!(server.get("/").text(), "started");
    assert_eq!(reads(&count), 0);
    opened.open();
    wait_until("both tasks have run", || reads(&count) == 2);
}

fn cancelled(backend: Backend) {
    expect(backend, "Err(Cancelled) 1", |runtime: Runtime, _| async move {
        let ends = Count::default();
        let guard = CountDrop(ends.clone());
        let task = runtime.spawn(async move {
            let _guard = guard;
            future::pending::<()>().await;
        });
        runtime.sleep(Duration::from_millis(2)).await;
        task.cancel();
        let outcome = task.await;
        format!("{outcome:?} {}", reads(&ends))
    });
}

/// Counts its drop.
struct CountDrop(Count);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[expect(clippy::panic)]
fn panicked(backend: Backend) {
    expect(backend, "true true", |runtime: Runtime, _| async move {
        let panics = async { panic!("a task panics, {ON_PURPOSE}") };
        let outcome: Result<(), _> = runtime.spawn::<BoxFuture<()>>(Box::pin(panics)).await;
        let next = runtime.spawn(async { "next" }).await;
        format!("{} {}", outcome == Err(TaskError::Panicked), next == Ok("next"))
    });
}

fn from_sync(backend: Backend) {
    let count = Count::default();
    let counted = count.clone();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(sync(move |_| {
            let (waits, counted) = (runtime.clone(), counted.clone());
            let task = async move {
                waits.sleep(Duration::from_millis(5)).await;
                counted.fetch_add(1, Ordering::SeqCst);
            };
            runtime.spawn(task).detach();
            "started"
        }))
    });
    assert_eq!(server.get("/").text(), "started");
    wait_until("the task has run", || reads(&count) == 1);
}

fn together(backend: Backend) {
    let (server, count) = counting(backend, |runtime, count| async move {
        for _ in 0..SLEEPS {
            let (waits, count) = (runtime.clone(), count.clone());
            let task = async move {
                waits.sleep(EACH).await;
                count.fetch_add(1, Ordering::SeqCst);
            };
            runtime.spawn(task).detach();
        }
        "started".to_owned()
    });
    let began = std::time::Instant::now();
    assert_eq!(server.get("/").text(), "started");
    wait_until("all tasks have run", || reads(&count) == SLEEPS as usize);
    assert!(began.elapsed() < SLEEPS * EACH / 2, "the tasks took {:?}", began.elapsed());
}

fn blocking(backend: Backend) {
    expect(backend, "42", |runtime: Runtime, _| async move {
        let work = || {
            thread::sleep(Duration::from_millis(5));
            42
        };
        runtime.blocking(work).await.to_string()
    });
}

fn compute(backend: Backend) {
    expect(backend, "4999950000", |runtime: Runtime, _| async move {
        runtime.compute(|| (0..100_000_u64).sum::<u64>()).await.to_string()
    });
}

fn blocking_blocks_nobody(backend: Backend) {
    let gate = Gate::default();
    let waits = gate.clone();
    let server = Running::start(backend, few_workers(backend), move |_| {
        let work = move |_| {
            waits.wait();
            "waited"
        };
        Router::new().get("/", gearshift::blocking(work)).get("/fine", sync(|_| "fine"))
    });
    let mut blocked: Vec<_> = (0..3).map(|_| server.client()).collect();
    blocked.iter_mut().for_each(|client| client.send_get("/"));
    assert_eq!(server.get("/fine").text(), "fine");
    gate.open();
    for client in &mut blocked {
        assert_eq!(client.answer().text(), "waited");
    }
}

fn not_polled(backend: Backend) {
    expect(backend, "0", |runtime: Runtime, _| async move {
        let runs = Count::default();
        let (one, other) = (runs.clone(), runs.clone());
        drop(runtime.blocking(move || one.fetch_add(1, Ordering::SeqCst)));
        drop(runtime.compute(move || other.fetch_add(1, Ordering::SeqCst)));
        // A job that was queued before this one would have run.
        runtime.compute(|| ()).await;
        reads(&runs).to_string()
    });
}

fn queued(backend: Backend) {
    /// Only one test at a time can occupy all cores.
    static ALL_THREADS: Mutex<()> = Mutex::new(());
    let _all = ALL_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    expect(backend, "0", |runtime: Runtime, _| async move {
        let (gate, busy, runs) = (Gate::default(), Count::default(), Count::default());
        let hogs: Vec<_> = (0..config::cores())
            .map(|_| {
                let (inside, gate, busy) = (runtime.clone(), gate.clone(), busy.clone());
                runtime.spawn(async move {
                    let hog = move || {
                        busy.fetch_add(1, Ordering::SeqCst);
                        gate.wait();
                    };
                    inside.compute(hog).await;
                })
            })
            .collect();
        while reads(&busy) < config::cores() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        let run = runs.clone();
        let job = runtime.compute(move || run.fetch_add(1, Ordering::SeqCst));
        let outcome = runtime.timeout(Duration::from_millis(10), job).await;
        assert!(outcome.is_err(), "a thread was free");
        gate.open();
        for hog in hogs {
            hog.await.expect("the job ends once the gate is open");
        }
        runtime.compute(|| ()).await;
        reads(&runs).to_string()
    });
}

/// Blocks the jobs that wait until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar, AtomicBool)>);

impl Gate {
    fn open(&self) {
        let (open, change, flag) = &*self.0;
        *open.lock().expect("no thread panics with the lock") = true;
        flag.store(true, Ordering::SeqCst);
        change.notify_all();
    }

    fn is_open(&self) -> bool {
        self.0.2.load(Ordering::SeqCst)
    }

    fn wait(&self) {
        let (open, change, _) = &*self.0;
        let guard = open.lock().expect("no thread panics with the lock");
        drop(change.wait_while(guard, |open| !*open).expect("no thread panics with the lock"));
    }
}

fn periodic(backend: Backend) {
    let count = Count::default();
    let counted = count.clone();
    let server = Launched::start(backend, few_workers(backend), move |runtime: Runtime| {
        runtime
            .every(Duration::from_millis(5), move || {
                let call = counted.fetch_add(1, Ordering::SeqCst);
                assert!(call != 0, "{ON_PURPOSE}");
                async move { assert!(call != 1, "{ON_PURPOSE}") }
            })
            .detach();
        one(sync(|_| "served"))
    });
    // Two calls panic: one in the function, one in its future.
    wait_until("the calls go on", || reads(&count) > 5);
    assert_eq!(server.client().get("/").text(), "served");
    server.stop();
    // The function of the calls holds the other reference.
    assert_eq!(Arc::strong_count(&count), 1, "no call begins after the stop");
}

fn restless(backend: Backend) {
    let count = Count::default();
    let counted = count.clone();
    let server = Launched::start(backend, few_workers(backend), move |runtime: Runtime| {
        runtime.every(Duration::from_nanos(1), async || {}).detach();
        let call = move || {
            counted.fetch_add(1, Ordering::SeqCst);
            std::future::ready(())
        };
        runtime.every(Duration::from_millis(1), call).detach();
        one(sync(|_| "served"))
    });
    wait_until("the calls of another task", || reads(&count) > 5);
    assert_eq!(server.client().get("/").text(), "served");
    server.stop();
}

fn until_stop(backend: Backend) {
    let (give, given) = std::sync::mpsc::channel();
    let server = Launched::start(backend, few_workers(backend), move |runtime: Runtime| {
        let early = runtime.spawn_until_stop(async { 1 });
        let endless = runtime.spawn_until_stop(future::pending::<u8>());
        give.send((early, endless)).expect("the test waits");
        one(sync(|_| "served"))
    });
    let (early, endless) = given.recv().expect("the application starts");
    assert_eq!(future::block_on(early).expect("it ends"), Some(1));
    server.stop();
    assert_eq!(future::block_on(endless).expect("it ends"), None);
}
