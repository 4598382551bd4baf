//! What a handler may wait for: time, connections, and several of these at once.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt, future};
use gearshift::backend::clock::MAX_WAIT;
use gearshift::{
    Backend, BoxError, BoxFuture, Config, IntoResponse, Request, Response, Router, Runtime, StatusCode,
    Stream, blocking, compute, sync,
};
use socket2::{Domain, Socket, Type};
use test_support::PATIENCE;
use test_support::backend::{blocks, concurrency, few_workers};
use test_support::server::{Running, one};
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "waits",
    &[
        ("sleep_takes_its_time", sleep),
        ("timeout_returns_the_output_in_time", timeout_in_time),
        ("timeout_drops_a_future_that_is_late", timeout_too_late),
        ("a_wait_of_the_longest_duration_does_not_end", endless),
        ("timeout_bounds_the_wait_for_a_body", timeout_of_a_body),
        ("timeout_bounds_the_wait_of_a_blocking_handler_for_a_body", timeout_of_a_body_in_a_job),
        ("a_hundred_sleeps_at_once_take_as_long_as_one", many_sleeps),
        ("sleeps_that_are_awaited_one_by_one_overlap", awaited_one_by_one),
        ("connect_reaches_a_listener", connect),
        ("closing_a_connection_tells_its_peer", close),
        ("connect_looks_a_name_up", connect_by_name),
        ("connect_reaches_its_own_server", connect_to_itself),
        ("connect_fails_if_nothing_listens", connect_to_nobody),
        ("connect_passes_over_addresses_that_do_not_answer", connect_past_silence),
        ("connect_gives_up_after_its_timeout", connect_to_silence),
        ("a_lookup_takes_no_thread_of_the_blocking_pool", lookup_beside_a_full_pool),
        ("several_connections_are_awaited_at_once", connect_at_once),
        ("a_thread_of_the_application_waits_while_handlers_block_all_threads", wait_elsewhere),
        ("a_thread_of_the_application_polls_timers_and_streams_itself", poll_elsewhere),
        ("a_timer_outlives_its_server", timer_outlives),
        ("block_on_works_where_a_thread_may_block", block_on),
        ("block_on_in_place_works_or_panics", block_on_in_place),
    ],
);

