//! Control records: an order given to one process is done by whichever has to, and no other order is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;

use bytes::Bytes;
use retrace_eventlog::{EventLog, KafkaLog, KafkaOptions};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::{KeyRole, StreamKind, envelope::Payload};
use retrace_proto::{Envelope, Event, Id, Masked, StreamWriter, Subject};
use retrace_tests::{Database, Gate, Kafka, Postgres, Process, Wire, cancel_request, startup, wait_for};

use crate::common::{PATIENCE, refusal};

const SLEEP: &str = "SELECT pg_sleep(600)";

/// A gate of two proxies, ingest and a query service, its log on Kafka.
struct Fleet<'a> {
    gate: Gate,
    proxies: [Process; 2],
    _others: [Process; 2],
    database: Database<'a>,
    topic_prefix: String,
}

/// A session of a fleet, at one of its proxies.
struct Session {
    wire: Wire,
    process_id: u32,
    secret: u32,
}

impl Fleet<'_> {
    fn start() -> Self {
        let database = Postgres::shared().database();
        let gate = Gate::new(database);
        gate.put_log_on(Kafka::shared());
        let config: toml::Table =
            std::fs::read_to_string(gate.config_file()).expect("a file").parse().expect("TOML");
        let topic_prefix = config["log"]["kafka"]["topic_prefix"].as_str().expect("a text").to_owned();
        let proxies = [gate.service("proxy"), gate.another_service("proxy", 2)];
        let others = [gate.service("query"), gate.service("ingest")];
        Self { gate, proxies, _others: others, database, topic_prefix }
    }

    fn port(&self, proxy: usize) -> u16 {
        self.proxies[proxy].postgres_port
    }

    /// Logs in as `dev`; gives what the gate says if it refuses.
    fn log_in(&self, proxy: usize, token: &str) -> Result<Session, std::io::Error> {
        let mut wire = Wire::open_at(&self.gate, self.port(proxy))?;
        wire.send_raw(&startup(&[("user", "dev"), ("database", "shop")]))?;
        wire.authenticate(token)?;
        let messages = wire.read_until(b'Z')?;
        let key = messages.iter().find(|message| message.tag == b'K').expect("a session has a cancel key");
        let number = |at: usize| u32::from_be_bytes(key.body[at..at + 4].try_into().expect("four bytes"));
        Ok(Session { wire, process_id: number(0), secret: number(4) })
    }

    /// A session in which the sleep runs.
    fn asleep(&self, proxy: usize) -> Session {
        let mut session = self.log_in(proxy, &self.gate.dev_token()).expect("a login");
        session.wire.send(b'Q', format!("{SLEEP}\0").as_bytes()).expect("the session lives");
        wait_for("the statement runs", PATIENCE, || (self.sleeps() == 1).then_some(()));
        session
    }

    /// How many sleeps run at the target.
    fn sleeps(&self) -> u64 {
        self.database.number(&format!(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state = 'active' AND query = '{SLEEP}'"
        ))
    }

    fn count(&self, event_type: &str) -> u64 {
        self.gate.number(&format!("SELECT count(*) AS n FROM events WHERE event_type = '{event_type}'"))
    }

    /// Where the records stand that were obeyed, as the events that obey name them, against where they do stand.
    fn assert_named(&self, applied: &str, ordered: &str) {
        let place = "topic || '/' || topic_partition || '/' || log_offset";
        let ordered =
            self.gate.sql(&format!("SELECT {place} AS place FROM events WHERE event_type = '{ordered}'"));
        assert_eq!(ordered.len(), 1, "{ordered:?}");
        assert!(ordered[0]["place"].as_str().expect("a text").starts_with("retrace.control/"));
        let session = self.gate.sql(&format!("SELECT session_id FROM events WHERE event_type = '{applied}'"));
        assert_eq!(session.len(), 1, "{session:?}");
    }

    /// Sends bytes to a proxy, which closes the connection once it has dealt with them.
    fn send(&self, proxy: usize, bytes: &[u8]) {
        let mut plain = TcpStream::connect(("127.0.0.1", self.port(proxy))).expect("the gate listens");
        plain.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        plain.write_all(bytes).expect("the gate reads");
        let mut answer = Vec::new();
        plain.read_to_end(&mut answer).expect("the gate closes the connection");
        assert_eq!(answer, b"", "a cancel request has no answer");
    }

    fn session_id(&self) -> String {
        let sessions = self.gate.sql("SELECT session_id FROM sessions WHERE closed_at IS NULL");
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions[0]["session_id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn a_cancel_request_finds_its_session_through_any_proxy_and_a_forged_one_goes_nowhere() {
    let fleet = Fleet::start();
    let mut session = fleet.asleep(0);
    let Session { process_id, secret, .. } = session;
    for forged in [secret ^ 1, secret ^ 0x8000_0000, 0] {
        fleet.send(1, &cancel_request(process_id, forged));
    }
    fleet.send(1, &cancel_request(process_id ^ 1, secret));
    fleet.send(1, &cancel_request(process_id, secret));
    let answer = session.wire.read_until(b'Z').expect("the session lives on");
    assert_eq!(refusal(&answer).0, "57014");
    assert_eq!((fleet.count("cancel_requested"), fleet.count("cancel_applied")), (1, 1));
    fleet.assert_named("cancel_applied", "cancel_requested");
    let answer = session.wire.query("SELECT 1").expect("the session lives on");
    assert_eq!(answer[1].tag, b'D');
}

#[test]
fn a_killed_session_ends_with_what_it_does_and_the_evidence_says_who_and_why() {
    let fleet = Fleet::start();
    let mut session = fleet.asleep(1);
    let id = fleet.session_id();
    let stranger = fleet.gate.add_principal("auditor", &["shop"], "all");
    // The services know the principals that were there when they started; a right that nobody has is refused by all.
    let refused = fleet.gate.retrace_as(Some(&stranger), &["kill", &id]);
    assert!(!refused.expect_failure().is_empty());
    assert_eq!(fleet.sleeps(), 1);

    let said = fleet.gate.retrace(&["kill", &id, "--reason", "incident 42, card 4111 1111 1111 1111"]);
    let said = said.err();
    assert!(said.contains("retrace.control[") && said.contains("was killed"), "{said}");
    let told = session.wire.read_to_close().expect("the gate closes");
    let (code, message) = refusal(&told);
    assert_eq!(code, "57P01");
    assert!(message.contains("killed by an administrator"), "{message}");
    wait_for("the statement is cancelled at the target", PATIENCE, || (fleet.sleeps() == 0).then_some(()));
    fleet.assert_named("kill_applied", "kill_requested");
    let why = fleet.gate.sql(&format!(
        "SELECT principal, statement FROM events WHERE event_type = 'kill_requested' AND session_id = '{id}'"
    ));
    assert_eq!(why[0]["principal"], "dev");
    let reason = why[0]["statement"].as_str().expect("a text");
    assert!(reason.starts_with("incident 42, card ") && !reason.contains("4111 1111"), "{reason}");
    let played = fleet.gate.retrace(&["replay", &id, "--instant"]);
    let played = format!("{}{}", played.out(), played.err());
    assert!(played.contains("the session ends, as the record at retrace.control["), "{played}");
}

#[test]
fn a_revoked_token_opens_nothing_any_more_anywhere_and_its_sessions_end() {
    let mut fleet = Fleet::start();
    let bad = fleet.gate.new_token("dev");
    let bad_id = bad.split('_').nth(1).expect("rt_<id>_<secret>").to_owned();
    let mut sessions = [0, 1].map(|proxy| fleet.log_in(proxy, &bad).expect("it is good yet"));
    let mut other = fleet.log_in(0, &fleet.gate.dev_token()).expect("a login");
    let _ = fleet.gate.sql_as(Some(&bad), "SELECT 1 AS n");

    let mut tail = fleet.gate.retrace_command(Some(&bad), &["tail"]);
    let mut tail = tail.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    wait_for("the tail is open", PATIENCE, || {
        let tails = "SELECT count(*) AS n FROM events WHERE command_kind = 'tail'";
        (fleet.gate.number(tails) == 1).then_some(())
    });

    let said = fleet.gate.retrace(&["kill", "--token", &bad_id]).err();
    assert!(said.contains("is taken no longer"), "{said}");
    let ended = wait_for("who was given events is given no more", PATIENCE, || {
        tail.try_wait().expect("a child can be waited for")
    });
    assert!(!ended.success(), "and is told so");
    for session in &mut sessions {
        let told = session.wire.read_to_close().expect("the gate closes");
        assert_eq!(refusal(&told).0, "57P01");
    }
    assert_eq!(other.wire.query("SELECT 1").expect("it lives on")[1].tag, b'D');
    let refused = |fleet: &Fleet<'_>, proxy| {
        let refused = fleet.log_in(proxy, &bad).err().expect("it is revoked");
        assert!(refused.to_string().contains("28P01"), "{refused}");
    };
    refused(&fleet, 0);
    refused(&fleet, 1);
    wait_for("the query service knows", PATIENCE, || {
        let asked = fleet.gate.retrace_as(Some(&bad), &["sql", "SELECT 1"]);
        asked.err().contains("the token was not accepted").then_some(())
    });
    // A proxy that starts knows before it lets anybody in.
    fleet.proxies[1].kill();
    fleet.proxies[1].restart();
    refused(&fleet, 1);
    assert_eq!((fleet.count("token_revoked"), fleet.count("kill_applied")), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_whoever_can_write_to_the_log_alone_orders_nothing() {
    let fleet = Fleet::start();
    let mut session = fleet.asleep(0);
    let id: Id = fleet.session_id().parse().expect("an id");
    let options = KafkaOptions {
        client: [("bootstrap.servers".to_owned(), Kafka::shared().servers())].into(),
        topic_prefix: fleet.topic_prefix.clone(),
        ..KafkaOptions::default()
    };
    let log = KafkaLog::open(&options).await.expect("the cluster serves");

    // Of another gateway, signed by its key for this one's topic; and not signed.
    let key = retrace_evidence::SigningKey::from_seed(&[1; 32]).expect("a seed");
    let topic_id = log.topic_id(Topic::Control);
    let signer = retrace_evidence::ControlSigner::new(key, KeyRole::Query, topic_id);
    let about = Subject { session_id: Some(id), ..Subject::default() };
    let kill = || Event::kill_requested(None, Masked::default());
    let now_unix_us = i64::try_from(id.unix_ms().expect("a UUIDv7") * 1000).expect("a date");
    let mut stream = StreamWriter::new(Id::from_parts(1, [1; 10]), StreamKind::Instance);
    let sign = |unsigned: &[u8]| signer.sign(0, unsigned);
    let signed = Envelope::seal_signed(&mut stream, &about, now_unix_us, kill(), &sign).expect("small");
    let plain = Envelope::seal(&mut stream, &about, None, now_unix_us, kill()).expect("small");
    // A record that was obeyed, once more.
    let mut forged: Vec<Bytes> =
        vec![signed.bytes().clone(), plain.bytes().clone(), Bytes::from_static(b"kill")];
    {
        let mut other = fleet.log_in(1, &fleet.gate.dev_token()).expect("a login");
        fleet.send(0, &cancel_request(other.process_id, other.secret));
        other.wire.query("SELECT 1").expect("nothing ran there");
    }
    let copies = wait_for("the cancel request stands in the log", PATIENCE, || {
        let read = |partition| {
            let at = TopicPartition { topic: Topic::Control, partition };
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(log.read(at, 0, 1 << 20)).expect("it is readable")
            })
        };
        let records: Vec<_> = (0..log.partitions(Topic::Control)).flat_map(read).collect();
        let is_cancel = |value: &Bytes| {
            Envelope::open(value.clone())
                .is_ok_and(|event| matches!(event.payload(), Payload::CancelRequested(_)))
        };
        let copies: Vec<_> = records.into_iter().map(|record| record.value).filter(is_cancel).collect();
        (!copies.is_empty()).then_some(copies)
    });
    forged.extend(copies);
    let count = forged.len() * log.partitions(Topic::Control) as usize;
    for partition in 0..log.partitions(Topic::Control) {
        for value in &forged {
            let at = TopicPartition { topic: Topic::Control, partition };
            log.append(at, Bytes::from_static(b"key"), value.clone())
                .await
                .expect("anybody can who may write");
        }
    }
    tokio::task::block_in_place(|| {
        for proxy in &fleet.proxies {
            wait_for("the proxy has read them", PATIENCE, || {
                let said = proxy.said();
                let refused =
                    said.matches("is not obeyed").count() + said.matches("is not understood").count();
                (refused == count).then_some(())
            });
        }
        assert_eq!(fleet.sleeps(), 1, "nothing was obeyed");
        assert_eq!((fleet.count("kill_applied"), fleet.count("kill_requested")), (0, 2 * 4));
        let said = fleet.gate.retrace(&["kill", &id.to_string()]).err();
        assert!(said.contains("was killed"), "{said}");
        assert_eq!(refusal(&session.wire.read_to_close().expect("it ends")).0, "57P01");
    });
}
