use std::net::TcpListener;
use std::task::Waker;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use gearshift_core::{Bytes, Endpoint};

use super::*;
use crate::testing::{Rig, rig};

impl Rig {
    fn read(&mut self) -> Poll<Result<usize, io::ErrorKind>> {
        let mut cx = Context::from_waker(Waker::noop());
        self.transport.poll_read(&mut cx, &mut self.read_buffer).map_err(|error| error.kind())
    }

    /// Writes until the queue is empty.
    fn write(&mut self) -> Poll<Result<(), io::ErrorKind>> {
        while !self.write_queue.is_empty() {
            ready!(self.write_once())?;
        }
        Poll::Ready(Ok(()))
    }

    fn write_once(&mut self) -> Poll<Result<usize, io::ErrorKind>> {
        let mut cx = Context::from_waker(Waker::noop());
        self.transport.poll_write(&mut cx, &mut self.write_queue).map_err(|error| error.kind())
    }

    fn turn(&mut self) {
        self.reactor.turn(None).unwrap();
    }
}

#[test]
fn a_fresh_connection_is_read_without_waiting_for_news() {
    let mut rig = rig();
    rig.peer.send(b"hello").unwrap();
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
    assert_eq!(rig.read_buffer.as_slice(), b"hello");
}

#[test]
fn a_short_read_has_taken_everything() {
    let mut rig = rig();
    rig.peer.send(b"hello").unwrap();
    rig.turn();
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
    assert!(!rig.transport.slot.is(READABLE));
    assert!(rig.read().is_pending());
    // It waits for news, although asking would find something.
    rig.peer.send(b"again").unwrap();
    assert!(rig.read().is_pending());
    rig.turn();
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
}

#[test]
fn a_full_read_is_followed_by_another() {
    let mut rig = rig();
    let sent = vec![b'x'; 20_000];
    rig.peer.send(&sent).unwrap();
    rig.turn();
    while rig.read_buffer.len() < sent.len() {
        assert!(matches!(rig.read(), Poll::Ready(Ok(1..))));
    }
    assert!(rig.read().is_pending());
}

#[test]
fn the_end_that_came_with_the_last_bytes_is_found() {
    let mut rig = rig();
    rig.turn();
    rig.peer.send(b"hello").unwrap();
    rig.peer.shutdown(Shutdown::Write).unwrap();
    rig.turn();
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
    assert_eq!(rig.read(), Poll::Ready(Ok(0)));
    assert_eq!(rig.read(), Poll::Ready(Ok(0)));
}

#[test]
fn the_end_that_comes_later_is_found() {
    let mut rig = rig();
    rig.peer.send(b"hello").unwrap();
    rig.turn();
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
    assert!(rig.read().is_pending());
    rig.peer.shutdown(Shutdown::Write).unwrap();
    while rig.read().is_pending() {
        rig.turn();
    }
    assert_eq!(rig.read(), Poll::Ready(Ok(0)));
}

