use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use retrace_query::{HOLD_NAME_BYTES_MAX, ORDER_REASON_BYTES_MAX};
use retrace_replay::Pace;

/// An access gateway that takes everything down: what agents and engineers ask of your databases is masked, recorded,
/// and open to SQL and replay.
#[derive(Debug, Parser)]
#[command(
    name = "retrace",
    version,
    after_help = "\
Begin with:
  retrace init gate
  retrace up --config gate/retrace.toml"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The configuration; keys, CA and tokens are in the folder it is in
    #[arg(long, global = true, env = "RETRACE_CONFIG", value_name = "FILE", default_value = "retrace.toml")]
    pub(crate) config: PathBuf,
    /// How log lines are written to stderr
    #[arg(long, global = true, env = "RETRACE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a folder with a configuration, keys, a CA and a first token
    #[command(after_help = "Example:\n  retrace init gate")]
    Init {
        /// Folder to make or to fill
        dir: PathBuf,
    },
    /// Run everything in this process: gate, log, ingest and query
    #[command(after_help = "\
Prints one line that begins with `ready` and names the addresses it serves at. Ends on SIGINT or SIGTERM.

Example:
  SHOP_PASSWORD=… retrace up --config gate/retrace.toml")]
    Up,
    /// Run the gate alone, beside others like it: clients come in and go on to targets
    #[command(after_help = "\
Needs a log that several processes share: [log.kafka]. Start as many as you like, behind a TCP load balancer.

Example:
  SHOP_PASSWORD=… retrace proxy --config gate/retrace.toml")]
    Proxy,
    /// Run ingest alone: records of the log become rows of the table
    #[command(after_help = "\
Needs a log that several processes share: [log.kafka].

Example:
  retrace ingest --config gate/retrace.toml")]
    Ingest,
    /// Run the query service alone, beside others like it: readers ask the evidence
    #[command(after_help = "\
Needs a log that several processes share: [log.kafka]. Start as many as you like.

Example:
  retrace query --config gate/retrace.toml")]
    Query,
    /// Check the configuration and what it refers to, and say what is wrong where
    #[command(after_help = "\
Examples:
  retrace check --config gate/retrace.toml
  retrace check --schema")]
    Check {
        /// Print what rules may speak of instead, which a file of rules is checked by
        #[arg(long)]
        schema: bool,
    },
    /// Make, list and revoke the tokens by which principals log in
    #[command(subcommand)]
    Token(Token),
    /// Print the public key by which this gateway signs where its sessions stand
    #[command(after_help = "\
Keep a copy where the gateway cannot write: whoever has it can check what the gateway signed.

Example:
  retrace heads-key --config gate/retrace.toml > gate.heads.pub")]
    HeadsKey {
        /// Make the key first, for a gateway that was made before it had one
        #[arg(long)]
        create: bool,
    },
    /// Print the public keys by which control records are signed, one for each role
    #[command(after_help = "\
Kills, revoked tokens and decisions about reviews are signed by the query service's key, cancel requests
for other proxies and requests for reviews by the proxies'. A machine that serves no queries needs no
keys/query.key: give it keys/query.pub with that role's public key, and the other way round.

Example:
  retrace control-keys --config gate/retrace.toml")]
    ControlKeys {
        /// Make the keys first that are missing, for a gateway that was made before it had them
        #[arg(long)]
        create: bool,
    },
    /// Make a key of your own to sign decisions about reviews by, or print its public half
    #[command(after_help = "\
Whoever runs the gate puts the public half into `review_key` of your [[principal]]. From then on nobody
decides in your name who has not this file, not even who has your token or the query service's key.

Example:
  retrace review-key ~/.retrace-review.key --create")]
    ReviewKey {
        /// Where it is
        #[arg(env = "RETRACE_REVIEW_KEY")]
        file: PathBuf,
        /// Make it first
        #[arg(long)]
        create: bool,
    },
    /// End a session, or everything that a token began, whichever proxy has it
    #[command(after_help = "\
What the session does at its target is cancelled, its client is told 57P01, and both the order and its end are evidence.
With --token the token is not taken any more either, by any proxy or query service, from this moment on. It takes the
right `kill` in the configuration.

