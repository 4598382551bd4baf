//! The runtime on an engine whose tasks and jobs the test runs itself.

use std::future::{Future, pending, poll_fn, ready};
use std::io::{self, Read};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::yield_now;
use gearshift_core::clock::CoarseInstant;
use gearshift_core::park::{self, Park};
use gearshift_core::{
    Body, BodyError, BoxFuture, Config, Elapsed, Endpoint, Engine, EngineStats, Job, Latch, Overload,
    Runtime, Shutdown, Stream, TaskError, Work,
};
use http_body::Body as _;

/// An engine that keeps its tasks and jobs.
#[derive(Clone, Default)]
struct Kept {
    tasks: Arc<Mutex<Vec<BoxFuture<()>>>>,
    jobs: Arc<Mutex<Vec<(Work, Job)>>>,
}

impl Engine for Kept {
    fn backend(&self) -> &'static str {
        "kept"
    }

    fn sleep(&self, _: Instant) -> BoxFuture<()> {
        Box::pin(pending())
    }

    fn connect(&self, _: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(pending())
    }

    fn spawn(&self, task: BoxFuture<()>) {
        self.tasks.lock().unwrap().push(task);
    }

    fn offload(&self, kind: Work, job: Job) {
        self.jobs.lock().unwrap().push((kind, job));
    }

    fn stats(&self) -> EngineStats {
        EngineStats { workers: 3, waiting: 4, turns: 5 }
    }
}

impl Kept {
    fn runtime(&self, set: impl FnOnce(&mut Config)) -> Runtime {
        let mut config = Config::default();
        set(&mut config);
        Runtime::new(self.clone(), &config, Shutdown::new())
    }

    /// Polls all tasks, and drops those that have ended.
    fn run_tasks(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.retain_mut(|task| poll(task).is_pending());
        self.tasks.lock().unwrap().append(&mut tasks);
    }

    /// Runs the jobs that were started. Returns their kinds.
    fn run_jobs(&self) -> Vec<Work> {
        let jobs = std::mem::take(&mut *self.jobs.lock().unwrap());
        let run = |(kind, job): (Work, Job)| {
            job();
            kind
        };
        jobs.into_iter().map(run).collect()
    }
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// A waker that counts its wake-ups.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_task_tells_how_it_has_ended() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let (mut done, mut panics) = (runtime.spawn(async { 7 }), runtime.spawn(async { panic!("as asked") }));
    let (mut dropped, mut cancelled) = (runtime.spawn(pending::<()>()), runtime.spawn(pending::<()>()));
    runtime.spawn(pending::<()>()).detach();
    assert_eq!(runtime.tasks(), 5);
    assert_eq!(format!("{done:?}"), "Task { finished: false }");
    assert!(!done.is_finished() && poll(&mut done).is_pending());
    kept.run_tasks();
    assert_eq!(format!("{done:?}"), "Task { finished: true }");
    assert!(done.is_finished() && !cancelled.is_finished());
    assert_eq!(poll(&mut done), Poll::Ready(Ok(7)));
    assert_eq!(poll(&mut panics), Poll::Ready(Err::<(), _>(TaskError::Panicked)));
    cancelled.cancel();
    kept.run_tasks();
    assert_eq!(poll(&mut cancelled), Poll::Ready(Err(TaskError::Cancelled)));
    assert!(poll(&mut dropped).is_pending());
    assert_eq!(runtime.tasks(), 2);
    kept.tasks.lock().unwrap().clear();
    assert_eq!(poll(&mut dropped), Poll::Ready(Err(TaskError::Cancelled)));
    assert_eq!(runtime.tasks(), 0);
    let texts = [TaskError::Cancelled, TaskError::Panicked].map(|error| error.to_string());
    assert_eq!(texts, ["the task was cancelled", "the task panicked"]);
}

