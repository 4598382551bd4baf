//! The transport of a thread that may wait: nothing is ever `Pending`.
//!
//! The socket is non-blocking all the same. A read or a write is tried first, and only one that would block waits,
//! with `poll(2)`: so a deadline is an absolute time, where a socket's own timeouts start again with each call and
//! cost a call to change, and a request whose bytes are there costs one `recv` and one `send`.

use std::fmt;
use std::io::{self, IoSlice, PipeReader, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Async;
use gearshift_core::{Look, Lookout, ReadBuffer, Stream, Transport, WriteQueue};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use socket2::{Domain, Socket};

/// Chunks given to the kernel in one vectored write.
const SLICES: usize = 32;

/// What all connections of one server stand on.
#[derive(Debug)]
pub struct Ground {
    /// Where connections are parked.
    pub(crate) registry: Registry,
    /// A pipe that nobody writes to. Its writing end is closed when the server is cut, which ends all waits.
    pub(crate) cut: PipeReader,
}

/// One connection's socket, on a backend whose threads may wait.
pub struct BlockingTransport {
    /// Shared with those who look at it, for as long as each look takes.
    socket: Arc<Socket>,
    ground: Arc<Ground>,
    deadline: Option<Instant>,
}

impl BlockingTransport {
    /// A transport for a non-blocking `socket`, registered with the poller: from now on, `token` is told whenever
    /// bytes arrive. It is never registered again, and closing the socket is what ends it.
    ///
    /// # Errors
    /// Whatever the system says, such as that it watches enough sockets.
    pub fn register(socket: Socket, token: Token, ground: &Arc<Ground>) -> io::Result<BlockingTransport> {
        ground.registry.register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(BlockingTransport { socket: Arc::new(socket), ground: ground.clone(), deadline: None })
    }

    /// Waits until the socket is ready for what `flags` say.
    fn wait(&self, flags: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let left = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Err(io::ErrorKind::TimedOut.into()),
                left => left.and_then(|left| Timespec::try_from(left).ok()),
            };
            let mut watched =
                [PollFd::new(&*self.socket, flags), PollFd::new(&self.ground.cut, PollFlags::empty())];
            match rustix::event::poll(&mut watched, left.as_ref()) {
                // Any answer about the socket will do: what is wrong with it is what the next call on it says.
                Ok(_) if !watched[0].revents().is_empty() => return Ok(()),
                Ok(_) if !watched[1].revents().is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the server was stopped"));
                }
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn write_some(&self, from: &WriteQueue) -> io::Result<usize> {
        if from.is_single() {
            return (&*self.socket).write(from.front());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let filled = from.slices(&mut slices);
        (&*self.socket).write_vectored(&slices[..filled])
    }

    /// Writes until all is written, or until some is and the next piece would have to wait.
    fn write_on(&self, from: &mut WriteQueue) -> io::Result<()> {
        let mut moved = false;
        while !from.is_empty() {
            match self.write_some(from) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    from.sent(n);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && moved => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, self.deadline)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read_some(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        loop {
            match self.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, self.deadline)?;
                }
                read => return read,
            }
        }
    }
}

impl Transport for BlockingTransport {
    const BLOCKING: bool = true;

    /// Reads what is there even if the deadline has passed, and waits for more only until then.
    fn poll_read(&mut self, _: &mut Context<'_>, into: &mut ReadBuffer) -> Poll<io::Result<usize>> {
        Poll::Ready(self.read_some(into))
    }

    fn try_read(&mut self, into: &mut ReadBuffer) -> io::Result<usize> {
        loop {
            match (&*self.socket).read(into.spare_mut()) {
                Ok(n) => {
                    into.filled(n);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, from: &mut WriteQueue) -> Poll<io::Result<()>> {
        Poll::Ready(self.write_on(from))
    }

    fn poll_shutdown(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        self.socket.take_error()
    }

    fn lookout(&self) -> Option<Arc<dyn Lookout>> {
        Some(Arc::new(Sight(Arc::downgrade(&self.socket))))
    }

    fn set_deadline(&mut self, at: Option<Instant>) {
        self.deadline = at;
    }

    fn into_stream(self) -> io::Result<Stream> {
        self.ground.registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()))?;
        // Someone may be looking at the peer right now.
        let socket = Arc::try_unwrap(self.socket).or_else(|socket| socket.try_clone())?;
        match socket.domain()? {
            Domain::UNIX => Async::new(UnixStream::from(socket)).map(Stream::from_socket),
            _ => Async::new(TcpStream::from(socket)).map(Stream::from_socket),
        }
    }
}

/// A look at a connection that a handler holds up.
struct Sight(Weak<Socket>);

impl Lookout for Sight {
    fn look(&self) -> Look {
        let Some(socket) = self.0.upgrade() else { return Look::Gone };
        match socket.peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => seen(&socket),
            Ok(_) => Look::Present,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Look::Present,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Look::Present,
            Err(_) => Look::Gone,
        }
    }

