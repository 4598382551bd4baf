//! Sync work inside async work inside sync work: threads of one kind wait for threads of another, and none starves.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gearshift::{Backend, Config, Overload, Request, Router, Runtime, Work, blocking, compute, sync};
use test_support::backend::{begins_with_head, blocks, concurrency, few_workers};
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "bridge",
    &[
        ("every_kind_of_work_may_wait_for_every_other", nested),
        ("jobs_that_wait_for_jobs_of_tasks_leave_them_room", |backend| spawned(backend, false)),
        ("handlers_that_wait_for_jobs_of_tasks_leave_them_room", |backend| spawned(backend, true)),
        ("a_job_that_waits_for_a_body_leaves_room_for_the_jobs_of_tasks", slow_body),
        ("no_more_jobs_run_than_there_are_threads", bounded),
        ("try_blocking_is_refused_while_the_queue_is_full", refused),
        ("handlers_beyond_the_queue_are_refused_where_that_is_the_setting", handlers_refused),
        ("handlers_beyond_the_queue_wait_where_that_is_the_setting", handlers_wait),
        ("a_job_that_is_dropped_leaves_the_queue", withdrawn),
        ("a_full_pool_delays_neither_sync_routes_nor_the_other_pool", starved),
    ],
);

/// Settings with one thread for each kind of offloaded work. A job that waited for a second thread of its kind would
/// never end.
fn tight(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    (config.blocking_threads, config.compute_threads) = (1, Some(1));
    config
}

/// Waits for other work in every way that a runtime has.
fn wait_inside(runtime: &Runtime) -> String {
    let a = runtime.block_on(runtime.blocking(|| 1));
    let b = runtime.block_on(runtime.compute(|| 2));
    let deep = runtime.clone();
    let c = runtime.block_on(runtime.compute(move || deep.block_on(deep.blocking(|| 3))));
    let deep = runtime.clone();
    let d = runtime.block_on(runtime.blocking(move || deep.block_on(deep.compute(|| 4))));
    runtime.block_on(runtime.sleep(Duration::from_millis(1)));
    let task = runtime.block_on(runtime.spawn(async { 5 }));
    format!("{a}{b}{c}{d}{task:?}")
}

fn nested(backend: Backend) {
    let server = Running::start(backend, tight(backend), |runtime| {
        let (one, other, third) = (runtime.clone(), runtime.clone(), runtime);
        Router::new()
            .get("/blocking", blocking(move |_| wait_inside(&one)))
            .get("/compute", compute(move |_| wait_inside(&other)))
            .get("/async", move |_| {
                let (runtime, inner) = (third.clone(), third.clone());
                let task = third.clone();
                async move {
                    let here = runtime.blocking(|| 1).await + runtime.compute(|| 2).await;
                    let there = runtime.blocking(move || wait_inside(&inner)).await;
                    let elsewhere = runtime
                        .spawn(async move {
                            let inner = task.clone();
                            task.compute(move || wait_inside(&inner)).await
                        })
                        .await;
                    format!("{here} {there} {elsewhere:?}")
                }
            })
    });
    let said = "1234Ok(5)";
    let expected = [
        ("/blocking", said.to_owned()),
        ("/compute", said.to_owned()),
        ("/async", format!("3 {said} Ok(\"{said}\")")),
    ];
    // The clients ask at the same time, so most requests find the threads taken.
    let mut clients: Vec<_> = (0..12).map(|n| (server.client(), &expected[n % 3])).collect();
    clients.iter_mut().for_each(|(client, (path, _))| client.send_get(path));
    for (client, (path, said)) in &mut clients {
        assert_eq!(client.answer().said(), (200, said.clone()), "{path}");
    }
}

/// The number of jobs of each kind that wait for jobs at the same time. The pools have two threads.
const WAITING: usize = 12;
/// The number of jobs that each of them waits for, one inside the other.
const DEPTH: usize = 3;

/// Waits in a job for a task that offloads the next job. The first jobs begin to wait when all of them run or wait
/// for a thread.
fn wait_for_tasks(runtime: &Runtime, kind: Work, depth: usize) -> usize {
    let inner = runtime.clone();
    let task = runtime.spawn(async move {
        let next = inner.clone();
        let job = move || match depth {
            0 => 0,
            depth => 1 + wait_for_tasks(&next, kind, depth - 1),
        };
        match kind {
            Work::Blocking => inner.blocking(job).await,
            Work::Compute => inner.compute(job).await,
        }
    });
    runtime.block_on(task).expect("the task ends")
}

