//! What several modules ask.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) use retrace_tests::assert_nothing_lost_nothing_twice;
use retrace_tests::{Gate, Message, wait_for};
use tokio_postgres::Error;

/// How long a condition may take that only a defect keeps from coming true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Whether loads are long and kills many.
pub(crate) fn soak() -> bool {
    std::env::var_os("RETRACE_SOAK").is_some()
}

/// How often a test lets a fault happen.
pub(crate) fn fault_rounds() -> u32 {
    if soak() { 20 } else { 1 }
}

/// Prepares a gate whose log is on Kafka for a load of an hour: every commit makes a file for each topic partition that had
/// something, and each question about the load reads them all.
pub(crate) fn lasts(gate: &Gate) {
    if soak() {
        gate.edit(|config| {
            let kafka = config["log"]["kafka"].as_table_mut().expect("the log is on Kafka");
            kafka.insert("events_partitions".to_owned(), 4.into());
        });
    }
}

/// Chances that a fault takes, from a seed that is printed: `RETRACE_SEED` has them taken again.
pub(crate) struct Dice(u64);

impl Dice {
    #[allow(clippy::print_stdout, reason = "a failure can be tried again by its seed")]
    pub(crate) fn of(test: &str) -> Self {
        let given = std::env::var("RETRACE_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos();
        let seed = given.unwrap_or_else(|| u64::from(now()));
        println!("{test}: RETRACE_SEED={seed}");
        Self(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn number(&mut self, range: Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }

    /// So many indices, in some order.
    pub(crate) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..count).map(|index| (self.number(0..u64::MAX), index)).collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    }
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
