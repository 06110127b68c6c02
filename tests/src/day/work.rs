//! What a client asks, and what it must be answered.

use tokio_postgres::{Client, Config, Error, SimpleQueryMessage, SimpleQueryRow, Statement};

use crate::client::{Tls, connect_with};

/// Rows of the table `customers` at the target.
pub(super) const CUSTOMERS: u32 = 10_000;

/// What is done at the target before anything is asked.
pub(super) const TABLE: &str = "CREATE TABLE sent (number bigint PRIMARY KEY)";

/// Statements that a session prepares before it asks anything. Each is a command on record as well.
pub(super) const PREPARED: u64 = 2;

/// A kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A number that comes once.
    Insert,
    /// The same, prepared.
    InsertPrepared,
    /// One row by its key, prepared.
    Find,
    /// Ten rows, of which values are masked.
    Masked,
    /// Two hundred rows.
    Page,
    /// An error of the target's.
    Fail,
    /// A statement that the gate refuses.
    Refused,
}

/// Of twenty commands in a row.
const MIX: [Work; 20] = [
    Work::Find,
    Work::Insert,
    Work::Find,
    Work::Masked,
    Work::Find,
    Work::InsertPrepared,
    Work::Find,
    Work::Page,
    Work::Find,
    Work::Fail,
    Work::Masked,
    Work::Insert,
    Work::Find,
    Work::Find,
    Work::Page,
    Work::InsertPrepared,
    Work::Find,
    Work::Masked,
    Work::Find,
    Work::Refused,
];

impl Work {
    /// What is asked at a turn of a client's.
    pub(super) fn of(turn: u64) -> Self {
        let place = turn % MIX.len() as u64;
        MIX[usize::try_from(place).expect("below twenty")]
    }

    /// Whether it adds a row at the target.
    pub(super) fn inserts(self) -> bool {
        matches!(self, Self::Insert | Self::InsertPrepared)
    }
}

/// A session that asks.
pub(super) struct Session {
    client: Client,
    insert: Statement,
    find: Statement,
}

impl Session {
    /// Signs in.
    pub(super) async fn open(config: &Config, tls: &Tls) -> Result<Self, String> {
        let said = |error: Error| format!("a login: {error:?}");
        let client = connect_with(config.clone(), tls.clone()).await.map_err(said)?.client;
        let insert = client.prepare("INSERT INTO sent VALUES ($1)").await.map_err(said)?;
        let find = client.prepare("SELECT name, city FROM customers WHERE id = $1").await.map_err(said)?;
        Ok(Self { client, insert, find })
    }

    /// Asks one command and looks at its answer; says what was wrong with it.
    pub(super) async fn ask(&self, work: Work, number: u64) -> Result<(), String> {
        let fine = match work {
            Work::Insert => {
                let insert = format!("INSERT INTO sent VALUES ({number})");
                self.client.batch_execute(&insert).await.map(|()| true)
            }
            Work::InsertPrepared => {
                let bound = i64::try_from(number).expect("a day counts no further");
                self.client.execute(&self.insert, &[&bound]).await.map(|rows| rows == 1)
            }
            Work::Find => {
                let rows = self.client.query(&self.find, &[&customer(number, CUSTOMERS)]).await;
                rows.map(|rows| rows.len() == 1)
            }
            Work::Masked => {
                let first = customer(number, CUSTOMERS - 9);
                let last = first + 9;
                let asked =
                    format!("SELECT id, email, card FROM customers WHERE id BETWEEN {first} AND {last}");
                self.rows(&asked).await.map(|rows| rows.len() == 10 && rows.iter().all(is_masked))
            }
            Work::Page => {
                let after = number % 50 * 200;
                let asked =
                    format!("SELECT id, name, city FROM customers ORDER BY id LIMIT 200 OFFSET {after}");
                self.rows(&asked).await.map(|rows| rows.len() == 200)
            }
            Work::Fail => has_code(self.client.batch_execute("SELECT 1 / 0").await, "22012"),
            Work::Refused => has_code(self.client.batch_execute("COPY sent TO PROGRAM 'cat'").await, "42501"),
        };
        match fine {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{work:?} {number} was not answered as it must be")),
            Err(error) => Err(format!("{work:?} {number}: {error:?}")),
        }
    }

    async fn rows(&self, statement: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        let messages = self.client.simple_query(statement).await?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }
}

/// One of the first so many customers.
fn customer(number: u64, count: u32) -> i32 {
    // Neighbours are far from each other.
    let id = number * 7_919 % u64::from(count) + 1;
    i32::try_from(id).expect("a few thousand")
}

/// Whether neither address nor card is shown whole.
fn is_masked(row: &SimpleQueryRow) -> bool {
    let email = row.get("email").unwrap_or_default();
    let card = row.get("card").unwrap_or_default();
    email.contains("***@") && card.bytes().any(|byte| !byte.is_ascii_digit())
}

/// Whether it failed, and with this SQLSTATE.
fn has_code(answer: Result<(), Error>, code: &str) -> Result<bool, Error> {
    match answer {
        Ok(()) => Ok(false),
        Err(error) if error.code().is_some_and(|found| found.code() == code) => Ok(true),
        Err(error) => Err(error),
    }
}
