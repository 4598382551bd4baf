//! Lookups of host names, on threads of their own.
//!
//! The lookup of the system blocks its thread, for many seconds if no name server answers, and cannot be interrupted.
//! It therefore takes neither the thread of the caller nor one that runs the jobs of an application.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use async_task::Runnable;

use crate::runtime::config::Overload;
use crate::runtime::handle::Work;
use crate::runtime::pool::{Pool, Requester};

/// The largest number of lookups of one server that run at once. Further ones wait.
const MAX_LOOKUPS: usize = 16;

/// The lookups of one server. A thread starts for a lookup, and ends when no other lookup waits.
pub(crate) struct Lookups(Arc<Pool>);

impl Lookups {
    pub(crate) fn new() -> Lookups {
        Lookups(Pool::new(Work::Blocking, MAX_LOOKUPS, usize::MAX, Overload::Wait, |_, job| {
            // If the system refuses the thread, the job is dropped, which the wait for the output reports.
            let _ = thread::Builder::new().name("lookup".into()).spawn(job);
        }))
    }

    /// Looks the addresses of `HOST:PORT` up. Dropping the future cancels a lookup that waits; the result of a running
    /// one is dropped.
    ///
    /// # Errors
    /// `InvalidInput` if `name` does not have this form, the error of the lookup, or the system refuses a thread.
    pub(crate) async fn addresses(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        let name = name.to_owned();
        self.run(move || name.to_socket_addrs().map(Iterator::collect)).await
    }

    /// Runs `lookup` on a thread.
    async fn run<R: Send + 'static>(
        &self,
        lookup: impl FnOnce() -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        // The task never waits, so that it is scheduled only once, by the pool.
        let task = async_task::Builder::new().propagate_panic(true);
        let (runnable, output) = task.spawn(|()| async { lookup() }, drop::<Runnable>);
        let job = Box::new(move || _ = runnable.run());
        let admitted = self.0.admit(job, Requester::Other, false);
        let _position = admitted.expect("a lookup that may wait is not refused");
        match output.fallible().await {
            Some(output) => output,
            None => {
                Err(io::Error::new(io::ErrorKind::WouldBlock, "the system refuses a thread for the lookup"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn names_and_numbers_are_looked_up() {
        let addresses = block_on(Lookups::new().addresses("127.0.0.1:80")).expect("an address");
        assert_eq!(addresses, ["127.0.0.1:80".parse().expect("an address")]);
        let error = block_on(Lookups::new().addresses("127.0.0.1")).expect_err("there is no port");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn lookups_beyond_the_limit_wait_and_can_be_cancelled() {
        let lookups = Lookups::new();
        let (begun, begins) = mpsc::channel();
        let (end, ends) = mpsc::channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        let run = Arc::new(AtomicUsize::new(0));
        let mut cx = Context::from_waker(Waker::noop());
        let mut all: Vec<_> = (0..MAX_LOOKUPS + 2)
            .map(|_| {
                let (begun, ends, run) = (begun.clone(), ends.clone(), run.clone());
                Box::pin(lookups.run(move || {
                    run.fetch_add(1, Ordering::SeqCst);
                    let _ = begun.send(());
                    let _ = ends.lock().map(|ends| ends.recv());
                    Ok(())
                }))
            })
            .collect();
        assert!(all.iter_mut().all(|lookup| lookup.as_mut().poll(&mut cx).is_pending()));
        for _ in 0..MAX_LOOKUPS {
            begins.recv().expect("a lookup begins");
        }
        // One of those that wait, and one that runs.
        drop(all.pop());
        drop(all.remove(0));
        drop(end);
        all.into_iter().for_each(|lookup| block_on(pin!(lookup)).expect("the lookup ends"));
        assert_eq!(run.load(Ordering::SeqCst), MAX_LOOKUPS + 1);
    }
}
