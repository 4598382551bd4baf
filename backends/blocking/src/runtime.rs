//! What stands behind `Runtime` on a blocking backend: the waits of async-io, and one background thread.
//!
//! A handler's own future runs on the worker that has its request, and its waits overlap there. What outlives the
//! request runs on a thread named "background", made at the first [`Engine::spawn`], one for a server,
//! and joined when the server has ended.

use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use async_executor::Executor;
use async_io::{Async, Timer};
use gearshift_core::{BoxFuture, Endpoint, Engine, EngineStats, Job, Stream, Work};

use crate::pulse::Pulse;
use crate::serve::LAST_WAIT;
use crate::worker::Worker;

/// The engine of a blocking backend. Clones share one background thread.
#[derive(Clone, Debug)]
pub struct BlockingEngine {
    backend: &'static str,
    pulse: Arc<Pulse>,
    background: Arc<Mutex<Background>>,
}

/// The thread that runs background tasks.
#[derive(Debug)]
enum Background {
    /// Nothing was spawned yet.
    Unused,
    /// It runs.
    Running(Running),
    /// The server has ended.
    Stopped,
}

#[derive(Debug)]
struct Running {
    executor: Arc<Executor<'static>>,
    stop: Arc<Mutex<Stop>>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread has nothing left to do.
    home: Receiver<()>,
}

/// Whether the background thread is to end.
#[derive(Debug)]
enum Stop {
    NotAsked(Waker),
    Asked,
}

impl BlockingEngine {
    /// An engine for the backend of this name, whose server says by `pulse` how it is doing.
    pub fn new(backend: &'static str, pulse: &Arc<Pulse>) -> BlockingEngine {
        let background = Arc::new(Mutex::new(Background::Unused));
        BlockingEngine { backend, pulse: pulse.clone(), background }
    }

    /// Ends the background thread, and waits for it to have ended, for a second at most. What it has not finished is
    /// dropped, on that thread, and so is what is spawned later.
    pub fn stop(&self) {
        let background = std::mem::replace(&mut *lock(&self.background), Background::Stopped);
        let Background::Running(Running { executor, stop, thread, home }) = background else { return };
        drop(executor);
        let before = std::mem::replace(&mut *lock(&stop), Stop::Asked);
        if let Stop::NotAsked(waker) = before {
            waker.wake();
        }
        match home.recv_timeout(LAST_WAIT) {
            Err(RecvTimeoutError::Timeout) => {
                log::warn!("a background task holds its thread, which is left behind")
            }
            // It ends with nothing but its own clean-up to do. A panic was logged, and is nobody's here.
            _ => drop(thread.join()),
        }
    }
}

impl Engine for BlockingEngine {
    fn backend(&self) -> &'static str {
        self.backend
    }

    fn sleep(&self, until: Instant) -> BoxFuture<()> {
        Box::pin(async move {
            Timer::at(until).await;
        })
    }

    fn connect(&self, to: Endpoint) -> BoxFuture<io::Result<Stream>> {
        Box::pin(async move {
            match to {
                Endpoint::Tcp(address) => {
                    let socket = Async::<TcpStream>::connect(address).await?;
                    socket.get_ref().set_nodelay(true)?;
                    Ok(Stream::from_socket(socket))
                }
                Endpoint::Unix(path) => Async::<UnixStream>::connect(path).await.map(Stream::from_socket),
            }
        })
    }

    fn spawn(&self, task: BoxFuture<()>) {
        let mut background = lock(&self.background);
        if let Background::Unused = *background {
            match start_background() {
                Ok(running) => *background = running,
                Err(error) => return log::error!("no thread for background tasks, one was dropped: {error}"),
            }
        }
        if let Background::Running(running) = &*background {
            let executor = running.executor.clone();
            // A task may start others, also while it is dropped: not under the lock.
            drop(background);
            executor.spawn(task).detach();
        }
    }

    fn runs_in_place(&self) -> bool {
        Worker::is_marked()
    }

    /// Both kinds go to the same threads: only background tasks and the application's start get here, and one that
    /// computes must not hold up the others. Requests have threads of their own.
    fn offload(&self, _: Work, job: Job) {
        blocking::unblock(job).detach();
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        async_io::block_on(future);
    }

    fn engine_stats(&self) -> EngineStats {
        self.pulse.engine_stats()
    }
}

fn start_background() -> io::Result<Background> {
    let executor = Arc::new(Executor::new());
    let stop = Arc::new(Mutex::new(Stop::NotAsked(Waker::noop().clone())));
    let (running, asked) = (executor.clone(), stop.clone());
    let (at_work, home) = mpsc::channel::<()>();
    let thread = thread::Builder::new().name("background".into()).spawn(move || {
        async_io::block_on(running.run(stopped(asked)));
        // Tasks that are left are dropped with the last handle to the executor, which is this one.
        drop(running);
        drop(at_work);
    })?;
    Ok(Background::Running(Running { executor, stop, thread, home }))
}

