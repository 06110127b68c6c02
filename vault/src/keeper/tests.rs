use std::sync::atomic::{AtomicUsize, Ordering};

use retrace_access::{Borrower, CredentialSource, Secret};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::client::Client;
use crate::metrics::CallMetrics;
use crate::reference::ApiPath;
use crate::session::{Reach, Session};
use crate::testing::{TOKEN, response, serving, settings};

/// A keeper of leases for each session, at a server at this port.
struct Bench {
    source: CredentialSource,
    keeper: JoinHandle<()>,
    _newest: watch::Sender<Option<Arc<Session>>>,
    _dir: TempDir,
}

impl Bench {
    fn new(port: u16, stop: watch::Receiver<bool>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let client =
            Client::new(&settings(&format!("http://127.0.0.1:{port}"), &dir), CallMetrics::new()).unwrap();
        let reach = Reach::new(client, Secret::new(TOKEN.as_bytes().to_vec()));
        let newest = watch::Sender::new(Some(Arc::new(Session::new(reach, 0, None, None))));
        let logins = Logins { newest: newest.subscribe(), doubts: mpsc::channel(1).0 };
        let path = ApiPath::parse("database/creds/app").unwrap();
        let reference = Reference::Database { path, lending: Lending::Session };
        let (borrower, asked) = Borrower::new();
        let keeper = Keeper {
            kept: Arc::new(Kept::new(&reference)),
            reference: Arc::new(reference),
            logins,
            asked,
            stop,
            alive: mpsc::channel(1).0,
        };
        let keeper = tokio::spawn(keeper.run(None));
        Self { source: CredentialSource::store(borrower), keeper, _newest: newest, _dir: dir }
    }
}

/// A lease of this number, for an hour, of a role with this name.
fn issued(number: usize, role: &str) -> String {
    let lease = format!(
        r#"{{"lease_id":"database/creds/app/{number}","lease_duration":3600,"renewable":true,
            "data":{{"username":"{role}","password":"canary"}}}}"#
    );
    response("200 OK", "", &lease)
}

/// What was asked for: the first line of each request, and the body behind it.
fn asked(told: &mut mpsc::UnboundedReceiver<String>) -> Vec<String> {
    let requests = std::iter::from_fn(|| told.try_recv().ok());
    let short = |request: String| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
        format!("{line} {body}").trim_end().to_owned()
    };
    requests.map(short).collect()
}

const MADE: &str = "GET /v1/database/creds/app";

fn given_back(number: usize) -> String {
    format!(r#"POST /v1/sys/leases/revoke {{"lease_id":"database/creds/app/{number}"}}"#)
}

#[tokio::test]
async fn a_lease_that_comes_while_the_process_stops_is_given_back() {
    let (stop, stopped) = watch::channel(false);
    let (port, mut told) = serving(None, move |request| {
        if request.starts_with("GET ") {
            stop.send_replace(true);
            issued(1, "v-app-1")
        } else {
            response("204 No Content", "", "")
        }
    })
    .await;
    let bench = Bench::new(port, stopped);
    assert!(bench.source.lend().await.is_err());
    bench.keeper.await.unwrap();
    assert_eq!(asked(&mut told), [MADE.to_owned(), given_back(1)]);
}

#[tokio::test]
async fn no_role_is_made_for_a_session_that_has_gone() {
    let made = AtomicUsize::new(0);
    let (port, mut told) = serving(None, move |request| match made.fetch_add(1, Ordering::Relaxed) {
        _ if !request.starts_with("GET ") => response("204 No Content", "", ""),
        0 => response("500 Internal Server Error", "", r#"{"errors":[]}"#),
        number => issued(number, "v-app"),
    })
    .await;
    let (_stop, stopped) = watch::channel(false);
    let bench = Bench::new(port, stopped);
    assert!(bench.source.lend().await.is_err(), "nothing is asked for during the next second");
    {
        let mut gone = std::pin::pin!(bench.source.lend());
        assert!(futures::poll!(&mut gone).is_pending(), "it waits");
    }
    let loan = bench.source.lend().await.unwrap();
    assert_eq!(loan.credential().user, "v-app");
    assert_eq!(asked(&mut told), [MADE, MADE]);
}

#[tokio::test]
async fn a_role_whose_name_cannot_be_used_goes_back() {
    let (port, mut told) = serving(None, |request| {
        if request.starts_with("GET ") {
            issued(1, &"v".repeat(64))
        } else {
            response("204 No Content", "", "")
        }
    })
    .await;
    let (_stop, stopped) = watch::channel(false);
    let bench = Bench::new(port, stopped);
    assert_eq!(bench.source.lend().await.unwrap_err(), NoCredential::Refused);
    assert_eq!(asked(&mut told), [MADE.to_owned(), given_back(1)]);
}
