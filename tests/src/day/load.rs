//! An even load: each command has its time, whatever became of those before it, so that time is the only thing that changes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::sleep_until;
use tokio_postgres::Config;

use super::Plan;
use super::services::Services;
use super::work::{Session, Work};
use crate::client::{self, Tls};

/// Of so many clients one keeps its session until the end.
const LONG_EVERY: u64 = 10;

/// A load that runs.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    plan: Plan,
    began: Instant,
    answered: AtomicU64,
    /// Microseconds after its time at which the latest command was asked, of those since somebody looked.
    late_us: AtomicU64,
    done: Mutex<Done>,
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub(super) struct Done {
    /// Commands that were answered as they must be: all of them, since anything else ends the run.
    pub(super) answered: u64,
    /// The numbers whose insert was acknowledged.
    pub(super) inserted: BTreeSet<u64>,
    /// Commands that the gate refused.
    pub(super) refused: u64,
    /// Sessions that were opened.
    pub(super) sessions: u64,
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) began_unix_ms: u64,
    unexpected: Vec<String>,
}

/// One client after the other, at one place.
struct Seat {
    number: u64,
    config: Config,
    tls: Tls,
}

impl Load {
    /// Starts the clients, divided among principals, targets and proxies.
    pub(super) fn start(services: &Services<'_>, plan: &Plan) -> Self {
        let shared = Arc::new(Shared {
            plan: plan.clone(),
            began: Instant::now(),
            answered: AtomicU64::new(0),
            late_us: AtomicU64::new(0),
            done: Mutex::new(Done { began_unix_ms: now_unix_ms(), ..Done::default() }),
        });
        let tls = Tls::trusting(&services.gate.ca());
        let seat = |number| Seat { number, config: way(services, number), tls: tls.clone() };
        let clients = (0..plan.seats).map(seat).map(|seat| tokio::spawn(sit(Arc::clone(&shared), seat)));
        Self { clients: clients.collect(), shared }
    }

    /// How long it has run.
    pub(super) fn at(&self) -> Duration {
        self.shared.began.elapsed()
    }

    /// Whether every client has gone.
    pub(super) fn is_over(&self) -> bool {
        self.clients.iter().all(JoinHandle::is_finished)
    }

    /// Commands that were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// How long after its time a command was asked, at most since this was asked last.
    pub(super) fn late(&self) -> Duration {
        Duration::from_micros(self.shared.late_us.swap(0, Ordering::Relaxed))
    }

    /// Fails if a client was answered as it must not be: no fault strikes here, so there is no excuse.
    #[track_caller]
    pub(super) fn assert_fine(&self) {
        let unexpected = self.shared.done().unexpected.clone();
        assert!(unexpected.is_empty(), "{} clients ended: {unexpected:?}", unexpected.len());
    }

    /// Waits until every client has gone.
    pub(super) async fn end(self) -> Done {
        for client in self.clients {
            client.await.expect("a client does not panic");
        }
        let done = self.shared.done().clone();
        Done { answered: self.shared.answered.load(Ordering::Relaxed), ..done }
    }
}

impl Shared {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, work: Work, number: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        let mut done = self.done();
        if work.inserts() {
            done.inserted.insert(number);
        }
        if work == Work::Refused {
            done.refused += 1;
        }
    }
}

/// As whom a client comes, whither and by which proxy: each has each.
fn way(services: &Services<'_>, seat: u64) -> Config {
    let pick = |round: u64, count: usize| {
        let place = seat / round % count as u64;
        usize::try_from(place).expect("below the count")
    };
    let (principal, token) = &services.principals[pick(1, services.principals.len())];
    let target = super::services::TARGETS[pick(4, super::services::TARGETS.len())];
    let proxy = &services.proxies[pick(8, services.proxies.len())];
    client::config_at(proxy.postgres_port, principal, token, target)
}

async fn sit(shared: Arc<Shared>, seat: Seat) {
    if let Err(what) = ask_all(&shared, &seat).await {
        shared.done().unexpected.push(what);
    }
}

/// Asks every command of a seat at its time.
async fn ask_all(shared: &Shared, seat: &Seat) -> Result<(), String> {
    let Plan { commands, seats, session_commands, .. } = shared.plan;
    let is_long = seat.number.is_multiple_of(LONG_EVERY);
    // Sessions do not all end at one time.
    let first = seat.number * session_commands / seats;
    let mut session = None;
    let mut number = seat.number;
    for turn in 0.. {
        if number >= commands {
            break;
        }
        let due = shared.began + shared.plan.due(number);
        sleep_until(due.into()).await;
        let late_us = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.late_us.fetch_max(late_us, Ordering::Relaxed);
        if !is_long && (first + turn).is_multiple_of(session_commands) {
            session = None;
        }
        let open = match session.take() {
            Some(open) => open,
            None => {
                shared.done().sessions += 1;
                Session::open(&seat.config, &seat.tls).await?
            }
        };
        let work = Work::of(turn + seat.number);
        open.ask(work, number).await?;
        session = Some(open);
        shared.note(work, number);
        number += seats;
    }
    Ok(())
}

pub(super) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500 million")
}
