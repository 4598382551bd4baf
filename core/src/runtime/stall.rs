//! The stall detector: it logs and counts handlers and tasks that hold their thread for too long.
//!
//! Each poll of a handler is timed with the coarse clock, which costs a few nanoseconds. Sync handlers of pipelined
//! requests are timed together. The [`Router`](crate::Router) stores the number of the route in a thread-local
//! variable, which is one store for each request. The number is resolved to a name only for a report.
//!
//! The variable has the route of the last router that the thread has called. The driver therefore resets it before it
//! calls a handler, and sets it before it polls the future of a handler, between whose polls the thread works for other
//! requests.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::Duration;

use crate::runtime::clock::CoarseInstant;
use crate::runtime::task::lock;

/// The name of a route, as its index in [`NAMES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteName(u32);

/// The names of all routes of the process, without duplicates. The first one is that of [`RouteName::NONE`].
static NAMES: LazyLock<Mutex<Vec<&'static str>>> =
    LazyLock::new(|| Mutex::new(vec!["a handler without a route"]));

thread_local! {
    /// The route whose handler the thread has called or polled last.
    static CURRENT: Cell<RouteName> = const { Cell::new(RouteName::NONE) };
}

impl RouteName {
    /// A handler without a route.
    pub(crate) const NONE: RouteName = RouteName(0);

    /// The index of `name`, which is assigned at its first use. Names are never freed.
    pub(crate) fn new(name: &str) -> RouteName {
        let mut names = lock(&NAMES);
        let at = names.iter().position(|known| *known == name).unwrap_or_else(|| {
            names.push(Box::leak(name.into()));
            names.len() - 1
        });
        RouteName(u32::try_from(at).expect("memory does not hold that many routes"))
    }

    /// The route with this index.
    pub(crate) fn from_index(index: u32) -> RouteName {
        RouteName(index)
    }

    /// The index of the route; 0 for [`RouteName::NONE`].
    #[inline]
    pub(crate) fn index(self) -> u32 {
        self.0
    }

    /// Records that the calling thread is about to call a handler of this route, or to poll its future.
    #[inline]
    pub(crate) fn enter(self) {
        CURRENT.set(self);
    }

    /// The route whose handler the calling thread has called or polled last.
    #[inline]
    pub(crate) fn current() -> RouteName {
        CURRENT.get()
    }

    /// The name, for a report.
    pub(crate) fn name(self) -> &'static str {
        lock(&NAMES)[self.0 as usize]
    }

    /// The path of the route; `None` for [`RouteName::NONE`].
    pub(crate) fn route(self) -> Option<&'static str> {
        (self != RouteName::NONE).then(|| self.name())
    }
}

/// What a background task works on, as log lines refer to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    /// The application has spawned the task here.
    Spawned(&'static Location<'static>),
    /// The task is the function of an upgrade that was created here.
    Upgraded(&'static Location<'static>),
    /// The task is a handler of this route whose peer has left.
    Detached(RouteName),
    /// The task starts the application.
    Start,
    /// The task is the `on_stop` of the application.
    Stop,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Spawned(place) => write!(f, "the background task of {place}"),
            Origin::Upgraded(place) => write!(f, "the upgrade of {place}"),
            Origin::Detached(route) => write!(f, "the detached handler of {}", route.name()),
            Origin::Start => f.write_str("the start of the application"),
            Origin::Stop => f.write_str("`on_stop` of the application"),
        }
    }
}

/// The stall detector of one server.
#[derive(Debug)]
pub(crate) struct Stalls {
    backend: &'static str,
    threshold: Duration,
    count: AtomicU64,
}

impl Stalls {
    /// Creates a detector that reports polls of `threshold` or longer, or no polls if `threshold` is zero.
    pub(crate) fn new(backend: &'static str, threshold: Duration) -> Stalls {
        let threshold = if threshold.is_zero() { Duration::MAX } else { threshold };
        Stalls { backend, threshold, count: AtomicU64::new(0) }
    }

    /// The number of stalls so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Reports a stall if the calls of `handlers` handlers, the last of them of `route`, have held the calling thread
    /// from `began` to `now` for too long. Returns `now`.
    pub(crate) fn polled(
        &self,
        began: CoarseInstant,
        now: CoarseInstant,
        route: RouteName,
        handlers: u32,
    ) -> CoarseInstant {
        if now.since(began) >= self.threshold {
            let route = route.name();
            match handlers {
                1 => self.report(now.since(began), route),
                n => self.report(now.since(began), &format!("one of {n} requests, the last for {route},")),
            }
        }
        now
    }

    /// Reports a stall if the poll of a background task has lasted for too long since `began`.
    #[inline]
    pub(crate) fn polled_task(&self, began: CoarseInstant, origin: Origin) {
        let held = began.elapsed();
        if held >= self.threshold {
            self.report(held, &origin.to_string());
        }
    }

    #[cold]
    fn report(&self, held: Duration, who: &str) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let thread = thread::current();
        log::warn!(
            target: "gearshift::stall",
            "{who} has held up {} ({}) for {} ms: run blocking code in `blocking` and CPU-bound code in `compute`",
            thread.name().unwrap_or("a thread without a name"),
            self.backend,
            held.as_millis()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_number_and_no_name_is_said_so() {
        let (one, other) = (RouteName::new("GET /one of these"), RouteName::new("GET /another"));
        assert_ne!(one, other);
        assert_eq!(RouteName::new("GET /one of these"), one);
        assert_eq!(one.name(), "GET /one of these");
        assert_eq!(RouteName::NONE.name(), "a handler without a route");
    }

    #[test]
    fn only_what_takes_as_long_as_the_threshold_counts() {
        // The boot of the system.
        let began = CoarseInstant::default();
        for (threshold, counted) in [(Duration::MAX, 0), (Duration::ZERO, 0), (Duration::from_nanos(1), 2)] {
            let stalls = Stalls::new("test", threshold);
            stalls.polled(began, CoarseInstant::now(), RouteName::NONE, 1);
            stalls.polled_task(began, Origin::Spawned(Location::caller()));
            assert_eq!(stalls.count(), counted);
        }
    }

    #[test]
    fn a_thread_has_the_route_that_it_has_entered_last() {
        let route = RouteName::new("GET /entered");
        for entered in [route, RouteName::NONE] {
            entered.enter();
            assert_eq!(RouteName::current(), entered);
        }
    }

    #[test]
    fn a_report_says_what_has_held_the_thread() {
        let place = Location::caller();
        let route = RouteName::new("GET /held");
        for (origin, text) in [
            (Origin::Spawned(place), format!("the background task of {place}")),
            (Origin::Upgraded(place), format!("the upgrade of {place}")),
            (Origin::Detached(route), "the detached handler of GET /held".to_owned()),
            (Origin::Start, "the start of the application".to_owned()),
            (Origin::Stop, "`on_stop` of the application".to_owned()),
        ] {
            assert_eq!(origin.to_string(), text);
        }
    }
}
