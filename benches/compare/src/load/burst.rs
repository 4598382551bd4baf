//! Clients that each send one request at the same moment.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Request, idle};

/// Returns the latencies in ascending order. The connections are established before the requests are sent.
pub fn run(on: SocketAddr, clients: usize, request: &Request) -> io::Result<Vec<Duration>> {
    let streams: Vec<TcpStream> =
        (0..clients).map(|_| idle::connect(on)).collect::<io::Result<Vec<TcpStream>>>()?;
    let together = Barrier::new(clients);
    let mut latencies = thread::scope(|scope| {
        let client = |stream: TcpStream| {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let sent = Instant::now();
                idle::exchange_on(stream, on, request).map(|_| sent.elapsed())
            })
        };
        let clients: Vec<_> = streams.into_iter().map(client).collect();
        let join = |client: thread::ScopedJoinHandle<'_, io::Result<Duration>>| {
            client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        clients.into_iter().map(join).collect::<io::Result<Vec<Duration>>>()
    })?;
    latencies.sort();
    Ok(latencies)
}
