//! The cases of serving that hold on every blocking backend; the tests of each say what `BACKEND` is.

use std::io::{Read, Write};
use std::net::Shutdown as Half;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use gearshift_core::{App, Bind, Bytes, HeaderValue, Request, Response, Router, sync};

use super::rig::{GET, PATIENCE, Running, get, hello, response, rest};
use super::{BACKEND, settings};

#[test]
fn a_connection_is_used_again() {
    let server = Running::hello(settings());
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(get(&mut client), (200, "hi".into()));
    }
}

#[test]
fn idle_and_silent_connections_hold_up_nobody() {
    let server = Running::hello(settings());
    let _silent: Vec<_> = (0..200).map(|_| server.client()).collect();
    let mut idle: Vec<_> = (0..200).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
    assert_eq!(get(&mut server.client()), (200, "hi".into()));
    idle.iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
}

#[test]
fn half_a_head_holds_up_nobody() {
    let server = Running::hello(settings());
    let mut slow: Vec<_> = (0..8).map(|_| server.client()).collect();
    slow.iter_mut().for_each(|client| client.write_all(&GET[..9]).unwrap());
    assert_eq!(get(&mut server.client()).0, 200);
    slow.iter_mut().for_each(|client| client.write_all(&GET[9..]).unwrap());
    slow.iter_mut().for_each(|client| assert_eq!(response(client).0, 200));
}

#[test]
fn more_pipelined_requests_than_a_turn_allows_are_all_answered() {
    let server = Running::hello(settings());
    let mut client = server.client();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&GET.repeat(2000)).unwrap());
    (0..2000).for_each(|_| assert_eq!(response(&mut client).0, 200));
    writing.join().unwrap();
    assert_eq!(get(&mut client).0, 200);
}

#[test]
fn a_peer_that_is_done_sending_is_answered_and_let_go_at_once() {
    let mut config = settings();
    config.keep_alive = 10 * PATIENCE;
    config.header_timeout = 10 * PATIENCE;
    let server = Running::hello(config);
    // Enough of them that the request and the end arrive before the server looks, for some.
    let mut clients: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.write_all(GET).unwrap();
        client.shutdown(Half::Write).unwrap();
    }
    for client in &mut clients {
        assert_eq!(response(client).0, 200);
        assert_eq!(rest(client), "");
    }
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let mut config = settings();
    config.keep_alive = Duration::from_millis(50);
    let server = Running::hello(config);
    let mut client = server.client();
    let began = Instant::now();
    assert_eq!(get(&mut client).0, 200);
    assert_eq!(rest(&mut client), "");
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[test]
fn half_a_head_is_answered_in_time() {
    let mut config = settings();
    config.header_timeout = Duration::from_millis(50);
    let server = Running::hello(config);
    let mut client = server.client();
    client.write_all(&GET[..9]).unwrap();
    assert_eq!(response(&mut client).0, 408);
    assert_eq!(rest(&mut client), "");
}

#[test]
fn at_most_as_many_connections_as_allowed_and_the_next_when_one_closes() {
    let mut config = settings();
    config.max_connections = 2;
    config.keep_alive = 10 * PATIENCE;
    let server = Running::hello(config);
    let (mut first, mut second, mut third) = (server.client(), server.client(), server.client());
    assert_eq!(get(&mut first).0, 200);
    assert_eq!(get(&mut second).0, 200);
    third.write_all(GET).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(third.read(&mut [0]).is_err());
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(response(&mut third).0, 200);
}

#[test]
fn the_waits_of_an_async_handler_overlap() {
    let server = Running::with(settings(), |runtime| {
        Router::new().get("/", move |_: Request| {
            let sleeps: Vec<_> = (0..10).map(|_| runtime.sleep(Duration::from_millis(100))).collect();
            let began = Instant::now();
            async move {
                for sleep in sleeps {
                    sleep.await;
                }
                (began.elapsed() < Duration::from_millis(900)).to_string()
            }
        })
    });
    assert_eq!(get(&mut server.client()), (200, "true".into()));
}