/// The response 200 with `ok`, or 500 with the error.
async fn ok_or_why(outcome: impl Future<Output = Result<(), BoxError>>) -> Response {
    match outcome.await {
        Ok(()) => "ok".into_response(),
        Err(why) => Response::text(why.to_string()).with_status(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// Checks that a server whose handler does `work` answers `ok`. Returns how long the request took.
fn expect_ok<F, W>(backend: Backend, work: W) -> Duration
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
    W: Fn(Runtime) -> F + Send + Sync + 'static,
{
    expect_ok_with(backend, few_workers(backend), work)
}

/// The same with other settings.
fn expect_ok_with<F, W>(backend: Backend, config: Config, work: W) -> Duration
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
    W: Fn(Runtime) -> F + Send + Sync + 'static,
{
    let server = Running::start(backend, config, move |runtime| {
        one(move |_: Request| ok_or_why(work(runtime.clone())))
    });
    let began = Instant::now();
    assert_eq!(server.get("/").said(), (200, "ok".into()));
    began.elapsed()
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), BoxError> {
    if holds { Ok(()) } else { Err(what().into()) }
}

fn sleep(backend: Backend) {
    let took = expect_ok(backend, |runtime| async move {
        let began = Instant::now();
        runtime.sleep(Duration::ZERO).await;
        ensure(began.elapsed() < Duration::from_secs(2), || "no time took long".into())?;
        runtime.sleep(Duration::from_millis(60)).await;
        ensure(began.elapsed() >= Duration::from_millis(60), || format!("only {:?}", began.elapsed()))
    });
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn timeout_in_time(backend: Backend) {
    expect_ok(backend, |runtime| async move {
        let wait = async {
            runtime.sleep(Duration::from_millis(5)).await;
            7
        };
        let output = runtime.timeout(Duration::from_secs(60), wait).await?;
        ensure(output == 7, || format!("{output}"))
    });
}

fn endless(backend: Backend) {
    expect_ok(backend, |runtime| async move {
        for duration in [Duration::MAX, Duration::from_secs(u64::MAX / 2), MAX_WAIT, MAX_WAIT / 2] {
            let output = runtime.timeout(duration, runtime.sleep(Duration::from_millis(1))).await;
            ensure(output.is_ok(), || format!("a timeout of {duration:?} was over"))?;
            let output = runtime.timeout(Duration::from_millis(1), runtime.sleep(duration)).await;
            ensure(output.is_err(), || format!("a sleep of {duration:?} ended"))?;
            let sleeping = runtime.spawn(runtime.sleep(duration));
            runtime.sleep(Duration::from_millis(1)).await;
            sleeping.cancel();
            let ended = sleeping.await;
            ensure(ended.is_err(), || format!("a task that sleeps for {duration:?} ended"))?;
        }
        Ok(())
    });
}

fn timeout_too_late(backend: Backend) {
    expect_ok(backend, |runtime| async move {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Flag(dropped.clone());
        let never = async move {
            let _flag = flag;
            future::pending::<()>().await;
        };
        let outcome = runtime.timeout(Duration::from_millis(20), never).await;
        let said = outcome.err().map(|elapsed| elapsed.to_string());
        ensure(said.as_deref() == Some("not ready within 20ms"), || format!("{said:?}"))?;
        ensure(dropped.load(Ordering::SeqCst), || "the future lives on".into())
    });
}

/// Sends a large body that never ends, to a server that waits for it much longer than a test. Expects that the handler
/// gave up after [`SOON`].
fn expect_elapsed(backend: Backend, app: impl FnOnce(Runtime) -> Router + Send + 'static) {
    let mut config = few_workers(backend);
    (config.body_timeout, config.min_rate) = (100 * PATIENCE, 0);
    let server = Running::start(backend, config, app);
    let mut client = server.client();
    let began = Instant::now();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {TOO_LARGE}\r\n\r\nx"));
    assert_eq!(client.answer().said(), (200, "not ready within 300ms".into()));
    assert!(began.elapsed() >= SOON, "it took only {:?}", began.elapsed());
}

/// Too large for a body that is buffered before its handler begins.
const TOO_LARGE: usize = 1_000_000;
const SOON: Duration = Duration::from_millis(300);

/// Waits for a body, and describes the outcome.
async fn body_or_elapsed(runtime: Runtime, request: Request) -> String {
    match runtime.timeout(SOON, request.into_body().bytes(TOO_LARGE)).await {
        Ok(body) => format!("{body:?}"),
        Err(elapsed) => elapsed.to_string(),
    }
}

fn timeout_of_a_body(backend: Backend) {
    expect_elapsed(backend, |runtime| {
        Router::new().post("/", move |request| body_or_elapsed(runtime.clone(), request))
    });
}

fn timeout_of_a_body_in_a_job(backend: Backend) {
    expect_elapsed(backend, |runtime| {
        let wait = move |request| runtime.block_on(body_or_elapsed(runtime.clone(), request));
        Router::new().post("/", blocking(wait))
    });
}

/// Sets a flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Waits for all of `futures` at the same time.
pub(crate) async fn all(futures: Vec<BoxFuture<()>>) {
    let mut waiting = futures;
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The number of sleeps of [`EACH`] that should overlap. One after another they take ten seconds, and a busy machine
/// adds far less than half of that.
pub(crate) const SLEEPS: u32 = 100;
pub(crate) const EACH: Duration = Duration::from_millis(100);

fn many_sleeps(backend: Backend) {
    let took = expect_ok(backend, |runtime| async move {
        let began = Instant::now();
        let sleeps = (0..SLEEPS).map(|_| Box::pin(runtime.sleep(EACH)) as BoxFuture<()>);
        all(sleeps.collect()).await;
        ensure(began.elapsed() >= EACH, || format!("only {:?}", began.elapsed()))
    });
    assert!(took < SLEEPS * EACH / 2, "the sleeps took {took:?}");
}

fn awaited_one_by_one(backend: Backend) {
    let took = expect_ok(backend, |runtime| async move {
        let sleeps: Vec<_> = (0..SLEEPS).map(|_| runtime.sleep(EACH)).collect();
        for sleep in sleeps {
            sleep.await;
        }
        Ok(())
    });
    assert!(took < SLEEPS * EACH / 2, "the sleeps took {took:?}");
}

/// The address of a listener that echoes all bytes of a connection until the peer stops sending.
fn echoing_listener() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    thread::spawn(move || {
        while let Ok((peer, _)) = listener.accept() {
            thread::spawn(move || io::copy(&mut &peer, &mut &peer));
        }
    });
    address
}

async fn expect_echo(mut stream: Stream) -> Result<(), BoxError> {
    // This exceeds the initial buffer of a socket, so both directions have to make progress.
    for round in 0..5_u8 {
        let piece = vec![round; 100_000];
        let mut heard = vec![0; piece.len()];
        stream.write_all(&piece).await?;
        stream.flush().await?;
        stream.read_exact(&mut heard).await?;
        ensure(heard == piece, || format!("round {round}"))?;
    }
    Ok(())
}

fn connect(backend: Backend) {
    let address = echoing_listener();
    expect_ok(backend, move |runtime| {
        let address = address.clone();
        async move { expect_echo(runtime.connect(&address).await?).await }
    });
}

fn close(backend: Backend) {
    let address = echoing_listener();
    expect_ok(backend, move |runtime| {
        let address = address.clone();
        async move {
            let mut stream = runtime.connect(&address).await?;
            stream.write_all(b"the end").await?;
            // The listener echoes until the sending side is closed, and then closes its own side.
            stream.close().await?;
            let mut heard = String::new();
            runtime.timeout(Duration::from_secs(5), stream.read_to_string(&mut heard)).await??;
            ensure(heard == "the end", || heard)
        }
    });
}

fn connect_by_name(backend: Backend) {
    let address = echoing_listener().replace("127.0.0.1", "localhost");
    expect_ok(backend, move |runtime| {
        let address = address.clone();
        async move { expect_echo(runtime.connect(&address).await?).await }
    });
}

fn connect_to_itself(backend: Backend) {
    let is_busy = concurrency(backend) == Some(1);
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        Router::new().get("/", sync(|_| "inner")).get("/via/{port}", move |request: Request| {
            let runtime = runtime.clone();
            ok_or_why(async move {
                let port = request.param("port").unwrap_or_default().into_owned();
                let mut stream = runtime.connect(&format!("127.0.0.1:{port}")).await?;
                if is_busy {
                    // The only thread runs this handler, so the server cannot answer.
                    return Ok(());
                }
                stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").await?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await?;
                ensure(answer.ends_with("\r\n\r\ninner"), || answer)
            })
        })
    });
    let path = format!("/via/{}", server.addr().port());
    assert_eq!(server.get(&path).said(), (200, "ok".into()));
}

fn connect_to_nobody(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    drop(listener);
    expect_ok(backend, move |runtime| {
        let address = address.clone();
        async move {
            match runtime.connect(&address).await {
                Err(error) => ensure(error.kind() == io::ErrorKind::ConnectionRefused, || error.to_string())?,
                Ok(_) => return Err("something listens".into()),
            }
            match runtime.connect("unix:/nonexistent/socket").await {
                Err(error) => ensure(error.kind() == io::ErrorKind::NotFound, || error.to_string()),
                Ok(_) => Err("something listens".into()),
            }
        }
    });
}

/// A listener on a loopback address that answers no further attempt to connect: its queue is full.
struct Silence {
    _listener: Socket,
    _queued: TcpStream,
    address: SocketAddr,
}

impl Silence {
    fn at(last: u8) -> Silence {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let ip = Ipv4Addr::new(127, 0, 0, last);
        listener.bind(&SocketAddr::from((ip, 0)).into()).expect("a free port");
        // The system adds a place to the queue.
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound").as_socket().expect("an IP address");
        let queued = TcpStream::connect(address).expect("the queue has a place");
        Silence { _listener: listener, _queued: queued, address }
    }
}

/// With a wait for each address, one after the other, the connection would take longer than the test.
fn connect_past_silence(backend: Backend) {
    let silence = [2, 3, 4].map(Silence::at);
    let echo: SocketAddr = echoing_listener().parse().expect("an address");
    let mut addresses: Vec<_> = silence.iter().map(|silence| silence.address).collect();
    addresses.push(echo);
    expect_ok(backend, move |runtime| {
        let addresses = addresses.clone();
        async move { expect_echo(runtime.connect_any(addresses).await?).await }
    });
}

fn connect_to_silence(backend: Backend) {
    let silence = Silence::at(2);
    let address = silence.address;
    let mut config = few_workers(backend);
    config.connect_timeout = Duration::from_millis(50);
    expect_ok_with(backend, config, move |runtime| async move {
        for outcome in [runtime.connect(&address.to_string()).await, runtime.connect_any([address]).await] {
            let kind = outcome.err().map(|error| error.kind());
            ensure(kind == Some(io::ErrorKind::TimedOut), || format!("{kind:?}"))?;
        }
        Ok(())
    });
}

fn lookup_beside_a_full_pool(backend: Backend) {
    let address = echoing_listener().replace("127.0.0.1", "localhost");
    let mut config = few_workers(backend);
    config.blocking_threads = 1;
    expect_ok_with(backend, config, move |runtime| {
        let address = address.clone();
        async move {
            let (release, released) = mpsc::channel::<()>();
            let (begun, begins) = mpsc::channel();
            let job = runtime.blocking(move || {
                let _ = begun.send(());
                let _ = released.recv();
            });
            let holder = runtime.spawn(job);
            while begins.try_recv().is_err() {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            expect_echo(runtime.connect(&address).await?).await?;
            drop(release);
            Ok(holder.await?)
        }
    });
}

fn connect_at_once(backend: Backend) {
    let address = echoing_listener();
    expect_ok(backend, move |runtime| {
        let address = address.clone();
        async move {
            let each = |_| {
                let (runtime, address) = (runtime.clone(), address.clone());
                let work = async move { expect_echo(runtime.connect(&address).await?).await };
                Box::pin(async move { work.await.expect("an echo") }) as BoxFuture<()>
            };
            all((0..5).map(each).collect()).await;
            Ok(())
        }
    });
}

fn block_on(backend: Backend) {
    let address = echoing_listener();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let work = move |runtime: &Runtime| {
            let both = async {
                runtime.sleep(Duration::from_millis(5)).await;
                let stream = runtime.connect(&address).await?;
                expect_echo(stream).await
            };
            runtime.block_on(both).map_or_else(|why| why.to_string(), |()| "ok".to_owned())
        };
        let work = Arc::new(work);
        let (inside, other, burn) = (runtime.clone(), runtime, work.clone());
        Router::new()
            .get("/blocking", blocking(move |_| work(&inside)))
            .get("/compute", compute(move |_| burn(&other)))
    });
    assert_eq!(server.get("/blocking").said(), (200, "ok".into()));
    assert_eq!(server.get("/compute").said(), (200, "ok".into()));
}

fn block_on_in_place(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |runtime| {
        Router::new().get("/fine", sync(|_| "fine")).get(
            "/",
            sync(move |_| {
                // The reason is the message of the panic.
                let waiting =
                    std::panic::AssertUnwindSafe(|| runtime.block_on(runtime.sleep(Duration::ZERO)));
                match std::panic::catch_unwind(waiting) {
                    Ok(()) => "waited".to_owned(),
                    Err(panic) => {
                        panic.downcast_ref::<&str>().map_or_else(String::new, |why| (*why).to_owned())
                    }
                }
            }),
        )
    });
    let said = server.get("/").text();
    if blocks(backend) {
        assert_eq!(said, "waited");
    } else {
        assert!(said.contains("wrap the handler in `blocking`"), "{said}");
    }
    assert_eq!(server.get("/fine").text(), "fine");
}

