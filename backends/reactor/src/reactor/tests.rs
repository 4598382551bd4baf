use std::os::fd::AsFd;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::thread;

use gearshift_core::{ReadBuffer, Transport};

use super::*;
use crate::ReactorTransport;
use crate::handle::{HALF, REST_PER_SOCKET};
use crate::slot::{CLOSED, Direction, READABLE, Slot, WRITABLE};
use crate::testing::{Counter, LONG, Rig, once_it_waits, pair, rig};

fn wait(reactor: &mut Reactor) {
    assert_ne!(reactor.turn(Some(LONG)).unwrap(), 0);
}

#[test]
fn an_event_before_the_first_poll_is_kept() {
    let mut reactor = Reactor::new(LONG).unwrap();
    let (ours, peer) = pair();
    let slot = reactor.handle().register(ours.as_fd(), 0).unwrap();
    peer.send(b"x").unwrap();
    wait(&mut reactor);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(slot.poll(Direction::Read, &mut cx, || 0).is_ready());
    assert!(slot.poll(Direction::Write, &mut cx, || 0).is_ready());
}

#[test]
fn news_wakes_who_waits_for_it_and_nobody_else() {
    let mut reactor = Reactor::new(LONG).unwrap();
    let (ours, peer) = pair();
    let slot = reactor.handle().register(ours.as_fd(), 0).unwrap();
    wait(&mut reactor);
    assert_eq!(slot.take(READABLE | WRITABLE), WRITABLE);
    let ((reads, read_waker), (writes, write_waker)) = (Counter::new(), Counter::new());
    assert!(slot.poll(Direction::Read, &mut Context::from_waker(&read_waker), || 0).is_pending());
    assert!(slot.poll(Direction::Write, &mut Context::from_waker(&write_waker), || 0).is_pending());
    slot.announce(READABLE, Waker::wake);
    assert_eq!((reads.count(), writes.count()), (1, 0));
    slot.announce(WRITABLE, Waker::wake);
    assert_eq!((reads.count(), writes.count()), (1, 1));
    drop(peer);
}

#[test]
fn a_late_event_does_not_reach_a_stranger() {
    let mut reactor = Reactor::new(LONG).unwrap();
    let (first, peer) = pair();
    let slot = reactor.handle().register(first.as_fd(), 0).unwrap();
    peer.send(b"for the first").unwrap();
    reactor.poll.poll(&mut reactor.events, Some(LONG)).unwrap();
    // The event is taken from the system, and not handed out: now the socket gives way to another.
    reactor.handle().forget(&slot);
    drop(first);
    let (second, _peer) = pair();
    let stranger = reactor.handle().register(second.as_fd(), 0).unwrap();
    let place = (1 << HALF) - 1;
    assert_eq!(stranger.token & place, slot.token & place, "the place is not used again");
    reactor.announce();
    assert!(!stranger.is(READABLE | WRITABLE | CLOSED));
    wait(&mut reactor);
    assert_eq!(stranger.take(READABLE | WRITABLE), WRITABLE);
}

