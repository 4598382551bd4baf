//! The built-in generator: one thread and one poller for any number of connections. See [`super`] for what it counts.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustix::time::{ClockId, clock_gettime};

use super::clients::{Clients, Schedule};
use super::response::{Response, ResponseReader};
use super::timer::TimerFd;
use super::{Tally, Timeline, Traffic};

const TIMER: Token = Token(usize::MAX);
/// Bytes per read.
const READ: usize = 64 << 10;
/// Pause of a connection after a failure.
const PAUSE: Duration = Duration::from_millis(10);
/// The thread sleeps until this long before a request is due and then spins, because waking up takes about as long.
const SPIN: Duration = Duration::from_micros(100);
/// Longest wait in the poller.
const TICK: Duration = Duration::from_millis(5);

/// The outcome of one generator.
pub(super) struct GeneratorReport {
    pub(super) tallies: Vec<Tally>,
    /// Share of the window in which the generator worked.
    pub(super) busy: f64,
}

/// Puts load on a server until the end of the timeline. With `polls`, the thread does not sleep.
pub(super) fn run(
    on: SocketAddr,
    traffics: Vec<Traffic>,
    timeline: Timeline,
    polls: bool,
) -> io::Result<GeneratorReport> {
    let mut poll = Poll::new()?;
    let timer = TimerFd::new(poll.registry(), TIMER)?;
    let mut generator = Generator::new(on, traffics, timeline, poll.registry().try_clone()?);
    let mut events = Events::with_capacity(1024);
    let mut meter = BusyMeter::default();
    generator.begin();
    loop {
        let now = Instant::now();
        meter.update(now, &timeline);
        if now >= timeline.end || (now >= timeline.window_end && generator.busy == 0) {
            break;
        }
        generator.wake(now);
        let due = generator.next_due().filter(|due| *due < timeline.window_end);
        let wait = due.map_or(TICK, |due| due.saturating_duration_since(Instant::now()).min(TICK));
        if polls || (due.is_some() && wait < SPIN) {
            poll_for(&mut poll, &mut events, Duration::ZERO)?;
            if events.is_empty() {
                meter.idle += now.elapsed();
            }
        } else if due.is_some() {
            timer.set(wait - SPIN / 2)?;
            poll_for(&mut poll, &mut events, TICK)?;
        } else {
            poll_for(&mut poll, &mut events, wait)?;
        }
        for event in &events {
            if event.token() != TIMER {
                generator.ready(event.token().0);
            }
        }
    }
    generator.finish();
    let busy = meter.busy();
    Ok(GeneratorReport { tallies: generator.tallies, busy })
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

/// Measures how much of the window this thread worked: its CPU time without spinning.
#[derive(Default)]
struct BusyMeter {
    idle: Duration,
    began: Option<(Instant, Duration)>,
    busy: Option<f64>,
}

impl BusyMeter {
    fn update(&mut self, now: Instant, timeline: &Timeline) {
        if self.began.is_none() && now >= timeline.window_start {
            self.idle = Duration::ZERO;
            self.began = Some((now, cpu_time()));
        }
        if let (Some((began, cpu)), None, true) = (self.began, self.busy, now >= timeline.window_end) {
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
    timeline: Timeline,
    registry: Registry,
    traffics: Vec<Clients>,
    connections: Vec<Connection>,
    tallies: Vec<Tally>,
    /// Number of requests in flight.
    busy: usize,
    /// Connections that pause after a failure, in the order in which they resume.
    paused: VecDeque<(Instant, usize)>,
    scratch: Vec<u8>,
}

struct Connection {
    clients: usize,
    socket: Option<TcpStream>,
    /// Whether this socket has received a response.
    used: bool,
    reader: ResponseReader,
    /// The request in flight.
    request: Option<InFlight>,
}

#[derive(Clone, Copy)]
struct InFlight {
    which: usize,
    sent: usize,
    due: Instant,
    /// Whether a part of the response was received.
    begun: bool,
}

impl Generator {
    fn new(on: SocketAddr, traffics: Vec<Traffic>, timeline: Timeline, registry: Registry) -> Generator {
        let mut generator = Generator {
            on,
            timeline,
            registry,
            traffics: Vec::new(),
            connections: Vec::new(),
            tallies: vec![Tally::default(); traffics.len()],
            busy: 0,
            paused: VecDeque::new(),
            scratch: vec![0; READ],
        };
        for (clients, traffic) in traffics.into_iter().enumerate() {
            let first = generator.connections.len();
            let connection = || Connection {
                clients,
                socket: None,
                used: false,
                reader: ResponseReader::default(),
                request: None,
            };
            generator.connections.extend(std::iter::repeat_with(connection).take(traffic.connections));
            let all = first..generator.connections.len();
            generator.traffics.push(Clients::new(&traffic, on, all));
        }
        generator
    }

    /// Sends the first request on each connection of a closed loop.
    fn begin(&mut self) {
        let now = Instant::now();
        for clients in 0..self.traffics.len() {
            if self.traffics[clients].schedule.is_none() {
                for connection in std::mem::take(&mut self.traffics[clients].idle) {
                    self.start(connection, now);
                }
            }
        }
    }

    /// Resumes paused connections, and sends the due requests while connections are idle.
    fn wake(&mut self, now: Instant) {
        while let Some((until, connection)) = self.paused.front().copied()
            && until <= now
        {
            self.paused.pop_front();
            self.next(connection, now);
        }
        if now >= self.timeline.window_end {
            return;
        }
        for clients in 0..self.traffics.len() {
            while let Some((connection, due)) = self.traffics[clients].take_due(now) {
                self.start(connection, due);
            }
        }
    }

    /// When the next request is due that an idle connection could send, or a connection resumes.
    fn next_due(&self) -> Option<Instant> {
        let can = self.traffics.iter().filter(|clients| !clients.idle.is_empty());
        let due = can.filter_map(|clients| clients.schedule.as_ref().map(Schedule::due));
        due.chain(self.paused.front().map(|rest| rest.0)).min()
    }

    /// Sends the next request on an idle connection, or leaves it idle if none is due.
    fn next(&mut self, connection: usize, now: Instant) {
        let clients = self.connections[connection].clients;
        self.traffics[clients].idle.push(connection);
        if now >= self.timeline.window_end {
            return;
        }
        if self.traffics[clients].schedule.is_some() {
            if let Some((connection, due)) = self.traffics[clients].take_due(now) {
                self.start(connection, due);
            }
        } else {
            self.traffics[clients].idle.pop();
            self.start(connection, now);
        }
    }

    fn start(&mut self, connection: usize, due: Instant) {
        let which = self.traffics[self.connections[connection].clients].draw();
        self.busy += 1;
        self.connections[connection].request = Some(InFlight { which, sent: 0, due, begun: false });
        self.send(connection);
    }

    /// Sends the request of a connection, and connects first if there is no socket.
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
        connection.reader = ResponseReader::default();
        Ok(())
    }

    fn write(&mut self, connection: usize) {
        let Connection { clients, socket: Some(socket), request: Some(in_flight), .. } =
            &mut self.connections[connection]
        else {
            return;
        };
        let bytes = &self.traffics[*clients].requests[in_flight.which];
        while in_flight.sent < bytes.len() {
            match socket.write(&bytes[in_flight.sent..]) {
                Ok(n) => in_flight.sent += n,
                Err(error) if is_for_later(&error) => return,
                Err(_) => return self.failed(connection),
            }
        }
    }

    /// Handles readiness of a connection.
    fn ready(&mut self, connection: usize) {
        self.write(connection);
        loop {
            let Connection { socket: Some(socket), reader, request, .. } = &mut self.connections[connection]
            else {
                return;
            };
            match socket.read(&mut self.scratch) {
                Ok(0) => {
                    let response = reader.end();
                    return match (response, request.is_some()) {
                        (Some(response), true) => self.answered(connection, response),
                        (_, true) => self.failed(connection),
                        (_, false) => self.connections[connection].socket = None,
                    };
                }
                Ok(n) => {
                    let Some(in_flight) = request else {
                        // No request was sent.
                        return self.connections[connection].socket = None;
                    };
                    in_flight.begun = true;
                    match reader.feed(&self.scratch[..n]) {
                        Ok(Some(response)) => return self.answered(connection, response),
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

    fn answered(&mut self, connection: usize, response: Response) {
        let now = Instant::now();
        let held = &mut self.connections[connection];
        let Some(in_flight) = held.request.take() else { return };
        held.used = true;
        if response.close || !self.traffics[held.clients].keep {
            held.socket = None;
        }
        self.busy -= 1;
        let tally = &mut self.tallies[held.clients];
        if now >= self.timeline.window_start {
            if response.is_success() {
                tally.record(now.duration_since(in_flight.due));
                tally.answered += u64::from(now < self.timeline.window_end);
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
        let Some(in_flight) = held.request else { return };
        // The server may close an idle connection while a request is on its way (RFC 9112, section 9.3.1).
        if again && !in_flight.begun {
            held.request = Some(InFlight { sent: 0, ..in_flight });
            return self.send(connection);
        }
        held.request = None;
        self.busy -= 1;
        if now >= self.timeline.window_start {
            self.tallies[held.clients].errors += 1;
        }
        self.paused.push_back((now + PAUSE, connection));
    }

    /// Counts the requests without a response, whether they were sent or not.
    fn finish(&mut self) {
        let now = Instant::now();
        for connection in &self.connections {
            if let Some(in_flight) = connection.request {
                self.tallies[connection.clients].record_unanswered(now.duration_since(in_flight.due));
            }
        }
        for (clients, tally) in self.traffics.iter_mut().zip(&mut self.tallies) {
            while let Some(due) =
                clients.schedule.as_mut().and_then(|schedule| schedule.take(self.timeline.window_end))
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