/// Takes every thread of both pools with jobs that wait for jobs of their own pool.
fn spawned(backend: Backend, by_handlers: bool) {
    let mut config = few_workers(backend);
    (config.blocking_threads, config.compute_threads) = (2, Some(2));
    let (tell, told) = std::sync::mpsc::channel();
    let held = Gate::default();
    let gate = held.clone();
    let server = Running::start(backend, config, move |runtime| {
        let _ = tell.send(runtime.clone());
        let [one, other] = [(); 2].map(|()| (runtime.clone(), gate.clone()));
        let wait = |(runtime, gate): &(Runtime, Gate), kind| {
            gate.enter();
            wait_for_tasks(runtime, kind, DEPTH).to_string()
        };
        Router::new()
            .get("/blocking", blocking(move |_| wait(&one, Work::Blocking)))
            .get("/compute", compute(move |_| wait(&other, Work::Compute)))
    });
    let runtime: Runtime = told.recv().expect("the application has started");
    let kinds = [("/blocking", Work::Blocking), ("/compute", Work::Compute)];
    if by_handlers {
        let mut clients: Vec<_> = (0..WAITING)
            .flat_map(|_| kinds)
            .map(|(path, _)| {
                let mut client = server.client();
                client.send_get(path);
                client
            })
            .collect();
        let at_once = concurrency(backend).unwrap_or(4);
        wait_until("every thread is taken", || held.inside() == at_once);
        held.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().said(), (200, DEPTH.to_string())));
    } else {
        let wait = |kind: Work| {
            let (outer, inner, gate) = (runtime.clone(), runtime.clone(), held.clone());
            let job = move || {
                gate.enter();
                wait_for_tasks(&inner, kind, DEPTH)
            };
            match kind {
                Work::Blocking => runtime.spawn(async move { outer.blocking(job).await }),
                Work::Compute => runtime.spawn(async move { outer.compute(job).await }),
            }
        };
        let tasks: Vec<_> = (0..WAITING).flat_map(|_| kinds).map(|(_, kind)| wait(kind)).collect();
        wait_until("every thread is taken", || held.inside() == 4);
        held.open();
        tasks.into_iter().for_each(|task| assert_eq!(runtime.block_on(task), Ok(DEPTH)));
    }
    wait_until("every thread is free", || {
        let stats = runtime.stats();
        (stats.blocking.running, stats.compute.running, stats.tasks_running) == (0, 0, 0)
    });
}

fn slow_body(backend: Backend) {
    let mut config = begins_with_head(backend);
    (config.blocking_threads, config.compute_threads) = (1, Some(1));
    let (tell, told) = std::sync::mpsc::channel();
    let server = Running::start(backend, config, move |runtime| {
        let _ = tell.send(runtime);
        let read = |request: Request| {
            let mut body = String::new();
            request.into_body().reader().read_to_string(&mut body).map(|_| body)
        };
        Router::new().post("/blocking", blocking(read)).post("/compute", compute(read))
    });
    let runtime: Runtime = told.recv().expect("the application has started");
    for path in ["/blocking", "/compute"] {
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na"));
        wait_until("the job has begun", || {
            let stats = runtime.stats();
            blocks(backend) || stats.blocking.running + stats.compute.running > 0
        });
        let inside = runtime.clone();
        let task = runtime.spawn(async move { inside.blocking(|| 1).await + inside.compute(|| 2).await });
        assert_eq!(runtime.block_on(task), Ok(3), "{path}");
        client.send("b");
        assert_eq!(client.answer().said(), (200, "ab".into()), "{path}");
        wait_until("the threads are free", || {
            let stats = runtime.stats();
            stats.blocking.running + stats.compute.running == 0
        });
    }
}

/// Blocks the jobs that enter until it is opened, and counts them.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar, AtomicUsize)>);

impl Gate {
    fn enter(&self) {
        let (open, change, inside) = &*self.0;
        inside.fetch_add(1, Ordering::SeqCst);
        let guard = open.lock().expect("no thread panics with the lock");
        drop(change.wait_while(guard, |open| !*open).expect("no thread panics with the lock"));
    }

    fn inside(&self) -> usize {
        self.0.2.load(Ordering::SeqCst)
    }

    fn open(&self) {
        *self.0.0.lock().expect("no thread panics with the lock") = true;
        self.0.1.notify_all();
    }
}

/// A server whose background tasks fill its blocking pool with three jobs, on two threads with a queue of two.
/// Background tasks use the pool on every backend.
fn filled(backend: Backend) -> (Running, Runtime, Gate) {
    let mut config = few_workers(backend);
    (config.blocking_threads, config.pool_queue) = (2, 2);
    let (tell, told) = std::sync::mpsc::channel();
    let server = Running::start(backend, config, move |runtime| {
        tell.send(runtime).expect("the test waits for it");
        one(sync(|_| "fine"))
    });
    let runtime = told.recv().expect("the application has started");
    let gate = Gate::default();
    for _ in 0..3 {
        let (inside, gate) = (runtime.clone(), gate.clone());
        runtime.spawn(async move { inside.blocking(move || gate.enter()).await }).detach();
    }
    wait_until("the pool is full", || {
        let pool = runtime.stats().blocking;
        (gate.inside(), pool.running, pool.queued) == (2, 2, 1)
    });
    (server, runtime, gate)
}

