use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use futures::future::{BoxFuture, select_all};
use retrace_eventlog::InstanceStream;
use retrace_proxy::Stage;
use retrace_query::End;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

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
    let outcome = wait_for_end(&mut services, instance, &mut signals).await;
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
    let hurry = pin!(async {
        tokio::select! {
            () = sleep(drain.wait_max) => tracing::warn!("what is still under way is ended"),
            () = signals.next() => {}
        }
    });
    outcome.and(end(&mut services, (!is_hurried).then_some(hurry), STOP_WAIT_MAX).await)
}

/// How long the services may take to end once they are told to, all together. A gate with clients that take nothing takes
/// 30 seconds.
const STOP_WAIT_MAX: Duration = Duration::from_secs(60);

/// Ends the services in order, each after the one before. Until `hurry` resolves, those that drain are waited for before
/// they are told to stop.
async fn end(
    services: &mut [Service],
    mut hurry: Option<Pin<&mut impl Future<Output = ()>>>,
    stop_max: Duration,
) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    let mut left = stop_max;
    for service in services {
        if service.drains
            && let Some(hurries) = &mut hurry
        {
            tokio::select! {
                ended = service.join() => outcome = outcome.and(ended),
                () = hurries => hurry = None,
            }
        }
        service.stop.tell(Stage::Stopping);
        let told_at = Instant::now();
        // A log that takes nothing holds up whoever has a last word. Closing it lets them go.
        let stopped = timeout(left, service.join()).await;
        left = left.saturating_sub(told_at.elapsed());
        outcome = outcome.and(stopped.unwrap_or_else(|_| {
            let (name, stop_max) = (service.name, stop_max.as_secs());
            Err(anyhow!(
                "{name} was not done when {stop_max} s of stopping were over: its last records may be missing"
            ))
        }));
    }
    outcome
}

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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// A service that ends when it is told to stop, and one that does not.
    fn service(name: &'static str, ends: bool) -> (Service, watch::Receiver<Stage>) {
        let stop = Stop::new();
        let (stopped, stage) = (stop.wait(), stop.watch());
        let service = Service::start(name, stop, async move {
            stopped.await;
            if ends { Ok(()) } else { pending().await }
        });
        (service, stage)
    }

    #[tokio::test]
    async fn services_that_end_when_they_are_told_to_end_in_order() {
        let (gate, gate_stage) = service("the gate", true);
        let (ingest, ingest_stage) = service("ingest", true);
        let mut services = [gate.draining(), ingest];
        // Nobody has told the gate to drain: it is waited for until that is hurried.
        let hurry = pin!(async {
            tokio::task::yield_now().await;
            assert_eq!([*gate_stage.borrow(), *ingest_stage.borrow()], [Stage::Serving; 2]);
        });
        end(&mut services, Some(hurry), STOP_WAIT_MAX).await.unwrap();
        assert_eq!([*gate_stage.borrow(), *ingest_stage.borrow()], [Stage::Stopping; 2]);
    }

    #[tokio::test]
    async fn one_that_does_not_end_keeps_no_process_alive_and_is_named() {
        let (gate, _) = service("the gate", false);
        let (heads, heads_stage) = service("the signing of heads", true);
        let (ingest, ingest_stage) = service("ingest", false);
        let mut services = [gate.draining(), heads, ingest];
        let hurry = pin!(ready(()));
        let ended = end(&mut services, Some(hurry), Duration::from_millis(20)).await;
        assert!(ended.unwrap_err().to_string().starts_with("the gate was not done"), "the first is named");
        assert_eq!(
            [*heads_stage.borrow(), *ingest_stage.borrow()],
            [Stage::Stopping; 2],
            "the others are told"
        );
    }
}