#[test]
fn cancelling_a_task_wakes_it() {
    let kept = Kept::default();
    let task = kept.runtime(|_| {}).spawn(pending::<()>());
    let wakes = Arc::new(WakeCount::default());
    let waker = Waker::from(wakes.clone());
    let mut body = kept.tasks.lock().unwrap().pop().expect("a task was spawned");
    for _ in 0..2 {
        assert!(body.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    task.cancel();
    assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_scope_ends_with_its_owner() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let mut scope = runtime.scope();
    let (first, second) = (scope.spawn(pending::<()>()), scope.spawn(ready(())));
    assert_eq!(scope.running(), 2);
    kept.run_tasks();
    assert_eq!(scope.running(), 1);
    assert_eq!(format!("{scope:?}"), "Scope { running: 1, .. }");
    drop(scope);
    kept.run_tasks();
    assert!(first.is_finished() && second.is_finished());
    assert_eq!(runtime.tasks(), 0);
}

#[test]
fn a_scope_that_is_joined_waits_for_its_tasks() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    for is_given_up in [false, true] {
        let mut scope = runtime.scope();
        let task = scope.spawn(yield_now());
        let mut joined = Box::pin(scope.join());
        assert!(poll(&mut joined).is_pending());
        kept.run_tasks();
        assert!(poll(&mut joined).is_pending(), "the task is pending once");
        if is_given_up {
            task.cancel();
            drop(joined);
            kept.run_tasks();
        } else {
            kept.run_tasks();
            assert!(poll(&mut joined).is_ready());
        }
        assert!(task.is_finished());
    }
}

#[test]
fn a_scope_forgets_the_tasks_that_have_ended_and_no_others() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let mut scope = runtime.scope();
    let lasting: Vec<_> = (0..20).map(|_| scope.spawn(pending::<()>())).collect();
    let memory = Arc::new(());
    for _ in 0..200 {
        let memory = memory.clone();
        scope.spawn(async move { memory }).detach();
        kept.run_tasks();
    }
    assert_eq!(scope.running(), 20);
    let held = Arc::strong_count(&memory) - 1;
    assert!((1..60).contains(&held), "the scope holds the state of {held} tasks that have ended");
    drop(scope);
    kept.run_tasks();
    assert!(lasting.iter().all(|task| task.is_finished()));
}

#[test]
fn the_statistics_have_the_counts_of_each_part() {
    let kept = Kept::default();
    let runtime = kept.runtime(|config| {
        (config.blocking_threads, config.compute_threads) = (2, Some(1));
        config.stall_threshold = Duration::from_nanos(1);
    });
    runtime.spawn(ready(())).detach();
    runtime.spawn(pending::<()>()).detach();
    let mut work = [Work::Blocking, Work::Compute].map(|kind| {
        let runtime = runtime.clone();
        Box::pin(async move {
            match kind {
                Work::Blocking => runtime.blocking(|| ()).await,
                Work::Compute => runtime.compute(|| ()).await,
            }
        })
    });
    assert!(work.iter_mut().all(|work| poll(work).is_pending()));
    let stats = runtime.stats();
    assert_eq!((stats.backend, stats.workers, stats.waiting_for_worker, stats.loop_turns), ("kept", 3, 4, 5));
    assert_eq!((stats.tasks_started, stats.tasks_running, stats.stalls), (2, 2, 0));
    assert_eq!((stats.blocking.threads, stats.blocking.running, stats.blocking.started), (2, 1, 1));
    assert_eq!((stats.compute.threads, stats.compute.running, stats.compute.started), (1, 1, 1));
    kept.run_tasks();
    assert_eq!(kept.run_jobs(), [Work::Blocking, Work::Compute]);
    assert!(work.iter_mut().all(|work| poll(work).is_ready()));
    let stats = runtime.stats();
    assert_eq!((stats.tasks_started, stats.tasks_running), (2, 1));
    assert_eq!((stats.blocking.running, stats.compute.running), (0, 0));
    assert_eq!((runtime.backend(), runtime.threads_block()), ("kept", false));
    assert_eq!(format!("{runtime:?}"), "Runtime(\"kept\")");
}

#[test]
fn a_task_that_holds_its_thread_is_counted_as_a_stall() {
    let kept = Kept::default();
    let runtime = kept.runtime(|config| config.stall_threshold = Duration::from_millis(20));
    let hold = async {
        let began = CoarseInstant::now();
        while began.elapsed() < Duration::from_millis(20) {}
    };
    runtime.spawn(hold).detach();
    kept.run_tasks();
    assert_eq!(runtime.stats().stalls, 1);
}

/// A park that counts nothing and waits for nothing.
struct Busy;

impl Park for Busy {
    fn park(&self) {}

    fn unpark(&self) {}
}

#[test]
fn offloaded_work_runs_in_place_where_a_thread_may_be_held() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let places = |runtime: &Runtime| [Work::Blocking, Work::Compute].map(|kind| runtime.runs_in_place(kind));
    assert_eq!(places(&runtime), [false, false]);
    let worker = park::enter_worker(Arc::new(Busy));
    assert_eq!(places(&runtime), [true, true], "the worker of a blocking backend");
    drop(worker);
    let (of_blocking, of_compute) = (runtime.clone(), runtime.clone());
    let mut blocking = Box::pin(runtime.blocking(move || places(&of_blocking)));
    let mut compute = Box::pin(runtime.compute(move || places(&of_compute)));
    assert!(poll(&mut blocking).is_pending() && poll(&mut compute).is_pending());
    kept.run_jobs();
    assert_eq!(poll(&mut blocking), Poll::Ready([true, false]));
    assert_eq!(poll(&mut compute), Poll::Ready([true, true]));
}

