//! A peer that leaves while its handler is in a transaction.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use gearshift::{App, Backend, Config, Request, Router, TestServer};
use gearshift_sql::{Database, Error, Options};

use crate::case::{ADD, Case, TABLE, numbers};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn a_peer_that_leaves_takes_its_change_with_it(case: Case) {
    let runtime = case.runtime.clone();
    // A server of its own, on the same backend; starting and asking it blocks.
    runtime.blocking(move || leave(&case)).await;
}

fn leave(case: &Case) {
    let backend: Backend = case.runtime.backend().parse().expect("it runs this test");
    let (url, (begun, has_begun)) = (case.url.clone(), mpsc::channel());
    let opened = Arc::new(OnceLock::<Database>::new());
    let closing = opened.clone();
    let app = App::start(move |runtime| async move {
        let options = Options { connections: 1, ..Options::default() };
        let database = Database::open(&runtime, &url, TABLE, options).await?;
        let _ = opened.set(database.clone());
        let its = database.clone();
        let wait = move |_: Request| {
            let (database, runtime, begun) = (its.clone(), runtime.clone(), begun.clone());
            async move {
                let mut change = database.begin().await?;
                change.execute(ADD, [1.into()]).await?;
                let _ = begun.send(());
                runtime.sleep(Duration::from_secs(3600)).await;
                change.commit().await?;
                Ok::<_, Error>("kept")
            }
        };
        let add = move |_: Request| {
            let database = database.clone();
            async move {
                let error = database.execute(ADD, []).await.expect_err("no parameter");
                database.execute(ADD, [2.into()]).await?;
                Ok::<_, Error>(format!("{:?} {}", numbers(&database).await, error.status()))
            }
        };
        Ok(Router::new().get("/wait", wait).get("/add", add))
    });
    let app = app.on_stop(move || async move {
        if let Some(database) = closing.get() {
            database.close();
        }
    });
    let server = TestServer::with_app(backend, Config::default(), app).expect("it starts");
    for _ in 0..2 {
        let peer = ask(server.addr(), "/wait");
        has_begun.recv_timeout(PATIENCE).expect("the handler begins");
        drop(peer);
    }
    let mut answer = String::new();
    ask(server.addr(), "/add").read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n[2] 500 Internal Server Error"),
        "{answer}"
    );
    let mut answer = String::new();
    ask(server.addr(), "/add").read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 500 ") && !answer.contains("things"), "{answer}");
    server.stop().expect("it stops");
}

fn ask(server: SocketAddr, path: &str) -> TcpStream {
    let mut peer = TcpStream::connect(server).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    write!(peer, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
    peer
}
