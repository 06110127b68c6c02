//! Facts of statements, found out on threads of their own: parsing recurses as deep as a statement nests and can take long,
//! so it happens on large stacks, bounded in number, and never in a session's task.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::Bytes;
use retrace_policy::facts::{Facts, STACK_BYTES, STATEMENT_BYTES_MAX, Unparsable};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Threads that parse.
const THREADS: usize = 2;

/// Statements that may wait to be parsed. Further ones are not parsed, and so refused where that matters.
const WAITING_STATEMENTS_MAX: usize = 256;

/// How long a statement may wait for its facts.
const PARSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Texts of statements whose facts are kept, in bytes, in each of two generations.
const KEPT_TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a kept statement counts beside its text, in bytes.
const KEPT_EXTRA_BYTES: usize = 1024;

/// A statement's facts, or why there are none.
pub(crate) type Outcome = Result<Arc<Facts>, Unparsable>;

struct Request {
    sql: Bytes,
    answer: oneshot::Sender<Outcome>,
}

/// Finds out the facts of statements, and keeps them by their text.
pub(crate) struct Parser {
    requests: mpsc::SyncSender<Request>,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for Parser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parser")
    }
}

impl Parser {
    /// Starts the threads. They end with the parser.
    pub(crate) fn start() -> Arc<Self> {
        let (requests, waiting) = mpsc::sync_channel(WAITING_STATEMENTS_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let waiting = waiting.clone();
            let thread = std::thread::Builder::new().name("proxy-parse".to_owned()).stack_size(STACK_BYTES);
            if let Err(error) = thread.spawn(move || work(&waiting)) {
                tracing::error!(%error, "a thread that parses statements did not start");
            }
        }
        Arc::new(Self { requests, kept: Mutex::default() })
    }

    /// The facts, if they are at hand.
    pub(crate) fn at_hand(&self, sql: &Bytes) -> Option<Outcome> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).find(sql)
    }

    /// The facts, once they are found out. A statement that waits too long, or finds no place to wait, has none.
    pub(crate) async fn facts(&self, sql: Bytes) -> Outcome {
        if sql.len() > STATEMENT_BYTES_MAX {
            return Err(Unparsable::TooLarge);
        }
        let (answer, outcome) = oneshot::channel();
        if self.requests.try_send(Request { sql: sql.clone(), answer }).is_err() {
            tracing::warn!("a statement found no place to wait for its parsing");
            return Err(Unparsable::Syntax);
        }
        let Ok(Ok(outcome)) = timeout(PARSE_WAIT_MAX, outcome).await else {
            tracing::warn!("a statement was not parsed in time");
            return Err(Unparsable::Syntax);
        };
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(sql, outcome.clone());
        outcome
    }
}

fn work(waiting: &Mutex<mpsc::Receiver<Request>>) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Request { sql, answer }) = next else { return };
        let parse = || match std::str::from_utf8(&sql) {
            Ok(sql) => Facts::of(sql).map(Arc::new),
            Err(_) => Err(Unparsable::Syntax),
        };
        let outcome = catch_unwind(AssertUnwindSafe(parse)).unwrap_or(Err(Unparsable::Syntax));
        let _ = answer.send(outcome);
    }
}

/// Outcomes in two generations: when the newer one is full it becomes the older one, and that is forgotten.
#[derive(Default)]
struct Kept {
    newer: HashMap<Bytes, Outcome>,
    older: HashMap<Bytes, Outcome>,
    newer_bytes: usize,
}

impl Kept {
    fn find(&mut self, sql: &Bytes) -> Option<Outcome> {
        if let Some(outcome) = self.newer.get(sql) {
            return Some(outcome.clone());
        }
        let (sql, outcome) = self.older.remove_entry(sql)?;
        self.insert(sql, outcome.clone());
        Some(outcome)
    }

    fn insert(&mut self, sql: Bytes, outcome: Outcome) {
        let bytes = sql.len() + KEPT_EXTRA_BYTES;
        if self.newer_bytes + bytes > KEPT_TEXT_BYTES_MAX {
            self.older = std::mem::take(&mut self.newer);
            self.newer_bytes = 0;
        }
        // A slice of a larger buffer would keep all of that.
        if self.newer.insert(Bytes::copy_from_slice(&sql), outcome).is_none() {
            self.newer_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn facts_are_found_out_once_and_kept() {
        let parser = Parser::start();
        let sql = Bytes::from_static(b"select 1");
        assert!(parser.at_hand(&sql).is_none());
        let found = parser.facts(sql.clone()).await.expect("it parses");
        let kept = parser.at_hand(&sql).expect("kept").expect("it parses");
        assert!(Arc::ptr_eq(&found, &kept));
        assert_eq!(parser.facts(Bytes::from_static(b"selec 1")).await, Err(Unparsable::Syntax));
        let large = Bytes::from(vec![b' '; STATEMENT_BYTES_MAX + 1]);
        assert_eq!(parser.facts(large).await, Err(Unparsable::TooLarge));
    }

    #[tokio::test]
    async fn a_statement_that_nests_deep_ends_nothing() {
        let parser = Parser::start();
        let deep = format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000));
        let _ = parser.facts(Bytes::from(deep)).await;
        let deep = format!("select {}1", "1+".repeat(20_000));
        let _ = parser.facts(Bytes::from(deep)).await;
        assert!(parser.facts(Bytes::from_static(b"select 1")).await.is_ok());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut kept = Kept::default();
        for number in 0..100_000_u32 {
            kept.insert(Bytes::from(number.to_string()), Err(Unparsable::Syntax));
        }
        let most = 2 * KEPT_TEXT_BYTES_MAX / KEPT_EXTRA_BYTES;
        assert!(kept.newer.len() + kept.older.len() <= most);
        assert!(kept.find(&Bytes::from_static(b"99999")).is_some());
        assert!(kept.find(&Bytes::from_static(b"0")).is_none());
    }
}
