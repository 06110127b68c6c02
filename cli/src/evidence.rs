//! The way of a reading command to the records: the query service, or, if nothing serves and the log is free, log and
//! table opened in this process. Rights and the record of the read are the same on both ways.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::TryStreamExt;
use retrace_access::{Authenticated, Ca, Directory, Keys, TokenFile};
use retrace_eventlog::{EventLog, InstanceStream};
use retrace_policy::mask::{FingerprintKey, Masker};
use retrace_proto::wire::InstanceStarted;
use retrace_proto::{Event, Id, Subject};
use retrace_query::{Client, EventsAnswer, HoldRecord, Options, Reader, Sources, SqlAnswer};
use tokio::net::TcpStream;

use crate::args::Reach;
use crate::clock;
use crate::config::Config;
use crate::control_keys;
use crate::heads_key;
use crate::storage;

/// How long to wait for a service to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest file that a token is read from, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Records, and the right to read them.
pub(crate) enum Evidence {
    /// A query service serves them.
    Served(Box<Client>),
    /// This process has opened them.
    Opened(Box<Opened>),
}

pub(crate) struct Opened {
    reader: Reader,
    caller: Authenticated,
    log: Arc<dyn EventLog>,
}

impl Evidence {
    /// Finds the way, and proves who asks.
    pub(crate) async fn reach(config: &Config, reach: &Reach) -> anyhow::Result<Self> {
        let token = token(config)?;
        let address = reach.server.clone().unwrap_or_else(|| dialled(config.query_listen).to_string());
        if reach.server.is_some() || listens(&address).await {
            let ca = Ca::certificate_path(config.dir());
            let pem =
                std::fs::read_to_string(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
            let client = Client::connect(&address, &pem, &token).await?;
            return Ok(Self::Served(Box::new(client)));
        }
        let opened = Opened::open(config, &token).await;
        Ok(Self::Opened(Box::new(opened.with_context(|| format!("nothing listens at {address}"))?)))
    }

    /// The service, if one serves.
    pub(crate) fn served(&self) -> Option<&Client> {
        match self {
            Self::Served(client) => Some(client),
            Self::Opened(_) => None,
        }
    }

    pub(crate) async fn sql(&self, statement: &str) -> anyhow::Result<SqlAnswer> {
        Ok(match self {
            Self::Served(client) => client.sql(statement).await?,
            Self::Opened(it) => it.reader.sql(&it.caller, statement).await?,
        })
    }

    pub(crate) async fn session(&self, session: Id) -> anyhow::Result<EventsAnswer> {
        Ok(match self {
            Self::Served(client) => client.session(session).await?,
            Self::Opened(it) => it.reader.session(&it.caller, session).await?,
        })
    }

    pub(crate) async fn tail(&self, session: Option<Id>) -> anyhow::Result<EventsAnswer> {
        match self {
            Self::Served(client) => Ok(client.tail(session).await?),
            Self::Opened(_) => bail!(
                "nothing serves, so nothing becomes durable to be shown: start `retrace up` first, or read what is there \
                 with `retrace sql`"
            ),
        }
    }

    /// Every legal hold that is on record, lifted ones too.
    pub(crate) async fn holds(&self) -> anyhow::Result<Vec<HoldRecord>> {
        Ok(match self {
            Self::Served(client) => client.holds().await?,
            Self::Opened(it) => it.reader.holds(&it.caller).await?,
        })
    }

    /// The session that `named` means: `last`, an id, or the begin of one.
    pub(crate) async fn find_session(&self, named: &str) -> anyhow::Result<Id> {
        if let Ok(id) = named.parse() {
            return Ok(id);
        }
        let statement = session_statement(named)?;
        let batches: Vec<_> = self.sql(&statement).await?.batches.try_collect().await?;
        let mut ids = Vec::new();
        for batch in &batches {
            ids.extend(crate::rows::texts(batch)?.into_iter().filter_map(|mut row| row.pop().flatten()));
        }
        match ids.as_slice() {
            [] if named == LAST => bail!("there is no session that you may read"),
            [] => bail!("there is no session that begins with {named} and that you may read"),
            [id] => Ok(id.parse()?),
            [id, other, ..] => {
                bail!("more than one session begins with {named}, such as {id} and {other}: give more of it")
            }
        }
    }

    /// Lets go of the log, with everything written that waits.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        if let Self::Opened(opened) = self {
            let Opened { reader, log, .. } = *opened;
            drop(reader);
            tokio::task::spawn_blocking(move || log.close()).await?;
        }
        Ok(())
    }
}

