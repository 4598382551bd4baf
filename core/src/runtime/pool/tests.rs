//! The admission with threads that are the test itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The jobs that were passed to threads, for the test to run.
type Kept = Arc<Mutex<VecDeque<(Work, Job)>>>;

/// A pool, its started jobs, and the log of the jobs that have run.
struct Rig {
    pool: Arc<Pool>,
    kept: Kept,
    log: Arc<Mutex<Vec<&'static str>>>,
}

use Requester::{Handler, Other};

impl Rig {
    fn new(kind: Work, threads: usize, max_queue: usize) -> Rig {
        let kept = Kept::default();
        let keeps = kept.clone();
        let run = move |kind, job| lock(&keeps).push_back((kind, job));
        let pool = Pool::new(kind, threads, max_queue, Overload::Wait, run);
        Rig { pool, kept, log: Arc::default() }
    }

    /// Offloads a job that does `work` and then writes its name to the log.
    fn offload_with(
        &self,
        requester: Requester,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> Option<Position> {
        let log = self.log.clone();
        let job = Box::new(move || {
            work();
            lock(&log).push(name);
        });
        self.pool.admit(job, requester, false).expect("the job may wait")
    }

    fn offload(&self, requester: Requester, name: &'static str) -> Option<Position> {
        self.offload_with(requester, name, || {})
    }

    /// Runs the job that was started first, and the jobs that its thread takes next. Returns the kind of the thread.
    fn run(&self) -> Work {
        let (kind, job) = lock(&self.kept).pop_front().expect("a job was started");
        job();
        kind
    }

    /// The number of jobs that were started and have not run.
    fn started(&self) -> usize {
        lock(&self.kept).len()
    }

    /// The numbers of running and of queued jobs.
    fn counts(&self) -> (usize, usize) {
        let stats = self.pool.stats();
        (stats.running, stats.queued)
    }

    fn expect_log(&self, names: &[&str]) {
        assert_eq!(*lock(&self.log), names);
    }
}

/// The number of lines that the pools have logged about places that are lent. The first call begins the count.
fn lines_about_lending() -> usize {
    static LINES: AtomicUsize = AtomicUsize::new(0);
    struct Count;
    impl log::Log for Count {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            let is_about =
                record.level() == log::Level::Warn && record.args().to_string().contains("compute pool");
            LINES.fetch_add(usize::from(is_about), Ordering::SeqCst);
        }

        fn flush(&self) {}
    }
    if log::set_logger(&Count).is_ok() {
        log::set_max_level(log::LevelFilter::Warn);
    }
    LINES.load(Ordering::SeqCst)
}