#[test]
fn only_an_address_is_connected_to() {
    let runtime = Kept::default().runtime(|_| {});
    for (to, is_address) in [
        ("192.0.2.1:80", true),
        ("[2001:db8::1]:80", true),
        ("unix:/run/a", true),
        ("", false),
        ("host", false),
        (":80", false),
        ("192.0.2.1:", false),
        ("192.0.2.1:65536", false),
        ("http://host/", false),
    ] {
        let polled = poll(&mut pin!(runtime.connect(to)));
        let kind = match polled {
            Poll::Pending => None,
            Poll::Ready(connected) => Some(connected.expect_err("no connection is made").kind()),
        };
        assert_eq!(kind, (!is_address).then_some(io::ErrorKind::InvalidInput), "{to}");
    }
}

#[test]
fn a_future_runs_on_the_calling_thread() {
    let runtime = Kept::default().runtime(|_| {});
    assert_eq!(runtime.block_on(async { 7 }), 7);
    let (send, receive) = mpsc::channel::<Waker>();
    let waking = thread::spawn(move || receive.iter().for_each(Waker::wake));
    let mut is_woken = false;
    let later = poll_fn(|cx| {
        if std::mem::replace(&mut is_woken, true) {
            return Poll::Ready(8);
        }
        send.send(cx.waker().clone()).expect("the thread receives");
        Poll::Pending
    });
    assert_eq!(runtime.block_on(later), 8, "a wake-up of another thread ends the wait");
    drop(send);
    waking.join().expect("the thread does not panic");
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let far = Instant::now() + Duration::from_secs(3600);
    for deadline in [None, Some(far)] {
        assert_eq!(park::block_on_until(deadline, async { yield_now().await }), Some(()));
    }
    let passed = Instant::now();
    assert_eq!(park::block_on_until(Some(passed), ready(1)), Some(1));
    assert_eq!(park::block_on_until(Some(passed), pending::<()>()), None);
    let near = passed + Duration::from_millis(20);
    assert_eq!(park::block_on_until(Some(near), pending::<()>()), None);
    assert!(Instant::now() >= near);
}

/// A value whose drop panics.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as asked");
    }
}

#[test]
fn the_output_of_a_job_whose_requester_has_given_up_is_dropped_on_its_thread() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let (begun, begins) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let mut output = Box::pin(runtime.blocking(move || {
        begun.send(()).expect("the test waits");
        ended.recv().expect("the test sends");
        Bomb
    }));
    assert!(poll(&mut output).is_pending());
    let (_, job) = kept.jobs.lock().unwrap().pop().expect("a job was started");
    let thread = thread::spawn(job);
    begins.recv().expect("the job runs");
    drop(output);
    end.send(()).expect("the job waits");
    thread.join().expect("the panic of the drop is contained");
    assert_eq!(runtime.stats().blocking.running, 0);
}

