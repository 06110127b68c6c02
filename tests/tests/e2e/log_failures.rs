//! P1 and P6: what a client is told when the log fails, with the real proxy, a real PostgreSQL, and a log that fails on
//! demand.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use retrace_access::{
    Ca, Credential, CredentialSource, Directory, EvidenceRight, Keys, Principal, Secret, TOKEN_TTL_DEFAULT,
    TargetAuth, TokenFile, tls,
};
use retrace_eventlog::{
    Append, AppendError, ControlFollower, ControlLag, ControlOrigin, ControlWriter, EventLog, InstanceStream,
    MemoryLog, ReadError,
};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_policy::rules::{Policy, TimeZone, World};
use retrace_proto::log::{OffsetRange, Record, Topic, TopicPartition};
use retrace_proto::wire::{ControlSignature, Durability, PrincipalKind, RecordResponses, RetentionClass};
use retrace_proto::{Envelope, Id};
use retrace_proxy::{
    Control, Gateway, GatewayLimits, GatewayParts, Stage, Target, TargetEncryption, Workers,
};
use retrace_proxy_core::postgres::{Beyond, Recording, SessionLimits};
use retrace_tests::client::Tls;
use retrace_tests::{Database, Postgres, TARGET_PASSWORD, TARGET_USER};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_postgres::{Client, Config, config::SslMode};

use crate::common::{PATIENCE, code, sentence};

const EVENTS: TopicPartition = TopicPartition { topic: Topic::Events, partition: 0 };

fn now_unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_micros()).expect("before the year 290,000")
}

/// A proxy in this process.
struct Proxy {
    dir: TempDir,
    log: MemoryLog,
    port: u16,
    token: String,
    /// How far the proxy knows what was ordered.
    lag: ControlLag,
    _running: watch::Sender<Stage>,
}

/// A log whose next append panics once it is armed: a bug in the middle of a session.
#[derive(Debug)]
struct PanicsOnce {
    log: MemoryLog,
    armed: AtomicBool,
}

#[async_trait]
impl EventLog for PanicsOnce {
    fn partitions(&self, topic: Topic) -> u32 {
        self.log.partitions(topic)
    }

    fn topic_id(&self, topic: Topic) -> Id {
        self.log.topic_id(topic)
    }

    fn append(&self, to: TopicPartition, key: Bytes, value: Bytes) -> Append {
        assert!(!self.armed.swap(false, Ordering::SeqCst), "the bug of this test");
        self.log.append(to, key, value)
    }

    async fn read(
        &self,
        from: TopicPartition,
        start: u64,
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.log.read(from, start, bytes_max).await
    }

    async fn offsets(&self, of: TopicPartition) -> Result<OffsetRange, ReadError> {
        self.log.offsets(of).await
    }

    async fn wait_past(&self, of: TopicPartition, end_exclusive: u64) -> Result<(), ReadError> {
        self.log.wait_past(of, end_exclusive).await
    }

    fn close(&self) {
        self.log.close();
    }

    async fn truncate_below(&self, of: TopicPartition, offset: u64) -> Result<(), ReadError> {
        self.log.truncate_below(of, offset).await
    }
}

impl Proxy {
    async fn before(database: Database<'_>) -> Self {
        let log = MemoryLog::new();
        Self::on(log.clone(), Arc::new(log), database).await
    }

