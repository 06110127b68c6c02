use std::net::SocketAddr;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use retrace_access::tls::server_tls;
use retrace_access::{Ca, EvidenceRight, ListenerTls};
use retrace_eventlog::MemoryLog;
use retrace_proto::wire::envelope::Payload;
use retrace_query::{Client, End, ErrorKind, GRPC_ALPN, Options, QueryError, QueryService, ServeError};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::{Session, World, caller, events, now_unix_s, number, rows};

/// A service that serves.
pub(crate) struct Serving {
    address: SocketAddr,
    ca_pem: String,
    stop: Option<oneshot::Sender<()>>,
    drain: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// Serves the world's service; the rest of the world stays.
pub(crate) async fn serve(world: &World, options: Options) -> Serving {
    serve_as(world, world.another_service(options)).await
}

/// Serves a service in a world, one in each.
pub(crate) async fn serve_as(world: &World, service: QueryService) -> Serving {
    // Fails if another test was first, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = world.folder.path().join("tls");
    std::fs::create_dir(&folder).unwrap();
    let ca = Ca::create(&folder).unwrap();
    let identity = ca.issue_server(&["127.0.0.1".to_owned()]).unwrap();
    let tls = server_tls(&identity.certificate, &identity.key).unwrap();
    let tls = ListenerTls::new(tls, &[GRPC_ALPN]);
    let ca_pem = std::fs::read_to_string(Ca::certificate_path(&folder)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let (drain, drained) = oneshot::channel();
    let stopped = async move { drop(stopped.await) }.boxed().shared();
    let drained = async move { drop(drained.await) }.boxed();
    let drained = futures::future::select(drained, stopped.clone()).map(drop).boxed();
    let end = End { drain: drained, stop: stopped.boxed() };
    let ended = tokio::spawn(service.serve(listener, tls, end));
    Serving { address, ca_pem, stop: Some(stop), drain, ended }
}

impl Serving {
    pub(crate) async fn client(&self, token: &str) -> Client {
        Client::connect(&self.address.to_string(), &self.ca_pem, token).await.unwrap()
    }
}

#[tokio::test]
async fn answers_over_the_network_are_those_of_the_reader() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 40).await;
    world.ingest().await;
    let serving = serve(&world, Options::default()).await;
    let client = serving.client(&world.token_of("auditor")).await;

    let statement = "SELECT * FROM commands ORDER BY seq";
    let here = world.reader().sql(&caller("auditor", EvidenceRight::All), statement).await.unwrap();
    let there = client.sql(statement).await.unwrap();
    assert_eq!(there.schema, here.schema);
    assert_eq!(rows(there).await.unwrap(), rows(here).await.unwrap());

    let read = events(client.session(session.id).await.unwrap()).await.unwrap();
    let envelopes: Vec<_> = read.iter().map(|event| event.envelope.clone()).collect();
    assert_eq!(envelopes, session.sealed);

