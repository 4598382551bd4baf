//! The built-in generator: one thread, one poll, any number of connections. See [`super`] for what counts.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::time::{ClockId, clock_gettime};

use super::alarm::Alarm;
use super::clients::{Clients, Schedule};
use super::response::{Answer, Reader};
use super::{Marks, Tally, Traffic};

const ALARM: Token = Token(usize::MAX);
/// What is read at once.
const READ: usize = 64 << 10;
/// How long a connection rests that could not be made, or broke.
const REST: Duration = Duration::from_millis(10);
/// Until so short a time before a request is due the thread sleeps; then it spins, as waking takes about as long.
const SPIN: Duration = Duration::from_micros(100);
/// How often what is neither due nor received is looked at.
const TICK: Duration = Duration::from_millis(5);

/// What one generator did.
pub(super) struct Made {
    pub(super) tallies: Vec<Tally>,
    /// The part of the window in which it worked.
    pub(super) busy: f64,
}

/// Puts load on a server until the marks say that it is over.
pub(super) fn run(on: SocketAddr, traffics: Vec<Traffic>, marks: Marks) -> io::Result<Made> {
    let mut poll = Poll::new()?;
    let alarm = Alarm::new(poll.registry(), ALARM)?;
    let mut generator = Generator::new(on, traffics, marks, poll.registry().try_clone()?);
    let mut events = Events::with_capacity(1024);
    let mut work = Work::default();
    generator.begin();
    loop {
        let now = Instant::now();
        work.look(now, &marks);
        if now >= marks.end || (now >= marks.to && generator.busy == 0) {
            break;
        }
        generator.wake(now);
        let due = generator.next_due().filter(|due| *due < marks.to);
        let wait = due.map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
        if due.is_some() && wait < SPIN {
            poll_for(&mut poll, &mut events, Duration::ZERO)?;
            if events.is_empty() {
                work.idle += now.elapsed();
            }
        } else if due.is_some() {
            alarm.set(wait - SPIN / 2)?;
            poll_for(&mut poll, &mut events, TICK)?;
        } else {
            poll_for(&mut poll, &mut events, wait)?;
        }
        for event in &events {
            if event.token() != ALARM {
                generator.ready(event.token().0);
            }
        }
    }
    generator.finish();
    let busy = work.busy();
    Ok(Made { tallies: generator.tallies, busy })
}

fn poll_for(poll: &mut Poll, events: &mut Events, time: Duration) -> io::Result<()> {
    match poll.poll(events, Some(time)) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        outcome => outcome,
    }
}

/// How much of the window this thread worked: its CPU time, without that of spinning.
#[derive(Default)]
struct Work {
    idle: Duration,
    began: Option<(Instant, Duration)>,
    busy: Option<f64>,
}

impl Work {
    fn look(&mut self, now: Instant, marks: &Marks) {
        if self.began.is_none() && now >= marks.from {
            self.idle = Duration::ZERO;
            self.began = Some((now, cpu_time()));
        }
        if let (Some((began, cpu)), None, true) = (self.began, self.busy, now >= marks.to) {
            let worked = cpu_time().saturating_sub(cpu).saturating_sub(self.idle);
            self.busy = Some(worked.as_secs_f64() / now.duration_since(began).as_secs_f64().max(1e-9));
        }
    }

    fn busy(&self) -> f64 {
        self.busy.unwrap_or(0.0)
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

struct Generator {
    on: SocketAddr,
    marks: Marks,
    registry: Registry,
    traffics: Vec<Clients>,
    connections: Vec<Connection>,
    tallies: Vec<Tally>,
    /// Requests on their way.
    busy: usize,
    /// Connections that rest, in the order in which they wake.
    resting: VecDeque<(Instant, usize)>,
    scratch: Vec<u8>,
}

struct Connection {
    clients: usize,
    socket: Option<TcpStream>,
    /// Whether an answer has come on this socket.
    used: bool,
    reader: Reader,
    /// What is on its way.
    request: Option<Asked>,
}

#[derive(Clone, Copy)]
struct Asked {
    which: usize,
    sent: usize,
    due: Instant,
    /// Whether any of its answer has come.
    begun: bool,
}

impl Generator {
    fn new(on: SocketAddr, traffics: Vec<Traffic>, marks: Marks, registry: Registry) -> Generator {
        let mut generator = Generator {
            on,
            marks,
            registry,
            traffics: Vec::new(),
            connections: Vec::new(),
            tallies: vec![Tally::default(); traffics.len()],
            busy: 0,
            resting: VecDeque::new(),
            scratch: vec![0; READ],
        };
        for (clients, traffic) in traffics.into_iter().enumerate() {
            let first = generator.connections.len();
            let connection = || Connection {
                clients,
                socket: None,
                used: false,
                reader: Reader::default(),
                request: None,
            };
            generator.connections.extend(std::iter::repeat_with(connection).take(traffic.connections));
            let all = first..generator.connections.len();
            generator.traffics.push(Clients::new(&traffic, on, all));
        }
        generator
    }

    /// Sends the first request of each connection that waits for no due time.
    fn begin(&mut self) {
        let now = Instant::now();
        for clients in 0..self.traffics.len() {
            if self.traffics[clients].schedule.is_none() {
                for connection in std::mem::take(&mut self.traffics[clients].idle) {
                    self.ask(connection, now);
                }
            }
        }
    }

    /// Sends what is due, as far as there are connections for it, and wakes who has rested.
    fn wake(&mut self, now: Instant) {
        while let Some((until, connection)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.next(connection, now);
        }
        if now >= self.marks.to {
            return;
        }
        for clients in 0..self.traffics.len() {
            while let Some((connection, due)) = self.traffics[clients].take_due(now) {
                self.ask(connection, due);
            }
        }
    }

    /// When something is due for which there is a connection.
    fn next_due(&self) -> Option<Instant> {
        let can = self.traffics.iter().filter(|clients| !clients.idle.is_empty());
        let due = can.filter_map(|clients| clients.schedule.as_ref().map(Schedule::due));
        due.chain(self.resting.front().map(|rest| rest.0)).min()
    }

    /// A connection has nothing on its way: what does it do next?
    fn next(&mut self, connection: usize, now: Instant) {
        let clients = self.connections[connection].clients;
        self.traffics[clients].idle.push(connection);
        if now >= self.marks.to {
            return;
        }
        if self.traffics[clients].schedule.is_some() {
            if let Some((connection, due)) = self.traffics[clients].take_due(now) {
                self.ask(connection, due);
            }
        } else {
            self.traffics[clients].idle.pop();
            self.ask(connection, now);
        }
    }

    fn ask(&mut self, connection: usize, due: Instant) {
        let which = self.traffics[self.connections[connection].clients].draw();
        self.busy += 1;
        self.connections[connection].request = Some(Asked { which, sent: 0, due, begun: false });
        self.send(connection);
    }

    /// Sends the request of a connection, which is made if there is none.
    fn send(&mut self, connection: usize) {
        if self.connections[connection].socket.is_none() && self.connect(connection).is_err() {
            return self.failed(connection);
        }
        self.write(connection);
    }

    fn connect(&mut self, connection: usize) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.on)?;
        socket.set_nodelay(true)?;
        self.registry.register(&mut socket, Token(connection), Interest::READABLE | Interest::WRITABLE)?;
        let connection = &mut self.connections[connection];
        connection.socket = Some(socket);
        connection.used = false;
        connection.reader = Reader::default();
        Ok(())
    }