#[test]
fn try_read_asks_without_news_and_leaves_nothing_for_the_next() {
    let mut rig = rig();
    assert!(rig.read().is_pending());
    rig.peer.send(b"hello").unwrap();
    assert_eq!(rig.transport.try_read(&mut rig.read_buffer).unwrap(), 5);
    assert_eq!(rig.transport.try_read(&mut rig.read_buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(!rig.transport.slot.is(READABLE));
}

#[test]
fn an_idle_connection_takes_no_memory_to_find_out_that_it_is() {
    let mut rig = rig();
    rig.peer.send(b"x").unwrap();
    assert_eq!(rig.read(), Poll::Ready(Ok(1)));
    rig.read_buffer.discard(1);
    rig.read_buffer.release();
    assert!(rig.read().is_pending());
    assert!(
        format!("{:?}", rig.read_buffer).contains("unread: Copied(b\"\"), scratch: None"),
        "{:?}",
        rig.read_buffer
    );
}

#[test]
fn chunks_and_tail_leave_in_order() {
    let mut rig = rig();
    rig.write_queue.tail().extend_from_slice(b"head");
    rig.write_queue.push(Bytes::from(vec![b'b'; 5000]));
    rig.write_queue.tail().extend_from_slice(b"tail");
    assert_eq!(rig.write(), Poll::Ready(Ok(())));
    let mut got = vec![0; 6000];
    let n = (&rig.peer).read(&mut got).unwrap();
    assert_eq!(n, 5008);
    assert!(got.starts_with(b"headbbb") && got[..n].ends_with(b"bbtail"));
}

#[test]
fn one_write_is_one_call_of_limited_size() {
    let mut rig = rig();
    rig.peer.set_recv_buffer_size(4 << 20).unwrap();
    rig.transport.socket.set_send_buffer_size(4 << 20).unwrap();
    rig.write_queue.push(Bytes::from(vec![b'x'; 1 << 20]));
    let Poll::Ready(Ok(n)) = rig.write_once() else { panic!("the socket has room") };
    assert!(n <= WriteQueue::MAX_WRITE, "{n}");
    assert_eq!(rig.write_queue.len(), (1 << 20) - n);
}

#[test]
fn the_end_behind_unread_bytes_is_reported() {
    let mut rig = rig();
    rig.turn();
    assert!(!rig.transport.has_unread_end());
    rig.peer.send(b"unread").unwrap();
    rig.peer.shutdown(Shutdown::Write).unwrap();
    rig.turn();
    assert!(rig.transport.has_unread_end());
}

#[test]
fn the_end_is_found_before_it_is_reported() {
    let mut rig = rig();
    rig.peer.send(b"unread").unwrap();
    rig.transport.find_end();
    assert!(!rig.transport.has_unread_end());
    rig.peer.shutdown(Shutdown::Write).unwrap();
    rig.transport.find_end();
    assert!(rig.transport.has_unread_end());
    assert_eq!((rig.read(), rig.read()), (Poll::Ready(Ok(6)), Poll::Ready(Ok(0))));
}

#[test]
fn a_write_that_stands_still_times_out_when_its_deadline_says_so_last() {
    let mut rig = rig();
    let patience = Duration::from_millis(200);
    rig.write_queue.push(Bytes::from(vec![b'x'; 4 << 20]));
    rig.transport.set_deadline(Some(Instant::now() + patience));
    assert!(rig.write().is_pending());
    let moved = Instant::now() + 2 * patience;
    rig.transport.set_deadline(Some(moved));
    let error = loop {
        match rig.write() {
            Poll::Pending => rig.turn(),
            Poll::Ready(written) => break written.unwrap_err(),
        }
    };
    assert_eq!(error, io::ErrorKind::TimedOut);
    assert!(Instant::now() >= moved);
}

/// Makes the deadlines due that have passed, and takes no events from the system.
fn expire(rig: &Rig) {
    rig.reactor.handle().0.expire(&mut Vec::new());
}

#[test]
fn a_read_at_its_deadline_finds_bytes_that_the_system_has_not_reported() {
    let mut rig = rig();
    assert!(rig.read().is_pending());
    rig.transport.set_deadline(Some(Instant::now()));
    rig.peer.send(b"hello").unwrap();
    expire(&rig);
    assert_eq!(rig.read(), Poll::Ready(Ok(5)));
    assert_eq!(rig.read(), Poll::Ready(Err(io::ErrorKind::TimedOut)));
}

#[test]
fn a_write_at_its_deadline_uses_room_that_the_system_has_not_reported() {
    let mut rig = rig();
    rig.write_queue.push(Bytes::from(vec![b'x'; 16 << 20]));
    assert!(rig.write().is_pending());
    let left = rig.write_queue.len();
    rig.transport.set_deadline(Some(Instant::now()));
    (&rig.peer).read_exact(&mut vec![0; (16 << 20) - left]).unwrap();
    expire(&rig);
    assert_eq!(rig.write(), Poll::Ready(Err(io::ErrorKind::TimedOut)), "there is not room for everything");
    assert!(rig.write_queue.len() < left);
}

#[test]
fn a_long_write_goes_on_as_the_peer_reads() {
    let mut rig = rig();
    let length = 4 << 20;
    rig.write_queue.push(Bytes::from(vec![b'x'; length]));
    let peer = rig.peer.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut sink = vec![0; 64 << 10];
        let mut total = 0;
        while total < length {
            total += (&peer).read(&mut sink).unwrap();
        }
    });
    while rig.write().is_pending() {
        rig.turn();
    }
    reader.join().unwrap();
}

#[test]
fn a_stream_goes_on_where_the_transport_was() {
    let Rig { mut reactor, transport, peer, .. } = rig();
    let mut stream = transport.into_stream().unwrap();
    peer.send(b"hello").unwrap();
    let talk = async {
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        stream.write_all(&got).await.unwrap();
        stream.close().await.unwrap();
    };
    reactor.block_on(talk).unwrap();
    let mut echoed = Vec::new();
    (&peer).read_to_end(&mut echoed).unwrap();
    assert_eq!(echoed, b"hello");
}

#[test]
fn connects_and_says_why_it_cannot() {
    let Rig { mut reactor, .. } = rig();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handle = reactor.handle().clone();
    let talk = async {
        let mut stream = handle.clone().connect(Endpoint::Tcp(address)).await.unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        stream.write_all(b"x").await.unwrap();
        accepted.read_exact(&mut [0; 1]).unwrap();
        drop((listener, stream));
        handle.connect(Endpoint::Tcp(address)).await.map(drop).map_err(|error| error.kind())
    };
    assert_eq!(reactor.block_on(talk).unwrap(), Err(io::ErrorKind::ConnectionRefused));
}
