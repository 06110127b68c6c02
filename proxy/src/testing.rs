//! What the tests of this crate share: a gate in this process on a log in memory, clients that say what they like, and a
//! target that does.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use retrace_access::{
    Ca, CertificateCheck, Credential, CredentialSource, Directory, EvidenceRight, Keys, KillRight, Principal,
    PrincipalLimits, Secret, ServerIdentity, TOKEN_TTL_DEFAULT, TargetAuth, TargetTls, TokenFile, tls,
};
use retrace_eventlog::{ControlFollower, ControlOrigin, ControlWriter, EventLog, InstanceStream, MemoryLog};
use retrace_policy::keyed::HashKey;
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_policy::rules::{Policy, TimeZone, World};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::{
    self, Durability, PrincipalKind, RecordResponses, RetentionClass, envelope::Payload,
};
use retrace_proto::{Envelope, Recorded};
use retrace_proxy_core::postgres::{Beyond, Recording};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Control;
use crate::SourceLimits;
use crate::gateway::{Gateway, GatewayLimits, GatewayParts, Target, TargetEncryption};
use crate::stage::Stage;
use crate::workers::Workers;
use crate::{clock, startup};

/// What only a defect takes longer than.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PASSWORD: &str = "canary-password";

/// What the gate logs in by.
pub(crate) fn credential() -> Credential {
    Credential { user: "gate".to_owned(), password: Secret::new(PASSWORD.as_bytes().to_vec()) }
}

/// A target at this address, with nothing asked for beyond the defaults.
pub(crate) fn target(address: String) -> Target {
    Target {
        name: "shop".to_owned(),
        address,
        database: "shop_1".to_owned(),
        credential: CredentialSource::fixed(credential()),
        auth: TargetAuth::default(),
        protocol_minor_max: 0,
        encryption: TargetEncryption::Cleartext,
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

/// A folder with a CA and a certificate for 127.0.0.1.
pub(crate) fn issued() -> (TempDir, ServerIdentity) {
    let dir = tempfile::tempdir().unwrap();
    let ca = Ca::create(dir.path()).unwrap();
    let identity = ca.issue_server(&["127.0.0.1".to_owned()]).unwrap();
    (dir, identity)
}

/// A client that trusts the CA of the folder, and says these protocols in ALPN.
pub(crate) fn trusting(dir: &TempDir, alpn: &[&[u8]]) -> ClientConfig {
    let mut config = tls::client_config_trusting(&Ca::certificate_path(dir.path())).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

/// TLS towards a target whose CA is in the folder.
pub(crate) fn target_tls(dir: &TempDir, direct: bool) -> TargetEncryption {
    let ca = Some(Ca::certificate_path(dir.path()));
    let mode = TargetTls { direct, ..TargetTls::new(CertificateCheck::Full { ca }) };
    TargetEncryption::tls(&mode, "127.0.0.1", dir.path()).unwrap()
}

/// A listener whose connections go to `serve`, one after the other; gives its address.
pub(crate) async fn listen<F: Future<Output = ()> + Send>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream).await;
        }
    });
    address
}

/// A startup message as it is: its code and what follows.
pub(crate) async fn read_startup(stream: &mut (impl AsyncRead + Unpin)) -> (u32, Vec<u8>) {
    let length = stream.read_u32().await.unwrap() as usize;
    let code = stream.read_u32().await.unwrap();
    let mut rest = vec![0; length - 8];
    stream.read_exact(&mut rest).await.unwrap();
    (code, rest)
}

/// What a target says that asks for no proof, up to its being ready.
pub(crate) fn welcome() -> Vec<u8> {
    [
        startup::message(b'R', &[0; 4]),
        startup::message(b'S', b"server_version\x0018.0\0"),
        startup::message(b'K', &[0, 0, 0, 9, 8, 7, 6, 5]),
        startup::message(b'Z', b"I"),
    ]
    .concat()
}

/// The limits of a gate and of its principal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) gateway: GatewayLimits,
    pub(crate) source: SourceLimits,
    pub(crate) principal: PrincipalLimits,
}

impl From<GatewayLimits> for Limits {
    fn from(gateway: GatewayLimits) -> Self {
        Self { gateway, ..Self::default() }
    }
}

/// A gate that serves one target to the principal `dev`.
pub(crate) struct Gate {
    pub(crate) dir: TempDir,
    pub(crate) token: String,
    pub(crate) identity: ServerIdentity,
    pub(crate) port: u16,
    log: MemoryLog,
    running: watch::Sender<Stage>,
    served: JoinHandle<()>,
}