/// Means the session that was opened last.
const LAST: &str = "last";

fn session_statement(named: &str) -> anyhow::Result<String> {
    if named == LAST {
        return Ok("SELECT session_id FROM sessions ORDER BY opened_at DESC NULLS LAST LIMIT 1".to_owned());
    }
    let is_begin = !named.is_empty() && named.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if !is_begin {
        bail!(
            "not a session: an id such as 0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b, the begin of one, or `{LAST}` is expected"
        );
    }
    let begin = named.to_ascii_lowercase();
    Ok(format!("SELECT session_id FROM sessions WHERE session_id LIKE '{begin}%' LIMIT 2"))
}

impl Opened {
    async fn open(config: &Config, token: &str) -> anyhow::Result<Self> {
        let dir = config.dir();
        let keys = Keys::load(dir)?;
        let tokens = TokenFile::load(&config.tokens_file())?;
        let directory = Directory::new(config.principals.clone(), tokens, keys.mock.clone())?;
        let caller = directory.bearer(token)?;
        let log = storage::log(config).await?;
        let instance = format!("cli-{}", std::process::id());
        let instance = InstanceStream::open(Arc::clone(&log), instance, clock::now_unix_us, clock::new_id());
        let started = InstanceStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: vec!["query".to_owned()],
        };
        instance.record(Subject::default(), Event::instance_started(started)).await?;
        let table = storage::table(config).await?;
        let masker = Masker::everything(FingerprintKey::new(keys.mask.expose()));
        let sources = Sources { log: Arc::clone(&log), table, instance: Arc::new(instance), masker };
        let (head_keys, control_keys) = (heads_key::trusted_keys(&keys)?, control_keys::trusted(&keys)?);
        let options = Options { head_keys, control_keys, ..Options::default() };
        Ok(Self { reader: Reader::new(sources, options)?, caller, log })
    }
}

/// Where to connect to reach a listener: one that listens everywhere is on this machine.
fn dialled(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// Whether anything accepts connections there. Only then is an error of the service the answer; otherwise the log may be
/// opened here.
async fn listens(address: &str) -> bool {
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

fn token(config: &Config) -> anyhow::Result<String> {
    if let Some(token) = std::env::var("RETRACE_TOKEN").ok().filter(|token| !token.trim().is_empty()) {
        return Ok(token.trim().to_owned());
    }
    let file = config.dir().join("dev.token");
    read_token(&file).with_context(|| {
        format!(
            "no token: set RETRACE_TOKEN, or put one into {} (`retrace token create` makes one)",
            file.display()
        )
    })
}

fn read_token(file: &Path) -> anyhow::Result<String> {
    if std::fs::metadata(file)?.len() > TOKEN_FILE_BYTES_MAX {
        bail!("{} is larger than a token", file.display());
    }
    Ok(std::fs::read_to_string(file)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_its_begin_or_as_the_last() {
        assert!(session_statement("last").unwrap().contains("LIMIT 1"));
        assert!(session_statement("0197A3").unwrap().contains("LIKE '0197a3%' LIMIT 2"));
        for wrong in ["", "x", "0197' OR true --", "%", "0197_"] {
            assert!(session_statement(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_everywhere_is_reached_here() {
        for (listen, dial) in [
            ("0.0.0.0:7434", "127.0.0.1:7434"),
            ("[::]:7434", "[::1]:7434"),
            ("10.0.0.1:7434", "10.0.0.1:7434"),
        ] {
            assert_eq!(dialled(listen.parse().unwrap()).to_string(), dial);
        }
    }
}
