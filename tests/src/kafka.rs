//! The log's cluster: real Kafka brokers, each a JVM of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataPartition;
use rustix::process::{Pid, Signal, kill_process};

use crate::leash::{Ending, Leash};
use crate::{cache, port, run, wait_for};

/// A user that the brokers' SASL listeners know, by the mechanism PLAIN.
pub const KAFKA_USER: &str = "retrace";

/// Its password.
pub const KAFKA_PASSWORD: &str = "kafka-user-of-a-scratch-cluster";

/// How long starting or stopping a broker may take, three at once on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long brokers may take for one answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Fewest brokers of a cluster: what [`DEPLOYED`] says of replicas takes so many.
const BROKERS_MIN: usize = 3;

/// What every broker has, those of docker-compose.yml too.
const DEPLOYED: &str = include_str!("../../deploy/kafka/server.properties");

/// Any cluster id will do, but all brokers must agree on it.
const CLUSTER_ID: &str = "cmV0cmFjZS1zY3JhdGNoMQ";

/// A cluster of brokers that are controllers too (KRaft), in a temporary folder, on 127.0.0.1. It and its folder go
/// when this is dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct Kafka {
    brokers: Vec<Broker>,
    /// Holds the folder for as long as the cluster is there.
    _keeper: Leash,
}

#[derive(Debug)]
struct Broker {
    id: usize,
    folder: PathBuf,
    /// Address of the listener without authentication.
    address: String,
    port: u16,
    sasl_port: u16,
    process: Mutex<Option<Leash>>,
    starts: AtomicU32,
}

impl Kafka {
    /// The three brokers that all tests of a process share, as long as no test takes one of them away.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(3))
    }

    /// Makes and starts a cluster of so many brokers.
    #[must_use]
    pub fn start(brokers: usize) -> Self {
        Self::start_at("127.0.0.1", brokers)
    }

    /// The same at another address of this machine.
    ///
    /// # Panics
    /// If there are fewer than three.
    #[must_use]
    pub fn start_at(address: &str, brokers: usize) -> Self {
        assert!(brokers >= BROKERS_MIN, "deploy/kafka/server.properties is of {BROKERS_MIN} brokers or more");
        let folder =
            tempfile::Builder::new().prefix("retrace-kafka-").tempdir().expect("a temporary folder").keep();
        let sleep = ["infinity".to_owned()];
        let keeper = Leash::start(&folder, Path::new("sleep"), &sleep, None, Ending::KilledLast)
            .expect("the keeper starts");
        let controllers: Vec<_> = (0..brokers).map(|_| port::free()).collect();
        let voters: Vec<_> = controllers
            .iter()
            .enumerate()
            .map(|(index, port)| format!("{}@127.0.0.1:{port}", index + 1))
            .collect();
        let broker = |(index, controller_port): (usize, &u16)| {
            let broker = Broker {
                id: index + 1,
                folder: folder.join(format!("broker-{}", index + 1)),
                address: address.to_owned(),
                port: port::free(),
                sasl_port: port::free(),
                process: Mutex::new(None),
                starts: AtomicU32::new(0),
            };
            broker.format(*controller_port, &voters.join(","));
            broker
        };
        let brokers: Vec<_> = controllers.iter().enumerate().map(broker).collect();
        let kafka = Self { brokers, _keeper: keeper };
        kafka.brokers.iter().for_each(Broker::launch);
        kafka.brokers.iter().for_each(Broker::wait_until_ready);
        kafka
    }

    /// Its brokers' addresses, for clients without authentication.
    #[must_use]
    pub fn servers(&self) -> String {
        self.addresses(|broker| format!("{}:{}", broker.address, broker.port))
    }

    /// Its brokers' addresses, for clients that authenticate by SASL without TLS.
    #[must_use]
    pub fn sasl_servers(&self) -> String {
        self.addresses(|broker| format!("127.0.0.1:{}", broker.sasl_port))
    }

    fn addresses(&self, address: impl Fn(&Broker) -> String) -> String {
        self.brokers.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// Names for topics that no other test of this process has.
    #[must_use]
    pub fn topic_prefix(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("retrace-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a topic of one partition, with so many replicas and these settings.
    ///
    /// # Panics
    /// If the cluster does not make it.
    pub async fn create_topic(&self, name: &str, replicas: i32, settings: &[(&str, &str)]) {
        let admin = self.admin();
        let topic = NewTopic::new(name, 1, TopicReplication::Fixed(replicas));
        let topic = settings.iter().fold(topic, |topic, (setting, value)| topic.set(setting, value));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = admin.create_topics([&topic], &options).await.expect("the cluster answers");
        made.into_iter().for_each(|made| drop(made.expect("the topic is made")));
    }

    /// Gives a topic more partitions: so many in all.
    ///
    /// # Panics
    /// If the cluster does not.
    pub async fn add_partitions(&self, name: &str, in_all: usize) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let wanted = NewPartitions::new(name, in_all);
        let made = self.admin().create_partitions([&wanted], &options).await.expect("the cluster answers");
        made.into_iter().for_each(|made| drop(made.expect("the partitions are added")));
    }

    /// Deletes a topic with all that is in it.
    ///
    /// # Panics
    /// If the cluster does not.
    pub async fn delete_topic(&self, name: &str) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let gone = self.admin().delete_topics(&[name], &options).await.expect("the cluster answers");
        gone.into_iter().for_each(|gone| drop(gone.expect("the topic is deleted")));
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.servers());
        config.create().expect("a client")
    }

    /// Waits until every replica of every topic partition is in sync, after which one more broker may go.
    #[track_caller]
    pub fn wait_until_in_sync(&self) {
        let admin = self.admin();
        wait_for("every replica is in sync", PATIENCE, || {
            let metadata = admin.inner().fetch_metadata(None, ANSWER_WAIT_MAX).ok()?;
            let is_whole = |partition: &MetadataPartition| {
                let replicas = partition.replicas().len();
                partition.leader() > 0 && partition.isr().len() == replicas && replicas > 0
            };
            let whole = metadata.topics().iter().all(|topic| topic.partitions().iter().all(is_whole));
            (whole && metadata.brokers().len() == self.brokers.len()).then_some(())
        });
    }

    /// Ends a broker, counted from 0, by SIGKILL.
    #[track_caller]
    pub fn kill(&self, broker: usize) {
        self.brokers[broker].end(Signal::KILL);
    }

    /// Ends a broker by SIGTERM, which hands its leaderships over first.
    #[track_caller]
    pub fn stop(&self, broker: usize) {
        self.brokers[broker].end(Signal::TERM);
    }

    /// Starts a broker that was ended, and waits until it serves.
    #[track_caller]
    pub fn restart(&self, broker: usize) {
        self.brokers[broker].launch();
        self.brokers[broker].wait_until_ready();
    }
}