/// A deadline is met on the reactor of `handle`, which `turn` turns.
pub(crate) fn meet_a_deadline<T>(handle: &Handle, mut turn: impl FnMut() -> T) {
    let (ours, _peer) = pair();
    let mut transport = ReactorTransport::new(handle, ours, READABLE | WRITABLE).unwrap();
    let mut read_buffer = ReadBuffer::new();
    let (wakes, waker) = Counter::new();
    let mut cx = Context::from_waker(&waker);
    let at = Instant::now() + Duration::from_millis(20);
    transport.set_deadline(Some(at));
    assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
    assert!(read_buffer.is_empty());
    while wakes.count() == 0 {
        turn();
    }
    assert!(Instant::now() >= at);
    let Poll::Ready(Err(error)) = transport.poll_read(&mut cx, &mut read_buffer) else {
        panic!("it still waits")
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    transport.set_deadline(None);
    assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
}

#[test]
fn a_deadline_is_met_by_a_sweep() {
    let mut reactor = Reactor::new(LONG).unwrap();
    meet_a_deadline(&reactor.handle().clone(), || reactor.turn(None).unwrap());
}

#[test]
fn a_deadline_moved_later_costs_nothing_and_is_not_met_early() {
    let Rig { mut reactor, mut transport, peer: _peer, mut read_buffer, .. } = rig();
    let mut cx = Context::from_waker(Waker::noop());
    let now = Instant::now();
    transport.set_deadline(Some(now + Duration::from_millis(1)));
    let sweep = reactor.handle().0.next_sweep.load(Ordering::Relaxed);
    assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
    transport.set_deadline(Some(now + LONG));
    assert_eq!(reactor.handle().0.next_sweep.load(Ordering::Relaxed), sweep);
    while reactor.handle().swept() < sweep {
        reactor.turn(None).unwrap();
    }
    assert!(transport.poll_read(&mut cx, &mut read_buffer).is_pending());
}

#[test]
fn an_earlier_deadline_interrupts_a_longer_sleep() {
    let Rig { mut reactor, mut transport, peer: _peer, .. } = rig();
    let (wakes, waker) = Counter::new();
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let other = once_it_waits(reactor.handle(), move || {
        // The waker precedes the deadline, so that the sweep finds it however late this thread goes on.
        let polled = transport.poll_read(&mut Context::from_waker(&waker), &mut ReadBuffer::new());
        transport.set_deadline(Some(Instant::now() + Duration::from_millis(5)));
        (transport, polled.is_pending())
    });
    while wakes.count() == 0 {
        reactor.turn(None).unwrap();
    }
    assert!(other.join().unwrap().1);
    assert_ne!(reactor.handle().swept(), 0);
}

#[test]
fn many_deadlines_close_together_cost_few_sweeps() {
    let shortest = Duration::from_millis(320);
    let mut reactor = Reactor::new(shortest).unwrap();
    let now = Instant::now();
    let sockets: Vec<_> = (0..100).map(|_| pair()).collect();
    let slots: Vec<_> =
        sockets.iter().map(|(ours, _)| reactor.handle().register(ours.as_fd(), 0).unwrap()).collect();
    for (n, slot) in slots.iter().enumerate() {
        reactor.handle().set_deadline(slot, Some(now + Duration::from_micros(100 * n as u64)));
    }
    let mut sweeps = 0;
    let last = slots.last().unwrap();
    let mut swept = 0;
    while !last.is_due(reactor.handle().swept()) {
        reactor.turn(None).unwrap();
        sweeps += usize::from(reactor.handle().swept() != swept);
        swept = reactor.handle().swept();
    }
    assert!(sweeps <= 3, "{sweeps} sweeps for deadlines within 10 ms");
}

#[test]
fn sweeps_of_many_sockets_keep_a_distance_from_each_other() {
    const SOCKETS: u64 = 20_000;
    let mut reactor = Reactor::new(Duration::from_millis(1)).unwrap();
    let slots: Vec<_> = (0..SOCKETS).map(|_| reactor.handle().slot(0)).collect();
    let mut sweeps = vec![];
    while sweeps.len() < 8 {
        // Due at once, as at the end of a time of 0.
        reactor.handle().set_deadline(&slots[0], Some(Instant::now()));
        reactor.turn(None).unwrap();
        let swept = reactor.handle().swept();
        if sweeps.last() != Some(&swept) {
            sweeps.push(swept);
        }
    }
    let distances: Vec<_> = sweeps.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(distances.iter().all(|&distance| distance >= SOCKETS * REST_PER_SOCKET), "{distances:?}");
}

#[test]
fn block_on_gives_the_output_of_a_future_that_wakes_itself() {
    let mut reactor = Reactor::new(LONG).unwrap();
    let mut left = 3;
    let output = reactor.block_on(std::future::poll_fn(|cx| {
        left -= 1;
        cx.waker().wake_by_ref();
        if left == 0 { Poll::Ready("output") } else { Poll::Pending }
    }));
    assert_eq!(output.unwrap(), "output");
    assert_eq!(reactor.handle().turns(), 2);
}

#[test]
fn block_on_is_woken_by_other_threads_at_any_time() {
    let mut reactor = Reactor::new(LONG).unwrap();
    let (send, receive) = mpsc::channel::<Waker>();
    let waking = thread::spawn(move || receive.into_iter().for_each(Waker::wake));
    let mut left = 2000;
    let counted = reactor.block_on(std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        send.send(cx.waker().clone()).unwrap();
        Poll::Pending
    }));
    counted.unwrap();
    drop(send);
    waking.join().unwrap();
}

#[test]
fn block_on_waits_in_its_reactor() {
    let Rig { mut reactor, mut transport, peer, mut read_buffer, .. } = rig();
    let other = once_it_waits(reactor.handle(), move || {
        peer.send(b"hello").unwrap();
        peer
    });
    let read = reactor.block_on(std::future::poll_fn(|cx| transport.poll_read(cx, &mut read_buffer)));
    assert_eq!(read.unwrap().unwrap(), 5);
    other.join().unwrap();
}

#[test]
fn a_wake_up_on_the_reactors_own_thread_costs_no_system_call() {
    let Rig { mut reactor, mut transport, peer, mut read_buffer, .. } = rig();
    let mut reads = 0;
    let handle = reactor.handle().clone();
    let output = reactor.block_on(std::future::poll_fn(|cx| {
        while transport.poll_read(cx, &mut read_buffer).is_ready() {
            reads += 1;
        }
        if reads == 100 {
            return Poll::Ready(handle.turns());
        }
        peer.send(b"x").unwrap();
        Poll::Pending
    }));
    // One more for the event of the registration, which says that the socket is writable.
    assert!(output.unwrap() <= 101);
    assert_eq!(reactor.turn(Some(Duration::ZERO)).unwrap(), 0, "the reactor woke itself");
}

#[test]
fn a_slot_is_freed_with_its_connection() {
    let Rig { reactor, transport, .. } = rig();
    assert_eq!(reactor.handle().registered(), 1);
    drop(transport);
    assert_eq!(reactor.handle().registered(), 0);
}

#[test]
fn slots_are_small() {
    assert!(size_of::<Slot>() <= 72, "{}", size_of::<Slot>());
    assert!(size_of::<ReactorTransport>() <= 40, "{}", size_of::<ReactorTransport>());
}