    fn probe(&self, bytes: &[u8], patience: Duration) -> Look {
        let Some(socket) = self.0.upgrade() else { return Look::Gone };
        // If its buffer is full the peer is there, or its connection will time out.
        if matches!(socket.send(bytes), Err(error) if error.kind() != io::ErrorKind::WouldBlock) {
            return Look::Gone;
        }
        if let Ok(patience) = Timespec::try_from(patience) {
            // Errors are reported without being asked for. What comes of it is asked below.
            let _ = rustix::event::poll(&mut [PollFd::new(&*socket, PollFlags::empty())], Some(&patience));
        }
        seen(&socket)
    }
}

/// What is known of a peer that has ended its side.
fn seen(socket: &Socket) -> Look {
    match socket.take_error() {
        Ok(None) => Look::Ended,
        _ => Look::Gone,
    }
}

impl fmt::Debug for BlockingTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingTransport")
            .field("socket", &self.socket.as_fd())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeWriter, pipe};
    use std::task::Waker;
    use std::thread;

    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use gearshift_core::Bytes;
    use socket2::Type;

    use super::*;

    const SOON: Duration = Duration::from_millis(30);
    const LATE: Duration = Duration::from_secs(60);

    struct Pair {
        near: BlockingTransport,
        far: UnixStream,
        poll: mio::Poll,
        cutter: PipeWriter,
    }

    fn pair() -> Pair {
        let poll = mio::Poll::new().unwrap();
        let (cut, cutter) = pipe().unwrap();
        let ground = Arc::new(Ground { registry: poll.registry().try_clone().unwrap(), cut });
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(false).unwrap();
        let near = BlockingTransport::register(near, Token(1), &ground).unwrap();
        Pair { near, far: far.into(), poll, cutter }
    }

    fn read(transport: &mut BlockingTransport, into: &mut ReadBuffer) -> io::Result<usize> {
        match transport.poll_read(&mut Context::from_waker(Waker::noop()), into) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("a blocking transport is never pending"),
        }
    }

    fn write(transport: &mut BlockingTransport, from: &mut WriteQueue) -> io::Result<()> {
        while !from.is_empty() {
            write_once(transport, from)?;
        }
        Ok(())
    }

    fn write_once(transport: &mut BlockingTransport, from: &mut WriteQueue) -> io::Result<()> {
        match transport.poll_write(&mut Context::from_waker(Waker::noop()), from) {
            Poll::Ready(written) => written,
            Poll::Pending => panic!("a blocking transport is never pending"),
        }
    }

    #[test]
    fn a_read_waits_for_bytes() {
        let mut pair = pair();
        let mut read_buffer = ReadBuffer::new();
        assert_eq!(pair.near.try_read(&mut read_buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut far = pair.far;
        let writer = thread::spawn(move || {
            far.write_all(b"late").unwrap();
            far
        });
        pair.near.set_deadline(Some(Instant::now() + LATE));
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), 4);
        assert_eq!(read_buffer.as_slice(), b"late");
        assert!(read_buffer.is_drained());
        drop(writer.join().unwrap());
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), 0);
    }

    #[test]
    fn a_read_that_fills_its_room_has_not_drained_the_socket() {
        let mut pair = pair();
        let mut read_buffer = ReadBuffer::new();
        let room = read_buffer.spare_mut().len();
        pair.far.write_all(&vec![b'x'; room + 1]).unwrap();
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), room);
        assert!(!read_buffer.is_drained());
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), 1);
        assert!(read_buffer.is_drained());
    }

    #[test]
    fn the_deadline_of_a_read_is_a_time_and_not_a_duration() {
        let mut pair = pair();
        let mut read_buffer = ReadBuffer::new();
        let at = Instant::now() + SOON;
        pair.near.set_deadline(Some(at));
        pair.far.write_all(b"a").unwrap();
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), 1);
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(Instant::now() >= at);
    }

    #[test]
    fn what_has_arrived_is_read_even_after_the_deadline() {
        let mut pair = pair();
        let mut read_buffer = ReadBuffer::new();
        pair.near.set_deadline(Some(Instant::now()));
        pair.far.write_all(b"a").unwrap();
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap(), 1);
        assert_eq!(read(&mut pair.near, &mut read_buffer).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn chunks_leave_whole_and_in_order() {
        let mut pair = pair();
        let mut write_queue = WriteQueue::new();
        let mut expected = Vec::new();
        for n in 0..3 * SLICES {
            let (head, body) = (format!("head {n};"), vec![n as u8; 5_000 + n]);
            write_queue.tail().extend_from_slice(head.as_bytes());
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&body);
            write_queue.push(Bytes::from(body));
        }
        let mut far = pair.far;
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            all
        });
        pair.near.set_deadline(Some(Instant::now() + LATE));
        write(&mut pair.near, &mut write_queue).unwrap();
        assert!(write_queue.is_empty());
        drop(pair.near);
        assert!(reader.join().unwrap() == expected);
    }

    #[test]
    fn a_write_that_nobody_takes_ends_at_the_deadline() {
        let mut pair = pair();
        let mut write_queue = WriteQueue::new();
        write_queue.push(Bytes::from(vec![0; 16 << 20]));
        let began = Instant::now();
        pair.near.set_deadline(Some(began + SOON));
        assert_eq!(write(&mut pair.near, &mut write_queue).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= SOON);
        assert!(write_queue.len() < 16 << 20, "what fits was sent");
    }

    #[test]
    fn a_write_comes_back_when_the_peer_has_taken_something() {
        let mut pair = pair();
        // What the kernel holds for the peer, so that each read below makes room and nothing else does.
        pair.near.socket.set_send_buffer_size(4096).unwrap();
        let mut write_queue = WriteQueue::new();
        let all = 256 * 1024;
        write_queue.push(Bytes::from(vec![0; all]));
        let mut far = pair.far;
        let reader = thread::spawn(move || {
            let (mut some, mut left) = (vec![0; 32 * 1024], all);
            while left > 0 {
                left -= far.read(&mut some).unwrap();
            }
        });
        let mut writes = 0;
        while !write_queue.is_empty() {
            let before = write_queue.len();
            pair.near.set_deadline(Some(Instant::now() + LATE));
            write_once(&mut pair.near, &mut write_queue).unwrap();
            assert!(write_queue.len() < before);
            writes += 1;
        }
        assert!(writes > 1);
        reader.join().unwrap();
    }

    #[test]
    fn a_lookout_sees_who_ends_and_who_leaves() {
        let mut pair = pair();
        let lookout = pair.near.lookout().unwrap();
        assert_eq!(lookout.look(), Look::Present);
        pair.far.write_all(b"x").unwrap();
        assert_eq!(lookout.look(), Look::Present, "what has arrived is left where it is");
        assert_eq!(read(&mut pair.near, &mut ReadBuffer::new()).unwrap(), 1);
        pair.far.shutdown(Shutdown::Write).unwrap();
        let ended = Instant::now() + LATE;
        while lookout.look() == Look::Present {
            assert!(Instant::now() < ended);
        }
        assert_eq!(lookout.probe(b"are you there", SOON), Look::Ended);
        let mut asked = [0; 13];
        pair.far.read_exact(&mut asked).unwrap();
        drop(pair.far);
        assert_eq!(lookout.probe(b"and now", LATE), Look::Gone);
        drop(pair.near);
        assert_eq!(lookout.look(), Look::Gone);
    }

    #[test]
    fn cutting_the_server_ends_a_wait() {
        let mut pair = pair();
        let cutter = pair.cutter;
        pair.near.set_deadline(Some(Instant::now() + LATE));
        let waiting = thread::spawn(move || read(&mut pair.near, &mut ReadBuffer::new()).unwrap_err().kind());
        drop(cutter);
        assert_eq!(waiting.join().unwrap(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn a_stream_of_it_is_the_same_connection_and_no_longer_parked() {
        let mut pair = pair();
        let mut stream = pair.near.into_stream().unwrap();
        pair.far.write_all(b"ping").unwrap();
        async_io::block_on(async {
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.unwrap();
            assert_eq!(&ping, b"ping");
            stream.write_all(b"pong").await.unwrap();
            stream.close().await.unwrap();
        });
        let mut pong = String::new();
        pair.far.read_to_string(&mut pong).unwrap();
        assert_eq!(pong, "pong");
        let mut events = mio::Events::with_capacity(4);
        pair.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