/// The timers and sockets of a thread that the application has created depend on no handler of a blocking backend.
fn wait_elsewhere(backend: Backend) {
    let threads = concurrency(backend).unwrap_or(0);
    let (begin, begun) = mpsc::channel();
    let (keep, runtimes) = mpsc::channel();
    let hold = Arc::new(AtomicBool::new(true));
    let holding = hold.clone();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let _ = keep.send(runtime);
        one(sync(move |_| {
            let _ = begin.send(());
            while holding.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            "held"
        }))
    });
    let runtime = runtimes.recv_timeout(PATIENCE).expect("the application has started");
    let mut clients: Vec<_> = (0..threads).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("/");
        begun.recv_timeout(PATIENCE).expect("a thread is free");
    }
    let (done, is_done) = mpsc::channel();
    let waiting = thread::spawn(move || {
        runtime.block_on(runtime.sleep(Duration::from_millis(20)));
        let _ = done.send(());
    });
    let in_time = is_done.recv_timeout(PATIENCE / 2);
    hold.store(false, Ordering::Release);
    clients.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "held"));
    waiting.join().expect("the thread ends");
    assert!(in_time.is_ok(), "the timer waited for the handlers");
}

/// Calls `work` with the runtime of a server, on a thread that the backend does not know.
fn on_a_thread(backend: Backend, work: impl FnOnce(Runtime) -> Result<(), BoxError> + Send + 'static) {
    let (keep, runtimes) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let _ = keep.send(runtime);
        one(sync(|_| "fine"))
    });
    let runtime = runtimes.recv_timeout(PATIENCE).expect("the application has started");
    let worked = thread::spawn(move || work(runtime).map_err(|error| error.to_string()));
    assert_eq!(worked.join().expect("the thread does not panic"), Ok(()));
    drop(server);
}