    let empty = client.sql("SELECT session_id FROM sessions WHERE false").await.unwrap();
    assert_eq!(empty.schema.fields().len(), 1);
    assert_eq!(rows(empty).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_answer_of_many_megabytes_comes_whole() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let answer = client.sql("SELECT value, uuid() AS id FROM generate_series(1, 300000)").await.unwrap();
    assert_eq!(rows(answer).await.unwrap().len(), 300_000);
}

#[tokio::test]
async fn a_tail_over_the_network_is_live_and_ends_when_the_server_stops() {
    let world = World::new().await;
    let mut serving = serve(&world, Options::default()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let mut session = Session::new(&world, "ann");
    let mut tail = client.tail(Some(session.id)).await.unwrap();
    for _event in 0..3 {
        session.command("SELECT 1", &[]).await;
        let event = tail.events.next().await.unwrap().unwrap();
        assert_eq!(event.envelope, session.sealed.last().unwrap());
    }
    serving.stop.take().unwrap().send(()).unwrap();
    let error = tail.events.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), QueryError::Stopping.to_string());
    serving.ended.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_that_drains_ends_tails_takes_no_new_reads_and_finishes_those_under_way() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let mut tail = client.tail(None).await.unwrap();
    // More rows than fit between server and client, so that the answer is under way.
    let answer = client.sql("SELECT value FROM generate_series(1, 300000) AS t(value)").await.unwrap();
    serving.drain.send(()).unwrap();
    while let Some(event) = tail.events.next().await {
        if let Err(error) = event {
            assert_eq!(error.to_string(), QueryError::Stopping.to_string());
            break;
        }
    }
    assert_eq!(rows(answer).await.unwrap().len(), 300_000);
    serving.ended.await.unwrap().unwrap();
    assert_eq!(client.sql("SELECT 1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn bad_tokens_are_refused_alike_and_recorded() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let good = world.token_of("auditor");
    let (revoked, entry) = world.tokens.create("auditor", Duration::from_secs(60), now_unix_s()).unwrap();
    let revoked = String::from_utf8(revoked.expose().to_vec()).unwrap();
    assert_eq!(number(serving.client(&revoked).await.sql("SELECT 1").await.unwrap()).await, 1);
    world.tokens.revoke(&entry.id, now_unix_s() - 1).unwrap();

    let other_end = if good.ends_with('x') { 'y' } else { 'x' };
    let wrong = format!("{}{other_end}", &good[..good.len() - 1]);
    let bad = ["", "rt_", "rt_00000000_AAAA", "not a token", wrong.as_str(), revoked.as_str()];
    for token in bad {
        let client = serving.client(token).await;
        for error in [client.sql("SELECT 1").await.unwrap_err(), client.tail(None).await.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
            assert_eq!(error.to_string(), QueryError::Unauthenticated.to_string());
        }
    }
    let recorded = world.instance_events().await;
    let refused = recorded.iter().filter_map(|event| match event {
        Payload::LoginRefused(refused) => Some(refused),
        _ => None,
    });
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 2 * bad.len());
    assert!(refused.iter().all(|refused| refused.client_address.starts_with("127.0.0.1:")));
    assert!(refused.iter().all(|refused| refused.asserted.is_empty() && refused.count == 1));
}

#[tokio::test]
async fn a_tail_ends_once_its_token_is_revoked() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let (token, entry) = world.tokens.create("auditor", Duration::from_secs(60), now_unix_s()).unwrap();
    let client = serving.client(std::str::from_utf8(token.expose()).unwrap()).await;
    let mut tail = client.tail(None).await.unwrap();
    world.tokens.revoke(&entry.id, now_unix_s() - 1).unwrap();
    let ended = async {
        loop {
            if let Err(error) = tail.events.next().await.expect("it ends with a reason") {
                break error;
            }
        }
    };
    let error =
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it is looked every second");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
}

#[tokio::test]
async fn rights_hold_over_the_network() {
    let world = World::new().await;
    Session::run(&world, "ann", 2).await;
    Session::run(&world, "eve", 3).await;
    let serving = serve(&world, Options::default()).await;
    for (name, expected) in [("auditor", 5), ("ann", 2)] {
        let client = serving.client(&world.token_of(name)).await;
        assert_eq!(number(client.sql("SELECT count(*) FROM commands").await.unwrap()).await, expected);
    }
    let none = serving.client(&world.token_of("bob")).await.sql("SELECT 1").await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn a_server_that_the_ca_does_not_vouch_for_is_not_spoken_to() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let other = world.folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    Ca::create(&other).unwrap();
    let other_pem = std::fs::read_to_string(Ca::certificate_path(&other)).unwrap();
    let address = serving.address.to_string();
    let error = Client::connect(&address, &other_pem, "rt_a_b").await.unwrap_err();
    assert!(matches!(error, QueryError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn nothing_listening_is_unreachable_with_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let error = Client::connect(&address, &serving.ca_pem, "rt_a_b").await.unwrap_err();
    assert!(matches!(&error, QueryError::Unreachable { address: at, .. } if *at == address), "{error}");
}

#[tokio::test]
async fn a_half_open_handshake_ends_at_its_deadline_and_holds_up_nobody() {
    let options = Options { handshake_ms_max: 300, ..Options::default() };
    let world = World::with(MemoryLog::new(), options.clone()).await;
    let serving = serve(&world, options).await;
    let mut silent = TcpStream::connect(serving.address).await.unwrap();
    let client = serving.client(&world.token_of("auditor")).await;
    assert_eq!(number(client.sql("SELECT 1").await.unwrap()).await, 1);
    let read = silent.read(&mut [0; 16]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "closed by the server");
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let options = Options { connections_max: 1, handshake_ms_max: 300, ..Options::default() };
    let world = World::with(MemoryLog::new(), options.clone()).await;
    let serving = serve(&world, options).await;
    let silent = TcpStream::connect(serving.address).await.unwrap();
    // Its place is free again once the handshake's deadline is over.
    let client = serving.client(&world.token_of("auditor")).await;
    assert_eq!(number(client.sql("SELECT 1").await.unwrap()).await, 1);
    drop(silent);
}
