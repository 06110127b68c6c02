//! The target: a scratch PostgreSQL cluster.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::leash::{Account, Ending, Leash};
use crate::{Outcome, port, run, wait_for};

/// The role a gate signs in as.
pub const TARGET_USER: &str = "shop";

/// Its password, odd enough to be looked for in everything the gate writes.
pub const TARGET_PASSWORD: &str = "n0body-may-see-th1s-pw";

const SUPERUSER_PASSWORD: &str = "superuser-of-a-scratch-cluster";

/// psql without its user's settings: rows unaligned and without headings, errors in full, the script from its input.
pub(crate) const PSQL_ARGUMENTS: [&str; 6] =
    ["-XAtq", "-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=0", "-f-"];

/// How long starting a cluster, or one administrative statement, may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster of its own in a temporary folder, listening on 127.0.0.1 with SCRAM alone. It and its folder go when this
/// is dropped or the process ends, whichever way.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    leash: Leash,
}

/// One database of a cluster, owned by [`TARGET_USER`].
#[derive(Clone, Copy, Debug)]
pub struct Database<'a> {
    /// The cluster it is in.
    pub postgres: &'a Postgres,
    number: u32,
}

impl Postgres {
    /// The cluster that all tests of a process share, without TLS.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false))
    }

    /// Makes and starts a cluster. With `tls` it asks for TLS with a certificate of [`Postgres::ca`].
    #[must_use]
    pub fn start(tls: bool) -> Self {
        Self::start_with(tls.then_some("hostssl"), &[])
    }

    /// A cluster that offers TLS and takes cleartext too, with room for many connections.
    #[must_use]
    pub fn start_for_load() -> Self {
        Self::start_with(Some("host"), &["max_connections=1500"])
    }

    /// `hba` is the kind of connection that a cluster with TLS takes.
    fn start_with(hba: Option<&str>, more: &[&str]) -> Self {
        let account = server_account();
        let folder = temporary_folder(account);
        let data = folder.join("data");
        initdb(&folder, &data, account);
        let port = port::free();
        let mut settings = settings(port, &folder);
        settings.extend(more.iter().map(|setting| (*setting).to_owned()));
        if let Some(hba) = hba {
            certify(&folder, account);
            settings.extend(
                ["ssl=on", "ssl_cert_file=../server.pem", "ssl_key_file=../server.key"].map(String::from),
            );
            let hba = format!("{hba} all all 127.0.0.1/32 scram-sha-256\n");
            fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf is writable");
        }
        let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
        arguments.extend(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]));
        let leash = Leash::start(&folder, &program("postgres"), &arguments, account, Ending::Asked)
            .expect("the keeper starts");
        let postgres = Self { folder, port, leash };
        wait_for("PostgreSQL is ready", PATIENCE, || postgres.is_ready().then_some(()));
        postgres.sql("postgres", &format!("CREATE ROLE {TARGET_USER} LOGIN PASSWORD '{TARGET_PASSWORD}'"));
        // Once: memberships belong to the cluster, and two databases that are made at the same time would race for it.
        postgres.sql("postgres", &format!("GRANT pg_read_all_stats TO {TARGET_USER}"));
        postgres
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate authority of a cluster with TLS.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Its postmaster.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.leash.pid()
    }

    /// A new, empty database.
    #[must_use]
    pub fn database(&self) -> Database<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = Database { postgres: self, number: NEXT.fetch_add(1, Ordering::Relaxed) };
        let name = database.name();
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {TARGET_USER}"));
        self.sql(&name, "CREATE EXTENSION pg_stat_statements");
        database
    }

    /// Runs `statements` as the superuser, past every gate; rows as text, columns divided by tabs.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> Vec<String> {
        let mut command = self.client("psql", "postgres", SUPERUSER_PASSWORD);
        command.args(["-XAtq", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statements]);
        run(command, b"", PATIENCE).expect_ok().lines().map(str::to_owned).collect()
    }

    /// A client program that goes to the cluster directly.
    fn client(&self, name: &str, user: &str, password: &str) -> Command {
        let mut command = Command::new(program(name));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", user]);
        command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "30");
        command
    }

    /// The postmaster says so in the eighth line of its pid file.
    fn is_ready(&self) -> bool {
        let state = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        let ready = state.lines().nth(7).is_some_and(|line| line.trim() == "ready");
        assert!(
            ready || Path::new(&format!("/proc/{}", self.pid())).exists(),
            "PostgreSQL ended: {}",
            fs::read_to_string(self.folder.join("log")).unwrap_or_default()
        );
        ready
    }
}