#[test]
fn a_sync_handler_reads_an_upload_as_it_comes() {
    let server = Running::with(settings(), |_| {
        Router::new().post(
            "/",
            sync(|request: Request| {
                let mut all = Vec::new();
                request
                    .into_body()
                    .reader()
                    .read_to_end(&mut all)
                    .map(|n| n.to_string())
                    .unwrap_or_else(|e| e.to_string())
            }),
        )
    });
    let mut client = server.client();
    let size = 1 << 20;
    write!(client, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n").unwrap();
    for _ in 0..16 {
        client.write_all(&vec![b'x'; size / 16]).unwrap();
    }
    assert_eq!(response(&mut client), (200, size.to_string()));
}

#[test]
fn a_panic_in_a_handler_costs_its_own_connection() {
    let server = Running::with(settings(), |_| {
        Router::new()
            .get("/", sync(|_| "hi"))
            .get("/panic", sync(|_| -> &'static str { panic!("on purpose") }))
    });
    for _ in 0..4 {
        let mut client = server.client();
        client.write_all(b"GET /panic HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(response(&mut client).0, 500);
    }
    assert_eq!(get(&mut server.client()).0, 200);
}

#[test]
fn a_panic_outside_the_handler_costs_its_own_connection() {
    /// A body whose memory cannot be freed, which is noticed when a connection that failed is dropped.
    struct Bomb(Vec<u8>);
    impl AsRef<[u8]> for Bomb {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let mut config = settings();
    config.write_timeout = Duration::from_millis(20);
    config.graceful_timeout = PATIENCE;
    let server = Running::with(config, |_| {
        Router::new()
            .get("/", sync(|_| "hi"))
            .get("/bomb", sync(|_| Response::new(Bytes::from_owner(Bomb(vec![0; 32 << 20])))))
    });
    let mut clients: Vec<_> = (0..6).map(|_| server.client()).collect();
    clients
        .iter_mut()
        .for_each(|client| client.write_all(b"GET /bomb HTTP/1.1\r\nHost: test\r\n\r\n").unwrap());
    // Nobody reads, so that each write fails in the end. This one waits until the workers are free of them.
    assert_eq!(get(&mut server.client()).0, 200);
    for client in &mut clients {
        let mut all = Vec::new();
        let _ = client.read_to_end(&mut all);
        assert!(all.len() < 32 << 20);
    }
    assert_eq!(get(&mut server.client()).0, 200);
    server.shutdown.graceful();
    server.ended_gracefully();
}

#[test]
fn serves_on_a_socket_file_and_removes_it() {
    let name = format!("gearshift-{}-{}.sock", gearshift_core::Backend::name(&BACKEND), std::process::id());
    let path = std::env::temp_dir().join(name);
    let server = Running::start(Bind::Unix(path.clone()), settings(), App::new(hello));
    let mut clients: Vec<_> = (0..20).map(|_| UnixStream::connect(&path).unwrap()).collect();
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(get(client), (200, "hi".into()));
        assert_eq!(get(client), (200, "hi".into()));
    }
    server.shutdown.graceful();
    clients.iter_mut().for_each(|client| assert_eq!(rest(client), ""));
    server.ended_gracefully();
    assert!(!path.exists());
}

#[test]
fn a_connection_becomes_another_protocol_and_no_worker_is_held_by_it() {
    let server = Running::with(settings(), |_| {
        Router::new().get("/", sync(|_| "hi")).get(
            "/echo",
            sync(|_| {
                Response::upgrade(HeaderValue::from_static("echo"), |mut stream| async move {
                    let mut some = [0; 64];
                    while let Ok(n @ 1..) = stream.read(&mut some).await {
                        stream.write_all(&some[..n]).await.unwrap();
                    }
                    stream.close().await.unwrap();
                })
            }),
        )
    });
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        // What is sent with the request belongs to the new protocol.
        client
            .write_all(
                b"GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly",
            )
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    }
    assert_eq!(get(&mut server.client()).0, 200);
    server.shutdown.graceful();
    for client in &mut clients {
        // It goes on within the grace period.
        client.write_all(b" and late").unwrap();
        client.shutdown(Half::Write).unwrap();
        assert_eq!(rest(client), "early and late");
    }
    server.ended_gracefully();
}

#[test]
fn an_upgrade_that_was_not_asked_for_is_required() {
    let server = Running::with(settings(), |_| {
        sync(|_| Response::upgrade(HeaderValue::from_static("echo"), |_| async {}))
    });
    assert_eq!(get(&mut server.client()).0, 426);
}
