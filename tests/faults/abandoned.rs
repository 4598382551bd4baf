//! Requests whose clients have left before the answer: nobody works for them, or waits because of them.
//!
//! On an event loop a handler that waits is dropped when its client leaves, at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gearshift::Backend;

use crate::Area;
use crate::client::wait_until;
use crate::leave::{Manner, leave};
use crate::neighbours::Seen;
use crate::routes::{self, Waits};
use crate::running::{Running, few_workers};

pub(crate) const AREA: Area = (
    "abandoned",
    &[
        ("by_a_reset_they_hold_up_nobody", |backend| abandon(backend, Manner::Reset)),
        ("by_closing_they_hold_up_nobody", |backend| abandon(backend, Manner::Close)),
    ],
);

const PEERS: usize = 256;
/// How long a handler takes that is not cut short.
const LONG: Duration = Duration::from_secs(30);

fn abandon(backend: Backend, manner: Manner) {
    // A blocking backend begins whatever has arrived: that nobody waits for it shows only when it is answered.
    if matches!(backend.name(), "sequential" | "threadpool") {
        return;
    }
    let waits = Arc::new(Waits::default());
    let counted = waits.clone();
    let server =
        Running::start(backend, few_workers(backend), |runtime| routes::with_waits(runtime, counted));
    let mut clients: Vec<_> = (0..PEERS).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get(&format!("/test/wait/{}", LONG.as_millis())));
    wait_until("the handlers wait", || waits.at_once.load(Ordering::SeqCst) == PEERS);
    clients.into_iter().for_each(|client| leave(client.socket, manner));

    let (left, mut seen) = (Instant::now(), Seen::default());
    seen.ask_fresh(server.addr());
    seen.expect_within(Duration::ZERO);
    wait_until("no handler is left", || waits.at_once.load(Ordering::SeqCst) == 0);
    assert!(left.elapsed() < LONG / 2, "it took {:?}", left.elapsed());
    assert_eq!(waits.begun.load(Ordering::SeqCst), PEERS, "a handler was begun for nobody");
}