/// Makes the calling thread run a job of `pool` until the returned value is dropped.
fn enter(pool: &Arc<Pool>) -> impl Drop {
    struct Entered;
    impl Drop for Entered {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    CURRENT.set(Some(pool.clone()));
    Entered
}

#[test]
fn jobs_beyond_the_places_are_queued_and_run_in_their_order() {
    for threads in [0, 1] {
        let rig = Rig::new(Work::Compute, threads, 8);
        let positions = [
            rig.offload(Handler, "a"),
            rig.offload(Other, "b"),
            rig.offload(Handler, "c"),
            rig.offload(Other, "d"),
            rig.offload(Other, "e"),
            rig.offload(Handler, "f"),
        ];
        assert_eq!(positions.each_ref().map(Option::is_some), [false, true, true, true, true, true]);
        assert_eq!((rig.started(), rig.counts()), (1, (1, 5)));
        assert_eq!(rig.run(), Work::Compute);
        rig.expect_log(&["a", "b", "c", "d", "e", "f"]);
        assert_eq!((rig.started(), rig.counts()), (0, (0, 0)));
        let stats = rig.pool.stats();
        assert_eq!((stats.threads, stats.started, stats.waits, stats.refused), (1, 6, 5, 0));
    }
}

#[test]
fn a_pool_has_as_many_places_as_threads() {
    let rig = Rig::new(Work::Blocking, 3, 8);
    let positions = ["a", "b", "c", "d"].map(|name| rig.offload(Handler, name));
    assert_eq!((rig.started(), rig.counts()), (3, (3, 1)));
    rig.run();
    rig.expect_log(&["a", "d"]);
    assert_eq!(rig.counts(), (2, 0));
    drop(positions);
    // The place is free again.
    assert!(rig.offload(Handler, "e").is_none());
    assert_eq!(rig.counts(), (3, 0));
}

#[test]
fn a_job_whose_position_is_dropped_is_not_run() {
    for requester in [Handler, Other] {
        let rig = Rig::new(Work::Blocking, 1, 8);
        let [_, b, c, d] = ["a", "b", "c", "d"].map(|name| rig.offload(requester, name));
        drop(c);
        assert_eq!(rig.counts(), (1, 2));
        rig.run();
        rig.expect_log(&["a", "b", "d"]);
        // The jobs have left the queue before their positions.
        drop((b, d));
        assert_eq!(rig.pool.stats().started, 3);
    }
}

#[test]
fn a_job_that_may_be_refused_is_refused_by_a_full_queue() {
    let rig = Rig::new(Work::Blocking, 1, 2);
    let admit = |requester, may_refuse| rig.pool.admit(Box::new(|| {}), requester, may_refuse);
    let _running = admit(Handler, true).expect("a place is free");
    let _first = admit(Handler, true).expect("the queue is empty");
    let _second = admit(Other, true).expect("the queue has one job");
    assert_eq!(admit(Handler, true).err(), Some(Busy));
    assert_eq!(admit(Other, true).err(), Some(Busy));
    let _third = admit(Other, false).expect("the job may wait");
    assert_eq!((rig.counts(), rig.pool.stats().refused), ((1, 3), 2));
}

#[test]
fn a_waiting_job_lends_its_place_to_a_job_of_a_task() {
    for kind in [Work::Blocking, Work::Compute] {
        let rig = Rig::new(kind, 1, 8);
        rig.offload(Handler, "waits");
        let handler = rig.offload(Handler, "of a handler");
        let queued = rig.offload(Other, "of a task");
        assert_eq!((rig.started(), rig.counts()), (1, (1, 2)));
        let entered = enter(&rig.pool);
        let lent = Pool::lend_place().expect("a place to lend");
        drop(entered);
        assert_eq!((rig.started(), rig.counts()), (2, (2, 1)));
        // There is one place to lend.
        let second = rig.offload(Other, "of another task");
        assert_eq!((rig.started(), rig.counts()), (2, (2, 2)));
        lock(&rig.kept).rotate_left(1);
        assert_eq!(rig.run(), Work::Blocking, "the threads of the pool may be held");
        rig.expect_log(&["of a task", "of another task"]);
        assert_eq!(rig.counts(), (1, 1), "the job of the handler waits for a place");
        // A job of a task that is offloaded later is a guest at once.
        assert!(rig.offload(Other, "a late one").is_none());
        assert_eq!((rig.started(), rig.counts()), (2, (2, 1)));
        drop(lent);
        assert_eq!(rig.run(), kind);
        rig.run();
        rig.expect_log(&["of a task", "of another task", "waits", "of a handler", "a late one"]);
        assert_eq!((rig.started(), rig.counts()), (0, (0, 0)));
        drop((handler, queued, second));
    }
}

#[test]
fn a_guest_ends_when_the_job_of_its_place_has_ended_its_wait() {
    let rig = Rig::new(Work::Blocking, 1, 8);
    rig.offload(Handler, "waits");
    let entered = enter(&rig.pool);
    let lent = Pool::lend_place().expect("a place to lend");
    drop(entered);
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let lent = Mutex::new(Some(lent));
    rig.offload_with(Other, "guest", move || {
        drop(lock(&lent).take());
        drop(end);
    });
    let queued = rig.offload(Other, "queued");
    lock(&rig.kept).rotate_left(1);
    rig.run();
    assert!(ended.recv().is_err());
    rig.expect_log(&["guest"]);
    assert_eq!((rig.started(), rig.counts()), (1, (1, 1)));
    assert!(rig.offload(Other, "later").is_some(), "no place is lent");
    rig.run();
    rig.expect_log(&["guest", "waits", "queued"]);
    drop(queued);
}

#[test]
fn a_place_that_is_lent_again_keeps_its_guest() {
    let rig = Rig::new(Work::Blocking, 1, 8);
    rig.offload(Handler, "waits");
    let entered = enter(&rig.pool);
    let lent = Pool::lend_place();
    rig.offload(Other, "guest");
    drop(lent);
    let queued = rig.offload(Other, "queued");
    let lent = Pool::lend_place();
    assert!(queued.is_some() && lent.is_some());
    assert_eq!((rig.started(), rig.counts()), (2, (2, 1)));
    drop(entered);
}

#[test]
fn guests_may_wait_for_guests_and_the_number_of_lent_places_has_a_limit() {
    let rig = Rig::new(Work::Compute, 1, 8);
    rig.offload(Handler, "first");
    let entered = enter(&rig.pool);
    let mut lent = Vec::new();
    for _ in 0..MAX_LENT {
        lent.push(Pool::lend_place().expect("a place to lend"));
        assert!(rig.offload(Other, "guest").is_none());
    }
    assert_eq!(rig.counts(), (1 + MAX_LENT, 0));
    assert_eq!(lines_about_lending(), 0);
    assert!(Pool::lend_place().is_none());
    assert!(Pool::lend_place().is_none());
    assert_eq!(lines_about_lending(), 1, "the second line would follow within a second");
    let waits = rig.offload(Other, "beyond the limit");
    assert!(waits.is_some());
    drop(lent.pop());
    assert!(Pool::lend_place().is_some());
    drop(entered);
    assert!(Pool::lend_place().is_none(), "the thread runs no job");
    drop(waits);
}

#[test]
fn a_place_comes_back_from_a_job_that_panics_and_from_a_backend_that_stops() {
    let rig = Rig::new(Work::Blocking, 1, 8);
    rig.offload_with(Handler, "panics", || std::panic::panic_any("as it was asked to"));
    let next = rig.offload(Handler, "next");
    rig.run();
    rig.expect_log(&["next"]);
    assert_eq!(rig.counts(), (0, 0));
    // A place and a guest whose threads do not run them.
    rig.offload(Handler, "dropped");
    let entered = enter(&rig.pool);
    let lent = Pool::lend_place();
    drop(entered);
    rig.offload(Other, "dropped");
    assert_eq!((rig.started(), rig.counts()), (2, (2, 0)));
    lock(&rig.kept).clear();
    assert_eq!(rig.counts(), (0, 0));
    drop((lent, next));
}

#[test]
fn a_job_runs_its_own_work_in_place_if_it_would_wait_for_its_pool() {
    assert!(![Work::Blocking, Work::Compute].into_iter().any(Pool::runs_in_place));
    let rig = Rig::new(Work::Compute, 1, 8);
    let entered = enter(&rig.pool);
    assert!([Work::Blocking, Work::Compute].into_iter().all(Pool::runs_in_place));
    drop(entered);
    let rig = Rig::new(Work::Blocking, 1, 8);
    let _entered = enter(&rig.pool);
    assert_eq!([Work::Blocking, Work::Compute].map(Pool::runs_in_place), [true, false]);
}

#[test]
fn a_thread_belongs_to_the_pool_whose_job_it_runs() {
    let rig = Rig::new(Work::Blocking, 1, 8);
    let seen = Arc::new(Mutex::new(None));
    let sees = seen.clone();
    rig.offload_with(Handler, "looks", move || *lock(&sees) = Some(Pool::runs_in_place(Work::Blocking)));
    rig.run();
    assert_eq!(*lock(&seen), Some(true));
    assert!(!Pool::runs_in_place(Work::Blocking));
    for (overload, refuses) in [(Overload::Wait, false), (Overload::Refuse, true)] {
        let pool = Pool::new(Work::Blocking, 1, 8, overload, |_, _| {});
        assert_eq!(pool.refuses(), refuses);
    }
}
