use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::{BoxFuture, select_all};
use retrace_eventlog::InstanceStream;
use retrace_proxy::Stage;
use retrace_query::End;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::health::Readiness;

/// A part of the process that runs until it is told to stop.
pub(super) struct Service {
    name: &'static str,
    /// `None` once its end is known.
    task: Option<JoinHandle<anyhow::Result<()>>>,
    stop: Stop,
    /// Whether it finishes what is under way when it is told to drain, and then ends.
    drains: bool,
}

impl Service {
    /// Starts it. It must end soon after `stop` says so.
    pub(super) fn start(
        name: &'static str,
        stop: Stop,
        service: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) -> Self {
        Self { name, task: Some(tokio::spawn(service)), stop, drains: false }
    }

    /// The same service, which drains.
    pub(super) fn draining(self) -> Self {
        Self { drains: true, ..self }
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
pub(super) struct Stop(watch::Sender<Stage>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Stage::Serving))
    }

    fn tell(&self, stage: Stage) {
        self.0.send_replace(stage);
    }

    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.0.subscribe()
    }

    /// Resolves when the service is to stop.
    pub(super) fn wait(&self) -> BoxFuture<'static, ()> {
        self.wait_for(Stage::Stopping)
    }

    pub(super) fn end(&self) -> End {
        End { drain: self.wait_for(Stage::Draining), stop: self.wait() }
    }

    fn wait_for(&self, at_least: Stage) -> BoxFuture<'static, ()> {
        let mut stage = self.watch();
        Box::pin(async move {
            // An error means that the process has let go of the sender: stop as well.
            let _ = stage.wait_for(|stage| *stage >= at_least).await;
        })
    }
}

/// How a process takes its leave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    /// How long it serves on as before when it has said that it is not ready, so that load balancers hear of it.
    pub(crate) grace: Duration,
    /// How long what is under way may then take.
    pub(crate) wait_max: Duration,
}

/// The signals that end a process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs the services until a signal comes or one of them ends, then stops them in order, each after the one before.
///
/// After a signal those that serve clients first finish what is under way; a second signal ends that. Where a service
/// has failed, nothing is waited for.
pub(super) async fn run(
    mut services: Vec<Service>,
    instance: &InstanceStream,
    readiness: &Readiness,
    drain: Drain,
) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let mut outcome = wait_for_end(&mut services, instance, &mut signals).await;
    readiness.drain();
    let drains = outcome.is_ok();
    let mut is_hurried = !drains;
    if drains {
        tracing::info!("draining");
        tokio::select! {
            () = sleep(drain.grace) => {}
            () = signals.next() => is_hurried = true,
        }
        services
            .iter()
            .filter(|service| service.drains)
            .for_each(|service| service.stop.tell(Stage::Draining));
    }
    let mut hurry = pin!(async {
        tokio::select! {
            () = sleep(drain.wait_max) => tracing::warn!("what is still under way is ended"),
            () = signals.next() => {}
        }
    });
    for service in &mut services {
        if service.drains && !is_hurried {
            tokio::select! {
                ended = service.join() => outcome = outcome.and(ended),
                () = &mut hurry => is_hurried = true,
            }
        }
        service.stop.tell(Stage::Stopping);
        let stopped = tokio::select! {
            stopped = service.join() => stopped,
            // A log that takes nothing holds up whoever has a last word. Closing it lets them go.
            () = sleep(STOP_WAIT_MAX) => Err(anyhow!(
                "{} did not end within {} s: its last records may be missing",
                service.name,
                STOP_WAIT_MAX.as_secs()
            )),
        };
        outcome = outcome.and(stopped);
    }
    outcome
}

/// How long a service may take to end once it is told to. A gate with clients that take nothing takes 30 seconds.
const STOP_WAIT_MAX: Duration = Duration::from_secs(45);

/// Waits for a signal, or for a service that ends by itself: none should, so its end is the end of the process.
async fn wait_for_end(
    services: &mut [Service],
    instance: &InstanceStream,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let ends = services.iter_mut().map(|service| {
        Box::pin(async {
            let outcome = service.join().await;
            outcome.and(Err(anyhow!("{} ended by itself", service.name)))
        })
    });
    tokio::select! {
        () = signals.next() => Ok(()),
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