impl Broker {
    fn format(&self, controller_port: u16, voters: &str) {
        fs::create_dir_all(&self.folder).expect("the cluster's folder is writable");
        let settings = self.settings(controller_port, voters);
        fs::write(self.settings_file(), settings).expect("the folder is writable");
        let mut command = Command::new("java");
        command.args(self.java()).args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]);
        command.arg(self.settings_file());
        let _ = run(command, b"", PATIENCE).expect_ok();
    }

    /// What every broker has, what deploy/kafka/start adds in a container, and what a test needs besides.
    fn settings(&self, controller_port: u16, voters: &str) -> String {
        let Self { id, address, port, sasl_port, .. } = self;
        let data = self.folder.join("data");
        let data = data.display();
        format!(
            "{DEPLOYED}node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{address}:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://{address}:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port}
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
required user_{KAFKA_USER}=\"{KAFKA_PASSWORD}\";
log.dirs={data}
{SETTINGS}"
        )
    }

    fn settings_file(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// What comes before a program's name: how `scripts/kafka` says that Java is to be run, and where this broker logs.
    fn java(&self) -> [String; 2] {
        let arguments = cache("RETRACE_KAFKA", "kafka").join("java.args");
        assert!(arguments.exists(), "{} is not there; run `make test`", arguments.display());
        [format!("@{}", arguments.display()), format!("-Dkafka.log={}", self.log().display())]
    }

    /// A file for each start, so that the line that says it serves is this start's.
    fn log(&self) -> PathBuf {
        self.folder.join(format!("server-{}.log", self.starts.load(Ordering::Relaxed)))
    }

    #[track_caller]
    fn launch(&self) {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let mut process = self.process();
        assert!(process.is_none(), "broker {} runs already", self.id);
        // The folder of this start alone goes with it: the data stays for the next.
        let folder = self.folder.join(format!("start-{start}"));
        fs::create_dir_all(&folder).expect("the folder is writable");
        let mut arguments = self.java().to_vec();
        arguments.extend(["kafka.Kafka".to_owned(), self.settings_file().display().to_string()]);
        let java = Path::new("java");
        *process =
            Some(Leash::start(&folder, java, &arguments, None, Ending::Killed).expect("the keeper starts"));
    }

    #[track_caller]
    fn wait_until_ready(&self) {
        let pid = self.process().as_ref().expect("it was launched").pid();
        let log = self.log();
        wait_for("the broker serves", PATIENCE, || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let serves = said.contains("Kafka Server started");
            assert!(serves || is_alive(pid), "broker {} ended: {said}", self.id);
            serves.then_some(())
        });
    }

    #[track_caller]
    fn end(&self, signal: Signal) {
        let leash = self.process().take().expect("the broker runs");
        let pid = leash.pid();
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(id, signal).expect("the broker can be signalled");
        wait_for("the broker has ended", PATIENCE, || (!is_alive(pid)).then_some(()));
        drop(leash);
    }

    fn process(&self) -> MutexGuard<'_, Option<Leash>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process runs: one that its keeper has not waited for yet does not.
fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Times so short that a broker that was lost is noticed within seconds, and buffers so small that three fit on one machine.
const SETTINGS: &str = "offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.heartbeat.interval.ms=300
broker.session.timeout.ms=3000
controller.quorum.election.timeout.ms=500
controller.quorum.election.backoff.max.ms=300
controller.quorum.fetch.timeout.ms=1500
controller.quorum.request.timeout.ms=1500
controller.quorum.retry.backoff.ms=20
replica.lag.time.max.ms=2000
replica.fetch.wait.max.ms=200
replica.socket.timeout.ms=2000
num.network.threads=2
num.io.threads=4
background.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
log.index.size.max.bytes=1048576
log.segment.delete.delay.ms=1000
";
