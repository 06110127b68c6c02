//! A session from its target's first word to the last record of its stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use retrace_proto::wire::{self, Asserted, RecordResponses};
use retrace_proto::{Event, Id, Masked, StreamWriter, Subject};
use retrace_proxy_core::postgres::{Greeting, Opening, Recording, Session, SessionRules};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::analyst::Analyst;
use crate::clock;
use crate::dial::Dialled;
use crate::driver::{Alarm, Driver, Stream};
use crate::gateway::{Gateway, Target};
use crate::leaving::Leaving;
use crate::loaded::Loaded;
use crate::outbox::{Outbox, Progress};
use crate::registry::Entrant;
use crate::ruling::Ruling;
use crate::stage::Stage;

/// Who begins a session, and through what.
pub(crate) struct Entrance {
    pub(crate) principal: wire::Principal,
    /// The configuration that the session goes by.
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) target: Arc<Target>,
    pub(crate) asserted: Masked<Vec<Asserted>>,
    pub(crate) client_address: String,
    pub(crate) tls_version: String,
    /// The minor version of protocol 3 that the client speaks.
    pub(crate) protocol_minor: u16,
    /// The rules that statements are decided by; `None` for the catalogue's reader, which is not judged by columns either.
    pub(crate) rules: Option<SessionRules>,
}

/// Runs a session in a task of its own, so that if it panics it ends alone.
pub(crate) async fn run(
    gateway: &Arc<Gateway>,
    client: impl Stream + Send + 'static,
    entrance: Entrance,
    dialled: Dialled,
    stages: watch::Receiver<Stage>,
) {
    let session_id = clock::new_id();
    let durable_end = Arc::new(AtomicU64::new(0));
    let (place, orders) = gateway.registry.register(Entrant {
        session_id,
        principal: entrance.principal.name.clone(),
        token_id: entrance.principal.token_id.clone(),
        protocol_minor: entrance.protocol_minor,
    });
    let about = subject(gateway, session_id, &entrance);
    let analyst = Analyst::new(gateway, &entrance);
    let target = entrance.target.clone();
    let ruling = Ruling::of(&entrance);
    let greeting = Greeting { settings: dialled.ready.settings, cancel_key: place.key() };
    let loan = dialled.loan;
    let opening = opening(gateway, about.clone(), entrance, loan.credential().user.clone(), greeting);
    let counters = gateway.metrics.open_session(&target);
    let driver = Driver {
        session: Session::open(opening, clock::now()),
        outbox: outbox(gateway, session_id),
        gateway: gateway.clone(),
        about: about.clone(),
        rolled: JoinSet::new(),
        target_config: target,
        target_cancel: dialled.ready.cancel,
        place,
        orders,
        knows_orders: true,
        control_lags: None,
        leaving: Leaving::new(stages, loan),
        alarm: Alarm::new(),
        close_wait_max: gateway.limits.close_wait_max,
        dial_wait_max: gateway.limits.dial_wait_max,
        durable_end: durable_end.clone(),
        analyst,
        analysis: None,
        asking: None,
        ruling,
        counters,
    };
    let ended = tokio::spawn(driver.run(client, dialled.ready.stream)).await;
    match ended {
        Ok((about, outbox)) => settle(gateway.clone(), about, outbox).await,
        Err(_) => {
            tracing::error!(session = %session_id, "a session panicked; it ended alone");
            gateway.metrics.session_closed("panicked");
            aborted(gateway, about, session_id, durable_end.load(Ordering::Acquire)).await;
        }
    }
}

fn opening(
    gateway: &Gateway,
    subject: Subject,
    entrance: Entrance,
    target_user: String,
    greeting: Greeting,
) -> Opening {
    let session_id = subject.session_id.expect("the subject of a session names it");
    let target = entrance.target;
    let mut limits = gateway.limits.session;
    limits.command_recorded_bytes_max = target.command_recorded_bytes_max;
    let is_judged = entrance.rules.is_some();
    let (masker, recording) = if is_judged {
        (target.masker.clone(), target.recording.clone())
    } else {
        // A catalogue holds names alone, and what is judged by it must be what the target said.
        let recording = Recording { responses: RecordResponses::None, ..target.recording.clone() };
        (gateway.masks_nothing.clone(), recording)
    };
    Opening {
        stream: StreamWriter::new(session_id, wire::StreamKind::Session),
        masker,
        recording,
        has_column_masks: is_judged && !target.columns.is_empty(),
        rules: entrance.rules,
        guesses: gateway.guesses(&entrance.principal.name, &target.name),
        buckets: gateway.buckets.of(&entrance.principal.name, &gateway.directory, clock::now().monotonic_us),
        opened: wire::SessionOpened {
            client_address: entrance.client_address,
            target_user,
            tls_version: entrance.tls_version,
            server_version: server_version(&greeting.settings),
            ..wire::SessionOpened::default()
        },
        greeting,
        asserted: entrance.asserted,
        policy_version: entrance.loaded.policy_version.clone(),
        impossible_name: impossible_name(),
        limits,
        subject,
    }
}

fn subject(gateway: &Gateway, session_id: Id, entrance: &Entrance) -> Subject {
    Subject {
        session_id: Some(session_id),
        connection_id: Some(session_id),
        proxy_id: gateway.proxy_id.clone(),
        principal: Some(entrance.principal.clone()),
        target: entrance.target.name.clone(),
        protocol: wire::Protocol::Postgres,
        durability: entrance.target.durability,
        retention_class: entrance.target.retention_class,
    }
}

/// Waits until the last records of a session are durable, or says in the instance's stream that they will not be.
pub(crate) async fn settle(gateway: Arc<Gateway>, about: Subject, mut outbox: Outbox) {
    let session_id = about.session_id.expect("the subject of a session names it");
    while outbox.is_waiting() {
        if let Progress::Failed(error) = outbox.progress().await {
            tracing::error!(session = %session_id, %error, "a session's last records are not durable");
        }
    }
    if outbox.has_failed() {
        let durable_end = outbox.durable_end();
        aborted(&gateway, about, session_id, durable_end).await;
    }
}

/// The outbox of a stream that begins.
pub(crate) fn outbox(gateway: &Gateway, stream: Id) -> Outbox {
    Outbox::new(gateway.log.clone(), stream, gateway.streams.open(stream))
}

async fn aborted(gateway: &Gateway, about: Subject, stream: Id, durable_end: u64) {
    let event = Event::stream_aborted(stream, durable_end.checked_sub(1));
    if let Err(error) = gateway.instance.record(about, event).await {
        tracing::error!(session = %stream, %error, "the end of a stream is not recorded");
    }
}

/// The version that the target reports, if it has the form of one.
fn server_version(settings: &[(Bytes, Bytes)]) -> String {
    let version = settings.iter().find(|(name, _)| name == "server_version").map(|(_, value)| value);
    let number = version.and_then(|value| value.split(|byte| *byte == b' ').next()).unwrap_or_default();
    String::from_utf8_lossy(number)
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '.')
        .take(16)
        .collect()
}

/// The name of a prepared statement that cannot exist, since nobody can guess it.
fn impossible_name() -> String {
    let random: [u8; 16] = clock::random();
    format!("retrace_refused_{:032x}", u128::from_be_bytes(random))
}
