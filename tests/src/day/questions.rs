//! Questions that are asked over and over, by clients that stay connected.

use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use arrow::temporal_conversions::timestamp_s_to_datetime;
use futures::TryStreamExt;
use retrace_proto::Id;
use retrace_query::{Client, Cut};

use super::load::now_unix_ms;
use super::measures::{BY_ID, COUNTED, FRESH, LATEST, LATEST_OF_ALL, MINUTE, OWN_MINUTE, REPLAYED, Sample};
use super::services::{PROBE, Services, TARGETS};
use super::work::{PREPARED, Session, Work};
use crate::client::{self, Tls, connect_with};
use crate::wait_for;

/// How long a session's end may take to be on record.
const PATIENCE: Duration = Duration::from_secs(60);

/// Commands of the session that is asked about.
const COMMANDS: u64 = 20;

const MINUTE_MS: u64 = 60_000;

/// Who asks, and about what.
pub(super) struct Questions {
    /// Reads everything.
    all: Client,
    /// Reads what is its own.
    own: Client,
    /// A session that ended before the load began, and how many events it has.
    ended: (Id, u64),
    /// A session that makes an event now and then.
    open: (Id, tokio_postgres::Client),
}

impl Questions {
    /// Connects, and makes what is asked about.
    pub(super) async fn prepare(services: &Services<'_>) -> Self {
        let gate = &services.gate;
        let all = reader(services, &gate.dev_token()).await;
        let own = reader(services, &services.principals[0].1).await;
        let port = services.proxies[0].postgres_port;
        let (config, tls) =
            (client::config_at(port, PROBE, &services.probe_token, TARGETS[0]), Tls::trusting(&gate.ca()));
        let session = Session::open(&config, &tls).await.unwrap_or_else(|error| panic!("{error}"));
        for number in 0..COMMANDS {
            let asked = session.ask(Work::Find, number).await;
            asked.unwrap_or_else(|error| panic!("{error}"));
        }
        drop(session);
        let ended = wait_for("the session has ended", PATIENCE, || found(services, "closed_at IS NOT NULL"));
        let events = events_of(&all, ended).await;
        assert!(events >= 2 * COMMANDS, "{events} events of {COMMANDS} commands");
        let client = connect_with(config, tls).await.expect("the gate lets it in").client;
        let open = wait_for("the session has begun", PATIENCE, || found(services, "closed_at IS NULL"));
        Self { all, own, ended: (ended, events), open: (open, client) }
    }

    /// Asks them all, and notes how long each took. Gives where the log ended then.
    pub(super) async fn ask(&self, sample: &mut Sample, number: u64) -> Cut {
        let (ended, events) = self.ended;
        let counted = format!("SELECT count(*) AS n FROM events WHERE stream_id = '{ended}'");
        let by_id = format!("SELECT commands AS n FROM sessions WHERE session_id = '{ended}'");
        let now_ms = now_unix_ms();
        let minute = format!(
            "SELECT count(*) AS n FROM events WHERE event_type = 'command_received' AND appended_at >= TIMESTAMP '{}'",
            utc((now_ms - MINUTE_MS) / 1000)
        );
        for (name, client, statement, expected) in [
            (BY_ID, &self.all, &by_id, Some(COMMANDS + PREPARED)),
            (COUNTED, &self.all, &counted, Some(events)),
            (MINUTE, &self.all, &minute, None),
            (OWN_MINUTE, &self.own, &minute, None),
        ] {
            let asked = Instant::now();
            let (_, found) = number_of(client, statement).await;
            sample.set(name, ms(asked));
            let is_right = expected.map_or(found > 0, |expected| found == expected);
            assert!(is_right, "{found} in answer to {statement}");
        }
        let asked = Instant::now();
        assert_eq!(events_of(&self.all, ended).await, events, "a session is replayed whole");
        sample.set(REPLAYED, ms(asked));
        // Ids of sessions begin with their time, so that files of older ones need not be opened.
        let since = Id::from_parts(now_ms - 10 * MINUTE_MS, [0; 10]);
        self.latest(sample, LATEST, &format!("WHERE session_id >= '{since}'")).await;
        self.fresh(sample, number).await
    }

