use std::future::Future;

use anyhow::{Context, anyhow};
use futures::future::select_all;
use retrace_eventlog::InstanceStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A part of the process that runs until it is told to stop.
pub(super) struct Service {
    name: &'static str,
    /// `None` once its end is known.
    task: Option<JoinHandle<anyhow::Result<()>>>,
    stop: Stop,
}

impl Service {
    /// Starts it. It must end soon after `stop` says so.
    pub(super) fn start(
        name: &'static str,
        stop: Stop,
        service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        Self { name, task: Some(tokio::spawn(service)), stop }
    }

    /// Waits for its end; one that has been waited for already has nothing more to say.
    async fn join(&mut self) -> anyhow::Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let outcome = task.await;
        self.task = None;
        match outcome {
            Ok(outcome) => outcome.with_context(|| format!("{} ended", self.name)),
            Err(_) => Err(anyhow!("{} panicked", self.name)),
        }
    }
}

/// Tells one service to stop.
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    fn now(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }

    pub(super) fn wait(&self) -> impl Future<Output = ()> + use<> {
        let mut stop = self.watch();
        async move {
            // An error means that the process has let go of the sender: stop as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}

/// Runs the services until a signal comes or one of them ends, then stops them in order, each after the one before.
pub(super) async fn run(mut services: Vec<Service>, instance: &InstanceStream) -> anyhow::Result<()> {
    let mut outcome = wait_for_end(&mut services, instance).await;
    for service in &mut services {
        service.stop.now();
        outcome = outcome.and(service.join().await);
    }
    outcome
}

/// Waits for a signal, or for a service that ends by itself: none should, so its end is the end of the process.
async fn wait_for_end(services: &mut [Service], instance: &InstanceStream) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let ends = services.iter_mut().map(|service| {
        Box::pin(async {
            let outcome = service.join().await;
            outcome.and(Err(anyhow!("{} ended by itself", service.name)))
        })
    });
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        (outcome, _, _) = select_all(ends) => outcome,
        () = poisoned(instance) => {
            Err(anyhow!("the log failed the stream of this process; start again once the log can be written"))
        }
    }
}

/// Resolves when the instance's stream is poisoned: reads and refusals could not be recorded any more.
async fn poisoned(instance: &InstanceStream) {
    let mut every_second = tokio::time::interval(std::time::Duration::from_secs(1));
    while !instance.is_poisoned() {
        every_second.tick().await;
    }
}
