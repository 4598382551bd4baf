//! Timers and sockets of smol's own, in tasks of the backend.

use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gearshift_core::{App, Backend, Config, Router, Runtime, Server};
use gearshift_smol::Smol;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Timer};

/// Runs `task` as a background task of a server: it is the start of the application.
fn run<F: Future<Output = ()> + Send>(task: impl FnOnce(Runtime) -> F + Send + 'static) {
    let server = Server::bind(&[], Config::default()).unwrap();
    let shutdown = server.shutdown();
    let app = App::start(async move |runtime: Runtime| {
        task(runtime).await;
        shutdown.graceful();
        Ok(Router::new())
    });
    Smol.serve(server, app).unwrap();
}

#[test]
fn a_timer_of_smol_wakes_a_task() {
    let least = Duration::from_millis(5);
    let begun = Instant::now();
    run(async move |_| {
        for _ in 0..10 {
            Timer::after(least).await;
        }
    });
    assert!(begun.elapsed() >= 10 * least);
}

#[test]
fn a_socket_of_smol_wakes_a_task() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (peer, _) = listener.accept().unwrap();
        std::io::copy(&mut &peer, &mut &peer).unwrap();
    });
    run(async move |runtime| {
        let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
        for _ in 0..100 {
            stream.write_all(b"hello").await.unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).await.unwrap();
            runtime.sleep(Duration::from_micros(100)).await;
            assert_eq!(&got, b"hello");
        }
    });
    echo.join().unwrap();
}