/// A thread may poll without [`Runtime::block_on`], for example in the executor of another library.
fn poll_elsewhere(backend: Backend) {
    let address = echoing_listener();
    on_a_thread(backend, move |runtime| {
        let waits = async {
            runtime.sleep(Duration::from_millis(2)).await;
            let never = runtime.timeout(Duration::from_millis(2), future::pending::<()>()).await;
            ensure(never.is_err(), || "no time passed".into())?;
            drop(runtime.sleep(PATIENCE));
            let mut polled = Box::pin(runtime.sleep(PATIENCE));
            ensure(future::poll_once(&mut polled).await.is_none(), || "no time passed".into())?;
            expect_echo(runtime.connect(&address).await?).await
        };
        future::block_on(waits)
    });
}

/// A thread that waits for a timer goes on when the server ends, and may begin another wait.
fn timer_outlives(backend: Backend) {
    let (keep, runtimes) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let _ = keep.send(runtime);
        one(sync(|_| "fine"))
    });
    let runtime = runtimes.recv_timeout(PATIENCE).expect("the application has started");
    let (begin, begun) = mpsc::channel();
    let waiting = thread::spawn(move || {
        let mut first = runtime.sleep(Duration::from_secs(1));
        let polled = future::block_on(future::poll_once(&mut first));
        let _ = begin.send(polled.is_none());
        runtime.block_on(first);
        runtime.block_on(runtime.sleep(Duration::from_millis(10)));
    });
    assert_eq!(begun.recv_timeout(PATIENCE), Ok(true), "the timer is due later");
    server.stop();
    waiting.join().expect("the thread does not panic");
}
