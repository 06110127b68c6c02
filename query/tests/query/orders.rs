use std::sync::Arc;

use retrace_eventlog::{ControlFollower, EventLog};
use retrace_evidence::NotObeyed;
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::{Envelope, Recorded};
use retrace_query::{ErrorKind, Options, Ordered, QueryError};

use crate::network::serve;
use crate::world::{Session, World, now_unix_s};

/// The record that an order became.
async fn recorded(world: &World, ordered: Ordered) -> Recorded {
    assert_eq!(ordered.at.topic, Topic::Control);
    let records = world.log.read(ordered.at, ordered.offset, usize::MAX).await.unwrap();
    Envelope::open(records.into_iter().next().unwrap().value).unwrap()
}

/// How many records the control topic has.
async fn orders(world: &World) -> u64 {
    let mut orders = 0;
    for partition in 0..world.log.partitions(Topic::Control) {
        let at = TopicPartition { topic: Topic::Control, partition };
        orders += world.log.offsets(at).await.unwrap().end;
    }
    orders
}

/// The id that stands in a token.
fn id(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

#[tokio::test]
async fn an_order_says_whose_session_it_may_end() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await.id;
    let serving = serve(&world, Options::default()).await;
    for (name, only_principal) in [("auditor", ""), ("ann", "ann")] {
        let client = serving.client(&world.token_of(name)).await;
        let event = recorded(&world, client.kill(session, "it reads too much").await.unwrap()).await;
        assert_eq!(event.header().session_id, session.to_bytes());
        assert_eq!(event.header().principal.as_ref().unwrap().name, name);
        let Payload::KillRequested(kill) = event.payload() else { panic!("{:?}", event.payload()) };
        assert_eq!(
            (kill.only_principal.as_str(), kill.reason.as_str()),
            (only_principal, "it reads too much")
        );
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_those_who_may() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let (of_ann, of_bob) = (world.token_of("ann"), world.token_of("bob"));
    let ann = serving.client(&world.token_of("ann")).await;
    let auditor = serving.client(&world.token_of("auditor")).await;
    for (client, token) in [(ann, &of_ann), (auditor, &of_bob)] {
        let event = recorded(&world, client.revoke_token(id(token), "lost").await.unwrap()).await;
        let Payload::TokenRevoked(revoked) = event.payload() else { panic!("{:?}", event.payload()) };
        assert_eq!((revoked.token_id.as_str(), revoked.reason.as_str()), (id(token), "lost"));
    }
}

#[tokio::test]
async fn what_may_not_be_ordered_is_refused_and_not_recorded() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await.id;
    let serving = serve(&world, Options::default()).await;
    let of_auditor = world.token_of("auditor");

    let bob = serving.client(&world.token_of("bob")).await;
    let denied = QueryError::KillDenied { principal: "bob".to_owned() }.to_string();
    let refused = [
        bob.kill(session, "").await.unwrap_err(),
        bob.revoke_token(id(&of_auditor), "").await.unwrap_err(),
        bob.revoke_token("00000000", "").await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Denied, denied.clone()));
    }

    // Whose token it is shows to nobody who may revoke but their own.
    let ann = serving.client(&world.token_of("ann")).await;
    for token_id in [id(&of_auditor), "00000000", "", "no token id"] {
        let error = ann.revoke_token(token_id, "").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FixTheCall);
        assert_eq!(error.to_string(), QueryError::NoSuchToken.to_string());
    }

    let long = "x".repeat(1025);
    let too_long = QueryError::ReasonTooLong { bytes: 1025, bytes_max: 1024 }.to_string();
    let auditor = serving.client(&of_auditor).await;
    let refused = [
        auditor.kill(session, &long).await.unwrap_err(),
        auditor.revoke_token(id(&of_auditor), &long).await.unwrap_err(),
    ];
    for error in refused {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FixTheCall, too_long.clone()));
    }
    assert_eq!(orders(&world).await, 0);

    auditor.kill(session, &long[1..]).await.unwrap();
    assert_eq!(orders(&world).await, 1, "the longest reason is one");
}

#[tokio::test]
async fn orders_need_a_token_as_reads_do() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let (revoked, entry) =
        world.tokens.create("auditor", std::time::Duration::from_secs(60), now_unix_s()).unwrap();
    world.tokens.revoke(&entry.id, now_unix_s() - 1).unwrap();
    let revoked = String::from_utf8(revoked.expose().to_vec()).unwrap();
    for token in ["", "rt_00000000_AAAA", revoked.as_str()] {
        let client = serving.client(token).await;
        let session = Session::new(&world, "ann").id;
        for error in [
            client.kill(session, "").await.unwrap_err(),
            client.revoke_token("00000000", "").await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        }
    }
    assert_eq!(orders(&world).await, 0);
}

#[tokio::test]
async fn p2_a_reason_is_masked_before_it_is_recorded() {
    let world = World::new().await;
    let serving = serve(&world, Options::default()).await;
    let auditor = serving.client(&world.token_of("auditor")).await;
    let (card, reason) = ("4111111111111111", "it sent 4111111111111111 away");
    let kill = auditor.kill(Session::new(&world, "ann").id, reason).await.unwrap();
    let revoke = auditor.revoke_token(id(&world.token_of("ann")), reason).await.unwrap();
    for ordered in [kill, revoke] {
        let event = recorded(&world, ordered).await;
        let reason = match event.payload() {
            Payload::KillRequested(kill) => &kill.reason,
            Payload::TokenRevoked(revoked) => &revoked.reason,
            other => panic!("{other:?}"),
        };
        assert!(reason.starts_with("it sent ") && reason.ends_with(" away"), "{reason}");
        let bytes = event.bytes();
        assert!(!bytes.windows(card.len()).any(|window| window == card.as_bytes()));
    }
}

#[tokio::test]
async fn p6_whoever_orders_is_told_that_nobody_obeys() {
    let mut world = World::new().await;
    world.control.check = Arc::new(|_, _| Err(NotObeyed::Signature));
    let serving = serve(&world, Options::default()).await;
    let auditor = serving.client(&world.token_of("auditor")).await;
    let errors = [
        auditor.kill(Session::new(&world, "ann").id, "").await.unwrap_err(),
        auditor.revoke_token(id(&world.token_of("ann")), "").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(error.to_string(), QueryError::NotObeyed(NotObeyed::Signature).to_string());
    }
}

#[tokio::test]
async fn p6_while_orders_may_be_unknown_nobody_is_let_in() {
    let mut world = World::new().await;
    let log: Arc<dyn EventLog> = world.log.clone();
    // Nobody follows the control topic.
    world.control.lag = ControlFollower::new(log).lag();
    let session = Session::run(&world, "ann", 1).await.id;
    let serving = serve(&world, Options::default()).await;
    let auditor = serving.client(&world.token_of("auditor")).await;
    let errors = [
        auditor.sql("SELECT 1").await.map(drop).unwrap_err(),
        auditor.session(session).await.map(drop).unwrap_err(),
        auditor.tail(None).await.map(drop).unwrap_err(),
        auditor.kill(session, "").await.map(drop).unwrap_err(),
        auditor.revoke_token(id(&world.token_of("ann")), "").await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.to_string(), QueryError::OrdersUnknown.to_string());
    }
    assert_eq!(orders(&world).await, 0);
}