#[test]
fn a_released_latch_wakes_the_last_waker_of_each_future() {
    let latch = Latch::new();
    let guards = [latch.guard(), latch.guard()];
    let counts: [Arc<WakeCount>; 3] = Default::default();
    let wakers = counts.each_ref().map(|count| Waker::from(count.clone()));
    let (mut one, mut two) = (pin!(latch.released()), pin!(latch.released()));
    for waker in &wakers[..2] {
        assert!(one.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    assert!(two.as_mut().poll(&mut Context::from_waker(&wakers[2])).is_pending());
    let woken = || counts.each_ref().map(|count| count.0.load(Ordering::SeqCst));
    for (guard, expected) in guards.into_iter().zip([[0, 0, 0], [0, 1, 1]]) {
        drop(guard);
        assert_eq!(woken(), expected);
    }
    assert!(one.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(latch.guards(), 0);
}

/// A reader that gives `pieces` in its reads.
struct Pieces(std::vec::IntoIter<io::Result<&'static str>>);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let piece = self.0.next().unwrap_or(Ok(""))?;
        into[..piece.len()].copy_from_slice(piece.as_bytes());
        Ok(piece.len())
    }
}

#[test]
fn a_body_of_a_reader_gives_what_its_reads_give() {
    let kept = Kept::default();
    let runtime = kept.runtime(|_| {});
    let interrupted = || Err(io::ErrorKind::Interrupted.into());
    let pieces = vec![Ok("ab"), interrupted(), Ok("cde"), Err(io::ErrorKind::BrokenPipe.into())];
    let mut body = Body::from_reader(&runtime, Some(7), Pieces(pieces.into_iter()));
    let mut seen = Vec::new();
    let error = loop {
        let before = body.remaining();
        assert_eq!(body.size_hint().exact(), before);
        assert!(poll(&mut pin!(body.chunk())).is_pending(), "a job reads");
        assert_eq!(kept.run_jobs(), [Work::Blocking]);
        match poll(&mut pin!(body.chunk())) {
            Poll::Ready(Some(Ok(piece))) => seen.push((before, piece)),
            Poll::Ready(Some(Err(error))) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seen, [(Some(7), "ab".into()), (Some(5), "cde".into())]);
    assert!(matches!(error, BodyError::Source(_)));

    let mut body = Body::from_reader(&runtime, None, Pieces(vec![Ok("ab")].into_iter()));
    assert_eq!(body.remaining(), None);
    for expected in [Some("ab"), None] {
        assert!(poll(&mut pin!(body.chunk())).is_pending());
        kept.run_jobs();
        let Poll::Ready(piece) = poll(&mut pin!(body.chunk())) else { panic!("the job has read") };
        assert_eq!(piece.map(|piece| piece.expect("no error")).as_deref(), expected.map(str::as_bytes));
    }
    assert!(matches!(poll(&mut pin!(body.chunk())), Poll::Ready(None)), "nothing follows the end");
}

#[test]
fn a_body_is_read_in_pieces_of_any_size() {
    for size in 1..8 {
        let pieces = ["abc", "", "defg"].map(|piece| Ok::<_, BodyError>(piece.into()));
        let mut reader = Body::from_stream(futures_lite::stream::iter(pieces)).reader();
        assert_eq!(reader.read(&mut []).expect("no error"), 0, "an empty read is not the end");
        let mut seen = Vec::new();
        let mut piece = vec![0; size];
        while let n @ 1.. = reader.read(&mut piece).expect("no error") {
            seen.extend_from_slice(&piece[..n]);
        }
        assert_eq!(seen, b"abcdefg");
    }
}

#[test]
fn settings_have_defaults_that_are_at_least_one() {
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let mut config = Config::default();
    assert_eq!(gearshift_core::config::cores(), cores);
    assert_eq!(Config::MAX_THREADS, 32_768);
    for (given, workers, compute, threads) in
        [(None, cores, cores, 16 * cores), (Some(0), 1, 1, 1), (Some(1), 1, 1, 1), (Some(7), 7, 7, 7)]
    {
        (config.workers, config.compute_threads, config.threads) = (given, given, given);
        assert_eq!(config.workers_or_cores(), workers);
        assert_eq!(config.compute_threads_or_cores(), compute);
        assert_eq!(config.threads_or_default(), threads);
    }
    for (workers, addresses, at_least, below) in [(1, 1, 6, 100), (1, 10, 24, 100), (8, 1, 48, 200)] {
        config.workers = Some(workers);
        // A loop has a poller and, for each address, a listener and a reserve.
        assert!((at_least..below).contains(&config.own_descriptors(addresses)), "{workers}, {addresses}");
    }
    for (overload, max_open) in [(Overload::Wait, 10), (Overload::Refuse, 10 + Overload::REFUSALS)] {
        (config.max_connections, config.overload) = (10, overload);
        assert_eq!(config.max_open(), max_open);
    }
    assert_eq!(config.shortest_timeout(), Duration::from_secs(2), "that of the lingering close");
    config.header_timeout = Duration::ZERO;
    assert_eq!(config.shortest_timeout(), Duration::from_millis(1));
}

#[test]
fn addresses_and_errors_are_shown_as_users_write_them() {
    let address = "192.0.2.1:80".parse().expect("an address");
    assert_eq!(Endpoint::Tcp(address).to_string(), "http://192.0.2.1:80");
    assert_eq!(Endpoint::Unix("/run/a".into()).to_string(), "unix:/run/a");
    assert_eq!(Elapsed(Duration::from_secs(2)).to_string(), "not ready within 2s");
    let shutdown = Shutdown::new();
    shutdown.graceful();
    assert_eq!(format!("{shutdown:?}"), "Shutdown(Graceful)");
}

#[cfg(feature = "pools")]
#[test]
fn the_threads_for_offloaded_work_run_each_kind() {
    use gearshift_core::{Server, Threads};

    let server = Server::bind(&[], Config::default()).expect("there is nothing to bind");
    let threads = Threads::new(&server).offload(server.config());
    for (kind, prefix) in [(Work::Compute, "compute-"), (Work::Blocking, "")] {
        let (send, receive) = mpsc::channel();
        threads.run(kind, Box::new(move || send.send(thread::current().name().map(str::to_owned)).unwrap()));
        let ran_on = receive.recv().expect("the job runs").unwrap_or_default();
        assert!(ran_on.starts_with(prefix), "{ran_on:?}");
    }
}