    fn write(&mut self, connection: usize) {
        let Connection { clients, socket: Some(socket), request: Some(asked), .. } =
            &mut self.connections[connection]
        else {
            return;
        };
        let bytes = &self.traffics[*clients].requests[asked.which];
        while asked.sent < bytes.len() {
            match socket.write(&bytes[asked.sent..]) {
                Ok(n) => asked.sent += n,
                Err(error) if is_for_later(&error) => return,
                Err(_) => return self.failed(connection),
            }
        }
    }

    /// Something happened on a connection.
    fn ready(&mut self, connection: usize) {
        self.write(connection);
        loop {
            let Connection { socket: Some(socket), reader, request, .. } = &mut self.connections[connection]
            else {
                return;
            };
            match socket.read(&mut self.scratch) {
                Ok(0) => {
                    let answer = reader.end();
                    return match (answer, request.is_some()) {
                        (Some(answer), true) => self.answered(connection, answer),
                        (_, true) => self.failed(connection),
                        (_, false) => self.connections[connection].socket = None,
                    };
                }
                Ok(n) => {
                    let Some(asked) = request else {
                        // Nobody asked for that.
                        return self.connections[connection].socket = None;
                    };
                    asked.begun = true;
                    match reader.take(&self.scratch[..n]) {
                        Ok(Some(answer)) => return self.answered(connection, answer),
                        Ok(None) if n < self.scratch.len() => return,
                        Ok(None) => {}
                        Err(_) => return self.failed(connection),
                    }
                }
                Err(error) if is_for_later(&error) => return,
                Err(_) if request.is_some() => return self.failed(connection),
                Err(_) => return self.connections[connection].socket = None,
            }
        }
    }

    fn answered(&mut self, connection: usize, answer: Answer) {
        let now = Instant::now();
        let held = &mut self.connections[connection];
        let Some(asked) = held.request.take() else { return };
        held.used = true;
        if answer.close || !self.traffics[held.clients].keep {
            held.socket = None;
        }
        self.busy -= 1;
        let tally = &mut self.tallies[held.clients];
        if now >= self.marks.from {
            if answer.is_success() {
                tally.record(now.duration_since(asked.due));
                tally.answered += u64::from(now < self.marks.to);
            } else {
                tally.errors += 1;
            }
        }
        self.next(connection, now);
    }

    fn failed(&mut self, connection: usize) {
        let now = Instant::now();
        let held = &mut self.connections[connection];
        let again = held.socket.take().is_some() && held.used;
        let Some(asked) = held.request else { return };
        // The server may close a connection in the moment it is used again (RFC 9112, section 9.3.1).
        if again && !asked.begun {
            held.request = Some(Asked { sent: 0, ..asked });
            return self.send(connection);
        }
        held.request = None;
        self.busy -= 1;
        if now >= self.marks.from {
            self.tallies[held.clients].errors += 1;
        }
        self.resting.push_back((now + REST, connection));
    }

    /// Counts what has no answer, whether it was sent or not.
    fn finish(&mut self) {
        let now = Instant::now();
        for connection in &self.connections {
            if let Some(asked) = connection.request {
                self.tallies[connection.clients].record_unanswered(now.duration_since(asked.due));
            }
        }
        for (clients, tally) in self.traffics.iter_mut().zip(&mut self.tallies) {
            while let Some(due) = clients.schedule.as_mut().and_then(|schedule| schedule.take(self.marks.to))
            {
                tally.record_unanswered(now.duration_since(due));
            }
        }
    }
}

fn is_for_later(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | NotConnected | Interrupted)
}
