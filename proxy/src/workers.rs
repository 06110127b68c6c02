//! Threads that run sessions.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// One thread for each core, each with a runtime of its own.
///
/// A session stays on the thread it began on. What its sockets say wakes nobody else, and its buffers stay in one core's
/// cache; a runtime that moves tasks between threads spends more on waking them than a session spends on its work.
///
/// Dropping them stops the threads, and with them what still runs there.
#[derive(Debug)]
pub struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// Held by everything that runs there, and by this.
    load: Arc<()>,
    _stop: oneshot::Sender<()>,
}

/// A place on a worker; its load as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) runtime: Handle,
    pub(crate) load: Arc<()>,
}

impl Workers {
    /// Starts as many as there are cores, or `count`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(count: Option<NonZeroUsize>) -> io::Result<Self> {
        let count = match count {
            Some(count) => count,
            None => thread::available_parallelism()?,
        };
        (0..count.get()).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// The one with the least to do.
    pub(crate) fn place(&self) -> Place {
        let least = self.0.iter().min_by_key(|worker| Arc::strong_count(&worker.load));
        let worker = least.expect("there is at least one");
        Place { runtime: worker.runtime.clone(), load: worker.load.clone() }
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
            // An error means that the other end is gone, which is how it is told.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, load: Arc::new(()), _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_gets_the_worker_with_the_fewest_others() {
        let workers = Workers::start(NonZeroUsize::new(2)).unwrap();
        let id = |place: &Place| place.runtime.id();
        let first = workers.place();
        let second = workers.place();
        assert_ne!(id(&first), id(&second));
        let third = workers.place();
        let on_both = [id(&first), id(&second)];
        assert!(on_both.contains(&id(&third)));
        let gone = if id(&third) == id(&first) { second } else { first };
        let freed = id(&gone);
        drop(gone);
        assert_eq!(id(&workers.place()), freed);
    }

    #[test]
    fn what_runs_on_a_worker_ends_with_the_workers() {
        let workers = Workers::start(NonZeroUsize::new(1)).unwrap();
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        let place = workers.place();
        place.runtime.spawn(async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        drop(workers);
        let waited = ended.recv_timeout(std::time::Duration::from_secs(30));
        assert_eq!(waited, Err(std::sync::mpsc::RecvTimeoutError::Disconnected));
    }
}