    /// The question that reads all: what grows with the table.
    pub(super) async fn ask_all(&self, sample: &mut Sample) {
        self.latest(sample, LATEST_OF_ALL, "").await;
    }

    /// Where the log ends now.
    pub(super) async fn cut(&self) -> Cut {
        number_of(&self.all, "SELECT 1 AS n").await.0
    }

    async fn latest(&self, sample: &mut Sample, name: &'static str, those: &str) {
        let statement = format!(
            "SELECT session_id, principal, target, opened_at, commands FROM sessions {those} ORDER BY opened_at DESC LIMIT 10"
        );
        let asked = Instant::now();
        let (_, batches) = answer(&self.all, &statement).await;
        sample.set(name, ms(asked));
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 10, "rows in answer to {statement}");
    }

    /// P4: an event that was made is in the answer to the next question. Both are timed.
    async fn fresh(&self, sample: &mut Sample, number: u64) -> Cut {
        let (session, client) = &self.open;
        let text = format!("SELECT ''fresh {number}''");
        let asked = Instant::now();
        client.batch_execute(&text.replace("''", "'")).await.expect("it is answered");
        let statement = format!(
            "SELECT count(*) AS n FROM events WHERE stream_id = '{session}' AND event_type = 'command_received' \
             AND statement = '{text}'"
        );
        let (cut, found) = number_of(&self.all, &statement).await;
        sample.set(FRESH, ms(asked));
        assert_eq!(found, 1, "P4: `{text}` was answered before the question");
        cut
    }
}

async fn reader(services: &Services<'_>, token: &str) -> Client {
    // More than one is linked, so that one must be named. That there is one already is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = std::fs::read_to_string(services.gate.ca()).expect("init wrote it");
    let address = format!("127.0.0.1:{}", services.gate.grpc_port());
    Client::connect(&address, &ca, token).await.expect("the query service serves")
}

/// The one session of [`PROBE`] of which this is true.
fn found(services: &Services<'_>, is: &str) -> Option<Id> {
    let asked = format!("SELECT session_id FROM sessions WHERE principal = '{PROBE}' AND {is}");
    let rows = services.gate.sql(&asked);
    let id = rows.first()?["session_id"].as_str().expect("a session has an id");
    Some(id.parse().expect("it is one"))
}

async fn answer(client: &Client, statement: &str) -> (Cut, Vec<RecordBatch>) {
    let answer = client.sql(statement).await;
    let answer = answer.unwrap_or_else(|error| panic!("{error}, in answer to {statement}"));
    let batches = answer.batches.try_collect().await;
    (answer.cut, batches.unwrap_or_else(|error| panic!("{error}, in answer to {statement}")))
}

/// The one number that a statement gives as its column `n`.
async fn number_of(client: &Client, statement: &str) -> (Cut, u64) {
    let (cut, batches) = answer(client, statement).await;
    let numbers: Vec<i64> = batches.iter().flat_map(numbers).collect();
    let [number] = numbers[..] else { panic!("{numbers:?} in answer to {statement}") };
    (cut, u64::try_from(number).expect("a count"))
}

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    let column = batch.column_by_name("n").expect("it was asked for");
    column.as_primitive::<Int64Type>().values().to_vec()
}

/// The events of a session, as a replay reads them.
async fn events_of(client: &Client, session: Id) -> u64 {
    let answer = client.session(session).await.expect("it is answered");
    let events: Vec<_> = answer.events.try_collect().await.expect("it is answered to the end");
    events.len() as u64
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// A second since the Unix epoch as SQL writes it.
fn utc(unix_s: u64) -> String {
    let time = i64::try_from(unix_s).ok().and_then(timestamp_s_to_datetime);
    format!("{}Z", time.expect("a time of this age"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_written_as_a_timestamp_of_sql() {
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00Z");
        assert_eq!(utc(1_798_761_599), "2026-12-31 23:59:59Z");
    }
}