fn bounded(backend: Backend) {
    let (_server, runtime, gate) = filled(backend);
    let before = runtime.stats().blocking;
    assert_eq!((before.threads, before.started, before.waits), (2, 2, 0));
    gate.open();
    wait_until("all jobs have run", || gate.inside() == 3 && runtime.tasks() == 0);
    wait_until("the threads are free", || runtime.stats().blocking.running == 0);
    let after = runtime.stats().blocking;
    assert_eq!((after.started, after.waits, after.queued, after.refused), (3, 1, 0, 0));
    assert!(after.waited > Duration::ZERO);
}

fn refused(backend: Backend) {
    let (_server, runtime, gate) = filled(backend);
    let ask = || {
        let inside = runtime.clone();
        runtime.spawn(async move { inside.try_blocking(|| ()).await })
    };
    let in_time = ask();
    wait_until("the queue is full", || runtime.stats().blocking.queued == 2);
    assert_eq!(runtime.block_on(ask()), Ok(Err(gearshift::Busy)));
    assert_eq!(runtime.stats().blocking.refused, 1);
    // A job that does not ask whether there is room waits.
    let inside = runtime.clone();
    let patient = runtime.spawn(async move { inside.blocking(|| 7).await });
    wait_until("the job waits beyond the limit", || runtime.stats().blocking.queued == 3);
    gate.open();
    assert_eq!(runtime.block_on(in_time), Ok(Ok(())));
    assert_eq!(runtime.block_on(patient), Ok(7));
}

fn withdrawn(backend: Backend) {
    let (_server, runtime, gate) = filled(backend);
    let (run, inside) = (Arc::new(AtomicUsize::new(0)), runtime.clone());
    let ran = run.clone();
    let task =
        runtime.spawn(async move { inside.blocking(move || ran.fetch_add(1, Ordering::SeqCst)).await });
    wait_until("the job is queued", || runtime.stats().blocking.queued == 2);
    task.cancel();
    wait_until("the job has left the queue", || runtime.stats().blocking.queued == 1);
    gate.open();
    wait_until("the other jobs have run", || runtime.tasks() == 0);
    assert_eq!((run.load(Ordering::SeqCst), runtime.stats().blocking.started), (0, 3));
}

/// A server with a route that blocks and others that do not, one blocking thread, and a queue of one.
fn queueing(backend: Backend, overload: Overload) -> (Running, Gate) {
    let mut config = tight(backend);
    (config.pool_queue, config.pool_overload) = (1, overload);
    let gate = Gate::default();
    let held = gate.clone();
    let server = Running::start(backend, config, move |runtime| {
        let stats = runtime;
        let work = move |_: Request| {
            held.enter();
            "done"
        };
        Router::new()
            .get("/block", blocking(work))
            .get("/compute", compute(|_| "computed"))
            .get("/fine", sync(|_| "fine"))
            .get("/queued", sync(move |_| stats.stats().blocking.queued.to_string()))
    });
    (server, gate)
}

fn handlers_refused(backend: Backend) {
    let (server, gate) = queueing(backend, Overload::Refuse);
    let mut first = server.client();
    first.send_get("/block");
    wait_until("the first request has the thread", || gate.inside() == 1);
    let mut second = server.client();
    second.send_get("/block");
    wait_until("the job is queued", || server.get("/queued").text() == "1");
    let mut third = server.client();
    let refusal = third.get("/block");
    assert_eq!((refusal.status, refusal.field("Retry-After")), (503, Some("1")));
    assert_eq!(third.get("/fine").text(), "fine", "the refusal does not close the connection");
    gate.open();
    assert_eq!((first.answer().text(), second.answer().text()), ("done".into(), "done".into()));
}

fn handlers_wait(backend: Backend) {
    let (server, gate) = queueing(backend, Overload::Wait);
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get("/block"));
    wait_until("four requests are queued", || server.get("/queued").text() == "4");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.answer().text(), "done");
    }
}

fn starved(backend: Backend) {
    let (server, gate) = queueing(backend, Overload::Wait);
    let mut slow: Vec<_> = (0..3).map(|_| server.client()).collect();
    slow.iter_mut().for_each(|client| client.send_get("/block"));
    wait_until("the pool is full", || gate.inside() >= 1);
    let mut quick = server.client();
    for _ in 0..20 {
        assert_eq!(quick.get("/fine").text(), "fine");
        assert_eq!(quick.get("/compute").text(), "computed");
    }
    gate.open();
    for client in &mut slow {
        assert_eq!(client.answer().text(), "done");
    }
}