impl Gate {
    pub(crate) async fn limited(target: Target, limits: Limits) -> Self {
        let (dir, identity) = issued();
        let keys = Keys::create(&dir.path().join("more")).unwrap();
        let tokens = TokenFile::init(&dir.path().join("tokens.toml")).unwrap();
        let now_unix_s = clock::unix_us() / 1_000_000;
        let (token, _) = tokens.create("dev", TOKEN_TTL_DEFAULT, now_unix_s).unwrap();
        let Limits { gateway: limits, source: source_limits, principal: principal_limits } = limits;
        let dev = Principal { limits: principal_limits, ..principal("dev") };
        let log = MemoryLog::new();
        let events: Arc<dyn EventLog> = Arc::new(log.clone());
        let instance =
            InstanceStream::open(events.clone(), "test".to_owned(), clock::unix_us, clock::new_id());
        let follower = ControlFollower::new(events.clone());
        let lag = follower.lag();
        tokio::spawn(follower.run(|_, _| {}, std::future::pending()));
        let unsigned = Box::new(|_, _: &[u8]| wire::ControlSignature::default());
        let origin =
            ControlOrigin { instance: "test".to_owned(), clock: clock::unix_us, new_id: clock::new_id };
        let writer = Arc::new(ControlWriter::new(events.clone(), origin, true, unsigned));
        let gateway = Gateway::new(GatewayParts {
            control: Control { reviews: writer.clone(), writer, lag },
            policy: open_policy(),
            directory: Directory::new(vec![dev], tokens, keys.mock.clone()).unwrap(),
            targets: vec![target],
            log: events,
            instance: Arc::new(instance),
            proxy_id: "test".to_owned(),
            policy_version: String::new(),
            cancel_key: keys.cancel.clone(),
            fingerprint_key: FingerprintKey::new(keys.mask.expose()),
            grants_key: HashKey::of_grants(keys.mask.expose()),
            tls: tls::server_tls(&identity.certificate, &identity.key).unwrap(),
            limits,
            source_limits,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let running = watch::Sender::new(Stage::Serving);
        let workers = Workers::start(NonZeroUsize::new(1)).unwrap();
        let served = tokio::spawn(crate::serve(Arc::new(gateway), listener, workers, running.subscribe()));
        let token = String::from_utf8(token.expose().to_vec()).unwrap();
        Self { dir, token, identity, port, log, running, served }
    }

    pub(crate) async fn plain(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// The same from another address of this machine.
    async fn plain_from(&self, address: [u8; 4]) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        socket.connect(([127, 0, 0, 1], self.port).into()).await.unwrap()
    }

    /// Begins with TLS, saying these protocols.
    pub(crate) async fn direct(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.encrypt(self.plain().await, alpn).await
    }

    /// Asks for TLS and goes over to it, saying these protocols.
    pub(crate) async fn negotiated(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        self.negotiated_from([127, 0, 0, 1], alpn).await
    }

    /// The same from another address of this machine.
    pub(crate) async fn negotiated_from(
        &self,
        address: [u8; 4],
        alpn: &[&[u8]],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut plain = self.plain_from(address).await;
        plain.write_all(&startup::ssl_request()).await.unwrap();
        assert_eq!(plain.read_u8().await.unwrap(), b'S');
        self.encrypt(plain, alpn).await
    }

    async fn encrypt(&self, plain: TcpStream, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(trusting(&self.dir, alpn))).connect(name, plain).await
    }

    /// Stops the gate; gives the refusals on record: reason, count, and how many things the client had said.
    pub(crate) async fn refusals(self) -> Vec<(wire::login_refused::Reason, u64, usize)> {
        self.running.send_replace(Stage::Stopping);
        tokio::time::timeout(PATIENCE, self.served).await.expect("it stops").unwrap();
        let mut found = Vec::new();
        for partition in 0..self.log.partitions(Topic::Events) {
            let from = TopicPartition { topic: Topic::Events, partition };
            for record in self.log.read(from, 0, usize::MAX).await.unwrap() {
                let recorded: Recorded = Envelope::open(record.value).unwrap();
                if let Payload::LoginRefused(refused) = recorded.payload() {
                    found.push((refused.reason(), refused.count, refused.asserted.len()));
                }
            }
        }
        found
    }
}

/// A principal that may use every target.
/// Rules by which everybody may do everything.
fn open_policy() -> Policy {
    Policy::load("permit(principal, action, resource);", &World::default(), TimeZone::UTC).unwrap()
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal {
        name: name.to_owned(),
        kind: PrincipalKind::Human,
        on_behalf_of: None,
        person: name.to_owned(),
        review_key: None,
        groups: Vec::new(),
        targets: vec!["*".to_owned()],
        evidence: EvidenceRight::None,
        evidence_fingerprint: false,
        kill: KillRight::None,
        hold: retrace_access::HoldRight::None,
        limits: PrincipalLimits::default(),
    }
}

/// Reads a message.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> (char, Vec<u8>) {
    let read = tokio::time::timeout(PATIENCE, startup::read_message(stream));
    let (tag, body) = read.await.expect("an answer").expect("a message");
    (char::from(tag), body)
}

/// Reads until the other side closes, however it closes.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
    let _ = read.await.expect("it is closed");
    bytes
}