impl Database<'_> {
    /// Its name at the target, which clients of a gate never need.
    #[must_use]
    pub fn name(&self) -> String {
        format!("shop_{}", self.number)
    }

    /// [`Postgres::sql`] in this database, as the superuser.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> Vec<String> {
        self.postgres.sql(&self.name(), statements)
    }

    /// Runs `statements` as the role of the gate, past the gate, so that what they make belongs to it.
    #[track_caller]
    pub fn seed(&self, statements: &str) {
        let mut command = self.postgres.client("psql", TARGET_USER, TARGET_PASSWORD);
        command.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &self.name(), "-f", "-"]);
        let _ = run(command, statements.as_bytes(), PATIENCE).expect_ok();
    }

    /// The one number that `query` gives, past the gate.
    #[track_caller]
    pub fn number(&self, query: &str) -> u64 {
        let rows = self.sql(query);
        rows.first().and_then(|row| row.parse().ok()).unwrap_or_else(|| panic!("not a number: {rows:?}"))
    }

    /// Runs `script` in psql past the gate, as [`Gate::psql`](crate::Gate::psql) does through it.
    #[track_caller]
    pub fn psql(&self, script: &str) -> Outcome {
        let mut command = self.postgres.client("psql", TARGET_USER, TARGET_PASSWORD);
        command.args(["-d", &self.name()]).args(PSQL_ARGUMENTS);
        run(command, script.as_bytes(), PATIENCE)
    }

    /// Runs pgbench past the gate.
    #[track_caller]
    pub fn pgbench(&self, arguments: &[&str], patience: Duration) -> Outcome {
        let mut command = self.postgres.client("pgbench", TARGET_USER, TARGET_PASSWORD);
        command.args(arguments).arg(self.name());
        run(command, b"", patience)
    }
}

/// The path of a PostgreSQL program: of the newest version under /usr/lib/postgresql, else as PATH has it.
pub(crate) fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")))
        .filter(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

/// PostgreSQL refuses to run as root: then it runs as the account its package made.
pub(crate) fn server_account() -> Option<Account> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let fields: Vec<_> = accounts
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .expect("the account `postgres` exists; `make setup` installs PostgreSQL")
        .split(':')
        .collect();
    let id = |index: usize| fields[index].parse().expect("ids in /etc/passwd are numbers");
    Some(Account { uid: id(2), gid: id(3) })
}

fn temporary_folder(account: Option<Account>) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("retrace-pg-").tempdir().expect("a temporary folder").keep();
    give(&folder, account);
    folder
}

/// Makes `path` the server's own.
pub(crate) fn give(path: &Path, account: Option<Account>) {
    if let Some(Account { uid, gid }) = account {
        chown(path, Some(uid), Some(gid)).expect("root may give files away");
    }
}

fn initdb(folder: &Path, data: &Path, account: Option<Account>) {
    use std::os::unix::process::CommandExt;
    let password = folder.join("password");
    fs::write(&password, SUPERUSER_PASSWORD).expect("the folder is writable");
    give(&password, account);
    let mut command = Command::new(program("initdb"));
    command.arg("-D").arg(data).args(["-U", "postgres", "--auth=scram-sha-256", "--no-sync"]);
    command.args(["-E", "UTF8", "--locale=C.UTF-8", "--pwfile"]).arg(password).current_dir(folder);
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    let _ = run(command, b"", PATIENCE).expect_ok();
}

fn settings(port: u16, folder: &Path) -> Vec<String> {
    vec![
        format!("port={port}"),
        format!("unix_socket_directories={}", folder.display()),
        "listen_addresses=127.0.0.1".into(),
        "max_connections=200".into(),
        "max_prepared_transactions=16".into(),
        "shared_preload_libraries=pg_stat_statements".into(),
        "fsync=off".into(),
        "wal_level=logical".into(),
        "log_min_messages=fatal".into(),
    ]
}

/// Writes a certificate authority and a certificate of it for 127.0.0.1.
fn certify(folder: &Path, account: Option<Account>) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("no names are valid names");
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Scratch cluster CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).expect("a certificate authority").pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let certificate = names.signed_by(&key, &issuer).expect("a certificate");
    for (name, pem, mode) in [
        ("ca.pem", ca_pem, 0o644),
        ("server.pem", certificate.pem(), 0o644),
        ("server.key", key.serialize_pem(), 0o600),
    ] {
        let path = folder.join(name);
        fs::write(&path, pem).expect("the folder is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
        give(&path, account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_with_tls_takes_nothing_else_and_goes_when_it_is_dropped() {
        let postgres = Postgres::start(true);
        let database = postgres.database();
        let psql = |mode: &str| {
            let mut command = postgres.client("psql", TARGET_USER, TARGET_PASSWORD);
            command.args(["-XAt", "-d", &database.name(), "-c", "SELECT 1"]);
            command.env("PGSSLMODE", mode).env("PGSSLROOTCERT", postgres.ca());
            run(command, b"", PATIENCE)
        };
        assert_eq!(psql("verify-full").expect_ok(), "1\n");
        assert!(psql("disable").expect_failure().contains("no encryption"));
        let (folder, pid) = (postgres.folder.clone(), postgres.pid());
        drop(postgres);
        assert!(!folder.exists() && !Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn databases_of_a_cluster_are_apart_and_answer_alike() {
        let (one, other) = (Postgres::shared().database(), Postgres::shared().database());
        one.seed("CREATE TABLE t (n int)");
        assert_eq!(one.number("SELECT count(*) FROM pg_class WHERE relname = 't'"), 1);
        assert_eq!(other.number("SELECT count(*) FROM pg_class WHERE relname = 't'"), 0);
        let script = "SELECT 1/0; SELECT * FROM nowhere; SELECT 2;";
        assert_eq!(one.psql(script).err(), other.psql(script).err());
        assert_eq!(one.psql(script).out(), "2\n");
    }
}
