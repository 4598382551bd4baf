//! Clients that ask once, all at the same moment: who is answered when.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::{Ask, idle};

/// How long each waited for its answer, the shortest first. Connections are made before.
pub fn run(on: SocketAddr, clients: usize, ask: &Ask) -> io::Result<Vec<Duration>> {
    let streams: Vec<TcpStream> =
        (0..clients).map(|_| idle::connect(on)).collect::<io::Result<Vec<TcpStream>>>()?;
    let together = Barrier::new(clients);
    let mut latencies = thread::scope(|scope| {
        let client = |stream: TcpStream| {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let asked = Instant::now();
                idle::ask_on(stream, on, ask).map(|_| asked.elapsed())
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