Examples:
  retrace kill 0197a3c2 --reason \"incident 42\"
  retrace kill --token 0a1b2c3d")]
    Kill(Kill),
    /// List the commands that wait for people, or show one with all that is to be decided
    #[command(after_help = "\
Those are listed that you may decide about, and your own. What is shown is what will run, as it is on
record, and what its principal did within a day before.

Examples:
  retrace reviews
  retrace reviews 0197a3c2
  retrace reviews --all --format json")]
    Reviews(ShownReviews),
    /// Let a command that waits run
    #[command(after_help = "\
Nobody approves what is their own, by whichever account, and agents and services approve nothing. The
decision is a signed record; the command runs where it waits, and if nobody waits any more, when it is
sent again.

Example:
  retrace approve 0197a3c2 --reason \"as agreed in change 1142\"")]
    Approve(Decide),
    /// Let a command that waits not run
    #[command(after_help = "\
Who sends it again is refused at once, as long as the review would have been open. What was approved
and has not run may be rejected, too.

Example:
  retrace reject 0197a3c2 --reason \"use a WHERE\"")]
    Reject(Decide),
    /// Take a review back: your own, or one that you may decide about
    #[command(after_help = "Example:\n  retrace withdraw 0197a3c2")]
    Withdraw(Decide),
    /// Keep evidence whatever its age: legal holds on a session, a principal or a target
    #[command(subcommand)]
    Hold(Hold),
    /// List the latest sessions, and whether each is open, closed, lost, unverified, damaged or expired
    #[command(after_help = "Example:\n  retrace sessions --limit 10")]
    Sessions {
        #[command(flatten)]
        reach: Reach,
        /// How many
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Ask the evidence in SQL: events, sessions, commands, responses, masked_values
    #[command(after_help = "\
Without a statement, on a terminal, it is a prompt: statements may take several lines and end with a semicolon, Tab
completes, and \\? lists what else there is. Elsewhere statements are read from stdin, each ended by a semicolon, and run
one after the other up to the first error.

Rows go to stdout and nothing else does. With --format table, up to where the answer saw the log goes to stderr; at the
prompt \\cut shows it.

Examples:
  retrace sql
  retrace sql \"SELECT at, principal, statement FROM commands ORDER BY at DESC LIMIT 20\"
  retrace sql --format jsonl - < question.sql
  retrace sql --format csv < questions.sql")]
    Sql {
        #[command(flatten)]
        reach: Reach,
        /// How rows are written
        #[arg(long, value_enum, default_value_t = RowFormat::Table)]
        format: RowFormat,
        /// The statement; `-` reads one from stdin. Without it there is a prompt
        statement: Option<String>,
    },
    /// Show events as they become durable
    #[command(after_help = "Example:\n  retrace tail --session 0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b")]
    Tail {
        #[command(flatten)]
        reach: Reach,
        /// Of this session alone: its id, the begin of it, or `last`
        #[arg(long, value_name = "SESSION")]
        session: Option<String>,
    },
    /// Play a session as it was
    #[command(after_help = "\
On a terminal it keeps the pace of the session; elsewhere it does not wait. Records that are missing or were changed are
drawn at their place, and the exit code is then 1.

Examples:
  retrace replay last --speed 4
  retrace replay 0197a3c2 --instant
  retrace replay last --format json | jq .asked.statement")]
    Replay(Replay),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Its id, the begin of it, or `last`
    #[arg(required_unless_present = "token", conflicts_with = "token")]
    pub(crate) session: Option<String>,
    /// Every session of this token, by its id as `retrace token list` shows it
    #[arg(long, value_name = "ID")]
    pub(crate) token: Option<String>,
    /// Why, for whoever reads the evidence; masked like everything else
    #[arg(long, default_value = "", value_name = "TEXT", value_parser = reason_text)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ShownReviews {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// The id of one, or the begin of it
    pub(crate) id: Option<String>,
    /// Those too that are over
    #[arg(long)]
    pub(crate) all: bool,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    pub(crate) format: RowFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Decide {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Its id, or the begin of it
    pub(crate) id: String,
    /// Why, for the record; masked like everything else
    #[arg(long, default_value = "", value_name = "TEXT", value_parser = reason_text)]
    pub(crate) reason: String,
    /// The key of your own that it is signed by, if you have one
    #[arg(long, env = "RETRACE_REVIEW_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Keep the evidence of a session, a principal or a target until the hold is lifted
    #[command(after_help = "\
It is answered once the table has its record: nothing that it is on is removed from then on.
It takes the right `hold` in the configuration.

Examples:
  retrace hold set --principal jo --reason \"case 2026-114\"
  retrace hold set --session 0197a3c2")]
    Set {
        #[command(flatten)]
        reach: Reach,
        #[command(flatten)]
        on: HoldOn,
        /// Why, for whoever reads the evidence; masked like everything else
        #[arg(long, default_value = "", value_name = "TEXT", value_parser = reason_text)]
        reason: String,
    },
    /// Lift a hold, so that what it kept expires as if there had been none
    #[command(
        after_help = "Example:\n  retrace hold lift 0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b --reason \"case closed\""
    )]
    Lift {
        #[command(flatten)]
        reach: Reach,
        /// Its id, as `retrace hold list` shows it
        id: String,
        /// Why
        #[arg(long, default_value = "", value_name = "TEXT", value_parser = reason_text)]
        reason: String,
    },
    /// List the holds in force
    #[command(after_help = "Examples:\n  retrace hold list\n  retrace hold list --all --format json")]
    List {
        #[command(flatten)]
        reach: Reach,
        /// Those that were lifted, too
        #[arg(long)]
        all: bool,
        /// How rows are written
        #[arg(long, value_enum, default_value_t = RowFormat::Table)]
        format: RowFormat,
    },
}

