use std::os::fd::AsFd;
use std::sync::mpsc;
use std::task::Context;
use std::thread::{self, JoinHandle};

use futures_lite::future::{block_on, poll_once};
use gearshift_core::Endpoint;

use super::*;
use crate::reactor::tests::meet_a_deadline;
use crate::slot::{Direction, READABLE, WRITABLE};
use crate::testing::{Counter, LONG, pair};
use crate::timers::tests::{fire_in_order, outlive};

const THREADS: usize = 8;

/// Threads that wait in one reactor, and tell how many events each of their turns had.
struct Crew {
    reactor: Arc<SharedReactor>,
    is_ended: Arc<AtomicBool>,
    turns: mpsc::Receiver<usize>,
    threads: Vec<JoinHandle<()>>,
}

fn crew() -> Crew {
    let reactor = Arc::new(SharedReactor::new(LONG).unwrap());
    let is_ended = Arc::new(AtomicBool::new(false));
    let (tell, turns) = mpsc::channel();
    let threads = (0..THREADS)
        .map(|_| {
            let (reactor, is_ended, tell) = (reactor.clone(), is_ended.clone(), tell.clone());
            thread::spawn(move || {
                let mut events = SharedEvents::new(4);
                while !is_ended.load(Ordering::SeqCst) {
                    let news = reactor.turn(&mut events, None).unwrap();
                    tell.send(news).unwrap();
                }
                // The next thread ends too.
                reactor.handle().wake();
            })
        })
        .collect();
    // All of them wait, or are about to.
    while reactor.handle().turns() < THREADS as u64 {
        thread::yield_now();
    }
    Crew { reactor, is_ended, turns, threads }
}

impl Crew {
    /// The events of the turns that ended since this was last called.
    fn events(&self) -> usize {
        self.turns.try_iter().sum()
    }

    /// Ends the threads, and returns the number of turns that ended before.
    fn end(self) -> usize {
        let turns = self.turns.try_iter().count();
        self.is_ended.store(true, Ordering::SeqCst);
        self.reactor.handle().wake();
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(self.turns.try_iter().count() <= THREADS);
        turns
    }
}

#[test]
fn an_event_reaches_exactly_one_thread() {
    const SOCKETS: usize = 100;
    const ROUNDS: usize = 20;
    let crew = crew();
    let sockets: Vec<_> = (0..SOCKETS).map(|_| pair()).collect();
    let slots: Vec<_> =
        sockets.iter().map(|(ours, _)| crew.reactor.handle().register(ours.as_fd(), 0).unwrap()).collect();
    // Registering a socket that is writable is an event.
    let mut events = 0;
    while events < SOCKETS {
        events += crew.events();
    }
    let (reads, waker) = Counter::new();
    for round in 1..=ROUNDS {
        for slot in &slots {
            slot.take(READABLE | WRITABLE);
            assert!(slot.poll(Direction::Read, &mut Context::from_waker(&waker), || 0).is_pending());
        }
        for (_, peer) in &sockets {
            peer.send(b"x").unwrap();
        }
        while reads.count() < round * SOCKETS || events < (round + 1) * SOCKETS {
            events += crew.events();
            thread::yield_now();
        }
    }
    assert_eq!(reads.count(), ROUNDS * SOCKETS);
    assert_eq!(events + crew.events(), (ROUNDS + 1) * SOCKETS);
    crew.end();
}

#[test]
fn wake_ends_the_turn_of_one_thread() {
    let crew = crew();
    for _ in 0..200 {
        crew.reactor.handle().wake();
        assert_eq!(crew.turns.recv().unwrap(), 1);
    }
    assert_eq!(crew.end(), 0);
}

#[test]
fn wake_is_kept_until_a_thread_waits() {
    let reactor = SharedReactor::new(LONG).unwrap();
    let mut events = SharedEvents::new(4);
    for _ in 0..3 {
        reactor.handle().wake();
        reactor.handle().wake();
        assert_eq!(reactor.turn(&mut events, None).unwrap(), 1);
        assert_eq!(reactor.turn(&mut events, Some(Duration::ZERO)).unwrap(), 0);
    }
}

#[test]
fn a_timer_wakes_one_thread() {
    let crew = crew();
    for n in 0..100 {
        let at = Instant::now() + Duration::from_micros(20 * n);
        block_on(crew.reactor.handle().sleep(at));
        assert!(Instant::now() >= at);
    }
    let woken = crew.end();
    assert!(woken <= 100, "{woken} turns for 100 timers");
}

#[test]
fn timers_fire_in_order_and_not_early() {
    let reactor = SharedReactor::new(LONG).unwrap();
    let mut events = SharedEvents::new(4);
    fire_in_order(reactor.handle(), || reactor.turn(&mut events, None).unwrap());
}

#[test]
fn a_dropped_timer_and_a_time_that_never_comes_end_no_turn() {
    let reactor = SharedReactor::new(LONG).unwrap();
    let mut events = SharedEvents::new(4);
    let mut never = reactor.handle().sleep(Instant::now() + Duration::from_secs(1 << 40));
    let mut dropped = reactor.handle().sleep(Instant::now() + LONG);
    assert!(block_on(poll_once(&mut never)).is_none());
    assert!(block_on(poll_once(&mut dropped)).is_none());
    drop(dropped);
    assert_eq!(reactor.turn(&mut events, Some(Duration::from_millis(1))).unwrap(), 0);
}

#[test]
fn a_sleep_outlives_its_reactor() {
    let crew = crew();
    outlive(&crew.reactor.handle().clone(), || crew.end());
}

#[test]
fn a_deadline_is_met_by_a_sweep() {
    let crew = crew();
    meet_a_deadline(crew.reactor.handle(), thread::yield_now);
    crew.end();
}

#[test]
fn connections_are_served_by_whichever_thread_waits() {
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use std::io::{Read, Write};
    let crew = crew();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut got = [0; 5];
        while peer.read_exact(&mut got).is_ok() {
            peer.write_all(&got).unwrap();
        }
    });
    let handle = crew.reactor.handle().clone();
    block_on(async {
        let mut stream = handle.connect(Endpoint::Tcp(address)).await.unwrap();
        for _ in 0..100 {
            stream.write_all(b"hello").await.unwrap();
            let mut got = [0; 5];
            stream.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"hello");
        }
    });
    echo.join().unwrap();
    assert_eq!(crew.reactor.handle().registered(), 0);
    crew.end();
}