/// Ready once a stop was asked for.
fn stopped(stop: Arc<Mutex<Stop>>) -> impl Future<Output = ()> {
    poll_fn(move |cx| match &mut *lock(&stop) {
        Stop::Asked => Poll::Ready(()),
        Stop::NotAsked(waker) => {
            waker.clone_from(cx.waker());
            Poll::Pending
        }
    })
}

/// Nothing is left half done by a panic under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use gearshift_core::{Config, Runtime, TaskError};

    use super::*;

    fn runtime() -> (BlockingEngine, Runtime) {
        let engine = BlockingEngine::new("test", &Arc::default());
        (engine.clone(), Runtime::new(engine, &Config::default()))
    }

    fn thread_name() -> String {
        thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn waits_overlap() {
        let (_, runtime) = runtime();
        let long = Duration::from_millis(200);
        let began = Instant::now();
        runtime.block_on(async {
            let sleeps: Vec<_> = (0..10).map(|_| runtime.sleep(long)).collect();
            for sleep in sleeps {
                sleep.await;
            }
        });
        assert!(began.elapsed() >= long);
        assert!(began.elapsed() < 10 * long);
    }

    #[test]
    fn connects_and_talks() {
        let (_, runtime) = runtime();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap().to_string();
        let peer = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut ping = [0; 4];
            socket.read_exact(&mut ping).unwrap();
            socket.write_all(&ping).unwrap();
        });
        runtime.block_on(async {
            let mut stream = runtime.connect(&to).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut pong = String::new();
            stream.read_to_string(&mut pong).await.unwrap();
            assert_eq!(pong, "ping");
        });
        peer.join().unwrap();
    }

    #[test]
    fn tasks_run_on_one_background_thread() {
        let (engine, runtime) = runtime();
        let names = runtime.block_on(async {
            let tasks: Vec<_> =
                (0..4).map(|_| runtime.spawn(async { (thread_name(), thread::current().id()) })).collect();
            let mut names = Vec::new();
            for task in tasks {
                names.push(task.await.unwrap());
            }
            names
        });
        assert_eq!(names[0].0, "background");
        assert!(names.iter().all(|name| *name == names[0]));
        engine.stop();
    }

    #[test]
    fn stopping_drops_tasks_also_those_that_come_later() {
        let (engine, runtime) = runtime();
        let held = runtime.clone();
        let task = runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        engine.stop();
        assert_eq!(runtime.block_on(task), Err(TaskError::Cancelled));
        let late = runtime.spawn(async {});
        assert_eq!(runtime.block_on(late), Err(TaskError::Cancelled));
        runtime.block_on(runtime.tasks_ended());
    }

    #[test]
    fn stopping_waits_until_tasks_are_dropped_on_their_thread() {
        struct Tells(mpsc::Sender<String>);
        impl Drop for Tells {
            fn drop(&mut self) {
                thread::yield_now();
                self.0.send(thread_name()).unwrap();
            }
        }
        let (engine, runtime) = runtime();
        let (tell, told) = mpsc::channel();
        for _ in 0..10 {
            let tells = Tells(tell.clone());
            runtime
                .spawn(async move {
                    std::future::pending::<()>().await;
                    drop(tells);
                })
                .detach();
        }
        engine.stop();
        let names: Vec<_> = told.try_iter().collect();
        assert_eq!(names, ["background"; 10]);
    }

    #[test]
    fn stopping_leaves_a_task_behind_that_blocks() {
        let (engine, runtime) = runtime();
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        runtime
            .spawn(async move {
                begin.send(()).unwrap();
                let _ = released.recv();
            })
            .detach();
        begun.recv().unwrap();
        let began = Instant::now();
        engine.stop();
        assert!(began.elapsed() >= LAST_WAIT);
        drop(release);
    }

    #[test]
    fn work_runs_in_place_on_a_worker_and_elsewhere_off_one() {
        let (_, runtime) = runtime();
        let here = thread::current().id();
        let there = |runtime: &Runtime| {
            let blocking = runtime.block_on(runtime.blocking(|| thread::current().id()));
            let compute = runtime.block_on(runtime.compute(|| thread::current().id()));
            [blocking, compute]
        };
        assert!(there(&runtime).iter().all(|id| *id != here));
        let worker = Worker::mark();
        assert_eq!(there(&runtime), [here, here]);
        drop(worker);
        assert!(there(&runtime).iter().all(|id| *id != here));
    }

    #[test]
    fn a_background_task_that_computes_does_not_stall_the_others() {
        let (engine, runtime) = runtime();
        let (release, released) = mpsc::channel::<()>();
        let computing = runtime.clone();
        let slow = runtime.spawn(async move { computing.compute(move || released.recv().is_ok()).await });
        assert_eq!(runtime.block_on(runtime.spawn(async { 7 })), Ok(7));
        release.send(()).unwrap();
        assert_eq!(runtime.block_on(slow), Ok(true));
        engine.stop();
    }
}
