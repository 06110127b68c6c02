//! What several modules ask.

use std::time::Duration;

use retrace_tests::{Gate, Message, wait_for};
use tokio_postgres::Error;

/// How long a condition may take that only a defect keeps from coming true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether loads are long and kills many.
pub(crate) fn soak() -> bool {
    std::env::var_os("RETRACE_SOAK").is_some()
}

/// Fails unless every stream counts from 0 without a gap or a repetition, and every topic partition likewise; gives the
/// number of events.
#[track_caller]
pub(crate) fn assert_nothing_lost_nothing_twice(gate: &Gate) -> u64 {
    for (group, position) in [("stream_id", "stream_seq"), ("topic, topic_partition", "log_offset")] {
        let uneven = gate.sql(&format!(
            "SELECT {group}, count(*) AS n, count(DISTINCT {position}) AS positions, min({position}) AS first,
                    max({position}) AS last
             FROM events GROUP BY {group}
             HAVING count(*) <> max({position}) + 1 OR count(DISTINCT {position}) <> count(*) OR min({position}) <> 0"
        ));
        assert!(uneven.is_empty(), "gaps or repetitions by {group}: {uneven:?}");
    }
    let odd = gate.number("SELECT count(*) AS n FROM events WHERE row_kind <> 'event'");
    assert_eq!(odd, 0, "rows that are no events");
    gate.number("SELECT count(*) AS n FROM events")
}

/// Waits until the ends of `count` sessions are on record, which is after their clients have gone.
#[track_caller]
pub(crate) fn session_ends(gate: &Gate, count: u64) {
    wait_for("sessions have ended", PATIENCE, || {
        let ended = gate.number("SELECT count(*) AS n FROM sessions WHERE closed_at IS NOT NULL");
        (ended == count).then_some(())
    });
}

/// The SQLSTATE of a driver's error.
#[track_caller]
pub(crate) fn code(error: &Error) -> String {
    error.code().unwrap_or_else(|| panic!("no SQLSTATE: {error:?}")).code().to_owned()
}

/// The message of the server's error.
#[track_caller]
pub(crate) fn sentence(error: &Error) -> String {
    error.as_db_error().unwrap_or_else(|| panic!("not of the server: {error:?}")).message().to_owned()
}

/// The error among the messages of a whole answer, as its code and its sentence.
#[track_caller]
pub(crate) fn refusal(messages: &[Message]) -> (String, String) {
    let error = messages.iter().find(|message| message.tag == b'E');
    let error = error.unwrap_or_else(|| panic!("no error in {messages:?}"));
    (error.field(b'C').expect("an error has a code"), error.field(b'M').expect("an error has a message"))
}

/// The tag of the last command that completed.
#[track_caller]
pub(crate) fn command_tag(messages: &[Message]) -> String {
    let complete = messages.iter().rfind(|message| message.tag == b'C');
    let complete = complete.unwrap_or_else(|| panic!("nothing completed in {messages:?}"));
    String::from_utf8_lossy(&complete.body).trim_end_matches('\0').to_owned()
}

/// The transaction status of the ReadyForQuery that ends an answer.
#[track_caller]
pub(crate) fn transaction_status(messages: &[Message]) -> char {
    let ready = messages.last().expect("an answer has an end");
    assert_eq!(ready.tag, b'Z', "the answer does not end in ReadyForQuery: {messages:?}");
    char::from(ready.body[0])
}