    /// A proxy that appends to `shared`, whose records are those of `log`.
    async fn on(log: MemoryLog, shared: Arc<dyn EventLog>, database: Database<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let keys = Keys::create(dir.path()).expect("keys");
        let identity = Ca::create(dir.path())
            .and_then(|ca| ca.issue_server(&["127.0.0.1".to_owned()]))
            .expect("a certificate");
        let tokens = TokenFile::init(&dir.path().join("tokens.toml")).expect("a token file");
        let (token, _) = tokens.create("dev", TOKEN_TTL_DEFAULT, now_unix_us() / 1_000_000).expect("a token");
        let principal = Principal {
            name: "dev".to_owned(),
            kind: PrincipalKind::Human,
            on_behalf_of: None,
            person: "dev".to_owned(),
            review_key: None,
            groups: Vec::new(),
            targets: vec!["*".to_owned()],
            evidence: EvidenceRight::None,
            evidence_fingerprint: false,
            kill: retrace_access::KillRight::None,
            hold: retrace_access::HoldRight::None,
            limits: retrace_access::PrincipalLimits::default(),
        };
        let stream_id = Id::from_parts(1, [1; 10]);
        let instance = InstanceStream::open(shared.clone(), "test".to_owned(), now_unix_us, stream_id);
        let follower = ControlFollower::new(shared.clone());
        let lag = follower.lag();
        tokio::spawn(follower.run(|_, _| {}, std::future::pending()));
        let new_id = || Id::from_parts(1, [2; 10]);
        let unsigned = Box::new(|_, _: &[u8]| ControlSignature::default());
        let origin = ControlOrigin { instance: "test".to_owned(), clock: now_unix_us, new_id };
        let writer = Arc::new(ControlWriter::new(shared.clone(), origin, true, unsigned));
        let control = Control { reviews: writer.clone(), writer, lag: lag.clone() };
        let gateway = Gateway::new(GatewayParts {
            control,
            policy: Policy::load("permit(principal, action, resource);", &World::default(), TimeZone::UTC)
                .expect("rules"),
            directory: Directory::new(vec![principal], tokens, keys.mock.clone()).expect("a directory"),
            targets: vec![target(database)],
            log: shared,
            instance: Arc::new(instance),
            proxy_id: "test".to_owned(),
            policy_version: String::new(),
            cancel_key: keys.cancel.clone(),
            fingerprint_key: FingerprintKey::new(keys.mask.expose()),
            grants_key: HashKey::of_grants(keys.mask.expose()),
            tls: tls::server_tls(&identity.certificate, &identity.key).expect("TLS"),
            source_limits: retrace_proxy::SourceLimits::default(),
            limits: GatewayLimits {
                session: SessionLimits { log_wait_us_max: 500_000, ..SessionLimits::default() },
                ..GatewayLimits::default()
            },
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let running = watch::Sender::new(Stage::Serving);
        let workers = Workers::start(None).expect("threads");
        tokio::spawn(retrace_proxy::serve(Arc::new(gateway), listener, workers, running.subscribe()));
        let token = String::from_utf8(token.expose().to_vec()).expect("tokens are text");
        Self { dir, log, port, token, lag, _running: running }
    }

    async fn connect(&self) -> Client {
        self.try_connect().await.expect("a login")
    }

    async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("dev").password(&self.token).dbname("shop");
        config.ssl_mode(SslMode::Require);
        let tls = Tls::trusting(&Ca::certificate_path(self.dir.path()));
        let (client, connection) = config.connect(tls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    async fn wait_for(&self, event: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.events().await.contains(&event) {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", self.events().await);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The events that readers of the log see, in order.
    async fn events(&self) -> Vec<&'static str> {
        let records = self.log.read(EVENTS, 0, usize::MAX).await.expect("readable");
        let open = |value| Envelope::open(value).expect("an envelope");
        records.into_iter().map(|record| open(record.value).event_type()).collect()
    }
}

fn target(database: Database<'_>) -> Target {
    Target {
        name: "shop".to_owned(),
        address: format!("127.0.0.1:{}", Postgres::shared().port()),
        database: database.name(),
        credential: CredentialSource::fixed(Credential {
            user: TARGET_USER.to_owned(),
            password: Secret::new(TARGET_PASSWORD.as_bytes().to_vec()),
        }),
        encryption: TargetEncryption::Cleartext,
        auth: TargetAuth::default(),
        protocol_minor_max: 0,
        durability: Durability::Exchange,
        retention_class: RetentionClass::Standard,
        masker: Arc::new(Masker::new(&[], FingerprintKey::new(b"key"))),
        columns: Vec::new(),
        recording: Recording {
            responses: RecordResponses::Full,
            beyond: Beyond::Refuse,
            key: HashKey::new(b"key"),
        },
        command_recorded_bytes_max: 1 << 20,
    }
}

fn rows(database: Database<'_>) -> u64 {
    tokio::task::block_in_place(|| database.number("SELECT count(*) FROM t"))
}

fn prepared() -> Database<'static> {
    let database = Postgres::shared().database();
    tokio::task::block_in_place(|| database.seed("CREATE TABLE t (n int); GRANT ALL ON t TO PUBLIC"));
    database
}

const INSERT: &str = "INSERT INTO t VALUES (1)";

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_log_that_is_late_before_forwarding_refuses_and_the_session_lives_on() {
    let database = prepared();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    let held = proxy.log.faults().hold();
    let refused = client.batch_execute(INSERT).await.expect_err("the log is late");
    assert_eq!(code(&refused), "57P03");
    assert!(sentence(&refused).contains("not executed"), "{}", sentence(&refused));
    assert_eq!(rows(database), 0);
    held.open();
    client.batch_execute("SELECT 1").await.expect("the session lives on");
    assert_eq!(rows(database), 0, "a refused command never runs, however late its record is");
    client.batch_execute(INSERT).await.expect("the log answers again");
    assert_eq!(rows(database), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_refusal_of_a_late_log_rolls_the_transaction_back() {
    let database = prepared();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    client.batch_execute("BEGIN").await.expect("begun");
    client.batch_execute(INSERT).await.expect("inserted");
    let held = proxy.log.faults().hold();
    let refused = client.execute(INSERT, &[]).await.expect_err("the log is late");
    assert_eq!(code(&refused), "57P03");
    held.open();
    let aborted = client.batch_execute("SELECT 1").await.expect_err("the transaction failed");
    assert_eq!(code(&aborted), "25P02");
    client.batch_execute("COMMIT").await.expect("which rolls back");
    assert_eq!(rows(database), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_log_that_fails_after_forwarding_says_that_the_outcome_is_unknown() {
    let database = prepared();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    proxy.log.faults().pass_next(1);
    proxy.log.faults().fail_next(1, AppendError::Unknown);
    let refused = client.batch_execute(INSERT).await.expect_err("the response has no record");
    assert_eq!(code(&refused), "08007");
    assert!(sentence(&refused).contains("outcome unknown"));
    assert_eq!(rows(database), 1, "it did run, which nobody could promise");
    assert!(client.batch_execute("SELECT 1").await.is_err(), "the connection is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_log_that_fails_before_forwarding_ends_the_session_with_nothing_executed() {
    let database = prepared();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    proxy.log.faults().fail_next(1, AppendError::Refused);
    let refused = client.batch_execute(INSERT).await.expect_err("the command has no record");
    assert_eq!(code(&refused), "57P03");
    assert_eq!(rows(database), 0);
    assert!(client.batch_execute("SELECT 1").await.is_err(), "the connection is closed");
    proxy.wait_for("stream_aborted").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_panics_ends_alone_and_on_the_record() {
    let database = prepared();
    let log = MemoryLog::new();
    let shared = Arc::new(PanicsOnce { log: log.clone(), armed: AtomicBool::new(false) });
    let proxy = Proxy::on(log, shared.clone(), database).await;
    let (unlucky, other) = (proxy.connect().await, proxy.connect().await);
    unlucky.batch_execute("SELECT 1").await.expect("it works");
    shared.armed.store(true, Ordering::SeqCst);
    unlucky.batch_execute(INSERT).await.expect_err("its session panicked");
    proxy.wait_for("stream_aborted").await;
    assert_eq!(rows(database), 0, "nothing was forwarded without its record");
    other.batch_execute(INSERT).await.expect("another session goes on");
    let _ = proxy.connect().await;
    assert_eq!(rows(database), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_no_row_reaches_the_client_before_its_record_is_durable() {
    let database = prepared();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    let held = proxy.log.faults().hold();
    let mut asked = pin!(client.query_one("SELECT 7", &[]));
    // tokio-postgres prepares first: two commands with their answers, each let through only when it is asked for.
    for record in 1..=4 {
        tokio::select! {
            biased;
            _ = &mut asked => panic!("answered before record {record} was durable"),
            () = held.wait_held(1) => {}
        }
        if record == 4 {
            // Nothing says that an answer will not come; one that does not wait comes within a millisecond.
            let early = tokio::time::timeout(Duration::from_millis(250), &mut asked).await;
            assert!(early.is_err(), "answered before its record was durable");
        }
        held.release(1);
    }
    let row = asked.await;
    assert_eq!(row.expect("an answer").get::<_, i32>(0), 7);
    assert_eq!(proxy.events().await.iter().filter(|event| **event == "command_completed").count(), 2);
    held.open();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_a_gate_that_does_not_know_what_was_ordered_lets_nothing_pass_until_it_does() {
    let database = Postgres::shared().database();
    let proxy = Proxy::before(database).await;
    let client = proxy.connect().await;
    client.batch_execute("SELECT 1").await.expect("it knows everything");
    // The log takes records all the time, and does not say what stands in it: for 60 times 200 ms.
    proxy.log.faults().fail_next_reads(60, ReadError::Unavailable);
    while proxy.lag.is_current() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused =
        client.batch_execute("CREATE TABLE not_this_one ()").await.expect_err("its log counts as down");
    assert_eq!(code(&refused), "57P03", "{}", sentence(&refused));
    let refused = proxy.try_connect().await.map(drop).expect_err("whoever comes now may have been shut out");
    assert_eq!(code(&refused), "57P03", "{}", sentence(&refused));
    proxy.lag.clone().current().await;
    client.batch_execute("CREATE TABLE this_one ()").await.expect("the same session goes on");
    let made = "SELECT string_agg(relname, ' ') FROM pg_class WHERE relname LIKE '%this_one'";
    assert_eq!(database.sql(made), ["this_one"]);
}