/// What a hold is on.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct HoldOn {
    /// Everything about a session and those that go on from it: its id, the begin of it, or `last`
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Everything that a principal did, or somebody on its behalf
    #[arg(long, value_name = "NAME", value_parser = held_name)]
    pub(crate) principal: Option<String>,
    /// Everything that was done at a target
    #[arg(long, value_name = "NAME", value_parser = held_name)]
    pub(crate) target: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Its id, the begin of it, or `last`
    pub(crate) session: String,
    /// So many times as fast as it was
    #[arg(long, value_name = "N", value_parser = speed, conflicts_with = "instant")]
    pub(crate) speed: Option<Pace>,
    /// Without waiting
    #[arg(long)]
    pub(crate) instant: bool,
    /// Text as on a terminal, or one JSON object per line
    #[arg(long, value_enum, default_value_t = ReplayFormat::Text)]
    pub(crate) format: ReplayFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make a token and print it, once
    #[command(after_help = "Example:\n  retrace token create dev --ttl 30d > dev.token")]
    Create {
        /// The principal it is for, by its name in the configuration
        principal: String,
        /// How long it is valid
        #[arg(long, default_value = "90d", value_name = "TIME", value_parser = ttl)]
        ttl: Duration,
    },
    /// List tokens, without their secrets
    #[command(after_help = "Example:\n  retrace token list")]
    List,
    /// Revoke a token, for good and from the next login on
    #[command(after_help = "Example:\n  retrace token revoke 0a1b2c3d")]
    Revoke {
        /// Its id, as `retrace token list` shows it
        id: String,
    },
}

/// How a reading command reaches the evidence. The token is in RETRACE_TOKEN, or in dev.token beside the configuration.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// The query service, if not where the configuration has it
    #[arg(long, env = "RETRACE_SERVER", value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// Aligned columns
    Table,
    /// RFC 4180, with a header
    Csv,
    /// One array of objects
    Json,
    /// One object per line
    Jsonl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReplayFormat {
    /// As on a terminal
    Text,
    /// One object per item and line
    Json,
}

fn speed(text: &str) -> Result<Pace, String> {
    let speed = text.parse().map_err(|_| "a number such as 2 or 0.5 is expected".to_owned())?;
    Pace::times(speed).map_err(|error| error.to_string())
}

fn ttl(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 90d, 12h or 30m is expected".to_owned())
}

fn held_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > HOLD_NAME_BYTES_MAX {
        return Err(format!("a name has 1 to {HOLD_NAME_BYTES_MAX} bytes"));
    }
    Ok(text.to_owned())
}

fn reason_text(text: &str) -> Result<String, String> {
    if text.len() > ORDER_REASON_BYTES_MAX {
        return Err(format!("a reason has {ORDER_REASON_BYTES_MAX} bytes at most"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
