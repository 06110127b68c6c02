//! Legal holds: who may set, lift and see them, and what is said of them.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use retrace_access::EvidenceRight;
use retrace_eventlog::EventLog;
use retrace_evidence::HeldOn;
use retrace_proto::wire::envelope::Payload;
use retrace_proto::{Event, Id, Masked, Subject};
use retrace_query::{
    ErrorKind, HOLD_NAME_BYTES_MAX, HoldRecord, ORDER_REASON_BYTES_MAX, Options, QueryError,
};

use crate::network::{serve, serve_as};
use crate::world::{Hooked, NOW_UNIX_US, Session, World, caller, control_keys};

fn options() -> Options {
    Options { control_keys: control_keys(), ..Options::default() }
}

/// While something is asked, the table takes what the log has.
async fn ingesting<T>(world: &World, asked: impl Future<Output = T>) -> T {
    let ingest = async {
        loop {
            world.commit().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        answer = asked => answer,
        () = ingest => unreachable!("it goes on for ever"),
    }
}

fn in_force(holds: &[HoldRecord]) -> Vec<(Id, HeldOn)> {
    let unlifted = holds.iter().filter(|hold| hold.lifted.is_none());
    unlifted.map(|hold| (hold.hold_id, hold.on.clone())).collect()
}

#[tokio::test]
async fn a_hold_is_set_seen_and_lifted_and_each_is_on_record() {
    let world = World::new().await;
    let session = Session::run(&world, "ann", 1).await.id;
    let serving = serve(&world, options()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let mut set = Vec::new();
    for on in
        [HeldOn::Session(session), HeldOn::Principal("ann".to_owned()), HeldOn::Target("shop".to_owned())]
    {
        let ordered = ingesting(&world, client.set_hold(on.clone(), "case 4111111111111111")).await.unwrap();
        assert!(ordered.is_in_table);
        set.push((ordered.hold_id, on));
    }
    set.sort_by_key(|(id, _)| *id);
    let holds = client.holds().await.unwrap();
    assert_eq!(in_force(&holds), set);
    for hold in &holds {
        assert_eq!((hold.set.by.as_str(), hold.set.at_unix_us), ("auditor", NOW_UNIX_US));
        assert!(hold.set.reason.starts_with("case ") && !hold.set.reason.contains("4111111111111111"));
        assert!(hold.is_in_table);
    }
    let (lifted, kept) = (set[1].0, [set[0].clone(), set[2].clone()]);
    let ordered = ingesting(&world, client.lift_hold(lifted, "closed")).await.unwrap();
    assert!(ordered.is_in_table && ordered.hold_id == lifted);
    let holds = client.holds().await.unwrap();
    assert_eq!(in_force(&holds), kept);
    let of_it = holds.iter().find(|hold| hold.hold_id == lifted).unwrap();
    let by = of_it.lifted.as_ref().map(|act| (act.by.clone(), act.reason.clone()));
    assert_eq!(by, Some(("auditor".to_owned(), "closed".to_owned())));
    for wrong in [lifted, session] {
        let error = client.lift_hold(wrong, "").await.unwrap_err();
        assert_eq!(error.to_string(), QueryError::NoSuchHold.to_string());
    }
    let kinds = "SELECT count(*) FROM events WHERE event_type = 'legal_hold_set' AND principal = 'auditor' \
                 AND topic = 'retrace.control'";
    assert_eq!(world.number(kinds).await, 3);
    let reads = world.instance_events().await;
    let reads = reads
        .iter()
        .filter(|event| matches!(event, Payload::EvidenceRead(read) if read.statement == "legal holds"));
    assert_eq!(reads.count(), 2, "who looks at holds is on record");
}

#[tokio::test]
async fn a_hold_that_is_in_the_log_alone_is_seen_and_said_not_to_be_in_the_table() {
    let world = World::new().await;
    let serving = serve(&world, options()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let asked = client.set_hold(HeldOn::Target("shop".to_owned()), "");
    // It waits for the table, and its record is there before.
    let seen = async {
        loop {
            let holds = world.reader_with_keys().holds(&caller("auditor", EvidenceRight::All)).await.unwrap();
            if let Some(hold) = holds.first() {
                return hold.is_in_table;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        answer = asked => panic!("the table has nothing: {answer:?}"),
        is_in_table = seen => assert!(!is_in_table),
    }
}

#[tokio::test]
async fn who_may_not_is_refused_and_nothing_is_recorded_but_that() {
    let world = World::new().await;
    let serving = serve(&world, options()).await;
    for name in ["ann", "bob"] {
        let client = serving.client(&world.token_of(name)).await;
        let denied = QueryError::HoldDenied { principal: name.to_owned() }.to_string();
        for error in [
            client.set_hold(HeldOn::Principal(name.to_owned()), "").await.unwrap_err(),
            client.lift_hold(Id::from_parts(1, [1; 10]), "").await.unwrap_err(),
            client.holds().await.unwrap_err(),
        ] {
            assert_eq!((error.kind(), error.to_string()), (ErrorKind::Denied, denied.clone()));
        }
    }
    let client = serving.client(&world.token_of("auditor")).await;
    for on in [HeldOn::Principal(String::new()), HeldOn::Target("x".repeat(HOLD_NAME_BYTES_MAX + 1))] {
        let error = client.set_hold(on, "").await.unwrap_err();
        let said = QueryError::NotHeldOn { bytes_max: HOLD_NAME_BYTES_MAX }.to_string();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::FixTheCall, said));
    }
    let reason = "x".repeat(ORDER_REASON_BYTES_MAX + 1);
    let long = client.set_hold(HeldOn::Target("shop".to_owned()), &reason).await.unwrap_err();
    assert_eq!(long.kind(), ErrorKind::FixTheCall);
    assert_eq!(client.holds().await.unwrap(), []);
    assert_eq!(world.number("SELECT count(*) FROM events WHERE event_type LIKE 'legal_hold%'").await, 0);
}

#[tokio::test]
async fn lifting_ends_in_time_where_nobody_finds_out_which_holds_there_are() {
    let world = World::new().await;
    // A record that the table does not have, and that the log does not give.
    let hold_id = Id::from_parts(1, [1; 10]);
    let lifted = Event::legal_hold_lifted(hold_id, Masked::default());
    let (at, append) = world.control.writer.record(Subject::default(), lifted);
    append.await.unwrap();
    let log = Hooked::new(&world.log).before_read(Box::new(|| std::future::pending::<()>().boxed()));
    let service = world.service_on(Arc::new(log), Options { query_ms_max: 300, ..options() });
    let serving = serve_as(&world, service).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let error = client.lift_hold(hold_id, "").await.unwrap_err();
    let said = QueryError::HoldsUnknown { ms_max: 300 }.to_string();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Deadline, said));
    assert_eq!(world.log.offsets(at).await.unwrap().end, 1, "nothing was ordered");
}

/// Removes the data files of a table, and leaves what its log says of them.
fn remove_data_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("_delta_log") {
            remove_data_files(&path);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[tokio::test]
async fn what_a_file_has_of_holds_is_read_once_by_whoever_asks_first() {
    let world = World::new().await;
    let serving = serve(&world, options()).await;
    let client = serving.client(&world.token_of("auditor")).await;
    let set = client.set_hold(HeldOn::Target("shop".to_owned()), "");
    let hold_id = ingesting(&world, set).await.unwrap().hold_id;
    let holds = client.holds().await.unwrap();
    assert_eq!(in_force(&holds), [(hold_id, HeldOn::Target("shop".to_owned()))]);
    remove_data_files(&world.folder.path().join("lake"));
    assert_eq!(client.holds().await.unwrap(), holds);
    ingesting(&world, client.lift_hold(hold_id, "")).await.unwrap();
    assert!(in_force(&client.holds().await.unwrap()).is_empty());
}
