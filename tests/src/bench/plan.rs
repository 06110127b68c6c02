//! How much is measured.

/// Sizes of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether this only shows that all of it works: its numbers are not for writing down.
    pub quick: bool,
    /// How often everything that is timed is repeated.
    pub rounds: usize,
    /// Length of each load of pgbench, in seconds.
    pub load_seconds: u64,
    /// Rows that are read at once.
    pub rows: u64,
    /// Sessions that do nothing.
    pub idle_sessions: usize,
    /// Size of the result that is streamed, in MiB.
    pub streamed_mib: u64,
    /// Durabilities of the targets that are measured.
    pub durabilities: Vec<String>,
    /// Events that ingest takes from Kafka into the table.
    pub ingested_events: u64,
    /// Commands of one client whose time is taken.
    pub timed_commands: usize,
}

impl Plan {
    /// `QUICK=1` shows that all of it works and measures little; `BENCH_DURABILITIES=exchange,relaxed` leaves some out.
    #[must_use]
    pub fn from_environment() -> Self {
        let quick = std::env::var("QUICK").is_ok_and(|value| !value.is_empty() && value != "0");
        let durabilities = std::env::var("BENCH_DURABILITIES");
        let durabilities = durabilities.as_deref().unwrap_or("exchange,command,relaxed");
        let durabilities = durabilities.split(',').map(str::to_owned).collect();
        if quick {
            Self {
                quick,
                rounds: 1,
                load_seconds: 1,
                rows: 100_000,
                idle_sessions: 100,
                streamed_mib: 100,
                durabilities,
                ingested_events: 20_000,
                timed_commands: 100,
            }
        } else {
            Self {
                quick,
                rounds: 3,
                load_seconds: 4,
                rows: 1_000_000,
                idle_sessions: 1000,
                streamed_mib: 2048,
                durabilities,
                ingested_events: 500_000,
                timed_commands: 2_000,
            }
        }
    }
}
