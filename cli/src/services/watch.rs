//! What the health of a process is made of: the parts that must be ready, and what is counted.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retrace_eventlog::{CONTROL_LAG_MAX, ControlLag, EventLog, InstanceStream, LogState, LogWatch};
use retrace_ingest::{Ingest, Status};
use retrace_lake::Table;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::health::{Health, Part};

/// How long a record may wait for the log before the log counts as down; sessions give up on theirs then.
const LOG_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often what this process knows by itself is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How often what others must answer is asked, and how long they may take.
const ASK_PERIOD: Duration = Duration::from_secs(10);
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long ingest may fail, step after step, before it counts as not ready. Fences and lost leaders pass sooner.
const INGEST_FAILS_MAX: Duration = Duration::from_secs(30);

/// Whether the log takes records, and whether this process can still write its own stream.
pub(super) fn log(health: &Health, log: Arc<LogWatch>, instance: Arc<InstanceStream>) {
    log.register(&mut health.registry());
    let part = health.readiness().part("log");
    tokio::spawn(every(LOOK_PERIOD, move || {
        part.set(if instance.is_poisoned() {
            Err("it failed the stream of this process, which ends".to_owned())
        } else {
            writable(log.state(LOG_WAIT_MAX))
        });
    }));
}

/// Whether this process knows every order.
pub(super) fn control(health: &Health, lag: ControlLag) {
    lag.register(&mut health.registry());
    let part = health.readiness().part("control");
    tokio::spawn(every(LOOK_PERIOD, move || {
        part.set(match lag.is_current() {
            true => Ok(()),
            false => Err(format!(
                "orders of more than {} s ago may be unknown, so nothing is let through",
                CONTROL_LAG_MAX.as_secs()
            )),
        });
    }));
}

fn writable(state: LogState) -> Result<(), String> {
    match state {
        LogState::Writable => Ok(()),
        LogState::Late { waits } => Err(format!("a record waits for {} s", waits.as_secs())),
        LogState::Failed { ago } => Err(format!("the latest record failed {} s ago", ago.as_secs())),
    }
}

/// Whether ingest gets on, and was told what its share of the log is.
pub(super) fn ingest(health: &Health, log: Arc<dyn EventLog>, ingest: &Ingest, table: Table) {
    ingest.register(&mut health.registry());
    table_answers(health, table);
    let part = health.readiness().part("ingest");
    let status: watch::Receiver<Status> = ingest.status();
    let mut assigned_at = Instant::now();
    tokio::spawn(every(LOOK_PERIOD, move || {
        if log.is_share_assigned() {
            assigned_at = Instant::now();
        }
        let failing = status.borrow().failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        part.set(gets_on(failing, assigned_at.elapsed()));
    }));
}

fn gets_on(failing: Duration, unassigned: Duration) -> Result<(), String> {
    if failing > INGEST_FAILS_MAX {
        return Err(format!("its steps fail for {} s", failing.as_secs()));
    }
    if unassigned > INGEST_FAILS_MAX {
        return Err(format!(
            "the brokers have not given it a share of the log for {} s: may it read the control topic, in its group?",
            unassigned.as_secs()
        ));
    }
    Ok(())
}

/// Whether a query would find the log and the table.
pub(super) fn query(health: &Health, log: Arc<dyn EventLog>, table: Table) {
    let part = health.readiness().part("log readable");
    tokio::spawn(ask(part, move || {
        let log = Arc::clone(&log);
        async move { log.all_offsets().await.map(drop).map_err(|error| error.to_string()) }
    }));
    table_answers(health, table);
}

/// Services of one process have one table.
fn table_answers(health: &Health, table: Table) {
    if health.readiness().has_part("table") {
        return;
    }
    let part = health.readiness().part("table");
    tokio::spawn(ask(part, move || {
        let table = table.clone();
        async move { table.snapshot().await.map(drop).map_err(|error| error.to_string()) }
    }));
}

async fn every(period: Duration, mut look: impl FnMut()) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look();
    }
}

/// Asks again and again, and tells the part what came of it.
async fn ask<F: Future<Output = Result<(), String>>>(part: Part, question: impl Fn() -> F) {
    loop {
        let answer = timeout(ANSWER_WAIT_MAX, question()).await;
        part.set(answer.unwrap_or_else(|_elapsed| Err("it does not answer".to_owned())));
        sleep(ASK_PERIOD).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ingest_that_fails_or_has_no_share_for_long_is_not_ready_and_says_for_how_long() {
        let [never, passing, long] = [0, 30, 31].map(Duration::from_secs);
        assert_eq!(gets_on(never, never), Ok(()));
        assert_eq!(gets_on(passing, passing), Ok(()));
        assert_eq!(gets_on(long, never), Err("its steps fail for 31 s".to_owned()));
        let said = gets_on(never, long).expect_err("no share");
        assert!(said.contains("a share of the log for 31 s"), "{said}");
    }
}
